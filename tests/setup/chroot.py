"""python3 -m tests.setup.chroot DIR: a Debian 12 with two kernels, a DKMS module and what goes wrong around them.

mmdebstrap makes it in less than a minute on a quiet machine, from the archive of the machine's own apt sources.  The
kernels come by `dpkg --unpack`: their files and dpkg's database are as everywhere, their initramfs is not made.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.setup import chroots, dkms, kernels
from tests.setup.apt import Apt, Package, SetupError, find_archive, run

SUITE = "bookworm"
SECURITY = f"{SUITE}-security"
IMAGE = r"linux-image-(6\.1\.[\d.-]+-cloud-amd64)"
TOOLS = ("dkms", "kmod", "gcc", "make", "libc6-dev")
SOURCE = "dm-writeboost-dkms"
DUPLICATE = "drivers/net/tun.ko"


class Machine(NamedTuple):
    """What was made."""

    root: Path
    kernels: tuple[str, str]  # older, newer
    removed: str  # the kernel that was there before
    module: str  # MODULE/VERSION of what DKMS built for the newer kernel, unstripped
    built: Path  # where that lies below lib/modules

    def run(self, *argv: str) -> str:
        """Standard output of a command inside, which must succeed."""
        inside = ['mount -t proc proc $0/proc && exec chroot $0 "$@"', str(self.root), *argv]
        return run(["unshare", "--mount", "--propagation", "private", "sh", "-c", *inside])


def grow(home: Path) -> Machine:
    """The machine below `home`.  Raises SetupError."""
    apt, packages = images(home)
    removed, older, newer = packages
    root = home / "root"
    chroots.unpack(chroots.image(SUITE, [*TOOLS, newer.name.replace("image", "headers", 1)]), root)
    versions = [version_of(package) for package in (older, newer)]
    machine = Machine(root, (versions[0], versions[1]), version_of(removed), "", root)
    for package in packages:
        deb = apt.download(package, root / "debs")
        machine.run("dpkg", "--unpack", f"/debs/{deb.name}")
        deb.unlink()
        machine.run("depmod", version_of(package))
    machine.run("dpkg", "--remove", removed.name)
    machine = with_dkms(machine)
    there = root / f"lib/modules/{newer_of(machine)}"
    (there / "updates").mkdir(exist_ok=True)
    shutil.copy2(there / "kernel" / DUPLICATE, there / "updates")
    machine.run("depmod", newer_of(machine))
    return machine


def images(home: Path) -> tuple[Apt, list[Package]]:
    """The three newest kernels of the suite, oldest first."""
    archive = find_archive(SECURITY)
    if not archive:
        raise SetupError(f"no Debian archive for {SECURITY} among this machine's apt sources")
    apt = Apt(home / "apt", SECURITY, "amd64", archive)
    apt.update()
    found = apt.packages(IMAGE)[-3:]
    if len(found) < 3:
        raise SetupError(f"{SECURITY} has fewer than three packages like {IMAGE}")
    return apt, found


def version_of(package: Package) -> str:
    """Of the kernel."""
    return re.sub(IMAGE, r"\1", package.name)


def newer_of(machine: Machine) -> str:
    """The kernel that has all that is wrong."""
    return machine.kernels[1]


def with_dkms(machine: Machine) -> Machine:
    """A module that DKMS built and installed without stripping it, as a vendor's dkms.conf may say."""
    found = next(source for source in dkms.SOURCES if source.package == SOURCE)
    source = dkms.sources(found, kernels.cache_dir() / "dkms")
    there = machine.root / "usr/src" / source.name
    shutil.copytree(source, there, symlinks=True)
    with (there / "dkms.conf").open("a") as conf:
        conf.write('STRIP[0]="no"\n')
    name, _, version = source.name.rpartition("-")
    machine.run("dkms", "add", f"{name}/{version}")
    machine.run("dkms", "install", f"{name}/{version}", "-k", newer_of(machine))
    built = machine.root / f"lib/modules/{newer_of(machine)}/updates/dkms/{name}.ko"
    return machine._replace(module=f"{name}/{version}", built=built)


def main() -> int:
    """Make one; exit status 0, or 2 when something could not be had."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    home = Path(sys.argv[1]).absolute()
    home.mkdir(parents=True, exist_ok=True)
    try:
        print(grow(home).root)
    except (SetupError, OSError, subprocess.SubprocessError) as error:
        print(f"tests.setup.chroot: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
