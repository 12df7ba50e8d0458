"""The benchmark itself: what it measures is what it says."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import measure, rivals, table
from tests.bench.contest import figures
from tests.bench.measure import BenchError, Used
from tests.bench.rivals import Place, Rival
from tests.setup import room

ENVIRONMENT = dict(os.environ)


def grandchild(code: str) -> list[str]:
    """A process that starts another and waits for it."""
    return [
        sys.executable,
        "-c",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], check=True)",
    ]


def much() -> int:
    """Bytes that nobody else here has: a process inherits the peak of the one that starts it, here pytest's."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (100 << 20)


def test_memory_is_that_of_the_largest_process() -> None:
    big = much()
    small = measure.run([sys.executable, "-c", "pass"], ENVIRONMENT)
    large = measure.run(grandchild(f"data = bytearray({big}); data[-1]"), ENVIRONMENT)
    assert small.peak < big
    assert big < large.peak < 2 * big, "largest, not the sum"


def test_memory_of_a_forked_worker() -> None:
    big = much()
    forked = f"import os; pid = os.fork(); pid or (bytearray({big}), os._exit(0)); os.waitpid(pid, 0)"
    assert measure.run([sys.executable, "-c", forked], ENVIRONMENT).peak > big


def test_who_measures_is_small() -> None:
    """A process inherits the peak of the one that starts it: nothing below that would be seen."""
    code = "import sys, tests.bench.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=table.CHECKOUT, capture_output=True, text=True, check=True
    )
    assert not {"pytest", "hypothesis", "tests.repo.readme", "pkghook.findings"} & set(loaded.stdout.split())


def test_time_is_that_of_all_processes() -> None:
    used = measure.run(grandchild("import time; time.sleep(0.2); [i * i for i in range(10**6)]"), ENVIRONMENT)
    assert used.seconds > 0.2
    assert used.cpu > 0.01


def test_failure_is_told() -> None:
    with pytest.raises(BenchError, match="ended with 3: why"):
        measure.run([sys.executable, "-c", "import sys; sys.stderr.write('why'); sys.exit(3)"], ENVIRONMENT)


@pytest.fixture
def tree(tmp_path: Path) -> Place:
    """A source with one module, and a place with blanks in its name."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.ko").write_bytes(bytes(1000))
    (tmp_path / "a place").mkdir()
    return Place(tmp_path / "a place" / "tree", tmp_path / "a place" / "out")


@pytest.mark.parametrize(
    ("command", "why"),
    [("true", "as large as before"), ('rm "$TREE"/*', "as large"), ("exit 1", "ended with 1")],
)
def test_work_that_was_not_done_is_not_measured(tree: Place, tmp_path: Path, command: str, why: str) -> None:
    with pytest.raises(BenchError, match=why):
        Rival("idle", command).run(tree, tmp_path / "source")


def test_a_rival_that_is_known_to_do_nothing(tree: Place, tmp_path: Path) -> None:
    assert Rival("blind", "true", idle=True).run(tree, tmp_path / "source").left == 1000
    with pytest.raises(BenchError, match="did something"):
        Rival("blind", 'truncate -s 999 "$TREE"/*.ko', idle=True).run(tree, tmp_path / "source")


def test_work_that_was_done(tree: Place, tmp_path: Path) -> None:
    work = Rival("cut", 'truncate -s 100 "$TREE"/*.ko', before=('test -s "$TREE"/a.ko',))
    assert work.run(tree, tmp_path / "source").seconds > 0
    again = work.run(tree, tmp_path / "source", ("a.ko",))
    assert again.seconds > 0, "each time on a fresh copy"
    assert again.left == 100
    assert (tmp_path / "source" / "a.ko").stat().st_size == 1000


@pytest.mark.parametrize(
    "proofs", [{"verified": 5, "recorded": 0, "none": 1}, {"verified": 0, "recorded": 0, "none": 0}]
)
def test_modules_without_proof_do_not_count(proofs: dict[str, int]) -> None:
    with pytest.raises(BenchError, match="not every module was proven"):
        rivals.check_receipt(proofs)


def test_pkghook_is_this_checkout(tree: Place) -> None:
    tree.tree.mkdir()
    tree.out.mkdir()
    measure.run(tree.argv("pkghook strip $TREE --receipt $OUT/receipt.json"), tree.environment)
    assert (tree.out / "receipt.json").is_file()


def test_ratio_is_the_median_of_the_rounds() -> None:
    rounds = [[Used(1, 1, 5), Used(2, 1, 9)], [Used(10, 1, 5), Used(15, 1, 9)], [Used(4, 1, 5), Used(40, 1, 9)]]
    first, second = figures([("base", "b"), ("other", "o")], rounds, "it")
    assert (first.ratio, first.used.seconds) == (1, 4)
    assert (second.ratio, second.used.seconds, second.used.peak) == (2, 15, 9)
    assert table.text([first, second]).splitlines()[2].split()[-2:] == ["2.00", "1.00"]


def test_rows_replace_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "RESULTS.md"
    head = "# Results\n\n| what | command |\n|---|---|\n"
    results.write_text(f"{head}| base | old |\n| by hand | kept |\n\nMore.\n")
    monkeypatch.setattr(table, "RESULTS", results)
    table.write(figures([("base", "a | b"), ("new", "n")], [[Used(1, 1, 1 << 20), Used(2, 1, 1 << 20)]], ""))
    lines = results.read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[4:7]] == ["| base", "| by hand", "| new"]
    assert "`a \\| b`" in lines[4]
    assert lines[6].endswith("2.00 s (1.00 s CPU), 1 MiB; 2.00 x base (1.00 x CPU) |")
    assert lines[7:] == ["", "More."]
    assert len(lines[4].replace("\\|", "").split("|")) == 9


def test_results_have_one_table() -> None:
    lines = [line for line in table.RESULTS.read_text("utf-8").splitlines() if line.startswith("|")]
    assert lines[0] == "| what | command | date | versions | N | commit | figures |"
    assert {len(line.replace("\\|", "").split("|")) for line in lines} == {9}
    assert len({line.split("|")[1] for line in lines}) == len(lines)


def test_room_of_a_killed_run_is_cleared(tmp_path: Path) -> None:
    with room.made(tmp_path) as mine:
        (mine / "file").write_bytes(b"here")
        dead, new = tmp_path / f"{room.PREFIX}dead", tmp_path / f"{room.PREFIX}new"
        for directory in (dead, new):
            (directory / "tree").mkdir(parents=True)
        for directory in (dead, mine):
            os.utime(directory, (0, 0))
        with room.made(tmp_path) as other:
            assert sorted(tmp_path.iterdir()) == sorted([mine, other, new])
        assert (mine / "file").is_file()
    assert list(tmp_path.iterdir()) == [new]
