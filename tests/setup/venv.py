"""The tests' own virtual environment: `.venv` of the checkout, made once and again when the requirements change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tomllib
from enum import Enum
from pathlib import Path
from typing import Any

from tests.setup.apt import SetupError

LINTERS = ("mypy", "ruff", "types-")
UPGRADE = ("--upgrade", "--upgrade-strategy=eager")


class Libraries(Enum):
    """Which versions of them; but for any, no linters are there."""

    ANY = "any"  # that fits
    FLOORS = "floors"  # the oldest that the project accepts
    NEWEST = "newest"  # of today


def ensure(checkout: Path, *, home: Path | None = None, libraries: Libraries = Libraries.ANY) -> Path:
    """Its Python, with the project (editable) and what its tests need from PyPI.

    A stamp tells whether what is there was made for the same requirements by the same Python: then nothing is
    fetched, unless the newest libraries are asked for.
    """
    home = home or checkout / ".venv"
    python = home / "bin" / "python"
    wanted = requirements(checkout, libraries)
    places = (str(home), str(checkout))  # a venv that was moved is broken
    made_from = "\n".join([sys.version, *places, _digest(checkout), *wanted])
    stamp = home / "made-from"
    if stamp.is_file() and stamp.read_text() == made_from:
        if libraries is Libraries.NEWEST:
            _run([str(python), "-m", "pip", "install", "-qq", *UPGRADE, *wanted], checkout)
        return python
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)], checkout)
    _run([str(python), "-m", "pip", "install", "-qq", *wanted], checkout)
    # Not isolated: what it takes to build is there already, and is not fetched twice.  The other kind of
    # editable installation hooks into every start of Python, and how fast pkghook starts is measured.
    editable = ("--no-build-isolation", "--no-deps", "--config-settings", "editable_mode=compat", "-e", ".")
    _run([str(python), "-m", "pip", "install", "-qq", *editable], checkout)
    stamp.write_text(made_from)
    return python


def requirements(checkout: Path, libraries: Libraries = Libraries.ANY) -> tuple[str, ...]:
    """What pip has to install, as `pyproject.toml` says."""
    project: dict[str, Any] = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    if libraries is Libraries.ANY:
        return (*project["dependencies"], *extras["test"])
    own = (*project["dependencies"], *extras["check"])
    others = [text for text in extras["test"] if text not in own and not text.startswith(LINTERS)]
    if libraries is Libraries.FLOORS:
        own = tuple(text.replace(">=", "==") for text in own)
    return (*own, *others)


def _digest(checkout: Path) -> str:
    return hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()


def _run(argv: list[str], cwd: Path) -> None:
    if subprocess.run(argv, cwd=cwd, check=False, stdout=sys.stderr).returncode:
        raise SetupError(f"`{' '.join(argv)}` failed")
