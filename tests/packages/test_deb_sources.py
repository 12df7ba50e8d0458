"""A real Debian source package, built in a Debian 12 chroot with pkghook's own packages installed: iptables-netflow.

Debian's own packages of it hold the module's sources for DKMS and a plug-in of iptables, but no module; with a package
of the built module added to it, as its authors would ship one, it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages import debian
from tests.packages.systems import WHOLE, install, kernel, system
from tests.setup import kernels
from tests.setup.apt import Apt, SetupError, find_archive
from tests.setup.chroots import Chroot
from tests.support import lacking

pytestmark = pytest.mark.full

NAME = "iptables-netflow"
BUILD = "/srv/build"
STANZA = """
Package: iptables-netflow-modules
Architecture: linux-any
Depends: ${misc:Depends}
Description: iptables target which generates netflows: module
 The built module.
"""
# The module's own makefile wants to be asked for the module alone; it was configured for the running kernel.
RULES = """
execute_after_dh_auto_install:
\t./configure --disable-dkms --kver=%s --kdir=/lib/modules/%s/build
\t$(MAKE) ipt_NETFLOW.ko
\tinstall -D -m644 ipt_NETFLOW.ko debian/iptables-netflow-modules/lib/modules/%s/extra/ipt_NETFLOW.ko
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debian.own_packages(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def dsc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source package, as Debian has it."""
    try:
        archive = find_archive("bookworm")
        if not archive:
            lacking("no Debian archive for bookworm among this machine's apt sources")
        apt = Apt(kernels.cache_dir() / "apt", "bookworm", "source", archive)
        apt.update()
        return apt.source(NAME, tmp_path_factory.mktemp("source"))
    except SetupError as error:
        lacking(str(error))


@pytest.fixture
def chroot(own: Path, dsc: Path, tmp_path: Path) -> Iterator[Chroot]:
    with system(own, tmp_path, WHOLE) as found:
        install(found, "pkghook", "dh-pkghook")
        for path in dsc.parent.iterdir():
            found.path.joinpath("srv", path.name).write_bytes(path.read_bytes())
        yield found


def build(chroot: Chroot, dsc: Path, *, word: bool, modules: bool) -> dict[str, bytes]:
    """All packages by name; built in a directory of the same name each time."""
    chroot.must("rm", "-rf", BUILD)
    chroot.must("mkdir", BUILD)
    chroot.must("dpkg-source", "-x", f"/srv/{dsc.name}", f"{BUILD}/{NAME}")
    place = chroot.path / BUILD.lstrip("/") / NAME / "debian"
    control, rules = place / "control", place / "rules"
    if word:
        control.write_text(control.read_text().replace("Build-Depends:", f"Build-Depends: {debian.WORD},", 1))
    if modules:
        control.write_text(control.read_text() + STANZA)
        rules.write_text(rules.read_text() + RULES % ((kernel(chroot),) * 3))
    chroot.must("sh", "-c", f"cd {BUILD}/{NAME} && dpkg-buildpackage -b -us -uc")
    return {path.name.partition("_")[0]: path.read_bytes() for path in place.parents[1].glob("*.deb")}


def test_source_without_modules(chroot: Chroot, dsc: Path) -> None:
    """The one word changes not a byte of any package, debug symbols of its plug-in included."""
    without, with_it = (build(chroot, dsc, word=word, modules=False) for word in (False, True))
    assert {"irqtop", "iptables-netflow-dkms", "iptables-netflow-dkms-dbgsym"} <= without.keys()
    assert without == with_it


def test_source_with_a_module(chroot: Chroot, dsc: Path) -> None:
    """The module is shipped unstripped without the word; with it, it is stripped and has its debug symbols."""
    without, with_it = (build(chroot, dsc, word=word, modules=True) for word in (False, True))
    assert with_it.keys() - without.keys() == {"iptables-netflow-modules-dbgsym"}
    sizes = []
    for name, packages in (("without", without), ("with", with_it)):
        chroot.put("srv/modules.deb", "").write_bytes(packages["iptables-netflow-modules"])
        chroot.must("dpkg-deb", "-x", "/srv/modules.deb", f"/srv/{name}")
        (path,) = (chroot.path / "srv" / name).rglob("*.ko")
        sizes.append(path.stat().st_size)
        chroot.must("modinfo", f"/{path.relative_to(chroot.path)}")
    assert sizes[1] < sizes[0] / 5
    chroot.must("pkghook", "verify", "/srv/without", "/srv/with")
    assert "[unstripped]" in chroot.run("pkghook", "check", "/srv/without").output
    chroot.must("pkghook", "check", "/srv/with", "/srv/modules.deb")
    for name in without.keys() - {"iptables-netflow-modules"}:
        assert without[name] == with_it[name]
