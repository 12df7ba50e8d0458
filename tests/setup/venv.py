"""The tests' own virtual environment: `.venv` of the checkout, made once and again when the requirements change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from tests.setup.apt import SetupError


def ensure(checkout: Path, *, home: Path | None = None, floors: bool = False) -> Path:
    """Its Python, with the project (editable) and what its tests need from PyPI.

    With `floors` every library is the oldest that the project accepts, and no linters are there.  A stamp
    tells whether what is there was made for the same requirements by the same Python: then nothing is fetched.
    """
    home = home or checkout / ".venv"
    python = home / "bin" / "python"
    wanted = requirements(checkout, floors=floors)
    made_from = "\n".join([sys.version, str(home), _digest(checkout), *wanted])  # a venv that was moved is broken
    stamp = home / "made-from"
    if stamp.is_file() and stamp.read_text() == made_from:
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


def requirements(checkout: Path, *, floors: bool = False) -> tuple[str, ...]:
    """What pip has to install, as `pyproject.toml` says."""
    project: dict[str, Any] = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    if not floors:
        return (*project["dependencies"], *extras["test"])
    oldest = [text.replace(">=", "==") for text in (*project["dependencies"], *extras["check"])]
    runners = [text for text in extras["test"] if text.startswith(("pytest", "hypothesis", "jsonschema", "setuptools"))]
    return (*oldest, *runners)


def _digest(checkout: Path) -> str:
    return hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()


def _run(argv: list[str], cwd: Path) -> None:
    if subprocess.run(argv, cwd=cwd, check=False, stdout=sys.stderr).returncode:
        raise SetupError(f"`{' '.join(argv)}` failed")
