"""The report for people: what happened to modules, totals, findings with hints, and the outcome.

Order is that of the receipt and the verdict, so the same run gives the same text.  Sizes in decimal units;
the outcome has exact bytes.  Names are made safe for a terminal (`report.printable`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.findings import Severity, registry
from pkghook.model import Compression, Outcome, State
from pkghook.report import printable, sentence
from pkghook.report.facts import is_receipt, is_survey, is_system

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from pkghook.findings import Finding
    from pkghook.model import Entry
    from pkghook.report import Style
    from pkghook.report.facts import Override, Receipt, Row, Run, Sums, Verdict

MANY = 20  # findings of one id that close no gate: more of them are counted, not listed
WOULD = {State.STRIPPED: "would strip", State.KEPT: "would keep", State.FAILED: "would fail"}
NO_MODULES = "no modules found: nothing there is named .ko, .ko.gz, .ko.xz or .ko.zst"
RED, YELLOW, CYAN, BOLD = "31", "33", "36", "1"
SEVERITY_COLOUR = {Severity.ERROR: RED, Severity.WARNING: YELLOW, Severity.INFO: CYAN}
HEADER = ("kernel", "step", "modules", "before", "after", "saved", "expected", "proof")


def render(run: Run, verdict: Verdict, style: Style) -> str:
    """The whole report; with `style.quiet` only the findings that close the gate (so "" if there is none)."""
    if style.quiet:
        return _joined(finding_lines([found for found in verdict.findings if found.severity >= style.fail_on], style))
    return "\n".join(filter(None, map(_joined, _paragraphs(run, verdict, style))))


def _paragraphs(run: Run, verdict: Verdict, style: Style) -> Iterator[Iterable[str]]:
    if is_system(run):
        from pkghook.report import audit

        yield from audit.parts(run, verdict, style)
    elif is_survey(run):
        from pkghook.report import survey

        yield from survey.parts(run, verdict, style)
    if is_receipt(run):
        yield from _parts(run, verdict, style)


def _parts(receipt: Receipt, verdict: Verdict, style: Style) -> Iterator[Iterable[str]]:
    """Paragraphs, as lines."""
    yield module_lines(receipt.entries, receipt.mode, style)
    yield _table(receipt, style)
    yield _left_alone(receipt, style)
    yield finding_lines(verdict.findings, style, {entry.path for entry in receipt.entries})
    yield _outcome(receipt, verdict, style)


def _joined(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def paint(text: str, colour: str, style: Style) -> str:
    """`text` in a colour, where the style has any."""
    return f"\x1b[{colour}m{text}\x1b[0m" if style.colour else text


def human(size: int) -> str:
    """Bytes with a decimal unit and one digit behind the point: `312 B`, `1.2 GB`, `-4.0 kB`."""
    if abs(size) < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if abs(value) < 999.95:  # what would be shown as 1000.0 belongs to the next unit
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} TB"


def plural(count: int, noun: str) -> str:
    """`1 module`, `2 modules`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


# --- one line per module ---------------------------------------------------------------------------------------------


def module_lines(entries: Iterable[Entry], mode: str, style: Style) -> Iterator[str]:
    """A line for each module to which something happened; with `-v` for each."""
    for entry in entries:
        if style.verbose or _remarkable(entry):
            word = f"{_word(entry.state, mode):16}"
            details = "; ".join(_details(entry))
            painted = paint(word, RED, style) if entry.state is State.FAILED else word
            yield f"{painted} {printable(entry.path)}{': ' if details else ''}{details}"


def _word(state: State, mode: str) -> str:
    return WOULD.get(state, state.value) if mode == "dry-run" else state.value


def _remarkable(entry: Entry) -> bool:
    return bool(
        entry.state in {State.KEPT, State.FAILED}
        or entry.findings
        or entry.signature == "removed"
        or any(attempt.outcome is not Outcome.PASSED for attempt in entry.attempts)
    )


def _details(entry: Entry) -> Iterator[str]:
    """What is worth saying about one module, in the order of its course."""
    for attempt in entry.attempts:
        if attempt.outcome is not Outcome.PASSED:
            why = attempt.why or ", ".join(dict.fromkeys(found.id for found in attempt.findings))
            yield f"{attempt.step} {attempt.outcome}{f' ({printable(why)})' if why else ''}"
    if entry.state is State.STRIPPED:
        yield f"{human(entry.sizes.file_before)} -> {human(entry.sizes.file_after)} by {entry.step}"
    elif entry.sizes.file_before:
        size = human(entry.sizes.file_before)
        yield f"original {size} kept" if entry.state is State.FAILED else size
    if entry.signature == "removed":
        yield "signature removed"
    if entry.reason:
        yield printable(entry.reason)
    if entry.names:
        yield plural(len(entry.names), "further hard link")
    if entry.findings:
        yield " ".join(f"[{id}]" for id in dict.fromkeys(found.id for found in entry.findings))


# --- totals ----------------------------------------------------------------------------------------------------------


def _table(receipt: Receipt, style: Style) -> Iterator[str]:
    """Sums per kernel version and step (for modules that no step changed: their state)."""
    packed = {
        (entry.kernel, entry.state, entry.step)
        for entry in receipt.entries
        if entry.compression != Compression.NONE.value
    }
    lines: list[tuple[str, ...]] = []
    for row in receipt.totals.rows:
        name = (printable(row.kernel) or "-", row.step or row.state.value)
        lines += _cells(name, row, _proofs(row), packed=(row.kernel, row.state, row.step) in packed)
    if len(receipt.totals.rows) > 1:
        lines += _cells(("total", ""), receipt.totals, "", packed=bool(packed))
    if lines:
        saved = "would save" if receipt.mode == "dry-run" else "saved"
        header, *rest = aligned([tuple(saved if name == "saved" else name for name in HEADER), *lines])
        yield paint(header, BOLD, style)
        yield from rest


