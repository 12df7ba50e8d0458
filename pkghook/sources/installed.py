"""An installed system: its kernels, who owns their files, and what else its files say of them.

The modules themselves are named and opened by `tree`, with the same paths as here.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from pkghook.errors import InputError
from pkghook.findings import make
from pkghook.model import Kernel
from pkghook.sources import dkms, dpkg, inside, layout, rpmdb
from pkghook.sources.dirs import DIRECTORY, Dirs
from pkghook.sources.owners import MODULES, Database, Owner, canonical
from pkghook.sources.refusals import reason
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pkghook.findings import Finding

__all__ = ["Installed", "Owner", "Site", "System", "absent", "certificates", "find", "look", "manager", "named"]

PLACES = layout.PLACES[:2]  # those of modules; debug trees belong to no kernel
BOOTED = "run/ostree-booted"  # made by ostree-prepare-root on every image-based boot
# Where a kernel's configuration lies: Debian and most others; Fedora; Arch Linux and who else puts it there.
CONFIGS = ("boot/config-{}", "lib/modules/{}/config", "usr/lib/modules/{}/config", "usr/lib/kernel/config-{}")
IMAGES = ("boot/vmlinuz-{}", "boot/vmlinux-{}", "boot/Image-{}", "lib/modules/{}/vmlinuz", "usr/lib/modules/{}/vmlinuz")
# DKMS; Debian's and Ubuntu's shim; akmods.
CERTIFICATES = ("var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der", "etc/pki/akmods/certs/public_key.der")
COMPRESSIONS = {b"GZIP": "gzip", b"XZ": "xz", b"ZSTD": "zstd", b"NONE": "none"}


class Site(NamedTuple):
    """Where an installed system has kernels; none of its databases has been read for that."""

    root: str  # absolute, links resolved, "" for "/"
    places: tuple[str, ...]  # the directories below lib/modules, relative to the root, sorted
    frozen: str  # why nothing may be changed here, "" if it may


class System(NamedTuple):
    """The databases of an installed system."""

    root: str  # absolute, links resolved, "" for "/"
    merged: bool  # /lib is /usr/lib
    packages: Mapping[str, Owner]  # by canonical path
    built: Mapping[tuple[str, str], Owner]  # by DKMS: kernel and stem
    databases: tuple[str, ...]  # kinds that were read
    findings: tuple[Finding, ...]

    @property
    def known(self) -> bool:
        """Whether it is certain which files a package owns: there is a database, and each could be read."""
        return bool(self.databases) and not self.findings

    def owner(self, path: str, kernel: str) -> Owner | None:
        """Who installed the file at `path` (relative to the root) of `kernel`; None for nobody."""
        return self.packages_owner(path) or self.built.get((kernel, dkms.stem(path)))

    def packages_owner(self, *paths: str) -> Owner | None:
        """The package that owns the file with these names, relative to the root; None for none."""
        owners = (self.packages.get(canonical(path, merged=self.merged)) for path in paths)
        return next(filter(None, owners), None)


class Installed(NamedTuple):
    """All of it."""

    system: System
    kernels: tuple[Kernel, ...]  # sorted by path
    frozen: str  # why nothing may be changed here, "" if it may


def find(root: str) -> Site:
    """The kernels below `root`. Raises InputError for a root that cannot be opened."""
    try:
        path = os.path.realpath(root, strict=True)
        fd = os.open(path, DIRECTORY)
    except OSError as error:
        raise InputError(f"{root}: {reason(error)}", hint="--root is the directory that holds lib and var") from error
    dirs = Dirs(fd)
    try:
        tops = [top for top in layout.find(dirs, path).tops if top in PLACES]
        found = [f"{top}/{name}" for top in tops for name in _directories(dirs, top)]
    finally:
        dirs.close()
        os.close(fd)
    path = path.rstrip("/")
    return Site(path, tuple(sorted(found)), _frozen(path, tops))


def look(site: Site) -> Installed:
    """What the installed system says of its kernels. Raises MissingDependencyError where a database needs a library."""
    system = _system(site.root)
    owners = _by_directory(system)
    kernels = tuple(_kernel(system, place, owners) for place in site.places)
    return Installed(system, kernels, site.frozen)


def _directories(dirs: Dirs, top: str) -> list[str]:
    try:
        with os.scandir(dirs.get(top)) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."]
    except OSError:
        return []  # the walk says why


def _system(root: str) -> System:
    merged = _merged(root)
    databases = _that_count([dpkg.read(root, merged=merged), rpmdb.read(root, merged=merged)])
    packages: dict[str, Owner] = {}
    for database in databases:
        packages.update(database.files)
    return System(
        root,
        merged,
        packages,
        dkms.read(root),
        tuple(database.kind for database in databases if not database.findings),
        tuple(finding for database in databases for finding in database.findings),
    )


def _that_count(read: list[Database | None]) -> list[Database]:
    """Without empty ones: rpm on Debian and dpkg on Fedora make such.  If all are empty nobody knows who owns what."""
    there = [database for database in read if database] or [Database("dpkg or RPM", "var/lib", 0, {})]
    full = [database for database in there if database.packages or database.findings]
    return full or [_empty(database) for database in there]


def _empty(database: Database) -> Database:
    found = make("package-database-unreadable", database.place, kind=database.kind, error="there is no package")
    return database._replace(findings=(found,))


def _merged(root: str) -> bool:
    try:
        places = [os.stat(inside.resolve(root, place)) for place in ("lib", "usr/lib")]
    except OSError:
        return False
    return os.path.samestat(*places)


def _frozen(root: str, tops: list[str]) -> str:
    if inside.exists(root, BOOTED):
        return "the system is image-based: the next image brings the old files back"
    for top in tops:
        if os.statvfs(f"{root}/{top}").f_flag & os.ST_RDONLY:
            return f"{top} is mounted read-only"
    return ""


# --- one kernel ------------------------------------------------------------------------------------------------------


def _kernel(system: System, place: str, by_directory: Mapping[str, set[str]]) -> Kernel:
    version = place.rpartition("/")[2]
    compression, decompresses = _configured(_first(system.root, CONFIGS, version))
    owners = tuple(sorted(by_directory.get(canonical(place, merged=system.merged), ())))
    return Kernel(
        version,
        place,
        running=not system.root and os.uname().release == version,
        owners=owners,
        size=0 if owners else _size(f"{system.root}/{place}"),
        image=next((path for row in IMAGES if inside.exists(system.root, path := row.format(version))), ""),
        compression=compression,
        decompresses=decompresses,
    )


def _by_directory(system: System) -> dict[str, set[str]]:
    """The keys of those who own something, by directory of lib/modules as packages call it."""
    found: dict[str, set[Owner]] = {}
    for path, owner in system.packages.items():
        before, modules, below = path.partition(MODULES)
        found.setdefault(before + modules + below.partition("/")[0], set()).add(owner)
    return {directory: {owner.key for owner in owners} for directory, owners in found.items()}


def _size(directory: str) -> int:
    """Bytes of all files below a directory; links are not followed."""
    total = 0
    for here, _, files in os.walk(directory):
        for file in files:
            with suppress(OSError):  # gone meanwhile
                total += os.lstat(f"{here}/{file}").st_size
    return total


def _first(root: str, rows: tuple[str, ...], version: str) -> bytes:
    for row in rows:
        try:
            return inside.read(root, row.format(version))
        except OSError:
            continue
    return b""


def _configured(config: bytes) -> tuple[str, bool | None]:
    """How a kernel's own modules are compressed and whether it reads that itself; "" and None without configuration.

    Sources: kernel/module/Kconfig, and that of Linux before 6.12, where CONFIG_MODULE_COMPRESS_NONE stood for none.
    """
    if not config:
        return "", None
    lines = set(config.splitlines())
    chosen = [how for word, how in COMPRESSIONS.items() if b"CONFIG_MODULE_COMPRESS_%b=y" % word in lines]
    return chosen[0] if chosen else "none", b"CONFIG_MODULE_DECOMPRESS=y" in lines


def certificates(root: str, places: Iterable[str]) -> list[bytes]:
    """The certificates of those who sign modules on this very system, for the kernels at `places`."""
    places = [*CERTIFICATES, *(f"{place}/build/certs/signing_key.x509" for place in places)]
    found = []
    for place in places:
        with suppress(OSError):
            found.append(inside.read(root, place))
    return found


def manager(system: System) -> str:
    """The tool that installs RPMs there."""
    tools = ("dnf", "zypper", "yum")
    return next((tool for tool in tools if inside.exists(system.root, f"usr/bin/{tool}")), tools[0])


# --- modules.dep -----------------------------------------------------------------------------------------------------


def named(system: System, kernel: Kernel) -> frozenset[str] | None:
    """The modules that modules.dep names, relative to the root; None where there is none.  See modules.dep(5).

    Raises OSError where it is there and cannot be read.
    """
    data = inside.find(system.root, f"{kernel.path}/modules.dep")
    if data is None:
        return None
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    paths = (line.partition(":")[0] for line in lines if ":" in line)
    return frozenset(path.lstrip("/") if path.startswith("/") else f"{kernel.path}/{path}" for path in paths)


def absent(system: System, paths: Iterable[str]) -> list[str]:
    """Those of `paths` (relative to the root) at which there is nothing, sorted."""
    return sorted(path for path in paths if not _there(system.root, path))


def _there(root: str, path: str) -> bool:
    try:
        mode = os.lstat(f"{root}/{path}").st_mode
    except OSError:
        return os.path.exists(inside.resolve(root, path))  # a link on the way may lead elsewhere
    return not stat.S_ISLNK(mode) or os.path.exists(inside.resolve(root, path))
