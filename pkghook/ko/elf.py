"""The ELF header and section header table of a module, checked as the kernel's loader checks them.

Nothing but the header, the section headers and their names is read here; tables are read by
`symtab` and `reloc`, and the bytes of debug sections by nobody.

Sources: the ELF specification (gABI); elf_validity_ehdr(), elf_validity_cache_sechdrs() and
elf_validity_cache_secstrings() in kernel/module/main.c.
"""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from operator import add, itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any

from pkghook.errors import ModuleError
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pkghook.ko.file import Image

HEAD = 64  # bytes of the larger of the two ELF headers
SHT_NULL, SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA = 0, 1, 2, 3, 4
SHT_NOTE, SHT_NOBITS, SHT_REL, SHT_GROUP, SHT_SYMTAB_SHNDX = 7, 8, 9, 17, 18
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK, SHF_LINK_ORDER = 1, 2, 4, 0x40, 0x80
SHF_RELA_LIVEPATCH = 0x00100000
SHN_LORESERVE, SHN_LIVEPATCH, SHN_ABS, SHN_COMMON, SHN_XINDEX = 0xFF00, 0xFF20, 0xFFF1, 0xFFF2, 0xFFFF
EM_MIPS = 8
KEPT = 512  # sections up to which the layout of a table is remembered: it takes more memory than the table
SHARED = 1 << 20  # bytes that all names of sections together may have, beside twice those of the tables
RELOCATIONS = (SHT_RELA, SHT_REL)
_NO_CONTENTS = (SHT_NULL, SHT_NOBITS)

_ET_REL = 1
_FIELDS = 10  # of a section header
NATIVE = "<" if sys.byteorder == "little" else ">"


class Section(NamedTuple):
    """One section header. Offsets and sizes in bytes; `name` as in the name table."""

    name: bytes
    index: int  # type: ignore[assignment]  # shadows tuple.index, which nobody wants of a section
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the section's contents in the file."""
        return self.offset if self.type in _NO_CONTENTS else self.offset + self.size


# Half the time of a call of Section.
_SECTION: Callable[[tuple[object, ...]], Section] = partial(tuple.__new__, Section)


class Columns(NamedTuple):
    """The fields of all section headers, each as one tuple in section order.

    Passes over all sections use these: a plain tuple is read four times as fast as a field of a Section.
    """

    name: tuple[bytes, ...] = ()
    type: tuple[int, ...] = ()
    flags: tuple[int, ...] = ()
    addr: tuple[int, ...] = ()
    offset: tuple[int, ...] = ()
    size: tuple[int, ...] = ()
    link: tuple[int, ...] = ()
    info: tuple[int, ...] = ()
    align: tuple[int, ...] = ()
    entsize: tuple[int, ...] = ()

    def section(self, index: int) -> Section:
        """All fields of one section."""
        name, *rest = self
        return _SECTION((name[index], index, *[column[index] for column in rest]))


def picker(indices: Sequence[int]) -> Callable[[Any], Sequence[Any]]:
    """What takes the values at `indices` out of a column; for many columns the quickest way there is."""
    if len(indices) > 1:
        return itemgetter(*indices)
    return lambda column: [column[index] for index in indices]


class Shape(NamedTuple):
    """How the tables of one class and byte order lie in the file."""

    order: str  # "<" or ">"
    foreign: bool  # other byte order than this machine's
    header: Struct  # e_type ... e_shstrndx, from offset 16
    section: Struct
    symbol_size: int
    symbol_info: int  # offset of st_info; st_other follows it
    symbol_shndx: int  # offset of st_shndx
    word: int  # size of an address


def _shape(*, is64: bool, order: str) -> Shape:
    foreign = order != NATIVE
    if is64:
        return Shape(order, foreign, Struct(order + "HHIQQQIHHHHHH"), Struct(order + "IIQQQQIIQQ"), 24, 4, 6, 8)
    return Shape(order, foreign, Struct(order + "HHIIIIIHHHHHH"), Struct(order + "IIIIIIIIII"), 16, 12, 14, 4)


_SHAPES = {(cls, data): _shape(is64=cls == 2, order="<" if data == 1 else ">") for cls in (1, 2) for data in (1, 2)}


