"""The report for people on a run that only looked: packages, modules worth a line, sums, findings, the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.findings import Severity
from pkghook.report import printable
from pkghook.report.text import BOLD, NO_MODULES, aligned, finding_lines, human, judgement, kept_by, paint, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pkghook.model import Looked, PackageFacts
    from pkghook.report import Style
    from pkghook.report.facts import Baseline, LookedSums, Survey, Verdict

HEADER = ("in", "kernel", "modules", "size", "unstripped", "to be had", "labels", "signed", "compressed", "kept")
LARGEST = 5  # modules that are named without -v
MARKS = "<<>>>>>>>>"


def parts(survey: Survey, verdict: Verdict, style: Style) -> Iterator[Iterable[str]]:
    """Paragraphs, as lines."""
    yield _packages(survey)
    yield modules(survey) if style.verbose else ()
    yield table(survey, style)
    yield others(survey, style)
    if survey.baseline:
        yield _against(survey.baseline, style)
    yield finding_lines(verdict.findings, style)
    yield outcome(survey, verdict, style)


def _packages(survey: Survey) -> Iterator[str]:
    """What each package says of itself and what was counted; the compressed file's size is shown, nothing more."""
    for facts in survey.packages:
        if details := "; ".join(_of_package(facts)):
            yield f"{printable(facts.path)}: {printable(details)}"


def _of_package(facts: PackageFacts) -> Iterator[str]:
    if facts.name:
        yield " ".join(filter(None, (facts.name, facts.version, facts.arch)))
    if facts.payload:
        yield f"{human(facts.file_size)} ({facts.payload})"
    if facts.counted_size:
        installed = facts.installed_size
        says = f", its header says {human(installed)}" if installed is not None else ""
        yield f"{human(facts.counted_size)} in {plural(facts.members, 'member')}{says}"


def modules(survey: Survey) -> Iterator[str]:
    """A line for each module."""
    for entry in survey.entries:
        yield f"{_word(entry):16} {printable(entry.path)}: {'; '.join(_details(entry))}"


def _word(entry: Looked) -> str:
    if entry.kept:
        return "kept"
    if entry.unstripped:
        return "unstripped"
    return "damaged" if any(found.severity is Severity.ERROR for found in entry.findings) else "stripped"


def _details(entry: Looked) -> Iterator[str]:
    yield human(entry.file_size)
    if entry.compression != "none":
        yield f"{entry.compression}, {human(entry.image_size)} inside"
    if entry.saving:
        yield f"{human(entry.saving)} to be had"
    if entry.label_bytes:
        yield f"{human(entry.label_bytes)} of labels"
    if entry.signature:
        yield "signed"
    if entry.livepatch:
        yield "livepatch"
    if entry.kept:
        yield printable(entry.kept)
    if entry.owner:
        yield f"from {printable(entry.owner)}"
    if entry.names:
        yield plural(len(entry.names), "further hard link")
    if entry.findings:
        yield " ".join(f"[{id}]" for id in dict.fromkeys(found.id for found in entry.findings))


def table(survey: Survey, style: Style) -> Iterator[str]:
    """Sums by package and kernel; columns in which there is nothing are left out."""
    lines = [(printable(row.source), _kernel(survey, row.kernel), *_cells(row.sums)) for row in survey.rows]
    if not lines:
        return
    shown = [at for at, column in enumerate(zip(*lines, strict=True)) if any(column)]
    if len(lines) > 1:
        label = ("total", "") if 0 in shown else ("", "total")
        lines.append((*label, *_cells(survey.sums)))
    rows = [[row[at] for at in shown] for row in (HEADER, *lines)]
    header, *rest = aligned(rows, "".join(MARKS[at] for at in shown))
    yield paint(header, BOLD, style)
    yield from rest


def _kernel(survey: Survey, kernel: str) -> str:
    return f"{printable(kernel) or '-'}{' (running)' if kernel and kernel == survey.running else ''}"


def _cells(sums: LookedSums) -> tuple[str, ...]:
    counts = (sums.signed, sums.compressed, sums.kept)
    return (
        str(sums.modules),
        human(sums.file_size),
        str(sums.unstripped or ""),
        human(sums.saving) if sums.saving else "",
        human(sums.label_bytes) if sums.label_bytes else "",
        *(str(count or "") for count in counts),
    )


def others(survey: Survey, style: Style) -> Iterator[str]:
    """What else was seen; keep entries and each file with `-v`."""
    if survey.others:
        total = human(sum(size for _, size in survey.others))
        yield f"other ELF files: {len(survey.others)} ({total})"
    if style.verbose:
        for path, size in survey.others:
            yield f"  {printable(path)}: {human(size)}"
        yield from kept_by(survey.overrides)


def _against(found: Baseline, style: Style) -> Iterator[str]:
    """What came, went and grew since the last release; each module with `-v`."""
    grew = [each for each in found.changed if each.by > 0]
    shrank = [each for each in found.changed if each.by < 0]
    counts = ((len(found.came), "new"), (len(found.gone), "gone"), (len(grew), "grew"), (len(shrank), "shrank"))
    told = ", ".join(f"{count} {what}" for count, what in counts if count) or "no other sizes"
    before, now = found.before, found.now
    yield f"against {printable(found.name)}: {plural(now.modules, 'module')}, {before.modules} there: {told}"
    yield f"  {human(before.image_size)} -> {human(now.image_size)} inside ({found.growth:+.1f} %)" + (
        f", {human(before.file_size)} -> {human(now.file_size)} as files"
        if (before.file_size, now.file_size) != (before.image_size, now.image_size)
        else ""
    )
    for was, is_ in found.kernels if style.verbose else ():
        yield f"  kernel {printable(was) or '-'} -> {printable(is_) or '-'}"
    for each in (*grew, *reversed(shrank)) if style.verbose else grew[:LARGEST]:
        yield f"  {'+' if each.by > 0 else '-'}{human(abs(each.by))} {printable(each.path)}"


def outcome(survey: Survey, verdict: Verdict, style: Style) -> Iterator[str]:
    """How many of what, the bytes to be had, the judgement."""
    yield ", ".join(_tally(survey.sums)) if survey.sums.modules else NO_MODULES
    if survey.sums.saving:
        yield f"stripping would free {survey.sums.saving:,} of {survey.sums.image_size:,} bytes"
    yield judgement(verdict, style)


def _tally(sums: LookedSums) -> Iterator[str]:
    clean = sums.modules - sums.kept - sums.unstripped
    yield f"{plural(sums.modules, 'module')}: {clean} stripped"
    if sums.unstripped:
        yield f"{sums.unstripped} unstripped"
    if sums.damaged:
        yield f"{sums.damaged} with other errors"
    if sums.kept:
        yield f"{sums.kept} kept as they are"
