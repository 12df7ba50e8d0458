"""Modules of a stream through worker processes: one reads on while others make digests and look.

The bytes lie in memory that all of them share, several modules' at a time, in one file that has no name: what is
copied there is read in its place.  It grows to the largest module and `SPARE`, so does each process that has seen it.
"""

from __future__ import annotations

import os
import time
from mmap import PAGESIZE, mmap
from struct import Struct
from typing import TYPE_CHECKING

from pkghook import pool, stopping
from pkghook.ko.file import Window
from pkghook.ko.look import look_at_image
from pkghook.ko.stranger import is_text
from pkghook.pool import Lost, Pool
from pkghook.sources.dirs import split
from pkghook.sources.sums import digest
from pkghook.stories.crowd import lost_module
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self, TextIO

    from pkghook.ko.look import Ask
    from pkghook.model import Looked
    from pkghook.pool import Worker
    from pkghook.settings import Settings
    from pkghook.sources.sums import Sum

SPARE = 16 << 20  # bytes beside the largest module, for those before and behind it
MAPPED = 1 << 28  # bytes of addresses at the least: to map more of them later costs a page fault for each page anew
HANDED = 8  # modules given to a worker before it has answered: enough while the parent reads a large one
NICE = 10  # what the workers give way by to the one that reads on: it has the most to do, and they wait for it
STEP = 1 << 20  # bytes of a large module between two words on how much of it is there
NAP = 0.0005  # seconds between two looks for such a word
_HEAD = Struct("=QQBB")  # bytes of the pickled task and of the module, steps of which are there, and all its steps
_DONE, _STEPS = _HEAD.size - 2, 255  # where the steps stand that are there: one byte, never seen half written


class Task(NamedTuple):
    """What a worker has to know of a module beside its bytes."""

    blank: Looked  # all that was known before
    algorithm: str  # of the digest to be made, as hashlib calls it; "" for none


class Stretch(NamedTuple):
    """Part of the package's own file, of which a digest is to be made."""

    fd: int  # as the parent opened it
    wanted: Sum


class Answer(NamedTuple):
    """What a worker found."""

    entry: Looked | None  # None for what has a module's name only: a text that lies beside lib/modules
    digest: str = ""  # hexadecimal, of the whole file, or of the stretch


