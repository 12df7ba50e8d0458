"""The regular files of a tree that the walk over its modules passed by: each is opened, none is judged here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook.sources.refusals import cannot_open, cannot_reach

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from pkghook.errors import ModuleError
    from pkghook.findings import Finding
    from pkghook.sources.dirs import Dirs
    from pkghook.sources.layout import Layout

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def strangers(
    dirs: Dirs, layout: Layout, taken: Container[str], tell: Callable[[Finding], None], *, include_debug: bool = False
) -> Iterator[tuple[str, int]]:
    """Path and handle of each regular file below the root that is not `taken`; the handle is closed behind it.

    `tell` hears of every file and directory that cannot be read and is not `taken`: a module may be in there.
    """
    todo = [""] if layout.root else list(layout.tops)
    while todo:
        directory = todo.pop()
        if not include_debug and layout.in_debug_tree(directory):
            continue
        try:
            names, below = _listed(dirs, directory)
        except OSError as error:
            if (directory or ".") not in taken:
                _refused(cannot_reach(error), directory or ".", tell)
            continue
        prefix = f"{directory}/" if directory else ""
        todo += [prefix + name for name in below]
        for name in names:
            if prefix + name not in taken:
                yield from _opened(dirs, directory, name, prefix + name, tell)


def _listed(dirs: Dirs, directory: str) -> tuple[list[str], list[str]]:
    """Names of the regular files and of the directories in a directory, sorted."""
    with os.scandir(dirs.get(directory)) as entries:
        kinds = [
            (e.name, e.is_dir(follow_symlinks=False))
            for e in entries
            if e.is_file(follow_symlinks=False) or e.is_dir(follow_symlinks=False)
        ]
    return sorted(name for name, is_dir in kinds if not is_dir), sorted(name for name, is_dir in kinds if is_dir)


def _opened(
    dirs: Dirs, directory: str, name: str, path: str, tell: Callable[[Finding], None]
) -> Iterator[tuple[str, int]]:
    try:
        fd = os.open(name, OPEN, dir_fd=dirs.get(directory))
    except OSError as error:
        _refused(cannot_open(error), path, tell)
        return
    try:
        yield path, fd
    finally:
        os.close(fd)


def _refused(error: ModuleError, path: str, tell: Callable[[Finding], None]) -> None:
    """What has vanished, or is another kind of file now, is not worth a word."""
    if error.id == "unreadable":
        tell(error.finding(path))
