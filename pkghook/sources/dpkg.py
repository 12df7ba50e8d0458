"""dpkg's database: which package owns a file below lib/modules, read without dpkg.

`info/PACKAGE.list` or `info/PACKAGE:ARCH.list` has a package's paths, one a line; `diversions` three lines each: what
is diverted, to where, by which package (`:` for the administrator); `status` one stanza a package.  What a running or
killed dpkg did since it wrote `status` is in `updates/`, a stanza a file.  Where dpkg takes a package without its list
for one without files, nothing is known here.  Sources: dpkg(1), dpkg-divert(1), lib/dpkg/dbmodify.c,
lib/dpkg/db-fsys-files.c and lib/dpkg/db-fsys-divert.c.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pkghook.errors import MissingDependencyError
from pkghook.findings import make
from pkghook.sources import inside
from pkghook.sources.owners import Database, Owner, below_modules, canonical
from pkghook.sources.refusals import reason
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

PLACE = "var/lib/dpkg"
STANZA = re.compile(rb"\n[ \t]*\n")
PACKAGE, ARCHITECTURE, STATUS = (
    re.compile(rb"^%s:[ \t]*(.*\S)" % name, re.MULTILINE | re.IGNORECASE)
    for name in (b"Package", b"Architecture", b"Status")
)
JOURNAL = re.compile(r"[0-9]+")  # dpkg passes over any other name, such as the `tmp.i` that it writes to
LINE = re.compile(rb"[^\s:]+:|[ \t]")  # a field or more of it
NOT_THERE = ("not-installed", "config-files")  # states in which a package's files are gone
HINT = "apt install python3-debian, or pip install python-debian"


class _Diversion(NamedTuple):
    to: str
    package: str  # "" for one by the administrator


class _List(NamedTuple):
    whole: bool  # each line is ended, and there is one: dpkg itself always writes that of the root
    paths: list[str]  # those below lib/modules


class _Stanza(NamedTuple):
    package: str
    arch: str
    there: bool  # it has files
    text: bytes

    @property
    def lists(self) -> tuple[str, str]:
        """The names that its list can have: the second where the package is `Multi-Arch: same`."""
        return self.package, f"{self.package}:{self.arch}"


def read(root: str, *, merged: bool) -> Database | None:
    """What dpkg's database below `root` says of lib/modules; None where there is none.  `merged`: see `canonical`.

    Raises MissingDependencyError without python-debian.
    """
    try:
        status = inside.find(root, f"{PLACE}/status")
        if status is None:
            return None
        stanzas = _stanzas(root, status)
        lists = dict(_lists(inside.resolve(root, f"{PLACE}/info"), merged=merged))
        _check(stanzas, lists)
        diversions = _diversions(inside.find(root, f"{PLACE}/diversions") or b"", merged=merged)
    except OSError as error:
        found = make("package-database-unreadable", PLACE, kind="dpkg", error=reason(error))
        return Database("dpkg", PLACE, 0, {}, (found,))
    wanted = {name: found.paths for name, found in lists.items() if found.paths}
    owners = dict(_owners(stanzas, wanted))
    files = {}
    for package, paths in wanted.items():
        if package in owners:
            files.update(dict.fromkeys(_diverted(paths, package, diversions), owners[package]))
    return Database("dpkg", PLACE, len(stanzas), files)


def _stanzas(root: str, status: bytes) -> list[_Stanza]:
    """Those of `status` as the journal left them.  Raises OSError for what is cut or unknown to dpkg."""
    if status and not status.endswith(b"\n"):
        raise OSError("status is cut short")
    found = {(each.package, each.arch): each for each in map(_stanza, STANZA.split(status)) if each}
    for each in _journal(root):
        found[each.package, each.arch] = each
    if inside.find(root, f"{PLACE}/status") != status:  # the journal goes as soon as it is in there
        raise OSError("status changes while it is read")
    return list(found.values())


def _stanza(text: bytes) -> _Stanza | None:
    if not (package := PACKAGE.search(text)):
        return None
    arch, status = ARCHITECTURE.search(text), STATUS.search(text)
    there = not status or status[1].split()[-1].decode("latin-1") not in NOT_THERE
    return _Stanza(_text(package[1]), _text(arch[1]) if arch else "", there, text)


def _journal(root: str) -> Iterator[_Stanza]:
    directory = inside.resolve(root, f"{PLACE}/updates")
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in sorted(filter(JOURNAL.fullmatch, names), key=int):
        data = inside.slurp(f"{directory}/{name}")
        text = data.rstrip(b"\n")
        found = _stanza(text)
        if not found or not data.endswith(b"\n") or not all(map(LINE.match, text.split(b"\n"))):
            raise OSError(f"updates/{name} is not one stanza of a package")
        yield found


def _lists(directory: str, *, merged: bool) -> Iterator[tuple[str, _List]]:
    """The list of each package, by the name that it has."""
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".list"):
            continue
        data = inside.slurp(f"{directory}/{name}")
        paths: list[str] = []
        if b"/lib/modules/" in data:
            # a package of headers has thousands of paths, and one or two there
            lines = _lines(b"\n".join(line for line in data.split(b"\n") if b"/lib/modules/" in line))
            paths = [path for path in (canonical(line, merged=merged) for line in lines) if below_modules(path)]
        yield name.removesuffix(".list"), _List(data.endswith(b"\n"), paths)


def _check(stanzas: Iterable[_Stanza], lists: Mapping[str, _List]) -> None:
    """Raises OSError where a list is not all there, or one of modules is nobody's: whose they are is not known."""
    known: set[str] = set()
    for stanza in stanzas:
        known.update(stanza.lists)
        if not stanza.there:
            continue
        names = [name for name in stanza.lists if name in lists]
        if not names:
            raise OSError(f"info/{stanza.package}.list is missing")
        for name in names:
            if not lists[name].whole:
                raise OSError(f"info/{name}.list is empty or cut short")
    for name, found in lists.items():
        if found.paths and name not in known:
            raise OSError(f"info/{name}.list has modules of a package that status does not know")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _lines(data: bytes) -> list[str]:
    return _text(data).split("\n")


def _diversions(data: bytes, *, merged: bool) -> dict[str, _Diversion]:
    lines = [canonical(line, merged=merged) for line in _lines(data)]
    triples = zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    return {path: _Diversion(to, package.removeprefix(":")) for path, to, package in triples if below_modules(path)}


def _diverted(paths: Iterable[str], package: str, diversions: Mapping[str, _Diversion]) -> Iterator[str]:
    """Where a package's files really lie: a diversion moves those of every package but the one that made it."""
    for path in paths:
        found = diversions.get(path)
        yield found.to if found and found.package != package.partition(":")[0] else path


def _owners(stanzas: Iterable[_Stanza], wanted: Container[str]) -> Iterator[tuple[str, Owner]]:
    """The packages among `wanted` whose files are there, by the name that their list has."""
    try:
        from debian.deb822 import Deb822
    except ImportError as error:
        raise MissingDependencyError("reading dpkg's status needs python-debian", hint=HINT) from error
    for stanza in stanzas:
        names = [name for name in stanza.lists if name in wanted]
        if not stanza.there or not names:  # parsing them all costs more than the rest of an audit
            continue
        fields = Deb822(stanza.text.decode("utf-8", "backslashreplace"))  # it would guess at what is no UTF-8, or fail
        for name in names:
            yield name, Owner("dpkg", name, str(fields.get("Version", "")))
