"""Figures for people: a table for the terminal, and rows for tests/RESULTS.md."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pkghook import __version__
from tests.bench.measure import Used

RESULTS = Path(__file__).resolve().parents[1] / "RESULTS.md"
CHECKOUT = RESULTS.parents[1]
TOOLS = {"strip": "binutils", "eu-strip": "elfutils", "llvm-strip": "LLVM"}
MIB = 1 << 20


class Figures(NamedTuple):
    """The medians of one rival."""

    what: str
    command: str
    subject: str  # what was stripped
    rounds: int
    used: Used
    ratio: float  # of seconds, to `base`
    cpu_ratio: float  # of CPU time: it does not move when others use the machine
    base: str

    @property
    def said(self) -> str:
        """All figures in one line."""
        used = self.used
        left = f", {used.left:,.0f} bytes left" if used.left else ""
        ratio = f"; {self.ratio:.2f} x {self.base} ({self.cpu_ratio:.2f} x CPU)" if self.what != self.base else ""
        return f"{seconds(used.seconds)} ({seconds(used.cpu)} CPU), {used.peak / MIB:.0f} MiB{left}{ratio}"

    @property
    def modules(self) -> int:
        """How many were worked on; 0 where that is not what is counted."""
        found = re.match(r"(\d+) modules? ", self.subject)
        return int(found[1]) if found else 0


def seconds(count: float) -> str:
    """Seconds, or milliseconds where these are few."""
    return f"{count:.2f} s" if count >= 0.1 else f"{1000 * count:.1f} ms"


def text(found: list[Figures]) -> str:
    """Columns: time, CPU, memory of the largest process, bytes left, ratios."""
    bases = {row.base for row in found}
    against = f"x {found[0].base}" if len(bases) == 1 else "x the first of its kind"
    lines = [("", "time", "CPU", "largest process", "bytes left", against, "x CPU")]
    for row in found:
        used = row.used
        ratios = f"{row.ratio:.2f}", f"{row.cpu_ratio:.2f}"
        left = f"{used.left:,.0f}" if used.left else ""
        lines.append((row.what, seconds(used.seconds), seconds(used.cpu), f"{used.peak / MIB:.0f} MiB", left, *ratios))
    widths = [max(len(line[i]) for line in lines) for i in range(7)]
    return "\n".join(
        line[0].ljust(widths[0]) + "".join(f"  {cell.rjust(widths[i])}" for i, cell in enumerate(line[1:], 1))
        for line in lines
    )


def rows(found: list[Figures]) -> str:
    """Rows of RESULTS.md: what, command, date, versions, N, commit, figures."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return "\n".join(
        f"| {row.what} | `{cell(row.command)}` | {today} | {versions()} | {number(row)} | {commit()} | {row.said} |"
        for row in found
    )


def number(row: Figures) -> str:
    """N: how many modules, and how often."""
    rounds = f"{row.rounds} round{'s' * (row.rounds > 1)}"
    return f"{row.subject}, {rounds}" if row.subject else rounds


def cell(command: str) -> str:
    """A command as it can stand in a table."""
    return re.sub(r"\s+", " ", command).replace("|", "\\|")


def write(found: list[Figures]) -> None:
    """Put the rows into RESULTS.md, each in the place of the one with the same first cell, else at the end."""
    lines = RESULTS.read_text("utf-8").splitlines()
    for row in rows(found).splitlines():
        start = row[: row.index("|", 2) + 1]
        places = [number for number, line in enumerate(lines) if line.startswith(start)]
        if places:
            lines[places[0]] = row
        else:
            last = max(number for number, line in enumerate(lines) if line.startswith("|"))
            lines.insert(last + 1, row)
    RESULTS.write_text("\n".join(lines) + "\n", "utf-8")


def filesystem(path: Path) -> str:
    """What kind of file system a directory lies on."""
    argv = ["stat", "-f", "-c", "%T", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def versions() -> str:
    """Versions of all that counts, and how many CPUs there were."""
    tools = [f"{package} {version(tool)}" for tool, package in TOOLS.items() if shutil.which(tool)]
    cpus = len(os.sched_getaffinity(0))
    return ", ".join([f"pkghook {__version__}", f"Python {platform.python_version()}", *tools, f"{cpus} CPUs"])


def version(tool: str) -> str:
    """The last number in the first line of `--version` that has one."""
    said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout
    found: list[list[str]] = [re.findall(r"\d+(?:\.\d+)+", line) for line in said.splitlines()]
    return next(numbers[-1] for numbers in found if numbers)


@cache
def commit() -> str:
    """The commit that is measured, with a + if something has been changed; found when it is asked for first."""
    git = ["git", "-C", str(CHECKOUT)]
    try:
        done = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "pkghook"], check=False).returncode
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return f"{done.stdout.strip()}{'+' * bool(changed)}"
