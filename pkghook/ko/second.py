"""The second reader: the section table of a module as pyelftools sees it, held against our own.

Only the header, the section headers and their names are asked of pyelftools, no object for a section is made: those
of some types read tables as large as a crafted file likes.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.ko.elf import SHN_LORESERVE
from pkghook.model import SectionRow, SectionTable

if TYPE_CHECKING:
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import Image

_FIELDS = ("type", "flags", "addr", "offset", "size", "link", "info", "addralign", "entsize")
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
    from elftools.elf.elffile import ELFFile

    types, machines, kinds = _numbers()
    stream: Any = _Stream(image)  # as much of a file as it asks for
    file = ELFFile(stream)
    header, layout = file.header, file.structs.Elf_Shdr
    count = header["e_shnum"]
    if not 0 < count < SHN_LORESERVE:
        raise ValueError(f"{count} sections")
    stream.seek(header["e_shoff"])
    table = BytesIO(stream.read(count * header["e_shentsize"]))  # it is read field by field
    raw = [layout.parse_stream(table) for _ in range(count)]
    names: Any = file.get_section(header["e_shstrndx"])
    rows = tuple(
        SectionRow(
            names.get_string(row["sh_name"]),
            types.get(row["sh_type"], row["sh_type"]),
            *[row[f"sh_{field}"] for field in _FIELDS[1:]],
        )
        for row in raw
    )
    machine, kind = header["e_machine"], header["e_type"]
    order = "<" if file.little_endian else ">"
    return SectionTable(file.elfclass, order, kinds.get(kind, kind), machines.get(machine, machine), rows)


@cache
def _numbers() -> tuple[dict[Any, int], dict[Any, int], dict[Any, int]]:
    """The numbers behind pyelftools' names for section types, machines and kinds of files."""
    from elftools.elf import enums

    types: dict[Any, int] = {}
    for name, table in vars(enums).items():
        if name.startswith("ENUM_SH_TYPE"):  # one for all machines, and one for each that has types of its own
            types.update(table)
    return types, dict(enums.ENUM_E_MACHINE), dict(enums.ENUM_E_TYPE)


class _Stream:
    """An image as the file-like object that pyelftools wants: short at the end, never failing for that."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of io.IOBase."""
        self._at = offset + (0, self._at, self._image.size)[whence]
        return self._at

    def tell(self) -> int:
        """As of io.IOBase."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """As of io.RawIOBase."""
        start = min(self._at, self._image.size)
        room = self._image.size - start
        data = self._image.read(start, room if size < 0 else min(size, room))
        self._at = start + len(data)
        return data


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
