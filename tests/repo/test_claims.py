"""What README.md and the page on the verifier claim is shown by scripts that exist, with figures that were measured."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from pkghook.findings import Severity, registry
from tests.bench import picture, results
from tests.bench.table import RESULTS
from tests.mutants import damages
from tests.repo.readme import MADE, between
from tests.repo.tree import ROOT, script, texts

README = (ROOT / "README.md").read_text("utf-8")
PAGE_PATH = ROOT / "tests" / "HOW-PKGHOOK-KNOWS.md"
PAGE = PAGE_PATH.read_text("utf-8")
ROWS = {row[0]: row for row in map(results.cells, RESULTS.read_text("utf-8").splitlines()) if len(row) == 7}
OBLIGATIONS = [f"V{number}" for number in range(1, 15)]

# Figures of README.md, and where each was measured: a row of tests/RESULTS.md and what stands in it.
FIGURES = {
    "1,100 modules": ("default chain on a whole kernel", "1121 modules"),
    "1.2 GB": ("default chain on a whole kernel", "1,201,048,024"),
    "4,000 modules": ("pkghook strip, full kernel", "4023 modules"),
    "1 %": ("symbols.safe", "89,676,544"),  # of the 90,704,696 of the row before
    "7.0 MB": ("riscv64 labels", "ext4.ko 7.0 to 1.8 MB"),
    "1.8 MB": ("riscv64 labels", "ext4.ko 7.0 to 1.8 MB"),
    "about two seconds": ("pkghook strip", " s ("),
}
SETTINGS = {"310 MB", "64 KiB"}  # a download, a limit: nothing that was measured
FIGURE = re.compile(r"\d[\d,.]*\s(?:%|[kMG]i?B|ms|s|seconds|minutes|modules|times)(?!\w)|about \w+ seconds")


def prose(text: str) -> str:
    """Without what is typed and what is made from other files."""
    for name in MADE:
        begin, end = between(name)
        text = text.partition(begin)[0] + text.partition(end)[2]
    return re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)


def commands(text: str) -> set[str]:
    """What is typed to start a script of the tests."""
    return set(re.findall(r"`(tests/[^`]*)`", text))


def test_every_claim_names_a_script() -> None:
    table = README.partition("| claim | shown by |")[2].partition("\n\n")[0]
    rows = [results.cells(line) for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 10
    assert all(commands(shown) for _, shown in rows)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "tests/HOW-PKGHOOK-KNOWS.md", "tests/RESULTS.md"])
def test_scripts_exist(name: str) -> None:
    for command in commands((ROOT / name).read_text("utf-8")):
        words = [word for word in command.split() if word.startswith("tests/")]
        assert all((ROOT / word).exists() for word in words), f"{name}: {command}"
        if command.startswith("tests/run tests/"):
            chosen = [ROOT / word for word in words[1:] if (ROOT / word).is_file()]
            assert all("pytestmark = pytest.mark.full" not in path.read_text("utf-8") for path in chosen), command
        proof = re.search(r"--full (\S+)", command)
        assert not proof or proof[1] in {*script("tests/run").FULL, "NAME"}, f"{name}: {command}"


def test_every_figure_was_measured() -> None:
    shown = set(FIGURE.findall(" ".join(prose(README).split())))
    assert shown - SETTINGS == FIGURES.keys()
    for figure, (row, text) in FIGURES.items():
        assert row in ROWS, f"{figure}: no row {row}"
        assert text in " ".join(ROWS[row]), f"{figure}: {row}"


def test_seconds_are_no_more_than_that() -> None:
    assert results.measured()["pkghook strip"].seconds <= 2


def test_linear_to_4000_modules() -> None:
    """Processor time, since the picture shows the other; the rows are those of one run."""
    rows = results.measured()
    few, many = rows["pkghook strip, 1000 modules"], rows["pkghook strip, full kernel"]
    assert many.modules > 4000
    assert many.cpu / many.modules <= 1.1 * few.cpu / few.modules


def test_picture_is_that_of_the_rows() -> None:
    assert picture.PICTURE.read_text("utf-8") == picture.draw(results.measured()), "python3 -m tests.bench.picture"
    assert str(picture.PICTURE.relative_to(ROOT)) in README


# --- the page on the verifier ----------------------------------------------------------------------------------------


@cache
def obligation(name: str) -> list[str]:
    """A row of the table of obligations: words, findings, what breaks it."""
    (row,) = [results.cells(line) for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
    return row


@pytest.mark.parametrize("name", OBLIGATIONS)
def test_findings_of_an_obligation(name: str) -> None:
    told = set(re.findall(r"`([a-z-]+)`", obligation(name)[2]))
    kinds = {kind.id: kind for kind in registry().values() if kind.obligation == name}
    assert told <= kinds.keys()
    assert {id for id, kind in kinds.items() if kind.severity is Severity.ERROR} <= told


@pytest.mark.parametrize("name", OBLIGATIONS)
def test_what_breaks_an_obligation_exists(name: str) -> None:
    kinds = {damage.__name__ for damage in damages.KINDS}
    named, _, damaging = obligation(name)[3].partition("damages:")
    assert re.findall(r"`(test_\w+)`", named)
    assert set(re.findall(r"`(\w+)`", damaging)) <= kinds


def test_every_damage_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", " ".join(obligation(name)[3] for name in OBLIGATIONS)))
    assert {damage.__name__ for damage in damages.KINDS} - named == {"flip_anywhere"}


def test_tests_of_the_page_exist() -> None:
    code = "\n".join(text for name, text in texts() if name.startswith("tests/") and name.endswith(".py"))
    for name in set(re.findall(r"`(test_\w+)`", PAGE)):
        assert f"def {name}(" in code, name


def test_paths_and_links_of_the_page_exist() -> None:
    for path in re.findall(r"`((?:tests|pkghook)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGE):
        assert (PAGE_PATH.parent / link).exists(), link
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_commits_of_the_page_are_in_the_history() -> None:
    git = ["git", "-C", str(ROOT)]
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git, or not a checkout")
    whole = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=False)
    if whole.stdout.strip() != "false":
        pytest.skip("the history is not here, or git may not read it")
    for commit in set(re.findall(r"`([0-9a-f]{7})`", PAGE)):
        found = subprocess.run([*git, "merge-base", "--is-ancestor", commit, "HEAD"], capture_output=True, check=False)
        assert found.returncode == 0, commit


def test_page_and_readme_know_each_other() -> None:
    assert str(PAGE_PATH.relative_to(ROOT)) in README
    assert Path(PAGE_PATH.parent / "RESULTS.md").exists()
