"""What `audit --fix` has changed on a system: the receipt that it carries on from run to run.

A module that a package owns and that was stripped here is no longer what the package's database vouches for.  The
digests of the bytes before and after, which stand here, tell that change from damage.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pkghook import atomic
from pkghook.errors import ModuleError, ReceiptError, UsageError
from pkghook.findings import make
from pkghook.model import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.findings import Evidence, Finding
    from pkghook.judge.receipt import Pairs
    from pkghook.model import Entry
    from pkghook.settings import Settings
    from pkghook.sources import Found
    from pkghook.sources.installed import System
    from pkghook.sources.tree import Tree

OWNED = "owned-stripped"  # the finding that a stripped module of a package has in its entry


class Ledger(NamedTuple):
    """What is known of earlier runs, after a look at the files of today."""

    entries: tuple[Entry, ...] = ()
    findings: tuple[Finding, ...] = ()


def wanted(settings: Settings, frozen: str) -> str:
    """Where the receipt goes, "" where none does: on a system that is not changed in place none is written.

    What could not be carried out is refused before the work: UsageError, or InputError where it cannot be written.
    """
    if settings.receipt and (settings.dry_run or not settings.fix):
        raise UsageError("audit --receipt tells what --fix has changed", hint="give --fix with it, and no --dry-run")
    if not settings.receipt or frozen:
        return ""
    atomic.check(settings.receipt)
    return settings.receipt


def read(path: str, tree: Tree, modules: Iterable[Found], system: System) -> Ledger:
    """The receipt at `path`, held against the modules that are there now; empty without one.

    What is gone, was installed again or came with another version of its package is left out.
    Raises ReceiptError for what is no receipt of --fix, InputError for what cannot be read.
    """
    if not os.path.lexists(path):
        return Ledger()
    from pkghook.judge import receipt as receipts

    old = receipts.read(path)
    if old.mode != "strip":
        raise ReceiptError(f"{path}: the receipt of a dry run, which changed nothing")
    there = {found.path: found for found in modules}
    kept: list[Entry] = []
    findings: list[Finding] = []
    for entry in old.entries:
        if entry.path in there and entry.state is State.STRIPPED:
            now = _digest(tree, there[entry.path])
            if now == entry.sha256_after:
                kept.append(entry)
            elif now != entry.sha256_before and _owner(system, entry) == _said(entry):
                kept.append(entry)
                findings.append(_changed(entry, now))
    return Ledger(tuple(kept), tuple(findings))


def write(path: str, ledger: Ledger, fixed: Sequence[Entry], settings: Pairs) -> None:
    """The receipt with what this run did in the place of what earlier ones have done to the same modules."""
    from pkghook.judge import receipt as receipts

    again = {entry.path for entry in fixed}
    entries = [*fixed, *(entry for entry in ledger.entries if entry.path not in again)]
    atomic.write(path, receipts.dump(receipts.make("strip", entries, settings=settings)), fsync=True)


def marked(fixed: Iterable[Entry], system: System) -> Iterator[Entry]:
    """The entries of this run, those of packages with the finding that says so."""
    for entry in fixed:
        owner = system.packages_owner(entry.path, *entry.names)
        if owner and entry.state is State.STRIPPED:
            found = make(OWNED, entry.path, owner=owner.key, version=owner.version)
            yield entry._replace(findings=(*entry.findings, found))
        else:
            yield entry


def _digest(tree: Tree, found: Found) -> str:
    """SHA-256 of a module as it is now; "" if it cannot be read, which the look at it has told."""
    from pkghook.attempt import sha256_of

    try:
        source = tree.open(found)
    except ModuleError:
        return ""
    try:
        return sha256_of(source.fd, source.stat.st_size)
    finally:
        os.close(source.fd)


def _said(entry: Entry) -> dict[str, Evidence]:
    """Owner and version as the entry has them; empty for what no package owned."""
    return next((dict(found.evidence) for found in entry.findings if found.id == OWNED), {})


def _owner(system: System, entry: Entry) -> dict[str, Evidence] | None:
    """The same as they are now; None where nobody is."""
    owner = system.packages_owner(entry.path, *entry.names)
    return {"owner": owner.key, "version": owner.version} if owner else None


def _changed(entry: Entry, now: str) -> Finding:
    return make("changed-since-fix", entry.path, **_said(entry), receipt=entry.sha256_after[:16], now=now[:16])
