"""`sources.dpkg`, `sources.rpmdb`, `sources.dkms`: who installed a file, from what their databases say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pkghook.errors import MissingDependencyError
from pkghook.sources import dkms, dpkg, rpmdb
from pkghook.sources.owners import Database, Owner, canonical
from tests.trees import put

PLACE = "var/lib/dpkg"


def stanza(name: str, state: str = "ok installed", arch: str = "amd64", version: str = "1") -> str:
    """One of dpkg's status; a field that goes over lines, as real ones do."""
    return (
        f"Package: {name}\nStatus: install {state}\nArchitecture: {arch}\nVersion: {version}\n"
        "Description: short\n long\n .\n Package: not-a-field\n\n"
    )


def database(root: Path, status: str, diversions: str = "", **lists: str) -> Database:
    """What is read of such a database."""
    put(root, f"{PLACE}/status", status.encode())
    put(root, f"{PLACE}/diversions", diversions.encode())
    put(root, f"{PLACE}/info/format", b"1\n")
    for name, paths in lists.items():
        put(root, f"{PLACE}/info/{name.replace('__', ':').replace('_', '-')}.list", paths.encode())
    found = dpkg.read(str(root), merged=True)
    assert found is not None
    return found


def test_dpkg(tmp_path: Path) -> None:
    found = database(
        tmp_path,
        stanza("image") + stanza("headers", version="2:1~3") + stanza("strange"),
        image="/.\n/lib\n/lib/modules\n/lib/modules/1\n/lib/modules/1/a.ko\n",
        headers="/usr/lib/modules/1\n/usr/lib/modules/1/build\n",
        strange="/usr/share/lib/modules/no\n/usr/share/doc\n",
    )
    assert (found.packages, found.findings) == (3, ())
    assert found.files["lib/modules/1/a.ko"] == Owner("dpkg", "image", "1")
    assert found.files["lib/modules/1/build"] == Owner("dpkg", "headers", "2:1~3")
    assert not any("share" in path for path in found.files)


def test_dpkg_architectures(tmp_path: Path) -> None:
    status = stanza("kmod", arch="amd64") + stanza("kmod", arch="i386", version="2") + stanza("gone", "ok config-files")
    found = database(
        tmp_path,
        status,
        kmod__amd64="/lib/modules/1/a.ko\n",
        kmod__i386="/lib/modules/1/b.ko\n",
        gone="/lib/modules/1/c.ko\n",
        lost="/lib/modules/1/d.ko\n",  # a list without a package
    )
    assert found.files == {
        "lib/modules/1/a.ko": Owner("dpkg", "kmod:amd64", "1"),
        "lib/modules/1/b.ko": Owner("dpkg", "kmod:i386", "2"),
    }


@pytest.mark.parametrize("state", ["ok installed", "ok unpacked", "reinstreq half-installed", "ok half-configured"])
def test_dpkg_states_in_which_files_are_there(tmp_path: Path, state: str) -> None:
    assert database(tmp_path, stanza("a", state), a="/lib/modules/1/a.ko\n").files


def test_dpkg_diversions(tmp_path: Path) -> None:
    """One by the administrator, one by a package, which has the place itself; one beyond lib/modules."""
    found = database(
        tmp_path,
        stanza("image") + stanza("better"),
        "/lib/modules/1/a.ko\n/lib/modules/1/a.ko.orig.ko\n:\n"
        "/usr/lib/modules/1/b.ko\n/usr/lib/modules/1/b.ko.image.ko\nbetter\n"
        "/bin/sh\n/bin/sh.distrib\n:\n",
        image="/lib/modules/1/a.ko\n/lib/modules/1/b.ko\n",
        better="/lib/modules/1/b.ko\n",
    )
    assert {path: owner.name for path, owner in found.files.items()} == {
        "lib/modules/1/a.ko.orig.ko": "image",
        "lib/modules/1/b.ko.image.ko": "image",
        "lib/modules/1/b.ko": "better",
    }