def _cells(name: tuple[str, str], sums: Sums, proofs: str, *, packed: bool) -> Iterator[tuple[str, ...]]:
    """One line of the table; where modules are compressed a second one accounts for what is inside."""
    expected = human(sums.image_before - sums.expected)
    files = (human(sums.file_before), human(sums.file_after), human(sums.saved))
    yield (*name, str(sums.modules), *files, "" if packed else expected, proofs)
    if packed:
        images = (human(sums.image_before), human(sums.image_after), human(sums.image_before - sums.image_after))
        yield ("", "  decompressed", "", *images, expected, "")


def _proofs(row: Row) -> str:
    counts = [(name, count) for name in ("verified", "recorded", "none") if (count := getattr(row, name))]
    return ", ".join(name if count == row.modules else f"{name} {count}" for name, count in counts)


def aligned(rows: Sequence[Sequence[str]], marks: str = "<<>>>>><") -> Iterator[str]:
    """The rows as lines, two blanks between columns: `<` means to the left, as names, `>` to the right, as numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, marks, widths, strict=True)
        yield "  ".join(f"{cell:{mark}{width}}" for cell, mark, width in cells).rstrip()


def _left_alone(receipt: Receipt, style: Style) -> Iterator[str]:
    """What the walk saw beside the modules it accounts for; keep entries with `-v`."""
    walk = receipt.walk
    if walk.debug_modules:
        yield f"debug trees: {plural(walk.debug_modules, 'module')} kept ({human(walk.debug_bytes)})"
    if walk.others:
        total = human(sum(size for _, size in walk.others))
        yield f"other ELF files: {len(walk.others)}, not touched ({total})"
    if style.verbose:
        for path, size in walk.others:
            yield f"  {printable(path)}: {human(size)}"
        if walk.links:
            yield f"symlinks: {walk.links}, not followed"
        yield from kept_by(receipt.overrides)


def kept_by(overrides: Iterable[Override]) -> Iterator[str]:
    """A line for each keep entry that was used."""
    for keep, matched in ((override.keep, override.matched) for override in overrides):
        about = f"[{keep.finding}] of " if keep.finding else ""
        yield printable(f"kept by {keep.origin}: {about}{keep.glob} (matched {len(matched)}): {keep.reason}")


# --- findings --------------------------------------------------------------------------------------------------------


def finding_lines(findings: Iterable[Finding], style: Style, listed: Collection[str] = frozenset()) -> Iterator[str]:
    """Findings by id, in the order in which the ids come first; the hint once behind those of an id.

    `listed` are paths that have a line of their own in the report, with the id.
    """
    by_id: dict[str, list[Finding]] = {}
    for found in findings:
        by_id.setdefault(found.id, []).append(found)
    for id, same in by_id.items():
        closing = any(found.severity >= style.fail_on for found in same)
        shown = same if style.verbose else _without_echoes(same, listed) if closing else same[:MANY]
        yield from (_finding_line(found, style) for found in shown)
        if len(shown) < len(same):
            yield f"{same[0].severity}: and {len(same) - len(shown)} more (-v lists them) [{id}]"
        if id in registry():
            yield f"  {paint('hint:', BOLD, style)} {registry()[id].hint}"


def _without_echoes(same: Sequence[Finding], listed: Collection[str]) -> list[Finding]:
    """All but what is listed and has nothing to add to `MANY` before it: a thousand modules on one full disk."""
    counts: dict[object, int] = {}
    shown = []
    for found in same:
        counts[found.evidence] = counts.get(found.evidence, 0) + 1
        if counts[found.evidence] <= MANY or found.subject not in listed:
            shown.append(found)
    return shown


def _finding_line(found: Finding, style: Style) -> str:
    """`error: path: title (evidence) [id]`."""
    severity = paint(str(found.severity), SEVERITY_COLOUR[found.severity], style)
    subject = f"{printable(found.subject)}: " if found.subject else ""
    return f"{severity}: {subject}{sentence(found)} [{found.id}]"


# --- the outcome -----------------------------------------------------------------------------------------------------


def _outcome(receipt: Receipt, verdict: Verdict, style: Style) -> Iterator[str]:
    totals = receipt.totals
    states = ", ".join(f"{count} {state}" for state, count in totals.states if count)
    dry = receipt.mode == "dry-run"
    told = f"{plural(totals.modules, 'module')}: {states}" if totals.modules else NO_MODULES
    yield f"dry run, nothing written; {told}" if dry else told
    if totals.file_before:
        share = 100 * totals.saved / totals.file_before
        yield f"{'would save' if dry else 'saved'} {totals.saved:,} of {totals.file_before:,} bytes ({share:.1f} %)"
    if totals.debug_files:
        yield f"debug files: {totals.debug_files:,}, {totals.debug_bytes:,} bytes"
    yield judgement(verdict, style)


def judgement(verdict: Verdict, style: Style) -> str:
    """`passed` or `failed`, and how many findings of which weight."""
    weights = [found.severity for found in verdict.findings]
    tally = [plural(weights.count(weight), str(weight)) for weight in (Severity.ERROR, Severity.WARNING)]
    told = [text for text in tally if not text.startswith("0 ")]
    if verdict.silenced:
        told.append(f"{plural(len(verdict.silenced), 'finding')} left alone by keep entries")
    word = "passed" if verdict.passed else paint("failed", RED, style)
    return f"{word}{': ' if told else ''}{', '.join(told)}"
