"""Module-like ELF files grown for tests: any class, byte order and machine, any odd shape, from a few lines.

Written from the ELF specification (gABI) and the MIPS64 one alone, so that no mistake of `pkghook.ko` can hide
in both.  Layout as `ld -r` has it: sections with their relocations behind them, then .symtab, .strtab, .shstrtab.
"""

from __future__ import annotations

import struct
from itertools import count
from typing import NamedTuple

NULL, PROGBITS, SYMTAB, STRTAB, RELA, NOTE, NOBITS, REL, GROUP = 0, 1, 2, 3, 4, 7, 8, 9, 17
WRITE, ALLOC, EXEC, MERGE, STRINGS, INFO_LINK, LINK_ORDER, IN_GROUP, COMPRESSED, KLP = (
    1, 2, 4, 0x10, 0x20, 0x40, 0x80, 0x200, 0x800, 0x100000,
)  # fmt: skip
UND, ABS, COMMON, LIVEPATCH = 0, 0xFFF1, 0xFFF2, 0xFF20
LOCAL, GLOBAL, WEAK = 0x00, 0x10, 0x20
NOTYPE, OBJECT, FUNC, SECTION, FILE = 0, 1, 2, 3, 4
ADDRSIG = 0x6FFF4C03

X86_64, ARM64, S390, ARM, I386, MIPS, M68K, ARC = 62, 183, 22, 40, 3, 8, 4, 195


class Kind(NamedTuple):
    """Class, byte order and machine; which of the two forms its relocations have."""

    machine: int = X86_64
    is64: bool = True
    order: str = "<"
    rela: bool = True
    flags: int = 0

    @property
    def word(self) -> int:
        """Bytes of an address."""
        return 8 if self.is64 else 4


AMD64 = Kind()
KINDS = {
    "amd64": AMD64,
    "s390x": Kind(S390, order=">"),
    "armel": Kind(ARM, is64=False, rela=False, flags=0x5000000),
    "m68k": Kind(M68K, is64=False, order=">"),
    "mips64el": Kind(MIPS, flags=0x80000007),
    "mips64": Kind(MIPS, order=">", flags=0x80000007),
    "mips": Kind(MIPS, is64=False, order=">", rela=False, flags=0x70001007),
    "arc": Kind(ARC, is64=False),
}


class Rel(NamedTuple):
    """One relocation; `symbol` is a symbol's name, `@key` for the symbol of a section, or a number."""

    offset: int
    symbol: str | int
    type: int = 1
    addend: int = 0


class Sec(NamedTuple):
    """One section. Others call it by `key`, which is its name where nothing is said."""

    name: str
    data: bytes = b""
    flags: int = 0
    type: int = PROGBITS
    align: int = 1
    entsize: int = 0
    link: str = ""  # key of the section that sh_link names
    info: str | int = 0  # key of a section, or a number
    size: int = -1  # of NOBITS; else that of the data
    relocations: tuple[Rel, ...] | None = None  # (): a relocation section without entries; or the section's own
    members: tuple[str, ...] = ()  # of a group: keys; a relocation section's is `.rela@key`
    key: str = ""

    @property
    def called(self) -> str:
        """What the others call it."""
        return self.key or self.name

    @property
    def relocated(self) -> bool:
        """Whether a relocation section of the usual name follows it."""
        return self.relocations is not None and self.type not in (REL, RELA)


class Sym(NamedTuple):
    """One symbol; `section` is a key or a special index."""

    name: str
    section: str | int = UND
    value: int = 0
    size: int = 0
    bind: int = GLOBAL
    type: int = NOTYPE
    other: int = 0

    @property
    def info(self) -> int:
        """The field st_info."""
        return self.bind | self.type


class Strings:
    """A string table that grows; equal names share their bytes."""

    def __init__(self) -> None:
        self.data = bytearray(1)
        self.known = {"": 0}

    def add(self, name: str) -> int:
        """Offset of the name."""
        if name not in self.known:
            self.known[name] = len(self.data)
            self.data += name.encode("utf-8", "surrogateescape") + b"\0"
        return self.known[name]


class Header(NamedTuple):
    """What a section header says beside name and place."""

    name: str
    type: int
    flags: int
    size: int
    link: int
    info: int
    align: int
    entsize: int
    data: bytes


