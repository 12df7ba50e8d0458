"""What `strip --debug-dir` needs around the modules: the directory, what of it lies in the tree, where files end up."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pkghook.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.judge.receipt import Pairs
    from pkghook.model import Entry
    from pkghook.settings import Settings
    from pkghook.sources import Walk
    from pkghook.split import Splitting


def check(settings: Settings) -> None:
    """SettingError for a debuglink to a debug file that nobody asked for."""
    if settings.debuglink and not settings.debug_dir:
        raise SettingError("--debuglink needs --debug-dir", hint="--debug-dir DIR is where the debug files go")


@contextmanager
def wanted(settings: Settings, walk: Walk, *, fsync: bool) -> Iterator[Splitting | None]:
    """Where debug files go, while modules are stripped; None where nobody asked for them."""
    if not settings.debug_dir:
        yield None
        return
    from pkghook.split import Splitting, doubles

    paths = [path for found in walk.modules for path in (found.path, *found.names)]
    plan = Splitting(None, settings.debug_layout == "build-id", settings.debuglink, doubles(paths), fsync)
    if settings.dry_run:
        yield plan
        return
    from pkghook.sources.debugdir import DebugDir

    with DebugDir(settings.debug_dir) as directory:
        yield plan._replace(directory=directory)


def without(walk: Walk, root: str, debug_dir: str) -> Walk:
    """The walk without the debug directory, where that lies below `root`: its modules count as a debug tree's."""
    if not debug_dir:
        return walk
    below = os.path.relpath(os.path.realpath(debug_dir), os.path.realpath(root))
    if below == "." or below.split("/")[0] == "..":
        return walk
    inside = f"{below}/"
    mine = [found for found in walk.modules if found.path.startswith(inside)]
    return walk._replace(
        modules=tuple(found for found in walk.modules if not found.path.startswith(inside)),
        kept=tuple(sorted((*walk.kept, *mine), key=lambda found: found.path)),
        others=tuple(other for other in walk.others if not other[0].startswith(inside)),
    )


def settled(entries: list[Entry], splitting: Splitting | None) -> list[Entry]:
    """The entries with the debug files where they lie in the end."""
    if splitting is None:
        return entries
    from pkghook import split

    return split.settle(entries)


def pairs(splitting: Splitting | None) -> Pairs:
    """What a receipt says of it: all but the directory, which is another one on every machine."""
    if splitting is None:
        return ()
    layout = "build-id" if splitting.by_build_id else "mirror"
    return ("debug-layout", layout), ("debuglink", "yes" if splitting.link else "no")
