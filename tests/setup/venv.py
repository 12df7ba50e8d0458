"""The tests' own virtual environment: `.venv` of the checkout, made once and again when the requirements change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.setup.apt import SetupError


def ensure(checkout: Path, *, home: Path | None = None, requirements: tuple[str, ...] = ("-e", ".[test]")) -> Path:
    """Its Python, with the project (editable) and what its tests need from PyPI.

    A stamp tells whether what is there was made from the same `pyproject.toml` by the same Python: then
    nothing is fetched.
    """
    home = home or checkout / ".venv"
    python = home / "bin" / "python"
    stamp = home / "made-from"
    made_from = _made_from(checkout, home, requirements)
    if stamp.is_file() and stamp.read_text() == made_from:
        return python
    shutil.rmtree(home, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(home)], checkout)
    _run([str(python), "-m", "pip", "install", "-qq", *requirements], checkout)
    stamp.write_text(made_from)
    return python


def _made_from(checkout: Path, home: Path, requirements: tuple[str, ...]) -> str:
    project = hashlib.sha256((checkout / "pyproject.toml").read_bytes()).hexdigest()
    return "\n".join([sys.version, str(home), project, *requirements])  # a venv that was moved is broken


def _run(argv: list[str], cwd: Path) -> None:
    if subprocess.run(argv, cwd=cwd, check=False, stdout=sys.stderr).returncode:
        raise SetupError(f"`{' '.join(argv)}` failed")
