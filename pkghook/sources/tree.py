"""A tree of modules in the file system: walked, read, and written back to, by handle alone.

Everything is reached from one handle of the root, component by component, and no symlink is
followed, so that whoever may change the tree cannot make root read or write elsewhere.

A tree object is made in the parent process and used after fork(2) by its workers, each with
private scratch directories of its own.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from pkghook.errors import InputError, ModuleError, TreeBusyError
from pkghook.findings import Finding, make
from pkghook.sources import Found, Scratch, Source, Walk, layout, place, private
from pkghook.sources.dirs import DIRECTORY, Dirs, split
from pkghook.sources.refusals import cannot_open, cannot_reach, cannot_write, kind, reason
from pkghook.sources.strangers import strangers
from pkghook.sources.walk import Walker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Found", "Scratch", "Source", "Tree", "Walk", "cannot_write"]

# O_NONBLOCK: a FIFO put in a module's place must not hang the run.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
UPDATE = READ | os.O_RDWR
CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
TOKEN_BYTES = 8


class Tree:
    """One root directory and what may be done below it."""

    def __init__(self, root: str) -> None:
        """Open `root`, which may be given through a symlink.  Raises InputError."""
        if not root:  # os.path takes it for the working directory
            raise InputError("ROOT is empty", hint="is the variable set that it comes from?")
        try:
            self._path = os.path.realpath(root, strict=True)
            self._root = os.open(self._path, DIRECTORY)
        except OSError as error:
            hint = "give the directory that holds the modules" if error.errno == errno.ENOTDIR else ""
            raise InputError(f"{root}: {reason(error)}", hint=hint) from error
        self._dirs = Dirs(self._root)
        self._layout = layout.find(self._dirs, self._path)
        self._base = os.dup(self._dirs.get(self._layout.base))
        self._device = os.fstat(self._base).st_dev
        self._dirs.close()
        # Known to all workers, so that the parent finds the directories of those that were killed.
        self._token = os.urandom(TOKEN_BYTES).hex()
        self._creator = self._owner = os.getpid()
        self._homes: dict[int, private.Home] = {}
        self._count = 0
        self._lock = -1
        # Where workers may have made private directories, beside the base.
        self._elsewhere: set[str] = set()

    def walk(self, include_debug: bool = False) -> Walk:  # noqa: FBT001, FBT002
        """All there is below the root; debug trees count as modules with `include_debug`."""
        dirs = Dirs(self._root)
        try:
            walker = Walker(dirs, self._layout, include_debug=include_debug)
            walk = walker.run()
        finally:
            dirs.close()
        elsewhere = [paths for device, paths in walker.devices.items() if device != self._device]
        self._elsewhere = set().union(*elsewhere)
        ours = f"{private.PREFIX}{self._token}-"
        return walk._replace(leftovers=tuple(p for p in walk.leftovers if not split(p)[1].startswith(ours)))

    def strangers(
        self, walk: Walk, tell: Callable[[Finding], None], *, include_debug: bool = False
    ) -> Iterator[tuple[str, int]]:
        """Every other regular file below the root, by path, with a handle that is good until the next is asked for.

        What cannot be read goes to `tell`, unless `walk` has told of it.  Of the running system's root only what
        lies beside modules: all of its disks is nobody's package.
        """
        taken = {path for found in (*walk.modules, *walk.kept) for path in (found.path, *found.names)}
        taken |= {finding.subject for finding in walk.findings if finding.id == "unreadable"}
        dirs = Dirs(self._root)
        try:
            yield from strangers(dirs, self._layout, taken, tell, include_debug=include_debug)
        finally:
            dirs.close()

    def lock(self) -> None:
        """Keep other runs from changing the same tree until `close` or the end of the process.

        Raises TreeBusyError if another run has it.  A file system that cannot lock a directory (some
        network ones) leaves the tree unlocked: a lock saves work, `replace` is safe without.
        """
        # A file description of its own: the lock belongs to that, not to the process.
        lock = os.open(".", DIRECTORY, dir_fd=self._base)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            message = f"{self._path}: another pkghook works on this tree"
            raise TreeBusyError(message, hint="wait until it has ended, then run again") from error
        except OSError:
            os.close(lock)
        else:
            self._lock = lock

    def unlock_in_child(self) -> None:
        """Drop what a forked worker shares of the lock; the parent keeps it.

        fork(2) shares the file description, and flock(2) holds until its last handle is closed. A worker that
        outlives its parent would hold the tree. LOCK_UN would take the lock from the parent too.
        """
        if self._lock >= 0:
            lock, self._lock = self._lock, -1
            os.close(lock)

    def open(self, found: Found) -> Source:
        """Open a module that `walk` found.

        Raises ModuleError vanished, not-regular, unreadable, or changed-during-run where its names have come apart.
        """
        directory, name = split(found.path)
        try:
            dirfd = self._dirs.get(directory)
        except OSError as error:
            raise cannot_reach(error) from error
        try:
            fd = os.open(name, READ, dir_fd=dirfd)
        except OSError as error:
            raise cannot_open(error) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise ModuleError("not-regular", kind=kind(status.st_mode))
        for other in found.names:
            if not self._is(other, status):
                os.close(fd)
                raise ModuleError("changed-during-run", name=other, what="another file")
        return Source(fd, status, dirfd, name)

    def _is(self, path: str, status: os.stat_result) -> bool:
        """Whether a further name is still one of the file: a killed worker may have replaced some names and not all."""
        try:
            return os.path.samestat(os.stat(path, dir_fd=self._root, follow_symlinks=False), status)
        except OSError as error:
            return error.errno == errno.ENAMETOOLONG  # only handles can reach it; `replace` will look

    def scratch(self, source: Source) -> Scratch:
        """A new empty file of mode 0600 on the file system of `source`, which `replace` can put in its place.

        Every scratch goes to `discard`, once, unless `replace` has used it up: then its handle is to be closed.
        Raises ModuleError cannot-write.
        """
        self._count += 1
        name = str(self._count)
        home = self._home(source.dirfd)
        try:
            try:
                fd = os.open(name, CREATE, 0o600, dir_fd=home.fd)
            except FileNotFoundError:  # an outside tool has removed the directory, which was its own too
                home = self._home(source.dirfd, anew=True)
                fd = os.open(name, CREATE, 0o600, dir_fd=home.fd)
        except OSError as error:
            raise cannot_write(error) from error
        return Scratch(fd, home.fd, name, f"{home.path}/{name}")

    def reopen(self, scratch: Scratch) -> Scratch:
        """The file which has the scratch's name now: a tool may have put a new one there.

        The old handle is closed.  Raises ModuleError cannot-write if there is none, or no regular file.
        """
        try:
            try:
                fd = os.open(scratch.name, UPDATE, dir_fd=scratch.dirfd)
            except PermissionError:  # some tools copy a mode like 0444; reading is enough to replace
                fd = os.open(scratch.name, READ, dir_fd=scratch.dirfd)
        except OSError as error:
            raise cannot_write(error) from error
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            os.close(fd)
            raise ModuleError("cannot-write", error=f"the scratch file is a {kind(mode)}")
        os.close(scratch.fd)
        return scratch._replace(fd=fd)

    def discard(self, scratch: Scratch) -> None:
        """Close the scratch file and remove it, unless `replace` has used it up."""
        os.close(scratch.fd)
        try:
            os.unlink(scratch.name, dir_fd=scratch.dirfd)
        except OSError:
            return  # used up; or removed with its directory by `clean`

    def replace(self, found: Found, source: Source, scratch: Scratch, fsync: bool) -> tuple[Finding, ...]:  # noqa: FBT001
        """Put the scratch file in the module's place, under all its names: see `place.replace`."""
        return place.replace(self._dirs, found, source, scratch, fsync=fsync)

    def abandoned(self, leftovers: Iterable[str]) -> tuple[str, ...]:
        """Those of the scratch directories in `Walk.leftovers` that no living process holds."""
        found = []
        for path in leftovers:
            directory, name = split(path)
            try:
                free = private.is_free(self._dirs.get(directory), name)
            except OSError:
                continue  # gone meanwhile, or another user's, which may be at work
            if free:
                found.append(path)
        return tuple(found)

    def sweep(self, leftovers: Iterable[str]) -> tuple[Finding, ...]:
        """Remove the scratch directories of dead runs, as `Walk.leftovers` names them; call it under the lock.

        What a living process holds is left alone.  A scratch-left finding for each of the others; its
        evidence says how many files were removed, or why they could not be.
        """
        findings = []
        for path in leftovers:
            directory, name = split(path)
            try:
                files = private.remove(self._dirs.get(directory), name)
            except OSError as error:
                findings.append(make("scratch-left", path, error=reason(error)))
            else:
                if files >= 0:
                    findings.append(make("scratch-left", path, files=files))
        return tuple(findings)

    def clean(self) -> None:
        """Remove this process's private directories; in the parent also those of workers that have ended.

        What cannot be removed is left to the next run.
        """
        for home in self._own_homes().values():
            private.drop(home)
        self._homes = {}
        if os.getpid() == self._creator:
            for directory in ("", *sorted(self._elsewhere)):
                self._clean_after_workers(directory)

    def close(self) -> None:
        """Close every handle, and with them the lock.  `clean` comes before."""
        for home in self._homes.values():
            private.forget(home)
        self._homes = {}
        self._dirs.close()
        self.unlock_in_child()
        os.close(self._base)
        os.close(self._root)

    def __enter__(self) -> Self:
        """The tree itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing of this run behind."""
        self.clean()
        self.close()

    def _own_homes(self) -> dict[int, private.Home]:
        """The private directories of this process; those that fork(2) handed down are the parent's."""
        if self._owner != os.getpid():
            for home in self._homes.values():
                private.forget(home)
            self._homes = {}
            self._owner = os.getpid()
        return self._homes

    def _home(self, dirfd: int, *, anew: bool = False) -> private.Home:
        homes = self._own_homes()
        device = os.fstat(dirfd).st_dev
        if anew and device in homes:
            private.forget(homes.pop(device))
        if device not in homes:
            # rename(2) does not cross file systems.
            if device == self._device:
                parent, path = self._base, self._layout.base
            else:
                parent, path = dirfd, self._dirs.path_of(dirfd)
            homes[device] = private.make(parent, self._token, f"{self._layout.root}/{path}".rstrip("/"))
        return homes[device]

    def _clean_after_workers(self, directory: str) -> None:
        """Remove this run's private directories in `directory`; "" stands for the base."""
        try:
            parent = self._dirs.get(directory) if directory else self._base
            names = os.listdir(parent)
        except OSError:
            return  # the next run removes them
        for name in names:
            if name.startswith(f"{private.PREFIX}{self._token}-"):
                with suppress(OSError):  # as above
                    private.remove(parent, name)
