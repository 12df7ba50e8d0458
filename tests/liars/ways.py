"""Every way to lie, and the modules that it is tried on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from pkghook.ko.plan import DEBUG_ONLY, Drop
from pkghook.model import Compression, Outcome
from tests import inprocess, modules, shapes
from tests.inprocess import MARKER
from tests.liars import room
from tests.liars.tools import LIES
from tests.surgery import RELOCATION_WORDS, SYMBOL_SIZE, Patient, native_strip

ALLOC, GROUP, KLP, SHN_LIVEPATCH = 2, 17, 0x100000, 0xFF20
RELA = (4, 9)  # SHT_RELA, SHT_REL


class Subject(NamedTuple):
    """A module file, what is inside, and what of it must come out."""

    name: str
    data: bytes
    image: bytes
    options: tuple[str, ...] = ()
    machine: str = "amd64"
    drop: Drop = DEBUG_ONLY

    @property
    def right(self) -> bytes:
        """What an honest tool makes of the image."""
        return native_strip(self.image, self.drop)

    @property
    def plain(self) -> bytes:
        """What the native step makes of it."""
        return native_strip(self.image)


@cache
def subjects(corpus: Path) -> dict[str, Subject]:
    """Plain ones of three machines (both classes, both byte orders, RELA and REL), a wrapped one, a livepatch one."""
    plain = room.before(corpus)
    signature = bytes(range(64)) + bytes(2) + b"\x02" + bytes(5) + (64).to_bytes(4, "big") + MARKER
    found = {
        "amd64": Subject(room.NAME, plain, plain),
        "signed": Subject(room.NAME, plain + signature, plain, ("--signed", "strip")),
        "gzip": Subject(f"{room.NAME}.gz", inprocess.packed(plain, Compression.GZIP), plain),
        "livepatch": Subject("patch.ko", shapes.livepatch("a"), shapes.livepatch("a")),  # grown: Debian has none
    }
    for kernel in ("armel", "s390x"):
        image = modules.image(modules.named(corpus, kernel, "crc7"))
        found[kernel] = Subject("crc7.ko", image, image, machine=kernel)
    return found


class Way(NamedTuple):
    """A lie, what it writes where it writes something of ours (None where the module has nothing to lie about)."""

    lie: str
    outcomes: frozenset[Outcome]
    forge: Callable[[Subject], bytes | None] | None = None


# --- forgeries: what a tool may write that is not the module ---------------------------------------------------------


def cut(how: Callable[[Patient], object]) -> Callable[[Subject], bytes | None]:
    """Surgery on the right result; a patient without the limb (KeyError, ValueError, StopIteration) is spared."""

    def forge(subject: Subject) -> bytes | None:
        patient = Patient(subject.right)
        try:
            how(patient)
        except (ValueError, StopIteration, KeyError):
            return None
        return bytes(patient)

    return forge


def with_relocations(patient: Patient) -> int:
    """The first section of relocations of one that is loaded."""
    for index in range(patient.header("shnum")):
        if patient.section(index, "type") in RELA and patient.section(patient.section(index, "info"), "flags") & ALLOC:
            return index
    raise ValueError("none")


def drop_relocation(patient: Patient) -> None:
    """The last one."""
    index = with_relocations(patient)
    size = RELOCATION_WORDS[patient.section(index, "type")] * (8 if patient.is64 else 4)
    patient.set_section(index, size=patient.section(index, "size") - size)


def retarget(number: Callable[[int, int], int]) -> Callable[[Patient], object]:
    """The first relocation names another symbol."""

    def how(patient: Patient) -> object:
        index = with_relocations(patient)
        return patient.set_target(index, 0, number(patient.target(index, 0), patient.count))

    return how


def move_relocation(patient: Patient) -> None:
    """The first relocation is about other bytes."""
    index = with_relocations(patient)
    patient.set_relocation(index, 0, offset=patient.relocation(index, 0, "offset") + 1)


def drop_symbol(patient: Patient) -> None:
    """The last one."""
    size = patient.section(patient.symtab, "size") - SYMBOL_SIZE[patient.is64]
    patient.set_section(patient.symtab, size=size)


def rename_symbol(patient: Patient) -> None:
    """The last one, by a letter."""
    strings = patient.section(patient.symtab, "link")
    patient.set_bytes(strings, patient.symbol(patient.count - 1, "name"), b"Q")


def move_symbol(patient: Patient) -> None:
    """The last one that is somewhere."""
    row = max(row for row in patient.rows() if 0 < patient.symbol(row, "shndx") < 0xFF00)
    patient.set_symbol(row, value=patient.symbol(row, "value") + 1)


def clear_klp_flags(patient: Patient) -> None:
    """As GNU strip does to some livepatch modules."""
    klp = [i for i in range(patient.header("shnum")) if patient.section(i, "flags") & KLP]
    for index in klp or [patient.names.index(".klp")]:
        patient.set_section(index, flags=patient.section(index, "flags") & ~(KLP | ALLOC))


def undo_klp_symbols(patient: Patient) -> None:
    """They become plain imports."""
    rows = [row for row in patient.rows() if patient.symbol(row, "shndx") == SHN_LIVEPATCH]
    for row in rows or [patient.row(".klp")]:
        patient.set_symbol(row, shndx=0)


def flip_code(patient: Patient) -> None:
    """One bit."""
    name = next(name for name in (".text", ".init.text", ".text.patched") if name in patient.names)
    patient.flip(patient.section(name, "offset") + 3)


def unload(patient: Patient) -> None:
    """The module's data is not loaded any more."""
    name = ".gnu.linkonce.this_module"
    patient.set_section(name, flags=patient.section(name, "flags") & ~ALLOC)


