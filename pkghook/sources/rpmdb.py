"""RPM's database: which package owns a file below lib/modules, asked of `rpm` in one query.

Its forms (sqlite, ndb, Berkeley DB) are known to rpm alone, and an rpm built without one of them says so.  A query can
make files where there is no database, and an exit status of 0 comes with no answer then; so a foreign root's database
is copied first, the packages in an answer are counted, and an error on stderr counts.  Tried with rpm 4.18.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pkghook import proc
from pkghook.findings import make
from pkghook.sources import inside
from pkghook.sources.owners import Database, Owner, below_modules, canonical
from pkghook.sources.refusals import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# rpm's own default; where openSUSE and newer Fedora moved it to; where rpm-ostree keeps it.
PLACES = ("var/lib/rpm", "usr/lib/sysimage/rpm", "usr/share/rpm")
FORMS = ("rpmdb.sqlite", "Packages.db", "Packages")
NAMES = (*FORMS, "rpmdb.sqlite-wal", "Index.db")
# A tab begins no path, so it marks the line of a package among those of its files.
QUERY = r"\t%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\n[%{FILENAMES}\n]"
TIMEOUT = 300.0  # seconds
AKMODS = "var/cache/akmods"


def read(root: str, *, merged: bool) -> Database | None:
    """What RPM's database below `root` says of lib/modules; None where there is none.  `merged`: see `canonical`."""
    try:
        place = _place(root)
        if not place:
            return None
        with _readable(root, place) as path:
            files, packages, fault = _query(path)
    except OSError as error:
        place, files, packages, fault = PLACES[0], {}, 0, reason(error)
    owners = {owner: _if_akmods(root, owner) for owner in set(files.values())}
    owned = {canonical(path, merged=merged): owners[owner] for path, owner in files.items()}
    findings = (make("package-database-unreadable", place, kind="rpm", error=fault),) if fault else ()
    return Database("rpm", place, packages, owned, findings)


def _place(root: str) -> str:
    for place in PLACES:
        if any(inside.exists(root, f"{place}/{form}") for form in FORMS):
            return place
    return ""


@contextmanager
def _readable(root: str, place: str) -> Iterator[str]:
    """The database's directory; of a foreign root a copy, since a query may write to it."""
    if not root:
        yield f"/{place}"
        return
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="pkghook-") as copy:
        for name in NAMES:
            path = inside.resolve(root, f"{place}/{name}")
            if os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
                shutil.copyfile(path, os.path.join(copy, name))
        yield copy


def _query(directory: str) -> tuple[dict[str, Owner], int, str]:
    """The files below lib/modules with their owners, the number of packages, and what was wrong ("" if nothing)."""
    tool = proc.which("rpm")
    if not tool:
        return {}, 0, "rpm is not installed here"
    argv = [tool, "--dbpath", directory, "--query", "--all", "--queryformat", QUERY]
    ended = proc.run(argv, timeout=TIMEOUT, keep_stdout=True)
    files, packages = _parse(ended.stdout.decode("utf-8", "surrogateescape").split("\n"))
    said = ended.stderr.decode("utf-8", "replace").strip().replace(directory, "...").splitlines()
    errors = [line.removeprefix("error:").strip() for line in said if line.startswith("error:")]
    if ended.status == 0 and not errors:  # it passes over a damaged header with a word on stderr, and ends with 0
        return files, packages, ""
    how = ended.error or ("it took too long" if ended.timed_out else f"exit status {ended.status}")
    return files, packages, next(filter(None, [*errors, *said, how]))


def _parse(lines: Iterable[str]) -> tuple[dict[str, Owner], int]:
    """The files below lib/modules, and the number of packages."""
    files: dict[str, Owner] = {}
    owner = Owner("rpm", "")
    packages = 0
    for line in lines:
        if line.startswith("\t"):
            _, name, version, arch = (line.split("\t") + [""] * 3)[:4]
            owner = Owner("rpm", name, f"{version}.{arch}")
            packages += 1
        elif below_modules(path := line.lstrip("/")):
            files[path] = owner
    return files, packages


def _if_akmods(root: str, owner: Owner) -> Owner:
    """A package that akmods built here: it keeps those below its cache, one directory a source."""
    if not owner.name.startswith("kmod-"):
        return owner
    for source in inside.names(root, AKMODS):
        if owner.name.startswith(f"kmod-{source}-"):
            built = inside.names(root, f"{AKMODS}/{source}")
            if any(name.startswith(f"{owner.name}-") and name.endswith(".rpm") for name in built):
                return owner._replace(kind="akmods")
    return owner
