"""A livepatch module with a klp relocation, grown from the kernel's own headers.

The compiler cannot make one: the relocation is moved to the livepatch section and its symbol is given the livepatch
name afterwards, as Documentation/livepatch/module-elf-format.rst has it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.setup.apt import run
from tests.support import lacking
from tests.surgery import Patient

SHF_ALLOC, SHF_RELA_LIVEPATCH, SHN_LIVEPATCH = 2, 0x100000, 0xFF20
NAME = "pkghook_klp"


# modpost must not mind the symbol that only livepatch will know
WORDS = ("KCFLAGS=-g", "KBUILD_MODPOST_WARN=1", "modules")


def grow(version: str, work: Path) -> bytes:
    """The module for that kernel, with debug information."""
    headers = Path("/usr/src", f"linux-headers-{version}")
    if not headers.is_dir():
        lacking(f"no headers for {version}; tests/run --full boot as root installs those of the newest kernel")
    sources(work)
    run(["make", "-s", "-C", str(headers), f"M={work}", *WORDS])
    return grafted((work / f"{NAME}.ko").read_bytes())


def sources(work: Path) -> None:
    """What has to be compiled, in a directory."""
    work.mkdir(exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("livepatch.c"), work / f"{NAME}.c")
    (work / "Makefile").write_text(f"obj-m := {NAME}.o\n")


def grafted(module: bytes) -> bytes:
    """The compiled module with its klp relocation and symbol."""
    patient = Patient(module)
    row, section = patient.row("pkghook_klp_target"), patient.names.index(".rela.klpdata")
    symbol = append_string(patient, patient.section(patient.symtab, "link"), ".klp.sym.vmlinux.saved_command_line,0")
    patient.set_symbol(row, name=symbol, shndx=SHN_LIVEPATCH)
    name = append_string(patient, patient.header("shstrndx"), ".klp.rela.vmlinux..klpdata")
    patient.set_section(section, name=name, flags=SHF_ALLOC | SHF_RELA_LIVEPATCH)
    return bytes(patient)


def append_string(patient: Patient, table: int, text: str) -> int:
    """Move a string table to the end of the file with one more string; its offset in the table."""
    strings = patient.contents(table)
    place = len(patient.data)
    patient.data += strings + text.encode() + b"\0"
    patient.set_section(table, offset=place, size=len(patient.data) - place)
    return len(strings)
