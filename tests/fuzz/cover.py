"""Branches of the readers that a set of inputs takes: `python3 -m tests.fuzz.cover TARGET DIRECTORY...`, as JSON.

The inputs are run once more, by coverage.py in a process of its own, without atheris: what it counts is what stands
in the source.  The runs of the target alone count, not what is run when a module is imported.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.repo.tree import ROOT


class Cover(NamedTuple):
    """Branches of a target's readers."""

    taken: int
    all: int
    missed: dict[str, list[list[int]]]  # file -> branches not taken, each from a line to a line (negative: the end)

    @property
    def share(self) -> float:
        """In percent."""
        return 100 * self.taken / self.all if self.all else 100.0


def measure(name: str, *directories: Path) -> Cover:
    """In another process."""
    argv = [sys.executable, "-m", "tests.fuzz.cover", name, *map(str, directories)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT)
    return Cover(**json.loads(done.stdout))


def count(name: str, directories: list[Path]) -> Cover:
    """In this process."""
    import coverage

    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    files = [str(importlib.import_module(reader).__file__) for reader in target.readers]
    recorder = coverage.Coverage(branch=True, include=files, data_file=None, config_file=False, messages=False)
    recorder.exclude("if TYPE_CHECKING:")
    recorder.start()
    for directory in directories:
        for path in sorted(directory.iterdir()):
            try:
                target.run(path.read_bytes())
            except target.errors:
                continue
    recorder.stop()
    with tempfile.NamedTemporaryFile() as out:
        recorder.json_report(outfile=out.name, ignore_errors=True)
        told = json.loads(Path(out.name).read_text("utf-8"))
    missed = {path: each["missing_branches"] for path, each in told["files"].items() if each["missing_branches"]}
    return Cover(told["totals"]["covered_branches"], told["totals"]["num_branches"], missed)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(count(sys.argv[1], list(map(Path, sys.argv[2:])))._asdict()))