class Grower:
    """One file in the making: numbers first, then bytes."""

    def __init__(
        self, sections: list[Sec], symbols: list[Sym], kind: Kind, *, one_string_table: bool, bare: frozenset[str]
    ) -> None:
        """`one_string_table`: names of sections and symbols share one, as LLVM's assembler has it."""
        self.kind, self.sections, self.one_string_table = kind, sections, one_string_table
        self.numbers: dict[str, int] = {"": 0}
        number = count(1)
        for section in sections:
            self.numbers[section.called] = next(number)
            if section.relocated:
                self.numbers[".rela@" + section.called] = next(number)
        self.symtab, self.strtab, self.shstrtab = next(number), next(number), next(number) - one_string_table
        self.symbols = self.ordered(symbols, bare)
        self.rows: dict[str, int] = {}
        for row, symbol in enumerate(self.symbols):
            self.rows.setdefault(f"@{symbol.section}" if symbol.type == SECTION else symbol.name, row)
        self.strings = Strings()

    def ordered(self, symbols: list[Sym], bare: frozenset[str]) -> list[Sym]:
        """The null symbol, then locals (those of sections first), then the others."""
        own = [
            Sym("", s.called, bind=LOCAL, type=SECTION)
            for s in self.sections
            if s.type != GROUP and s.called not in bare
        ]
        every = [*own, *symbols]
        return [Sym("", bind=LOCAL), *(s for s in every if s.bind == LOCAL), *(s for s in every if s.bind != LOCAL)]

    def index(self, symbol: Sym) -> int:
        """The field st_shndx."""
        return self.numbers[symbol.section] if isinstance(symbol.section, str) else symbol.section

    def symbol_bytes(self) -> bytes:
        """The contents of .symtab."""
        out = b""
        for s in self.symbols:
            name, order = self.strings.add(s.name), self.kind.order
            if self.kind.is64:
                out += struct.pack(order + "IBBHQQ", name, s.info, s.other, self.index(s), s.value, s.size)
            else:
                out += struct.pack(order + "IIIBBH", name, s.value, s.size, s.info, s.other, self.index(s))
        return out

    def row(self, name: str | int) -> int:
        """The number of a symbol."""
        return name if isinstance(name, int) else self.rows[name]

    def relocation_bytes(self, relocations: tuple[Rel, ...] | None) -> bytes:
        """The contents of a relocation section."""
        out, kind = b"", self.kind
        for r in relocations or ():
            row = self.row(r.symbol)
            if kind.is64 and kind.machine == MIPS:
                out += struct.pack(kind.order + "QIBBBB", r.offset, row, 0, 0, 0, r.type)
            elif kind.is64:
                out += struct.pack(kind.order + "QQ", r.offset, row << 32 | r.type)
            else:
                out += struct.pack(kind.order + "II", r.offset, row << 8 | r.type)
            if kind.rela:
                out += struct.pack(kind.order + ("q" if kind.is64 else "i"), r.addend)
        return out

    def headers(self) -> list[Header]:
        """All sections in order, the null section first."""
        found = [Header("", NULL, 0, 0, 0, 0, 0, 0, b"")]
        for s in self.sections:
            found.append(self.header(s))
            if s.relocated:
                found.append(self.relocation_header(s))
        entry = 24 if self.kind.is64 else 16
        first_global = sum(s.bind == LOCAL for s in self.symbols)
        table = self.symbol_bytes()
        names = Strings()
        if self.one_string_table:
            names = self.strings
        for header in found:
            names.add(header.name)
        for name in (".symtab", ".strtab", ".shstrtab"):
            names.add(name)
        found.append(Header(".symtab", SYMTAB, 0, len(table), self.strtab, first_global, self.kind.word, entry, table))
        strings = bytes(self.strings.data)
        found.append(Header(".strtab", STRTAB, 0, len(strings), 0, 0, 1, 0, strings))
        if not self.one_string_table:
            found.append(Header(".shstrtab", STRTAB, 0, len(names.data), 0, 0, 1, 0, bytes(names.data)))
        self.names = names
        return found

    def header(self, s: Sec) -> Header:
        """One section as given."""
        link, info, data = self.numbers[s.link] if s.link else 0, s.info, s.data
        if s.type == GROUP:
            members = [1, *(self.numbers[member] for member in s.members)]
            data = data or struct.pack(f"{self.kind.order}{len(members)}I", *members)
            link, info = self.symtab, self.row(info)
        elif s.type in (REL, RELA):
            link, data = self.symtab, self.relocation_bytes(s.relocations)
        if isinstance(info, str):
            info = self.numbers[info]
        size = len(data) if s.size < 0 else s.size
        return Header(s.name, s.type, s.flags, size, link, info, s.align, s.entsize, data)

    def relocation_header(self, s: Sec) -> Header:
        """The relocation section behind a section."""
        rela, word = self.kind.rela, self.kind.word
        data = self.relocation_bytes(s.relocations)
        name, type = (".rela" + s.name, RELA) if rela else (".rel" + s.name, REL)
        flags = INFO_LINK | s.flags & IN_GROUP
        entry = word * (3 if rela else 2)
        return Header(name, type, flags, len(data), self.symtab, self.numbers[s.called], word, entry, data)

    def render(self) -> bytes:
        """The file."""
        headers = self.headers()
        out = bytearray(64 if self.kind.is64 else 52)
        places = []
        for header in headers:
            out += bytes(-len(out) % max(header.align, 1))
            places.append(len(out) if header.type else 0)
            if header.type != NOBITS:
                out += header.data
        out += bytes(-len(out) % self.kind.word)
        out[: 64 if self.kind.is64 else 52] = self.file_header(len(out), len(headers))
        form = self.kind.order + ("IIQQQQIIQQ" if self.kind.is64 else "10I")
        for h, place in zip(headers, places, strict=True):
            name = self.names.add(h.name)
            out += struct.pack(form, name, h.type, h.flags, 0, place, h.size, h.link, h.info, h.align, h.entsize)
        return bytes(out)

    def file_header(self, table: int, sections: int) -> bytes:
        """The ELF header."""
        kind = self.kind
        ident = b"\x7fELF" + bytes([2 if kind.is64 else 1, 1 if kind.order == "<" else 2, 1]) + bytes(9)
        size, entry = (64, 64) if kind.is64 else (52, 40)
        word = "Q" if kind.is64 else "I"
        form = f"{kind.order}HHI{word}{word}{word}IHHHHHH"
        numbers = (1, kind.machine, 1, 0, 0, table, kind.flags, size, 0, 0, entry, sections, self.shstrtab)
        return ident + struct.pack(form, *numbers)


