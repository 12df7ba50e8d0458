"""The second reader: the section table of a module as pyelftools sees it, held against our own.

Only the header, the section headers and their names are read, by pyelftools' layouts, no object for a file or a section
is made: those of some types read tables as large as a crafted file likes, and all cost time.  It reads a header field
by field, at twenty times the cost of all else here, so it is asked once for each layout where the fields lie, and they
are taken from there.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko.elf import SHN_LORESERVE
from pkghook.model import SectionTable

if TYPE_CHECKING:
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import Image

HEAD = 64  # bytes of the larger of the two ELF headers
IDENT = b"\x7fELF\2\1\1" + bytes(9)  # some e_ident: pyelftools has no layout for one that it has no words for
_CLASSES, _ORDERS = {1: 32, 2: 64}, {1: True, 2: False}  # EI_CLASS, EI_DATA
HEADER_FIELDS = (
    "e_type", "e_machine", "e_version", "e_entry", "e_phoff", "e_shoff", "e_flags", "e_ehsize", "e_phentsize",
    "e_phnum", "e_shentsize", "e_shnum", "e_shstrndx",
)  # fmt: skip
FIELDS = (
    "sh_name", "sh_type", "sh_flags", "sh_addr", "sh_offset", "sh_size", "sh_link", "sh_info", "sh_addralign",
    "sh_entsize",
)  # fmt: skip
_LETTERS = {1: "B", 2: "H", 4: "I", 8: "Q"}  # of the module struct, by bytes
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
    return SectionTable(64 if elf.is64 else 32, elf.shape.order, elf.type, elf.machine, tuple(elf.columns))


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
    head = image.read(0, min(image.size, HEAD))
    little, bits = _ORDERS[head[5]], _CLASSES[head[4]]
    layouts = _layouts(little, bits)
    header_struct, row_struct = as_struct(layouts.Elf_Ehdr, HEADER_FIELDS, IDENT), as_struct(layouts.Elf_Shdr, FIELDS)
    header = dict(zip(HEADER_FIELDS, header_struct.unpack_from(head, len(IDENT)), strict=True))
    count, size = header["e_shnum"], header["e_shentsize"]
    if not 0 < count < SHN_LORESERVE or size != row_struct.size:
        raise ValueError(f"{count} sections of {size} bytes")
    rows = list(row_struct.iter_unpack(image.read(header["e_shoff"], count * size)))
    table = dict(zip(FIELDS, rows[header["e_shstrndx"]], strict=True))
    offsets, *columns = zip(*rows, strict=True)
    names = _names(image.read(table["sh_offset"], table["sh_size"]), offsets)
    return SectionTable(bits, "<" if little else ">", header["e_type"], header["e_machine"], (names, *columns))


@lru_cache(64)
def as_struct(layout: Any, fields: tuple[str, ...], ident: bytes = b"") -> struct.Struct:  # noqa: ANN401  no types there
    """What takes `fields` out of the bytes of a header, from where `layout` has them behind those of `ident`.

    Found by a header with another byte at each place.  Raises ValueError for fields that do not lie in this order, one
    behind the other, up to the end, as they do in both classes.
    """
    probe = ident + bytes(range(len(ident) + 1, layout.sizeof() + 1))
    found = layout.parse(probe)
    for order, prefix in (("little", "<"), ("big", ">")):
        values = [found[field].to_bytes(-(-found[field].bit_length() // 8), order) for field in fields]
        if b"".join(values) == probe[len(ident) :]:
            return struct.Struct(prefix + "".join(_LETTERS[len(value)] for value in values))
    raise ValueError(f"a header of {len(probe)} bytes in an unknown order")


@lru_cache(4)
def _layouts(little: bool, bits: int) -> Any:  # noqa: ANN401, FBT001  pyelftools has no types
    """pyelftools' layouts for a class and byte order.

    Making them costs more than reading a module, so they are kept.
    """
    from elftools.elf.structs import ELFStructs

    layouts = ELFStructs(little_endian=little, elfclass=bits)
    layouts.create_basic_structs()
    layouts.create_advanced_structs()
    return layouts


def _names(table: bytes, offsets: tuple[int, ...]) -> tuple[bytes, ...]:
    from elftools.common.utils import parse_cstring_from_stream

    stream = BytesIO(table)
    return tuple([parse_cstring_from_stream(stream, offset) or b"" for offset in offsets])


def _difference(first: SectionTable, second: SectionTable) -> dict[str, str | int]:
    """The first thing that they see differently."""
    for field, mine, other in zip(first._fields[:-1], first, second, strict=False):
        if mine != other:
            return {"field": field, "pkghook": str(mine), "pyelftools": str(other)}
    rows, others = (list(zip(*table.columns, strict=True)) for table in (first, second))
    if len(rows) != len(others):
        return {"field": "sections", "pkghook": len(rows), "pyelftools": len(others)}
    index = next(index for index, row in enumerate(rows) if row != others[index])
    field, mine, other = next(
        found for found in zip(FIELDS, rows[index], others[index], strict=True) if found[1] != found[2]
    )
    return {"section": index, "field": field.removeprefix("sh_"), "pkghook": _shown(mine), "pyelftools": _shown(other)}


def _shown(value: bytes | int) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
