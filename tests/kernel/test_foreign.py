"""Modules of other machines: in process without any tool, then by the cross tools, chosen by the module.

arm64 is 64 bits, s390x big-endian, armel 32 bits with REL relocations; most of a riscv64 module is labels.
"""

from __future__ import annotations

import lzma
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook.model import State
from tests import jobs, loader, modules
from tests.support import need_tool

SMALL = 1 << 20  # bytes of a module up to which the slow second opinion is asked


class Machine(NamedTuple):
    """A kernel of the corpus, what the receipt calls its machine, and how the names of its tools begin."""

    kernel: str
    name: str
    prefix: str
    is64: bool = True
    big: bool = False
    relocations: str = ".rela.text"


MACHINES = (
    Machine("arm64", "arm64", "aarch64-linux-gnu-"),
    Machine("s390x", "s390x", "s390x-linux-gnu-", big=True),
    Machine("armel", "arm", "arm-linux-gnueabi-", is64=False, relocations=".rel.text"),
)


@pytest.fixture(params=MACHINES, ids=lambda machine: machine.kernel)
def machine(request: pytest.FixtureRequest) -> Machine:
    """One of them."""
    found: Machine = request.param
    return found


class Foreign(NamedTuple):
    """A copy of a kernel's unstripped modules, and of the same ones as shipped."""

    root: Path
    planted: list[Path]
    shipped: Path
    bare: Path  # an empty directory, as PATH


@pytest.fixture
def foreign(corpus: Path, machine: Machine, tmp_path: Path) -> Iterator[Foreign]:
    """The copies."""
    source = jobs.kernel_tree(corpus, machine.kernel, "dbg")
    with jobs.roomy(2 * jobs.size_of(source), tmp_path) as scratch:
        planted = jobs.plant(scratch / "root", source)
        theirs = [modules.shipped(corpus, machine.kernel, path) for path in planted]
        jobs.plant(scratch / "shipped", jobs.kernel_tree(corpus, machine.kernel, "shipped"), theirs)
        (scratch / "bare").mkdir()
        yield Foreign(scratch / "root", planted, scratch / "shipped", scratch / "bare")


def test_native_alone_without_any_tool(corpus: Path, machine: Machine, foreign: Foreign) -> None:
    assert len(foreign.planted) > 40
    job = jobs.verified(jobs.strip(foreign.root, path=str(foreign.bare)), len(foreign.planted), "native")
    assert [name for name, _ in job.receipt.tools] == ["native"]
    assert {entry.machine for entry in job.receipt.entries} == {machine.name}
    jobs.same(jobs.kernel_tree(corpus, machine.kernel, "dbg"), foreign.root / "lib" / "modules")
    jobs.same(foreign.shipped, foreign.root)
    for path in foreign.planted:
        kind = path.read_bytes()[4:6]
        assert kind == bytes([1 + machine.is64, 1 + machine.big]), "class and byte order, as the ELF header has them"


def test_second_opinion(corpus: Path, machine: Machine, tmp_path: Path) -> None:
    source = jobs.kernel_tree(corpus, machine.kernel, "dbg")
    planted = jobs.plant(tmp_path / "root", source, modules.sample(corpus, machine.kernel, 10, limit=SMALL))
    jobs.verified(jobs.strip(tmp_path / "root"), len(planted), "native")
    relocated = 0
    for path in planted:
        before = source / path.relative_to(tmp_path / "root" / "lib" / "modules")
        assert loader.same(before.read_bytes(), path.read_bytes()), path
        relocated += machine.relocations in [section.name for section in loader.File(path.read_bytes()).sections]
    assert relocated


@pytest.mark.parametrize("step", ["objcopy", "strip"])
def test_cross_tools_are_chosen_by_the_module(machine: Machine, foreign: Foreign, step: str) -> None:
    tool = Path(need_tool(f"{machine.prefix}{step}"))
    job = jobs.verified(jobs.strip(foreign.root, "--chain", step), len(foreign.planted), step)
    ((name, version),) = job.receipt.tools
    assert name == step
    assert version.startswith(f"{tool.name}: GNU {step} (GNU Binutils")
    jobs.same(foreign.shipped, foreign.root)


