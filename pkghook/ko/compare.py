"""Is a module still what was recorded of it? The proof obligations, digest against digest.

The finding ids are those of the direct verifier, `prove`.  Two more things may differ than there: the
build-id, which debugedit writes anew, and a new .gnu_debuglink.  Debug information that is still there
is no fault, and sections that nobody reads may be gone, which is told.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.findings import Finding, Severity, make
from pkghook.ko.elf import SHF_INFO_LINK
from pkghook.ko.match import Fault, fault, text
from pkghook.ko.record import identity
from pkghook.model import Proof

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pkghook.ko.facts import Facts, Part, Relocs, Symbols
    from pkghook.ko.record import Record

_FIELDS = ("type", "flags", "align", "entsize", "size")
_FREE_FLAGS = SHF_INFO_LINK | 0x30  # of a table: also SHF_MERGE and SHF_STRINGS, which are for linkers
_CLASS32 = "01"  # of e_ident, as hex
TOLD = 3  # faults of one kind that are told of one module
# What eu-strip without -g, as find-debuginfo runs it, takes from modules beside debug information and what is missed.
# Neither the kernel's loader nor kmod looks any of these up (loader contract, section 4), by name or by type.
UNREAD = {
    ".comment": "versions of compilers, for people",
    ".note.GNU-stack": "a mark for linkers; the kernel maps no stack for a module",
    ".ARM.attributes": "instruction set and ABI, for linkers and disassemblers; the kernel goes by e_flags",
}


def compare(recorded: Facts, now: Facts) -> tuple[Fault, ...]:
    """Why the module of the facts `now` is not the recorded one to the kernel's loader; empty if it is.

    The signature is no part of this: see `judge_recorded`.
    """
    found = list(header(recorded, now))
    if not found:
        for obligation in OBLIGATIONS:
            found += obligation(recorded, now)
    return tuple(found)


def header(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V1: identification, type, machine, version, flags and entry are equal."""
    for field in recorded.header._fields:
        before, after = getattr(recorded.header, field), getattr(now.header, field)
        if before != after:
            yield fault("header-changed", field=field, before=before, after=after)


