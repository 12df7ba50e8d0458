"""The page "How pkghook knows" shows what is seen: its commands, run again on the module that it names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import modules
from tests.support import need_tool

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "tests" / "HOW-PKGHOOK-KNOWS.md").read_text("utf-8")
NUMBER = re.compile(r"\d+")  # sizes move with each release of the kernel


def shown() -> list[tuple[str, str]]:
    """Each command of the page that stands behind a $, and what it prints there."""
    found: list[tuple[str, str]] = []
    for line in re.findall(r"^ {4}(.*)$", PAGE, re.MULTILINE):
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found:
            found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


@pytest.fixture
def here(corpus: Path, tmp_path: Path) -> Path:
    """A directory with `built.ko`, and one with `pkghook`."""
    for tool in ("strip", "eu-strip"):
        need_tool(tool)
    shutil.copyfile(modules.named(corpus, "amd64", "tun"), tmp_path / "built.ko")
    script = tmp_path / "bin" / "pkghook"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{CHECKOUT}" exec "{sys.executable}" -m pkghook "$@"\n')
    script.chmod(0o755)
    return tmp_path


def test_the_page_shows_what_is_seen(here: Path) -> None:
    commands = shown()
    assert len(commands) >= 7
    environment = {**os.environ, "PATH": f"{here / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C"}
    for command, output in commands:
        done = subprocess.run(
            ["sh", "-c", f"{command} 2>&1"], cwd=here, env=environment, capture_output=True, text=True, check=False
        )
        assert NUMBER.sub("N", done.stdout) == NUMBER.sub("N", output), command
        assert done.returncode == ("error:" in output), command
