"""The readers of packages on what rpmbuild and dpkg-deb make of real modules, beside what others take out of it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from pkghook.errors import InputError
from tests.looks import Look, look
from tests.packages.rpms import PAYLOADS, rpmbuild
from tests.support import need_kernel, need_tool

MODULES = ("lib/crc-itu-t.ko", "fs/nls/nls_cp862.ko", "arch/x86/crypto/sha512-ssse3.ko")
VERSION = "lib/modules/6.1"
FILES = (f"/{VERSION}", f"%ghost /{VERSION}/modules.dep")
LEVELS = {"none": "0", "gzip": "9", "xz": "6", "zstd": "3"}


@pytest.fixture(scope="module")
def source(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with real modules, links of both kinds, a compressed module, an empty file and one that is not shipped."""
    root = tmp_path_factory.mktemp("source")
    kernel, extra = root / VERSION / "kernel", root / VERSION / "extra"
    kernel.mkdir(parents=True)
    extra.mkdir()
    for name in MODULES:
        shutil.copy(next(need_kernel(corpus, "amd64", "dbg").rglob(name)), kernel)
    (extra / "a.ko").hardlink_to(kernel / "nls_cp862.ko")
    (extra / "z.ko").hardlink_to(kernel / "nls_cp862.ko")
    (extra / "link.ko").symlink_to("../kernel/sha512-ssse3.ko")
    subprocess.run([need_tool("zstd"), "-q", kernel / "sha512-ssse3.ko", "-o", kernel / "packed.ko.zst"], check=True)
    (root / VERSION / "empty").touch()
    (root / VERSION / "modules.dep").write_text("made when it is installed\n")
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644, follow_symlinks=True)
    return root


def check(found: Look, unpacked: Path) -> None:
    """The members are the files that another program has unpacked, byte by byte."""
    assert found.findings == ()
    paths = {str(path.relative_to(unpacked)): path for path in unpacked.rglob("*")}
    members = {member.path: member for member in found.members if member.path}
    assert set(paths) >= set(members)
    assert all(paths[rest].is_dir() for rest in set(paths) - set(members))  # rpm lists only its own directories
    for path, member in members.items():
        stat = paths[path].lstat()
        assert member.mode == stat.st_mode
        match member.kind:
            case "file":
                assert found.contents[path] == paths[path].read_bytes()
            case "symlink":
                assert member.target == os.readlink(paths[path])
            case "link":
                assert stat.st_ino == paths[member.target].stat().st_ino
                assert members[member.target].kind == "file"
                assert members[member.target].inode == member.inode
            case _:
                assert paths[path].is_dir()


def unpack_rpm(package: Path, place: Path) -> Path:
    """By rpm's own tool and cpio."""
    place.mkdir()
    script = f"'{need_tool('rpm2cpio')}' '{package}' | '{need_tool('cpio')}' --quiet -idm"
    subprocess.run(["sh", "-c", script], cwd=place, check=True)
    return place


@pytest.mark.parametrize("payload", PAYLOADS)
def test_rpm(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payload: str) -> None:
    need_tool("rpmbuild")
    package = rpmbuild(tmp_path, source, FILES, payload)
    found = look(package)
    check(found, unpack_rpm(package, tmp_path / "unpacked"))
    assert sum(member.kind == "link" for member in found.members) == 2
    assert (found.facts.payload, found.facts.version) == (PAYLOADS[payload], "1-2")
    asked = subprocess.run(
        ["rpm", "-qp", "--qf", "%{LONGSIZE}", package], capture_output=True, text=True, check=True, cwd=tmp_path
    ).stdout
    assert found.facts.counted_size == found.facts.installed_size == int(asked)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert look(package) == found


