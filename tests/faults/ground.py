"""The ground that faults happen on: a tree of real modules, what each becomes, and what may be there after a fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from pkghook.model import Compression, State
from tests import inprocess, modules
from tests.faults.shim import Action, Board, Rule
from tests.inprocess import HOME
from tests.jobs import CHECKOUT
from tests.processes import descendants, kill, until

LIMIT = 300 << 10  # bytes of an unstripped module: of many small ones more are begun and ended in the same time
LINKED = ("linked-1.ko", "linked-2.ko", "linked-3.ko")
CALLS = ("create", "open", "look", "pread", "write", "fsync", "rename", "link", "unlink", "mkdir", "chmod", "lock")
CHAINS = ("native", "objcopy", "eu-strip")  # whose right results are known
ENOUGH = 120.0  # seconds that a run may take on a busy machine


class Ground:
    """`number` real modules, three names for one of them, some compressed; and what they become, by SHA-256."""

    def __init__(self, place: Path, shim: Path, corpus: Path, number: int) -> None:
        self.place, self.shim = place, shim
        paths = modules.sample(corpus, "amd64", number, limit=LIMIT)[:number]
        assert len(paths) == number
        self.tree = inprocess.planted(place / "tree", paths)
        home = self.tree / HOME
        for path in sorted(home.iterdir())[1::8]:
            path.with_name(f"{path.name}.gz").write_bytes(inprocess.packed(path.read_bytes(), Compression.GZIP))
            path.unlink()
        first = min(home.iterdir())
        for name in LINKED:
            (home / name).hardlink_to(first)
        self.outside = place / "outside"
        self.outside.mkdir()
        for path in paths[:2]:
            shutil.copyfile(path, self.outside / path.name)
        self.original = inprocess.digests(self.tree)
        self.right: dict[str, set[str]] = {path: set() for path in self.original}
        self.calls: dict[str, int] = {}  # of an undisturbed run by the native step, with --fsync
        self.total = 0
        for chain in reversed(CHAINS):
            self._undisturbed(chain)
        self.modules = [path for path in self.original if self.original[path] not in self.right[path]]
        assert len(self.modules) == number + len(LINKED)

    def _undisturbed(self, chain: str) -> None:
        counters = [Rule(call, Action.SHORT, 1 << 40) for call in CALLS]
        with self.turn(*counters, options=("--chain", chain, "--fsync", "yes")) as turn:
            process = turn.start()
            _, err = process.communicate(timeout=ENOUGH)
            assert (process.returncode, err) == (0, "")
            self.calls, self.total = turn.board.seen(), turn.board.calls
            for path, digest in inprocess.digests(turn.root).items():
                self.right[path].add(digest)

    @contextmanager
    def turn(self, *rules: Rule, options: tuple[str, ...] = ()) -> Iterator[Turn]:
        """A fresh copy of the tree, to be worked on once."""
        place = self.place / "turn"
        place.mkdir()
        subprocess.run(["cp", "-a", self.tree, place / "root"], check=True)
        subprocess.run(["cp", "-a", self.outside, place / "outside"], check=True)
        turn = Turn(self, place, options, rules)
        try:
            yield turn
        finally:
            turn.end()
            shutil.rmtree(place)


class Turn:
    """One copy of the tree, and the runs over it."""

    def __init__(self, ground: Ground, place: Path, options: tuple[str, ...], rules: tuple[Rule, ...]) -> None:
        self.ground, self.place, self.options = ground, place, options
        self.root, self.receipt = place / "root", place / "receipt.json"
        self.prefix: tuple[str, ...] = ()  # of the command line, such as nsenter's
        self.view = self.root  # where the tests see the tree
        self.processes: list[subprocess.Popen[str]] = []
        self.board = Board(ground.place / "board", place, *rules)
        self.outside = inprocess.digests(place / "outside")

    def start(self, *options: str, board: Board | None = None) -> subprocess.Popen[str]:
        """`pkghook strip` under the shim, in a process group of its own, as a shell starts it."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(CHECKOUT),
            "LD_PRELOAD": str(self.ground.shim),
            "FAULTS_BOARD": str((board or self.board).path),
        }
        settings = [f"{name}={value}" for name, value in environment.items()]
        argv = [sys.executable, "-m", "pkghook", "strip", str(self.root), "-j2", "--receipt", str(self.receipt)]
        process = subprocess.Popen(
            [*self.prefix, "env", "-i", *settings, *argv, *self.options, *options],
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def reached(self, calls: float, process: subprocess.Popen[str]) -> bool:
        """Wait for a moment of the run; False if the run is over before."""
        until(lambda: self.board.calls >= calls or process.poll() is not None, ENOUGH)
        return process.poll() is None

    def end(self) -> None:
        """Nothing of the turn runs any more."""
        for process in self.processes:
            if process.poll() is None:
                kill({process.pid, *descendants(process.pid)})
            process.communicate()

    # --- what is there afterwards ---

    def judge(self, tally: Tally, also: Mapping[str, set[str]] = MappingProxyType({})) -> int:
        """Count what is lost and what is neither original nor verified; the result is how many are verified.

        `also` is what others have put there, by path.
        """
        ground = self.ground
        now = inprocess.digests(self.view)
        left = {path for path in now if "/.pkghook-" in path}
        lost = {path for path in ground.original if path not in now and path not in also}
        third = {
            path
            for path, digest in now.items()
            if path not in left
            and digest not in {ground.original.get(path), *also.get(path, ()), *ground.right.get(path, ())}
        }
        tally.faults += 1
        tally.lost += len(lost)
        tally.third += len(third)
        assert not lost, lost
        assert not third, third
        assert inprocess.digests(self.place / "outside") == self.outside, "outside the root"
        return sum(now.get(path) in ground.right[path] for path in ground.modules)

    def finish(self, tally: Tally, again: Callable[[], None] | None = None) -> None:
        """The next run does the rest, and leaves no scratch file anywhere."""
        if again:
            again()
        else:
            job = inprocess.strip(self.root, receipt=self.receipt)
            assert job.status == 0, job.out
            assert set(job.states) <= {State.STRIPPED, State.ALREADY_STRIPPED}
            assert {finding.id for finding in job.receipt.findings} <= {"scratch-left"}
        now = inprocess.digests(self.view)
        assert now.keys() == self.ground.original.keys()
        assert all(now[path] in self.ground.right[path] for path in self.ground.modules)
        assert {path.name for path in self.place.iterdir()} == {"root", "outside", "receipt.json"}
        assert inprocess.digests(self.place / "outside") == self.outside, "outside the root"
        tally.finished += 1

    def finish_inside(self) -> None:
        """The next run where the tree can only be reached with the prefix."""
        environment = [f"PATH={os.environ['PATH']}", f"PYTHONPATH={CHECKOUT}"]
        argv = [sys.executable, "-m", "pkghook", "strip", str(self.root), "--receipt", str(self.receipt)]
        done = subprocess.run(
            [*self.prefix, "env", "-i", *environment, *argv], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout


class Tally:
    """Counts over all turns of one kind of fault."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.faults = self.lost = self.third = self.finished = 0
        self.notes: Counter[str] = Counter()
        self.start = time.monotonic()

    def __str__(self) -> str:
        """The line for tests/RESULTS.md."""
        notes = ", ".join(f"{note} {count}" for note, count in sorted(self.notes.items()))
        return (
            f"{self.what}: {self.faults} faults, {self.lost} files lost, {self.third} in a third state, "
            f"{self.finished} finished by the next run, {time.monotonic() - self.start:.0f} s; {notes}"
        )


def settled(process: subprocess.Popen[str]) -> str:
    """How a disturbed run that was not killed ended, by exit status; what it says is one line, never a traceback."""
    _, err = process.communicate(timeout=ENOUGH)
    assert process.returncode in (0, 1, 2), err
    assert "Traceback" not in err, err
    assert (process.returncode == 2) == err.startswith("pkghook: error: "), err
    return f"status {process.returncode}"
