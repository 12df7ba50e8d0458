"""What DKMS has built: which source a module below lib/modules came from.

Below var/lib/dkms lies MODULE/VERSION/KERNEL/ARCH/module/NAME.ko (perhaps compressed), and for what is installed a
symlink MODULE/kernel-KERNEL-ARCH to VERSION/KERNEL/ARCH.  Where a module is installed to is a distribution's choice
(updates/dkms on Debian and Ubuntu, extra on Fedora), so it is known by kernel and name.  Source: dkms(8).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook.model import MODULES
from pkghook.sources import inside
from pkghook.sources.owners import Owner

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = "var/lib/dkms"


def stem(path: str) -> str:
    """The name of the module at `path` as the kernel knows it: without directory and suffix, with _ for -."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def read(root: str) -> dict[tuple[str, str], Owner]:
    """The source that DKMS built a module from, by kernel and `stem`; of several versions the installed one.

    What cannot be read is left out: then nobody is known to have built it.
    """
    found: dict[tuple[str, str], Owner] = {}
    for module in inside.names(root, PLACE):
        installed = set(_installed(root, module))
        for version in inside.names(root, f"{PLACE}/{module}"):
            for kernel, arch, name in _built(root, f"{PLACE}/{module}/{version}"):
                key, owner = (kernel, stem(name)), Owner("dkms", f"{module}/{version}")
                if f"{version}/{kernel}/{arch}" in installed:
                    found[key] = owner
                else:
                    found.setdefault(key, owner)
    return found


def _installed(root: str, module: str) -> Iterator[str]:
    """VERSION/KERNEL/ARCH of each link that DKMS made for an installed build."""
    for name in inside.names(root, f"{PLACE}/{module}"):
        if name.startswith("kernel-"):
            try:
                yield os.readlink(f"{inside.resolve(root, f'{PLACE}/{module}')}/{name}")
            except OSError:
                continue


def _built(root: str, place: str) -> Iterator[tuple[str, str, str]]:
    """Kernel, architecture and file name of each module that was built of one version."""
    if os.path.islink(inside.resolve(root, place.rpartition("/")[0]) + "/" + place.rpartition("/")[2]):
        return  # kernel-KERNEL-ARCH
    for kernel in inside.names(root, place):
        for arch in inside.names(root, f"{place}/{kernel}"):
            for name in inside.names(root, f"{place}/{kernel}/{arch}/module"):
                if name.endswith(MODULES):
                    yield kernel, arch, name
