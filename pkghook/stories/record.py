"""`pkghook record ROOT --out FILE`: what each module is before other tools touch the tree."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pkghook import atomic, report
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, MissingDependencyError, ModuleError
from pkghook.findings import make
from pkghook.judge.policy import weighed
from pkghook.ko import record
from pkghook.ko.elf import parse
from pkghook.ko.facts import facts
from pkghook.ko.file import load
from pkghook.ko.plan import plan
from pkghook.ko.record import Recorded
from pkghook.report import text
from pkghook.sources.tree import Tree
from pkghook.stories.crowd import lost_module, through_workers
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from pkghook.findings import Finding
    from pkghook.settings import Settings
    from pkghook.sources import Found, Source, Walk


class Answer(NamedTuple):
    """What a worker says of one module: one of the two is None."""

    recorded: Recorded | None
    finding: Finding | None = None


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Record the modules below args[0] in the file `settings.out`.

    Exit status 0; 1 if a module could not be read: it is not in the record, all others are.
    """
    del out
    (root,) = args
    atomic.check(settings.out)
    with Tree(root) as tree:
        walk = tree.walk(settings.include_debug)
        answers = _record_all(tree, walk, settings, err)
    entries = sorted((a.recorded for a in answers if a.recorded), key=lambda entry: entry.path)
    atomic.write(settings.out, record.dump(entries))
    findings = [weighed(settings.severity, finding) for finding in walk.findings]
    findings += [weighed(settings.severity, a.finding, lower=False) for a in answers if a.finding]
    return _tell(entries, walk, findings, settings, err)


def _record_all(tree: Tree, walk: Walk, settings: Settings, err: TextIO) -> list[Answer]:
    """Every module through the workers, the largest first, so that no late one is waited for alone."""
    tasks = sorted(walk.modules, key=lambda found: (-found.size, found.path))
    return through_workers(
        tasks,
        lambda found: record_module(tree, found, settings.max_module_size),
        lambda found: found.size,
        lambda found, why: Answer(None, lost_module(found.path, why, settings, err)),
        settings,
        err,
    )


def record_module(tree: Tree, found: Found, limit: int) -> Answer:
    """One module; `limit` is in bytes, decompressed. What is wrong with it is in the answer, never raised."""
    now = time.time_ns()  # before the file is looked at: what happens to it from here on is later
    try:
        source = tree.open(found)
        try:
            return Answer(_read(found, source, limit, now))
        finally:
            os.close(source.fd)
    except ModuleError as error:
        return Answer(None, error.finding(found.path))
    except MissingDependencyError as error:
        return Answer(None, make("missing-dependency", found.path, needs=error.message))


def _read(found: Found, source: Source, limit: int, now: int) -> Recorded:
    file = load(source.fd, source.name, limit=limit)
    elf = parse(file.image)
    known = facts(elf, plan(elf), file.trailer)
    identity = record.identity(source.stat)
    if record.identity(os.fstat(source.fd)) != identity:
        raise ModuleError("changed-during-run", before=source.stat.st_size, after=os.fstat(source.fd).st_size)
    return Recorded(found.path, known, record.identity(source.stat, now), file.compression, found.names)


def _tell(entries: Sequence[Recorded], walk: Walk, findings: Sequence[Finding], settings: Settings, err: TextIO) -> int:
    style = report.style_for(settings, err, os.environ)
    closing = [found for found in findings if found.severity >= settings.fail_on]
    shown = closing if settings.quiet else findings
    err.writelines(f"{line}\n" for line in text.finding_lines(sorted(shown, key=_order), style))
    if not settings.quiet:
        err.write(_summary(entries, walk, settings.out))
    return EXIT_FINDINGS if closing else EXIT_CLEAN


def _order(finding: Finding) -> tuple[int, str, str]:
    return -finding.severity, finding.id, finding.subject


def _summary(entries: Sequence[Recorded], walk: Walk, out: str) -> str:
    """One line: how many of how many, and what a run of `pkghook strip` would find now."""
    known = [entry.facts for entry in entries]
    what = [
        f"{len(entries)} of {len(walk.modules)} modules",
        f"{sum(each.unstripped for each in known)} unstripped",
        f"{sum(each.signature > 0 for each in known)} signed",
        f"{sum(each.livepatch for each in known)} livepatch",
    ]
    if walk.kept:
        what.append(f"{len(walk.kept)} of debug trees left out")
    return f"recorded in {report.printable(out)}: {', '.join(what)}\n"
