"""Files speak of the project alone: nothing of one machine, one mirror or one person is in them."""

from __future__ import annotations

import os
import re
import stat

import pytest

from tests.repo.tree import ROOT, files, texts

# Written so that this file does not match itself.
PATTERNS = {
    "a path of one machine": r"(?<![\w.])/(?:wor[k]|tmp/ven[v])\b",
    "a host of packages": r"\b(?:deb|ftp|security|snapshot)\.[a-z.]*debia[n]\.\w+|\bpypi\.(?:or[g]|io)\b",
    "a secret": r"-----BEGIN [A-Z ]*PRIVATE KE[Y]|\b(?:ghp|github_pat)_\w{20}",
    "a conflict marker": r"^(?:<{7}|>{7}) ",
    "a blank at the end of a line": r"[ \t]+$",
    "a carriage return": r"\r",
}
FREE = {"LICENSE"}  # verbatim from elsewhere
EXECUTABLE = {".ci/run", "tests/corpus", "tests/demo", "tests/run"}


@pytest.mark.parametrize("what", PATTERNS)
def test_no_file_has(what: str) -> None:
    pattern = re.compile(PATTERNS[what], re.MULTILINE)
    hits = [
        f"{name}:{text.count(os.linesep, 0, found.start()) + 1}: {found[0]!r}"
        for name, text in texts()
        if name not in FREE
        for found in pattern.finditer(text)
    ]
    assert not hits, f"{what}:\n" + "\n".join(hits)


def test_files_end_with_one_newline() -> None:
    assert [name for name, text in texts() if text and (not text.endswith("\n") or text.endswith("\n\n"))] == []


def test_scripts_and_nothing_else_are_executable() -> None:
    found = {str(path.relative_to(ROOT)) for path in files() if path.stat().st_mode & stat.S_IXUSR}
    assert found >= EXECUTABLE
    assert all((ROOT / name).read_bytes().startswith(b"#!") for name in found)


def test_nothing_big_is_kept() -> None:
    """Binaries are grown by tests or fetched, never stored."""
    assert [str(path) for path in files() if path.stat().st_size > 200_000] == []


def test_top_level_is_as_designed() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in files()}
    plain = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "hooks", "pkghook", "pyproject.toml", "tests"}
    assert {name for name in top if not name.startswith(".")} <= plain
