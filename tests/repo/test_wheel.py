"""The built wheel has every module and data file of the package and nothing else, and it runs."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import pkghook
from tests.repo.tree import PACKAGE, ROOT, files
from tests.support import lacking


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tracked files alone."""
    if importlib.util.find_spec("setuptools") is None:
        lacking("setuptools is not installed; tests/run installs it")
    base = tmp_path_factory.mktemp("wheel")
    for path in files():
        target = base / "source" / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    argv = [
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "-w",
        str(base),
        str(base / "source"),
    ]
    done = subprocess.run([sys.executable, "-m", *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(base.glob("*.whl"))


def test_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {str(path.relative_to(ROOT)) for path in files() if path.is_relative_to(PACKAGE)}
    assert found == wanted
    assert {"pkghook/findings.toml", "pkghook/data/symbols.safe", "pkghook/data/symbols.2009"} <= found


def test_wheel_says_who_made_it_and_under_which_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert f"Version: {pkghook.__version__}\n" in metadata
    assert "GPLv2+" in metadata
    assert any(name.endswith("/LICENSE") for name in names)


def test_installed_wheel_runs_with_the_standard_library_alone(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "a venv with blanks"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = next(home.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for arguments, expected in (("--version", pkghook.__version__), ("explain", "not-elf"), ("tools", "native")):
        done = subprocess.run([python, "-I", "-m", "pkghook", arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
