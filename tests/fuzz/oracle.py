"""What one input may cost: five seconds of processor time, four times its size and 64 MiB of memory.

Memory is what the process really held at its peak (VmHWM, set back before each input), less what it held before.
What was asked for and never touched costs nobody anything, and is not counted: a decoder's window, the room for a
member that a package only claims to have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

SECONDS = 5.0  # of processor time: the machine may have others to work for
TIMES, BESIDE = 4, 64 << 20  # bytes of memory: this many times the input, and so many
_PAGE = os.sysconf("SC_PAGE_SIZE")
_RESET_PEAK = b"5"  # clear_refs, proc(5)
_PEAK = b"VmHWM:"


class Cost(NamedTuple):
    """What one input took: seconds of processor time, bytes of memory."""

    seconds: float
    memory: int


class Excess(Exception):
    """An input cost more than it may."""


class Meter:
    """Measures what a call costs."""

    def __init__(self) -> None:
        self._clear = os.open("/proc/self/clear_refs", os.O_WRONLY)
        self._status = os.open("/proc/self/status", os.O_RDONLY)
        self._statm = os.open("/proc/self/statm", os.O_RDONLY)

    def cost(self, call: Callable[[], object]) -> Cost:
        """That of `call`; what it raises goes on."""
        os.write(self._clear, _RESET_PEAK)
        before = int(os.pread(self._statm, 100, 0).split()[1]) * _PAGE
        start = time.process_time()
        call()
        return Cost(time.process_time() - start, max(0, self._peak() - before))

    def _peak(self) -> int:
        words = os.pread(self._status, 4096, 0).partition(_PEAK)[2].split(maxsplit=1)
        return int(words[0]) << 10


def check(cost: Cost, size: int) -> None:
    """Raises Excess where an input of `size` bytes cost too much."""
    if cost.seconds > SECONDS:
        raise Excess(f"{cost.seconds:.1f} seconds")
    if cost.memory > TIMES * size + BESIDE:
        raise Excess(f"{cost.memory >> 20} MiB for an input of {size} bytes")
