"""One pass over a package: every member as it comes, every module in it looked at, whatever its name and place."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING

from pkghook.errors import InputError, ModuleError
from pkghook.findings import make
from pkghook.ko.interface import weight
from pkghook.ko.look import look_at_image
from pkghook.ko.stranger import Stranger
from pkghook.model import MODULES, Looked
from pkghook.sources import builtin
from pkghook.sources.dirs import split
from pkghook.sources.layout import PLACES, Layout
from pkghook.stories.belt import Task

if TYPE_CHECKING:
    from pkghook.findings import Finding
    from pkghook.ko.look import Ask
    from pkghook.ko.stranger import Reader as Readable
    from pkghook.sources.member import Member, Reader
    from pkghook.stories.belt import Answer, Belt

DEBUG_TREE = "debug tree"
INTERFACES = 32 << 20  # bytes of a package that are kept for the comparison; a kernel of 3,103 modules needs 6 MiB
INSIDE = Layout("package", (), "", 0)  # what a package holds, as the tree that it becomes


class Pass:
    """Collects what one package holds."""

    def __init__(self, path: str, ask: Ask, belt: Belt, *, include_debug: bool, debug_package: bool = False) -> None:
        """`path` is the package's, `belt` carries its modules; with `debug_package` all of it counts as debug tree."""
        self._path = path
        self._ask = ask
        self._belt = belt
        self._include_debug = include_debug
        self._debug_package = debug_package
        self._kept = 0  # bytes of interfaces
        self._seen: list[tuple[Member, Looked | None]] = []  # each module in the package's order; None until it is done
        self._entries: dict[str, Looked] = {}
        self._hidden: set[str] = set()  # modules under other names
        self._by_inode: dict[int, str] = {}  # of the modules
        self._links: list[tuple[str, int]] = []  # path, inode
        self._findings: list[Finding] = []
        self.builtin: dict[str, frozenset[str]] = {}  # names of modules that the kernel image contains, by kernel
        self.others: list[tuple[str, int]] = []  # ELF files beside modules that are none: path and size

    def take(self, member: Member, reader: Reader) -> None:
        """One more member."""
        named = member.path.endswith(MODULES)
        if member.kind == "link":
            self._links.append((member.path, member.inode))
        elif member.kind == "file" and named:
            self._module(member, reader)
        elif member.kind == "file" and not self._is_debug(member.path):
            self._stranger(member, reader)
        elif named and member.kind in {"dir", "other"}:
            self._findings.append(make("not-regular", member.path, kind=member.kind))

    def _is_debug(self, path: str) -> bool:
        if self._include_debug:
            return False
        return self._debug_package or INSIDE.in_debug_tree(split(path)[0])

    def _module(self, member: Member, reader: Reader) -> None:
        blank = self._blank(member)
        limit = self._ask.limit
        if self._is_debug(member.path):
            self._enter(member, blank._replace(kept=DEBUG_TREE))
        elif member.size > limit:
            error = ModuleError("too-large", size=member.size, limit=limit)
            self._enter(member, blank._replace(findings=(error.finding(member.path),)))
        else:
            self._seen.append((member, None))
            done = partial(self._done, len(self._seen) - 1, reader)
            self._belt.put(Task(blank, reader.algorithm), member.size, reader.readinto, done)

    def _done(self, seat: int, reader: Reader, answer: Answer) -> None:
        """A module has been looked at; others before it may still be looked at."""
        if answer.digest:
            reader.judge(answer.digest)
        self._weigh(answer.entry)
        self._seen[seat] = self._seen[seat][0], answer.entry

    def _stranger(self, member: Member, reader: Reader) -> None:
        name = split(member.path)[1]
        source: Readable = reader
        if self._ask.interface and name == builtin.NAME and member.size <= builtin.MAX_BYTES:
            data = reader.read()
            self.builtin[kernel_of(member.path)] = builtin.names(data)
            source = BytesIO(data)
        found = Stranger(source, member.size, name, self._ask.limit)
        if found.module:
            self._hidden.add(member.path)
            self._enter(member, look_at_image(found.module, "", self._blank(member), self._ask))
        elif told := closed(member.path, found, member.size, self._ask.limit):
            self._findings.append(told)
        elif found.program and kernel_of(member.path):
            self.others.append((member.path, member.size))

    def _blank(self, member: Member) -> Looked:
        return Looked(member.path, kernel_of(member.path), file_size=member.size)

    def _enter(self, member: Member, entry: Looked) -> None:
        self._weigh(entry)
        self._seen.append((member, entry))

    def _weigh(self, entry: Looked | None) -> None:
        if entry and entry.interface:
            self._kept += weight(entry.interface)
            if self._kept > INTERFACES:
                raise InputError(f"{self._path}: parameters, aliases and exports of more than {INTERFACES >> 20} MiB")

    # --- at the end ---

    def finish(self) -> None:
        """The package has no more members: wait for the modules that are still looked at."""
        self._belt.finish()

    def entries(self) -> tuple[Looked, ...]:
        """The modules, with all their names, and those marked that the walk over the tree would pass by."""
        for member, entry in self._seen:
            if entry:
                self._entries[member.path] = entry
                self._by_inode[member.inode] = member.path
        self._give_names()
        places = any(map(_in_places, self._entries))
        return tuple(self._marked(entry, places=places) for entry in self._entries.values())

    def findings(self) -> tuple[Finding, ...]:
        """What is to be said about the package as a whole; complete after `entries`."""
        return tuple(self._findings)

    def _give_names(self) -> None:
        names: dict[str, list[str]] = {}
        for path, inode in self._links:
            if inode in self._by_inode:
                names.setdefault(self._by_inode[inode], []).append(path)
            elif path.endswith(MODULES) and not self._is_debug(path):
                self._findings.append(make("not-elf", path, what="another name of a file that is no module"))
        for path, others in names.items():
            self._entries[path] = _named(self._entries[path], others)

    def _marked(self, entry: Looked, *, places: bool) -> Looked:
        names = (entry.path, *entry.names)
        if entry.kept:
            if all(map(self._is_debug, names)):
                return entry
            why = "its bytes are those of a debug tree, which nobody read"
            return entry._replace(kept="", findings=(make("unwalked-module", entry.path, why=why),))
        if entry.path in self._hidden or (places and not any(map(_in_places, names))):
            return entry._replace(findings=(*entry.findings, hidden(entry.path)))
        return entry


