"""`sources.dpkg`, `sources.rpmdb`, `sources.dkms`: who installed a file, from what their databases say."""

from __future__ import annotations

import os
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
        lost="/.\n/usr/share/lost\n",  # a list without a package
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
        b"Package: a\nMaintainer: Bj\xf6rn\nVersion: 1\xff\n\n\n\0garbage\n\n: x\n\nPackage: b\n",
    )
    put(tmp_path, f"{PLACE}/info/b.list", b"/.\n")
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


def fault(found: Database | None) -> str:
    """Why it cannot be read; "" if it can."""
    assert found is not None
    assert [finding.id for finding in found.findings] in ([], ["package-database-unreadable"])
    return "".join(str(dict(finding.evidence)["error"]) for finding in found.findings)


def journal(root: Path, **entries: str) -> None:
    """What a running or killed dpkg did last: `_0000` and so on."""
    for name, text in entries.items():
        put(root, f"{PLACE}/updates/{name.removeprefix('_').replace('__', '.')}", text.encode())


def entry(name: str, state: str = "ok installed", arch: str = "amd64", version: str = "1") -> str:
    """As dpkg writes it: no blank line is in it."""
    return stanza(name, state, arch, version).removesuffix("\n")


def test_dpkg_journal(tmp_path: Path) -> None:
    """The last entry of a package counts, for its own architecture."""
    journal(
        tmp_path,
        _0000=entry("new", "reinstreq half-installed", version=""),
        _0001=entry("kmod", version="2"),
        _0009=entry("gone", "ok half-installed"),
        _0010=entry("gone", "ok not-installed"),
        _0011=entry("new"),
    )
    found = database(
        tmp_path,
        stanza("gone") + stanza("kmod", arch="i386") + stanza("kmod"),
        new="/lib/modules/1/a.ko\n",
        kmod__amd64="/lib/modules/1/b.ko\n",
        kmod__i386="/lib/modules/1/c.ko\n",
    )
    assert (fault(found), found.packages) == ("", 4)
    assert found.files == {
        "lib/modules/1/a.ko": Owner("dpkg", "new", "1"),
        "lib/modules/1/b.ko": Owner("dpkg", "kmod:amd64", "2"),
        "lib/modules/1/c.ko": Owner("dpkg", "kmod:i386", "1"),
    }


def test_dpkg_journal_that_removes(tmp_path: Path) -> None:
    """The files of a package that is gone are nobody's, though its list is still there."""
    journal(tmp_path, _0000=entry("a", "ok config-files"))
    found = database(tmp_path, stanza("a"), a="/lib/modules/1/a.ko\n")
    assert (fault(found), dict(found.files)) == ("", {})


def test_dpkg_journal_has_other_names(tmp_path: Path) -> None:
    journal(tmp_path, tmp__i="#padding\n", _0000__dpkg_new="Pack")
    assert database(tmp_path, stanza("a"), a="/lib/modules/1/a.ko\n").files


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "Status: install ok installed\n",
        "Package:\n",
        entry("a")[:-1],
        entry("a") + "\0" * 8 + "\n",
        stanza("a") + stanza("b"),
    ],
)
def test_dpkg_journal_unreadable(tmp_path: Path, text: str) -> None:
    journal(tmp_path, _0000=entry("a"), _0001=text)
    found = database(tmp_path, stanza("a"), a="/lib/modules/1/a.ko\n")
    assert fault(found) == "updates/0001 is not one stanza of a package"
    assert not found.files


def test_dpkg_journal_is_no_directory(tmp_path: Path) -> None:
    put(tmp_path, f"{PLACE}/updates", b"")
    assert fault(database(tmp_path, stanza("a"), a="/lib/modules/1/a.ko\n")) == "Not a directory"


@pytest.mark.parametrize("data", ["", "/.\n/lib/modules/1/a", "/.\n/usr/share/d"])
def test_dpkg_list_cut(tmp_path: Path, data: str) -> None:
    found = database(tmp_path, stanza("a") + stanza("b"), a=data, b="/.\n")
    assert fault(found) == "info/a.list is empty or cut short"


def test_dpkg_list_cut_of_one_architecture(tmp_path: Path) -> None:
    found = database(tmp_path, stanza("a") + stanza("a", arch="i386"), a__amd64="/.\n", a__i386="/.")
    assert fault(found) == "info/a:i386.list is empty or cut short"


@pytest.mark.parametrize("state", ["ok installed", "reinstreq half-installed"])
def test_dpkg_list_missing(tmp_path: Path, state: str) -> None:
    """dpkg writes it when the files are in place, so one that is killed before leaves some without."""
    assert fault(database(tmp_path, stanza("a") + stanza("b", state), a="/.\n")) == "info/b.list is missing"


@pytest.mark.parametrize("state", ["ok not-installed", "ok config-files"])
def test_dpkg_list_not_needed(tmp_path: Path, state: str) -> None:
    found = database(tmp_path, stanza("a") + stanza("b", state) + stanza("c", state), a="/.\n", c="")
    assert fault(found) == ""


def test_dpkg_list_of_nobody(tmp_path: Path) -> None:
    """It counts only where it has modules."""
    assert fault(database(tmp_path, stanza("a"), a="/.\n", b="/.\n/usr/share/doc\n", c="")) == ""
    found = database(tmp_path, stanza("a"), d__amd64="/usr/lib/modules/1/d.ko\n")
    assert fault(found) == "info/d:amd64.list has modules of a package that status does not know"


@pytest.mark.parametrize("cut", [1, 20])
def test_dpkg_status_cut(tmp_path: Path, cut: int) -> None:
    status = (stanza("a") + stanza("b")).rstrip("\n")
    assert fault(database(tmp_path, status[: -cut + 1 or None], a="/.\n", b="/.\n")) == "status is cut short"


def test_dpkg_status_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running dpkg puts its journal into `status`, and removes it."""
    journal(tmp_path, _0000=entry("b"))
    listdir = os.listdir

    def later(path: str) -> list[str]:
        if path.endswith("/updates"):
            (tmp_path / f"{PLACE}/updates/0000").unlink()
            put(tmp_path, f"{PLACE}/status", (stanza("a") + stanza("b")).encode())
        return listdir(path)

    monkeypatch.setattr(os, "listdir", later)
    assert fault(database(tmp_path, stanza("a"), a="/.\n", b="/.\n")) == "status changes while it is read"


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


@pytest.mark.parametrize(
    ("status", "stderr", "reason"),
    [
        (0, "", ""),
        (0, "warning: Found bdb Packages database\n", ""),
        (
            0,
            "warning: old\nerror: rpmdbNextIterator: skipping h#       2 \nerror: more\n",
            "rpmdbNextIterator: skipping h#       2",
        ),
        (1, "warning: old\nerror: cannot open\n", "cannot open"),
        (0, "error:\n", "error:"),
        (1, "Killed\n", "Killed"),
        (1, "", "exit status 1"),
    ],
)
def test_errors_of_rpm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, stderr: str, reason: str) -> None:
    """rpm itself ends with 0 after a header that it passed over."""
    tool = tmp_path / "bin/rpm"
    put(
        tmp_path,
        "bin/rpm",
        f"#!/bin/sh\nprintf '{stderr}' >&2\nprintf '\\tdemo\\t1-1\\tx\\n'\nexit {status}\n".encode(),
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    put(tmp_path, "root/var/lib/rpm/rpmdb.sqlite", b"")
    found = rpmdb.read(str(tmp_path / "root"), merged=True)
    assert found is not None
    assert found.packages == 1
    assert fault(found) == reason


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
