"""pkghook's own RPMs, built from this checkout by hooks/rpm/pkghook.spec."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

from pkghook import __version__
from tests.packages.rpmbuild import HOOKS
from tests.repo.tree import ROOT, files
from tests.support import lacking, need_tool

NAMES = ("pkghook", "pkghook-rpm-macros", "pkghook-rpm-gate")


def packages(home: Path, release: str = "") -> dict[str, Path]:
    """All packages by name, with `release` behind the spec's own."""
    need_tool("rpmbuild")
    python = "/usr/bin/python3"
    done = subprocess.run([python, "-c", "import setuptools, wheel, pip"], capture_output=True, check=False)
    if done.returncode or sys.version_info < (3, 11):
        lacking(f"{python} has no pip, setuptools and wheel")
    (home / "SOURCES").mkdir(parents=True)
    with tarfile.open(home / "SOURCES" / f"pkghook-{__version__}.tar.gz", "w:gz") as tar:
        for path in files():
            tar.add(path, f"pkghook-{__version__}/{path.relative_to(ROOT)}")
    define = ["--define", f"_topdir {home}", "--define", f"dist {release or '%{nil}'}"]
    built = subprocess.run(
        ["rpmbuild", "-ba", "--nodeps", *define, HOOKS / "pkghook.spec"], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return {path.name.split(f"-{__version__}-")[0]: path for path in home.glob("RPMS/noarch/*.rpm")}
