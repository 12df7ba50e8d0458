"""The second reader: the section table of a module as pyelftools sees it, held against our own.

Only the header, the section headers and their names are read, by pyelftools' layouts, no object for a file or a section
is made: those of some types read tables as large as a crafted file likes, and all cost time.  It reads a table of
section headers field by field, at twenty times the cost of all else here, so it is asked once for each layout where the
fields lie, and they are taken from there.
"""

from __future__ import annotations

import struct
from functools import cache, lru_cache, partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko.elf import SHN_LORESERVE
from pkghook.model import SectionRow, SectionTable

if TYPE_CHECKING:
    from collections.abc import Callable

    from pkghook.ko.elf import Elf
    from pkghook.ko.file import Image

HEAD = 64  # bytes of the larger of the two ELF headers
_CLASSES, _ORDERS = {1: 32, 2: 64}, {1: True, 2: False}  # EI_CLASS, EI_DATA
FIELDS = (
    "sh_name", "sh_type", "sh_flags", "sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_addralign",
    "sh_entsize",
)  # fmt: skip
_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}  # of the module struct, by bytes
_ROW: Callable[[tuple[object, ...]], SectionRow] = partial(tuple.__new__, SectionRow)  # half the time of a call of it
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
    rows = tuple(map(_ROW, zip(texts, *columns, strict=True)))
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
    table = list(as_struct(layout).iter_unpack(image.read(header["e_shoff"], count * size)))
    names = dict(zip(FIELDS, table[header["e_shstrndx"]], strict=True))
    texts = _texts(image.read(names["sh_offset"], names["sh_size"]), [row[0] for row in table])
    rows = tuple([_ROW((text, *row[1:])) for text, row in zip(texts, table, strict=True)])
    machines, kinds = _numbers()
    return SectionTable(bits, "<" if little else ">", kinds.get(kind, kind), machines.get(machine, machine), rows)


@lru_cache(64)
def as_struct(layout: Any) -> struct.Struct:  # noqa: ANN401  as in _layouts
    """What takes the fields out of a section header, in the order of FIELDS, from where `layout` has them.

    Found by a header with another byte at each place.  Raises ValueError for fields that do not lie in this order, one
    behind the other, as they do in both classes.
    """
    probe = bytes(range(1, layout.sizeof() + 1))
    found = layout.parse(probe)
    for order, prefix in (("little", "<"), ("big", ">")):
        fields = [found[field].to_bytes(-(-found[field].bit_length() // 8), order) for field in FIELDS]
        if b"".join(fields) == probe:
            return struct.Struct(prefix + "".join(_LETTERS[len(field)] for field in fields))
    raise ValueError(f"a section header of {len(probe)} bytes in an unknown order")


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
def _numbers() -> tuple[dict[Any, int], dict[Any, int]]:
    """The numbers behind pyelftools' names for machines and kinds of files."""
    from elftools.elf import enums

    return dict(enums.ENUM_E_MACHINE), dict(enums.ENUM_E_TYPE)


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