def tables(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V7: the headers of the symbol table and of the string tables, as in `prove.tables`."""
    word = 4 if recorded.header.ident[8:10] == _CLASS32 else 8
    for which, (old, new) in enumerate(zip(recorded.tables, now.tables, strict=True)):
        section = shown(old.name)
        is_names = which == len(recorded.tables) - 1  # nobody looks at the name and alignment of that one
        if not is_names and old.name != new.name:
            yield fault("table-broken", rule="table-name", section=section, after=shown(new.name))
        if (old.flags ^ new.flags) & ~_FREE_FLAGS:
            yield fault("table-broken", rule="table-flags", section=section, before=old.flags, after=new.flags)
        low = min(old.align, word) if which == 0 else 0
        if not is_names and not low <= new.align <= max(old.align, word):
            yield fault("table-broken", rule="table-align", section=section, before=old.align, after=new.align)


def loaded_sections(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V2: the allocated sections are the same, in order, to the byte."""
    yield from _sections("alloc-changed", recorded.loaded, now.loaded)
    last = -1
    places = {key: at for at, (key, _) in enumerate(_keyed(now.loaded))}
    for key, part in _keyed(recorded.loaded):
        place = places.get(key, last)
        if place < last:
            yield fault("alloc-changed", section=shown(part.name), moved_to=place)
        last = place


def other_sections(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V3: every other section outside the debug set is there, to the byte; only .gnu_debuglink may be new.

    One whole kind of those in `UNREAD` may be gone: all of a name and type.  Modules of kernel 7.x have a
    .note.GNU-stack of type SHT_NOTE too, which eu-strip leaves as it is.
    """
    before, there = {part.name for part in recorded.others}, {(part.name, part.type) for part in now.others}
    after = [part for part in now.others if part.name in before or part.name != ".gnu_debuglink"]
    unread = [part for part in recorded.others if part.name in UNREAD and (part.name, part.type) not in there]
    yield from _sections("section-changed", [part for part in recorded.others if part not in unread], after)
    if unread:
        yield fault("unread-lost", sections=" ".join(part.name for part in unread), bytes=sum(p.size for p in unread))


def _sections(id: str, before: Iterable[Part], after: Iterable[Part]) -> Iterator[Fault]:
    waiting = dict(_keyed(after))
    lost = []
    for key, old in _keyed(before):
        new = waiting.pop(key, None)
        if new is None:
            lost.append(old)
        elif old != new:
            yield from _same_part(id, old, new)
    for part in sorted(lost, key=lambda part: -part.size):  # .BTF before an empty .note.GNU-stack
        yield fault(id, section=shown(part.name), lost=part.size)
    for part in waiting.values():
        yield fault(id, section=shown(part.name), added=part.size)


def _same_part(id: str, old: Part, new: Part) -> Iterator[Fault]:
    section = shown(old.name)
    field = next((f for f in _FIELDS if getattr(old, f) != getattr(new, f)), None)
    if field is not None:
        yield fault(id, section=section, field=field, before=getattr(old, field), after=getattr(new, field))
    elif old.refers != new.refers:
        yield fault("dangling-reference", section=section, before=shown(old.refers), after=shown(new.refers))
    else:
        yield fault(id, section=section, field="contents", bytes=old.size)


def _keyed(parts: Iterable[Part]) -> Iterator[tuple[tuple[str, int], Part]]:
    """Sections by name and, where names repeat, ordinal."""
    seen: dict[str, int] = {}
    for part in parts:
        ordinal = seen[part.name] = seen.get(part.name, -1) + 1
        yield (part.name, ordinal), part


def relocations(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V4 and V6: the relocation sections of each target are the same, in their order, and no entry lost its symbol."""
    waiting: dict[str, list[Relocs]] = {}
    for relocs in now.relocations:
        waiting.setdefault(relocs.target, []).append(relocs)
    for old in recorded.relocations:
        partners = waiting.get(old.target)
        if partners:
            new = partners.pop(0)
            if old != new:
                yield from _same_relocations(old, new)
        else:
            yield fault("relocation-changed", section=shown(old.name), lost=old.total)
    for partners in waiting.values():
        yield from (fault("relocation-changed", section=shown(new.name), added=new.total) for new in partners)


def _same_relocations(old: Relocs, new: Relocs) -> Iterator[Fault]:
    section = shown(old.name)
    if old.name != new.name:
        yield fault("relocation-changed", section=section, after=shown(new.name))
    for field in ("type", "flags", "align"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield fault("relocation-changed", section=section, field=field, before=before, after=after)
    if old.unnamed < new.unnamed:
        yield fault("relocation-symbol-lost", section=section, entries=new.unnamed - old.unnamed)
    if old.total != new.total:
        yield fault("relocation-changed", section=section, field="entries", before=old.total, after=new.total)
    elif old.entries != new.entries:
        yield fault("relocation-changed", section=section, field="offset, type or addend")
    elif old.symbols != new.symbols and old.unnamed >= new.unnamed:
        yield fault("relocation-changed", section=section, field="symbol")


def symbols(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V5: the sequence of symbols that the loader sees is equal, in order; one fault says how it is not."""
    old, new = recorded.symbols, now.symbols
    if old[:4] == new[:4]:  # all but the listing, which is for people
        return
    if old.names != new.names:
        totals = {"symbols_before": old.total, "symbols_after": new.total}
        yield Fault("symbol-changed", (*_named(old, new), *totals.items()))
    else:
        field = "section" if old.sections != new.sections else "binding, type, visibility, value or size"
        yield fault("symbol-changed", field=field)


def _named(old: Symbols, new: Symbols) -> tuple[tuple[str, str | int], ...]:
    """What can be said about two sequences of names that differ: what was lost, else what is new, else what moved."""
    before, after = (each.listing.split("\n") if each.listing else [] for each in (old, new))
    for word, missing in (("lost", Counter(before) - Counter(after)), ("added", Counter(after) - Counter(before))):
        if missing and before and after:
            return ("symbol", shown(next(iter(missing)))), (word, missing.total())
    moved = next((a for a, b in zip(before, after, strict=False) if a != b), "")
    return (("symbol", shown(moved)), ("field", "order")) if moved else ()


def protection(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V8: nothing became writable and executable, section 0 is as it was."""
    if recorded.null_flags != now.null_flags:
        yield fault("section-rule", section=0, before=recorded.null_flags, after=now.null_flags)
    for name in sorted(set(filter(None, now.risky.split("\n"))) - set(recorded.risky.split("\n"))):
        yield fault("section-rule", section=shown(name), flags="writable and executable")


def groups(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V9: the groups have the flags, the signature and, of what stays, the members that they had."""
    after = {group.name: group for group in now.groups}
    for old in recorded.groups:
        new = after.get(old.name)
        for field in ("flags", "signature", "members") if new else ():
            if getattr(old, field) != getattr(new, field):
                yield fault("dangling-reference", group=shown(old.name), field=field)


def trailing_bytes(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V10: the bytes behind the ELF file are the same; normally there are none."""
    if (recorded.trailing, recorded.trailing_digest) != (now.trailing, now.trailing_digest):
        yield fault("trailing-bytes", before=recorded.trailing, after=now.trailing)


def livepatch(recorded: Facts, now: Facts) -> Iterator[Fault]:
    """V11: every klp relocation section and symbol is there with its flag and name."""
    for section in sorted(set(recorded.klp_sections) - set(now.klp_sections)):
        yield fault("livepatch-changed", section=shown(section.name), size=section.size)
    if recorded.klp_symbols != now.klp_symbols:
        before, after = (names.split("\n") if names else [] for names in (recorded.klp_symbols, now.klp_symbols))
        lost = sorted(set(before) - set(after)) or before or after
        yield fault("livepatch-changed", symbol=shown(lost[0]), before=len(before), after=len(after))


def shown(name: str) -> str:
    """A section's or symbol's name as evidence; its ordinal, if it has one, behind a blank."""
    return text(name.replace("\0", " ").strip().encode("utf-8", "surrogateescape"))


OBLIGATIONS: Sequence[Callable[[Facts, Facts], Iterator[Fault]]] = (
    tables,
    loaded_sections,
    other_sections,
    relocations,
    symbols,
    protection,
    groups,
    trailing_bytes,
    livepatch,
)


# --- one module of a tree --------------------------------------------------------------------------------------------


def judge_recorded(
    record: Record, names: Sequence[str], status: os.stat_result | None, now: Callable[[], Facts]
) -> tuple[Proof, tuple[Finding, ...]]:
    """Is the module of these `names` the recorded one? RECORDED if it is; else NONE, with what was lost as findings.

    It is held against what the record has under the first of the names that it knows; for the others see `judge_names`.
    `status` is that of the open file, None for one in a package; `now` reads it and works out its facts, and is not
    called for a file that nobody touched.  What it raises as ModuleError is what became of the module.  A signature
    that was lost, or that no longer fits, is an error; another one is told.
    """
    path, recorded = next(record.known(names), (names[0], None))
    if recorded is None:
        return Proof.NONE, (make("record-missing", path),)
    if status and recorded.identity and recorded.identity == identity(status):
        return Proof.RECORDED, ()
    try:
        facts = now()
    except ModuleError as error:
        return Proof.NONE, (error.finding(path), *_ruined(path, recorded.facts, error))
    faults = compare(recorded.facts, facts)
    findings = (*_told(path, faults), *_signature(path, recorded.facts, facts, changed=bool(faults)))
    broken = any(finding.severity is Severity.ERROR for finding in findings)
    return Proof.NONE if broken else Proof.RECORDED, findings


def judge_names(record: Record, names: Sequence[str], *, signed: bool) -> tuple[Finding, ...]:
    """What was lost where one module has names now under which the record has several that were not the same.

    `signed` is whether it has a signature.
    """
    known = list(record.known(names))
    found: list[Finding] = []
    for name, other in known[1:]:
        first = known[0][1]
        if other is not first:
            faults = compare(other.facts, first.facts)
            # Two that were one module to the loader may have been stripped differently: one way there is no fault then.
            found += _told(name, faults if faults and compare(first.facts, other.facts) else ())
            if other.facts.signature and not signed:
                found.append(make("signature-lost", name, bytes=other.facts.signature))
    return tuple(found)


def _ruined(path: str, recorded: Facts, error: ModuleError) -> Iterator[Finding]:
    """A livepatch module that cannot be read any more: GNU strip leaves relocations of symbols that do not exist."""
    if recorded.livepatch:
        yield make("livepatch-changed", path, unreadable=error.id)


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