@pytest.mark.parametrize("kind", LEVELS)
def test_deb(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(source, tree, symlinks=True)
    for name in ("a.ko", "z.ko"):  # copytree made files of them
        (tree / VERSION / "extra" / name).unlink()
        (tree / VERSION / "extra" / name).hardlink_to(tree / VERSION / "kernel" / "nls_cp862.ko")
    package = build_deb(tree, tmp_path / "demo.deb", kind)
    found = look(package)
    subprocess.run([need_tool("dpkg-deb"), "-x", package, tmp_path / "unpacked"], check=True)
    check(found, tmp_path / "unpacked")
    assert sum(member.kind == "link" for member in found.members) == 2
    assert (found.facts.payload, found.facts.version) == (kind, "1-2")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert look(package) == found


def build_deb(tree: Path, package: Path, kind: str) -> Path:
    """A package of `tree`, with sums as dh_md5sums makes them."""
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: demo\nVersion: 1-2\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: demo\n"
    )
    script = "find lib -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums"
    subprocess.run(["sh", "-c", script], cwd=tree, check=True)
    argv = [need_tool("dpkg-deb"), "--root-owner-group", f"-Z{kind}", f"-z{LEVELS[kind]}", "--build"]
    subprocess.run([*argv, tree, package], check=True, capture_output=True)
    return package


def test_deb_with_old_sums(source: Path, tmp_path: Path) -> None:
    """A module that was stripped after dh_md5sums: `dpkg -V` would call the installed package broken."""
    shutil.copytree(source, tmp_path / "tree", symlinks=True)
    module = tmp_path / "tree" / VERSION / "kernel" / "nls_cp862.ko"
    package = build_deb(tmp_path / "tree", tmp_path / "demo.deb", "xz")
    assert look(package).findings == ()
    subprocess.run([need_tool("objcopy"), "--strip-debug", module], check=True)
    (module.parent / "crc-itu-t.ko").unlink()
    subprocess.run(["dpkg-deb", "--build", tmp_path / "tree", package], check=True, capture_output=True)
    assert look(package).ids == [
        ("package-differs", f"{VERSION}/kernel/nls_cp862.ko"),
        ("package-missing", f"{VERSION}/kernel/crc-itu-t.ko"),
    ]


def broken(package: Path, place: Path) -> list[Path]:
    """Copies of a package: cut short at many points, and with single bits flipped."""
    whole = package.read_bytes()
    dice = random.Random(5)  # noqa: S311 no secret
    copies = {f"cut-{end}": whole[:end] for end in range(100, len(whole), len(whole) // 12)}
    copies[f"cut-{len(whole) - 2}"] = whole[:-2]  # the last byte of a Debian package may be padding
    for _ in range(40):
        bit = dice.randrange(len(whole) * 8)
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        copies[f"bit-{bit}"] = bytes(flipped)
    for name, data in copies.items():
        (place / name).write_bytes(data)
    return [place / name for name in copies]


def outcome(copy: Path, good: Look) -> str:
    """What came of reading a broken copy."""
    try:
        found = look(copy)
    except InputError:
        return "error"
    if found.findings:
        return "finding"
    return "same" if found.contents == good.contents else "wrong"


@pytest.mark.parametrize("how", ["w9.gzdio", "w19.zstdio", "w7.xzdio", "w.ufdio", "deb gzip", "deb xz", "deb zstd"])
def test_broken(source: Path, tmp_path: Path, how: str) -> None:
    """Each is an error, a finding, or gives the very bytes; never less of them without a word."""
    if how.startswith("deb"):
        shutil.copytree(source, tmp_path / "tree", symlinks=True)
        package = build_deb(tmp_path / "tree", tmp_path / "demo.deb", how.split()[1])
    else:
        need_tool("rpmbuild")
        package = rpmbuild(tmp_path / "build", source, FILES, how)
    good = look(package)
    (tmp_path / "broken").mkdir()
    outcomes = {copy.name: outcome(copy, good) for copy in broken(package, tmp_path / "broken")}
    assert not {name for name, how in outcomes.items() if how == "wrong"}
    assert {how for name, how in outcomes.items() if name.startswith("cut")} == {"error"}
    assert list(outcomes.values()).count("same") < 12  # bits of checks that nobody needs, for instance
