"""Columns of numbers below 2**31 as one long integer: arithmetic on all of them at once.

Each number has a lane of 32 or 64 bits.  The top bit of a lane is free, and takes what would
otherwise carry or borrow into the next lane; the order of the lanes does not matter, so that the
machine's own byte order will do.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 1 << 31  # what a lane can hold
_WIDTH = 4
_ONE = (1).to_bytes(_WIDTH, sys.byteorder)


def lowered(column: array[int], starts: Sequence[int], steps: Sequence[int]) -> array[int]:
    """Each number less the sum of those `steps` whose `starts` it has reached.

    The numbers are below LIMIT, and so are the starts; no number falls below 0.
    """
    ones = int.from_bytes(_ONE * len(column), sys.byteorder)
    found = int.from_bytes(column, sys.byteorder)
    guarded = found | ones << 31
    for start, step in zip(starts, steps, strict=True):
        # The guard bit of a lane survives the subtraction where the number is not below `start`.
        found -= (guarded - ones * start >> 31 & ones) * step
    return array("I", found.to_bytes(_WIDTH * len(column), sys.byteorder))


def by_difference(column: array[int], other: array[int]) -> list[int]:
    """Of each row (column - other + LIMIT) << 32 | column, sorted: rows with one difference stand together."""
    size = 2 * _WIDTH * len(column)
    ones = int.from_bytes((1).to_bytes(2 * _WIDTH, sys.byteorder) * len(column), sys.byteorder)
    found = _wide(column) * (1 + (1 << 32)) - (_wide(other) << 32) + (ones << 63)
    keys = array("Q")
    keys.frombytes(found.to_bytes(size, sys.byteorder))
    return sorted(keys)


def _wide(column: array[int]) -> int:
    halves = array("I", bytes(2 * _WIDTH * len(column)))
    halves[sys.byteorder == "big" :: 2] = column
    return int.from_bytes(halves, sys.byteorder)
