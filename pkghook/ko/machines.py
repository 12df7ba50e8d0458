"""The machines that Linux runs on: ELF number, name for people, and what GNU tools call them.

One table.  Numbers are those of `e_machine` (include/uapi/linux/elf-em.h); `bfd` are names of binutils'
ELF targets as `objcopy --info` prints them; `uname` is how the machine names of uname(2) begin.
"""

from __future__ import annotations

import os

from pkghook.values import NamedTuple


class Machine(NamedTuple):
    """One row. `cpus` and `abis` are the ends of GNU triplets, the likeliest first."""

    number: int
    name: str
    cpus: tuple[str, ...]
    abis: tuple[str, ...] = ("gnu",)
    bfd: tuple[str, ...] = ()
    uname: tuple[str, ...] = ()


_ARM_ABIS = ("gnueabihf", "gnueabi", "gnu")
_MIPS_CPUS = ("mips64el", "mipsel", "mips64", "mips")
_MIPS_ABIS = ("gnuabi64", "gnu", "gnuabin32")
_MIPS_BFD = tuple(f"elf{bits}-trad{end}mips" for bits in ("32", "64", "32-n") for end in ("little", "big"))
_PPC_CPUS = ("powerpc64le", "powerpc64", "powerpc")  # each set of binutils knows both sizes and both byte orders

# A longer `uname` stands before a shorter one which it begins with.
_ROWS = (
    Machine(62, "x86-64", ("x86_64",), bfd=("elf64-x86-64",), uname=("x86_64",)),
    Machine(183, "arm64", ("aarch64",), bfd=("elf64-littleaarch64", "elf64-bigaarch64"), uname=("aarch64",)),
    Machine(243, "riscv", ("riscv64", "riscv32"), bfd=("elf64-littleriscv", "elf32-littleriscv"), uname=("riscv",)),
    Machine(22, "s390x", ("s390x", "s390"), bfd=("elf64-s390",), uname=("s390",)),
    Machine(21, "powerpc64", _PPC_CPUS, bfd=("elf64-powerpcle", "elf64-powerpc"), uname=("ppc64",)),
    Machine(20, "powerpc", _PPC_CPUS[::-1], bfd=("elf32-powerpc",), uname=("ppc",)),
    Machine(40, "arm", ("arm",), _ARM_ABIS, bfd=("elf32-littlearm", "elf32-bigarm"), uname=("arm",)),
    Machine(3, "i386", ("i686", "i586", "i386", "x86_64"), bfd=("elf32-i386",), uname=("i386", "i486", "i586", "i686")),
    Machine(258, "loongarch", ("loongarch64",), bfd=("elf64-loongarch",), uname=("loongarch",)),
    Machine(8, "mips", _MIPS_CPUS, _MIPS_ABIS, bfd=_MIPS_BFD, uname=("mips",)),
    Machine(4, "m68k", ("m68k",), bfd=("elf32-m68k",), uname=("m68k",)),
    Machine(15, "parisc", ("hppa", "hppa64"), bfd=("elf32-hppa-linux", "elf64-hppa-linux"), uname=("parisc",)),
    Machine(43, "sparc64", ("sparc64",), bfd=("elf64-sparc",), uname=("sparc64",)),
    Machine(2, "sparc", ("sparc", "sparc64"), bfd=("elf32-sparc",), uname=("sparc",)),
    Machine(42, "sh", ("sh4", "sh"), bfd=("elf32-sh-linux", "elf32-shbig-linux"), uname=("sh",)),
    Machine(0x9026, "alpha", ("alpha",), bfd=("elf64-alpha",), uname=("alpha",)),
    Machine(50, "ia64", ("ia64",), bfd=("elf64-ia64-little",), uname=("ia64",)),
    Machine(195, "arcv2", ("arc",), ("gnu", "uclibc"), bfd=("elf32-littlearc", "elf32-bigarc"), uname=("arc",)),
    Machine(93, "arc", ("arc",), ("gnu", "uclibc"), bfd=("elf32-littlearc", "elf32-bigarc")),
    Machine(252, "csky", ("csky",), ("gnuabiv2", "gnu"), bfd=("elf32-csky-little",), uname=("csky",)),
    Machine(94, "xtensa", ("xtensa",), bfd=("elf32-xtensa-le", "elf32-xtensa-be"), uname=("xtensa",)),
    Machine(92, "openrisc", ("or1k", "openrisc"), bfd=("elf32-or1k",), uname=("openrisc",)),
    Machine(189, "microblaze", ("microblaze",), bfd=("elf32-microblaze", "elf32-microblazeel"), uname=("microblaze",)),
    Machine(113, "nios2", ("nios2",), bfd=("elf32-littlenios2",), uname=("nios2",)),
    Machine(164, "hexagon", ("hexagon",), ("musl",), uname=("hexagon",)),
)
MACHINES = {row.number: row for row in _ROWS}

# Debian, Fedora and Arch; Gentoo; openSUSE; kernel.org; Alpine.
_FORMS = (
    "{cpu}-linux-{abi}-",
    "{cpu}-unknown-linux-{abi}-",
    "{cpu}-suse-linux-",
    "{cpu}-linux-",
    "{cpu}-alpine-linux-musl-",
)


def name(number: int) -> str:
    """A name for people; `machine N` for one that no row has."""
    row = MACHINES.get(number)
    return row.name if row else f"machine {number}"


def prefixes(number: int) -> tuple[str, ...]:
    """What the names of cross tools for this machine begin with (`aarch64-linux-gnu-`), the likeliest first."""
    row = MACHINES.get(number)
    if row is None:
        return ()
    found = (form.format(cpu=cpu, abi=abi) for form in _FORMS for cpu in row.cpus for abi in row.abis)
    return tuple(dict.fromkeys(found))


def by_uname(text: str) -> int:
    """The number of the machine that uname(2) calls `text`; 0 (EM_NONE) for an unknown one."""
    return next((row.number for row in _ROWS if row.uname and text.startswith(row.uname)), 0)


def host() -> int:
    """The number of the machine that we run on."""
    return by_uname(os.uname().machine)
