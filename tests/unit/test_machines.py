"""`ko.machines`: names, cross prefixes and the machine that we run on."""

from __future__ import annotations

import os

import pytest

from pkghook.ko import machines


@pytest.mark.parametrize(
    ("number", "name"),
    [(62, "x86-64"), (183, "arm64"), (22, "s390x"), (40, "arm"), (8, "mips"), (0x9026, "alpha"), (0, "machine 0")],
)
def test_names_for_people(number: int, name: str) -> None:
    assert machines.name(number) == name


@pytest.mark.parametrize(
    ("number", "prefix"),
    [
        (183, "aarch64-linux-gnu-"),
        (40, "arm-linux-gnueabihf-"),
        (40, "arm-linux-gnueabi-"),
        (22, "s390x-linux-gnu-"),
        (21, "powerpc64le-linux-gnu-"),
        (8, "mips64el-linux-gnuabi64-"),
        (8, "mipsel-linux-gnu-"),
        (15, "hppa64-linux-gnu-"),
        (3, "i686-linux-gnu-"),
        (62, "x86_64-suse-linux-"),
        (243, "riscv64-unknown-linux-gnu-"),
        (258, "loongarch64-linux-gnu-"),
    ],
)
def test_prefixes_of_cross_tools(number: int, prefix: str) -> None:
    assert prefix in machines.prefixes(number)


def test_the_likeliest_prefix_comes_first() -> None:
    assert machines.prefixes(183)[0] == "aarch64-linux-gnu-"
    assert machines.prefixes(21)[0] == "powerpc64le-linux-gnu-"
    assert machines.prefixes(20)[0] == "powerpc-linux-gnu-"


def test_no_prefix_twice_and_none_for_the_unknown() -> None:
    for number in machines.MACHINES:
        found = machines.prefixes(number)
        assert found
        assert len(set(found)) == len(found)
    assert machines.prefixes(0) == ()


@pytest.mark.parametrize(
    ("uname", "name"),
    [
        ("x86_64", "x86-64"),
        ("aarch64", "arm64"),
        ("armv7l", "arm"),
        ("i686", "i386"),
        ("ppc64le", "powerpc64"),
        ("ppc", "powerpc"),
        ("sparc64", "sparc64"),
        ("sparc", "sparc"),
        ("riscv64", "riscv"),
        ("s390x", "s390x"),
        ("mips64", "mips"),
        ("loongarch64", "loongarch"),
        ("parisc64", "parisc"),
        ("sh4", "sh"),
        ("vax", "machine 0"),
    ],
)
def test_host_by_uname(uname: str, name: str) -> None:
    assert machines.name(machines.by_uname(uname)) == name


def test_host_is_the_running_machine() -> None:
    assert machines.host() == machines.by_uname(os.uname().machine)


def test_the_table_is_sound() -> None:
    rows = list(machines.MACHINES.values())
    assert len({row.name for row in rows}) == len(rows)
    starts = [start for row in rows for start in row.uname]
    for at, start in enumerate(starts):
        hidden = [later for later in starts[at + 1 :] if later.startswith(start)]
        assert not hidden, f"{start} stands before {hidden}"
