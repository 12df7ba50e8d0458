"""`pkghook audit` beside the real dpkg and rpm: they install into a root of their own, and find it untouched after."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests import inprocess, modules, trees
from tests.installed import SMALL, audit, release, shipped
from tests.support import need_tool
from tests.trees import mounted, need_root

EXTRA = "extra/mine.ko"


def run(*argv: str | Path, **environ: str) -> str:
    """Standard output of a tool that must succeed."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, **environ})
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def unstripped(corpus: Path) -> Path:
    """A module with debug information."""
    return modules.named(corpus, "amd64", "crc-itu-t")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root, merged as Debian's is."""
    need_root()
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    return root


# --- dpkg ------------------------------------------------------------------------------------------------------------


def deb(home: Path, name: str, files: Mapping[str, Path], *fields: str, version: str = "1-1") -> Path:
    """A package with these files."""
    tree = home / name
    control = ["Package: " + name, "Version: " + version, "Architecture: amd64", "Maintainer: A <a@example.org>"]
    trees.put(tree, "DEBIAN/control", "\n".join([*control, *fields, "Description: d", ""]).encode())
    for path, source in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, tree / path)
    sums = run("sh", "-c", f"cd '{tree}' && find lib usr -type f 2>/dev/null | xargs -d '\\n' md5sum")
    trees.put(tree, "DEBIAN/md5sums", sums.encode())
    package = home / f"{name}_{version}.deb"
    run(need_tool("dpkg-deb"), "-Znone", "--root-owner-group", "--build", tree, package)
    return package


def dpkg(root: Path, *words: str | Path) -> str:
    """The real dpkg, at work on another root."""
    (root / "var/lib/dpkg").mkdir(parents=True, exist_ok=True)
    return run(need_tool("dpkg"), f"--root={root}", "--force-script-chrootless", *words)


@pytest.fixture
def debian(root: Path, tmp_path: Path, corpus: Path, unstripped: Path) -> Path:
    """Two packages, one of them with an unstripped module and for several architectures; one module of nobody's."""
    version = release(corpus)
    home = f"lib/modules/{version}"
    image = {f"{home}/kernel/{stem}.ko": shipped(corpus, stem) for stem in SMALL}
    other = {f"usr/{home}/updates/other.ko": unstripped}
    packages = tmp_path / "packages"
    dpkg(root, "-i", deb(packages, f"linux-image-{version}", image, version="6.1-1"))
    dpkg(root, "-i", deb(packages, "other-modules", other, "Multi-Arch: same"))
    trees.put(root, f"usr/{home}/{EXTRA}", unstripped.read_bytes())
    run(need_tool("depmod"), "-b", root, version)
    return root


def test_owners_are_those_that_dpkg_knows(debian: Path, corpus: Path) -> None:
    """Also where a package names the path before the usr-merge."""
    seen = audit(debian)
    for entry in seen.document["entries"]:
        name = f"/{entry['path']}"
        done = subprocess.run(["dpkg", f"--root={debian}", "-S", name], capture_output=True, text=True, check=False)
        if done.returncode:
            before = name.removeprefix("/usr")
            done = subprocess.run(
                ["dpkg", f"--root={debian}", "-S", before], capture_output=True, text=True, check=False
            )
        owner = done.stdout.rpartition(": ")[0]
        assert entry.get("owner", "").removeprefix("dpkg:") == owner
    assert seen.entry("other.ko")["owner"] == "dpkg:other-modules:amd64"
    assert "owner" not in seen.entry("mine.ko")
    owners = {row["owner"]: row["reinstall"] for row in seen.document["owners"]}
    assert owners == {
        "dpkg:other-modules:amd64": f"chroot {debian} apt-get install --reinstall other-modules:amd64=1-1"
    }
    (kernel,) = seen.document["kernels"]
    assert kernel["owners"] == [f"dpkg:linux-image-{release(corpus)}", "dpkg:other-modules:amd64"]


def test_fix_leaves_dpkg_content(debian: Path, corpus: Path) -> None:
    before = inprocess.digests(debian)
    seen = audit(debian, "--fix")
    after = inprocess.digests(debian)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [f"usr/lib/modules/{release(corpus)}/{EXTRA}"]
    assert seen.evidence("fix-left-alone") == {"why": "dpkg:other-modules:amd64 owns it"}
    assert dpkg(debian, "-V") == ""
    assert (debian / changed[0]).read_bytes() == modules.image(shipped(corpus, "lib/crc-itu-t"))


