"""The second reader: the section table of a module as pyelftools sees it, held against our own.

Only the header, the section headers and their names are read by pyelftools' layouts, no object for a file or a section
is made: those of some types read tables as large as a crafted file likes, and all cost time.
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko.elf import SHN_LORESERVE
from pkghook.model import SectionRow, SectionTable

if TYPE_CHECKING:
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import Image

HEAD = 64  # bytes of the larger of the two ELF headers
_CLASSES, _ORDERS = {1: 32, 2: 64}, {1: True, 2: False}  # EI_CLASS, EI_DATA
_FIELDS = ("sh_flags", "sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_addralign", "sh_entsize")
_SHOWN = 80  # characters of what another library says

# What pyelftools and its construct raise on files that they cannot read, beside errors of their own: tables of theirs
# that lack a value, arithmetic on what a crafted header says, None where something was expected.
_CANNOT_READ = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError, struct.error)


def check(elf: Elf) -> None:
    """Raises ModuleError `readers-disagree` unless pyelftools sees the same module.

    MissingDependencyError where it is not installed.
    """
    first, second = ours(elf), theirs(elf.image)
    if first != second:
        raise ModuleError("readers-disagree", **_difference(first, second))


def need() -> None:
    """Raises MissingDependencyError where pyelftools is not installed."""
    try:
        import elftools  # noqa: F401
    except ImportError as error:
        message = "the second reader, the Python library pyelftools, is not installed"
        hint = "apt install python3-pyelftools, or pip install pyelftools; --no-second-reader does without"
        raise MissingDependencyError(message, hint=hint) from error


def ours(elf: Elf) -> SectionTable:
    """The table as our own reader has it."""
    names, *columns = elf.columns
    texts = [name.decode("utf-8", "replace") for name in names]
    rows = tuple(map(SectionRow, texts, *columns))
    return SectionTable(64 if elf.is64 else 32, elf.shape.order, elf.type, elf.machine, rows)


def theirs(image: Image) -> SectionTable:
    """The table as pyelftools has it.

    Raises ModuleError `readers-disagree` where it cannot read the file, and what `image` raises;
    MissingDependencyError where it is not installed.
    """
    try:
        from elftools.common.exceptions import ELFError
        from elftools.construct import ConstructError
    except ImportError as error:
        message = "the second reader, the Python library pyelftools, is not installed"
        raise MissingDependencyError(
            message, hint="apt install python3-pyelftools, or pip install pyelftools"
        ) from error
    try:
        return _read(image)
    except (ELFError, ConstructError, *_CANNOT_READ) as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")[:_SHOWN]
        raise ModuleError("readers-disagree", pkghook="can read it", pyelftools=said) from error


def _read(image: Image) -> SectionTable:
    little, bits, header = _header(image.read(0, min(image.size, HEAD)))
    kind, machine = header["e_type"], header["e_machine"]
    layout = _layouts(little, bits, kind, machine, header["e_ident"]["EI_OSABI"]).Elf_Shdr
    count, size = header["e_shnum"], header["e_shentsize"]
    if not 0 < count < SHN_LORESERVE or size != layout.sizeof():
        raise ValueError(f"{count} sections of {size} bytes")
    table = BytesIO(image.read(header["e_shoff"], count * size))
    raw = [layout.parse_stream(table) for _ in range(count)]
    types, machines, kinds = _numbers()
    names = raw[header["e_shstrndx"]]
    texts = _texts(image.read(names["sh_offset"], names["sh_size"]), [row["sh_name"] for row in raw])
    rows = [
        SectionRow(text, types.get(row["sh_type"], row["sh_type"]), *[row[field] for field in _FIELDS])
        for text, row in zip(texts, raw, strict=True)
    ]
    order = "<" if little else ">"
    return SectionTable(bits, order, kinds.get(kind, kind), machines.get(machine, machine), tuple(rows))


def _header(head: bytes) -> tuple[bool, int, Any]:
    """Whether the file is little-endian, its class in bits, its header."""
    little, bits = _ORDERS[head[5]], _CLASSES[head[4]]
    return little, bits, _layouts(little, bits).Elf_Ehdr.parse(head)


@lru_cache(64)
def _layouts(little: bool, bits: int, *depends_on: Any) -> Any:  # noqa: ANN401, FBT001  pyelftools has no types
    """pyelftools' layouts for a class and byte order, and, if it is given, for type, machine and ABI.

    Making them costs more than reading a module, so they are kept.
    """
    from elftools.elf.structs import ELFStructs

    layouts = ELFStructs(little_endian=little, elfclass=bits)
    layouts.create_basic_structs()
    if depends_on:
        layouts.create_advanced_structs(*depends_on)
    return layouts


def _texts(table: bytes, offsets: list[int]) -> list[str]:
    from elftools.common.utils import parse_cstring_from_stream

    stream = BytesIO(table)
    found = [parse_cstring_from_stream(stream, offset) for offset in offsets]
    return [(text or b"").decode("utf-8", "replace") for text in found]


@cache
def _numbers() -> tuple[dict[Any, int], dict[Any, int], dict[Any, int]]:
    """The numbers behind pyelftools' names for section types, machines and kinds of files."""
    from elftools.elf import enums

    types: dict[Any, int] = {}
    for name, table in vars(enums).items():
        if name.startswith("ENUM_SH_TYPE"):  # one for all machines, and one for each that has types of its own
            types.update(table)
    return types, dict(enums.ENUM_E_MACHINE), dict(enums.ENUM_E_TYPE)


def _difference(first: SectionTable, second: SectionTable) -> dict[str, str | int]:
    """The first thing that they see differently."""
    for field, mine, other in zip(first._fields[:-1], first, second, strict=False):
        if mine != other:
            return {"field": field, "pkghook": str(mine), "pyelftools": str(other)}
    if len(first.rows) != len(second.rows):
        return {"field": "sections", "pkghook": len(first.rows), "pyelftools": len(second.rows)}
    index, mine_row, other_row = next(
        (index, *pair) for index, pair in enumerate(zip(first.rows, second.rows, strict=True)) if pair[0] != pair[1]
    )
    field, mine, other = next(
        found for found in zip(mine_row._fields, mine_row, other_row, strict=True) if found[1] != found[2]
    )
    return {"section": index, "field": field, "pkghook": str(mine), "pyelftools": str(other)}