class Elf:
    """A parsed module: header fields and sections, with the image they came from."""

    __slots__ = (
        "_sections", "cache", "columns", "count", "entry", "fields", "flags", "ident", "image", "is64", "machine",
        "name_offsets", "names", "names_index", "shape", "shoff", "table", "type", "version",
    )  # fmt: skip

    def __init__(self, image: Image, ident: bytes, shape: Shape, fields: tuple[int, ...]) -> None:
        self.image = image
        self.ident = ident
        self.shape = shape
        self.is64 = shape.word == 8
        self.fields = fields  # of the header, from e_type on
        (self.type, self.machine, self.version, self.entry, _, self.shoff, self.flags) = fields[:7]
        self.count = fields[11]  # of sections
        self.names_index = fields[12]
        self._sections: list[Section] | None = None
        self.columns = Columns()
        self.table = b""  # the section header table as it lies in the file
        self.names = b""  # the table of section names
        self.name_offsets: Sequence[int] = ()  # of each section's name in it
        # What `symtab` and `reloc` have read once; both sides of a proof ask more than once.
        self.cache: dict[object, object] = {}

    @property
    def sections(self) -> list[Section]:
        """The section headers; made when first asked for, since most modules are done by columns alone."""
        if self._sections is None:
            texts, *rest = self.columns
            self._sections = list(map(_SECTION, zip(texts, range(self.count), *rest, strict=True)))
        return self._sections

    def section(self, index: int) -> Section:
        """One section header."""
        return self.columns.section(index) if self._sections is None else self._sections[index]

    @property
    def header_end(self) -> int:
        """Size of the ELF header of this class, in bytes."""
        return 16 + self.shape.header.size

    @property
    def table_end(self) -> int:
        """Offset of the first byte behind the section header table."""
        return self.shoff + self.count * self.shape.section.size

    @property
    def ends(self) -> list[int]:
        """Of each section the offset of the first byte behind its contents in the file, 0 if it has none there."""
        found = self.cache.get("ends")
        if found is None:
            kinds = self.columns.type
            found = self.cache["ends"] = list(map(add, self.columns.offset, self.columns.size))
            for kind in _NO_CONTENTS:
                index = -1
                for _ in range(kinds.count(kind)):
                    index = kinds.index(kind, index + 1)
                    found[index] = 0
        return found  # type: ignore[return-value]

    @property
    def end(self) -> int:
        """Offset of the first byte that belongs to no section and no table."""
        found = self.cache.get("end")
        if found is None:
            found = self.cache["end"] = max(self.table_end, *self.ends)
        return found  # type: ignore[return-value]

    @property
    def in_file(self) -> list[int]:
        """The indices of the sections but section 0 in the order in which they lie in the file."""
        found = self.cache.get("in_file")
        if found is None:
            found = self.cache["in_file"] = sorted(range(1, self.count), key=self.columns.offset.__getitem__)
        return found  # type: ignore[return-value]

    @property
    def relocating(self) -> list[int]:
        """The indices of the relocation sections, those that go with debug sections too."""
        found = self.cache.get("relocating")
        if found is None:
            kinds = self.columns.type
            found = self.cache["relocating"] = [index for index, kind in enumerate(kinds) if kind in RELOCATIONS]
        return found  # type: ignore[return-value]

    def read(self, section: Section) -> bytes:
        """The section's contents; b"" for SHT_NOBITS and SHT_NULL."""
        return b"" if section.type in _NO_CONTENTS else self.image.read(section.offset, section.size)


def parse(image: Image, *, module: bool = True) -> Elf:
    """The header and sections of `image`, a module, or any ELF file unless `module`.

    Raises ModuleError: not-elf, truncated, not-relocatable, bad-header, too-many-sections,
    section-outside-file, bad-string-table, bad-section.
    """
    head = image.read(0, min(HEAD, image.size))
    shape = _shape_of(head, module=module)
    elf = Elf(image, head[:16], shape, shape.header.unpack(head[16 : 16 + shape.header.size]))
    _check_header(elf)
    _read_sections(elf)
    return elf


def _shape_of(head: bytes, *, module: bool) -> Shape:
    if head[:4] != b"\x7fELF"[: len(head)] or not head:
        raise ModuleError("not-elf", magic=head[:4].hex())
    if len(head) < 20:
        raise ModuleError("truncated", size=len(head), needed=52)
    shape = _SHAPES.get((head[4], head[5]))
    if shape is None or head[6] != 1:
        raise ModuleError("bad-header", e_ident=head[4:7].hex())
    kind = int.from_bytes(head[16:18], "little" if head[5] == 1 else "big")
    if module and kind != _ET_REL:
        raise ModuleError("not-relocatable", e_type=kind)
    if len(head) < 16 + shape.header.size:
        raise ModuleError("truncated", size=len(head), needed=16 + shape.header.size)
    return shape


