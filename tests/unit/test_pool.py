"""Worker processes: results in order, killed ones retried alone, and nobody left behind, whatever ends the run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pkghook import pool, stopping
from pkghook.errors import EXIT_SIGINT, EXIT_SIGTERM, Interrupted, WorkerError
from pkghook.pool import Lost
from tests.processes import alive, gone, kill, open_handles, until

ROOT = Path(__file__).parents[2]
Work = Callable[[int], object]


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """No test leaves a child, an open pipe, or another handler."""
    handles, handlers = open_handles(), [signal.getsignal(number) for number in stopping.SIGNALS]
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert open_handles() == handles
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == handlers


def ran(number: int, work: Work, jobs: int = 2, done: Callable[[int, object], None] = lambda *_: None) -> list[object]:
    """The results of tasks 0..number; that of a lost one is why."""
    return pool.run(range(number), work, jobs, done=done, lost=lambda _, lost: lost)


def slow(value: Callable[[], object], seconds: float) -> object:
    """The value, after a while."""
    time.sleep(seconds)
    return value()


def once(place: Path, number: int) -> bool:
    """True the first time that it is asked about this task, in whichever process."""
    try:
        (place / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def die(number: int = signal.SIGKILL) -> None:
    """End this process as the kernel's out-of-memory killer would."""
    os.kill(os.getpid(), number)


# --- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "jobs"), [(0, 2), (1, 8), (3, 8), (100, 1), (100, 2), (100, 7), (5, 0)])
def test_results_in_the_order_of_the_tasks(number: int, jobs: int) -> None:
    order: list[int] = []
    results = ran(number, lambda n: (n, os.getpid()), jobs, done=lambda task, _: order.append(task))
    assert [result[0] for result in results if isinstance(result, tuple)] == list(range(number))
    assert sorted(order) == list(range(number))
    workers = {result[1] for result in results if isinstance(result, tuple)}
    assert len(workers) <= max(1, min(jobs, number))
    assert os.getpid() not in workers


def test_tasks_begin_in_the_order_given() -> None:
    begun = ran(50, lambda _: time.monotonic_ns(), 1)
    assert begun == sorted(map(int, map(str, begun)))


def test_a_large_answer_and_many_small_ones() -> None:
    """More than a pipe holds at once, and less than one read gives."""
    sizes = [3_000_000, *([1] * 200), 70_000]
    assert [len(str(text)) for text in ran(len(sizes), lambda n: "x" * sizes[n])] == sizes


def test_what_a_worker_does_stays_there() -> None:
    seen: list[int] = []
    assert ran(4, seen.append) == [None] * 4
    assert seen == []


def test_in_child_is_called_once_in_each_worker() -> None:
    calls: list[int] = []

    def begin() -> None:
        calls.append(os.getpid())

    results = pool.run(range(30), lambda _: len(calls), 2, lambda *_: None, lambda *_: 0, in_child=begin)
    assert results == [1] * 30
    assert calls == []


def test_workers_share_no_pipe_of_the_parent_with_each_other() -> None:
    """A worker that held another's end would keep it from noticing its parent's end."""
    handles = len(os.listdir("/proc/self/fd"))
    counts = ran(40, lambda _: slow(lambda: len(os.listdir("/proc/self/fd")), 0.002), 8)
    assert set(counts) == {handles + 3}


# --- a worker that fails ---------------------------------------------------------------------------------------------


def test_work_that_raises_is_lost_with_its_trace() -> None:
    def work(number: int) -> int:
        if number % 3 == 1:
            raise ValueError(f"odd {number}")
        return number

    results = ran(9, work)
    assert [result for result in results if isinstance(result, int)] == [0, 2, 3, 5, 6, 8]
    lost = [result for result in results if isinstance(result, Lost)]
    assert [each.why for each in lost] == ["ValueError: odd 1", "ValueError: odd 4", "ValueError: odd 7"]
    assert all('raise ValueError(f"odd {number}")' in each.trace for each in lost)


def test_memory_error_is_lost_and_others_go_on() -> None:
    def work(number: int) -> int:
        return len(bytearray(1 << 62)) if number == 1 else number

    results = ran(4, work)
    assert results[1] == Lost("MemoryError: ", results[1].trace)  # type: ignore[attr-defined]
    assert [results[0], *results[2:]] == [0, 2, 3]


def test_killed_once_is_retried_alone_and_others_are_unharmed(tmp_path: Path) -> None:
    def work(number: int) -> tuple[int, int, int]:
        start = time.monotonic_ns()
        if number in (3, 4, 11) and once(tmp_path, number):
            die()
        time.sleep(0.01)
        return number, start, time.monotonic_ns()

    results = [result for result in ran(20, work, 3) if isinstance(result, tuple)]
    assert [number for number, _, _ in results] == list(range(20))
    for number in (3, 4, 11):
        _, start, end = results[number]
        beside = [n for n, other_start, other_end in results if n != number and other_start < end and start < other_end]
        assert beside == []


