"""Real kernel modules for tests, benchmarks and the demo: unstripped, and as Debian ships them.

Both packages of a kernel come from one build.  Debian strips with `strip -g` of the same release's
binutils, so the shipped module without its signature is, byte for byte, the right answer for the
unstripped one: the strongest reference there is.

A kernel's directory has `shipped/` (every module of the image package), `dbg/` (unstripped modules
of the `-dbg` package), `boot/` (the kernel itself, where asked for) and `INFO` (what came from where).
A part that is there is whole: it gets its name when it is finished.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tests.setup.apt import Apt, Package, SetupError, find_archive

ALL, SOME, NOTHING = "all", "some", ""


class Kernel(NamedTuple):
    """One kernel that tests use: where it comes from and how much of it is wanted."""

    name: str
    arch: str
    suites: tuple[str, ...]  # the first that the machine's sources can serve
    image: str  # regex of the name of the package with the modules; `twin_of` it has them unstripped
    debug: str = SOME  # ALL, SOME (about 55 modules) or NOTHING
    boot: bool = False


KERNELS = (
    Kernel(
        "amd64", "amd64", ("bookworm-security", "bookworm"), r"linux-image-6\.1\.[\d.-]+-cloud-amd64", ALL, boot=True
    ),
    Kernel("arm64", "arm64", ("bookworm-security", "bookworm"), r"linux-image-6\.1\.[\d.-]+-cloud-arm64"),
    Kernel("s390x", "s390x", ("bookworm",), r"linux-image-6\.1\.[\d.-]+-s390x"),  # 64 bits, big-endian
    Kernel("armel", "armel", ("bookworm",), r"linux-image-6\.1\.[\d.-]+-rpi"),  # 32 bits, REL
    Kernel(  # labels
        "riscv64", "riscv64", ("trixie-security", "trixie"), r"linux-image-6\.12\.[\d.]+\+deb13-riscv64", boot=True
    ),
    Kernel(  # decompresses modules itself
        "amd64-6.12",
        "amd64",
        ("trixie-security", "trixie"),
        r"linux-image-6\.12\.[\d.]+\+deb13-cloud-amd64",
        NOTHING,
        boot=True,
    ),
    Kernel(  # the largest tree: about 4,000 modules
        "amd64-full", "amd64", ("bookworm-security", "bookworm"), r"linux-image-6\.1\.[\d.-]+-amd64", ALL
    ),
    # tests/run --full matrix fetches these two itself
    Kernel("amd64-trixie", "amd64", ("trixie-security", "trixie"), r"linux-image-6\.12\.[\d.]+\+deb13-cloud-amd64"),
    Kernel("amd64-sid", "amd64", ("sid",), r"linux-modules-[\d.]+(-rc\d+)?\+[\w.]+-cloud-amd64"),
)

# taken out of every -dbg package besides the smallest, the largest and those in the middle
NAMED = frozenset({
    "fs/xfs/xfs", "fs/ext4/ext4", "fs/btrfs/btrfs", "fs/nfs/nfs", "fs/fuse/fuse", "net/ipv6/ipv6", "net/sctp/sctp",
    "net/netfilter/nf_conntrack", "drivers/net/tun", "drivers/md/dm-mod", "crypto/af_alg",
    "drivers/net/phy/ax88796b_rust", "lib/crc-itu-t",
})  # fmt: skip


class Pair(NamedTuple):
    """What a kernel's two packages are today, and the apt that has them."""

    apt: Apt
    image: Package
    debug: Package | None


