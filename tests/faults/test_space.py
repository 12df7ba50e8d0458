"""Runs that find no room, no right to write, or no memory: from the beginning, or all of a sudden in the middle.

Disks are file systems in memory, mounted where nobody but the run sees them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from signal import SIGABRT

import pytest

from tests import inprocess
from tests.conftest import Tell
from tests.faults.ground import ENOUGH, Ground, Tally, Turn, settled
from tests.faults.shim import Action, Phase, Rule
from tests.faults.space import Space, private, used
from tests.processes import gone
from tests.support import need_tool

SEED = 28
PAGE = 4096
WANTED = 12 * PAGE  # what one module needs, about
KINDS = ("small", "filled", "few inodes")


@pytest.fixture
def space() -> Iterator[Space]:
    """One for all turns of a test."""
    with private() as made:
        yield made


@contextmanager
def on_disk(ground: Ground, space: Space, *rules: Rule, options: tuple[str, ...] = ()) -> Iterator[Turn]:
    """A turn whose tree lies on a file system of its own, in the namespace."""
    with ground.turn(*rules, options=options) as turn:
        assert space.mount("-t", "tmpfs", "none", turn.root)
        try:
            assert space.run("cp", "-a", f"{ground.tree}/.", turn.root)
            turn.prefix, turn.view = space.prefix, space.view(turn.root)
            yield turn
        finally:
            turn.end()
            assert space.run(need_tool("umount"), "-l", turn.root)


def narrow(space: Space, turn: Turn, kind: str, spare: int) -> bool:
    """Leave so much room, in bytes or inodes; False if the file system would not have it."""
    size, inodes = used(turn.view)
    # 0 would stand for no limit
    option = f"nr_inodes={inodes + spare}" if kind == "few inodes" else f"size={size + spare}"
    return space.mount("-o", f"remount,{option}", turn.root)


def full(ground: Ground, space: Space, tally: Tally, kind: str, luck: Random) -> None:
    """One turn on a disk that is too small, or becomes so at a moment of the run."""
    options = luck.choice(((), ("--fsync", "yes"), ("--chain", "objcopy,native")))
    with on_disk(ground, space, options=options) as turn:
        if kind == "small":
            assert narrow(space, turn, kind, luck.randrange(WANTED // PAGE) * PAGE)
        elif kind == "few inodes":
            assert narrow(space, turn, kind, luck.randrange(4))
        process = turn.start()
        if kind == "filled":
            turn.reached(luck.uniform(0, ground.total), process)
            while process.poll() is None:
                narrow(space, turn, kind, 0)  # again and again: what replaced modules leave is taken at once
        status = settled(process)
        done = turn.judge(tally)
        tally.notes[f"{kind}: {status}"] += 1
        assert status != "status 0" or done == len(ground.modules)
        tally.faults -= status == "status 0"  # there was room enough after all
        assert space.mount("-o", "remount,size=50%,nr_inodes=100000", turn.root)
        turn.finish(tally, turn.finish_inside)


@pytest.mark.parametrize("number", [20, pytest.param(100, marks=pytest.mark.full)])
def test_full_disk(ground_for: Callable[[int], Ground], space: Space, number: int, tell: Tell) -> None:
    ground, luck = ground_for(number), Random(SEED)  # noqa: S311  the same each time
    tally = Tally("full disk")
    for turn in count():
        full(ground, space, tally, KINDS[turn % len(KINDS)], luck)
        if tally.faults == number:
            break
        assert turn < 3 * number, "most disks are full"
    tell(str(tally))
    for kind in KINDS:
        assert tally.notes[f"{kind}: status 1"], f"{kind} was never noticed"


def bound(space: Space, turn: Turn, options: str) -> bool:
    """Change the options of the bind mount; the kernel refuses while a file is open for writing."""
    return space.mount("-o", f"remount,bind,{options}", turn.root)


@pytest.mark.parametrize("number", [20, pytest.param(100, marks=pytest.mark.full)])
def test_read_only_in_the_middle(ground_for: Callable[[int], Ground], space: Space, number: int, tell: Tell) -> None:
    """A worker is held at the begin of a module until the mount is taken; by then the other has nothing to do."""
    ground, luck = ground_for(number), Random(SEED)  # noqa: S311  the same each time
    tally = Tally("read-only bind remount")
    for _ in range(number):
        rule = Rule("open", Action.STOP, name=f"{inprocess.HOME}/", skip=luck.randrange(len(ground.modules) * 9 // 10))
        with ground.turn(rule, options=luck.choice(((), ("--fsync", "yes")))) as turn:
            assert space.mount("--bind", turn.root, turn.root)
            try:
                turn.prefix, turn.view = space.prefix, space.view(turn.root)
                process = turn.start()
                with turn.board.held(process) as there:
                    assert there
                    deadline = time.monotonic() + ENOUGH
                    while not bound(space, turn, "ro") and time.monotonic() < deadline:
                        tally.notes["tried again while a file was open for writing"] += 1
                status = settled(process)
                assert turn.judge(tally) < len(ground.modules)
                tally.notes[status] += 1
                assert status == "status 1"
                assert bound(space, turn, "rw")
                turn.finish(tally, turn.finish_inside)
            finally:
                turn.end()
                assert space.run(need_tool("umount"), "-l", turn.root)
    tell(str(tally))


# --- memory ----------------------------------------------------------------------------------------------------------

HANGS = 10 * ENOUGH  # seconds until a worker that hangs in the interpreter has been ended, twice (pkghook/stuck.py)
LOWEST, HIGHEST = 4 << 20, 256 << 20  # bytes of address space between which the least that is enough is looked for
SPREAD = (0.92, 1.04)  # of that
# What CPython does where memory does not even suffice for the exception that says so: the end, or a word beside it.
ABORTED = "Fatal Python error: _PyErr_NormalizeException: Cannot recover from MemoryErrors"
UNRAISABLE = "Exception ignored in: <object repr() failed>\nTraceback (most recent call last):\nMemoryError: \n"


def enough(ground: Ground) -> int:
    """The least address space, about, with which a run comes to its end."""
    low, high = LOWEST, HIGHEST
    while high - low > 1 << 20:
        middle = (low + high) // 2
        with ground.turn() as turn:
            process = limited(turn, middle)
            process.communicate(timeout=HANGS)
            low, high = (middle, high) if process.returncode else (low, middle)
    return high


def limited(turn: Turn, size: int) -> subprocess.Popen[str]:
    """A run as after `ulimit -v`."""
    turn.prefix = ("sh", "-c", f'ulimit -v {size >> 10} && exec "$@"', "sh")
    return turn.start()


@pytest.mark.parametrize("number", [20, pytest.param(100, marks=pytest.mark.full)])
def test_little_memory(ground_for: Callable[[int], Ground], number: int, tell: Tell) -> None:
    ground, luck = ground_for(number), Random(SEED)  # noqa: S311  the same each time
    tally = Tally("ulimit -v")
    least = enough(ground)
    for _ in range(3 * number):
        if tally.faults == number:
            break
        with ground.turn() as turn:
            process = limited(turn, int(luck.uniform(*SPREAD) * least))
            out, err = process.communicate(timeout=HANGS)
            places = turn.board.places
            assert not places or gone([place.pid for place in places])
            if not places or places[0].phase is Phase.START:
                tally.notes["over before the tree was opened"] += 1
                assert process.returncode
            elif ABORTED in err:
                assert process.returncode == -SIGABRT
                tally.notes["ended by the interpreter"] += 1
            else:
                assert process.returncode in (0, 1, 2), err
                assert "Traceback" not in err.replace(UNRAISABLE, ""), err
                assert "pkghook: error: " in err if process.returncode == 2 else out or err
                tally.notes[f"status {process.returncode}"] += 1
            done = turn.judge(tally)
            assert process.returncode or done == len(ground.modules)
            tally.faults -= not process.returncode  # that was enough
            turn.prefix = ()
            turn.finish(tally)
    tell(str(tally))
    assert tally.faults == number
