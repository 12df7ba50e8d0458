"""The record: what each module of a tree was before other tools touched it, as a file.

One JSON object, layout as `fields`: `format`, `version`, `pkghook` (the version that wrote it) and `modules`,
one a line.  A module has its `path`, further hard-linked `names`, `compression`, `identity` and `facts`:
the fields of `facts.Facts`, of which those that are tuples of their own are lists in the order of their
fields.

A module is found again by path without compression suffix, because builds compress between `pkghook record`
and `pkghook strip --before`, and with or without `usr/` before `lib/modules`, because some move them there.

A file with the recorded identity (size, times, inode) is taken for unchanged, its facts are not worked out
again.  That is the trust that make and git put into the same numbers: whoever writes to a file, renames
or restores it moves its ctime, which no program can set.  A clock that ticks slower than programs write is
the one gap, so a file that was changed moments before it was recorded is recorded without identity.
"""

from __future__ import annotations

import gc
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, get_type_hints

from pkghook import __version__, fields
from pkghook.findings import Finding, make
from pkghook.ko.facts import Facts, Group, Header, KlpSection, Part, Relocs, Symbols, Table
from pkghook.model import SUFFIXES, Compression
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.fields import Fields

FORMAT = "pkghook record"
VERSION = 1
IDENTITY = 4  # numbers
RACY = 2_000_000_000  # nanoseconds: the coarsest times that a file system keeps

Identity = tuple[int, ...]  # size, mtime and ctime in nanoseconds, inode; empty where it would prove nothing
Row = Header | Symbols | Table | Part | Relocs | Group | KlpSection


class Recorded(NamedTuple):
    """One module as it was."""

    path: str  # relative to ROOT
    facts: Facts
    identity: Identity = ()
    compression: Compression = Compression.NONE
    names: tuple[str, ...] = ()  # further hard-linked names, relative to ROOT


def identity(status: os.stat_result, now: int | None = None) -> Identity:
    """What tells whether a file was touched since; empty if it was touched so shortly before `now` that it cannot.

    `now` is in nanoseconds since 1970, not later than the file was read; None is for a file that is looked up.
    """
    found = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    racy = now is not None and now - status.st_ctime_ns < RACY
    return () if racy or min(found) < 0 else found


def stem(path: str) -> str:
    """A module's path without compression suffix and without the `usr/` of a merged /usr."""
    if path.startswith("usr/lib/modules/"):
        path = path.removeprefix("usr/")
    for suffix in SUFFIXES.values():
        if suffix and path.endswith(f".ko{suffix}"):
            return path.removesuffix(suffix)
    return path


class Record:
    """All modules of a record."""

    def __init__(self, entries: Iterable[Recorded]) -> None:
        self.entries = tuple(entries)
        names = [(name, entry) for entry in self.entries for name in (entry.path, *entry.names)]
        self._by_stem = {stem(name): entry for name, entry in names}
        self._by_name = dict(names)

    def find(self, path: str) -> Recorded | None:
        """The module of that path, or of that path with another compression."""
        return self._by_name.get(path) or self._by_stem.get(stem(path))

    def known(self, names: Iterable[str]) -> Iterator[tuple[str, Recorded]]:
        """Each name that the record has, with what it was."""
        return ((name, entry) for name in names if (entry := self.find(name)))

    def unmatched(self, paths: Iterable[str]) -> tuple[Finding, ...]:
        """A record-unmatched finding for each module that has no name among `paths`, all those of the tree."""
        there = set(map(stem, paths))
        gone = (e for e in self.entries if there.isdisjoint(map(stem, (e.path, *e.names))))
        return tuple(make("record-unmatched", entry.path) for entry in gone)


# --- writing ---------------------------------------------------------------------------------------------------------


def dump(entries: Iterable[Recorded]) -> bytes:
    """The record as JSON text, ASCII, one module a line, in the order given."""
    return fields.layout(
        {
            "format": FORMAT,
            "version": VERSION,
            "pkghook": __version__,
            "modules": [_said(entry) for entry in entries],
        }
    )


def _said(entry: Recorded) -> dict[str, object]:
    said: dict[str, object] = {"path": entry.path, "compression": entry.compression.value, "identity": entry.identity}
    if entry.names:
        said["names"] = entry.names
    return said | {"facts": entry.facts._asdict()}


# --- reading ---------------------------------------------------------------------------------------------------------

_COMPRESSIONS = {how.value: how for how in Compression}
_ROW: dict[str, type[Row]] = {"header": Header, "symbols": Symbols}
_ROWS: dict[str, type[Row]] = {
    "tables": Table,
    "loaded": Part,
    "others": Part,
    "relocations": Relocs,
    "groups": Group,
    "klp_sections": KlpSection,
}
_FLAGS = frozenset({"livepatch", "unstripped"})
_TEXTS = frozenset({"risky", "klp_symbols", "trailing_digest", "signature_digest", "build_id"})
_WORD = (1 << 64) - 1

Kinds = dict[type[Row], tuple[type, ...]]


def read(path: str) -> Record:
    """The record in a file; InputError when it cannot be read, ReceiptError as `load`."""
    return load(fields.read(path), path)


