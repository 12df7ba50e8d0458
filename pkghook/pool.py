"""Many modules at once: worker processes forked by ourselves, each told which module to work on.

Why not the standard library's pools: `multiprocessing.Pool` hangs when a worker is killed and
`ProcessPoolExecutor` breaks as a whole; here a killed worker costs its module one retry, alone.

Each worker leads a process group of its own, and the tools it starts belong to it.  When the parent
dies, however it dies, the kernel kills these groups: the last writer of a pipe without data goes
away, and its reader asked for SIGKILL to its group then (fcntl(2): F_SETOWN, F_SETSIG, O_ASYNC).
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import signal
import time
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Generic, TypeVar

from pkghook import stopping, stuck
from pkghook.errors import WorkerError
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Parcel = tuple[Callable[["R"], bytes | None], Callable[[bytes], "R"]]

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 3  # tasks given to a worker before it has answered, so that it never waits for the parent
# While tasks wait the parent looks for answers no oftener than this, in seconds: each look takes a processor away
# from a worker. Answers wait in the pipe meanwhile, where they outlive the worker; quick workers get more tasks ahead.
NAP = 0.008
LAST = 32  # tasks a worker: with no more waiting than that the parent stays awake, lest a worker wait for it
BLOCK = 1 << 16  # as much as a pipe holds
TASKS = 1 << 10  # bytes of task numbers that a worker takes at a time; a pipe takes in less than 4 KiB whole
GC_THRESHOLD = 100_000
_LENGTH = Struct("=I?")  # of an answer, and whether it was packed by the caller's means
_TASK = Struct("=I")
GRACE = 1.0  # seconds for a worker to finish a replacement that it has begun, when the run is given up
SPARE_FDS = 100  # of those a process may open, for all but the three that each worker costs


def pickled(value: object) -> bytes:
    """Any value on its way between parent and child."""
    import pickle  # which most runs have no need of

    return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)


def unpickled(data: bytes) -> Any:  # noqa: ANN401  whatever `pickled` was given
    """The value that `pickled` was given."""
    import pickle

    return pickle.loads(data)  # noqa: S301  from our own process


PICKLED: Parcel[Any] = (lambda _: None, unpickled)  # packs nothing, so that everything is pickled


class Lost(NamedTuple):
    """Why a task has no result of its own."""

    why: str  # "killed twice", or the exception that `work` raised: a fault of pkghook itself, or no memory
    trace: str = ""  # the traceback of that exception


class Worker:
    """The parent's side of one worker process."""

    __slots__ = ("answers", "buffer", "held", "life", "pace", "pid", "tasks")

    def __init__(self, pid: int, tasks: int, answers: int, life: int) -> None:
        self.pid, self.tasks, self.answers, self.life = pid, tasks, answers, life
        self.buffer = bytearray()
        self.held: deque[int] = deque()  # task numbers, the one worked on first
        self.pace = 0  # how many answers came with the last look

    def give(self, numbers: list[int]) -> None:
        """Hand over more tasks. A worker that has died meanwhile is noticed by its answers' end."""
        self.held += numbers
        try:
            os.write(self.tasks, b"".join(map(_TASK.pack, numbers)))
        except BrokenPipeError:
            return

    def ends(self) -> set[int]:
        """Our ends of its pipes that are still open."""
        return {self.tasks, self.answers, self.life} - {-1}


