"""The readers of packages on what takes minutes: over a gigabyte, over 4 GiB, format 6, all packages of a machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook.sources.packages import open_package
from tests.looks import look
from tests.packages import rpm6
from tests.packages.rpms import PAYLOADS, rpmbuild
from tests.repo.tree import ROOT
from tests.setup.apt import SetupError
from tests.support import lacking, need_kernel, need_tool

pytestmark = pytest.mark.full

READ_ALL = """
import resource, sys
from pkghook.sources.packages import open_package
largest = total = 0
with open_package(sys.argv[1]) as package:
    for member, reader in package.members():
        if member.path.endswith(".ko"):
            size = len(reader.read())
            largest, total = max(largest, size), total + size
assert not package.findings
own, programs = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(largest, total, own << 10, programs << 10)
"""
WINDOW = 8 << 20  # of the decompressor at the levels used here
MARGIN = 64 << 20


class Used(NamedTuple):
    """Bytes: of the largest module, of all, and of memory at most by us and by the program that decompresses."""

    largest: int
    total: int
    own: int
    programs: int


def read_all(package: Path, path: str) -> Used:
    """Read all modules of a package in a process of its own."""
    argv = [sys.executable, "-c", READ_ALL, str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stderr
    return Used(*map(int, done.stdout.split()))


@pytest.fixture(scope="module", params=["w3T2.zstdio", "w1T2.xzdio", "w1.gzdio", "deb xz", "deb zstd"])
def big(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with 1.2 GB of modules."""
    home = tmp_path_factory.mktemp("big")
    tree = home / "tree"
    subprocess.run(["cp", "-a", need_kernel(corpus, "amd64", "dbg"), tree], check=True)
    if request.param.startswith("w"):
        need_tool("rpmbuild")
        return rpmbuild(home / "build", tree, ("/usr/lib/debug",), request.param)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: demo\n"
    )
    argv = [need_tool("dpkg-deb"), f"-Z{request.param.split()[1]}", "-z1", "--build"]
    subprocess.run([*argv, tree, home / "demo.deb"], check=True, capture_output=True)
    return home / "demo.deb"


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nonexistent"], ids=["programs", "in process"])
def test_memory(big: Path, path: str) -> None:
    """Bounded by the largest module, the decompressor's window and 64 MiB."""
    used = read_all(big, path)
    assert used.total > 1_200_000_000
    assert used.own < used.largest + WINDOW + MARGIN


@pytest.mark.parametrize("payload", ["w1.zstdio", "w1.gzdio"])
def test_over_four_gigabytes(tmp_path: Path, payload: str) -> None:
    """rpm 4 then has 64-bit sizes, and 07070X in the payload."""
    need_tool("rpmbuild")
    tree = tmp_path / "tree"
    tree.mkdir()
    size = (4 << 30) + 7
    with (tree / "huge").open("wb") as file:
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    (tree / "z.ko").write_bytes(b"behind")
    (tree / "y.ko").hardlink_to(tree / "z.ko")
    package = rpmbuild(tmp_path / "build", tree, ("/huge", "/y.ko", "/z.ko"), payload)
    with open_package(str(package)) as opened:
        seen = {}
        for member, reader in opened.members():
            while (piece := reader.read(64 << 20)) and reader.left:
                pass
            seen[member.path] = (member.kind, member.size, piece[-6:])
        assert opened.findings == []
        assert opened.facts.counted_size == opened.facts.installed_size == size + 6
    assert seen == {
        "huge": ("file", size, b"\0\0\0end"),
        "y.ko": ("link", 0, b""),
        "z.ko": ("file", 6, b"behind"),
    }


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system with rpm 6."""
    if os.geteuid() != 0:
        lacking("making a system with rpm 6 needs root")
    need_tool("mmdebstrap")
    try:
        return rpm6.make_system(tmp_path_factory.mktemp("rpm6"))
    except SetupError as error:
        lacking(str(error))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_format_6(corpus: Path, system: Path, tmp_path: Path, payload: str) -> None:
    tree = tmp_path / "tree/lib/modules/6.1"
    tree.mkdir(parents=True)
    shutil.copy(next(need_kernel(corpus, "amd64", "dbg").rglob("lib/crc-itu-t.ko")), tree / "b.ko")
    (tree / "a.ko").hardlink_to(tree / "b.ko")
    (tree / "c.ko").symlink_to("b.ko")
    (tree / "dep").write_text("12345")
    files = ("/lib/modules/6.1", "%ghost /lib/modules/6.1/dep")
    package = rpm6.build(system, tmp_path / "tree", files, payload, tmp_path)
    found = look(package)
    assert found.findings == ()
    assert [(member.path.rpartition("/")[2], member.kind, member.target[-4:]) for member in found.members] == [
        ("6.1", "dir", ""), ("c.ko", "symlink", "b.ko"), ("a.ko", "link", "b.ko"), ("b.ko", "file", "")
    ]  # fmt: skip
    data = (tree / "b.ko").read_bytes()
    assert found.contents == {"lib/modules/6.1/b.ko": data}
    assert found.facts.payload == PAYLOADS[payload]
    assert found.facts.counted_size == found.facts.installed_size == len(data) + len("b.ko") + len("12345")


def test_packages_of_this_machine() -> None:
    """Whatever apt has kept: nothing is found, and the installed size fits."""
    packages = sorted(Path("/var/cache/apt/archives").glob("*.deb"), key=lambda path: path.stat().st_size)[:300]
    if not packages:
        lacking("apt has kept no packages here")
    for package in packages:
        found = look(package)
        assert found.findings == (), package
        if found.facts.installed_size is not None:
            # dpkg-gencontrol counts the control files too
            assert abs(found.facts.installed_size - found.facts.counted_size) < 1 << 20, package
