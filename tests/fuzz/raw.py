"""Changes of plain bytes, and what changes of something structured fail with on what is damaged already."""

from __future__ import annotations

import lzma
import struct
import zlib
from random import Random
from typing import Any

import zstandard

from pkghook.errors import ModuleError

# A mutator that meets these gives plain changes in place of its own: its input was no such thing any more.
FAILURES = (
    ArithmeticError, AssertionError, EOFError, LookupError, MemoryError, OSError, StopIteration, TypeError, ValueError,
    ModuleError, lzma.LZMAError, struct.error, zlib.error, zstandard.ZstdError,
)  # fmt: skip
LONGEST = 64  # bytes that are cut, doubled or overwritten at once


def splice(data: bytes, random: Random) -> bytes:
    """Bits flipped, bytes cut, doubled, overwritten; one or a few."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 4])):
        at = random.randrange(len(changed) + 1)
        length = random.randrange(1, LONGEST)
        match random.randrange(6):
            case 0 | 1 if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
            case 2 if at < len(changed):
                changed[at] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case _:
                changed[at : at + length] = random.randbytes(min(length, 4))
    return bytes(changed)


def rearrange(items: list[Any], at: int, random: Random) -> None:
    """The item at `at` gone, doubled, or in the place of another."""
    match random.randrange(3):
        case 0:
            del items[at]
        case 1:
            items.insert(at, items[at])
        case _:
            other = random.randrange(len(items))
            items[at], items[other] = items[other], items[at]


def number(value: int, bits: int, random: Random) -> int:
    """Another number for a field of so many bits: near, at an edge, or any."""
    choices = [value + 1, value - 1, value * 2, value ^ 1 << random.randrange(bits), 0, 1, 1 << bits - 1, -1]
    return random.choice([*choices, random.getrandbits(bits)]) % (1 << bits)