def test_dpkg_in_no_encoding(tmp_path: Path) -> None:
    """Old databases have Latin-1 in them, broken ones anything."""
    put(tmp_path, f"{PLACE}/info/a.list", b"/lib/modules/1/\xff.ko\n")
    put(
        tmp_path,
        f"{PLACE}/status",
        b"Package: a\nMaintainer: Bj\xf6rn\nVersion: 1\xff\n\n\n\0garbage\n\n: x\n\nPackage: b",
    )
    found = dpkg.read(str(tmp_path), merged=True)
    assert found is not None
    assert found.files == {"lib/modules/1/\udcff.ko": Owner("dpkg", "a", "1\\xff")}


def test_without_python_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "debian.deb822", None)
    with pytest.raises(MissingDependencyError) as caught:
        database(tmp_path, stanza("a"), a="/lib/modules/1/a.ko\n")
    assert "python3-debian" in caught.value.hint


def test_no_dpkg(tmp_path: Path) -> None:
    assert dpkg.read(str(tmp_path), merged=True) is None


def test_broken_dpkg(tmp_path: Path) -> None:
    put(tmp_path, f"{PLACE}/status", stanza("a").encode())
    found = dpkg.read(str(tmp_path), merged=True)
    assert found is not None
    assert [(finding.id, finding.subject) for finding in found.findings] == [("package-database-unreadable", PLACE)]


def test_names_before_and_after_the_merge() -> None:
    assert canonical("/usr/lib/modules/1/a.ko", merged=True) == "lib/modules/1/a.ko"
    assert canonical("/usr/lib/modules/1/a.ko", merged=False) == "usr/lib/modules/1/a.ko"
    assert canonical("/usr/lib/other", merged=True) == "usr/lib/other"


def test_answer_of_rpm() -> None:
    lines = [
        "\tkernel\t6.1-1\tx86_64",
        "/lib/modules/1",
        "/lib/modules/1/a b.ko",
        "/boot/vmlinuz-1",
        "\tgpg-pubkey\t1-1\t(none)",
        "\tkmod-x\t2:1-1\tnoarch",
        "/usr/lib/modules/1/x.ko",
        "",
    ]
    files, packages = rpmdb._parse(lines)  # noqa: SLF001
    assert packages == 3
    assert files == {
        "lib/modules/1": Owner("rpm", "kernel", "6.1-1.x86_64"),
        "lib/modules/1/a b.ko": Owner("rpm", "kernel", "6.1-1.x86_64"),
        "usr/lib/modules/1/x.ko": Owner("rpm", "kmod-x", "2:1-1.noarch"),
    }


def test_no_rpm_database(tmp_path: Path) -> None:
    assert rpmdb.read(str(tmp_path), merged=True) is None
    assert list(tmp_path.iterdir()) == []


def test_dkms(tmp_path: Path) -> None:
    """Of two versions of one source the installed one counts; names as the kernel has them."""
    for version, name in (("1.0", "my-mod.ko"), ("2.0", "my-mod.ko.xz"), ("3.0", "my-mod.ko")):
        put(tmp_path, f"var/lib/dkms/my/{version}/6.1/x86_64/module/{name}", b"")
    put(tmp_path, "var/lib/dkms/other/1/6.1/x86_64/module/other.ko", b"")
    put(tmp_path, "var/lib/dkms/other/1/6.1/x86_64/log/make.log", b"")
    (tmp_path / "var/lib/dkms/my/kernel-6.1-x86_64").symlink_to("2.0/6.1/x86_64")
    put(tmp_path, "var/lib/dkms/mok.key", b"")
    assert dkms.read(str(tmp_path)) == {
        ("6.1", "my_mod"): Owner("dkms", "my/2.0"),
        ("6.1", "other"): Owner("dkms", "other/1"),
    }
    assert dkms.stem("lib/modules/6.1/updates/dkms/my-mod.ko.xz") == "my_mod"
    assert not Owner("dkms", "my/2.0").packaged


def test_no_dkms(tmp_path: Path) -> None:
    assert dkms.read(str(tmp_path)) == {}
