"""Small trees of files for the tests of `sources`: grown, changed by other processes, compared."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pkghook.findings import Finding
    from pkghook.sources import Found
    from pkghook.sources.tree import Tree

T = TypeVar("T")
NOBODY = 65534
OLD = b"\x7fELF the bytes before" * 100
NEW = b"\x7fELF the bytes after"
VERSION = "lib/modules/6.1.0"


def put(root: Path, path: str, data: bytes = OLD) -> Path:
    """A file with its directories."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def paths(founds: tuple[Found, ...]) -> list[str]:
    """Only the names."""
    return [found.path for found in founds]


def facts(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Id and subject of each."""
    return [(finding.id, finding.subject) for finding in findings]


def only(tree: Tree) -> Found:
    """The one module of a tree."""
    (found,) = tree.walk().modules
    return found


def replaced(tree: Tree, found: Found, data: bytes = NEW, *, fsync: bool = False) -> tuple[Finding, ...]:
    """Open, write a scratch file, put it in the module's place, tidy up: as a worker does."""
    source = tree.open(found)
    try:
        scratch = tree.scratch(source)
        try:
            os.write(scratch.fd, data)
            return tree.replace(found, source, scratch, fsync)
        finally:
            tree.discard(scratch)
    finally:
        os.close(source.fd)


def listing(root: Path) -> list[str]:
    """All names below `root`, scratch directories too."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def in_child(work: Callable[[], T], *, uid: int | None = None) -> T:
    """What `work` returns in a forked child, as another user if `uid` is given."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(work(), pipe)
            status = 0
        except BaseException as error:  # noqa: BLE001 - the parent tells
            sys.stderr.write(f"{error!r}\n")
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    result: T = pickle.loads(data)  # noqa: S301 - our own
    return result


def as_ordinary_user(work: Callable[[], T]) -> T:
    """What `work` returns where permissions count; in a child, so that root can drop its rights."""
    return in_child(work, uid=NOBODY if os.geteuid() == 0 else None)


def need_root() -> None:
    """Skip the test that runs unless it may do what root may."""
    if os.geteuid() != 0:
        pytest.skip("only root can do this")


@contextmanager
def deep(root: Path, path: str, name: str, depth: int) -> Iterator[int]:
    """A handle of a directory `depth` directories below `path`, each with a sibling; deeper than a path may say."""
    fd = os.open(root / path, os.O_RDONLY)
    for _ in range(depth):
        for directory in (name, "side"):
            os.mkdir(directory, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    try:
        yield fd
    finally:
        os.close(fd)
        # Not left to pytest, whose way of removing old trees is recursive.
        subprocess.run(["rm", "-rf", root / path / name], check=True)


@contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """A tmpfs at `place`."""
    need_root()
    place.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    umount = shutil.which("umount")
    if not mount or not umount:
        pytest.skip("mount is not installed")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", options, "none", place], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run([umount, "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    """Change the options of a mounted tmpfs."""
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
