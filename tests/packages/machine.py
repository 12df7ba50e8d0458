"""A machine to install packages on: the running system in a root of its own, which forgets all that is done to it.

An overlay over "/" in a private mount namespace, entered by chroot: real scriptlets, triggers and databases, and
nothing of the system below is written to.  Only root can.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tests.support import lacking, need_tool
from tests.trees import need_root

ENTER = """\
set -e
mount -t overlay overlay -o "lowerdir=/,upperdir=$0/upper,workdir=$0/work" "$0/root"
mount -t proc proc "$0/root/proc"
mount -t tmpfs tmpfs "$0/root/run"
mount --bind /dev "$0/root/dev"
{more}
exec chroot "$0/root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
"""
RPM = ("rpm", "--force-debian")  # Debian's asks whether it is meant


class Machine(NamedTuple):
    """The directory that holds what was written on the machine."""

    home: Path

    def run(self, *argv: str | Path, more: str = "") -> subprocess.CompletedProcess[str]:
        """A command on the machine; `more` is shell that is run before, outside: the machine is `$0/root`."""
        enter: list[str | Path] = ["unshare", "--mount", "sh", "-c", ENTER.replace("{more}", more), self.home]
        return subprocess.run([*enter, *argv], capture_output=True, text=True, check=False)

    def did(self, *argv: str | Path, more: str = "") -> str:
        """What a command printed, stderr behind stdout; it must succeed."""
        done = self.run(*argv, more=more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def rpm(self, *argv: str | Path) -> str:
        """`rpm`; packages must have been sent. Nobody has told rpm here of python3 and the like."""
        return self.did(*RPM, *argv, *(("--nodeps",) if argv[0] in {"-i", "-U", "-e", "-V"} else ()))

    def send(self, *paths: Path) -> list[str]:
        """Copies of files; where they are on the machine."""
        there = self.home / "upper" / "srv"
        there.mkdir(exist_ok=True)
        for path in paths:
            shutil.copy(path, there)
        return [f"/srv/{path.name}" for path in paths]

    def path(self, name: str) -> Path:
        """A file that was written on the machine, seen from outside."""
        return self.home / "upper" / name.lstrip("/")


def machine(home: Path, hidden: Iterable[str] = ("/var/lib/dpkg", "/usr/lib/modules")) -> Machine:
    """A machine that knows RPM alone, without modules."""
    need_root()
    for tool in ("unshare", "mount", "chroot", "rpm"):
        need_tool(tool)
    for name in ("upper", "work", "root"):
        (home / name).mkdir(parents=True)
    made = Machine(home)
    if made.run("true").returncode:
        lacking(f"no overlay can be mounted in {home}")
    made.did("rm", "-rf", *hidden)
    made.did("mkdir", "-p", "/usr/lib/modules", "/etc/rpm")
    made.path("/etc/rpm/macros.place").write_text("%_dbpath /var/lib/rpm\n")  # Debian's rpm has one for each user
    return made
