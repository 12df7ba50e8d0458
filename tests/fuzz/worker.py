"""One process that feeds one target, with atheris: `python3 -m tests.fuzz.worker TARGET HOME RUNS SECONDS`.

HOME has `seeds`; `corpus` grows there, `found` gets each finding once (by where it was raised, its input in a file,
its traceback beside it), `progress.json` how far it is.  It goes on after a finding; only what ends the process itself
(a crash of the interpreter, an input that never ends) leaves that to whoever started it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import atheris

with atheris.instrument_imports(include=["pkghook"]):
    from tests.fuzz import targets
    from tests.fuzz.targets import Target

from tests.fuzz import mutators
from tests.fuzz.oracle import Cost, Meter, check

NEVER = 30  # seconds of real time after which libFuzzer ends an input that does not end
ADDRESSES = 6 << 30  # bytes of address space: beyond any limit here, below what would hurt the machine
OFTEN = 1.0  # seconds between two notes of progress
ALONE = 3  # exit status
PLAIN = 0.25  # of the mutations that libFuzzer makes, which know nothing of formats


class Feeder:
    """Runs inputs, counts them and keeps findings."""

    def __init__(self, target: Target, home: Path, runs: int) -> None:
        self.target, self.home, self.runs = target, home, runs
        self.meter = Meter()
        self.count = 0
        self.seconds, self.memory = 0.0, 0  # of the most expensive inputs
        self.start = self.noted = time.monotonic()
        self.refused = 0
        self.parent = os.getppid()

    def one(self, data: bytes) -> None:
        """What atheris calls."""
        try:
            cost = self.meter.cost(lambda: self.accepts(data))
            check(cost, len(data))
        except Exception as error:  # noqa: BLE001  whatever it is: that is the question
            self.keep(data, error)
        else:
            self.enter(cost)
        self.count += 1
        now = time.monotonic()
        if now - self.noted > OFTEN or self.count == self.runs:
            self.noted = now
            self.note()

    def accepts(self, data: bytes) -> None:
        """Whether it is read or refused is all the same."""
        try:
            self.target.run(data)
        except self.target.errors:
            self.refused += 1

    def enter(self, cost: Cost) -> None:
        """Remember the dearest."""
        self.seconds, self.memory = max(self.seconds, cost.seconds), max(self.memory, cost.memory)

    def keep(self, data: bytes, error: Exception) -> None:
        """The first input of each finding."""
        frames = traceback.extract_tb(error.__traceback__)
        place = [f"{frame.name}:{frame.line}" for frame in frames if "/fuzz/worker.py" not in frame.filename]
        name = hashlib.sha256("\n".join([type(error).__name__, *place[-3:]]).encode()).hexdigest()[:12]
        path = self.home / "found" / f"{self.home.name}-{type(error).__name__}-{name}"
        if not path.exists():
            path.with_name(path.name + ".txt").write_text("".join(traceback.format_exception(error)))
            path.write_bytes(data)

    def note(self) -> None:
        """How far it is, for who waits; whole or not at all."""
        told = {
            "runs": self.count,
            "refused": self.refused,
            "minutes": (time.monotonic() - self.start) / 60,
            "slowest": self.seconds,
            "memory": self.memory,
        }
        scratch = self.home / "progress.new"
        scratch.write_text(json.dumps(told))
        scratch.rename(self.home / "progress.json")
        if os.getppid() != self.parent:
            os._exit(ALONE)  # nobody waits for this any more


def mutator(name: str) -> Callable[[bytes, int, int], bytes]:
    """What atheris asks for a new input: some by libFuzzer, most by who knows the format, some by both."""
    structural = mutators.MUTATORS[name]

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311  not a secret
        if random.random() < PLAIN:
            return bytes(atheris.Mutate(data, longest))
        return structural(data, random)[:longest]

    return mutate


def main(name: str, home: Path, runs: int, seconds: int, seed: int) -> None:
    """Does not return: libFuzzer ends the process."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    target = targets.TARGETS[name]
    for reader in target.readers:
        importlib.import_module(reader)
    for directory in ("corpus", "found"):
        (home / directory).mkdir(exist_ok=True)
    options = {
        "runs": runs or -1,
        "max_total_time": seconds,
        "seed": seed,
        "max_len": target.longest,
        "len_control": 0,
        "timeout": NEVER,
        "rss_limit_mb": 0,
        "artifact_prefix": f"{home}/found/{name}-",
        "print_final_stats": 1,
        "use_value_profile": 0,
    }
    argv = [
        sys.argv[0],
        *(f"-{key}={value}" for key, value in options.items()),
        str(home / "corpus"),
        str(home / "seeds"),
    ]
    feeder = Feeder(target, home, runs)
    fuzz: Any = atheris
    fuzz.Setup(argv, feeder.one, custom_mutator=mutator(name))
    fuzz.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:6]))
