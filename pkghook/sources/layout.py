"""What kind of root this is: where its modules lie, what is a debug tree, which kernel a directory belongs to.

A root is a buildroot or an installed system if it has one of `PLACES`; else it is a tree of
modules itself (lib/modules, one kernel's directory, any directory) and all of it is walked.
The file system hierarchy: modules are below /lib/modules or, after the usr-merge, below
/usr/lib/modules; detached debug files mirror the paths below /usr/lib/debug.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from pkghook.sources.dirs import Dirs

MODULES = "/lib/modules/"
DEBUG = "/usr/lib/debug/"
PLACES = ("lib/modules", "usr/lib/modules", "usr/lib/debug/lib/modules", "usr/lib/debug/usr/lib/modules")


class Layout(NamedTuple):
    """Where to look below a root."""

    root: str  # absolute, links resolved, "" for "/": ready for a "/" and a relative path
    tops: tuple[str, ...]  # directories to walk, relative to the root; "" is the root
    base: str  # the directory that is locked and holds scratch files
    links: int  # symlinks in the way to `PLACES`, such as lib -> usr/lib

    def kernel(self, directory: str) -> str:
        """The directory below lib/modules that `directory` (relative) is or lies in; "" if none."""
        below = f"/{directory}/"
        at = below.find(MODULES)
        if at < 0:  # the root itself may lie in a lib/modules
            below = f"{self.root}/{directory}/" if directory else f"{self.root}/"
            at = below.rfind(MODULES)
        return below[at + len(MODULES) :].partition("/")[0] if at >= 0 else ""

    def in_debug_tree(self, directory: str) -> bool:
        """True if `directory` (relative) is part of a debug tree, unless the root itself lies in one."""
        return DEBUG in f"{self.root}/{directory}/" and DEBUG not in f"{self.root}/"


def find(dirs: Dirs, root: str) -> Layout:
    """The layout of the tree whose handles `dirs` gives; `root` is its absolute real path."""
    tops: dict[tuple[int, int], str] = {}
    links = set()
    bases = []
    for place in PLACES:
        try:
            status = os.fstat(dirs.get(place))
        except OSError as error:
            links.update(_link_on(dirs, place))
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                tops[0, len(tops)] = place  # it is there; the walk will say why it cannot be read
        else:
            # One directory mounted in both places is still one directory.
            tops.setdefault((status.st_dev, status.st_ino), place)
            bases.append(place)
    root = root.rstrip("/")
    # All of "/" is never a tree of modules: there are /proc and /sys and other people's disks.
    whole = ("",) if root else ()
    return Layout(root, tuple(tops.values()) or whole, bases[0] if bases else "", len(links))


def _link_on(dirs: Dirs, place: str) -> list[str]:
    """The first symlink on the way to `place`, as a list of none or one."""
    directory = ""
    for name in place.split("/"):
        path = f"{directory}/{name}" if directory else name
        try:
            os.readlink(name, dir_fd=dirs.get(directory))
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: there, and not a link
                return []
        else:
            return [path]
        directory = path
    return []