def test_a_worker_killed_among_many_quick_tasks_loses_only_the_one_it_was_at() -> None:
    """Quick workers hold many tasks, and their answers lie in the pipe for a while: none of both is taken for lost."""

    def work(number: int) -> int:
        if number in (700, 701, 1500):
            die()
        return number

    results = ran(2000, work)
    assert {n: result for n, result in enumerate(results) if result != n} == {
        n: Lost("killed twice") for n in (700, 701, 1500)
    }


@pytest.mark.parametrize(
    ("waiting", "pace", "ahead"),
    [(1000, 0, 3), (1000, 1, 3), (1000, 10, 20), (1000, 400, 250), (20, 10, 5), (4, 10, 3), (10_000, 9999, 256)],
)
def test_a_quick_worker_holds_more_but_not_what_the_others_could_do(waiting: int, pace: int, ahead: int) -> None:
    idle = lambda *_: None  # noqa: E731
    crowd: pool.Pool[int, None] = pool.Pool(range(waiting), idle, idle, idle, idle, idle)
    crowd.workers = {fd: pool.Worker(0, -1, fd, -1) for fd in (1, 2)}
    crowd.workers[1].pace = pace
    assert crowd.ahead(crowd.workers[1]) == ahead


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGALRM])
def test_killed_twice_is_lost(number: signal.Signals) -> None:
    def work(task: int) -> int:
        if task == 2:
            die(number)
        return task

    results = ran(6, work)
    assert results == [0, 1, Lost("killed twice"), 3, 4, 5]


def test_every_task_kills_its_worker() -> None:
    assert ran(5, lambda _: die(), 2) == [Lost("killed twice")] * 5


def test_a_worker_that_cannot_begin() -> None:
    def refuse() -> None:
        raise OSError("no")

    results = pool.run(range(3), lambda n: n, 2, lambda *_: None, lambda *_: -1, in_child=refuse)
    assert results == [-1] * 3


def test_the_tool_of_a_killed_worker_is_killed(tmp_path: Path) -> None:
    def work(number: int) -> int:
        if number == 1 and once(tmp_path, 1):
            tool = subprocess.Popen(["sleep", "600"])
            (tmp_path / "tool").write_text(str(tool.pid))
            die()
        return number

    assert ran(4, work) == [0, 1, 2, 3]
    assert gone([int((tmp_path / "tool").read_text())])


def test_an_error_of_the_caller_ends_the_workers() -> None:
    def done(task: int, result: object) -> None:
        raise ZeroDivisionError(f"{task} {result}")

    with pytest.raises(ZeroDivisionError):
        ran(10, lambda _: os.getpid(), 2, done=done)


# --- processes and handles that cannot be had ------------------------------------------------------------------------


def test_more_workers_than_open_files_are_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (140, hard))
    try:
        results = ran(200, lambda _: slow(os.getpid, 0.001), 200)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 2 <= len(set(results)) <= (140 - pool.SPARE_FDS) // 3


def test_no_worker_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(WorkerError, match="no worker process can be started: Resource temporarily unavailable"):
        ran(3, lambda n: n)


def test_fewer_workers_than_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also in the place of one that was killed."""
    fork, left = os.fork, [2]

    def sparing() -> int:
        if not left[0]:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        left[0] -= 1
        return fork()

    def work(number: int) -> int:
        time.sleep(0.002)
        if number == 5 and once(tmp_path, 5):
            left[0] = 0
            die()
        return os.getpid()

    monkeypatch.setattr(os, "fork", sparing)
    with pytest.raises(WorkerError):  # nobody is there for the task that is to be retried alone
        ran(30, work, 9)
    left[0] = 2
    assert len(set(ran(30, work, 9))) == 2


# --- signals to the parent -------------------------------------------------------------------------------------------

PARENT = """
import os, subprocess, sys
from pkghook import pool, stopping
from pkghook.errors import Interrupted

def work(number):
    tool = subprocess.Popen(["sh", "-c", "sleep 600 & echo $! $$ >> '" + sys.argv[1] + "'; wait"])
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()} {tool.pid}\\n")
    tool.wait()

with stopping.stoppable(last=True):  # as the command line does: a late signal must not cut the end short
    try:
        pool.run(range(9), work, 3, lambda *_: None, lambda *_: None)
    except Interrupted as stop:
        print(stop.message, flush=True)
        status = stop.exit_status
