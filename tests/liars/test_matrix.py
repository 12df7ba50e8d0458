"""Every step whose work an outside tool does, by every way to lie, on real modules: the chain ends right in each cell.

Before an honest step the chain falls to that one, and its bytes are proven; alone it fails, and the original bytes
stay.  `tests/run` tries a seeded part of the cells, `tests/run --full liars` all.
"""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from pkghook.chain.steps import STEPS
from pkghook.ko import symbols
from pkghook.ko.plan import Drop
from pkghook.model import Attempt, Outcome, Proof, State
from tests.conftest import Tell
from tests.liars.room import Room
from tests.liars.ways import PASSED, WAYS, Subject, Way, subjects

SEED = 7
NUMBER = 40
OUTSIDE = tuple(step.name for step in STEPS.values() if step.tool)
LIST = ("--strip-symbols", "symbols.safe")
SUBJECTS = ("amd64", "signed", "gzip", "livepatch", "armel", "s390x")
LETTERS = {Outcome.REJECTED: "R", Outcome.FAILED: "F", Outcome.TIMED_OUT: "T", Outcome.PASSED: "p"}


def image_of(path: Path) -> bytes:
    """What is inside."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def cell(subject: Subject, step: str, way: Way, place: Path) -> Outcome | None:
    """Both runs of one cell; the outcome of the lie, None where the module has nothing to lie about."""
    if step == "objcopy-symbols":
        subject = subject._replace(drop=Drop(symbols.load(LIST[1])))
    forged = way.forge(subject) if way.forge else b""
    if forged is None:
        return None
    (place / "other").write_bytes(forged)
    room = Room(place, subject.data, subject.name, (*subject.options, *(LIST if step == "objcopy-symbols" else ())))
    room.lie(STEPS[step].tool, way.lie, other=place / "other")
    first = falls(room, subject, step, way)
    if way.outcomes != PASSED:
        room.path.write_bytes(subject.data)
        fails(room, subject, step, way)
    return first.outcome


def falls(room: Room, subject: Subject, step: str, way: Way) -> Attempt:
    """Before an honest step."""
    job = room.strip(step, "native")
    (entry,) = job.receipt.entries
    first, last = entry.attempts[0], entry.attempts[-1]
    assert (first.step, first.outcome in way.outcomes) == (step, True), first
    assert (last.step, last.outcome) == ("native" if way.outcomes != PASSED else step, Outcome.PASSED)
    assert (job.status, entry.state, entry.proof) == (0, State.STRIPPED, Proof.VERIFIED)
    assert ("fell-through" in {finding.id for finding in entry.findings}) == (way.outcomes != PASSED)
    assert image_of(room.path) == (subject.right if way.outcomes == PASSED else subject.plain)
    return first


def fails(room: Room, subject: Subject, step: str, way: Way) -> None:
    """Alone."""
    job = room.strip(step)
    (entry,) = job.receipt.entries
    (attempt,) = entry.attempts
    assert attempt.outcome in way.outcomes
    assert room.path.read_bytes() == subject.data
    if subject.name == "patch.ko":  # the policy for a livepatch module that no step can strip
        assert entry.state is State.KEPT
        return
    assert (job.status, entry.state, entry.proof) == (1, State.FAILED, Proof.NONE)
    assert [finding.id for finding in entry.findings] == ["chain-exhausted"]


def tried(corpus: Path, cells: list[tuple[str, str, str]], tmp_path: Path) -> dict[tuple[str, str], Counter[str]]:
    """What came of cells (subject, step, way), by way and step."""
    found: dict[tuple[str, str], Counter[str]] = {}
    for number, (name, step, way) in enumerate(cells):
        place = tmp_path / str(number)
        place.mkdir()
        try:
            outcome = cell(subjects(corpus)[name], step, WAYS[way], place)
        except AssertionError as error:
            error.add_note(f"in the cell {name} / {step} / {way}")
            raise
        if outcome is not None:
            found.setdefault((way, step), Counter())[LETTERS[outcome]] += 1
    return found


def table(found: dict[tuple[str, str], Counter[str]]) -> str:
    """Ways by steps; in each cell how many modules it was tried on, and how the lie was met."""
    lines = [f"{'':48}" + "".join(f"{step:>16}" for step in OUTSIDE)]
    for way in WAYS:
        cells = (found.get((way, step), Counter()) for step in OUTSIDE)
        shown = (" ".join(f"{count}{letter}" for letter, count in sorted(each.items())) for each in cells)
        lines.append(f"{way:48}" + "".join(f"{text:>16}" for text in shown))
    return "\n".join(lines)


def everything() -> list[tuple[str, str, str]]:
    """All cells."""
    return [(name, step, way) for way in WAYS for step in OUTSIDE for name in SUBJECTS]


def test_a_part_of_the_matrix(corpus: Path, tmp_path: Path) -> None:
    chosen = Random(SEED).sample(everything(), NUMBER)  # noqa: S311  the same each time
    found = tried(corpus, chosen, tmp_path)
    assert sum(counts.total() for counts in found.values()) > NUMBER // 2


@pytest.mark.full
def test_matrix(corpus: Path, tmp_path: Path, tell: Tell) -> None:
    found = tried(corpus, everything(), tmp_path)
    total: Counter[str] = sum(found.values(), Counter())
    tell(
        f"{len(WAYS)} ways by {len(OUTSIDE)} steps on {len(SUBJECTS)} modules: {total.total()} cells, all ended right: "
        f"{dict(total)} (Rejected, Failed, Timed out, passed: the result was right)\n{table(found)}"
    )
    assert all((way, step) in found for way in WAYS for step in OUTSIDE), "no way without a module"
