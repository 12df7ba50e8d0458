"""Runs that are not alone: two on one tree, and somebody who changes the tree under their hands at a named point."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from tests import inprocess
from tests.conftest import Tell
from tests.faults.ground import ENOUGH, Ground, Tally, Turn, settled
from tests.faults.shim import ALWAYS, Action, Board, Rule
from tests.inprocess import HOME
from tests.surgery import native_strip

SEED = 2
BUSY = "another pkghook works on this tree"
COURSES = ("at once", "first one killed", "without locks")


def second(ground: Ground, turn: Turn, tally: Tally, course: str, luck: Random) -> None:
    """Two runs; the second begins at some moment of the first, or when that has just been killed."""
    rules = [Rule("lock", Action.FAIL, errno.ENOLCK, times=ALWAYS)] if course == "without locks" else []
    board = Board(ground.place / "second", turn.place, *rules)
    first = turn.start()
    turn.reached(luck.uniform(0, ground.total) if course != "without locks" else 0, first)
    if course == "first one killed":
        first.kill()
    other = turn.start(board=board)
    ends = []
    for process in (first, other):
        _, err = process.communicate(timeout=ENOUGH)
        assert "Traceback" not in err, err
        ends.append("busy" if BUSY in err else str(process.returncode))
    board.close()
    tally.notes[f"{course}: {' and '.join(ends)}"] += 1
    allowed = {"at once": {"0", "busy"}, "first one killed": {"0", "busy", "-9"}, "without locks": {"0", "1"}}
    assert set(ends) <= allowed[course], ends
    assert course != "at once" or "0" in ends


@pytest.mark.parametrize("number", [20, pytest.param(200, marks=pytest.mark.full)])
def test_two_runs_on_one_tree(ground_for: Callable[[int], Ground], number: int, tell: Tell) -> None:
    ground, luck = ground_for(number), Random(SEED)  # noqa: S311  the same each time
    tally = Tally("two runs on one tree")
    for each in range(number):
        course = COURSES[each % len(COURSES)]
        rules = [Rule("lock", Action.FAIL, errno.ENOLCK, times=ALWAYS)] if course == "without locks" else []
        with ground.turn(*rules) as turn:
            second(ground, turn, tally, course, luck)
            done = turn.judge(tally)
            assert course != "at once" or done == len(ground.modules)
            turn.finish(tally)
    tell(str(tally))


# --- changed under its hands -----------------------------------------------------------------------------------------


class Point(NamedTuple):
    """A moment of a worker's course with one module, and whether what others do to the path then is seen in time."""

    rule: Rule
    seen: bool = True


def points(victim: str, looks: int) -> dict[str, Point]:
    """By name. `looks` is how often an undisturbed run asks for the status of that path, the last two before rename."""
    scratch = "/.pkghook-"
    stop = Action.STOP
    return {
        # The bytes that are there when the status is first asked for are the module.
        "before open": Point(Rule("open", stop, name=victim), seen=False),
        "opened": Point(Rule("open", stop, name=victim, after=True), seen=False),
        "read": Point(Rule("pread", stop, name=victim, after=True)),
        "scratch made": Point(Rule("create", stop, name=scratch, after=True)),
        "written": Point(Rule("write", stop, name=scratch, after=True)),
        "before the last look": Point(Rule("look", stop, name=victim, skip=looks - 2)),
        # rename(2) cannot be told which file it may replace: a few microseconds remain.
        "before rename": Point(Rule("rename", stop, name=victim), seen=False),
        "renamed": Point(Rule("rename", stop, name=victim, after=True), seen=False),
    }


def replaced(path: Path, _: Path) -> None:
    """By another file."""
    other = path.with_name("new")
    other.write_bytes(b"somebody else's")
    other.rename(path)


def linked(path: Path, outside: Path) -> None:
    """To a module outside the root."""
    path.unlink()
    path.symlink_to(outside)


