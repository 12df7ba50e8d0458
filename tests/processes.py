"""Processes that tests start, watch and kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def alive(pid: int) -> bool:
    """Whether a process is there and runs. A zombie is dead: who has to bury it may be slow."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def until(what: Callable[[], object], seconds: float = 10.0) -> bool:
    """Wait for `what` to become true; False if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def gone(pids: Iterable[int], seconds: float = 1.0) -> bool:
    """Whether all of these processes end within `seconds`."""
    watched = list(pids)
    assert watched
    return until(lambda: not any(map(alive, watched)), seconds)


def _children(pid: int) -> Iterator[int]:
    """The children of all threads of `pid`; of those that end while they are looked at, none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(FileNotFoundError, ProcessLookupError):
                yield from map(int, Path(f"/proc/{pid}/task/{task}/children").read_text("ascii").split())


def descendants(pid: int) -> set[int]:
    """All processes below `pid`, as /proc has them now."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        children = set(_children(todo.pop())) - found
        todo += children
        found |= children
    return found


def leads(pid: int) -> bool:
    """Whether a process is there and has a process group of its own, as the workers of a run have."""
    with suppress(ProcessLookupError):
        return os.getpgid(pid) == pid
    return False


def kill(pids: Iterable[int]) -> None:
    """Kill those of these processes that have not ended by themselves."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def open_handles() -> set[str]:
    """What this process has open."""
    return {name for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}
