"""The last release, as `--baseline` names it: packages, trees and modules looked at as this one's are, or receipts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook.errors import InputError, ReceiptError
from pkghook.findings import Severity, make
from pkghook.judge import baseline
from pkghook.stories.looking import OPEN, look_at
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from pkghook.findings import Finding
    from pkghook.judge.baseline import Baseline
    from pkghook.ko.look import Ask
    from pkghook.model import Looked
    from pkghook.settings import Settings
    from pkghook.stories.looking import Sight


class Release(NamedTuple):
    """What the last release had."""

    name: str  # without directories, so that a report is the same wherever it lies
    entries: tuple[Looked, ...]
    findings: tuple[Finding, ...] = ()  # what keeps it from being compared in full


def last_release(ask: Ask, settings: Settings, err: TextIO) -> Release:
    """The modules of all paths of `--baseline`. InputError and ReceiptError for one that cannot be read."""
    ask = ask._replace(tables=False, second=False, digests=False, record=None, interface=True)
    parts = [_part(path, ask, settings, err) for path in settings.baseline]
    return Release(
        ", ".join(part.name for part in parts),
        tuple(entry for part in parts for entry in part.entries),
        tuple(finding for part in parts for finding in part.findings),
    )


class Compared(NamedTuple):
    """This release with what is to be said of it against the last one."""

    baseline: Baseline
    entries: tuple[Looked, ...]  # with the findings about each, and without the interfaces
    findings: tuple[Finding, ...]  # the others


def compare(release: Release, entries: Sequence[Looked], sights: Sequence[Sight], settings: Settings) -> Compared:
    """This release, as it was seen and with what is known of its modules by now, against the last one."""
    found, findings = baseline.compare(
        release.name,
        release.entries,
        entries,
        settings.max_growth,
        here=sights[0].facts.path if len(sights) == 1 else "",
        builtin={kernel: names for sight in sights for kernel, names in sight.builtin.items()},
    )
    own: dict[str, list[Finding]] = {entry.path: [] for entry in entries}
    others = [*release.findings]
    for finding in findings:
        own.get(finding.subject, others).append(finding)
    told = (entry._replace(interface=None, findings=(*entry.findings, *own[entry.path])) for entry in entries)
    return Compared(found, tuple(told), tuple(others))


def _part(path: str, ask: Ask, settings: Settings, err: TextIO) -> Release:
    name = os.path.basename(path.rstrip("/")) or path
    if _is_json(path):
        return Release(name, _of_receipt(path))
    sight = look_at(path, ask, settings, err)
    return Release(name, sight.entries, tuple(_damage(name, sight.findings)))


def _is_json(path: str) -> bool:
    """Whether it is a file that begins as a receipt does: nothing else that has modules in it does."""
    try:
        fd = os.open(path, OPEN)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        return not os.path.isdir(path) and os.pread(fd, 1, 0) == b"{"
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    finally:
        os.close(fd)


def _of_receipt(path: str) -> tuple[Looked, ...]:
    from pkghook.judge import receipt as receipts

    found = receipts.read(path)
    if found.mode != "strip":
        raise ReceiptError(f"{path}: the receipt of a dry run, which changed nothing")
    return tuple(baseline.of_receipt(found))


def _damage(name: str, findings: Sequence[Finding]) -> Iterator[Finding]:
    """One finding for all errors about the package or tree as a whole."""
    ids = dict.fromkeys(finding.id for finding in findings if finding.severity is Severity.ERROR)
    if ids:
        yield make("baseline-unreadable", name, because=", ".join(ids))
