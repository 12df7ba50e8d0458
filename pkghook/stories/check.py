"""`pkghook check PATH...`: open packages, directories and modules, judge what is inside; nothing is changed."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from pkghook import report
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, InputError, ReceiptError, UsageError
from pkghook.findings import Finding, make
from pkghook.judge import policy as policies
from pkghook.judge import survey
from pkghook.judge.baseline import too_large
from pkghook.ko.look import Ask
from pkghook.model import Proof
from pkghook.stories.against import compare, last_release
from pkghook.stories.looking import Sight, look_at
from pkghook.stories.passing import DEBUG_TREE
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from pkghook.judge.policy import Policy
    from pkghook.judge.receipt import Pairs, Receipt
    from pkghook.ko.record import Record
    from pkghook.model import Looked
    from pkghook.settings import Settings
    from pkghook.stories.against import Release


class Shrunk(NamedTuple):
    """What modules lost since a receipt or a record; bytes of the ELF files inside."""

    before: int
    now: int


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Look at all of args and judge it. Exit status 0, or 1 if the gate is closed.

    InputError for a path that is neither package nor directory nor module, or cannot be read to its end; what there
    is at the others has been told before.
    """
    policy = policies.of(settings)
    receipt, record = _receipt(settings), _record(settings)
    if settings.min_shrink and not (receipt or record):
        raise UsageError("--min-shrink needs --receipt or --before", hint="they say how large the modules were")
    if settings.max_growth is not None and not settings.baseline:
        raise UsageError("--max-growth needs --baseline", hint="give the last release's package or receipt")
    ask = _ask(settings, record, digests=receipt is not None)
    release = last_release(ask, settings, err) if settings.baseline else None
    sights, unread = _look_at_all(args, ask, settings, err)
    if unread and not sights:
        raise _all_of(unread)
    found = _judged(sights, settings, policy, receipt, record, release, unread)
    verdict = survey.judge(found, policy)
    if unread:  # whatever weight the user gives to that
        verdict = verdict._replace(passed=False)
    out.write(report.REPORTS[settings.format](found, verdict, report.style_for(settings, out, os.environ)))
    if unread:
        raise _all_of(unread)
    return EXIT_CLEAN if verdict.passed else EXIT_FINDINGS


def _look_at_all(
    paths: Sequence[str], ask: Ask, settings: Settings, err: TextIO
) -> tuple[list[Sight], dict[str, InputError]]:
    """What lies at those paths that can be read, and what is wrong with the others."""
    sights: list[Sight] = []
    errors: dict[str, InputError] = {}
    for path in paths:
        try:
            sights.append(_named(look_at(path, ask, settings, err), path, several=len(paths) > 1))
        except InputError as error:
            errors[path] = error
    return sights, errors


def _all_of(unread: dict[str, InputError]) -> InputError:
    first = next(iter(unread.values()))
    return InputError("\n".join(error.message for error in unread.values()), hint=first.hint)


def _receipt(settings: Settings) -> Receipt | None:
    if not settings.receipt:
        return None
    from pkghook.judge import receipt as receipts

    found = receipts.read(settings.receipt)
    if found.mode != "strip":
        raise ReceiptError(f"{settings.receipt}: the receipt of a dry run, which changed nothing")
    return found


def _record(settings: Settings) -> Record | None:
    if not settings.before:
        return None
    from pkghook.ko import record

    return record.read(settings.before)


def _ask(settings: Settings, record: Record | None, *, digests: bool) -> Ask:
    if settings.second_reader is not False:
        from pkghook.ko import second

        second.need()
    return Ask(
        second=settings.second_reader is not False,
        digests=digests,
        interface=bool(settings.baseline),
        record=record,
        limit=settings.max_module_size,
    )


def _named(sight: Sight, path: str, *, several: bool) -> Sight:
    """Where there are several, everything says which it is from."""
    if not several:
        return sight
    return sight._replace(
        entries=tuple(
            entry._replace(source=path, findings=tuple(_in(path, each) for each in entry.findings))
            for entry in sight.entries
        ),
        findings=tuple(_in(path, each) for each in sight.findings),
    )


def _in(path: str, finding: Finding) -> Finding:
    about = finding.subject == path or any(key == "package" for key, _ in finding.evidence)
    return finding if about else finding._replace(evidence=(*finding.evidence, ("in", path)))


