"""One command, measured from outside: seconds from start to end, and the memory of its largest process."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class BenchError(Exception):
    """A command did not do what is measured; the message says which."""


class Used(NamedTuple):
    """What one run of a command took."""

    seconds: float  # from before the start to after the end
    cpu: float  # seconds of all its processes
    peak: int  # bytes resident in its largest process
    left: int = 0  # bytes of modules afterwards; 0 where nothing was to be stripped


def run(argv: Sequence[str], environment: Mapping[str, str]) -> Used:
    """Run a command that must end with status 0; BenchError with what it said if not.

    wait4(2) gives the resources of the process and of all descendants that were waited for, as every shell,
    xargs and pkghook wait for theirs; for memory it is the largest of them, not the sum.  A process inherits the
    peak of the one that started it, so that nothing is seen below the size of this one, some 20 MB.
    """
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complaint = said.read(2000).decode("utf-8", "replace").strip()
    if process.returncode:
        raise BenchError(f"{argv[0]} ... ended with {process.returncode}: {complaint}")
    return Used(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
