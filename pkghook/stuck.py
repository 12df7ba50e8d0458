"""The end of a process that is stuck below Python.

Where not one byte of memory is left, as under a tight `ulimit -v`, CPython may not end at all: to unwind a function's
`with` or `finally` it makes an int, and where it cannot it starts over at once (`exception_unwind` in Python/ceval.c of
3.11 to 3.14).  No handler of Python's runs there any more, so the kernel must end it.
"""

from __future__ import annotations

import atexit
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

BEAT = 3.0  # seconds of processor time between two signs of life
# Seconds of it in user mode, without one: 858 MB of module keep pkghook below Python for 0.2 of them at a stretch.
PATIENCE = 30.0


def end_when_stuck() -> None:
    """From now on SIGVTALRM ends this process, not its children, once it has run no Python for `PATIENCE`.

    Waiting takes none of that time.  For the main thread of a process that is pkghook's own.
    """
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.signal(signal.SIGPROF, _alive)
    signal.setitimer(signal.ITIMER_PROF, BEAT, BEAT)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    # No earlier: what is stuck is on its way out.  No later: the interpreter lets go of `_alive`, and SIGPROF ends it.
    atexit.register(signal.setitimer, signal.ITIMER_PROF, 0)


def _alive(number: int, frame: FrameType | None) -> None:
    del number, frame
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
