"""One pass over a tree: modules, links, other ELF files, leftovers, and what is not as it should be.

No module is opened here.  Each directory is opened once by handle, each module costs one
fstatat(2).  The course is iterative and holds a bounded number of handles, so a tree may be
of any depth.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pkghook.findings import Finding, make
from pkghook.model import MODULES
from pkghook.sources import Found, Walk
from pkghook.sources.dirs import split
from pkghook.sources.private import is_private
from pkghook.sources.refusals import cannot_reach, kind, reason
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from pkghook.sources.dirs import Dirs
    from pkghook.sources.layout import Layout

# Of files that are no modules, only these are worth a look at their magic, and so many at most:
# they are shown, nothing more.
ELF_SUFFIXES = (".so", ".so.dbg", ".debug")
ELF_MAGIC = b"\x7fELF"
LOOKED_AT = 1000
LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Seen(NamedTuple):
    path: str
    kernel: str
    stat: os.stat_result


class _Here(NamedTuple):
    """The directory that is being read."""

    fd: int
    directory: str
    prefix: str  # its path with a slash behind it, "" for the root
    kernel: str
    debug: bool
    vdso: bool


class Walker:
    """Collects while it goes; `result` puts in order what was collected."""

    def __init__(self, dirs: Dirs, layout: Layout, *, include_debug: bool = False) -> None:
        """`dirs` gives handles below the root, `layout` says where to begin."""
        self._dirs = dirs
        self._layout = layout
        self._include_debug = include_debug
        self._modules: list[_Seen] = []
        self._kept: list[_Seen] = []
        self._findings: list[Finding] = []
        self._links = layout.links
        self._others: list[tuple[str, int]] = []
        self._looked = 0
        self._leftovers: list[str] = []
        self._todo = list(layout.tops)
        self.devices: dict[int, set[str]] = {}  # by file system (st_dev): the directories that hold modules

    def run(self) -> Walk:
        """Walk it all; never raises for what it finds in the tree."""
        while self._todo:
            directory = self._todo.pop()
            try:
                self._read(directory)
            except OSError as error:
                self._findings.append(cannot_reach(error).finding(directory or "."))
        return Walk(
            _group(self._modules),
            _group(self._kept),
            tuple(sorted(self._findings, key=lambda finding: (finding.subject, finding.id))),
            self._links,
            tuple(sorted(self._others)),
            tuple(sorted(self._leftovers)),
        )

    def _read(self, directory: str) -> None:
        fd = self._dirs.get(directory)
        here = _Here(
            fd,
            directory,
            f"{directory}/" if directory else "",
            self._layout.kernel(directory),
            not self._include_debug and self._layout.in_debug_tree(directory),
            split(directory)[1] == "vdso",
        )
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.name.endswith(MODULES):
                    self._module(entry, here)
                elif entry.is_dir(follow_symlinks=False):
                    self._directory(entry.name, here)
                elif entry.is_symlink():
                    self._links += 1
                elif here.kernel:
                    self._other(entry, here)

    def _module(self, entry: os.DirEntry[str], here: _Here) -> None:
        path = here.prefix + entry.name
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self._findings.append(cannot_reach(error).finding(path))
            return
        if stat.S_ISREG(status.st_mode):
            self.devices.setdefault(status.st_dev, set()).add(here.directory)
            (self._kept if here.debug else self._modules).append(_Seen(path, here.kernel, status))
        elif stat.S_ISLNK(status.st_mode):
            self._link(entry.name, here)
        else:
            self._findings.append(make("not-regular", path, kind=kind(status.st_mode)))
            if stat.S_ISDIR(status.st_mode):
                self._todo.append(path)  # a module that lies in there is a module all the same

    def _link(self, name: str, here: _Here) -> None:
        self._links += 1
        try:
            # stat(2) looks at the target and opens nothing, wherever the link leads.
            os.stat(name, dir_fd=here.fd)
        except OSError as error:
            target = _target(here.fd, name)
            if not _there(self._dirs.get(""), target):
                finding = make("dangling-link", here.prefix + name, target=target, error=reason(error))
                self._findings.append(finding)

    def _directory(self, name: str, here: _Here) -> None:
        (self._leftovers if is_private(name) else self._todo).append(here.prefix + name)

    def _other(self, entry: os.DirEntry[str], here: _Here) -> None:
        name = entry.name
        if not (here.vdso or name.startswith("vmlinux") or name.endswith(ELF_SUFFIXES)):
            return
        if self._looked == LOOKED_AT or not entry.is_file(follow_symlinks=False):
            return
        self._looked += 1
        try:
            fd = os.open(name, LOOK, dir_fd=here.fd)
        except OSError:
            return  # nobody asked for it: not worth a finding
        try:
            if os.pread(fd, len(ELF_MAGIC), 0) == ELF_MAGIC:
                self._others.append((here.prefix + name, os.fstat(fd).st_size))
        except OSError:
            return
        finally:
            os.close(fd)


def _target(dirfd: int, name: str) -> str:
    try:
        return os.readlink(name, dir_fd=dirfd)
    except OSError:
        return ""  # it vanished meanwhile


def _there(root: int, target: str) -> bool:
    """True if the absolute link `target` leads to something below the root, as it will when the tree is installed."""
    if not target.startswith("/"):
        return False
    try:
        os.stat(target.lstrip("/") or ".", dir_fd=root)
    except OSError:
        return False
    return True


def _group(seen: list[_Seen]) -> tuple[Found, ...]:
    """Modules in order of path, hard links of one inode as one."""
    seen.sort(key=lambda module: module.path)
    groups: dict[tuple[int, int], list[str]] = {}
    for path, _, status in seen:
        if status.st_nlink > 1:
            groups.setdefault((status.st_dev, status.st_ino), []).append(path)
    modules = []
    for path, kernel, status in seen:
        if status.st_nlink == 1:
            modules.append(Found(path, kernel, status.st_size))
            continue
        names = groups[status.st_dev, status.st_ino]
        if names[0] == path:
            # More names than links: one directory is mounted twice.
            outside = max(0, status.st_nlink - len(names))
            modules.append(Found(path, kernel, status.st_size, tuple(names[1:]), outside))
    return tuple(modules)