class Pool(Generic[T, R]):
    """One run of `work` over `tasks`; see `run`."""

    def __init__(  # noqa: PLR0913  as there
        self,
        tasks: Sequence[T],
        work: Callable[[T], R],
        done: Callable[[T, R], None],
        lost: Callable[[T, Lost], R],
        in_child: Callable[[], object],
        meanwhile: Callable[[], object],
        parcel: Parcel[R] = PICKLED,
        *,
        eager: bool = False,
    ) -> None:
        self.tasks, self.work, self.done, self.lost, self.in_child = tasks, work, done, lost, in_child
        self.meanwhile = meanwhile
        self.pack, self.unpack = parcel
        self.eager = eager
        self.results: dict[int, R] = {}
        self.workers: dict[int, Worker] = {}  # by the descriptor of their answers
        self.poll = select.poll()
        self.waiting = deque(range(len(tasks)))
        self.suspects: list[int] = []  # each held by a worker that was killed
        self.more = False  # whether further tasks may come, so that no worker goes

    def serve(self, jobs: int) -> None:
        """Work until no task waits, with `jobs` processes at the most."""
        for _ in range(min(jobs, len(self.waiting))):
            self.hire()
        first = AHEAD
        if self.eager and self.workers:
            share = 3 * len(self.tasks) // (4 * len(self.workers))
            first = max(AHEAD, min(share, TASKS // _TASK.size))
        for ahead in range(2, first + 1):  # the first tasks may be by far the largest: not all to one worker
            for worker in self.workers.values():
                self.feed(worker, ahead)
        self.meanwhile()
        while self.workers:
            self.turn()
            if len(self.waiting) > LAST * len(self.workers):
                time.sleep(NAP)

    def turn(self, milliseconds: int | None = None) -> None:
        """Take the answers that there are, wait for one at the most so long, and hand out more tasks."""
        for fd, _ in self.poll.poll(milliseconds):
            worker = self.workers[fd]
            data = os.read(fd, BLOCK)
            if data:
                self.take(worker, data)
                self.feed(worker, self.ahead(worker))
            else:
                with stopping.undisturbed():
                    self.poll.unregister(fd)
                    self.bury(worker)

    def ahead(self, worker: Worker) -> int:
        """How many tasks the worker shall have in hand: for two naps at its pace, but no more than its share."""
        share = len(self.waiting) // (2 * len(self.workers))
        return max(AHEAD, min(2 * worker.pace, share, TASKS // _TASK.size))

    def hire(self) -> None:
        """Fork one worker and give it its first task. Where no more can be had, those that there are do the work."""
        with stopping.undisturbed():
            try:
                worker = self.fork()
            except WorkerError:
                if self.workers:
                    return
                raise
            self.workers[worker.answers] = worker
        self.poll.register(worker.answers, select.POLLIN)
        self.feed(worker, 1)

    def feed(self, worker: Worker, ahead: int) -> None:
        """Keep the worker supplied; when nothing waits any more, let it end."""
        if worker.tasks < 0:  # it is about to
            return
        wanted = min(ahead - len(worker.held), len(self.waiting))
        if wanted > 0:
            worker.give([self.waiting.popleft() for _ in range(wanted)])
        if not (worker.held or self.more):
            tasks, worker.tasks = worker.tasks, -1  # before it is closed: a signal may come in between
            os.close(tasks)

    def take(self, worker: Worker, data: bytes) -> None:
        """Read complete answers out of what has arrived."""
        worker.buffer += data
        worker.pace = 0
        while len(worker.buffer) >= _LENGTH.size:
            length, packed = _LENGTH.unpack_from(worker.buffer)
            end = _LENGTH.size + length
            if len(worker.buffer) < end:
                return
            data = bytes(worker.buffer[_LENGTH.size : end])
            del worker.buffer[:end]
            worker.pace += 1
            number = worker.held.popleft()
            answer = self.unpack(data) if packed else unpickled(data)
            self.keep(number, self.lost(self.tasks[number], answer) if isinstance(answer, Lost) else answer)

    def keep(self, number: int, result: R) -> None:
        """One task is done."""
        self.results[number] = result
        self.done(self.tasks[number], result)

    def bury(self, worker: Worker) -> None:
        """The worker has ended: normally, or killed with tasks in its hands."""
        del self.workers[worker.answers]
        _kill_group(worker.pid)  # a tool of a killed worker lives on
        os.waitpid(worker.pid, 0)
        self.shut(worker)
        if worker.held:
            self.suspects.append(worker.held.popleft())
            self.waiting.extendleft(reversed(worker.held))
        if self.waiting:
            self.hire()

    def retry(self) -> None:
        """Each task that was in the hands of a killed worker once more, with no other beside it."""
        suspects, self.suspects = self.suspects, []
        for number in suspects:
            self.waiting.append(number)
            self.serve(1)
            if self.suspects:
                self.suspects.clear()
                self.keep(number, self.lost(self.tasks[number], Lost("killed twice")))

    def shut(self, worker: Worker) -> None:
        """Close what is still open to a worker."""
        for fd in worker.ends():
            os.close(fd)

    def end(self) -> None:
        """Stop every worker, kill its tools, and wait until they are gone.

        A worker that is just replacing a module under several names holds SIGTERM off until all have the new bytes.
        """
        for worker in self.workers.values():
            os.kill(worker.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE
        for worker in self.workers.values():
            while not _has_ended(worker.pid) and time.monotonic() < deadline:
                time.sleep(0.001)
            _kill_group(worker.pid)
            os.waitpid(worker.pid, 0)
            self.shut(worker)
        self.workers.clear()

    def fork(self) -> Worker:
        """A new worker. The caller keeps signals off while parent and child sort themselves out."""
        ends: list[int] = []  # of three pipes, each to read from, then to write to
        try:
            for _ in range(3):
                ends += os.pipe()
            pid = os.fork()
        except OSError as error:
            for fd in ends:
                os.close(fd)
            raise WorkerError(f"no worker process can be started: {error.strerror}") from error
        their_tasks, tasks, answers, their_answers, their_life, life = ends
        if pid == 0:
            for fd in (tasks, answers, life, *self.others()):
                os.close(fd)
            self.live(their_tasks, their_answers, their_life)
        _own_group(pid)
        for fd in (their_tasks, their_answers, their_life):
            os.close(fd)
        return Worker(pid, tasks, answers, life)

    def others(self) -> Iterator[int]:
        """The parent's ends of the pipes to other workers, which a child must not hold open."""
        for worker in self.workers.values():
            yield from worker.ends()

    def live(self, tasks: int, answers: int, life: int) -> None:
        """The child: never returns."""
        status = 1
        try:
            for number in stopping.SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            _own_group(0)
            _die_with_parent(life)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping.SIGNALS)
            stuck.end_when_stuck()
            # What the parent made stays shared with it, and our values hold no cycles worth looking for often.
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD)
            self.in_child()
            self.labour(tasks, answers)
            status = 0
        finally:
            os._exit(status)

    def labour(self, tasks: int, answers: int) -> None:
        """Work on what comes in until the parent closes the pipe."""
        while numbers := os.read(tasks, TASKS):
            for (number,) in _TASK.iter_unpack(numbers):
                answer = self.guarded(number)
                packed = None if isinstance(answer, Lost) else self.pack(answer)
                data = pickled(answer) if packed is None else packed
                _write_all(answers, _LENGTH.pack(len(data), packed is not None) + data)

    def guarded(self, number: int) -> R | Lost:
        """The result, or what our own code raised: one bad module never stops the others."""
        try:
            return self.work(self.tasks[number])
        except Exception as error:  # noqa: BLE001  the boundary of the process; the parent reports it
            import traceback

            return Lost(f"{type(error).__name__}: {error}", traceback.format_exc())


def run(  # noqa: PLR0913, PLR0917  what happens to tasks, results and processes, each by one callable
    tasks: Sequence[T],
    work: Callable[[T], R],
    jobs: int,
    done: Callable[[T, R], None],
    lost: Callable[[T, Lost], R],
    in_child: Callable[[], object] = lambda: None,
    meanwhile: Callable[[], object] = lambda: None,
    parcel: Parcel[R] = PICKLED,
    *,
    eager: bool = False,
) -> list[R]:
    """`work` on each of `tasks` in `jobs` forked processes; the results in the order of the tasks.

    Tasks start in the order given.  `done` is called in the parent as each result arrives; `lost`
    makes the result of a task whose worker was killed twice or raised; `in_child` is called once in
    each worker; `meanwhile` is called in the parent when the workers are busy, again before a retry,
    and is short, unless `eager` gives three quarters of all tasks to the workers before; `parcel` packs
    results for their way here, but for those that it answers with None, and unpacks them.  The caller has
    a single thread.  Raises Interrupted after SIGINT or SIGTERM, WorkerError when no process can be had; no
    worker and no tool is left in either case.
    """
    pool: Pool[T, R] = Pool(tasks, work, done, lost, in_child, meanwhile, parcel, eager=eager)
    with stopping.stoppable():
        try:
            pool.serve(min(max(1, jobs), most_workers()))
            pool.retry()
        finally:
            with stopping.undisturbed():
                pool.end()
    return [pool.results[number] for number in range(len(tasks))]


def most_workers() -> int:
    """How many workers the limit on open files allows."""
    limit = os.sysconf("SC_OPEN_MAX")
    return max(1, (limit - SPARE_FDS) // 3) if limit > 0 else 1 << 16


def _own_group(pid: int) -> None:
    """Parent and child both ask, so that it is true for both when they go on."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        return  # the child has done it and gone on


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays there to be waited for, and its number stays its own."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def _die_with_parent(life: int) -> None:
    fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    # A parent that died before this line sends no signal any more.
    if select.select([life], [], [], 0)[0]:
        os._exit(1)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