def grow(
    sections: list[Sec],
    symbols: list[Sym],
    kind: Kind = AMD64,
    *,
    one_string_table: bool = False,
    bare: frozenset[str] = frozenset(),
) -> bytes:
    """The file; each section has its section symbol unless it is `bare`."""
    return Grower(sections, symbols, kind, one_string_table=one_string_table, bare=bare).render()


# --- a small module, and what may be added to it ---------------------------------------------------------------------


def basis() -> list[Sec]:
    """What every module has, more or less, without debug information."""
    text = (Rel(4, "printk", 4, -4), Rel(9, "@.rodata.str1.1", 2, 3), Rel(17, "helper", 2))
    this = (Rel(0x18, "init_module"), Rel(0x30, "cleanup_module"))
    return [
        Sec(".note.gnu.build-id", struct.pack("<III", 4, 4, 3) + b"GNU\0\1\2\3\4", ALLOC, NOTE, 4),
        Sec(".text", bytes(range(32)), ALLOC | EXEC, align=16, relocations=text),
        Sec(".init.text", b"\xc3\x90", ALLOC | EXEC, align=1),
        Sec(".rodata.str1.1", b"hello\0world\0", ALLOC | MERGE | STRINGS, entsize=1),
        Sec(".modinfo", b"license=GPL\0name=grown\0vermagic=6.1.0 SMP mod_unload \0", ALLOC),
        Sec(".data", bytes(12), ALLOC | WRITE, align=8),
        Sec(".gnu.linkonce.this_module", bytes(64), ALLOC | WRITE, align=64, relocations=this),
        Sec(".bss", b"", ALLOC | WRITE, NOBITS, 8, size=40),
        Sec(".comment", b"\0GCC: (GNU) 12.2.0\0", MERGE | STRINGS, entsize=1),
        Sec(".note.GNU-stack"),
    ]


