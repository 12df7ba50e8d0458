"""What the benchmark is made of: samples of a tree, rows read back, the picture."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import big, peers, picture, results, samples, svg
from tests.bench.__main__ import PARTS
from tests.bench.contest import Bench, Group, figures
from tests.bench.measure import BenchError, Used
from tests.bench.rivals import Rival
from tests.bench.samples import Modules, spread
from tests.bench.table import rows
from tests.repo.tree import script
from tests.setup import kernels, room
from tests.setup.apt import SetupError
from tests.support import need_tool

SVG = "{http://www.w3.org/2000/svg}"
KERNEL = "7.0-test"


def tree(root: Path, sizes: list[int]) -> Modules:
    """A lib/modules with modules of these sizes, all of them zero bytes."""
    (root / KERNEL / "kernel").mkdir(parents=True)
    for number, size in enumerate(sizes):
        (root / KERNEL / "kernel" / f"m{number}.ko").write_bytes(bytes(size))
    return Modules(root)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), st.integers(1, 70))
def test_sample_has_so_many_different_ones(sizes: list[int], count: int) -> None:
    by_name = {str(number): size for number, size in enumerate(sizes)}
    chosen = spread(by_name, count)
    assert len(chosen) == len(set(chosen)) == min(count, len(sizes))


def test_sample_has_the_mean_of_all() -> None:
    """Sizes as a kernel has them: most are small, and the largest is a hundredth of the whole."""
    sizes = {str(number): int(1.2 ** (number % 60) * 1000) + number for number in range(4000)}
    mean = fmean(sizes.values())
    for count in big.GROWTH:
        chosen = [sizes[name] for name in spread(sizes, count)]
        assert abs(fmean(chosen) / mean - 1) < 0.01
        assert min(chosen) < mean / 10
        assert max(chosen) > 10 * mean


def test_modules_of_one_size(tmp_path: Path) -> None:
    modules = tree(tmp_path, [10, 20, 30, 40, 1000])
    assert sorted(modules.between(10, 40, 9, 10**6).sizes.values()) == [20, 30, 40]
    assert list(modules.between(10, 40, 9, 60).sizes.values()) == [20, 40]
    assert len(modules.between(0, 40, 3, 10**6).paths) == 3
    assert samples.subject(modules) == f"5 modules of {KERNEL}, 1 kB"
    with pytest.raises(BenchError, match="no module of 2000 to 3000 bytes"):
        modules.between(2000, 3000, 1, 1)


def test_compressed_twin_is_made_once(tmp_path: Path) -> None:
    need_tool("xz")
    plain = tree(tmp_path / "plain", [1000, 2000])
    made = samples.compressed(plain, tmp_path / "twin")
    assert [path.name for path in made.paths] == ["m0.ko.xz", "m1.ko.xz"]
    unpacked = subprocess.run(["xz", "-dc", made.paths[1]], capture_output=True, check=True).stdout
    assert unpacked == bytes(2000)
    checked = subprocess.run(["xz", "-l", "--robot", made.paths[1]], capture_output=True, text=True, check=True).stdout
    assert "CRC32" in checked, "which the kernel reads"
    plain.paths[0].unlink()
    assert samples.compressed(plain, tmp_path / "twin").paths == made.paths


def test_groups_have_their_rounds_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kernels, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(room, "SHM", tmp_path / "nowhere")
    few, many = tree(tmp_path / "few", [1000]), tree(tmp_path / "many", [1000, 500, 500])
    cut = """find "$TREE" -name '*.ko' -exec truncate -s 10 {} +"""
    field = (Rival("one", cut), Rival("two", cut), Rival("absent", cut, ("no-such-program",)))
    groups = [Group(peers.named(field, text), m, samples.subject(m)) for text, m in (("few", few), ("many", many))]
    found = Bench(tmp_path, 2, None, "").contests(groups)
    assert [row.what for row in found] == ["one, few", "two, few", "one, many", "two, many"]
    assert [(row.modules, row.used.left, row.base) for row in found[1:3]] == [(1, 10, "one, few"), (3, 30, "one, many")]
    said = capsys.readouterr().out
    assert "not measured: absent, few: no-such-program not installed" in said
    order = re.findall(r"(\d)/2 (\w+, \w+):", said)
    assert order == [(turn, row.what) for turn in "12" for row in found]
    assert not list((tmp_path / "cache").glob(f"{room.PREFIX}*"))


def test_growth_is_told_against_the_next_smaller_tree() -> None:
    found = []
    for what, count, spent in (("100 modules", 100, 9.0), ("1000 modules", 1000, 10.0), ("full kernel", 4000, 44.0)):
        names = [(rival.what, "") for rival in peers.named(peers.STRIPPERS[:2], what)]
        found += figures(names, [[Used(spent, 2 * spent, 1)] * 2], f"{count} modules of {KERNEL}, 1 GB")
    assert list(big.costs(found))[-1] == "pkghook strip, full kernel: 11.000 ms a module (22.000 ms CPU)"
    assert list(big.growth(found)) == [
        f"{rival.what}: a module of 4000 costs 1.10 x that of 1000 (1.10 x CPU)" for rival in peers.STRIPPERS[:2]
    ]


def test_rows_are_read_as_they_are_written() -> None:
    used = [[Used(0.0123, 0.5, 3 << 20, 1234567), Used(12.5, 3.25, 4 << 20)]]
    written = rows(figures([("base", "a | b"), ("other", "o")], used, "7 modules of 6.1.0-1-amd64, 1.5 GB"))
    found = results.measured(written)
    assert list(found) == ["base", "other"]
    first, second = found.values()
    assert first == ("base", "7 modules of 6.1.0-1-amd64, 1.5 GB", 0.0123, 0.5, 3, 1234567, 1.0, 7, 1.5e9)
    assert (second.seconds, second.cpu, second.left) == (12.5, 3.25, 0)
    assert second.ratio == pytest.approx(12.5 / 0.0123, abs=0.01)
    assert first.each == pytest.approx(12.3 / 7)
    assert (
        results.measured("| what | command |\n|---|---|\n| by hand | `x` | d | v | 3 modules | c | all well |\n") == {}
    )


def test_names_of_rivals_are_rows_of_their_own() -> None:
    fields = [*results.FIELDS, *(peers.named(peers.STRIPPERS[:2], f"{count} modules") for count in big.GROWTH)]
    fields += [peers.one_process(what) for what in big.CLASSES]
    names = [rival.what for field in fields for rival in field]
    assert len(set(names)) == len(names)
    assert not any("|" in name for name in names)
    assert set(PARTS) == {"start", "tree", "tree-xz", "largest", "audit", "rpm"} | (set(PARTS) & {"check"})


def test_one_process_is_one_process() -> None:
    strip, ours = peers.one_process("x", "riscv64-linux-gnu-")
    assert "-P" not in strip.command
    assert strip.needs == ("riscv64-linux-gnu-strip",)
    assert "riscv64-linux-gnu-strip -g" in strip.command
    assert ours.command.endswith("-j1")


def test_a_full_kernel_needs_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = script("tests/run")
    big_one = run.FULL["big"]
    monkeypatch.setenv("PKGHOOK_CORPUS", str(tmp_path / "corpus"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: SimpleNamespace(free=big_one.room - 1))
    with pytest.raises(SetupError, match=r"25\.0 GB are needed in .*, 25\.0 GB are free"):
        run.get_kernels(big_one.kernels, big_one.room)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: SimpleNamespace(free=big_one.room))
    run.get_kernels(big_one.kernels, big_one.room)
    for name in big_one.kernels:
        for part in ("shipped", "dbg", "boot"):
            (tmp_path / "corpus" / name / part).mkdir(parents=True)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    run.get_kernels(big_one.kernels, big_one.room)  # nothing to fetch


# --- the picture -----------------------------------------------------------------------------------------------------


def drawn() -> tuple[dict[str, results.Row], ET.Element]:
    """The rows and the picture of them."""
    found = results.measured()
    return found, ET.fromstring(picture.draw(found))  # noqa: S314  our own


def test_picture_can_be_read_aloud() -> None:
    _, root = drawn()
    assert root.get("role") == "img"
    named = {element.get("id"): element for element in root}
    title, description = (named[id] for id in str(root.get("aria-labelledby")).split())
    assert title.tag == f"{SVG}title"
    assert title.text == picture.TITLE
    assert description.tag == f"{SVG}desc"
    assert "pkghook strip" in str(description.text)
    assert "prefers-color-scheme: dark" in str(root.findtext(f"{SVG}style"))


def test_picture_shows_every_rival() -> None:
    rows_of, root = drawn()
    said = [element.text for element in root.iter(f"{SVG}text")]
    for field in (peers.TREE, peers.TREE_XZ):
        for rival in field:
            if rival.what in rows_of and rival.what not in picture.LEFT_OUT and not rival.idle:
                assert picture.short(rival.what) in said
                assert picture.said(rows_of[rival.what]) in said
    for words in ("modules, of the same mean size", "size of a module", "milliseconds a module", "time a module"):
        assert words in said


def test_points_lie_where_the_rows_say() -> None:
    scale = svg.Scale(1, 100, 0, 200)
    assert [scale(value) for value in (1, 10, 100)] == [0, 100, 200]
    assert scale.ticks() == [1, 3, 10, 30, 100]
    assert svg.Scale(0, 2.4, 0, 10, logarithmic=False).ticks() == [0, 1, 2]
    series = [svg.Series("pkghook strip", ((1, 1), (10, 2)), ours=True), svg.Series("strip -g", ((1, 2), (10, 1)))]
    labels = (str, str)
    body = svg.curves(svg.Box(0, 0, 400, 300), "t", series, labels, ("x", "y"), logarithmic=False)
    root = ET.fromstring(svg.document(400, 300, "t", "d", list(body)))  # noqa: S314  our own
    lines = {str(line.get("class")): line for line in root.iter(f"{SVG}polyline")}
    ours, theirs = ([[float(n) for n in point.split(",")] for point in str(lines[style].get("points")).split()]
                    for style in ("line ours", "line"))  # fmt: skip
    assert ours[0][0] == theirs[0][0] < ours[1][0] == theirs[1][0]
    assert ours[0][1] == theirs[1][1] > ours[1][1] == theirs[0][1], "up is more"


@pytest.mark.parametrize(("values", "ticks"), [((60, 110), ["0 s", "50 s", "100 s"]), ((1, 50), ["1 s", "30 s"])])
def test_scale_begins_at_zero_unless_values_lie_far_apart(values: tuple[int, int], ticks: list[str]) -> None:
    body = svg.dots(svg.Box(0, 0, 400, 100), "t", [("a", values[0], ""), ("b", values[1], "")], picture.seconds)
    root = ET.fromstring(svg.document(400, 100, "t", "d", list(body)))  # noqa: S314  our own
    said = [str(element.text) for element in root.iter(f"{SVG}text")]
    assert set(ticks) <= set(said)
    assert ("0 s" in said) == ("0 s" in ticks)


def test_nothing_leaves_the_picture() -> None:
    _, root = drawn()
    width, height = float(str(root.get("width"))), float(str(root.get("height")))
    for element in root.iter():
        for name, most in (("x", width), ("cx", width), ("x2", width), ("y", height), ("cy", height), ("y2", height)):
            assert 0 <= float(element.get(name, 0)) <= most
    for line in root.iter(f"{SVG}polyline"):
        for point in str(line.get("points")).split():
            x, y = map(float, point.split(","))
            assert 0 < x < width
            assert 0 < y < height
