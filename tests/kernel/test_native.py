"""The native step on real modules: byte for byte what the distribution ships, or the same to the loader.

Debian strips with `strip -g` of binutils of the same release.  On amd64 native writes the very same bytes as that;
elsewhere the two lay out a file differently.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pkghook.ko import symbols
from pkghook.ko.plan import Drop, is_livepatch, plan, saved_at_least
from pkghook.ko.prove import prove
from tests import loader, modules
from tests.support import need_kernel
from tests.surgery import Patient, elf, native_strip

SMALL = 8 << 20  # bytes up to which the second opinion, which is slow, is asked too
LARGE = 64 << 20  # riscv64 has modules of up to 858 MB
RISCV64 = pytest.param("riscv64", marks=pytest.mark.full)  # the unstripped ones are a gigabyte to fetch


def checked(data: bytes, drop: Drop | None = None) -> bytes:
    """What native writes, after all that must hold of it."""
    before = elf(data)
    drop = drop or Drop()
    found = plan(before, drop)
    out = native_strip(data, drop)
    assert len(out) == found.expected
    assert len(out) <= len(data) - saved_at_least(before, found)
    after = elf(out)
    assert prove(before, after, drop) == ()
    again = plan(after, drop)
    assert (again.unstripped, again.removed, again.dropped, again.expected) == (False, frozenset(), (), len(out))
    return out


def test_amd64_is_what_is_shipped_to_the_byte(corpus: Path) -> None:
    paths = modules.unstripped(corpus, "amd64")
    assert len(paths) > 1000
    for path in paths:
        assert checked(modules.image(path)) == modules.image(modules.shipped(corpus, "amd64", path)), path


@pytest.mark.parametrize("kernel", ["arm64", "s390x", "armel", RISCV64])
def test_other_machines_without_any_tool_for_them(corpus: Path, kernel: str) -> None:
    paths = [path for path in modules.unstripped(corpus, kernel) if path.stat().st_size <= LARGE]
    assert len(paths) > 40
    for path in paths:
        data, theirs = modules.image(path), modules.image(modules.shipped(corpus, kernel, path))
        out = checked(data)
        assert prove(elf(data), elf(theirs)) == (), path
        assert prove(elf(theirs), elf(out)) == (), path
        assert abs(len(out) - len(theirs)) <= 8 * Patient(out).header("shnum") + 64, path


@pytest.mark.parametrize("kernel", ["amd64", "arm64", "s390x", "armel", RISCV64])
def test_the_second_opinion(corpus: Path, kernel: str) -> None:
    for path in modules.sample(corpus, kernel, 8, limit=SMALL):
        data = modules.image(path)
        assert loader.same(data, native_strip(data)), path
        assert loader.same(data, modules.image(modules.shipped(corpus, kernel, path))), path


@pytest.mark.parametrize("kernel", ["amd64", "amd64-6.12", "arm64", "s390x", "armel", "riscv64"])
def test_nothing_goes_from_what_is_shipped(corpus: Path, kernel: str) -> None:
    paths = sorted(need_kernel(corpus, kernel).rglob("*.ko*"))[::40]
    assert len(paths) > 20
    for path in paths:
        data = modules.image(path)
        found = plan(elf(data))
        assert (found.unstripped, found.removed, found.dropped) == (False, frozenset(), ()), path
        assert not is_livepatch(elf(data))
        assert prove(elf(data), elf(native_strip(data))) == (), path


@pytest.mark.parametrize("kernel", ["amd64", "s390x", "armel"])
@pytest.mark.parametrize("name", symbols.SHIPPED)
def test_symbol_lists(corpus: Path, kernel: str, name: str) -> None:
    drop = Drop(symbols.load(name))
    dropped = 0
    for path in modules.sample(corpus, kernel, 12, limit=SMALL):
        data = modules.image(path)
        out = checked(data, drop)
        dropped += len(plan(elf(data), drop).listed)
        assert len(out) <= len(native_strip(data))
    assert dropped


@pytest.mark.full
def test_labels(corpus: Path) -> None:
    """Most of a riscv64 module is labels: ext4 goes from 7.0 MB to 1.8 MB."""
    path = modules.named(corpus, "riscv64", "ext4")
    data = modules.image(path)
    out = checked(data, Drop(labels=True))
    assert len(out) < 0.3 * len(native_strip(data))
    assert plan(elf(data), Drop(labels=True)).labels > 100_000
    theirs = elf(modules.image(modules.shipped(corpus, "riscv64", path)))
    assert prove(theirs, elf(out), Drop(labels=True)) == ()
    assert [fault.id for fault in prove(theirs, elf(out))] == ["symbol-changed"]


def test_a_foreign_module_is_not_the_same(corpus: Path) -> None:
    data = modules.image(modules.named(corpus, "amd64", "crc-itu-t"))
    other = modules.image(modules.named(corpus, "arm64", "crc-itu-t"))
    assert [fault.id for fault in prove(elf(data), elf(native_strip(other)))] == ["header-changed"]