def cache_dir() -> Path:
    """The project's part of the user's cache directory (XDG Base Directory Specification)."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".cache") / "pkghook"


def corpus_dir() -> Path:
    """Where the kernels lie: `PKGHOOK_CORPUS`, else in the cache."""
    given = os.environ.get("PKGHOOK_CORPUS")
    return Path(given) if given else cache_dir() / "corpus"


def by_name(name: str) -> Kernel:
    """The row of that name; raises SetupError for an unknown one."""
    for kernel in KERNELS:
        if kernel.name == name:
            return kernel
    raise SetupError(f"no kernel is called {name!r}; there are {', '.join(k.name for k in KERNELS)}")


def missing(kernel: Kernel, home: Path, *, shipped_only: bool = False) -> list[str]:
    """The parts (`shipped`, `dbg`, `boot`) that are wanted and not there yet."""
    parts = ["shipped"]
    if kernel.debug and not shipped_only:
        parts.append("dbg")
    if kernel.boot:
        parts.append("boot")
    return [part for part in parts if not (home / kernel.name / part).is_dir()]


def look_up(kernel: Kernel) -> Pair:
    """Which packages hold the newest such kernel; fetches the index of its suite, some MB.

    A mirror may be without one suite for a while (half synchronised, say): then the next will do.
    """
    troubles = []
    for suite in kernel.suites:
        try:
            return look_up_in(suite, kernel)
        except SetupError as error:
            troubles.append(f"{suite}: {error}")
    raise SetupError("\n".join(troubles))


def look_up_in(suite: str, kernel: Kernel) -> Pair:
    """The newest such kernel of one suite of which both packages are there."""
    archive = find_archive(suite)
    if not archive:
        raise SetupError("no Debian archive for it among this machine's apt sources (/etc/apt/sources.list*)")
    apt = Apt(cache_dir() / "apt", suite, kernel.arch, archive)
    apt.update()
    twins = {(twin.name, twin.version): twin for twin in apt.packages(twin_of(kernel.image))}
    for image in reversed(apt.packages(kernel.image)):
        twin = twins.get((twin_of(image.name), image.version))
        if twin or not kernel.debug:  # an image may be published before its twin
            return Pair(apt, image, twin)
    raise SetupError(f"no package like {kernel.image} for {kernel.arch}, or not with its -dbg twin")


def twin_of(image: str) -> str:
    """The name of the package with the unstripped modules; kernels from 7 on have theirs outside of the image."""
    return f"{image.replace('linux-modules-', 'linux-image-', 1)}-dbg"


def stale(base: Path, pair: Pair) -> bool:
    """Whether the files there are those of another version, to which new ones would not fit."""
    info = base / "INFO"
    return info.exists() and not info.read_text("utf-8").startswith(f"{pair.image.name}={pair.image.version} ")


def needed(pair: Pair, parts: Sequence[str]) -> list[Package]:
    """The packages to download for these parts."""
    image = [pair.image] if {"shipped", "boot"} & set(parts) else []
    return image + ([pair.debug] if pair.debug and "dbg" in parts else [])


def fetch(kernel: Kernel, pair: Pair, home: Path, parts: Sequence[str]) -> None:
    """Download and unpack `parts` of a kernel below `home`; each .deb is deleted once unpacked."""
    base = home / kernel.name
    if {"shipped", "boot"} & set(parts):
        with downloaded(pair.apt, pair.image, base) as deb:
            unpack(deb, base, {"shipped": is_module, "boot": is_boot}, parts)
    if "dbg" in parts:
        if not pair.debug:
            raise SetupError(f"{kernel.name} has no unstripped modules")
        wanted = is_module if kernel.debug == ALL else among(pick(base / "shipped"))
        with downloaded(pair.apt, pair.debug, base) as deb:
            unpack(deb, base, {"dbg": wanted}, parts)
    note(base, pair)


@contextmanager
def downloaded(apt: Apt, package: Package, base: Path) -> Iterator[Path]:
    """The package's .deb for a while."""
    debs = base / "debs"
    try:
        yield apt.download(package, debs)
    finally:
        shutil.rmtree(debs, ignore_errors=True)


def is_module(path: str) -> bool:
    """Whether a package member is a module."""
    return re.search(r"/kernel/.*\.ko(\.\w+)?$", path) is not None


def is_boot(path: str) -> bool:
    """Whether a package member is the kernel itself."""
    return path.startswith("boot/vmlinu")


def stem(path: str) -> str:
    """`fs/ext4/ext4` for any path of that module, compressed or not."""
    return re.sub(r"^.*?/kernel/|\.ko(\.\w+)?$", "", path)


def among(stems: set[str]) -> Callable[[str], bool]:
    """Whether a package member is one of these modules."""
    return lambda path: is_module(path) and stem(path) in stems


def pick(shipped: Path) -> set[str]:
    """About 55 modules of a kernel: 18 smallest, 18 largest, 13 in the middle by shipped size, and the named."""
    sizes = sorted((path.stat().st_size, stem(str(path))) for path in shipped.rglob("*.ko*"))
    middle = len(sizes) // 2
    chosen = sizes[:18] + sizes[-18:] + sizes[middle - 6 : middle + 7]
    return {name for _, name in chosen} | (NAMED & {name for _, name in sizes})


def unpack(deb: Path, base: Path, wanted: dict[str, Callable[[str], bool]], parts: Sequence[str]) -> None:
    """Write the wanted members of a package to the parts' directories, in one pass without a temporary tar."""
    scratch = {part: base / f"{part}.partial" for part in wanted if part in parts}
    for directory in scratch.values():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
    for member, data in members(deb):
        path = member.name.removeprefix("./")
        for part, directory in scratch.items():
            if wanted[part](path):
                # boot/ is a part and a directory of the package alike
                write(directory / (path.removeprefix("boot/") if part == "boot" else path), member, data)
    for part, directory in scratch.items():
        if not any(directory.iterdir()):
            raise SetupError(f"{deb.name} has nothing for {part}")
        shutil.rmtree(base / part, ignore_errors=True)
        directory.rename(base / part)


def members(deb: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """The regular files of a .deb, in order; each must be read before the next one."""
    argv = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with (
        subprocess.Popen(argv, stdout=subprocess.PIPE) as dpkg,
        tarfile.open(fileobj=dpkg.stdout, mode="r|", bufsize=1 << 20) as tar,
    ):
        for member in tar:
            data = tar.extractfile(member) if member.isreg() else None
            if data and ".." not in Path(member.name).parts:
                yield member, data
            tar.members.clear()  # type: ignore[attr-defined]  # else every header stays in memory
        if dpkg.stdout:
            dpkg.stdout.read()  # the padding: dpkg-deb would complain about a closed pipe
    if dpkg.returncode:
        raise SetupError(f"dpkg-deb could not unpack {deb.name} ({dpkg.returncode})")


def write(path: Path, member: tarfile.TarInfo, data: IO[bytes]) -> None:
    """One member as a file, with its mode and time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        shutil.copyfileobj(data, file, 1 << 20)
    path.chmod(member.mode)
    os.utime(path, (member.mtime, member.mtime))


def note(base: Path, pair: Pair) -> None:
    """INFO: the packages, versions and sizes behind the files."""
    rows = [p for p in (pair.image, pair.debug) if p]
    (base / "INFO").write_text("".join(f"{p.name}={p.version} {p.size}\n" for p in rows))


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One process at a time below `home`; the second waits and says so."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that works in {home}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def size_text(count: float) -> str:
    """A number of bytes for people, in decimal units as apt shows them."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
