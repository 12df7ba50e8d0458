"""Where modules come from and, for a tree, go back to: the values that cross to other layers.

A source only names, opens and replaces files.  What is inside a module it does not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    import os

    from pkghook.findings import Finding

__all__ = ["Found", "Scratch", "Source", "Walk"]


class Found(NamedTuple):
    """One module file of a tree: one inode, under its first name."""

    path: str  # relative to ROOT, decoded with `surrogateescape`
    kernel: str  # the directory below lib/modules, "" if there is none
    size: int  # bytes, as the file lies on disk
    names: tuple[str, ...] = ()  # further hard-linked names below ROOT, sorted
    outside: int = 0  # links that were not found among the modules of ROOT


class Walk(NamedTuple):
    """What lies below ROOT, in an order that depends on names alone."""

    modules: tuple[Found, ...]
    kept: tuple[Found, ...]  # modules of debug trees, which nobody asked for
    findings: tuple[Finding, ...]
    links: int  # symlinks seen; none was followed
    others: tuple[tuple[str, int], ...]  # other ELF files below lib/modules and their sizes; never touched
    leftovers: tuple[str, ...]  # scratch directories of other runs


class Source(NamedTuple):
    """A module file opened for reading.

    `fd` belongs to the caller, who closes it.  `dirfd` belongs to the tree.
    """

    fd: int
    stat: os.stat_result  # of `fd`, taken when it was opened
    dirfd: int  # the directory that holds it
    name: str  # its name there


class Scratch(NamedTuple):
    """A private file that may become a module."""

    fd: int  # open for reading and writing
    dirfd: int  # the private directory
    name: str  # its name there
    path: str  # for an outside tool; good while this process lives
