"""SIGINT and SIGTERM end a run in an orderly way: as one `Interrupted`, the first time, and not at all after that.

A terminal and a `make` above us may both pass on a Ctrl-C, and a second signal must not cut short the
tidying up that the first one set going.
"""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pkghook.errors import EXIT_SIGINT, EXIT_SIGTERM, Interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STATUS = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM}


class _Once:
    """The handler: raises for the first signal."""

    def __init__(self) -> None:
        self.stopped = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raises Interrupted, once."""
        del frame
        if not self.stopped:
            self.stopped = True
            raise Interrupted(signal.Signals(number).name, _STATUS[signal.Signals(number)])


@contextmanager
def stoppable(*, last: bool = False) -> Iterator[None]:
    """While this holds, the first SIGINT or SIGTERM raises Interrupted wherever the program is; later ones do nothing.

    Inside another `stoppable` it changes nothing.  A signal that was ignored stays so: that is how a shell keeps
    Ctrl-C from what runs in the background.  Only the main thread can have this; in others it does nothing.
    With `last` both signals are blocked afterwards: nothing but the end of the process comes, and a signal
    must not change the exit status that is settled already.
    """
    once = _Once()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if any(isinstance(handler, _Once) for handler in before.values()):
        yield
        return
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, once)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        once.stopped = True
        if last:
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        else:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """While this holds, SIGINT and SIGTERM wait."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