class Shelf:
    """Memory that is shared with child processes, divided among several modules. Places and sizes in bytes."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("modules")
        self._limit = 0
        self._pages: mmap | None = None
        self._taken: dict[int, int] = {}  # begin and end of each place that is in use

    def take(self, size: int) -> int | None:
        """The place of `size` bytes, a multiple of the page size; None while others take too much room."""
        self._limit = max(self._limit, size + SPARE)
        begin = 0
        for start, end in sorted(self._taken.items()):
            if begin + size <= start:
                break
            begin = end
        if begin + size > self._limit:
            return None
        self._taken[begin] = begin + size
        return begin

    def give_back(self, begin: int) -> None:
        """The place is free again."""
        del self._taken[begin]

    def room(self, begin: int) -> memoryview:
        """The place, to be written to; to be let go of before another is asked for."""
        end = self._taken[begin]
        if end > os.fstat(self.fd).st_size:
            self._grow()
        return memoryview(self.pages(end))[begin:end]

    def pages(self, end: int) -> mmap:
        """All of it, as far as `end` at least; kept from call to call, since it costs a page fault for each page."""
        if self._pages is None or end > len(self._pages):
            self._pages = mmap(self.fd, 0)
        return self._pages

    def _grow(self) -> None:
        """What is not touched takes no memory, so there is more than is needed, where the process may have it."""
        try:
            os.ftruncate(self.fd, max(MAPPED, 2 * self._limit))
            self._pages = mmap(self.fd, 0)
        except OSError:
            os.ftruncate(self.fd, self._limit)
            self._pages = mmap(self.fd, 0)

    def close(self) -> None:
        """Give all of it back to the system."""
        self._pages = None
        os.close(self.fd)


class Belt(Pool[int, Answer]):
    """Takes modules as they come; the number of a task is that of the page where its place begins."""

    def __init__(self, ask: Ask, settings: Settings, err: TextIO) -> None:
        super().__init__((), self._look, lambda *_: None, self._lost, lambda: os.nice(NICE), lambda: None)
        self.tasks = range(1 << 32)
        self.more = True
        self._ask, self._settings, self._err = ask, settings, err
        self._jobs = min(max(1, settings.jobs), pool.most_workers())
        self._shelf = Shelf()
        self._open: dict[int, tuple[Task | Stretch, Callable[[Answer], None]]] = {}
        self._killed: set[int] = set()  # tasks whose worker was killed once

    def put(
        self, task: Task | Stretch, size: int, fill: Callable[[memoryview], object], done: Callable[[Answer], None]
    ) -> None:
        """One more module: `fill` is given room for its `size` bytes, piece by piece; `done` the answer some time.

        A worker has a large one in hand while it is filled.  Raises what `fill` raises, and what `done` raises for any
        module before; WorkerError.
        """
        words = pool.pickled(task)
        start = _pages(_HEAD.size + len(words))
        while (begin := self._shelf.take(start + _pages(size))) is None:
            self.turn()
        self._open[begin // PAGESIZE] = task, done
        steps = min(size // STEP, _STEPS) or 1
        with self._shelf.room(begin) as view:
            _HEAD.pack_into(view, 0, len(words), size, 0, steps)
            view[_HEAD.size : _HEAD.size + len(words)] = words
            if steps > 1:
                self.waiting.appendleft(begin // PAGESIZE)
                self._hand_out()
            with view[start : start + size] as room:
                self._fill(room, steps, fill, begin + _DONE)
        if steps == 1:
            self.waiting.append(begin // PAGESIZE)
            self._hand_out()
        self.turn(0)

    def _fill(self, room: memoryview, steps: int, fill: Callable[[memoryview], object], told: int) -> None:
        """Fill the room piece by piece; how many there are stands at byte `told` of the shelf each time."""
        for number, (begin, end) in enumerate(_pieces(len(room), steps), 1):
            with room[begin:end] as piece:
                fill(piece)
            # A system call on both sides: whoever sees this sees what was written before it.
            os.pwrite(self._shelf.fd, bytes([number]), told)

    def digest(self, fd: int, wanted: Sum, judge: Callable[[str], None], /) -> None:
        """The Digester of a pass whose modules lie on this belt."""
        self.put(Stretch(fd, wanted), 0, lambda _: None, lambda answer: judge(answer.digest))

    def finish(self) -> None:
        """Wait for all answers. Raises as `put` does."""
        self.more = False
        for worker in self.workers.values():
            self.feed(worker, HANDED)
        while self.workers:
            self.turn()

    def turn(self, milliseconds: int | None = None) -> None:
        """As for any pool; a killed worker's task is tried once more, by another."""
        super().turn(milliseconds)
        suspects, self.suspects = self.suspects, []
        for number in suspects:
            if number in self._killed:
                self.keep(number, self.lost(number, Lost("killed twice")))
            else:
                self._killed.add(number)
                self.waiting.append(number)
        if self.waiting:
            self._hand_out()

    def ahead(self, worker: Worker) -> int:
        """As many for each: there are never more than there is room for."""
        del worker
        return HANDED

    def keep(self, number: int, result: Answer) -> None:
        """A module is done, and its place free."""
        _, done = self._open.pop(number)
        self._killed.discard(number)
        self._shelf.give_back(number * PAGESIZE)
        done(result)

    def _hand_out(self) -> None:
        """Give out what waits, each to whoever has the least in hand; one worker more where none is idle."""
        busy = all(worker.held or worker.tasks < 0 for worker in self.workers.values())
        if busy and len(self.workers) < self._jobs:
            self.hire()
        while self.waiting and (able := [worker for worker in self.workers.values() if worker.tasks >= 0]):
            least = min(able, key=_load)
            if _load(least) == HANDED:
                return
            self.feed(least, _load(least) + 1)

    def _lost(self, number: int, lost: Lost) -> Answer:
        task = self._open[number][0]
        if isinstance(task, Stretch):
            return Answer(None, digest(*task))
        blank = task.blank
        return Answer(blank._replace(findings=(lost_module(blank.path, lost, self._settings, self._err),)))

    def _look(self, number: int) -> Answer:
        """In the worker."""
        begin, fd = number * PAGESIZE, self._shelf.fd
        length, size, _, steps = _HEAD.unpack(os.pread(fd, _HEAD.size, begin))
        task = pool.unpickled(os.pread(fd, length, begin + _HEAD.size))
        if isinstance(task, Stretch):
            return Answer(None, digest(*task))
        start = begin + _pages(_HEAD.size + length)
        whole = Window(self._shelf.pages(start + size), start, size)
        return _answer(task, whole, self._arriving(begin, size, steps), self._ask)

    def _arriving(self, begin: int, size: int, steps: int) -> Iterator[tuple[int, int]]:
        """The pieces of the module at that place, begin and end of each in bytes, when they are there."""
        there = 0
        for number, piece in enumerate(_pieces(size, steps), 1):
            while there < number and (there := os.pread(self._shelf.fd, 1, begin + _DONE)[0]) < number:
                time.sleep(NAP)
            yield piece

    def __enter__(self) -> Self:
        """The belt itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """No worker is left, whatever happened."""
        with stopping.undisturbed():
            self.end()
            self._shelf.close()


def _load(worker: Worker) -> int:
    return len(worker.held)


def _pages(size: int) -> int:
    """Bytes of the pages that `size` bytes need."""
    return -(-size // PAGESIZE) * PAGESIZE


def _pieces(size: int, steps: int) -> list[tuple[int, int]]:
    """Begin and end of each of about `steps` equal pieces."""
    step = -(-size // steps) or 1
    return [(at, min(at + step, size)) for at in range(0, size, step)]


def _answer(task: Task, whole: Window, pieces: Iterable[tuple[int, int]], ask: Ask) -> Answer:
    """What the bytes tell; `pieces` gives begin and end of each part when it is there."""
    blank, digest = task.blank, _digest(task.algorithm, whole, pieces)
    if not blank.kernel and is_text(whole):
        return Answer(None, digest)  # README.ko
    if ask.digests and task.algorithm == "sha256":
        blank = blank._replace(sha256=digest)
    return Answer(look_at_image(whole, split(blank.path)[1], blank, ask), digest)


def _digest(algorithm: str, whole: Window, pieces: Iterable[tuple[int, int]]) -> str:
    """Of all pieces; without an algorithm they are only waited for."""
    import hashlib

    made = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
    with memoryview(whole.data) as data, data[whole.start : whole.start + whole.size] as every:
        for begin, end in pieces:
            if made:
                made.update(every[begin:end])
    return made.hexdigest() if made else ""
