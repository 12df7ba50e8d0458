"""`pkghook check` on packages with 1.2 GB of unstripped modules: memory, and that every one is told rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import inprocess
from tests.packages.rpms import rpmbuild
from tests.repo.tree import ROOT
from tests.support import need_kernel, need_tool

pytestmark = pytest.mark.full

CHECK = """
import resource, sys
from pkghook.cli import main
status = main(["check", "--include-debug", "--keep-dir", "", "--format", "json", *sys.argv[1:]])
own, others = (resource.getrusage(who).ru_maxrss << 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(own, others, file=sys.stderr)
raise SystemExit(status)
"""
WINDOW = 8 << 20  # of the decompressor at the levels used here
MARGIN = 64 << 20


@pytest.fixture(scope="module")
def tree(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All modules of a kernel's debug package."""
    tree = tmp_path_factory.mktemp("big") / "tree"
    subprocess.run(["cp", "-a", need_kernel(corpus, "amd64", "dbg"), tree], check=True)
    return tree


@pytest.fixture(scope="module", params=["w3T2.zstdio", "w1T2.xzdio", "w1.gzdio", "deb xz"])
def big(request: pytest.FixtureRequest, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of them."""
    home = tmp_path_factory.mktemp(f"package-{request.param.replace(' ', '-')}-")
    if request.param.startswith("w"):
        need_tool("rpmbuild")
        return rpmbuild(home, tree, ("/usr/lib/debug",), request.param)
    (tree / "DEBIAN").mkdir()
    lines = ("Package: demo", "Version: 1", "Architecture: all", "Maintainer: A <a@example.org>", "Description: demo")
    (tree / "DEBIAN" / "control").write_text("".join(f"{line}\n" for line in lines))
    argv = [need_tool("dpkg-deb"), "-Zxz", "-z1", "--build", str(tree), str(home / "demo.deb")]
    subprocess.run(argv, check=True, capture_output=True)
    return home / "demo.deb"


def test_memory_and_bytes_to_be_had(tree: Path, big: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bounded by the largest module, the decompressor's window and 64 MiB; each module has its finding."""
    start = time.monotonic()
    argv = [sys.executable, "-c", CHECK, str(big)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    took = time.monotonic() - start
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    sizes = {str(path.relative_to(tree)): path.stat().st_size for path in tree.rglob("*.ko")}
    assert {each["path"]: each["image_size"] for each in found["entries"]} == sizes
    assert {each["subject"] for each in found["findings"] if each["id"] == "unstripped"} == set(sizes)
    own, others = map(int, done.stderr.split())
    assert own < max(sizes.values()) + WINDOW + MARGIN
    if "gzdio" in str(big) or "zstdio" in str(big):  # no decompressor among the others, only our workers
        assert others < max(sizes.values()) + WINDOW + MARGIN
    bare = need_tool("rpm2cpio" if big.suffix == ".rpm" else "dpkg-deb")
    start = time.monotonic()
    with open(os.devnull, "wb") as nothing:
        subprocess.run([bare, *(["--fsys-tarfile"] if big.suffix == ".deb" else []), big], check=True, stdout=nothing)
    with capsys.disabled():
        other = time.monotonic() - start
        sys.stderr.write(f"\n{big}: check {took:.1f} s, {Path(bare).name} {other:.1f} s: {took / other:.2f} times\n")


def test_what_native_then_frees(tree: Path) -> None:
    """Module by module the bytes that the report has. Changes the tree, so it comes last."""
    report = json.loads(inprocess.call("check", "--include-debug", "--keep-dir", "", "--format", "json", tree).out)
    expected = {each["path"]: each["expected"] for each in report["entries"]}
    job = inprocess.strip(tree, "--include-debug", "--chain", "native")
    assert job.status == 0
    assert {str(path.relative_to(tree)): path.stat().st_size for path in tree.rglob("*.ko")} == expected
    assert report["totals"]["saving"] == sum(each["image_size"] for each in report["entries"]) - sum(expected.values())