def _named(entry: Looked, others: list[str]) -> Looked:
    """The entry under the first of its names, as in a tree; which of them has the bytes differs from form to form."""
    every = sorted([entry.path, *others], key=lambda path: (not path.endswith(MODULES), path))
    findings = [each._replace(subject=every[0]) if each.subject == entry.path else each for each in entry.findings]
    return entry._replace(
        path=every[0], kernel=kernel_of(every[0]), names=tuple(sorted(every[1:])), findings=tuple(findings)
    )


def hidden(path: str) -> Finding:
    """The finding for a module that the walk passes by."""
    why = "it lies outside lib/modules" if path.endswith(MODULES) else "its name is no module's"
    return make("unwalked-module", path, why=why)


def closed(path: str, stranger: Stranger, size: int, limit: int) -> Finding | None:
    """The finding for what may be a module and cannot be looked into."""
    if stranger.too_large:
        return make("too-large", path, size=size, limit=limit)
    if stranger.closed:
        return make("unwalked-module", path, why=f"{stranger.closed}, which neither kernel nor kmod reads")
    return None


def kernel_of(path: str) -> str:
    """The directory below lib/modules that a file lies in, "" if it lies in none."""
    return INSIDE.kernel(split(path)[0])


def _in_places(path: str) -> bool:
    return any(path.startswith(f"{place}/") for place in PLACES)
