"""Private scratch directories: made, held and removed by handle.

`.pkghook-TOKEN-PID`, mode 0700, one per process and file system.  TOKEN is one run's random
word.  The process that uses a directory holds a flock(2) on it, which ends with the process
however it ends: a directory whose lock is free belongs to nobody and may be removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat

from pkghook.errors import ModuleError
from pkghook.sources.dirs import DIRECTORY
from pkghook.sources.refusals import cannot_write
from pkghook.values import NamedTuple

PREFIX = ".pkghook-"
NAME = re.compile(r"\.pkghook-[0-9a-f]+-[0-9]+(-[0-9]+)?")
TRIES = 100
# Tools put a directory of their own into ours at most; deeper is not of our making.
DEPTH = 8
FOREIGN_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Home(NamedTuple):
    """One private directory, held open with the directory that it lies in."""

    fd: int
    parent: int
    name: str
    path: str  # that an outside tool can use


def is_private(name: str) -> bool:
    """True for the name of a scratch directory, of this or of another run."""
    return name.startswith(PREFIX) and NAME.fullmatch(name) is not None


def make(parent: int, token: str, parent_path: str) -> Home:
    """A new private directory of this process in the directory `parent`.

    `parent_path` is the absolute path of `parent`, used only where /proc is not mounted.
    Raises ModuleError cannot-write.
    """
    try:
        name = _make_new(parent, f"{PREFIX}{token}-{os.getpid()}")
        fd = os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise cannot_write(error) from error
    status = os.fstat(fd)
    # Who may write to `parent` can put another directory in the place of the new one.
    if status.st_uid != os.geteuid() or status.st_mode & FOREIGN_WRITE:
        os.close(fd)
        raise ModuleError("cannot-write", error="the scratch directory was replaced by another")
    hold(fd)
    return Home(fd, os.dup(parent), name, _usable(fd, f"{parent_path}/{name}"))


def _make_new(parent: int, stem: str) -> str:
    for number in range(TRIES):
        name = f"{stem}-{number}" if number else stem
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            continue  # of a killed worker whose process id came round again
        return name
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), stem)


def _usable(fd: int, path: str) -> str:
    """A path of the directory that leads to this very one, whatever happens to the names above it."""
    by_handle = f"/proc/{os.getpid()}/fd/{fd}"
    try:
        same = os.path.samestat(os.stat(by_handle), os.fstat(fd))
    except OSError:
        same = False
    return by_handle if same else path


def hold(fd: int) -> bool:
    """Take the lock of a private directory; False if a living process has it, or nobody can lock here."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_free(parent: int, name: str) -> bool:
    """Whether nobody holds the private directory `name`. Raises OSError if it cannot be opened."""
    fd = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        return hold(fd)
    finally:
        os.close(fd)


def drop(home: Home) -> None:
    """Remove a private directory of this process with all that is in it; what cannot be removed stays."""
    try:
        _empty(home.fd, DEPTH)
        os.rmdir(home.name, dir_fd=home.parent)
    except OSError:
        return  # a later run removes it
    finally:
        forget(home)


def forget(home: Home) -> None:
    """Close the handles and leave the directory: after fork(2) it is the other process's."""
    os.close(home.fd)
    os.close(home.parent)


def remove(parent: int, name: str) -> int:
    """Remove a private directory that nobody holds; the result is how many files were in it, -1 if it is held.

    Raises OSError if it cannot be removed.
    """
    fd = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        if not hold(fd):
            return -1
        files = _empty(fd, DEPTH)
        os.rmdir(name, dir_fd=parent)
        return files
    finally:
        os.close(fd)


def _empty(fd: int, depth: int) -> int:
    """Remove what is in the directory; links are removed, never followed."""
    files = 0
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
            files += 1
        elif depth:
            inner = os.open(name, DIRECTORY, dir_fd=fd)
            try:
                files += _empty(inner, depth - 1)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=fd)
    return files
