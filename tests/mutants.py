"""Damage at random, but the same each time: what bad memory, a broken tool or an evil mind does to a module."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random

from tests.surgery import HEADER, SECTION, SYMBOL, Patient

Damage = Callable[[Patient, Random], str]
RELOCATIONS = (4, 9)


def flip_anywhere(patient: Patient, random: Random) -> str:
    """One bit of the file."""
    offset = random.randrange(len(patient.data))
    patient.flip(offset, 1 << random.randrange(8))
    return f"bit at {offset}"


def flip_contents(patient: Patient, random: Random) -> str:
    """One bit of a section, each section as likely as another."""
    index = random.randrange(1, patient.header("shnum"))
    size = patient.section(index, "size")
    if patient.section(index, "type") == 8 or not size:
        return flip_anywhere(patient, random)
    offset = random.randrange(size)
    patient.flip(patient.section(index, "offset") + offset, 1 << random.randrange(8))
    return f"bit of {patient.names[index]} at {offset}"


def change_header(patient: Patient, random: Random) -> str:
    """A field of the ELF header."""
    field = random.choice(sorted(HEADER[patient.is64]))
    patient.set_header(**{field: _other(patient.header(field), random, HEADER[patient.is64][field][1])})
    return f"header {field}"


def change_section(patient: Patient, random: Random) -> str:
    """A field of a section header."""
    index = random.randrange(patient.header("shnum"))
    field = random.choice(sorted(SECTION[patient.is64]))
    value = _other(patient.section(index, field), random, SECTION[patient.is64][field][1])
    name = patient.names[index]
    patient.set_section(index, **{field: value})
    return f"section {index} {name} {field} = {value:#x}"


def change_symbol(patient: Patient, random: Random) -> str:
    """A field of a symbol."""
    row = random.randrange(patient.count)
    field = random.choice(sorted(SYMBOL[patient.is64]))
    value = _other(patient.symbol(row, field), random, SYMBOL[patient.is64][field][1])
    name = patient.symbol_name(row)
    patient.set_symbol(row, **{field: value})
    return f"symbol {row} {name} {field} = {value:#x}"


def swap_symbols(patient: Patient, random: Random) -> str:
    """Two symbols of one binding change places."""
    row = random.randrange(1, patient.count)
    local = patient.symbol(row, "info") >> 4 == 0
    rows = [r for r in patient.rows() if (patient.symbol(r, "info") >> 4 == 0) == local]
    other = random.choice(rows)
    patient.swap_symbols(row, other)
    return f"symbols {row} and {other} swapped"


def lose_symbol(patient: Patient, random: Random) -> str:
    """A symbol goes, and all behind it move up; relocations follow, or do not."""
    row = random.randrange(1, patient.count)
    name, follow = patient.symbol_name(row), random.random() < 0.8
    size = patient.section(patient.symtab, "entsize")
    at, end = patient.symbol_at(row), patient.symbol_at(patient.count)
    local = patient.symbol(row, "info") >> 4 == 0
    if follow:
        for which, entry in list(_relocations(patient)):
            number = patient.target(which, entry)
            patient.set_target(which, entry, number - (number > row) if number != row else 0)
    patient.data[at : end - size] = patient.data[at + size : end]
    first_global = patient.section(patient.symtab, "info") - local
    patient.set_section(patient.symtab, size=end - size - patient.symbol_at(0), info=first_global)
    return f"symbol {row} {name!r} lost{', relocations follow' if follow else ''}"


def change_relocation(patient: Patient, random: Random) -> str:
    """A relocation's symbol, offset or addend."""
    which = random.choice(_relocation_sections(patient))
    entry = random.randrange(patient.section(which, "size") // patient.section(which, "entsize"))
    what = random.choice(["symbol", "offset", "info", "addend"])
    if what == "symbol":
        number = random.choice([0, patient.count, random.randrange(patient.count), patient.target(which, entry) + 1])
        patient.set_target(which, entry, number)
    elif what == "addend" and patient.section(which, "type") == 9:
        return change_relocation(patient, random)
    else:
        value = patient.relocation(which, entry, what) ^ 1 << random.randrange(31)
        patient.set_relocation(which, entry, **{what: value})
    return f"{what} of {patient.names[which]} {entry}"


def swap_relocations(patient: Patient, random: Random) -> str:
    """Two neighbours change places."""
    which = random.choice(_relocation_sections(patient))
    size = patient.section(which, "entsize")
    entry = random.randrange(patient.section(which, "size") // size)
    a = patient.entry_at(which, max(0, entry - 1))
    patient.data[a : a + 2 * size] = patient.data[a + size : a + 2 * size] + patient.data[a : a + size]
    return f"{patient.names[which]} {entry} swapped"


def lose_section(patient: Patient, random: Random) -> str:
    """A section becomes another that is empty."""
    index = random.randrange(1, patient.header("shnum"))
    name = patient.names[index]
    patient.drop_section(index)
    return f"section {name} lost"


def swap_sections(patient: Patient, random: Random) -> str:
    """Two section headers change places, and what refers to them by number does not."""
    count, size = patient.header("shnum"), 64 if patient.is64 else 40
    one, other = random.randrange(1, count), random.randrange(1, count)
    a, b = patient.at(one), patient.at(other)
    patient.data[a : a + size], patient.data[b : b + size] = patient.data[b : b + size], patient.data[a : a + size]
    return f"sections {one} and {other} swapped"


def add_section(patient: Patient, random: Random) -> str:
    """One more."""
    name = random.choice([".debug_info", ".text", ".new", ".stab", ".gnu_debuglink", ""])
    patient.append_section(name, bytes(random.randrange(3)), flags=random.choice([0, 0, 2, 5]))
    return f"section {name} added"


def cut_or_grow(patient: Patient, random: Random) -> str:
    """The file ends sooner or later."""
    if random.random() < 0.5:
        del patient.data[random.randrange(len(patient.data)) :]
        return f"cut at {len(patient.data)}"
    patient.data += bytes(random.randrange(1, 9))
    return "longer"


def _other(value: int, random: Random, letter: str) -> int:
    """Another value of a field: near, a flipped bit, another field's, or anything."""
    bits = {"B": 8, "H": 16, "I": 32, "Q": 64}[letter]
    choices = [value + 1, value - 1, value ^ 1 << random.randrange(bits), 0, 1, 2, random.getrandbits(bits)]
    return random.choice(choices) % (1 << bits)


def _relocation_sections(patient: Patient) -> list[int]:
    return [
        index
        for index in range(patient.header("shnum"))
        if patient.section(index, "type") in RELOCATIONS and 0 < patient.section(index, "size") <= len(patient.data)
    ]


def _relocations(patient: Patient) -> list[tuple[int, int]]:
    return [
        (which, entry)
        for which in _relocation_sections(patient)
        for entry in range(patient.section(which, "size") // patient.section(which, "entsize"))
    ]


KINDS: tuple[Damage, ...] = (
    flip_anywhere, flip_contents, change_header, change_section, change_symbol, swap_symbols, lose_symbol,
    change_relocation, swap_relocations, lose_section, swap_sections, add_section, cut_or_grow,
)  # fmt: skip


def mutant(data: bytes, random: Random) -> tuple[bytes, str]:
    """The file with one damage, or a few, and what they are."""
    patient = Patient(data)
    told = []
    for _ in range(random.choice([1, 1, 1, 1, 2])):
        try:
            told.append(random.choice(KINDS)(patient, random))
        except (ValueError, LookupError, StopIteration, ArithmeticError, struct.error):
            told.append("no more")  # the first damage left nothing to be found
        patient.__dict__.pop("names", None)
    return bytes(patient), ", ".join(told)
