"""`ko.interface` on real modules of six kernels, against what kmod's own tools read from them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from pkghook.ko.interface import interface
from pkghook.model import Interface
from tests.modules import image, stem
from tests.support import need_kernel, need_tool
from tests.surgery import elf

# 64 and 32 bits, both byte orders, addresses and distances, 6.1 and 6.12, plain and compressed.
KERNELS = ("amd64", "arm64", "s390x", "armel", "riscv64", "amd64-6.12")
BUSY = ("btrfs", "sunrpc", "libata", "kvm", "usb-storage", "option", "nfsd")  # many exports, aliases, parameters


def some(corpus: Path, kernel: str, number: int = 5) -> list[Path]:
    """The first of each busy name, and some evenly between."""
    paths = sorted(need_kernel(corpus, kernel).rglob("*.ko*"))
    busy = {path.name.partition(".")[0]: path for path in paths if path.name.partition(".")[0] in BUSY}
    return sorted({*paths[:: len(paths) // number + 1], *busy.values()})


def told(tool: str, *args: str) -> str:
    """What a tool of kmod prints; modprobe exits with 1 where a module has no such table, after printing nothing."""
    done = subprocess.run((need_tool(tool), *args), capture_output=True, check=tool != "modprobe")
    return done.stdout.decode("utf-8", "surrogateescape")


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    """`0xCRC NAME` lines as modprobe has them."""
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(sorted((name, crc.removeprefix("0x").zfill(8)) for crc, name in rows))


def field(path: Path, key: str) -> list[str]:
    """The values of one field, as modinfo has them."""
    return [value for value in told("modinfo", "-0", "-F", key, str(path)).split("\0") if value]


def by_kmod(path: Path) -> Interface:
    """The interface of a plain module as modprobe and modinfo read it."""
    parameters = dict.fromkeys((each.partition(":")[0] for each in field(path, "parm")), "")
    parameters |= dict(each.split(":", 1) for each in field(path, "parmtype"))
    return Interface(
        field(path, "name")[0],
        field(path, "vermagic")[0].strip(),
        tuple(sorted(set(field(path, "license")))),
        tuple(sorted(parameters.items())),
        tuple(sorted(set(field(path, "alias")))),
        tuple(sorted(name for name in ",".join(field(path, "depends")).split(",") if name)),
        pairs(told("modprobe", "--show-exports", str(path))),
        pairs(told("modprobe", "--dump-modversions", str(path))),
        softdeps(field(path, "softdep")),
    )


def softdeps(values: list[str]) -> tuple[str, ...]:
    """`pre: a b post: c` by name."""
    found = set()
    for value in values:
        for part in re.split("(?=pre:|post:)", value):
            kind, _, names = part.partition(":")
            found |= {f"{kind}: {name}" for name in names.split()}
    return tuple(sorted(found))


@pytest.mark.parametrize("kernel", KERNELS)
def test_it_is_what_kmod_reads(corpus: Path, tmp_path: Path, kernel: str) -> None:
    seen = [plain(path, tmp_path) for path in some(corpus, kernel)]
    found = [(interface(elf(path.read_bytes())), by_kmod(path)) for path in seen]
    for ours, theirs in found:
        assert ours == theirs
    assert any(ours.exports for ours, _ in found), "a sample without exports shows nothing"
    assert any(ours.aliases and ours.parameters for ours, _ in found)


def plain(path: Path, directory: Path) -> Path:
    """A copy without compression and signature."""
    copy = directory / (stem(path).replace("/", ":") + ".ko")
    copy.write_bytes(image(path))
    return copy


def test_depmod_finds_the_same_exports_and_aliases(corpus: Path, tmp_path: Path) -> None:
    base = tmp_path / "lib/modules/6.1.0"
    base.mkdir(parents=True)
    found: dict[str, Interface] = {}
    for path in some(corpus, "amd64", 20):
        shutil.copy(path, base)
        found[path.stem.replace("-", "_")] = interface(elf(path.read_bytes()))
    lines = told("depmod", "-n", "-b", str(tmp_path), "6.1.0").splitlines()
    rows = [line.split() for line in lines if line.startswith("alias ")]
    ours = {("symbol:" + symbol, name) for name, each in found.items() for symbol, _ in each.exports}
    ours |= {(alias, name) for name, each in found.items() for alias in each.aliases}
    assert {(alias, name) for _, alias, name in rows} == ours
    assert len(ours) > 300


def test_without_debug_information_it_is_the_same(corpus: Path) -> None:
    """What Debian ships and what it split off have one interface."""
    names = {stem(path): path for path in need_kernel(corpus, "amd64", "dbg").rglob("*.ko")}
    shipped = [path for path in some(corpus, "amd64", 20) if stem(path) in names]
    assert len(shipped) > 10
    for path in shipped:
        assert interface(elf(image(path))) == interface(elf(image(names[stem(path)])))


def test_it_is_quick(corpus: Path) -> None:
    """It is read of all modules of two packages: well below the time that the look itself takes."""
    modules = [elf(image(path)) for path in some(corpus, "amd64", 60)]
    begun = os.times().user
    for each in modules:
        interface(each)
    assert (os.times().user - begun) / len(modules) < 0.003  # seconds; 0.0002 on an idle machine


def flat(values: Iterable[tuple[str, str]]) -> set[str]:
    """The first of each pair."""
    return {name for name, _ in values}


@pytest.mark.parametrize("kernel", ["amd64", "armel"])
def test_a_namespace_is_no_export(corpus: Path, kernel: str) -> None:
    """Strings of namespaces stand beside the names; `modprobe --show-exports` goes by symbols and has none of them."""
    for path in some(corpus, kernel):
        assert not flat(interface(elf(image(path))).exports) & {"", "CRYPTO_INTERNAL", "NVME_TARGET_PASSTHRU"}
