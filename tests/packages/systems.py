"""Debian 12 in a chroot, with pkghook's own packages at hand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.setup import chroots
from tests.setup.apt import SetupError
from tests.setup.chroots import Chroot
from tests.support import lacking

BARE = ("python3", "kmod")
LIBRARIES = ("python3-debian", "python3-pyelftools", "python3-zstandard")
BUILDING = ("build-essential", "debhelper", "elfutils", "fakeroot", "man-db")
SOURCE = ("dh-dkms", "dh-exec", "libxtables-dev", "pkg-config")  # what tests/packages/test_deb_sources.py builds needs
KERNEL = ("linux-image-cloud-amd64", "linux-headers-cloud-amd64", "initramfs-tools")
DKMS = ("dkms", "openssl", "dm-writeboost-dkms", "lime-forensics-dkms")
WHOLE = (*BARE, *LIBRARIES, *BUILDING, *SOURCE, *KERNEL, *DKMS, "debsums")


@contextmanager
def system(own: Path, place: Path, packages: Sequence[str]) -> Iterator[Chroot]:
    """A chroot with these packages for a while, and pkghook's own in /debs; else the test is skipped."""
    try:
        image = chroots.image("bookworm", packages)
    except SetupError as error:
        lacking(str(error))
    with chroots.unpacked(image, place) as chroot:
        (chroot.path / "debs").mkdir()
        for package in own.glob("*.deb"):
            shutil.copy(package, chroot.path / "debs")
        yield chroot


@contextmanager
def fresh(chroot: Chroot, place: Path) -> Iterator[Chroot]:
    """The same, to write to."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(chroots.layered(chroot, place))
        except SetupError as error:
            lacking(str(error))
        yield found


def install(chroot: Chroot, *names: str) -> str:
    """By apt, from the files alone: no archive is asked."""
    files = [f"/debs/{path.name}" for name in names for path in (chroot.path / "debs").glob(f"{name}_*.deb")]
    return chroot.must("apt-get", "install", "-y", "--no-install-recommends", *files)


def kernel(chroot: Chroot) -> str:
    """The version of the kernel that is installed."""
    (found,) = (path.name for path in (chroot.path / "lib/modules").iterdir() if (path / "kernel").is_dir())
    return found
