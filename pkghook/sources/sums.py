"""Digests that a package has of its own file: made by whoever has a processor to spare while the pass goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE = 1 << 20  # bytes given to a digest at once


class Sum(NamedTuple):
    """A stretch of the package's file and the digest that the package says it has."""

    of: str  # what lies there, in a word
    algorithm: str  # as hashlib calls it
    expected: str  # hexadecimal
    begin: int  # bytes from the file's begin
    end: int


class Digester(Protocol):
    """Makes the digest of a Sum of an open file, at any time before the pass ends, and tells it, hexadecimal."""

    def __call__(self, fd: int, wanted: Sum, judge: Callable[[str], None], /) -> None:
        """`fd` stays open until the pass ends, and nobody asks for the place in it."""


def digest(fd: int, wanted: Sum) -> str:
    """The digest, hexadecimal, of what lies there. Raises OSError where the file cannot be read."""
    import hashlib

    made, at = hashlib.new(wanted.algorithm, usedforsecurity=False), wanted.begin
    while at < wanted.end and (piece := os.pread(fd, min(_PIECE, wanted.end - at), at)):
        made.update(piece)
        at += len(piece)
    return made.hexdigest()


def at_once(fd: int, wanted: Sum, judge: Callable[[str], None], /) -> None:
    """The Digester for those who have no processor to spare."""
    judge(digest(fd, wanted))
