"""The regular files of a tree that the walk over its modules passed by: each is opened, none is judged here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from pkghook.sources.dirs import Dirs
    from pkghook.sources.layout import Layout

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def strangers(
    dirs: Dirs, layout: Layout, taken: Container[str], *, include_debug: bool = False
) -> Iterator[tuple[str, int]]:
    """Path and handle of each regular file below the root that is not `taken`; the handle is closed behind it.

    What cannot be opened is left out: it is no module by name, and who packs the tree has to read it too.
    """
    todo = [""] if layout.root else list(layout.tops)
    while todo:
        directory = todo.pop()
        if not include_debug and layout.in_debug_tree(directory):
            continue
        names, below = _listed(dirs, directory)
        prefix = f"{directory}/" if directory else ""
        todo += [prefix + name for name in below]
        for name in names:
            if prefix + name not in taken:
                yield from _opened(dirs, directory, name, prefix + name)


def _listed(dirs: Dirs, directory: str) -> tuple[list[str], list[str]]:
    """Names of the regular files and of the directories in a directory, sorted; none of one that cannot be read."""
    try:
        with os.scandir(dirs.get(directory)) as entries:
            kinds = [
                (e.name, e.is_dir(follow_symlinks=False))
                for e in entries
                if e.is_file(follow_symlinks=False) or e.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return [], []  # the walk has told of it
    return sorted(name for name, is_dir in kinds if not is_dir), sorted(name for name, is_dir in kinds if is_dir)


def _opened(dirs: Dirs, directory: str, name: str, path: str) -> Iterator[tuple[str, int]]:
    try:
        fd = os.open(name, OPEN, dir_fd=dirs.get(directory))
    except OSError:
        return
    try:
        yield path, fd
    finally:
        os.close(fd)