def test_tools_of_each_machine_in_one_tree(corpus: Path, tmp_path: Path) -> None:
    """A tree with modules of three machines: each gets its own tool, and the receipt has them all."""
    for machine in MACHINES:
        need_tool(f"{machine.prefix}objcopy")
        source = jobs.kernel_tree(corpus, machine.kernel, "dbg")
        jobs.plant(tmp_path / "root", source, [modules.named(corpus, machine.kernel, "crc-itu-t")])
    job = jobs.verified(jobs.strip(tmp_path / "root", "--chain", "objcopy"), len(MACHINES), "objcopy")
    used = {version.partition(":")[0] for _, version in job.receipt.tools}
    assert used == {f"{machine.prefix}objcopy" for machine in MACHINES}
    for entry in job.receipt.entries:
        (machine,) = (machine for machine in MACHINES if machine.name == entry.machine)
        assert jobs.last(entry).version.startswith(f"{machine.prefix}objcopy:")


# --- labels ----------------------------------------------------------------------------------------------------------

EXT4_PLAIN, EXT4_BARE = 7.0e6, 1.8e6  # bytes, to a tenth of a megabyte: stripped, and without labels
NEAR = 0.06e6


@pytest.mark.full
@pytest.mark.parametrize(("options", "size"), [((), EXT4_PLAIN), (("--discard-labels",), EXT4_BARE)])
def test_unstripped_ext4(corpus: Path, tmp_path: Path, options: tuple[str, ...], size: float) -> None:
    source = jobs.kernel_tree(corpus, "riscv64", "dbg")
    (path,) = jobs.plant(tmp_path / "root", source, [modules.named(corpus, "riscv64", "ext4")])
    job = jobs.verified(jobs.strip(tmp_path / "root", *options), 1)
    assert abs(path.stat().st_size - size) < NEAR
    assert job.entry("ext4.ko").dropped_labels == (0 if not options else pytest.approx(204_000, rel=0.01))
    jobs.same(modules.named(corpus, "riscv64", "ext4"), path, *options)


@pytest.mark.full
@pytest.mark.parametrize("options", [(), ("--discard-labels",)])
def test_riscv64_with_the_largest_module_there_is(corpus: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    source = jobs.kernel_tree(corpus, "riscv64", "dbg")
    with jobs.roomy(jobs.size_of(source), tmp_path) as scratch:
        planted = jobs.plant(scratch / "root", source)
        assert max(path.stat().st_size for path in planted) > 800_000_000
        job = jobs.verified(jobs.strip(scratch / "root", *options), len(planted))
        assert job.receipt.totals.file_after == job.receipt.totals.expected
        theirs = [modules.shipped(corpus, "riscv64", path) for path in planted]
        jobs.plant(scratch / "shipped", jobs.kernel_tree(corpus, "riscv64", "shipped"), theirs)
        jobs.same(scratch / "shipped", scratch / "root", *options)


class Ext4(NamedTuple):
    """A copy of the signed module as shipped."""

    root: Path
    path: Path

    @property
    def image(self) -> bytes:
        """What is inside."""
        return lzma.decompress(self.path.read_bytes())


@pytest.fixture
def ext4(corpus: Path, tmp_path: Path) -> Ext4:
    """The copy."""
    source = jobs.kernel_tree(corpus, "riscv64", "shipped")
    (path,) = jobs.plant(tmp_path / "root", source, source.rglob("ext4.ko.xz"))
    return Ext4(tmp_path / "root", path)


@pytest.mark.parametrize("options", [(), ("--signed", "keep"), ("--signed", "fail")])
def test_signed_ext4_keeps_its_labels_unless_the_signature_may_go(ext4: Ext4, options: tuple[str, ...]) -> None:
    before = jobs.facts(ext4.root)
    job = jobs.strip(ext4.root, "--discard-labels", *options)
    assert (job.status, job.states) == (0, {State.KEPT: 1})
    assert job.entry("ext4.ko.xz").reason.startswith("signed")
    assert jobs.facts(ext4.root) == before


def test_signed_ext4_without_labels(ext4: Ext4) -> None:
    before, packed = ext4.image, ext4.path.stat().st_size
    job = jobs.verified(jobs.strip(ext4.root, "--discard-labels", "--signed", "strip"), 1, "native-labels")
    after, entry = ext4.image, job.entry("ext4.ko.xz")
    assert abs(len(before) - EXT4_PLAIN) < NEAR
    assert abs(len(after) - EXT4_BARE) < NEAR
    assert ext4.path.stat().st_size < 0.6 * packed
    assert (entry.signature, entry.findings[0].id) == ("removed", "signature-removed")
    assert not after.endswith(b"~Module signature appended~\n")
    subprocess.run([need_tool("xz"), "-t", ext4.path], check=True)
    info = subprocess.run([need_tool("modinfo"), "-F", "name", ext4.path], check=True, capture_output=True, text=True)
    assert info.stdout == "ext4\n"