def _check_header(elf: Elf) -> None:
    size, shentsize, shnum = elf.image.size, elf.fields[10], elf.count
    if elf.version != 1:
        raise ModuleError("bad-header", e_version=elf.version)
    if not elf.shoff:
        raise ModuleError("bad-header", e_shoff=0)
    if shentsize != elf.shape.section.size:
        raise ModuleError("bad-header", e_shentsize=shentsize, expected=elf.shape.section.size)
    if shnum == 0 or shnum >= SHN_LORESERVE or elf.names_index == SHN_XINDEX:
        raise ModuleError("too-many-sections", e_shnum=shnum, e_shstrndx=elf.names_index)
    if elf.shoff + shnum * shentsize > size:
        raise ModuleError("section-outside-file", table=elf.shoff, sections=shnum, size=size)
    if not 0 < elf.names_index < shnum:
        raise ModuleError("bad-header", e_shstrndx=elf.names_index, sections=shnum)


def _read_sections(elf: Elf) -> None:
    elf.table = elf.image.read(elf.shoff, elf.table_end - elf.shoff)
    many = _many if elf.count <= KEPT else _many.__wrapped__
    values = many(elf.shape.section.format, elf.count).unpack(elf.table)
    columns = [values[field::_FIELDS] for field in range(_FIELDS)]
    names = elf.names = _name_table(elf, [column[elf.names_index] for column in columns])
    starts, offsets, sizes, aligns = columns[0], columns[4], columns[5], columns[8]
    find, limit = names.find, elf.image.size
    # All at once first; which section it is matters only if one is bad.
    if max(starts) >= len(names) or max(map(add, offsets, sizes)) > limit or any([a & (a - 1) for a in set(aligns)]):
        _reject_bad(elf, columns, names)
    if len(names) * len(starts) > SHARED:
        _check_shared(names, starts, len(elf.table))
    texts = tuple([names[start : find(b"\0", start)] for start in starts])
    elf.columns = Columns(texts, *columns[1:])
    elf.name_offsets = starts
    _, kind, _, addr, _, size, *_ = (column[0] for column in columns)
    if kind or size or addr:
        raise ModuleError("section-rule", section=0, type=kind, size=size, addr=addr)


@lru_cache(256)
def _many(form: str, count: int) -> Struct:
    """`count` times a structure: a table in one go is read in half the time of its rows."""
    return Struct(form[0] + form[1:] * count)


def _check_shared(names: bytes, starts: Sequence[int], table: int) -> None:
    """Names may share their ends, but not a long one by the thousand: each is a copy of its own here."""
    total = end = 0
    for start in sorted(starts):
        if start >= end:
            end = names.index(b"\0", start)
        total += end - start
    if total > SHARED + 2 * (len(names) + table):
        raise ModuleError("bad-string-table", table="section names", bytes=len(names), names_together=total)


def _name_table(elf: Elf, row: Sequence[int]) -> bytes:
    kind, offset, size = row[1], row[4], row[5]
    if kind != SHT_STRTAB or size == 0:
        raise ModuleError("bad-string-table", table="section names", type=kind, size=size)
    if offset + size > elf.image.size:
        raise ModuleError("section-outside-file", section=elf.names_index, offset=offset, bytes=size)
    names = elf.image.read(offset, size)
    if names[-1]:
        raise ModuleError("bad-string-table", table="section names", end="not NUL")
    return names


def _reject_bad(elf: Elf, columns: list[tuple[int, ...]], names: bytes) -> None:
    """Raises for the first bad section header. NULL and NOBITS have no contents that could lie outside the file."""
    for index, row in enumerate(zip(*columns, strict=True)):
        if row[0] >= len(names):
            raise ModuleError("bad-string-table", section=index, name_offset=row[0], table_size=len(names))
        name = names[row[0] : names.find(b"\0", row[0])].decode("utf-8", "backslashreplace")
        if row[8] & (row[8] - 1):
            raise ModuleError("bad-section", section=name or index, alignment=row[8])
        if row[4] + row[5] > elf.image.size and row[1] not in (SHT_NULL, SHT_NOBITS):
            where = {"offset": row[4], "bytes": row[5], "size": elf.image.size}
            raise ModuleError("section-outside-file", section=name or index, **where)
