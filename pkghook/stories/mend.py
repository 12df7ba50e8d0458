"""`pkghook audit --fix`: what may be stripped on an installed system, and the course of `strip` for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.chain import steps
from pkghook.chain.tools import Tools
from pkghook.findings import make
from pkghook.ko.plan import DEBUG_ONLY
from pkghook.model import Entry, Sizes, State
from pkghook.stories.crowd import lost_module, through_workers
from pkghook.work import Order, strip_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

    from pkghook.findings import Finding
    from pkghook.judge.policy import Policy
    from pkghook.model import Looked
    from pkghook.settings import Settings
    from pkghook.sources import Found
    from pkghook.sources.installed import Installed
    from pkghook.sources.tree import Tree


def choose(found: Installed, unstripped: Iterable[Looked], *, owned: bool) -> tuple[set[str], list[Finding]]:
    """The paths of what may be stripped, and a finding for each module that may not be.

    With `owned` the modules of packages may, too.
    """
    chosen: set[str] = set()
    left: list[Finding] = []
    for entry in unstripped:
        why = hindrance(found, entry, owned=owned)
        if why:
            left.append(make("fix-left-alone", entry.path, why=why))
        else:
            chosen.add(entry.path)
    return chosen, left


def hindrance(found: Installed, entry: Looked, *, owned: bool) -> str:
    """Why --fix leaves a module alone, "" if it does not."""
    if found.frozen:
        return found.frozen
    if not found.system.known:
        return "no package database tells who owns it"
    owner = None if owned else found.system.packages_owner(entry.path, *entry.names)
    return f"{owner.key} owns it" if owner else ""


def strip(tree: Tree, founds: Sequence[Found], policy: Policy, settings: Settings, err: TextIO) -> list[Entry]:
    """Strip `founds` by the default chain: through to the disk, with digests of the bytes before."""
    order = Order(
        tree,
        steps.order(settings.chain, symbols=False, labels=False),
        DEBUG_ONLY,
        Tools(),
        policy,
        {},
        limit=settings.max_module_size,
        timeout=settings.tool_timeout,
        dry_run=settings.dry_run,
        digest_before=True,
        fsync=True,
    )
    try:
        return through_workers(
            founds,
            lambda found: strip_module(order, found),
            lambda found: found.size,
            lambda found, why: Entry(
                found.path,
                found.kernel,
                State.FAILED,
                names=found.names,
                sizes=Sizes(found.size, found.size),
                findings=(lost_module(found.path, why, settings, err),),
            ),
            settings,
            err,
            in_child=tree.unlock_in_child,
        )
    finally:
        tree.clean()
