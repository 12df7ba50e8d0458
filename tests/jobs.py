"""Whole runs of the command on copies of real kernels, as users start them: a tree in, status and receipt out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pkghook.judge import receipt as receipts
from pkghook.judge.receipt import Receipt
from pkghook.model import Attempt, Entry, Proof, State
from tests.setup import room
from tests.setup.apt import SetupError
from tests.support import lacking, need_kernel

CHECKOUT = Path(__file__).resolve().parents[1]


class Job(NamedTuple):
    """A run that has ended."""

    root: Path
    status: int
    out: str
    err: str
    receipt: Receipt

    @property
    def states(self) -> dict[State, int]:
        """How many modules ended in each state that occurs."""
        return {state: count for state, count in self.receipt.totals.states if count}

    @property
    def entries(self) -> dict[str, Entry]:
        """Entries by path."""
        return {entry.path: entry for entry in self.receipt.entries}

    def entry(self, name: str) -> Entry:
        """The entry of the module with this file name."""
        (found,) = (entry for path, entry in self.entries.items() if Path(path).name == name)
        return found

    def findings(self, path: str) -> list[str]:
        """Ids of what was found of one module."""
        return [finding.id for finding in self.entries[path].findings]


def run(*args: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """pkghook from this checkout, without settings of whoever runs the tests; `path` is its PATH."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PKGHOOK_")}
    environment = {**kept, "PYTHONPATH": str(CHECKOUT), **({} if path is None else {"PATH": path})}
    argv = [sys.executable, "-m", "pkghook", *map(str, args)]
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)


def strip(root: Path, *options: str | Path, path: str | None = None) -> Job:
    """`pkghook strip ROOT`; its receipt is read back, which checks that it adds up."""
    where = root.with_name(f"{root.name}.receipt.json")
    done = run("strip", root, "--receipt", where, *options, path=path)
    assert done.returncode in (0, 1), done.stderr
    return Job(root, done.returncode, done.stdout, done.stderr, receipts.read(str(where)))


def verified(job: Job, number: int, step: str = "") -> Job:
    """That all `number` modules of the tree were stripped and proven, by `step` if one is given."""
    assert job.status == 0, job.out
    assert job.states == {State.STRIPPED: number}, job.out
    assert dict(job.receipt.totals.proofs)[Proof.VERIFIED] == number
    assert {entry.step for entry in job.receipt.entries} == {step} or not step
    return job


def same(before: Path, after: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`pkghook verify` of two trees, which must be content."""
    done = run("verify", before, after, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def attempts(entry: Entry) -> list[tuple[str, str]]:
    """Step and outcome of each attempt at a module."""
    return [(attempt.step, attempt.outcome.value) for attempt in entry.attempts]


def last(entry: Entry) -> Attempt:
    """The attempt that counted."""
    return entry.attempts[-1]


# --- trees -----------------------------------------------------------------------------------------------------------


def kernel_tree(corpus: Path, kernel: str, part: str) -> Path:
    """The `lib/modules` of one part of a kernel in the corpus."""
    return next(need_kernel(corpus, kernel, part).glob("**/lib/modules"))


def plant(root: Path, lib_modules: Path, only: Iterable[Path] | None = None) -> list[Path]:
    """A buildroot at `root` with the modules of a `lib/modules`, or `only` some, at the same places; its modules."""
    if only is None:
        home = root / "lib"
        home.mkdir(parents=True)
        subprocess.run(["cp", "-a", "--reflink=auto", lib_modules, home / "modules"], check=True)
    else:
        for path in only:
            copy = root / "lib" / "modules" / path.relative_to(lib_modules)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    return modules_of(root)


def modules_of(root: Path) -> list[Path]:
    """Every module below a root."""
    return sorted(path for path in root.rglob("*.ko*") if path.is_file())


def size_of(lib_modules: Path) -> int:
    """Bytes of all modules below."""
    return sum(path.stat().st_size for path in modules_of(lib_modules))


@contextmanager
def roomy(wanted: int, otherwise: Path) -> Iterator[Path]:
    """A directory for a while in which `wanted` bytes have room; the test is skipped where there is none."""
    try:
        place = room.find(wanted, otherwise)
    except SetupError as error:
        lacking(str(error))
    with room.made(place) as scratch:
        yield scratch


class Facts(NamedTuple):
    """What must not change of a file that is left alone."""

    inode: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    data: bytes


def facts(root: Path) -> dict[Path, Facts]:
    """Of every file below a root. That the ctime stays says that nobody has touched it at all."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file():
            data, status = path.read_bytes(), path.stat()
            found[path] = Facts(status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_mode, data)
    return found