def dropped(name: str) -> Callable[[Subject], bytes | None]:
    """Without a section."""
    return cut(lambda patient: patient.drop_section(name))


def another(subject: Subject) -> bytes:
    """A module of another machine."""
    return shapes.livepatch("b") if subject.name != "patch.ko" else shapes.module(shapes.KINDS["amd64"])


def by_objcopy(*options: str) -> Callable[[Subject], bytes | None]:
    """What the real tool makes of it with other options."""

    def forge(subject: Subject) -> bytes | None:
        if subject.machine != "amd64" or not shutil.which("objcopy"):
            return None
        with tempfile.TemporaryDirectory() as place:
            before, after = Path(place, "in"), Path(place, "out")
            before.write_bytes(subject.image)
            done = subprocess.run(["objcopy", *options, before, after], check=False, capture_output=True)
            return None if done.returncode else after.read_bytes()

    return forge


FORGERIES: dict[str, Callable[[Subject], bytes | None]] = {
    "the input unchanged": lambda subject: subject.image,
    "half the module": lambda subject: subject.right[: len(subject.right) // 2],
    "all but the last byte": lambda subject: subject.right[:-1],
    "another module": another,
    "no ELF file": lambda _: b"usage: strip FILE\n" * 100,
    "no .modinfo": dropped(".modinfo"),
    "no .text": dropped(".text"),
    "no __versions": dropped("__versions"),
    "no .BTF": dropped(".BTF"),
    "no .gnu.linkonce.this_module": dropped(".gnu.linkonce.this_module"),
    "this_module not loaded": cut(unload),
    "a relocation dropped": cut(drop_relocation),
    "a relocation retargeted": cut(retarget(lambda old, count: old % (count - 1) + 1)),
    "a symbol number turned 0": cut(retarget(lambda *_: 0)),
    "a relocation moved": cut(move_relocation),
    "a symbol dropped": cut(drop_symbol),
    "a symbol renamed": cut(rename_symbol),
    "a symbol moved": cut(move_symbol),
    "klp flags cleared": cut(clear_klp_flags),
    "klp symbols undone": cut(undo_klp_symbols),
    "a group emptied": cut(lambda patient: patient.set_section(".group", size=4)),
    "a bit of code": cut(flip_code),
    "another machine": cut(lambda patient: patient.set_header(machine=2)),
    "some of the debug information left": cut(lambda patient: patient.append_section(".debug_str", b"left\0" * 9)),
    "bytes behind the end": lambda subject: subject.right + b"garbage",
    "a signature kept": lambda subject: subject.right + bytes(76) + MARKER,
    "strip --strip-all": by_objcopy("--strip-all"),
    "strip --strip-unneeded": by_objcopy("--strip-unneeded"),
}


# --- all of them -----------------------------------------------------------------------------------------------------

REJECTED = frozenset({Outcome.REJECTED})
FAILED = frozenset({Outcome.FAILED})
TIMED_OUT = frozenset({Outcome.TIMED_OUT})
PASSED = frozenset({Outcome.PASSED})

HANGS = {"hangs", "hangs with a grandchild", "right bytes, then hangs"}
HONEST = {"spoils its input too", "right bytes and a child that keeps nothing"}  # nothing is wrong with the result
JUDGED = {"writes half a module", "honest copy", "floods stdout"}  # what they write is for the verifier
WITH_RIGHT = {  # bytes that would be right, and something else is wrong
    "writes another module and fails",
    "writes to its input",
    "writes a link to the right bytes",
    "writes a huge file",
    "right bytes, then hangs",
    "right bytes, then is killed",
    "right bytes and a warning",
    "right bytes and a child that keeps the pipes",
} | HONEST
OTHERWISE = {"writes another module", "drops .modinfo", "writes again later"}  # by forgery, or in a test of their own


def outcomes(lie: str) -> frozenset[Outcome]:
    """How an attempt with a lying tool may end."""
    if lie in HONEST:
        return PASSED
    if lie in HANGS:
        return TIMED_OUT
    return REJECTED if lie in JUDGED else FAILED


WAYS: dict[str, Way] = {
    lie: Way(lie, outcomes(lie), (lambda subject: subject.right) if lie in WITH_RIGHT else None)
    for lie in LIES
    if lie not in OTHERWISE
} | {what: Way("writes another module", REJECTED, forge) for what, forge in FORGERIES.items()}