def test_fix_on_a_read_only_system(debian: Path) -> None:
    modules_of = debian / "usr/lib/modules"
    kept = debian.parent / "kept"
    modules_of.rename(kept)
    with mounted(modules_of, "size=16m"):
        shutil.copytree(kept, modules_of, dirs_exist_ok=True)
        run("mount", "-o", "remount,ro", modules_of)
        before = inprocess.digests(debian)
        seen = audit(debian, "--fix")
        assert inprocess.digests(debian) == before
    why = {each["evidence"]["why"] for each in seen.document["findings"] if each["id"] == "fix-left-alone"}
    assert why == {"usr/lib/modules is mounted read-only"}
    assert len(seen.document["entries"]) == 6


def test_no_dpkg_is_needed(debian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = audit(debian).document
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert audit(debian, PATH=str(tmp_path / "empty")).document == told


def test_diverted(debian: Path, corpus: Path) -> None:
    """The administrator's own module in the place of a package's is nobody's; the package's own one moved away."""
    path = f"/lib/modules/{release(corpus)}/kernel/lib/crc7.ko"
    run("dpkg-divert", f"--root={debian}", "--local", "--rename", "--divert", f"{path}.orig.ko", path)
    trees.put(debian, path[1:], shipped(corpus, "lib/crc7").read_bytes())
    seen = audit(debian)
    assert "owner" not in seen.entry("crc7.ko")
    assert seen.entry("crc7.ko.orig.ko")["owner"] == f"dpkg:linux-image-{release(corpus)}"


def test_removed_package_owns_nothing(debian: Path, corpus: Path) -> None:
    """What depmod wrote stays behind, as after `apt remove` of a kernel."""
    version = release(corpus)
    shutil.rmtree(debian / f"usr/lib/modules/{version}/extra")
    dpkg(debian, "-i", deb(debian.parent / "more", "more", {"usr/share/more": Path(__file__)}))
    dpkg(debian, "-r", f"linux-image-{version}", "other-modules")
    seen = audit(debian)
    assert seen.findings == [("kernel-unowned", version)]
    evidence = seen.evidence("kernel-unowned")
    assert (evidence["modules"], evidence["image"]) == (0, "none")
    assert int(evidence["bytes"]) > 1000


def test_fix_beside_a_killed_dpkg(debian: Path, corpus: Path, unstripped: Path) -> None:
    """What it installed last is in its journal alone."""
    path = f"usr/lib/modules/{release(corpus)}/extra/late.ko"
    home = debian.parent / "more"
    trees.put(home, "late/DEBIAN/postinst", b"#!/bin/sh\nkill -9 $PPID\n")
    (home / "late/DEBIAN/postinst").chmod(0o755)
    words = ("--force-script-chrootless", "-i", deb(home, "late", {path: unstripped}))
    done = subprocess.run([need_tool("dpkg"), f"--root={debian}", *words], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert b"Package: late" not in (debian / "var/lib/dpkg/status").read_bytes()
    seen = audit(debian, "--fix")
    assert seen.entry("late.ko")["owner"] == "dpkg:late"
    assert (debian / path).read_bytes() == unstripped.read_bytes()


# --- RPM -------------------------------------------------------------------------------------------------------------

SPEC = """\
Name: {name}
Epoch: 2
Version: 1.0
Release: 3
Summary: demo
License: GPL
%description
demo
%install
install -D -m644 {source} %{{buildroot}}/lib/modules/{kernel}/extra/{file}
%files
/lib/modules/{kernel}/extra
"""


def rpm(home: Path, name: str, source: Path, kernel: str) -> Path:
    """A package of one module, by the real rpmbuild."""
    need_tool("rpmbuild")
    home.mkdir(exist_ok=True)
    spec = home / f"{name}.spec"
    spec.write_text(SPEC.format(name=name, source=source, kernel=kernel, file=f"{name}.ko"))
    words = ["--define", f"_topdir {home}", "--define", "debug_package %{nil}", "--define", "__strip /bin/true"]
    run("rpmbuild", "-bb", *words, spec)
    (package,) = home.glob(f"RPMS/*/{name}-*.rpm")
    return package


@pytest.fixture
def fedora(root: Path, tmp_path: Path, corpus: Path, unstripped: Path) -> Path:
    """Two packages, one of which akmods built there, and a module of nobody's."""
    need_tool("rpm")
    version = release(corpus)
    akmod = f"kmod-demo-{version.replace('-', '_')}"
    packages = [rpm(tmp_path / "rpm", name, unstripped, version) for name in ("demo", akmod)]
    run("rpm", "--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "-i", *packages)
    trees.put(root, f"var/cache/akmods/demo/{packages[1].name}", b"")
    trees.put(root, f"usr/lib/modules/{version}/{EXTRA}", unstripped.read_bytes())
    run(need_tool("depmod"), "-b", root, version)
    return root


def test_rpm_owners(fedora: Path) -> None:
    before = inprocess.digests(fedora)
    seen = audit(fedora)
    assert inprocess.digests(fedora) == before  # rpm itself would leave files beside its database
    assert seen.entry("demo.ko")["owner"] == "rpm:demo"
    assert "owner" not in seen.entry("mine.ko")
    akmod = next(entry for entry in seen.document["entries"] if "kmod-demo" in entry["path"])
    assert akmod["owner"].startswith("akmods:kmod-demo-")
    commands = {row["owner"].partition(":")[0]: row["reinstall"] for row in seen.document["owners"]}
    assert commands["rpm"] == f"chroot {fedora} dnf reinstall demo-2:1.0-3.x86_64"
    assert "akmods --force --akmod demo --kernels " in commands["akmods"]


def test_fix_never_touches_what_rpm_owns(fedora: Path, corpus: Path) -> None:
    before = inprocess.digests(fedora)
    seen = audit(fedora, "--fix")
    after = inprocess.digests(fedora)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == [f"usr/lib/modules/{release(corpus)}/{EXTRA}"]
    left = [each["evidence"]["why"] for each in seen.document["findings"] if each["id"] == "fix-left-alone"]
    assert sorted(why.partition(":")[0] for why in left) == ["akmods", "rpm"]
    assert run("rpm", "--root", fedora, "--dbpath", "/var/lib/rpm", "-Va", "--nodeps") == ""


@pytest.mark.parametrize("damage", ["overwritten", "cut", "of another kind", "no rpm"])
def test_unreadable_rpm_database(fedora: Path, tmp_path: Path, damage: str) -> None:
    """It is said, and nothing is taken for unowned."""
    database = max((fedora / "var/lib/rpm").iterdir(), key=lambda path: path.stat().st_size)
    environ = {}
    if damage == "overwritten":
        database.write_bytes(b"x" * 4096 + database.read_bytes()[4096:])
    elif damage == "cut":
        os.truncate(database, 8192)
    elif damage == "of another kind":
        database.rename(database.with_name("Packages" if database.name == "rpmdb.sqlite" else "rpmdb.sqlite"))
    else:
        environ["PATH"] = str(tmp_path)
    before = inprocess.digests(fedora)
    seen = audit(fedora, "--fix", **environ)
    assert inprocess.digests(fedora) == before
    assert seen.evidence("package-database-unreadable")["kind"] == "rpm"
    assert "kernel-unowned" not in {id for id, _ in seen.findings}
    assert [id for id, _ in seen.findings].count("fix-left-alone") == 3


def test_damaged_header_in_the_rpm_database(fedora: Path) -> None:
    """rpm passes over it, and ends with 0."""
    database = fedora / "var/lib/rpm/rpmdb.sqlite"
    if not database.exists():
        pytest.skip("this rpm has another database than sqlite")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE Packages SET blob = zeroblob(64) WHERE hnum = (SELECT min(hnum) FROM Packages)")
    before = inprocess.digests(fedora)
    seen = audit(fedora, "--fix")
    assert inprocess.digests(fedora) == before
    assert "skipping" in str(seen.evidence("package-database-unreadable")["error"])


def test_usual_places_of_the_database(fedora: Path) -> None:
    """openSUSE and newer Fedora have it below usr/lib/sysimage, with an absolute link from the old place."""
    (fedora / "usr/lib/sysimage").mkdir()
    (fedora / "var/lib/rpm").rename(fedora / "usr/lib/sysimage/rpm")
    assert audit(fedora).entry("demo.ko")["owner"] == "rpm:demo"
    (fedora / "var/lib/rpm").symlink_to("/usr/lib/sysimage/rpm")
    assert audit(fedora).entry("demo.ko")["owner"] == "rpm:demo"