sys.exit(status)
"""


class Parent:
    """A process of its own with three workers, each waiting for a tool that has started another."""

    def __init__(self, place: Path, *wrapper: str) -> None:
        self.log = place / "pids"
        self.log.touch()
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", PARENT, str(self.log)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert until(lambda: len(self.pids()) >= 9)

    def pids(self) -> set[int]:
        """Workers, tools, and what these have started."""
        return {int(word) for word in self.log.read_text("ascii").split()}

    def ended(self) -> tuple[int, str, str]:
        """Exit status, stdout and stderr; nobody may be left a second later."""
        out, err = self.process.communicate(timeout=10)
        assert gone(self.pids())
        return self.process.returncode, out, err


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[Parent]:
    """A parent that is busy."""
    yield from guarded(Parent(tmp_path))


def guarded(started: Parent) -> Iterator[Parent]:
    """Kill what a failed test leaves."""
    try:
        yield started
    finally:
        if started.process.poll() is None:
            kill([started.process.pid])
        kill(filter(alive, started.pids()))
        started.process.communicate()


def test_killed_parent_leaves_nobody(parent: Parent) -> None:
    parent.process.kill()
    assert parent.ended() == (-signal.SIGKILL, "", "")


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, EXIT_SIGTERM, "interrupted by SIGTERM\n"),
        (signal.SIGINT, EXIT_SIGINT, "interrupted by SIGINT\n"),
    ],
)
def test_signal_to_the_parent(parent: Parent, number: signal.Signals, status: int, said: str) -> None:
    parent.process.send_signal(number)
    assert parent.ended() == (status, said, "")


def test_interrupt_from_the_terminal(parent: Parent) -> None:
    """The terminal signals the whole foreground process group."""
    os.killpg(parent.process.pid, signal.SIGINT)
    assert parent.ended() == (EXIT_SIGINT, "interrupted by SIGINT\n", "")


def test_many_signals_at_once(parent: Parent) -> None:
    """Ctrl-C by an impatient user, passed on by a `make` above."""
    for _ in range(20):
        for number in stopping.SIGNALS:
            parent.process.send_signal(number)
    status, out, err = parent.ended()
    assert (status, out) in {
        (EXIT_SIGINT, "interrupted by SIGINT\n"),
        (EXIT_SIGTERM, "interrupted by SIGTERM\n"),
    }
    assert err == ""


def test_ignored_interrupt_stays_ignored(tmp_path: Path) -> None:
    """A shell starts what runs in the background like this."""
    deaf = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    for started in guarded(Parent(tmp_path, *deaf)):
        started.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert started.process.poll() is None
        started.process.send_signal(signal.SIGTERM)
        assert started.ended()[0] == EXIT_SIGTERM


STRIKE = 'while [ $(ls "$0" | wc -l) -lt 2 ]; do sleep 0.01; done; kill -TERM $1; kill -INT $1'


def test_interrupted_here(tmp_path: Path) -> None:
    """In this process: raised once, also where the caller has a `stoppable` of its own; handlers as before."""

    def work(_: int) -> None:
        (tmp_path / str(os.getpid())).touch()
        time.sleep(600)

    with (
        pytest.raises(Interrupted),
        stopping.stoppable(),
        subprocess.Popen(["sh", "-c", STRIKE, str(tmp_path), str(os.getpid())]),  # its end is waited for before theirs
    ):
        ran(2, work)
    assert gone(int(path.name) for path in tmp_path.iterdir())


def test_large_tasks_that_come_first_are_shared_out() -> None:
    """Three tasks for two workers: none gets all of them."""
    assert len(set(ran(3, lambda _: slow(os.getpid, 0.05)))) == 2


def test_eager_workers_have_most_of_the_tasks_before_the_parent_does_something_else(tmp_path: Path) -> None:
    def meanwhile() -> None:
        assert until(lambda: len(list(tmp_path.iterdir())) >= 70)

    def work(number: int) -> int:
        (tmp_path / str(number)).touch()
        return number

    done = pool.run(range(100), work, 2, lambda *_: None, lambda *_: -1, meanwhile=meanwhile, eager=True)
    assert done == list(range(100))


# --- a worker that must not be torn away -----------------------------------------------------------------------------


def test_a_worker_finishes_what_it_holds_signals_off_for(tmp_path: Path) -> None:
    """Replacing a module under several names is such a thing."""

    def work(_: int) -> None:
        with stopping.undisturbed():
            (tmp_path / "begun").touch()
            time.sleep(0.3)
            (tmp_path / "finished").touch()
        time.sleep(600)

    def done(*_: object) -> None:
        until((tmp_path / "begun").exists)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pool.run(range(2), lambda n: work(n) if n else None, 2, done, lambda *_: None)
    assert (tmp_path / "finished").exists()


def test_a_worker_that_will_not_end_is_killed(tmp_path: Path) -> None:
    def work(_: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (tmp_path / str(os.getpid())).touch()
        time.sleep(600)

    def done(*_: object) -> None:
        until(lambda: list(tmp_path.iterdir()))
        raise ZeroDivisionError

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        pool.run(range(2), lambda n: work(n) if n else None, 2, done, lambda *_: None)
    assert time.monotonic() - start < pool.GRACE + 2
