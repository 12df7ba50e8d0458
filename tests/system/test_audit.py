"""`pkghook audit` on a Debian that was installed for it: it says exactly what is wrong, and --fix mends just that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import inprocess, trees
from tests.installed import audit
from tests.setup import chroot
from tests.setup.apt import SetupError
from tests.setup.chroot import Machine
from tests.support import lacking, need_tool
from tests.trees import need_root

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Made once; the tests run in order."""
    need_root()
    for tool in ("mmdebstrap", "unshare", "chroot"):
        need_tool(tool)
    home = tmp_path_factory.mktemp("debian")
    try:
        yield chroot.grow(home)
    except SetupError as error:
        lacking(str(error))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def files(root: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of all that an audit may look at."""
    found = {}
    for place in ("usr/lib/modules", "var/lib/dpkg", "var/lib/dkms", "boot"):
        for path in (root / place).rglob("*"):
            status = path.lstat()
            found[str(path.relative_to(root))] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def expected(machine: Machine) -> list[tuple[str, str]]:
    """What is wrong, beside the module that is unstripped."""
    return [
        ("duplicate-module", "tun.ko"),
        ("kernel-unowned", machine.removed),
        ("signature-missing", machine.built.name),
    ]


def test_it_says_exactly_what_is_wrong(machine: Machine) -> None:
    before = files(machine.root)
    seen = audit(machine.root)
    assert files(machine.root) == before
    assert seen.status == 1
    assert seen.findings == [*expected(machine), ("unstripped", machine.built.name)]
    assert seen.entry(machine.built.name)["owner"] == f"dkms:{machine.module}"
    assert {kernel["version"] for kernel in seen.document["kernels"]} == {*machine.kernels, machine.removed}
    rows = {row["kernel"]: row for row in seen.document["rows"]}
    for version in machine.kernels:
        owned = [entry for entry in seen.document["entries"] if entry["kernel"] == version and "owner" in entry]
        packaged = [entry for entry in owned if entry["owner"] == f"dpkg:linux-image-{version}"]
        assert len(packaged) > 1000
        assert rows[version]["signed"] >= len(packaged)
    assert rows[machine.kernels[1]]["unstripped"] == 1
    saving = seen.evidence("unstripped")["saving"]
    size = machine.built.stat().st_size
    assert size - int(saving) < size / 5


def test_foreign_root_needs_no_tool_of_its_own(machine: Machine, tmp_path: Path) -> None:
    assert audit(machine.root, PATH=str(tmp_path)).document == audit(machine.root).document


def test_one_kernel(machine: Machine) -> None:
    assert audit(machine.root, "--kernel", machine.kernels[0]).findings == []


def test_inside_it_is_the_running_system(machine: Machine) -> None:
    """Below / the commands need no chroot, and the kernel that runs is another one here."""
    words = ("audit", "--keep-dir", "", "-j1")
    inprocess.call(*words, "--root", machine.root)  # what is imported when it is needed is not there inside

    def inside() -> inprocess.Told:
        os.chroot(machine.root)
        os.chdir("/")
        return inprocess.call(*words)

    done = trees.in_child(inside)
    assert (done.status, done.err) == (1, "")
    assert "  install again: dkms build --force" in done.out


def test_fix_mends_the_module_of_dkms_alone(machine: Machine) -> None:
    before = files(machine.root)
    original = machine.built.with_name("original")
    shutil.copy2(machine.built, original)
    try:
        assert machine.run("dpkg", "-V") == ""
        seen = audit(machine.root, "--fix")
        told = inprocess.call("verify", original, machine.built)
    finally:
        original.unlink()
    after = files(machine.root)
    assert {name for name in before if before[name] != after.get(name)} - {str(machine.built.parent)} == {
        str(machine.built.resolve().relative_to(machine.root.resolve())),
        str(machine.built.parent.resolve().relative_to(machine.root.resolve())),
    }
    assert set(after) == set(before)
    assert (seen.status, seen.findings) == (0, expected(machine))
    (fixed,) = seen.document["fixed"]
    assert (fixed["state"], fixed["proof"]) == ("stripped", "verified")
    assert told.status == 0
    assert machine.run("dpkg", "-V") == ""
    assert audit(machine.root, "--fix").document["fixed"] == []
