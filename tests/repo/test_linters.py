"""The linters are tests: what they say is part of what has to hold."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.repo.tree import ROOT
from tests.support import lacking

LINTERS = {
    "ruff check": ("ruff", "check", "--output-format", "concise", "--no-cache", "."),
    "ruff format": ("ruff", "format", "--check", "--no-cache", "."),
    "mypy": ("mypy",),
}


@pytest.mark.parametrize("name", LINTERS)
def test_linter_is_content(name: str) -> None:
    module, *arguments = LINTERS[name]
    if importlib.util.find_spec(module) is None:
        lacking(f"{module} is not installed; tests/run installs it")
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
