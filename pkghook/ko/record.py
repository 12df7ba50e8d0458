"""The record: what each module of a tree was before other tools touched it, as a file.

One JSON object, layout as `fields`: `format`, `version`, `pkghook` (the version that wrote it) and `modules`,
one a line.  A module has its `path`, further hard-linked `names`, `compression`, `identity` and `facts`:
the fields of `facts.Facts`, of which those that are tuples of their own are lists in the order of their
fields.

A module is found again by path without compression suffix, because builds compress between `pkghook record`
and `pkghook strip --before`.

A file with the recorded identity (size, times, inode) is taken for unchanged, its facts are not worked out
again.  That is the trust that make and git put into the same numbers: whoever writes to a file, renames
or restores it moves its ctime, which no program can set.  A clock that ticks slower than programs write is
the one gap, so a file that was changed moments before it was recorded is recorded without identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from pkghook import __version__, fields
from pkghook.findings import Finding, Severity, make
from pkghook.ko.compare import compare
from pkghook.ko.facts import Facts, Group, Header, KlpSection, Part, Relocs, Symbols, Table
from pkghook.model import SUFFIXES, Compression, Proof

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

    from pkghook.fields import Fields
    from pkghook.ko.match import Fault

FORMAT = "pkghook record"
VERSION = 1
RACY = 2_000_000_000  # nanoseconds: the coarsest times that a file system keeps
TOLD = 3  # faults of one kind that are told of one module

Identity = tuple[int, ...]  # size, mtime and ctime in nanoseconds, inode; empty where it would prove nothing
Row = Header | Symbols | Table | Part | Relocs | Group | KlpSection


class Recorded(NamedTuple):
    """One module as it was."""

    path: str  # relative to ROOT
    facts: Facts
    identity: Identity = ()
    compression: Compression = Compression.NONE
    names: tuple[str, ...] = ()  # further hard-linked names, relative to ROOT


def identity(status: os.stat_result, now: int = 0) -> Identity:
    """What tells whether a file was touched since; empty if it was changed so shortly before `now` that it cannot.

    `now` is in nanoseconds since 1970, not later than the file was read; 0 is for a file that is looked up.
    """
    if now and now - max(status.st_mtime_ns, status.st_ctime_ns) < RACY:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def stem(path: str) -> str:
    """A module's path without compression suffix."""
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

    def unmatched(self, paths: Iterable[str]) -> tuple[Finding, ...]:
        """A record-unmatched finding for each module that has no name among `paths`, all those of the tree."""
        there = set(map(stem, paths))
        gone = (e for e in self.entries if there.isdisjoint(map(stem, (e.path, *e.names))))
        return tuple(make("record-unmatched", entry.path) for entry in gone)


# --- judging ---------------------------------------------------------------------------------------------------------


def judge_recorded(
    record: Record, path: str, status: os.stat_result, now: Callable[[], Facts]
) -> tuple[Proof, tuple[Finding, ...]]:
    """Is the module at `path` the recorded one? RECORDED if it is; else NONE, with what was lost as findings.

    `status` is that of the open file; `now` works out its facts, and is not called for a file that nobody
    touched.  A signature that was lost, or that no longer fits, is an error; another one is told.  Raises
    what `now` raises.
    """
    recorded = record.find(path)
    if recorded is None:
        return Proof.NONE, (make("record-missing", path),)
    if recorded.identity and recorded.identity == identity(status):
        return Proof.RECORDED, ()
    facts = now()
    faults = compare(recorded.facts, facts)
    findings = (*_told(path, faults), *_signature(path, recorded.facts, facts, changed=bool(faults)))
    broken = any(finding.severity is Severity.ERROR for finding in findings)
    return Proof.NONE if broken else Proof.RECORDED, findings


def _told(path: str, faults: Iterable[Fault]) -> Iterator[Finding]:
    """Faults as findings: of each kind the first ones, and how many more there are."""
    kinds: dict[str, list[Fault]] = {}
    for each in faults:
        kinds.setdefault(each.id, []).append(each)
    for id, same in kinds.items():
        more = {"more": len(same) - TOLD} if len(same) > TOLD else {}
        for at, each in enumerate(same[:TOLD], 1):
            yield make(id, path, **dict(each.evidence), **(more if at == TOLD else {}))


def _signature(path: str, recorded: Facts, now: Facts, *, changed: bool) -> Iterator[Finding]:
    """What became of the signature. A new one where there was none is what a build does."""
    if not recorded.signature:
        return
    if not now.signature:
        yield make("signature-lost", path, bytes=recorded.signature)
    elif recorded.signature_digest != now.signature_digest:
        yield make("signature-differs", path, before=recorded.signature_digest[:16], after=now.signature_digest[:16])
    elif changed or recorded.size != now.size:
        yield make("signature-stale", path, signed=recorded.size, bytes=now.size)


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
_WORD = (1 << 64) - 1


def read(path: str) -> Record:
    """The record in a file; InputError when it cannot be read, ReceiptError as `load`."""
    return load(fields.read(path), path)


def load(data: bytes, name: str) -> Record:
    """The record in the bytes of the file `name`. ReceiptError names all the fields that do not have the form."""
    top = fields.parse(data, name, FORMAT, VERSION)
    top.text("pkghook")
    entries = [_read_module(each) for each in top.objects("modules")]
    seen: set[str] = set()
    for at, entry in enumerate(entries):
        for each in (entry.path, *entry.names):
            if each in seen:
                top.wrong(f"modules[{at}]", f"{fields.shown(each)} stands here for the second time")
            seen.add(each)
    top.finish()
    top.problems.raise_any(name)
    return Record(entries)


def _read_module(said: Fields, kinds: Mapping[type, tuple[type, ...]]) -> Recorded:
    entry = Recorded(
        said.place("path"),
        _read_facts(said.inner("facts"), kinds),
        _numbers(said, "identity"),
        said.choice("compression", _COMPRESSIONS),
        said.places("names"),
    )
    said.finish()
    return entry


def _read_facts(said: Fields, kinds: Mapping[type, tuple[type, ...]]) -> Facts:
    values: dict[str, Any] = {}
    members = dict(said.members())
    for name, kind in zip(Facts._fields, kinds[Facts], strict=True):
        if name in _ROWS:
            values[name] = _rows(said, name, members.get(name), _ROWS[name], kinds[_ROWS[name]])
        elif name in _ROW:
            (values[name],) = _rows(said, name, [members.get(name)])
        elif kind is bool:
