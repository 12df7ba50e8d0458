"""Runs over real modules that are cut short: every path whole, one line for the user, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pkghook import work
from pkghook.attempt import Order
from pkghook.findings import registry
from pkghook.model import State
from pkghook.sources import Found, place
from tests import inprocess, modules
from tests.inprocess import HOME
from tests.jobs import CHECKOUT
from tests.processes import descendants, gone, kill, leads, until
from tests.support import need_tool

NUMBER = 100
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
LINKED = ("linked-1.ko", "linked-2.ko", "linked-3.ko")


class Bench:
    """A hundred real modules, what they become, and copies of them to be worked on."""

    def __init__(self, place: Path, paths: list[Path]) -> None:
        self.before = inprocess.planted(place / "before", paths)
        after = self.copy(place / "after")
        start = time.monotonic()
        with self.start(after) as done:
            done.communicate()
        assert done.returncode == 0
        self.seconds = time.monotonic() - start
        self.original, self.verified = inprocess.digests(self.before), inprocess.digests(after)
        assert set(self.original) == set(self.verified)
        self.number = sum(self.original[path] != self.verified[path] for path in self.original)
        assert self.number >= NUMBER + len(LINKED)

    def copy(self, root: Path) -> Path:
        """The tree once more, with three names for one of its modules."""
        subprocess.run(["cp", "-a", self.before, root], check=True)
        home = root / HOME
        first = min(home.iterdir())
        for name in LINKED:
            if not (home / name).exists():
                (home / name).hardlink_to(first)
        if root.name == "after":
            for name in LINKED:
                (self.before / HOME / name).hardlink_to(self.before / HOME / first.name)
        return root

    def start(self, root: Path, *options: str, path: str = "") -> subprocess.Popen[str]:
        """`pkghook strip` as a process of its own, in a process group of its own, as a shell starts it."""
        return subprocess.Popen(
            [sys.executable, "-m", "pkghook", "strip", str(root), "-j2", *options],
            env={"PATH": path or os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def whole(self, root: Path, leftovers: set[str] = frozenset()) -> int:  # type: ignore[assignment]
        """Every path holds its original or the verified bytes, and there is nothing else; how many are verified."""
        now = inprocess.digests(root)
        assert set(now) - leftovers == set(self.original)
        assert all(now[path] in {self.original[path], self.verified[path]} for path in self.original)
        return sum(now[path] == self.verified[path] != self.original[path] for path in self.original)


@pytest.fixture(scope="module")
def bench(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """All runs of this file start from the same."""
    paths = modules.sample(corpus, "amd64", NUMBER, limit=1 << 20)
    assert len(paths) >= NUMBER
    return Bench(tmp_path_factory.mktemp("signals"), paths)


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """A PATH whose objcopy takes its time over each module, so that the run is surely in the middle of its work."""
    script = tmp_path / "bin" / "objcopy"
    script.parent.mkdir()
    real = need_tool("objcopy")
    script.write_text(f'#!/bin/sh\n[ $1 = --version ] || sleep 0.05\nexec {real} "$@"\n')
    script.chmod(0o755)
    return f"{script.parent}:{os.environ['PATH']}"


@pytest.fixture
def running(bench: Bench, tmp_path: Path, slow: str) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A tree, and a run over it that has replaced some of its modules."""
    root = bench.copy(tmp_path / "root")
    process = bench.start(root, "--chain", "objcopy", path=slow)
    try:
        assert until(lambda: bench_count(bench, root) >= 3)
        yield root, process
    finally:
        if process.poll() is None:
            kill({process.pid, *descendants(process.pid)})
        process.communicate()


def bench_count(bench: Bench, root: Path) -> int:
    """How many modules have been replaced, as far as sizes tell."""
    sizes = {path.name: path.stat().st_size for path in (bench.before / HOME).iterdir()}
    return sum(path.stat().st_size != sizes[path.name] for path in (root / HOME).glob("*.ko"))


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize("to", ["process", "group"])
def test_interrupted(
    bench: Bench, running: tuple[Path, subprocess.Popen[str]], number: signal.Signals, to: str
) -> None:
    """By `kill`, and by the terminal, which signals the whole group."""
    root, process = running
    there = descendants(process.pid)
    assert len(there) >= 2
    start = time.monotonic()
    (os.kill if to == "process" else os.killpg)(process.pid, number)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - start < 2
    assert (process.returncode, out) == (STATUS[number], "")
    assert err == f"pkghook: interrupted by {number.name}\n"
    assert gone(there)
    assert 0 < bench.whole(root) < bench.number


def test_the_next_run_does_the_rest(bench: Bench, running: tuple[Path, subprocess.Popen[str]]) -> None:
    root, process = running
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    job = inprocess.strip(root)
    assert job.status == 0
    assert set(job.states) == {State.STRIPPED, State.ALREADY_STRIPPED}
    assert job.receipt.findings == ()
    assert bench.whole(root) == bench.number


def test_impatient_user(bench: Bench, running: tuple[Path, subprocess.Popen[str]]) -> None:
    """A second and a third Ctrl-C do not stop the tidying up."""
    root, process = running
    for _ in range(20):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.001)
        if process.poll() is not None:
            break
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "pkghook: interrupted by SIGINT\n")
    bench.whole(root)