def debug_sections() -> list[Sec]:
    """Debug information, of which nothing is read."""
    info = (Rel(6, "@.debug_abbrev", 10), Rel(12, "@.debug_str", 10, 5), Rel(20, "@.text", 1))
    return [
        Sec(".debug_info", b"\xaa" * 101, relocations=info),
        Sec(".debug_abbrev", b"\xab" * 33),
        Sec(".debug_str", b"some\0debug\0strings\0", MERGE | STRINGS, entsize=1),
    ]


def symbols() -> list[Sym]:
    """The symbols that `basis` needs."""
    return [
        Sym("grown.c", ABS, bind=LOCAL, type=FILE),
        Sym("helper", ".text", 16, 8, LOCAL, FUNC),
        Sym(".LC0", ".rodata.str1.1", 6, bind=LOCAL),
        Sym("__UNIQUE_ID_license", ".modinfo", 0, 12, LOCAL, OBJECT),
        Sym("counter", ".bss", 0, 4, LOCAL, OBJECT),
        Sym("counter", ".bss", 4, 4, LOCAL, OBJECT),
        Sym("__this_module", ".gnu.linkonce.this_module", 0, 64, GLOBAL, OBJECT),
        Sym("init_module", ".init.text", 0, 2, GLOBAL, FUNC),
        Sym("cleanup_module", ".text", 24, 8, GLOBAL, FUNC),
        Sym("printk"),
        Sym("maybe", bind=WEAK),
        Sym("__crc_grown", ABS, 0xDEADBEEF),
    ]


def module(kind: Kind = AMD64, *more: Sec, also: tuple[Sym, ...] = (), one_string_table: bool = False) -> bytes:
    """A small unstripped module with whatever else is wanted in it."""
    return grow([*basis(), *debug_sections(), *more], [*symbols(), *also], kind, one_string_table=one_string_table)


def stripped(kind: Kind = AMD64, *more: Sec, also: tuple[Sym, ...] = ()) -> bytes:
    """The same without debug information."""
    return grow([*basis(), *more], [*symbols(), *also], kind)


def livepatch(shape: str) -> bytes:
    """A livepatch module: `.text.patched` has klp relocations, and ordinary ones as `shape` says.

    a: some; b: no section for them; c: an empty section, behind the klp one; `empty first`: before it.  GNU strip
    ruins b and c with exit status 0.  Source: Documentation/livepatch/module-elf-format.rst.
    """
    there = Sym(".klp.sym.vmlinux.do_something,0", LIVEPATCH)
    patched = Sec(".text.patched", bytes(32), ALLOC | EXEC, align=16)
    info = Sec(".modinfo", b"license=GPL\0livepatch=Y\0", ALLOC)
    rela = Sec(".klp.rela.vmlinux..text.patched", b"", ALLOC | KLP, RELA, 8, 24, info=patched.name)
    klp = rela._replace(relocations=(Rel(4, there.name, 4, -4),))
    empty = rela._replace(name=".rela.text.patched", flags=INFO_LINK, relocations=())
    some = empty._replace(relocations=(Rel(12, "printk", 4, -4),))
    behind = {"a": (some, klp), "b": (klp,), "c": (klp, empty), "empty first": (empty, klp)}[shape]
    sections = [info if s.name == info.name else s for s in basis()]
    bare = frozenset({klp.name, empty.name})
    return grow([*sections, patched, *behind, *debug_sections()], [*symbols(), there], bare=bare)


LIVEPATCH_SHAPES = ("a", "b", "c", "empty first")


def many_sections(number: int) -> bytes:
    """A module with `number` section headers in all, most of them empty functions of one byte."""
    fixed = len(basis()) + len(debug_sections()) + 3 + 4  # relocation sections; null, symtab, strtab, shstrtab
    extra = [Sec(f".text.f{i}", b"\xc3", ALLOC | EXEC) for i in range(number - fixed)]
    bare = frozenset(s.called for s in extra)
    return grow([*basis(), *extra, *debug_sections()], symbols(), bare=bare)