def load(data: bytes, name: str) -> Record:
    """The record in the bytes of the file `name`. ReceiptError names all the fields that do not have the form."""
    collecting = gc.isenabled()
    gc.disable()  # a hundred thousand small values and no cycle among them: looking for one takes a third of the time
    try:
        top = fields.parse(data, name, FORMAT, VERSION)
        top.text("pkghook")
        entries = _read_modules(list(top.objects("modules")))
    finally:
        if collecting:
            gc.enable()
    _check_names(top, entries)
    top.finish()
    top.problems.raise_any(name)
    return Record(entries)


def _check_names(top: Fields, entries: Iterable[Recorded]) -> None:
    seen: set[str] = set()
    for at, entry in enumerate(entries):
        for each in (entry.path, *entry.names):
            if each in seen:
                top.wrong(f"modules[{at}]", f"{fields.shown(each)} stands here for the second time")
            seen.add(each)


def _read_modules(modules: list[Fields]) -> list[Recorded]:
    kinds = _kinds()
    sound = _sound([dict(each.members()).get("facts") for each in modules], kinds)
    return [_read_module(each, kinds, sound) for each in modules]


def _kinds() -> Kinds:
    """The types of the fields of each kind of row, in their order."""
    rows = {*_ROW.values(), *_ROWS.values()}
    return {row: tuple(get_type_hints(row)[field] for field in row._fields) for row in rows}


def _read_module(said: Fields, kinds: Kinds, sound: frozenset[str]) -> Recorded:
    members = dict(said.members())
    for name in members.keys() - set(Recorded._fields):
        said.wrong(name, "no such field in this version")
    return Recorded(
        said.place("path"),
        _read_facts(said.inner("facts"), kinds, sound),
        _read_identity(said, members.get("identity")),
        said.choice("compression", _COMPRESSIONS),
        said.places("names"),
    )


def _read_identity(said: Fields, value: object) -> Identity:
    if not isinstance(value, list) or (value and (len(value) != IDENTITY or not _right(value, int))):
        said.wrong("identity", f"neither {IDENTITY} numbers nor none")
        return ()
    return tuple(value)


def _read_facts(said: Fields, kinds: Kinds, sound: frozenset[str]) -> Facts:
    members: dict[str, Any] = dict(said.members())
    values: dict[str, Any] = {}
    for name in Facts._fields:
        if name in sound:
            values[name] = tuple(map(partial(tuple.__new__, _ROWS[name]), members[name]))
        elif name in _ROWS:
            values[name] = _rows(said, name, members.get(name), _ROWS[name], kinds)
        elif name in _ROW:
            values[name] = _row(said, name, members.get(name), _ROW[name], kinds)
        elif name in _FLAGS:
            values[name] = said.flag(name)
        else:
            values[name] = said.text(name) if name in _TEXTS else said.number(name)
    for name in members.keys() - values.keys():
        said.wrong(name, "no such field in this version")
    return Facts(**values)


def _sound(modules: list[Any], kinds: Kinds) -> frozenset[str]:
    """The lists of rows that have the right form in all modules: looked at by columns, over all modules at once."""
    found = set()
    for name, row in _ROWS.items():
        lists: list[Any] = [facts.get(name) for facts in modules if type(facts) is dict]
        if set(map(type, lists)) <= {list} and len(lists) == len(modules):
            rows = list(chain.from_iterable(lists))
            if set(map(type, rows)) <= {list} and set(map(len, rows)) <= {len(row._fields)}:
                columns = zip(*rows, strict=True)
                if all(_right(column, kind) for column, kind in zip(columns, kinds[row], strict=False)):
                    found.add(name)
    return frozenset(found)


def _rows(said: Fields, name: str, value: object, row: type[Row], kinds: Kinds) -> tuple[Row, ...]:
    """A list of rows, one by one."""
    if not isinstance(value, list):
        said.wrong(name, "missing, or no list")
        return ()
    return tuple(_row(said, f"{name}[{at}]", each, row, kinds) for at, each in enumerate(value))


def _row(said: Fields, name: str, value: object, row: type[Row], kinds: Kinds) -> Row:
    """One row, a list in the order of its fields."""
    wanted = kinds[row]
    if not isinstance(value, list) or len(value) != len(wanted):
        said.wrong(name, f"not a list of {len(wanted)}: {', '.join(row._fields)}")
        return row._make(kind() for kind in wanted)
    for at, (each, kind) in enumerate(zip(value, wanted, strict=True)):
        if not _right((each,), kind):
            what = "Unicode text" if kind is str else f"a number from 0 to {_WORD}"
            said.wrong(f"{name}[{at}]", f"{fields.shown(each)} is not {what} ({row._fields[at]})")
            return row._make(kind() for kind in wanted)
    return row._make(value)


def _right(column: Sequence[Any], kind: type) -> bool:
    """Whether all values are of this type, texts without stray surrogates, numbers in the range of a field of ELF."""
    if set(map(type, column)) != {kind}:
        return False
    if kind is int:
        return bool(min(column) >= 0 and max(column) <= _WORD)
    joined = "".join(column)
    return joined.isascii() or fields.is_text(joined)
