"""Which Debian packages the demo and the tests need, and getting them.

Root installs what is missing; others are told the line to type.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.setup.apt import SetupError, run

LIST = Path(__file__).with_name("packages.txt")


class Needed(NamedTuple):
    """One row of the list."""

    package: str
    program: str  # "-": no program of that package tells, so dpkg is asked


def needed(group: str) -> list[Needed]:
    """The rows of one group of the list, for this machine's architecture."""
    rows: list[Needed] = []
    current = ""
    for line in LIST.read_text("utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[] ")
        elif line and not line.startswith("#") and current == group:
            package, program = line.split()[:2]
            rows.append(Needed(package.format(arch=_architecture()), program))
    return rows


def missing(group: str) -> list[str]:
    """The packages of a group that are not there."""
    if not shutil.which("dpkg-query"):
        raise SetupError(f"no dpkg here: this needs a Debian system ({LIST.name} names the programs for others)")
    return [row.package for row in needed(group) if not _is_there(row)]


def ensure(group: str) -> None:
    """All packages of a group are there afterwards; raises SetupError with the line to type where that needs root."""
    names = missing(group)
    if not names:
        return
    line = f"apt-get install --no-install-recommends {' '.join(names)}"
    if os.geteuid() != 0:
        raise SetupError(f"Debian packages are missing. Please run as root:\n    {line}")
    print(f"installing: {' '.join(names)}", flush=True)
    if not (_apt_get("install", *names) or (_apt_get("update") and _apt_get("install", *names))):
        raise SetupError(f"apt could not install what is missing; see what this says:\n    {line}")


def _apt_get(verb: str, *names: str) -> bool:
    """Whether apt did it. The first try may fail because the lists are empty or old; the caller then updates them."""
    argv = [
        "apt-get",
        "-q=2",
        "-y",
        "-o",
        "Dpkg::Use-Pty=0",
        verb,
        *(["--no-install-recommends"] if names else []),
        *names,
    ]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with subprocess.Popen(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as apt:
        output = apt.communicate()[0]
    if apt.returncode and verb == "update":
        print(output)
    return apt.returncode == 0


def _is_there(row: Needed) -> bool:
    if row.program != "-":
        return shutil.which(row.program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status}", row.package],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout == "installed"


def _architecture() -> str:
    return run(["dpkg", "--print-architecture"]).strip()
