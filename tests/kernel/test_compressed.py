"""Unstripped modules that the kernel's own recipe has compressed: stripped inside, and put back the same way."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook.model import Compression
from tests import jobs, modules
from tests.jobs import Job
from tests.support import need_tool

KERNEL = "amd64"
LIMIT = 3 << 20  # bytes of a module: xz takes a second for each three of debug information
LINK = "lib/modules/extra/linked"


class Recipe(NamedTuple):
    """How scripts/Makefile.modinst compresses an installed module."""

    how: Compression
    tool: str
    words: tuple[str, ...]  # -T1: what xz before 5.6 does by itself


RECIPES = (
    Recipe(Compression.XZ, "xz", ("--check=crc32", "--lzma2=dict=1MiB", "-f", "-T1")),
    Recipe(Compression.ZSTD, "zstd", ("-T0", "--rm", "-f", "-q")),
    Recipe(Compression.GZIP, "gzip", ("-n", "-f")),
)


class Packed(NamedTuple):
    """A tree of compressed modules, stripped; and its plain twin."""

    recipe: Recipe
    job: Job
    plain: dict[str, bytes]  # by file name, what the twin's modules have become
    times: dict[Path, int]  # of each file before

    @property
    def paths(self) -> list[Path]:
        """The modules, without the further name of one of them."""
        return [path for path in jobs.modules_of(self.job.root) if LINK not in str(path)]

    def unpacked(self, path: Path) -> bytes:
        """What the recipe's own tool makes of a module."""
        return subprocess.run([need_tool(self.recipe.tool), "-dc", path], check=True, capture_output=True).stdout


@pytest.fixture(scope="module", params=RECIPES, ids=lambda recipe: recipe.tool)
def packed(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Small modules and middling ones, one of them with a second name."""
    recipe: Recipe = request.param
    tmp_path = tmp_path_factory.mktemp(recipe.tool)
    source = jobs.kernel_tree(corpus, KERNEL, "dbg")
    some = modules.sample(corpus, KERNEL, 12, limit=LIMIT)
    twin = jobs.plant(tmp_path / "twin", source, some)
    jobs.verified(jobs.strip(tmp_path / "twin"), len(twin))
    planted = jobs.plant(tmp_path / "root", source, some)
    subprocess.run([need_tool(recipe.tool), *recipe.words, *planted], check=True, stderr=subprocess.DEVNULL)
    found = jobs.modules_of(tmp_path / "root")
    assert {path.suffix for path in found} == {recipe.how.suffix}
    (tmp_path / "root" / LINK).mkdir(parents=True)
    os.link(found[-1], tmp_path / "root" / LINK / found[-1].name)
    times = {path: path.stat().st_mtime_ns for path in jobs.modules_of(tmp_path / "root")}
    job = jobs.verified(jobs.strip(tmp_path / "root"), len(some), "native")
    return Packed(recipe, job, {path.name: path.read_bytes() for path in twin}, times)


def test_inside_is_the_plain_twin(packed: Packed) -> None:
    for path in packed.paths:
        assert packed.unpacked(path) == packed.plain[path.name.removesuffix(packed.recipe.how.suffix)], path
    assert len(packed.paths) == len(packed.plain) > 8


def test_tools_read_what_was_written(packed: Packed) -> None:
    subprocess.run([need_tool(packed.recipe.tool), "-q", "-t", *packed.paths], check=True)
    version = subprocess.run([need_tool("modinfo"), "--version"], check=True, capture_output=True, text=True).stdout
    if f"-{'ZLIB' if packed.recipe.tool == 'gzip' else packed.recipe.tool.upper()}" in version:
        return  # this modinfo was built without the library for it
    for path in packed.paths:
        said = subprocess.run(
            [need_tool("modinfo"), "-F", "vermagic", path], check=True, capture_output=True, text=True
        ).stdout
        assert said.split()[0] == packed.job.receipt.entries[0].kernel


def test_recipe_is_the_tools(packed: Packed, tmp_path: Path) -> None:
    """xz and gzip are deterministic programs: the same settings give the same head, and about the same size."""
    for path in packed.paths:
        again = tmp_path / path.name.removesuffix(packed.recipe.how.suffix)
        again.write_bytes(packed.unpacked(path))
        subprocess.run([packed.recipe.tool, *packed.recipe.words, again], check=True)
        theirs = again.with_name(path.name).read_bytes()
        assert path.read_bytes()[:5] == theirs[:5]
        assert abs(path.stat().st_size - len(theirs)) <= max(64, len(theirs) // 20)
        if packed.recipe.tool == "xz":
            assert path.read_bytes() == theirs, path


def test_names_and_times_are_kept(packed: Packed) -> None:
    (linked,) = (entry for entry in packed.job.receipt.entries if entry.names)
    paths = [packed.job.root / name for name in (linked.path, *linked.names)]
    assert len(paths) == 2
    assert os.path.samefile(*paths)
    assert paths[0].stat().st_nlink == 2
    assert {path: path.stat().st_mtime_ns for path in jobs.modules_of(packed.job.root)} == packed.times


def test_accounted_both_ways(packed: Packed) -> None:
    for path in packed.paths:
        entry = packed.job.entry(path.name)
        assert entry.compression == packed.recipe.how.value
        assert entry.sizes.image_after == entry.sizes.expected == len(packed.unpacked(path))
        assert entry.sizes.file_after == path.stat().st_size < entry.sizes.file_before
    assert packed.job.receipt.totals.image_after == sum(map(len, packed.plain.values()))