def truncated(path: Path, _: Path) -> None:
    """To half of it, in place."""
    os.truncate(path, path.stat().st_size // 2)


def written(path: Path, _: Path) -> None:
    """Other bytes, as many."""
    with path.open("r+b") as file:
        file.seek(64)
        file.write(b"somebody else's")


def removed(path: Path, _: Path) -> None:
    """It is gone."""
    path.unlink()


def piped(path: Path, _: Path) -> None:
    """A FIFO, which nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def led_away(path: Path, outside: Path) -> None:
    """Its directory is a link to another, in which there is a module of that name."""
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to(outside.parent)


CHANGES = (replaced, linked, truncated, written, removed, piped, led_away)
CHAINS = ("native", "objcopy")
MOVED = f"{Path(HOME).parent}/moved"


class Scene(NamedTuple):
    """The module whose path is changed: the largest, which is the first to be worked on."""

    ground: Ground
    path: str
    points: dict[str, Point]

    @classmethod
    def of(cls, ground: Ground, chain: str) -> Scene:
        """Its points, after a run that counts the looks at it."""
        plain = [path for path in (ground.tree / HOME).iterdir() if path.stat().st_nlink == 1]
        name = f"{HOME}/{max(plain, key=lambda path: (path.stat().st_size, path.name)).name}"
        with ground.turn(Rule("look", Action.SHORT, 0, name=name), options=("-j1", "--chain", chain)) as turn:
            assert settled(turn.start()) == "status 0"
            return cls(ground, name, points(name, turn.board.seen()["look"]))


def snapshot(root: Path, ground: Ground) -> dict[str, set[str]]:
    """What differs from the original tree, by path; in a directory that was moved verified bytes may be, too."""
    now = {path: digest for path, digest in inprocess.digests(root).items() if "/.pkghook-" not in path}
    found = {path: {digest} for path, digest in now.items() if ground.original.get(path) != digest}
    for path in found:
        if path.startswith(f"{MOVED}/"):
            found[path] |= ground.right[path.replace(MOVED, HOME)]
    return found | {path: {"nothing"} for path in ground.original.keys() - now.keys()}


def overtaken(scene: Scene, tally: Tally, name: str, change: Callable[[Path, Path], None], chain: str) -> None:
    """One change at one point, and what becomes of it."""
    ground, point = scene.ground, scene.points[name]
    with ground.turn(point.rule, options=("-j1", "--chain", chain)) as turn:
        victim = turn.root / scene.path
        shutil.copyfile(next(path for path in (turn.place / "outside").iterdir()), turn.place / "outside" / victim.name)
        turn.outside = inprocess.digests(turn.place / "outside")
        process = turn.start()
        with turn.board.held(process) as there:
            assert there, name
            time.sleep(0.01)  # what the kernel counts time in
            change(victim, turn.place / "outside" / victim.name)
            left = snapshot(turn.root, ground)
            theirs = {hashlib.sha256(native_strip(victim.read_bytes())).hexdigest()} if change is written else set()
            if name in {"before open", "opened"}:
                left.setdefault(scene.path, set()).update(theirs)
        status = settled(process)
        turn.judge(tally, left)
        tally.notes[status] += 1
        now = snapshot(turn.root, ground)
        if point.seen:
            assert status == "status 1", (name, change)
            assert now.get(scene.path) == left.get(scene.path), "what others put there stays"
        elif name == "before rename":
            tally.notes[f"path taken over by the verified bytes: {name}"] += now.get(scene.path) != left.get(scene.path)
        left.setdefault(scene.path, {"nothing"}).update(theirs)  # in the next run that is the module
        rest(turn, scene, left, tally)


def rest(turn: Turn, scene: Scene, left: dict[str, set[str]], tally: Tally) -> None:
    """The next run does all other modules, wherever they have gone."""
    ground = scene.ground
    inprocess.strip(turn.root, receipt=turn.receipt)
    now = inprocess.digests(turn.root)
    assert not [path for path in now if "/.pkghook-" in path]
    for path in set(ground.modules) - {scene.path}:
        assert (now.get(path) or now[path.replace(HOME, MOVED)]) in ground.right[path]
    assert now.get(scene.path, "nothing") in ground.right[scene.path] | left[scene.path]
    assert inprocess.digests(turn.place / "outside") == turn.outside
    tally.finished += 1


@pytest.mark.parametrize("number", [20, pytest.param(0, id="all", marks=pytest.mark.full)])
def test_changed_at_a_named_point(ground_for: Callable[[int], Ground], number: int, tell: Tell) -> None:
    ground, luck = ground_for(20), Random(SEED)  # noqa: S311  the same each time
    scenes = {chain: Scene.of(ground, chain) for chain in CHAINS}
    cells = [(chain, name, change) for chain in CHAINS for name in scenes[chain].points for change in CHANGES]
    tally = Tally("changed at a named point")
    for chain, name, change in luck.sample(cells, number) if number else cells:
        overtaken(scenes[chain], tally, name, change, chain)
    tell(str(tally))