# --- judging ---------------------------------------------------------------------------------------------------------


def _judged(
    sights: Sequence[Sight],
    settings: Settings,
    policy: Policy,
    receipt: Receipt | None,
    record: Record | None,
    release: Release | None,
    unread: dict[str, InputError],
) -> survey.Survey:
    entries = [entry for sight in sights for entry in sight.entries]
    findings = [finding for sight in sights for finding in sight.findings]
    findings += [make("unreadable", path, error=e.message.removeprefix(f"{path}: ")) for path, e in unread.items()]
    shrunk = []
    if settings.require_modules:
        findings += _without_modules(sights)
    if receipt:
        from pkghook.judge.agreement import agree

        agreed = agree(receipt, entries)
        entries = list(agreed.entries)
        findings += agreed.findings
        shrunk.append(Shrunk(agreed.before, agreed.now))
    if record:
        entries = [_one_module(record, entry) for entry in entries]
        findings += record.unmatched([name for entry in entries for name in (entry.path, *entry.names)])
        shrunk.append(_since(record, entries))
    findings += [finding for each in shrunk for finding in _too_little(each, settings)]
    if settings.max_size is not None:
        findings += too_large(entries, settings.max_size, here=_here(sights))
    compared = compare(release, entries, sights, settings) if release else None
    if compared:
        entries = list(compared.entries)
        findings += compared.findings
    return survey.make(
        "check",
        entries,
        policy,
        baseline=compared.baseline if compared else None,
        settings=_settings(settings, policy),
        packages=[sight.facts for sight in sights],
        others=[other for sight in sights for other in sight.others],
        findings=findings,
    )


def _here(sights: Sequence[Sight]) -> str:
    """What all of it is called in a finding: the path where there is one, else nothing."""
    return sights[0].facts.path if len(sights) == 1 else ""


def _without_modules(sights: Sequence[Sight]) -> Iterator[Finding]:
    for sight in sights:
        if all(entry.kept == DEBUG_TREE for entry in sight.entries):
            yield make("no-modules", sight.facts.path, debug_modules=len(sight.entries))


def _one_module(record: Record, entry: Looked) -> Looked:
    """The entry, with what was lost where its further names were other modules: those of a package are known late."""
    if not (entry.names and entry.image_size):
        return entry
    from pkghook.ko.compare import judge_names

    lost = judge_names(record, (entry.path, *entry.names), signed=bool(entry.signature))
    return entry._replace(proof=Proof.NONE, findings=(*entry.findings, *lost)) if lost else entry


def _since(record: Record, entries: Sequence[Looked]) -> Shrunk:
    known = [(next(record.known((e.path, *e.names)), None), e.image_size) for e in entries if e.image_size]
    pairs = [(found[1].facts.size, size) for found, size in known if found]
    return Shrunk(sum(before for before, _ in pairs), sum(now for _, now in pairs))


def _too_little(shrunk: Shrunk, settings: Settings) -> Iterator[Finding]:
    asked = settings.min_shrink
    if not asked:
        return
    gone = shrunk.before - shrunk.now
    wanted = asked.bytes or math.ceil(shrunk.before * asked.percent / 100)
    if gone < wanted or not shrunk.before:
        yield make("shrank-too-little", "", before=shrunk.before, now=shrunk.now, gone=gone, wanted=wanted)


def _settings(settings: Settings, policy: Policy) -> Pairs:
    """The settings that shape the result."""
    chosen = [
        ("include-debug", "yes" if settings.include_debug else "no"),
        ("max-module-size", str(settings.max_module_size)),
        ("second-reader", "no" if settings.second_reader is False else "yes"),
        ("require-modules", "yes" if settings.require_modules else "no"),
    ]
    named = (("receipt", settings.receipt), ("before", settings.before))
    chosen += [(name, os.path.basename(path)) for name, path in named if path]
    if asked := settings.min_shrink:
        chosen.append(("min-shrink", str(asked.bytes) if asked.bytes else f"{asked.percent:g}%"))
    chosen += [("baseline", os.path.basename(path.rstrip("/"))) for path in settings.baseline]
    if settings.max_growth is not None:
        chosen.append(("max-growth", f"{settings.max_growth:g}%"))
    if settings.max_size is not None:
        chosen.append(("max-size", str(settings.max_size)))
    return (*chosen, *policies.pairs(policy))
