"""The benchmark in small: every rival does its work on a few real modules, and leaves what it should."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bench import peers, samples
from tests.bench.contest import Bench, Group
from tests.bench.rivals import Rival
from tests.bench.samples import Modules
from tests.setup import room
from tests.support import need_kernel, need_tool

FEW = 6


@pytest.fixture
def few(corpus: Path, tmp_path: Path) -> Modules:
    """A lib/modules of a few modules, from the smallest to a large one."""
    need_kernel(corpus, "amd64", "dbg")
    modules = samples.unstripped(corpus, "amd64")
    for name in modules.like(FEW).names:
        target = tmp_path / "few" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(modules.root / name, target)
    return Modules(tmp_path / "few")


def left(bench: Bench, field: tuple[Rival, ...], modules: Modules) -> dict[str, int]:
    """Bytes that each rival leaves; those without their tools are not among them."""
    found = bench.contests([Group(field, modules, samples.subject(modules))])
    return {row.what: int(row.used.left) for row in found}


@pytest.fixture
def bench(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """One round, copies beside all else that the test writes."""
    monkeypatch.setattr(room, "SHM", tmp_path / "nowhere")
    need_tool("strip")
    return Bench(corpus, 1, tmp_path, "")


def test_every_way_to_strip_a_tree(bench: Bench, few: Modules) -> None:
    found = left(bench, peers.TREE, few)
    reference = found["batch strip -g"]
    for what in ("pkghook strip", "strip -g per file", "cp and strip per file", "pkghook strip --before"):
        assert found[what] == reference, what
    for tool in ("strip", "eu-strip", "llvm-strip"):
        ours, theirs = found.get(f"pkghook strip --chain {tool}"), found.get(f"batch {tool} -g")
        assert ours == theirs, tool
    if "find-debuginfo" in found:
        assert found["find-debuginfo"] < reference, "it takes .BTF and .comment too"


def test_every_way_to_strip_a_compressed_tree(bench: Bench, few: Modules, tmp_path: Path) -> None:
    need_tool("xz")
    found = left(bench, peers.TREE_XZ, samples.compressed(few, tmp_path / "twin"))
    assert found["pkghook strip, .ko.xz"] == found["batch strip -g, .ko.xz"], "our own xz is that of xz"
    unchanged = {size for what, size in found.items() if what.endswith("leaves all")}
    assert len(unchanged) <= 1
    assert all(size > found["pkghook strip, .ko.xz"] for size in unchanged)
