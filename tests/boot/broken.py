"""Modules broken on purpose, each in another way: what a proof by loading is worth depends on what it notices."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support import need_tool
from tests.surgery import Patient

UD2 = b"\x0f\x0b"
SPIN = b"\xfa\xeb\xfe"  # cli; jmp to itself
WRITE_TO_NULL = b"\x31\xc0\x88\x00"  # xor eax, eax; mov [rax], al
CALL_FENTRY = 5  # bytes at the begin of each function, relocated


class Damage(NamedTuple):
    """One way to break a module, the module it is tried on, and what must be seen of it."""

    name: str
    how: Callable[[bytes], bytes]
    seen: str  # the word of messages.Result, or of what differs: "no btf"
    what: str


def cut(image: bytes, how: Callable[[Patient], object]) -> bytes:
    """The module after surgery."""
    patient = Patient(image)
    how(patient)
    return bytes(patient)


def surgery(how: Callable[[Patient], object]) -> Callable[[bytes], bytes]:
    """`how` as a function of bytes."""
    return lambda image: cut(image, how)


def tool(*argv: str) -> Callable[[bytes], bytes]:
    """What a tool makes of the module in place."""

    def run(image: bytes) -> bytes:
        import tempfile

        with tempfile.TemporaryDirectory() as work:
            path = Path(work, "module.ko")
            path.write_bytes(image)
            subprocess.run([need_tool(argv[0]), *argv[1:], path], check=True)
            return path.read_bytes()

    return run


def init_code(code: bytes) -> Callable[[bytes], bytes]:
    """Overwrite the begin of init_module, and what relocates it."""

    def how(patient: Patient) -> None:
        row = patient.row("init_module")
        section, at = patient.symbol(row, "shndx"), patient.symbol(row, "value") + CALL_FENTRY
        rela = ".rela" + patient.names[section]
        for entry in range(patient.section(rela, "size") // 24):
            if at - 4 < patient.relocation(rela, entry, "offset") < at + len(code):
                patient.set_relocation(rela, entry, info=0)
        patient.set_bytes(section, at, code)

    return surgery(how)


def rename_import(patient: Patient) -> None:
    """The first undefined symbol gets a name that nobody exports."""
    row = next(row for row in patient.rows() if patient.symbol(row, "shndx") == 0)
    strings = patient.symbol(row, "name")
    patient.set_bytes(patient.section(patient.symtab, "link"), strings, b"?")


def vermagic(patient: Patient) -> None:
    """Built for another kind of kernel. The version itself is not looked at where symbols have CRCs."""
    info = patient.contents(".modinfo")
    patient.set_bytes(".modinfo", info.index(b" SMP ", info.index(b"vermagic=")) + 1, b"X")


def this_module(patient: Patient) -> None:
    """Its section is called otherwise."""
    names = patient.contents(patient.header("shstrndx"))
    at = names.index(b".gnu.linkonce.this_module\0")
    patient.set_bytes(patient.header("shstrndx"), at, b"?")


DAMAGES = (
    Damage("xt_cpu", init_code(UD2), "OOPS", "init executes ud2"),
    Damage("xt_helper", init_code(WRITE_TO_NULL), "OOPS", "init writes to address 0"),
    Damage("nls_cp932", tool("objcopy", "-R", ".BTF"), "no btf", ".BTF removed"),
    Damage("aoe", surgery(lambda p: p.set_bytes("__versions", 64, b"\xff\xff\xff\xff")), "EINVAL", "a CRC changed"),
    Damage("sch_fq", surgery(vermagic), "ENOEXEC", "vermagic of another kernel"),
    Damage("sch_cbs", lambda image: image[: len(image) // 2], "ENOEXEC", "second half cut off"),
    Damage(
        "act_ct",
        surgery(lambda p: p.set_relocation(".rela.text", 0, info=p.relocation(".rela.text", 0, "info") | 0xFF)),
        "ENOEXEC",
        "unknown relocation type",
    ),
    Damage(
        "nfnetlink_log",
        surgery(lambda p: p.set_bytes(".text", p.relocation(".rela.text", 0, "offset"), b"U")),
        "ENOEXEC",
        "bytes where a relocation goes",
    ),
    Damage("cb_pcimdas", surgery(rename_import), "ENOENT", "an import renamed"),
    Damage("xt_dccp", surgery(this_module), "ENOEXEC", ".gnu.linkonce.this_module renamed"),
    Damage("xt_connlimit", tool("strip", "-s"), "ENOEXEC", "strip -s"),
)
HANG = Damage("mac_gaelic", init_code(SPIN), "HANG", "init spins without interrupts")  # costs the patience twice
