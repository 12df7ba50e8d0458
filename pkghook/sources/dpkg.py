"""dpkg's database: which package owns a file below lib/modules, read without dpkg.

`info/PACKAGE.list` or `info/PACKAGE:ARCH.list` has a package's paths, one a line; `diversions` three lines each: what
is diverted, to where, by which package (`:` for the administrator); `status` one stanza a package.  Sources: dpkg(1),
dpkg-divert(1), lib/dpkg/db-fsys-files.c and lib/dpkg/db-fsys-divert.c.
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
    from collections.abc import Iterable, Iterator, Mapping

PLACE = "var/lib/dpkg"
STANZA = re.compile(rb"\n[ \t]*\n")
PACKAGE = re.compile(rb"^Package:[ \t]*(\S+)", re.MULTILINE | re.IGNORECASE)
NOT_THERE = ("not-installed", "config-files")  # states in which a package's files are gone
HINT = "apt install python3-debian, or pip install python-debian"


class _Diversion(NamedTuple):
    to: str
    package: str  # "" for one by the administrator


def read(root: str, *, merged: bool) -> Database | None:
    """What dpkg's database below `root` says of lib/modules; None where there is none.  `merged`: see `canonical`.

    Raises MissingDependencyError without python-debian.
    """
    try:
        status = inside.find(root, f"{PLACE}/status")
        if status is None:
            return None
        lists = dict(_lists(inside.resolve(root, f"{PLACE}/info"), merged=merged))
        diversions = _diversions(inside.find(root, f"{PLACE}/diversions") or b"", merged=merged)
    except OSError as error:
        found = make("package-database-unreadable", PLACE, kind="dpkg", error=reason(error))
        return Database("dpkg", PLACE, 0, {}, (found,))
    owners = dict(_owners(status, lists))
    files = {}
    for package, paths in lists.items():
        if package in owners:
            files.update(dict.fromkeys(_diverted(paths, package, diversions), owners[package]))
    return Database("dpkg", PLACE, len(PACKAGE.findall(status)), files)


def _lists(directory: str, *, merged: bool) -> Iterator[tuple[str, list[str]]]:
    """Each package that has a path below lib/modules, with all such paths."""
    for name in sorted(os.listdir(directory)):
        if not name.endswith(".list"):
            continue
        data = inside.slurp(f"{directory}/{name}")
        if b"/lib/modules/" in data:
            # a package of headers has thousands of paths, and one or two there
            lines = _lines(b"\n".join(line for line in data.split(b"\n") if b"/lib/modules/" in line))
            paths = (canonical(line, merged=merged) for line in lines)
            yield name.removesuffix(".list"), [path for path in paths if below_modules(path)]


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "surrogateescape").split("\n")


def _diversions(data: bytes, *, merged: bool) -> dict[str, _Diversion]:
    lines = [canonical(line, merged=merged) for line in _lines(data)]
    triples = zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    return {path: _Diversion(to, package.removeprefix(":")) for path, to, package in triples if below_modules(path)}


def _diverted(paths: Iterable[str], package: str, diversions: Mapping[str, _Diversion]) -> Iterator[str]:
    """Where a package's files really lie: a diversion moves those of every package but the one that made it."""
    for path in paths:
        found = diversions.get(path)
        yield found.to if found and found.package != package.partition(":")[0] else path


def _owners(status: bytes, wanted: Mapping[str, object]) -> Iterator[tuple[str, Owner]]:
    """The packages among `wanted` whose files are there, by the name that their list has."""
    try:
        from debian.deb822 import Deb822
    except ImportError as error:
        raise MissingDependencyError("reading dpkg's status needs python-debian", hint=HINT) from error
    names = {name.partition(":")[0].encode("utf-8", "surrogateescape") for name in wanted}
    for text in STANZA.split(status):
        found = PACKAGE.search(text)
        if not found or found[1] not in names:  # parsing them all costs more than the rest of an audit
            continue
        stanza = Deb822(text.decode("utf-8", "backslashreplace"))  # it would guess at what is no UTF-8, or fail
        if str(stanza.get("Status", "")).split()[-1:] in ([state] for state in NOT_THERE):
            continue
        package, arch, version = (str(stanza.get(key, "")) for key in ("Package", "Architecture", "Version"))
        for name in (package, f"{package}:{arch}"):
            if name in wanted:
                yield name, Owner("dpkg", name, version)
