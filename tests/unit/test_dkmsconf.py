"""`sources.dkmsconf`: DKMS's configuration read as it reads it, the slot taken, the stripping claimed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkghook.errors import InputError
from pkghook.sources import dkmsconf
from pkghook.sources.dkmsconf import Built, Setting, Signing
from tests.trees import put

KERNEL = "6.1.0-9-amd64"
KBUILD = "usr/lib/linux-kbuild-6.1/scripts/sign-file"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A system with DKMS and one module of two versions."""
    root = tmp_path / "root"
    put(root, "etc/dkms/framework.conf", b"# nothing\n")
    for version in ("1.0", "2.0"):
        put(root, f"usr/src/net-{version}/dkms.conf", b'PACKAGE_NAME="net"\nSTRIP[1]=yes\n')
        (root / f"var/lib/dkms/net/{version}").mkdir(parents=True)
        (root / f"var/lib/dkms/net/{version}/source").symlink_to(f"/usr/src/net-{version}")
    return root


def program(root: Path, path: str) -> str:
    """Something that can be run."""
    put(root, path, b"#!/bin/sh\n").chmod(0o755)
    return f"/{path}"


def conf(root: Path, text: str, name: str = "framework.conf.d/mine.conf") -> None:
    put(root, f"etc/dkms/{name}", text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('sign_file="/opt/my sign"', "/opt/my sign"),
        ("sign_file='/opt/sign' # mine", "/opt/sign"),
        ("export sign_file=/opt/sign", "/opt/sign"),
        ('a=1; sign_file="/usr/src/$kernelver/s"', f"/usr/src/{KERNEL}/s"),
        ("sign_file=/usr/${kernelver%.*}/${kernelver}/s", f"/usr/6.1/{KERNEL}/s"),
        ("sign_file=/one\nsign_file=/two", "/two"),
        ("#sign_file=/one\nother='a\nb'\nsign_file=/two", "/two"),
        ("sign_file=", ""),
    ],
)
def test_assignments(root: Path, text: str, value: str) -> None:
    conf(root, text)
    assert dkmsconf.framework(str(root), KERNEL)["sign_file"].value == value


@pytest.mark.parametrize("text", ["sign_file=$(which x)", "sign_file=`x`", "mok_signing_key=$HOME/key"])
def test_what_only_a_shell_understands(root: Path, text: str) -> None:
    """It is never run: the root may be another system's."""
    conf(root, text)
    with pytest.raises(InputError, match="only a shell"):
        dkmsconf.framework(str(root), KERNEL)


def test_the_last_file_holds(root: Path) -> None:
    conf(root, "sign_file=/main", "framework.conf")
    conf(root, "sign_file=/a", "framework.conf.d/a.conf")
    conf(root, "sign_file=/z", "framework.conf.d/z.conf")
    conf(root, "sign_file=/none", "framework.conf.d/zz.txt")
    assert dkmsconf.holder(str(root)) == Setting("/z", "etc/dkms/framework.conf.d/z.conf")


def test_defaults_are_those_of_dkms(root: Path) -> None:
    assert dkmsconf.signing(str(root), KERNEL) == Signing("", "/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub")
    headers = program(root, f"usr/src/linux-headers-{KERNEL}/scripts/sign-file")
    assert dkmsconf.signing(str(root), KERNEL).tool == headers
    kbuild = program(root, KBUILD)
    assert dkmsconf.signing(str(root), KERNEL).tool == kbuild
    put(root, "etc/os-release", b"ID=ubuntu\nID_LIKE=debian\n")
    assert dkmsconf.signing(str(root), KERNEL).tool == headers
    kmodsign = program(root, "usr/bin/kmodsign")
    mok = "/var/lib/shim-signed/mok/MOK"
    assert dkmsconf.signing(str(root), KERNEL) == Signing(kmodsign, f"{mok}.priv", f"{mok}.der")


