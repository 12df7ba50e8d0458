"""Twenty seconds for each reader; `tests/run --full fuzz` has the full counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import NoReturn

import pytest

from pkghook.errors import ModuleError
from tests.conftest import Tell
from tests.fuzz import cover, mutators, runner, seeds
from tests.fuzz.oracle import BESIDE, TIMES, Cost, Excess, Meter, check
from tests.fuzz.runner import Tally, Work
from tests.fuzz.targets import TARGETS, Target
from tests.support import lacking

SECONDS = 20  # for each target, from the start of its process
SEED = 2009


def lack(why: str) -> NoReturn:
    """Where it could be there it is missed."""
    if runner.possible():
        lacking(f"not run: {why}")
    pytest.skip(f"not run: {why}")


@pytest.fixture(scope="module")
def home(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the seeds of all targets."""
    place = tmp_path_factory.mktemp("fuzz")
    for name in TARGETS:
        seeds.make(name, corpus, place / name / "seeds")
    return place


# --- what feeds them is what it says ---------------------------------------------------------------------------------


def test_memory_is_what_was_touched() -> None:
    meter = Meter()
    assert meter.cost(lambda: bytes(100 << 20)).memory < 10 << 20, "asked for, and never touched"
    assert meter.cost(lambda: bytearray(b"x") * (100 << 20)).memory > 95 << 20
    assert meter.cost(lambda: None).memory < 5 << 20, "what others took before is not counted"


@pytest.mark.parametrize("cost", [Cost(5.1, 0), Cost(0, BESIDE + TIMES * 100 + 1)])
def test_too_dear(cost: Cost) -> None:
    with pytest.raises(Excess):
        check(cost, 100)


def test_dear_enough() -> None:
    check(Cost(5.0, BESIDE + TIMES * 100), 100)


def fed(run: Callable[[bytes], None], home: Path) -> list[str]:
    """What is kept of two inputs."""
    if why := runner.missing():
        lack(why)
    from tests.fuzz.worker import Feeder

    (home / "found").mkdir()
    feeder = Feeder(Target(2, run, (ModuleError,), ()), home, 2)
    feeder.one(b"one")
    feeder.one(b"another")
    assert json.loads((home / "progress.json").read_text())["runs"] == 2
    return sorted(path.name.split("-")[1] for path in (home / "found").iterdir() if path.suffix != ".txt")


def test_each_finding_is_kept_once(tmp_path: Path) -> None:
    def broken(data: bytes) -> None:
        raise IndexError(data)

    assert fed(broken, tmp_path) == ["IndexError"]
    (told,) = (tmp_path / "found").glob("*.txt")
    assert "IndexError: b'one'" in told.read_text()
    assert told.with_suffix("").read_bytes() == b"one"


def test_what_takes_too_much_is_kept(tmp_path: Path) -> None:
    def hog(_: bytes) -> None:
        bytearray(b"x") * (100 << 20)

    assert fed(hog, tmp_path) == ["Excess"]


def test_what_is_refused_is_no_finding(tmp_path: Path) -> None:
    def refuse(_: bytes) -> None:
        raise ModuleError("not-elf")

    assert fed(refuse, tmp_path) == []


def test_counts_go_on_with_the_same_code(tmp_path: Path) -> None:
    work = Work("signature", TARGETS["signature"].readers, runs=10)
    feeding = runner.Feeding(work, tmp_path, print, 1)
    feeding.keep(Tally(7, 1, 0.5, 0.1, 100))
    assert runner.Feeding(work, tmp_path, print, 1).before == Tally(7, 1, 0.5, 0.1, 100)
    other = work._replace(readers=TARGETS["receipt"].readers)
    assert runner.Feeding(other, tmp_path, print, 1).before == Tally(), "another state of the code"


def test_what_was_mended_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "receipt-AssertionError-0123"
    path.write_bytes(b"{}")
    (tmp_path / f"{path.name}.txt").write_text("a traceback")
    (tmp_path / "nothing-known").write_bytes(b"a finding of a target that is not there")
    runner.forget_mended(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["nothing-known"]


@pytest.mark.parametrize("name", TARGETS)
def test_mutators_stand_what_they_make(name: str, home: Path) -> None:
    random = Random(SEED)  # noqa: S311  not a secret, but the same each time
    for path in (home / name / "seeds").iterdir():
        data = path.read_bytes()
        changed = {data := mutators.MUTATORS[name](data, random)[: TARGETS[name].longest] for _ in range(10)}
        assert len(changed) > 3, path.name
    for data in (b"", b"\x7fELF", b"\x1f\x8b", b"!<arch>\n", b"{}"):
        mutators.MUTATORS[name](data, random)


@pytest.mark.parametrize("name", ["compression", "signature"])
def test_seeds_reach_the_readers(name: str, home: Path) -> None:
    found = cover.measure(name, home / name / "seeds")
    assert found.taken <= found.all
    assert found.share > 60, found.missed


# --- the readers -----------------------------------------------------------------------------------------------------


def test_seconds_of_each_target(home: Path, tell: Tell) -> None:
    if why := runner.missing():
        lack(why)
    works = [Work(name, target.readers, seconds=SECONDS) for name, target in TARGETS.items()]
    outcomes = runner.run(works, home, tell, seed=SEED)
    for outcome in outcomes:
        tell(runner.line(outcome))
        assert outcome.tally.runs > 10 * len(list((home / outcome.work.name / "seeds").iterdir())), "hardly begun"
    found = [f"{path}:\n{runner.story(path)}" for each in outcomes for path in each.found]
    assert not found, "once more: python3 -m tests.fuzz --again FILE\n" + "\n".join(found)
