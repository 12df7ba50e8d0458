"""A process that runs no Python any more is ended by the kernel; one that does is not, however long it takes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import deque
from itertools import repeat
from pathlib import Path

import pytest

from pkghook import pool, stuck
from pkghook.pool import Lost

ROOT = Path(__file__).parents[2]
QUICK = "from pkghook import stuck; stuck.BEAT, stuck.PATIENCE = 0.05, 0.4; stuck.end_when_stuck()\n"
SPIN = "from collections import deque; from itertools import repeat; deque(repeat(0), 0)\n"  # in C, for ever


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A process of its own for this."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def busy(seconds: float) -> int:
    """Take so much processor time in Python; how often it went round."""
    count, end = 0, time.process_time() + seconds
    while time.process_time() < end:
        count += 1
    return count


def test_a_process_that_runs_no_python_is_ended() -> None:
    assert run(QUICK + SPIN).returncode == -signal.SIGVTALRM


def test_one_that_inherited_a_deaf_ear_is_ended() -> None:
    deaf = "import signal; signal.signal(signal.SIGVTALRM, signal.SIG_IGN)\n"
    assert run(deaf + QUICK + SPIN).returncode == -signal.SIGVTALRM


def test_one_that_runs_python_is_not() -> None:
    """Nor by a sign of life that comes when the interpreter has let go of its handlers."""
    loop = "import time; end = time.process_time() + 1.5\nwhile time.process_time() < end: pass\nprint('done')"
    done = run(QUICK + loop)
    assert (done.returncode, done.stdout) == (0, "done\n")
    quicker = QUICK.replace("0.05", "0.0005") + "sum(range(1000000))\n"
    assert {run(quicker).returncode for _ in range(5)} == {0}


def test_one_that_waits_is_not_and_its_children_run_without() -> None:
    code = """import subprocess, sys, time; time.sleep(1)
timer = "import signal; print(signal.getitimer(signal.ITIMER_VIRTUAL))"
subprocess.run([sys.executable, "-c", timer], check=True)
"""
    done = run(QUICK + code)
    assert (done.returncode, done.stdout) == (0, "(0.0, 0.0)\n")


def test_a_worker_is_ended_and_its_task_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others lose nothing, and the process that hires them takes no part in it."""
    monkeypatch.setattr(stuck, "BEAT", 0.05)
    monkeypatch.setattr(stuck, "PATIENCE", 0.4)

    def work(number: int) -> int:
        if number == 1:
            deque(repeat(0), 0)
        return busy(0.6) and number

    results = pool.run(range(4), work, 2, lambda *_: None, lambda _, lost: lost)
    assert results == [0, Lost("killed twice"), 2, 3]
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_the_command_itself_is_watched() -> None:
    """Only as a process of its own: main() with arguments is called from other programs."""
    code = """import signal, sys; from pkghook import cli
cli.run = lambda *_: print(signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 0) or 0
cli.main(["tools"])
sys.argv[1:] = ["tools"]; cli.main()
"""
    assert run(code).stdout == "False\nTrue\n"
