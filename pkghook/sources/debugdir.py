"""The directory that debug files go to: written beside their place, then linked or renamed there, by handle alone.

No symlink below the directory is followed, whoever put it there.  Made in the parent process and used after
fork(2) by the workers, each with a private scratch directory of its own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

from pkghook.errors import InputError, ModuleError
from pkghook.sources import Scratch, private
from pkghook.sources.dirs import DIRECTORY, Dirs, split
from pkghook.sources.refusals import kind, reason
from pkghook.sources.tree import CREATE, READ, TOKEN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE_MODE, DIRECTORY_MODE = 0o644, 0o755
# File systems without hard links say one of these.
_NO_LINKS = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS))
_STREAM = 1 << 20


class DebugDir:
    """One directory of debug files and what may be done in it."""

    def __init__(self, path: str) -> None:
        """Open the directory, which is made where it is missing.  Raises InputError."""
        try:
            os.makedirs(path, DIRECTORY_MODE, exist_ok=True)
            self._path = os.path.realpath(path, strict=True)
            self._root = os.open(self._path, DIRECTORY)
        except OSError as error:
            raise InputError(f"{path}: {reason(error)}", hint="--debug-dir is where debug files go") from error
        self._dirs = Dirs(self._root)
        self._token = os.urandom(TOKEN_BYTES).hex()
        self._home: private.Home | None = None
        self._creator = self._owner = os.getpid()
        self._count = 0

    def scratch(self) -> Scratch:
        """A new empty file for `put` and `share`; it goes to `discard`, once.  Raises ModuleError debug-file-failed."""
        try:
            home = self._own_home()
            self._count += 1
            name = str(self._count)
            fd = os.open(name, CREATE, 0o600, dir_fd=home.fd)
        except OSError as error:
            raise _failed(error) from error
        except ModuleError as error:  # of `private`, which speaks of the tree
            raise ModuleError("debug-file-failed", **error.evidence) from error
        return Scratch(fd, home.fd, name, f"{home.path}/{name}")

    def discard(self, scratch: Scratch) -> None:
        """Close the scratch file and remove it, unless it has been put in its place."""
        os.close(scratch.fd)
        with suppress(OSError):  # used up; or removed with its directory
            os.unlink(scratch.name, dir_fd=scratch.dirfd)

    def finish(self, scratch: Scratch, mtime_ns: int, *, fsync: bool) -> None:
        """Give the scratch file the mode and the time of a debug file; with `fsync` its bytes are on the disk then."""
        try:
            os.fchmod(scratch.fd, FILE_MODE)
            os.utime(scratch.fd, ns=(mtime_ns, mtime_ns))
            if fsync:
                os.fsync(scratch.fd)
        except OSError as error:
            raise _failed(error) from error

    def put(self, scratch: Scratch, paths: Sequence[str], *, fsync: bool) -> None:
        """Put the file at all of `paths`, hard links of each other, whatever is there.

        Raises ModuleError debug-file-failed.
        """
        here = scratch.dirfd
        names = [scratch.name, *(f"{scratch.name}-{number}" for number in range(1, len(paths)))]
        path = paths[0]
        try:
            for name in names[1:]:
                os.link(scratch.name, name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
            for name, path in zip(names, paths, strict=True):
                dirfd, target = self._reach(path)
                os.rename(name, target, src_dir_fd=here, dst_dir_fd=dirfd)
                if fsync:
                    os.fsync(dirfd)
        except OSError as error:
            raise _failed(error, path) from error

    def share(self, scratch: Scratch, path: str, other: str, sha256: str, *, fsync: bool) -> str:
        """Put the file at `path`, which others with the same build-id want too; the path that it got.

        Where the same bytes are there already, that is enough.  Of different bytes those with the smaller
        SHA-256 have `path`, and the others `other_path` of theirs, so that it does not matter who comes first.
        Raises ModuleError debug-file-failed.
        """
        try:
            dirfd, name = self._reach(path)
            with _locked(dirfd):
                there = self._claim(scratch, dirfd, name)
                if there not in ("", sha256):
                    if sha256 < there:
                        self._step_aside(dirfd, name, other_path(name, there))
                    else:
                        path, name = other, split(other)[1]
                    os.rename(scratch.name, name, src_dir_fd=scratch.dirfd, dst_dir_fd=dirfd)
            if fsync:
                os.fsync(dirfd)
        except OSError as error:
            raise _failed(error, path) from error
        return path

    def _claim(self, scratch: Scratch, dirfd: int, name: str) -> str:
        """Take the name if it is free; else the SHA-256 of what has it."""
        try:
            os.link(scratch.name, name, src_dir_fd=scratch.dirfd, dst_dir_fd=dirfd, follow_symlinks=False)
        except FileExistsError:
            return _sha256_at(dirfd, name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with suppress(FileNotFoundError):
                return _sha256_at(dirfd, name)
            os.rename(scratch.name, name, src_dir_fd=scratch.dirfd, dst_dir_fd=dirfd)
        return ""

    def _step_aside(self, dirfd: int, name: str, other: str) -> None:
        """Give what is at `name` the name `other` as well, so that nothing is lost when `name` is replaced."""
        try:
            os.link(name, other, src_dir_fd=dirfd, dst_dir_fd=dirfd, follow_symlinks=False)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(name, other, src_dir_fd=dirfd, dst_dir_fd=dirfd)

    def _reach(self, path: str) -> tuple[int, str]:
        """A handle of the directory of `path`, made where it is missing, and the name in it."""
        directory, name = split(path)
        try:
            return self._dirs.get(directory), name
        except FileNotFoundError:
            parts = directory.split("/")
        for end in range(1, len(parts) + 1):
            self._make("/".join(parts[:end]))
        return self._dirs.get(directory), name

    def _make(self, directory: str) -> None:
        parent, name = split(directory)
        try:
            os.mkdir(name, DIRECTORY_MODE, dir_fd=self._dirs.get(parent))
        except FileExistsError:
            return
        os.fchmod(self._dirs.get(directory), DIRECTORY_MODE)  # whatever the umask: a package has it

    def _own_home(self) -> private.Home:
        if self._owner != os.getpid():  # fork(2) handed down the parent's
            if self._home:
                private.forget(self._home)
            self._home, self._owner = None, os.getpid()
        if self._home is None:
            self._home = private.make(self._root, self._token, self._path)
        return self._home

    def clean(self) -> None:
        """Remove this process's private directory; in the parent those of the workers and of dead runs too."""
        if self._home and self._owner == os.getpid():
            private.drop(self._home)
            self._home = None
        if os.getpid() == self._creator:
            with suppress(OSError):  # what cannot be removed is left to the next run
                for name in os.listdir(self._root):
                    if private.is_private(name):
                        private.remove(self._root, name)

    def __enter__(self) -> Self:
        """The directory itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing but debug files behind."""
        self.clean()
        self._dirs.close()
        os.close(self._root)


def other_path(path: str, sha256: str) -> str:
    """Where a debug file goes that is not the one that its build-id leads to."""
    return f"{path.removesuffix('.debug')}.{sha256[:12]}.debug"


def _failed(error: OSError, path: str = "") -> ModuleError:
    where = {"debug_file": path} if path else {}
    return ModuleError("debug-file-failed", **where, error=reason(error))


def _sha256_at(dirfd: int, name: str) -> str:
    """SHA-256 of a file as hex.  Raises OSError, also for what is no regular file."""
    fd = os.open(name, READ, dir_fd=dirfd)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EEXIST, f"a {kind(mode)} is there")
        digest = hashlib.sha256()
        while data := os.read(fd, _STREAM):
            digest.update(data)
        return digest.hexdigest()
    finally:
        os.close(fd)


@contextmanager
def _locked(dirfd: int) -> Iterator[None]:
    """One process at a time; where the file system cannot lock, link(2) alone keeps names apart."""
    fd = os.open(".", DIRECTORY, dir_fd=dirfd)
    try:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
