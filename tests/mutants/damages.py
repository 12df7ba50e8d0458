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
    told = where(patient, offset)
    patient.flip(offset, 1 << random.randrange(8))
    return f"bit of {told}"


def flip_contents(patient: Patient, random: Random) -> str:
    """One bit of a section, each section as likely as another."""
    index = random.randrange(1, patient.header("shnum"))
    size = patient.section(index, "size")
    if patient.section(index, "type") == 8 or not size:
        return flip_anywhere(patient, random)
    offset, name = random.randrange(size), patient.names[index]
    patient.flip(patient.section(index, "offset") + offset, 1 << random.randrange(8))
    return f"bit of {name} at {offset}"


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


def swap_targets(patient: Patient, random: Random) -> str:
    """Two relocation sections apply to each other's targets."""
    one, other = random.sample(_relocation_sections(patient), 2)
    a, b = patient.section(one, "info"), patient.section(other, "info")
    patient.set_section(one, info=b).set_section(other, info=a)
    return f"targets of {patient.names[one]} and {patient.names[other]} swapped"


def relink(patient: Patient, random: Random) -> str:
    """A relocation section names another symbol table."""
    which = random.choice(_relocation_sections(patient))
    value = random.randrange(patient.header("shnum") + 2)
    patient.set_section(which, link=value)
    return f"{patient.names[which]} link = {value}"


def misplace_symbol(patient: Patient, random: Random) -> str:
    """A symbol, as likely one without a name, gets a section index that is out of range or special."""
    unnamed = [row for row in range(patient.count) if not patient.symbol(row, "name")]
    row = random.choice(unnamed if random.random() < 0.5 else range(patient.count))
    number = patient.header("shnum")
    value = random.choice([0, number, number + 1, 0xFEFF, 0xFF00, 0xFF20, 0xFFF1, 0xFFF2, 0xFFFF])
    name = patient.symbol_name(row)
    patient.set_symbol(row, shndx=value)
    return f"symbol {row} {name} shndx = {value:#x}"


def toggle_klp(patient: Patient, random: Random) -> str:
    """A section gets or loses the flag of livepatch relocations."""
    marked = [i for i in range(patient.header("shnum")) if patient.section(i, "flags") & 0x100000]
    index = random.choice(marked or _relocation_sections(patient))
    patient.set_section(index, flags=patient.section(index, "flags") ^ 0x100000)
    return f"livepatch flag of {patient.names[index]}"


def empty_group(patient: Patient, random: Random) -> str:
    """A group loses members, or all of them."""
    index = random.choice([i for i in range(patient.header("shnum")) if patient.section(i, "type") == 17])
    size = random.randrange(0, patient.section(index, "size"), 4)
    patient.set_section(index, size=size)
    return f"group {index} of {size} bytes"


def cut_strings(patient: Patient, random: Random) -> str:
    """A string table ends sooner, or not with a NUL."""
    index = random.choice([i for i in range(patient.header("shnum")) if patient.section(i, "type") == 3])
    size = patient.section(index, "size")
    if random.random() < 0.5:
        patient.set_bytes(index, size - 1, b"x")
        return f"{patient.names[index]} without a last NUL"
    patient.set_section(index, size=random.randrange(size))
    return f"{patient.names[index]} cut"


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
    names = patient.names[one], patient.names[other]
    patient.data[a : a + size], patient.data[b : b + size] = patient.data[b : b + size], patient.data[a : a + size]
    return f"sections {one} {names[0]} and {other} {names[1]} swapped"


def add_section(patient: Patient, random: Random) -> str:
    """One more."""
    name = random.choice([".debug_info", ".text", ".new", ".stab", ".gnu_debuglink", ""])
    data = bytes(random.randrange(3))
    patient.append_section(name, data, flags=random.choice([0, 0, 2, 5]))
    return f"section {name} added, {len(data)} bytes"


def cut_or_grow(patient: Patient, random: Random) -> str:
    """The file ends sooner or later."""
    if random.random() < 0.5:
        del patient.data[random.randrange(len(patient.data)) :]
        return f"cut at {len(patient.data)}"
    patient.data += bytes(random.randrange(1, 9))
    return "longer"


def where(patient: Patient, offset: int) -> str:
    """What lies at an offset of the file, as far as it can be told."""
    header = HEADER[patient.is64]
    if offset < (64 if patient.is64 else 52):
        return "header " + next((f for f, (at, _) in reversed(header.items()) if at <= offset), "ident")
    size = 64 if patient.is64 else 40
    index, at = divmod(offset - patient.header("shoff"), size)
    if 0 <= index < patient.header("shnum"):
        fields = sorted(SECTION[patient.is64].items(), key=lambda item: item[1][0])
        return f"section {index} {patient.names[index]} {[f for f, (start, _) in fields if start <= at][-1]} ="
    for index in range(patient.header("shnum")):
        start, end = patient.section(index, "offset"), patient.section(index, "size")
        if patient.section(index, "type") != 8 and start <= offset < start + end:
            return f"contents of {patient.names[index]}"
    return "padding"


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
    change_relocation, swap_relocations, swap_targets, relink, misplace_symbol, toggle_klp, empty_group, cut_strings,
    lose_section, swap_sections, add_section, cut_or_grow,
)  # fmt: skip


def one(data: bytes, random: Random) -> tuple[bytes, str]:
    """The file with just one damage, and what it is; kinds that find nothing to damage are passed over."""
    while data:
        patient = Patient(data)
        try:
            told = random.choice(KINDS)(patient, random)
        except (ValueError, LookupError, StopIteration, ArithmeticError, struct.error):
            continue  # no group, say; or an earlier damage left nothing to be found
        if bytes(patient) != data:
            return bytes(patient), told
    return data, "nothing left"


def mutant(data: bytes, random: Random) -> tuple[bytes, str]:
    """The file with one damage, or two, and what they are."""
    told = []
    for _ in range(random.choice([1, 1, 1, 1, 2])):
        data, what = one(data, random)
        told.append(what)
    return data, ", ".join(told)
