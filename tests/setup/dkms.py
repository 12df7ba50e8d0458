"""python3 -m tests.setup.dkms [PACKAGE...]: out-of-tree modules from DKMS sources of Debian, with debug information.

The source package comes by apt as everything else does, nothing is installed, and DKMS itself is not needed: its
sources are built against the kernel headers of this machine.  What is built stays in the user's cache directory.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.setup import kernels
from tests.setup.apt import Apt, SetupError, find_archive, run

HEADERS = Path("/usr/src")
# Words for the kernel's makefiles.  The linker would undo what `-gz` tells the compiler, so it is told itself.
WAYS = {
    "-g": ("KCFLAGS=-g",),
    "-g3": ("KCFLAGS=-g3",),
    "-gz": ("KCFLAGS=-g3", "LDFLAGS_MODULE=--compress-debug-sections=zlib"),
}


class Source(NamedTuple):
    """A package of sources: the directories that are built in turn, below the one in usr/src."""

    package: str
    parts: tuple[str, ...] = (".",)


SOURCES = (
    Source("v4l2loopback-dkms"),
    Source("dm-writeboost-dkms"),
    Source("xtables-addons-dkms", ("extensions",)),  # two dozen modules
    Source("jool-dkms", ("src/mod/common", "src/mod/nat64", "src/mod/siit")),  # one of them exports 170 symbols
)


def modules(package: str, way: str) -> list[Path]:
    """The modules of a package built in one of `WAYS`; built only if they are not there.

    Raises SetupError where the sources, the headers or the compiler cannot be had, or the build fails.
    """
    source = next((source for source in SOURCES if source.package == package), None)
    if source is None:
        raise SetupError(f"no such sources: {package}; there are {', '.join(s.package for s in SOURCES)}")
    home = kernels.cache_dir() / "dkms"
    with kernels.alone(home):
        headers = newest_headers()
        built = home / f"{package}{way}@{headers.name}"
        if not built.is_dir():
            build(source, sources(source, home), headers, way, built)
    return sorted(path for path in built.rglob("*.ko") if path.is_file())


def newest_headers() -> Path:
    """The headers of the newest kernel that modules can be built for here."""
    found = [path.parent for path in HEADERS.glob("linux-headers-*/Module.symvers")]
    if not found:
        raise SetupError(f"no kernel headers in {HEADERS}; apt-get install linux-headers-$(dpkg --print-architecture)")
    return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path.name)])


def sources(source: Source, home: Path) -> Path:
    """The package's directory in usr/src, fetched once."""
    unpacked = home / source.package
    if not unpacked.is_dir():
        scratch = home / f"{source.package}.partial"
        shutil.rmtree(scratch, ignore_errors=True)
        deb = download(source.package, home)
        try:
            run(["dpkg-deb", "-x", str(deb), str(scratch)])
        finally:
            deb.unlink()
        scratch.rename(unpacked)
    return next((unpacked / "usr" / "src").iterdir())


def download(package: str, home: Path) -> Path:
    """The newest .deb of this machine's own suite."""
    suite = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    archive = find_archive(suite)
    if not archive:
        raise SetupError(f"no Debian archive for {suite or 'this system'} among this machine's apt sources")
    apt = Apt(kernels.cache_dir() / "apt", suite, run(["dpkg", "--print-architecture"]).strip(), archive)
    apt.update()
    found = apt.packages(re.escape(package))
    if not found:
        raise SetupError(f"{suite} has no package {package}")
    return apt.download(found[-1], home)


def build(source: Source, tree: Path, headers: Path, way: str, built: Path) -> None:
    """Build in a copy, which gets the name `built` when all is done."""
    scratch = built.with_name(f"{built.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(tree, scratch, symlinks=True)
    for part in source.parts:
        words = [
            f"M={scratch / part}",
            f"XA_ABSTOPSRCDIR={scratch}",  # as the dkms.conf of xtables-addons says
            f"XA_TOPSRCDIR={scratch}",
            *WAYS[way],
            "modules",
        ]
        make(["make", "-s", f"-j{len(os.sched_getaffinity(0))}", "-C", str(headers), *words])
    scratch.rename(built)


def make(argv: list[str]) -> None:
    """One build; SetupError with its last words."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SetupError("make is not installed") from None
    if done.returncode:
        raise SetupError(f"a module could not be built: {done.stderr.strip()[-1000:]}")


def main() -> int:
    """Build what is named, or everything, in all ways; exit status 0, or 2 when something could not be had."""
    try:
        for package in sys.argv[1:] or [source.package for source in SOURCES]:
            for way in WAYS:
                for path in modules(package, way):
                    print(f"{way:4} {kernels.size_text(path.stat().st_size):>8} {path}", flush=True)
    except (SetupError, OSError) as error:
        print(f"tests.setup.dkms: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
