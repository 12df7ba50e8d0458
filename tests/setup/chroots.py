"""Chroots of Debian's releases: made once by mmdebstrap, unpacked anew for each use, run in namespaces of their own.

Where the archive is and whose signature counts is read from the machine's own apt sources (see `tests.setup.apt`). An
image is a tar file in the user's cache directory, named after the suite and the packages in it.  One of a suite that
moves is made anew after a week.  Needs root.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.setup import kernels, room
from tests.setup.apt import MOVING, SetupError, find_archive, run

# From the environment only what leads to the network goes in.
KEPT = ("http_proxy", "https_proxy", "no_proxy")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WEEK = 7 * 24 * 3600
# A snapshot of an archive is older than what its suite's Release file allows itself: the signature counts, its age not.
APT = ('Acquire::Check-Valid-Until "false"', 'Acquire::Languages "none"', 'APT::Install-Recommends "false"')


class Done(NamedTuple):
    """How a command in a chroot ended."""

    status: int
    output: str  # stdout and stderr as they came


class Chroot(NamedTuple):
    """An unpacked system."""

    path: Path
    plain: bool = False  # entered by chroot alone: no /proc, and what is started may stay

    def run(self, *argv: str, **env: str) -> Done:
        """Run a command as root in it, with mounts and processes of its own, which end with it."""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={self.path}", "--mount-proc", *argv]
        if self.plain:
            words = ["chroot", str(self.path), *argv]
        clean = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            words,
            env={**clean, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def must(self, *argv: str, **env: str) -> str:
        """The output of a command that has to succeed."""
        done = self.run(*argv, **env)
        if done.status:
            raise AssertionError(f"{' '.join(argv)} ended with {done.status}:\n{done.output}")
        return done.output

    def put(self, path: str, text: str, mode: int = 0o644) -> Path:
        """A file in it, written from outside."""
        place = self.path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, "utf-8")
        place.chmod(mode)
        return place


def image(suite: str, packages: Sequence[str], also: str = "") -> Path:
    """The tar file of a minimal system with `packages` and what they depend on, made where it is missing.

    A package can be NAME=VERSION of the suite `also`, and then all that it needs of there must be named like this.
    SetupError where mmdebstrap, root or an archive for the suite is missing, or the making fails.
    """
    if os.geteuid() != 0:
        raise SetupError("chroots need root")
    names = sorted(set(packages))
    home = kernels.cache_dir() / "chroots"
    digest = hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
    with kernels.alone(home):
        done = home / f"{suite}-{digest}.tar"
        if not done.exists() or (suite in MOVING and time.time() - done.stat().st_mtime > WEEK):
            stanzas = (*_stanzas(suite), *(_stanzas(also) if also else ()))
            _make(suite, names, "\n".join(stanzas), done)
    return done


def _make(suite: str, packages: Sequence[str], stanzas: str, done: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise SetupError("mmdebstrap is not installed: apt-get install mmdebstrap")
    partial = done.with_suffix(".partial.tar")
    partial.unlink(missing_ok=True)
    sources = done.with_suffix(".sources")
    sources.write_text(stanzas, "utf-8")
    options = ("--mode=root", "--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={','.join(packages)}")
    made = subprocess.run(
        ["mmdebstrap", *options, *(f"--aptopt={line}" for line in APT), suite, str(partial), str(sources)],
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", **{key: os.environ[key] for key in KEPT if key in os.environ}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if made.returncode:
        raise SetupError(f"mmdebstrap {suite} failed ({made.returncode}): {made.stderr.strip()[-2000:]}")
    partial.rename(done)


def _stanzas(suite: str) -> Iterator[str]:
    """The suite, and its security updates where the machine's sources have some."""
    names = (suite,) if suite in MOVING else (suite, f"{suite}-security")
    found = {name: find_archive(name) for name in names}
    if not found[suite]:
        raise SetupError(f"no Debian archive for {suite} among this machine's apt sources")
    for name, archive in found.items():
        if archive:
            signed = f"Signed-By:{archive.signed_by}\n" if archive.signed_by else ""
            yield f"Types: deb\nURIs: {archive.uri}\nSuites: {name}\nComponents: main\n{signed}"


@contextmanager
def unpacked(tar: Path, place: Path) -> Iterator[Chroot]:
    """A fresh system below `place`, for a while."""
    with room.made(place) as scratch:
        yield unpack(tar, scratch / "root")


def unpack(tar: Path, root: Path) -> Chroot:
    """A fresh system at `root`, which must not be there yet."""
    root.mkdir()
    run(["tar", "-C", str(root), "--numeric-owner", "--xattrs", "-xpf", str(tar)])
    return Chroot(root)


@contextmanager
def layered(chroot: Chroot, place: Path) -> Iterator[Chroot]:
    """The same system below `place`, for a while, whatever is written to it going elsewhere: quicker than a copy.

    SetupError where no overlay can be mounted.
    """
    layers = {name: place / name for name in ("upper", "aside", "root")}
    for path in layers.values():
        path.mkdir()
    options = f"lowerdir={chroot.path},upperdir={layers['upper']},workdir={layers['aside']}"
    argv = ["mount", "-t", "overlay", "-o", options, "overlay", str(layers["root"])]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"no overlay can be mounted: {done.stderr.strip()}")
    try:
        yield Chroot(layers["root"])
    finally:
        subprocess.run(["umount", "-l", layers["root"]], check=True)
