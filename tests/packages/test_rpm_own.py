"""pkghook's own RPMs: what is in them, what they need, and what the linters say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pkghook import __version__
from tests.packages import own
from tests.packages.rpmbuild import CHECKOUT, HOOKS, query
from tests.support import need_tool

SCRIPTS = ("brp-pkghook", "brp-16-pkghook", "pkghook-check-files", "look", "45-pkghook.install")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All of them."""
    return own.packages(tmp_path_factory.mktemp("own"))


def lines(package: Path, form: str) -> set[str]:
    """The answer to a query of a list."""
    return set(query(package, form).splitlines())


def test_each_has_its_files(packages: dict[str, Path]) -> None:
    assert set(packages) == set(own.NAMES)
    names = {
        name: {Path(line).name.removesuffix(".gz") for line in lines(path, "[%{FILENAMES}\\n]")}
        for name, path in packages.items()
    }
    assert names["pkghook"] >= {"pkghook", "look", "45-pkghook.install", "pkghook.1", "keep.d", "findings.toml"}
    assert names["pkghook-rpm-macros"] >= {"macros.pkghook", "brp-pkghook", "brp-16-pkghook", "README.md"}
    assert names["pkghook-rpm-gate"] >= {"macros.pkghook-gate", "pkghook-check-files"}
    assert {query(path, "%{ARCH} %{VERSION}") for path in packages.values()} == {f"noarch {__version__}"}
    assert "direct_url.json" not in names["pkghook"]


def test_what_a_build_needs_is_required(packages: dict[str, Path]) -> None:
    """Build roots install nothing that is only recommended; audits' readers are."""
    needs = {name: lines(path, "[%{REQUIRENAME}\\n]") for name, path in packages.items()}
    assert "python3-zstandard" in needs["pkghook-rpm-macros"]
    assert {"python3-zstandard", "python3-pyelftools"} <= needs["pkghook-rpm-gate"]
    assert not any("zstandard" in name or "elftools" in name for name in needs["pkghook"])
    assert "python3-pyelftools" in lines(packages["pkghook"], "[%{RECOMMENDNAME}\\n]")


def test_rpmlint_has_nothing_new_to_say(packages: dict[str, Path]) -> None:
    """The reasons for what is left stand in the filter file."""
    paths = [HOOKS / "pkghook-rpmlintrc", *packages.values(), HOOKS / "pkghook.spec"]
    done = subprocess.run([need_tool("rpmlint"), "-r", *paths], capture_output=True, text=True, check=False)
    said = [line for line in done.stdout.splitlines() if ": E: " in line or ": W: " in line]
    assert said == []
    assert "0 errors, 0 warnings" in done.stdout


@pytest.mark.parametrize("path", [*(HOOKS / name for name in SCRIPTS), CHECKOUT / "tests" / "matrix" / "rpm"])
def test_scripts_are_sound(path: Path) -> None:
    excused = "--exclude=SC2016"  # what stands in single quotes is for another shell, or for sed
    done = subprocess.run([need_tool("shellcheck"), excused, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
