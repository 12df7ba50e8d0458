"""`shim.c` from Python: built, told what is to happen, asked what has happened."""

from __future__ import annotations

import mmap
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from tests.processes import until
from tests.support import need_tool

HEAD = struct.Struct("=2q512s")  # as in shim.c
RULE = struct.Struct("=7q32s128s")
PLACE = struct.Struct("=3q")
RULES, PLACES = 16, 250
SIZE = HEAD.size + RULES * RULE.size + PLACES * PLACE.size
ALWAYS = -1
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")


class Action(IntEnum):
    """What a rule does to the call that it fits."""

    FAIL = 1
    STOP = 2
    KILL = 3
    SHORT = 4


class Phase(IntEnum):
    """How far a process is: the parent with the run, a worker with its module."""

    START = 0  # the interpreter; nothing of the tree has been looked at
    WALK = 1
    WORK = 2  # the workers are at it
    TIDY = 3
    TELL = 4  # the receipt is being written
    TOLD = 5
    IDLE = 6  # a new worker
    READING = 7
    WRITING = 8  # into the scratch file; or an outside tool does
    WRITTEN = 9  # the scratch file is whole, is read back and proven, and has not taken the module's place
    RENAMING = 10
    RENAMED = 11  # also until the next module is opened


class Rule(NamedTuple):
    """What is to happen at a call: create, open, look, pread, write, fsync, rename, link, unlink, mkdir, chmod, lock.

    `name` is a part of the path; the first `skip` calls that fit are spared, `times` come after them.
    """

    call: str
    action: Action = Action.FAIL
    value: int = 0  # an errno, or how many bytes a short call gets
    name: str = ""
    skip: int = 0
    times: int = 1
    after: bool = False  # when the call has done its work


class Place(NamedTuple):
    """One process."""

    pid: int
    phase: Phase
    stopped: bool


class Board:
    """The file that the processes of one run share with us. Calls below `scope` count."""

    def __init__(self, path: Path, scope: Path, *rules: Rule) -> None:
        assert len(rules) <= RULES
        self.path = path
        path.write_bytes(HEAD.pack(0, 0, str(scope).encode()) + bytes(SIZE - HEAD.size))
        with path.open("r+b") as file:
            self.map = mmap.mmap(file.fileno(), SIZE)
        for number, rule in enumerate(rules):
            fields = (rule.after, rule.skip, rule.times, rule.action, rule.value, 0, 0)
            RULE.pack_into(self.map, self._at(number), *fields, rule.call.encode(), rule.name.encode())

    def _at(self, number: int) -> int:
        return HEAD.size + number * RULE.size

    @property
    def calls(self) -> int:
        """How many calls below the scope there were."""
        found: int = struct.unpack_from("=q", self.map)[0]
        return found

    @property
    def hits(self) -> int:
        """How often a rule did what it is for."""
        return sum(RULE.unpack_from(self.map, self._at(number))[6] for number in range(RULES))

    def seen(self) -> dict[str, int]:
        """How many calls each rule fits, by call."""
        rows = (RULE.unpack_from(self.map, self._at(number)) for number in range(RULES))
        return {row[7].rstrip(b"\0").decode(): row[5] for row in rows if row[3]}

    @property
    def places(self) -> list[Place]:
        """The processes so far, the parent first."""
        start = HEAD.size + RULES * RULE.size
        found = (PLACE.unpack_from(self.map, start + number * PLACE.size) for number in range(PLACES))
        return [Place(pid, Phase(phase), bool(stopped)) for pid, phase, stopped in found if pid]

    @property
    def stopped(self) -> list[int]:
        """Processes that wait at a rule."""
        return [place.pid for place in self.places if place.stopped]

    @contextmanager
    def held(self, process: subprocess.Popen[str]) -> Iterator[bool]:
        """While the first process that comes to a STOP rule stands there; False if none does before the end."""
        assert until(lambda: self.stopped or process.poll() is not None, 60)
        try:
            yield bool(self.stopped)
        finally:
            start = HEAD.size + RULES * RULE.size
            for number in range(PLACES):
                struct.pack_into("=q", self.map, start + number * PLACE.size + 16, 0)

    def close(self) -> None:
        """Of no more use."""
        self.map.close()


def build(place: Path) -> Path:
    """The shared object."""
    source, out = Path(__file__).with_name("shim.c"), place / "shim.so"
    argv = [need_tool("gcc"), *FLAGS, "-o", str(out), str(source)]
    subprocess.run(argv, check=True)
    return out
