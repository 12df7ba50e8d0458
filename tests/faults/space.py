"""A mount namespace of our own: what is mounted there nobody else sees, and it ends with the process that holds it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import need_tool
from tests.trees import need_root


class Space:
    """A namespace, held by a process that waits."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.prefix = (need_tool("nsenter"), f"--mount=/proc/{pid}/ns/mnt", "--")

    def view(self, path: Path) -> Path:
        """Where a path of the namespace can be seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def run(self, *argv: str | Path) -> bool:
        """Whether a program in there ends with status 0."""
        done = subprocess.run([*self.prefix, *argv], capture_output=True, check=False)
        return done.returncode == 0

    def mount(self, *words: str | Path) -> bool:
        """Whether `mount` has done it in there."""
        return self.run(need_tool("mount"), *words)


@contextmanager
def private() -> Iterator[Space]:
    """A new one, for root only."""
    need_root()
    argv = [need_tool("unshare"), "--mount", "--propagation", "private", "sh", "-c", "echo && exec cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stderr
        if not holder.stdout.readline():
            pytest.skip(f"no mount namespace can be had here: {holder.stderr.read().decode().strip()}")
        yield Space(holder.pid)
        holder.stdin.close()


def used(place: Path) -> tuple[int, int]:
    """Bytes and inodes in use on a file system."""
    status = os.statvfs(place)
    return (status.f_blocks - status.f_bfree) * status.f_frsize, status.f_files - status.f_ffree