@pytest.mark.parametrize("number", STATUS)
def test_interrupted_at_any_moment(bench: Bench, tmp_path: Path, number: signal.Signals) -> None:
    """From the first line of Python to the last: never a traceback, never a path that is not whole."""
    luck = random.Random(str(number))  # noqa: S311  the same each time
    ends = set()
    for turn in range(8):
        root = bench.copy(tmp_path / str(turn))
        process = bench.start(root)
        time.sleep(bench.seconds * luck.uniform(0.25, 1.0))
        there = descendants(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        ends.add(process.returncode)
        assert process.returncode in {0, STATUS[number], -number}
        assert err in {"", f"pkghook: interrupted by {number.name}\n"}
        assert (out == "") == (process.returncode != 0)
        assert not there or gone(there)
        bench.whole(root)
    assert STATUS[number] in ends


def test_killed_at_any_moment(bench: Bench, tmp_path: Path) -> None:
    """No handler can help there. The next run does the rest, and removes what was left."""
    luck = random.Random(10)  # noqa: S311  the same each time
    in_the_middle = 0
    for turn in range(10):
        root = bench.copy(tmp_path / str(turn))
        process = bench.start(root)
        assert until(lambda: descendants(process.pid) or process.poll() is not None)  # noqa: B023
        time.sleep(bench.seconds * luck.uniform(0.0, 0.5))
        there = descendants(process.pid)
        process.kill()
        process.communicate(timeout=10)
        assert not there or gone(there)
        left = {path for path in inprocess.digests(root) if "/.pkghook-" in path}
        in_the_middle += 0 < bench.whole(root, left) < bench.number
        swept = {path for path in left if path.count("/") == 2}
        job = inprocess.strip(root)
        assert job.status == 0
        assert {(finding.id, finding.subject) for finding in job.receipt.findings} == {
            ("scratch-left", path) for path in swept
        }
        assert bench.whole(root) == bench.number
    assert in_the_middle >= 2


def test_worker_killed_is_nobodys_loss(bench: Bench, tmp_path: Path, slow: str) -> None:
    """As by the kernel when memory runs out: the run goes on with another one."""
    root = bench.copy(tmp_path / "root")
    process = bench.start(root, "--chain", "objcopy", path=slow)
    assert until(lambda: bench_count(bench, root) >= 3)
    os.kill(next(filter(leads, descendants(process.pid))), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "failed" not in out
    assert bench.whole(root) == bench.number


def test_worker_killed_twice_fails_its_module_alone(bench: Bench, tmp_path: Path) -> None:
    """A tool that takes its caller with it, each time it sees one of the modules."""
    root = bench.copy(tmp_path / "root")
    victim = sorted((root / HOME).iterdir())[50]
    before = victim.read_bytes()
    script = tmp_path / "bin" / "objcopy"
    script.parent.mkdir()
    real = need_tool("objcopy")
    size = f"[ $1 != --version ] && [ $(cat $2 | wc -c) = {len(before)} ]"
    script.write_text(f'#!/bin/sh\n{size} && kill -KILL $PPID\nexec {real} "$@"\n')
    script.chmod(0o755)
    job = inprocess.strip(root, "--chain", "objcopy", PATH=f"{script.parent}:{os.environ['PATH']}")
    entry = job.entry(victim.name)
    assert (job.status, entry.state) == (1, State.FAILED)
    assert [(finding.id, dict(finding.evidence)) for finding in entry.findings] == [
        ("worker-killed", {"why": "killed twice"})
    ]
    assert victim.read_bytes() == before
    assert job.states == {State.FAILED: 1, State.STRIPPED: len(job.entries) - 1}
    assert bench.whole(root) == bench.number - 1
    assert f"failed           {HOME}/{victim.name}: " in job.out


@pytest.mark.parametrize("debug", [False, True])
def test_fault_of_our_own_fails_its_module_alone(
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    debug: bool,  # noqa: FBT001
) -> None:
    """The traceback is for those who ask."""
    root = bench.copy(tmp_path / "root")
    victim = sorted((root / HOME).iterdir())[50]
    read = work._read  # noqa: SLF001

    def faulty(order: Order, found: Found, *rest: Any) -> object:  # noqa: ANN401
        if found.path.endswith(victim.name):
            raise ZeroDivisionError("a bug")
        return read(order, found, *rest)

    monkeypatch.setattr(work, "_read", faulty)
    told = inprocess.call("strip", root, *(["--debug"] if debug else []))
    assert told.status == 1
    line = f"error: {HOME}/{victim.name}: {registry()['internal-error'].title} (why: ZeroDivisionError: a bug)"
    assert line in told.out
    assert told.err.startswith("Traceback ") if debug else told.err == ""
    assert bench.whole(root) == bench.number - 1


def test_names_of_one_module_are_not_torn_apart(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the renames of a group neither signal has its way: all names have the new bytes, or none."""
    root = bench.copy(tmp_path / "root")
    relink = place._relink  # noqa: SLF001

    def late(*args: object, **kwargs: object) -> object:
        (tmp_path / "between").touch()
        time.sleep(0.1)
        return relink(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(place, "_relink", late)
    waiting = f"while [ ! -e '{tmp_path}/between' ]; do sleep 0.01; done; kill -INT {os.getpid()}"
    with subprocess.Popen(["sh", "-c", waiting]):
        told = inprocess.call("strip", root, "-j1")
    assert (told.status, told.err) == (130, "pkghook: interrupted by SIGINT\n")
    inodes = {(root / HOME / name).stat().st_ino for name in LINKED}
    assert len(inodes) == 1
    bench.whole(root)


def test_nothing_is_done_twice_at_once(running: tuple[Path, subprocess.Popen[str]]) -> None:
    """A second run finds the tree locked, says so and leaves it alone."""
    root, _ = running
    told = inprocess.call("strip", root)
    assert (told.status, told.out) == (2, "")
    message, hint = told.err.splitlines()
    assert message == f"pkghook: error: {root}: another pkghook works on this tree"
    assert hint.startswith("hint: wait until it has ended")