def test_what_is_configured_goes_before(root: Path) -> None:
    program(root, KBUILD)
    conf(root, "sign_file=/opt/sign\nmok_signing_key=pkcs11:token\nmok_certificate=/opt/$kernelver.pub")
    assert dkmsconf.signing(str(root), KERNEL) == Signing("", "pkcs11:token", f"/opt/{KERNEL}.pub")
    tool = program(root, "opt/sign")
    dkmsconf.take(str(root), "pkghook")
    assert dkmsconf.signing(str(root), KERNEL).tool == tool, "never our own"


def test_keys(root: Path) -> None:
    found = dkmsconf.signing(str(root), KERNEL)
    assert not dkmsconf.has_key(str(root), found)
    assert not dkmsconf.will_sign(str(root), found)
    program(root, "usr/bin/openssl")
    assert dkmsconf.will_sign(str(root), found)
    put(root, "var/lib/dkms/mok.pub", b"")
    assert not dkmsconf.has_key(str(root), found)
    assert dkmsconf.has_key(str(root), found._replace(key="pkcs11:token"))
    put(root, "var/lib/dkms/mok.key", b"")
    assert dkmsconf.has_key(str(root), found)


def test_take_and_give_back(root: Path) -> None:
    assert not dkmsconf.give_back(str(root))
    dkmsconf.take(str(root), "/usr/bin/pkghook")
    dkmsconf.take(str(root), "/usr/bin/pkghook")
    holder = dkmsconf.holder(str(root))
    assert holder == Setting(f"/{dkmsconf.SLOT}", dkmsconf.OURS)
    assert os.access(root / dkmsconf.SLOT, os.X_OK)
    assert dkmsconf.give_back(str(root))
    assert dkmsconf.holder(str(root)) is None
    assert not (root / dkmsconf.SLOT).exists()


def test_claim_and_release(root: Path) -> None:
    """What an administrator wrote stays; every number that a dkms.conf has is claimed."""
    assert dkmsconf.names(str(root)) == {"net": ("1.0", "2.0")}
    conf(root, 'CLEAN="make clean"\nSTRIP[4]=yes', "net.conf")
    for _ in range(2):
        dkmsconf.claim(str(root), "net", ("1.0", "2.0"))
    text = (root / "etc/dkms/net.conf").read_text()
    assert text.startswith('CLEAN="make clean"\nSTRIP[4]=yes\n# begin')
    assert [line for line in text.splitlines() if line.endswith('="no"')] == [f'STRIP[{n}]="no"' for n in (0, 1, 4)]
    assert dkmsconf.ours(str(root), "net")
    assert dkmsconf.release(str(root)) == ["net"]
    assert (root / "etc/dkms/net.conf").read_text() == 'CLEAN="make clean"\nSTRIP[4]=yes\n'
    assert not dkmsconf.ours(str(root), "net")
    (root / "etc/dkms/net.conf").unlink()
    dkmsconf.claim(str(root), "net", ("1.0",))
    dkmsconf.release(str(root))
    assert not (root / "etc/dkms/net.conf").exists()


def test_installed(root: Path) -> None:
    conf(root, 'dkms_tree="/srv/dkms"')
    assert dkmsconf.installed(str(root)) == []
    conf(root, "")
    put(root, f"var/lib/dkms/net/2.0/{KERNEL}/x86_64/module/net.ko.xz")
    put(root, f"var/lib/dkms/net/1.0/{KERNEL}/x86_64/module/net.ko.xz")
    (root / f"var/lib/dkms/net/kernel-{KERNEL}-x86_64").symlink_to(f"2.0/{KERNEL}/x86_64")
    (root / "var/lib/dkms/net/kernel-odd").symlink_to("elsewhere")
    path = f"var/lib/dkms/net/2.0/{KERNEL}/x86_64/module/net.ko.xz"
    assert dkmsconf.installed(str(root)) == [Built("net", "2.0", KERNEL, path)]


def test_links_out_of_the_root(root: Path, tmp_path: Path) -> None:
    """Nothing is written where they lead."""
    (tmp_path / "elsewhere").mkdir()
    (root / "etc/dkms/framework.conf.d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="leads out"):
        dkmsconf.take(str(root), "pkghook")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_no_dkms(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DKMS"):
        dkmsconf.check(str(tmp_path))
