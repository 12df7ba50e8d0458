"""Shapes that no kernel of the corpus has, through the whole command: livepatch modules, and those of kernel 7.x."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkghook.model import State
from tests import jobs, loader, shapes
from tests.jobs import Job
from tests.shapes import LIVEPATCH_SHAPES, Sec
from tests.support import need_tool

HOME = "lib/modules/7.0.0/updates"
RUINED = ("b", "c", "empty first")  # by GNU strip (of binutils 2.40), with exit status 0


def planted(root: Path, data: bytes, name: str = "m") -> Path:
    """A tree with one module."""
    path = root / HOME / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def klp(data: bytes) -> list[tuple[object, ...]]:
    """What livepatch lives on: its relocation sections with their flags and entries, and its symbols."""
    file = loader.File(data)
    rows = [(*section.fields, section.data) for section in file.sections if section.flags & shapes.KLP]
    relocations = [(*row[:-1], [file.relocation(entry) for entry in entries(row[-1])]) for row in rows]
    return [*relocations, *(symbol for symbol in file.symbols if symbol[3] == shapes.LIVEPATCH)]


def entries(data: object) -> list[tuple[int, int, int]]:
    """The relocations in a section of an amd64 module."""
    assert isinstance(data, bytes)
    words = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(0, len(data), 8)]
    return list(zip(words[::3], words[1::3], words[2::3], strict=True))


@pytest.fixture(params=LIVEPATCH_SHAPES)
def shape(request: pytest.FixtureRequest) -> str:
    """One of them."""
    found: str = request.param
    return found


def check(job: Job, path: Path, before: bytes) -> None:
    """It was stripped, and all that livepatch needs is there."""
    assert job.entry(path.name).livepatch
    assert len(klp(before)) == 2
    assert klp(path.read_bytes()) == klp(before)
    assert loader.same(before, path.read_bytes())


def test_livepatch_by_default(tmp_path: Path, shape: str) -> None:
    before = shapes.livepatch(shape)
    path = planted(tmp_path / "root", before)
    check(jobs.verified(jobs.strip(tmp_path / "root"), 1, "native"), path, before)


def test_livepatch_is_not_left_to_gnu_strip(tmp_path: Path, shape: str) -> None:
    need_tool("strip")
    before = shapes.livepatch(shape)
    path = planted(tmp_path / "root", before)
    job = jobs.verified(jobs.strip(tmp_path / "root", "--chain", "strip,native"), 1)
    check(job, path, before)
    entry = job.entry(path.name)
    if shape in RUINED:
        assert jobs.attempts(entry) == [("strip", "rejected"), ("native", "passed")]
        assert job.findings(entry.path) == ["fell-through"]
        assert {finding.id for finding in entry.attempts[0].findings} >= {"relocation-changed"}
    else:
        assert jobs.attempts(entry) == [("strip", "passed")]


def test_livepatch_that_only_gnu_strip_could_strip(tmp_path: Path, shape: str) -> None:
    need_tool("strip")
    before = shapes.livepatch(shape)
    path = planted(tmp_path / "root", before)
    job = jobs.strip(tmp_path / "root", "--chain", "strip")
    entry = job.entry(path.name)
    if shape not in RUINED:
        check(jobs.verified(job, 1, "strip"), path, before)
        return
    assert entry.state is State.KEPT
    assert jobs.attempts(entry) == [("strip", "rejected")]
    assert job.findings(entry.path) == ["livepatch-kept"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["native", "objcopy", "strip", "eu-strip", "llvm-strip"])
def test_two_sections_of_one_name(tmp_path: Path, step: str) -> None:
    """Modules of kernel 7.x have two `.note.GNU-stack`."""
    if step != "native":
        need_tool(step)
    before = shapes.module(shapes.AMD64, Sec(".note.GNU-stack", key="another"))
    assert [section.name for section in loader.File(before).sections].count(".note.GNU-stack") == 2
    path = planted(tmp_path / "root", before)
    jobs.verified(jobs.strip(tmp_path / "root", "--chain", step), 1, step)
    assert loader.same(before, path.read_bytes())
    assert [section.name for section in loader.File(path.read_bytes()).sections].count(".note.GNU-stack") == 2
