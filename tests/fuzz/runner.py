"""Targets fed by processes of their own, two at a time, and what came of it; a run that was ended goes on where it was.

`HOME/TARGET/done.json` adds up the runs of one state of the code: a digest over the modules that the target reaches
and over this directory.  After a change of those the count begins anew, with the corpus that was found before.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from tests.repo.tree import ROOT, imports
from tests.repo.tree import modules as ours

BESIDES = 2  # processes
HERE = Path(__file__).resolve().parent
BESIDE = {"__main__", "cover", "runner", "seeds", "test_fuzz"}  # what is run with an input does not depend on these
READY = 3  # seconds until a process has read the code and the seeds
POLL = 0.5  # seconds
WHEELS = "and there are wheels for Python 3.11 to 3.13 on x86_64"
STORY = 60  # lines
REPORT = 60  # seconds
PATIENCE = 60  # seconds beyond those that a process was given


class Tally(NamedTuple):
    """What one target has behind it."""

    runs: int = 0
    refused: int = 0
    minutes: float = 0.0
    slowest: float = 0.0  # seconds of processor time of the dearest input
    memory: int = 0  # bytes of the largest

    def plus(self, more: dict[str, Any]) -> Tally:
        """With what a process says of itself."""
        return Tally(
            self.runs + more["runs"],
            self.refused + more["refused"],
            self.minutes + more["minutes"],
            max(self.slowest, more["slowest"]),
            max(self.memory, more["memory"]),
        )


class Work(NamedTuple):
    """One target and how long it is fed: so many runs, or so many seconds."""

    name: str
    readers: tuple[str, ...]
    runs: int = 0
    seconds: int = 0


class Outcome(NamedTuple):
    """What came of it."""

    work: Work
    tally: Tally
    found: tuple[Path, ...]  # inputs, each with its traceback in a `.txt` beside it


def missing() -> str:
    """Why nothing can be run here; "" if it can."""
    if importlib.util.find_spec("atheris"):
        return ""
    version = ".".join(map(str, sys.version_info[:2]))
    return f"atheris is not installed; this is Python {version} on {os.uname().machine}, {WHEELS}"


def possible() -> bool:
    """Whether it could be installed here."""
    return sys.version_info < (3, 14) and os.uname().machine == "x86_64"


def story(path: Path) -> str:
    """What is known of a finding: its traceback, or else the end of what the process said."""
    told = path.with_name(path.name + ".txt")
    if told.exists():
        return told.read_text()
    return "\n".join((path.parent.parent / "log").read_text("utf-8", "replace").splitlines()[-STORY:])


def forget_mended(found: Path) -> None:
    """Take away the findings of an earlier run that are none any more."""
    for path in [path for path in sorted(found.glob("*")) if path.suffix != ".txt"]:
        argv = [sys.executable, "-m", "tests.fuzz", "--again", str(path)]
        try:
            done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            continue
        if not done.returncode:
            path.unlink()
            path.with_name(path.name + ".txt").unlink(missing_ok=True)


def run(works: Iterable[Work], home: Path, tell: Callable[[str], None], *, seed: int = 1) -> list[Outcome]:
    """All of it, the first first; `home` has the seeds already."""
    with ThreadPoolExecutor(BESIDES) as pool:
        return list(pool.map(lambda work: Feeding(work, home / work.name, tell, seed).run(), works))


class Feeding:
    """One target until it has had its runs."""

    def __init__(self, work: Work, home: Path, tell: Callable[[str], None], seed: int) -> None:
        self.work, self.home, self.tell, self.seed = work, home, tell, seed
        self.digest = digest(work.readers)
        self.before = self.earlier() if work.runs else Tally()

    def run(self) -> Outcome:
        """Start processes until it is done: one that died of an input left it in `found`."""
        (self.home / "found").mkdir(exist_ok=True)
        start = time.monotonic()
        while True:
            left = max(0, self.work.runs - self.before.runs)
            if self.work.runs and not left:
                break
            count, status = self.process(left)
            moved = count.runs > self.before.runs
            self.before = count
            self.keep()
            if status and not moved:
                self.complain(f"ended with {status} at once: {self.home / 'log'}")
                break
            if self.work.seconds and (not status or time.monotonic() - start > self.work.seconds):
                break
        return Outcome(self.work, self.before, tuple(sorted(self.inputs())))

    def process(self, left: int) -> tuple[Tally, int]:
        """One process; the count after it, and how it ended."""
        progress = self.home / "progress.json"
        progress.unlink(missing_ok=True)
        seed = self.seed + self.before.runs
        seconds = max(1, self.work.seconds - READY) if self.work.seconds else 0
        argv = [sys.executable, "-m", "tests.fuzz.worker", self.work.name, self.home, left, seconds, seed]
        start = noted = time.monotonic()
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (self.home / "log").open("ab") as log:
            child = subprocess.Popen(list(map(str, argv)), stdout=log, stderr=log, env=environment, cwd=ROOT)
            try:
                while child.poll() is None:
                    time.sleep(POLL)
                    now = time.monotonic()
                    if self.work.seconds and now - start > self.work.seconds + PATIENCE:
                        child.kill()
                    if now - noted > REPORT:
                        noted = now
                        self.keep(self.read(progress))
                        self.report(self.read(progress))
            finally:
                child.kill()
                child.wait()
        return self.read(progress), child.returncode

    def read(self, progress: Path) -> Tally:
        """What was before, and what the process says."""
        try:
            return self.before.plus(json.loads(progress.read_text()))
        except FileNotFoundError:
            return self.before

    def inputs(self) -> list[Path]:
        """The findings."""
        return [path for path in (self.home / "found").iterdir() if path.suffix != ".txt"]

    def complain(self, what: str) -> None:
        """A finding without an input."""
        path = self.home / "found" / f"{self.work.name}-process"
        path.write_bytes(b"")
        path.with_name(path.name + ".txt").write_text(what)

    def report(self, count: Tally) -> None:
        """A line for who waits."""
        self.tell(line(Outcome(self.work, count, tuple(self.inputs()))))

    # --- counts that last

    def earlier(self) -> Tally:
        """What the same code has behind it."""
        try:
            told = json.loads((self.home / "done.json").read_text())
        except FileNotFoundError:
            return Tally()
        return Tally(**told["count"]) if told["digest"] == self.digest else Tally()

    def keep(self, count: Tally | None = None) -> None:
        """For the next time."""
        if self.work.runs:
            told = {"digest": self.digest, "count": (count or self.before)._asdict()}
            scratch = self.home / f"done.{threading.get_ident()}"
            scratch.write_text(json.dumps(told))
            scratch.rename(self.home / "done.json")


def line(outcome: Outcome) -> str:
    """In words."""
    work, count = outcome.work, outcome.tally
    speed = count.runs / (count.minutes * 60) if count.minutes else 0
    wanted = f" of {work.runs:,}" if work.runs else ""
    return (
        f"{work.name}: {count.runs:,}{wanted} runs, {speed:.0f} a second, "
        f"{count.refused / max(1, count.runs):.0%} refused, "
        f"slowest {count.slowest:.2f} s, most memory {count.memory / (1 << 20):.1f} MiB, {len(outcome.found)} findings"
    )


def digest(readers: Iterable[str]) -> str:
    """Of the code that the readers reach, and of what feeds them; comments and layout do not count."""
    todo, seen = list(readers), set()
    while todo:
        name = todo.pop()
        if name in ours() and name not in seen:
            seen.add(name)
            todo += [found.target for found in imports(name)]
    fed = [path for path in HERE.glob("*.py") if path.stem not in BESIDE]
    paths = [*(ours()[name] for name in seen), *fed]
    trees = [ast.dump(ast.parse(path.read_text("utf-8"))) for path in sorted(paths)]
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()
