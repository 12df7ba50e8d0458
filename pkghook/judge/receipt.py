"""The receipt: all that a run did, as one versioned JSON file, written and read back.

Its form is `data/receipt.schema.json` (JSON Schema 2020-12), layout and reading are those of `fields`.  It
says nothing of user, host, time, `-j` or directory: the same tree, settings and tools give the same bytes.
A field that has its default (see `model.Entry`) is left out; `kernel`, `path` and `state` always stand there.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from pkghook import __version__, atomic, fields
from pkghook.findings import Evidence, Finding, Severity
from pkghook.judge.policy import Keep
from pkghook.judge.totals import Row, Totals, totals
from pkghook.model import Attempt, Compression, DebugFile, Entry, Outcome, Proof, Sizes, State
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pkghook.fields import Fields

FORMAT = "pkghook receipt"
VERSION = 1
MODES = ("strip", "dry-run")

Pairs = tuple[tuple[str, str], ...]


class Override(NamedTuple):
    """A keep entry that was used: it matched these subjects (paths of modules; subjects of findings)."""

    keep: Keep
    matched: tuple[str, ...]


class Walked(NamedTuple):
    """What else the walk saw; none of it was touched, and none of it has an entry. Sizes are bytes."""

    links: int = 0  # symlinks, not followed
    debug_modules: int = 0  # modules of debug trees: kept
    debug_bytes: int = 0  # what their files hold
    others: tuple[tuple[str, int], ...] = ()  # path and size of ELF files that are no modules (vmlinux, vdso)


class Receipt(NamedTuple):
    """One run. Made by `make`, which puts all lists in their order and adds up the totals."""

    mode: str  # "strip", or "dry-run": what would have happened
    entries: tuple[Entry, ...]  # sorted by path
    totals: Totals
    version: int = VERSION
    pkghook: str = __version__
    settings: Pairs = ()  # those that shape the result
    tools: Pairs = ()  # step, and tool with version; a step that took several tools has several
    walk: Walked = Walked()
    findings: tuple[Finding, ...] = ()  # about the tree as a whole; those about one module are in its entry
    overrides: tuple[Override, ...] = ()


def make(
    mode: str,
    entries: Iterable[Entry],
    *,
    settings: Pairs = (),
    tools: Pairs = (),
    walk: Walked = Walked(),  # noqa: B008  frozen
    findings: Iterable[Finding] = (),
    overrides: tuple[Override, ...] = (),
) -> Receipt:
    """The receipt of a run; `entries`, `tools`, `findings` may come in any order, the others are kept in theirs."""
    ordered = tuple(sorted(entries, key=lambda entry: entry.path))
    return Receipt(
        mode,
        ordered,
        totals(ordered),
        settings=settings,
        tools=tuple(sorted(set(tools))),
        walk=walk,
        findings=tuple(sorted(findings, key=order)),
        overrides=overrides,
    )


def order(finding: Finding) -> tuple[int, str, str, str]:
    """Sort key: the most severe first, then by subject, id and evidence."""
    return -finding.severity, finding.subject, finding.id, fields.encode(finding.evidence)


def symbol_list(name: str, patterns: Sequence[str]) -> Pairs:
    """A symbol list as a receipt's settings have it: named without its directory, told apart by its patterns."""
    import hashlib

    digest = hashlib.sha256("\n".join(patterns).encode("utf-8", "surrogateescape")).hexdigest()
    return ("strip-symbols", os.path.basename(name)), ("strip-symbols-sha256", digest)


def write(receipt: Receipt, path: str) -> None:
    """Put the receipt at `path`, which holds the old bytes or all of the new ones. InputError names the file."""
    atomic.write(path, dump(receipt))


def read(path: str) -> Receipt:
    """The receipt in a file; InputError when it cannot be read, ReceiptError as `load`."""
    return load(fields.read(path), path)


# --- values to JSON --------------------------------------------------------------------------------------------------


def dump(receipt: Receipt) -> bytes:
    """The receipt as JSON text, ASCII, one entry a line."""
    sums = receipt.totals
    return fields.layout(
        {
            "format": FORMAT,
            "version": receipt.version,
            "pkghook": receipt.pkghook,
            "mode": receipt.mode,
            "settings": receipt.settings,
            "tools": receipt.tools,
            "totals": _totals(sums),
            "rows": [_row(row) for row in sums.rows],
            "walk": {name: value for name, value in receipt.walk._asdict().items() if name != "others"},
            "others": [{"path": path, "size": size} for path, size in receipt.walk.others],
            "findings": _findings(receipt.findings),
            "overrides": [_override(override) for override in receipt.overrides],
            "entries": [_entry(entry) for entry in receipt.entries],
        }
    )


_DEBUG_SUMS = ("debug_files", "debug_bytes")  # only there where debug files are


def _totals(sums: Totals) -> dict[str, object]:
    left_out = {"rows", *(name for name in _DEBUG_SUMS if not sums.debug_files)}
    numbers = {name: value for name, value in sums._asdict().items() if name not in left_out}
    return numbers | {"saved": sums.saved, "states": dict(sums.states), "proofs": dict(sums.proofs)}


def _row(row: Row) -> dict[str, str | int]:
    return row._asdict() | {"saved": row.saved}


def _said(value: Attempt | Keep) -> dict[str, object]:
    """The fields of a value that are not what they are by default."""
    named = zip(value._fields, value, _USUAL[type(value)], strict=True)
    return {name: field for name, field, usual in named if usual is not field and usual != field}


# The default of each field, None for those that have none.
_USUAL = {kind: tuple(map(kind._field_defaults.get, kind._fields)) for kind in (Entry, Attempt, Keep)}


def _entry(entry: Entry) -> fields.Written:
    """An object with the fields that are not what they are by default.

    Text at once: a dict for each of a thousand entries, and a call of the encoder, take twice as long.
    """
    row = zip(_MEMBERS, entry, _USUAL[Entry], strict=True)
    said = [name + write(field) for (name, write), field, usual in row if usual is not field and usual != field]
    return fields.Written(f"{{{','.join(said)}}}")


_SIZES = fields.encode(dict.fromkeys(Sizes._fields, 0)).replace("0", "%d")


@lru_cache(256)
def _attempts(attempts: tuple[Attempt, ...]) -> str:
    """Nearly all modules have the same ones."""
    return fields.encode([_attempt(attempt) for attempt in attempts])


_WRITERS: dict[str, Callable[[Any], str]] = {
    "names": fields.encode,
    "livepatch": fields.encode,
    "sizes": _SIZES.__mod__,
    "matched_symbols": str,
    "dropped_symbols": fields.encode,
    "dropped_labels": str,
    "debug_file": lambda file: fields.encode(file._asdict()),
    "attempts": _attempts,
    "findings": lambda findings: fields.encode(_findings(findings)),
}  # all others are text
_MEMBERS = [(f"{fields.encode(name)}:", _WRITERS.get(name, fields.encode_text)) for name in Entry._fields]


def _attempt(attempt: Attempt) -> dict[str, object]:
    said = _said(attempt)
    if attempt.findings:
        said["findings"] = _findings(attempt.findings)
    return said


def _override(override: Override) -> dict[str, object]:
    return _said(override.keep) | {"matched": override.matched}


def _findings(findings: tuple[Finding, ...]) -> list[dict[str, object]]:
    return [
        {"id": id, "severity": str(severity), "subject": subject, "evidence": dict(evidence)}
        for id, severity, subject, evidence in findings
    ]


# --- JSON to values --------------------------------------------------------------------------------------------------

_SEVERITIES = {str(severity): severity for severity in Severity}
_STATES = {state.value: state for state in State}
_PROOFS = {proof.value: proof for proof in Proof}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_COMPRESSIONS = {how.value: how.value for how in Compression}
_SIGNATURES = {word: word for word in ("", "present", "removed")}
_DEFAULTS = Entry._field_defaults


def load(data: bytes, name: str) -> Receipt:
    """The receipt in the bytes of the file `name`.

    ReceiptError names all the fields that do not have the documented form, and those that contradict each
    other: totals that do not add up, a module named twice, one that failed without an error among its findings.
    """
    top = fields.parse(data, name, FORMAT, VERSION)
    entries = tuple(_read_entry(each) for each in top.objects("entries"))
    _check_names(top, entries)
    receipt = Receipt(
        top.choice("mode", {mode: mode for mode in MODES}),
        entries,
        totals(entries),
        pkghook=top.text("pkghook"),
        settings=top.pairs("settings"),
        tools=top.pairs("tools"),
        walk=_read_walk(top),
        findings=_read_findings(top, None),
        overrides=tuple(_read_override(each) for each in top.objects("overrides")),
    )
    _check_totals(top, receipt.totals)
    _check_rows(top, receipt.totals.rows)
    top.finish()
    top.problems.raise_any(name)
    return receipt


def _read_entry(entry: Fields) -> Entry:
    value = Entry(
        path=entry.place("path"),
        kernel=entry.text("kernel"),
        state=entry.choice("state", _STATES),
        proof=entry.choice("proof", _PROOFS, Proof.NONE),
        reason=entry.text("reason", ""),
        names=entry.places("names"),
        compression=entry.choice("compression", _COMPRESSIONS, "none"),
        signature=entry.choice("signature", _SIGNATURES, ""),
        livepatch=entry.flag("livepatch", False),
        machine=entry.text("machine", ""),
        build_id=entry.hex("build_id", ""),
        sizes=_read_sizes(entry),
        sha256_before=entry.hex("sha256_before", "", size=32),
        sha256_after=entry.hex("sha256_after", "", size=32),
        kept_digest=entry.hex("kept_digest", ""),
        step=entry.text("step", ""),
        matched_symbols=entry.number("matched_symbols", 0),
        dropped_symbols=entry.texts("dropped_symbols"),
        dropped_labels=entry.number("dropped_labels", 0),
        debug_file=_read_debug_file(entry),
        attempts=tuple(_read_attempt(each) for each in entry.objects("attempts", [])),
        findings=_read_findings(entry, []),
    )
    _check_entry(entry, value)
    entry.finish()
    return value


def _check_entry(entry: Fields, value: Entry) -> None:
    if value.state is State.KEPT and not value.reason:
        entry.wrong("reason", "missing, but a module that was kept has one")
    if value.state is State.FAILED and not any(each.severity is Severity.ERROR for each in value.findings):
        entry.wrong("findings", "no error among them, but the module failed")
    if value.debug_file and value.state is not State.STRIPPED:
        entry.wrong("debug_file", f"there, but the module is {value.state.value}")


def _read_sizes(entry: Fields) -> Sizes:
    if not entry.has("sizes"):
        return Sizes()
    sizes = entry.inner("sizes")
    value = Sizes(*map(sizes.number, Sizes._fields))
    sizes.finish()
    return value


def _read_debug_file(entry: Fields) -> DebugFile | None:
    if not entry.has("debug_file"):
        return None
    file = entry.inner("debug_file")
    value = DebugFile(file.place("path"), file.number("size"), file.hex("sha256", size=32))
    file.finish()
    return value


def _read_attempt(attempt: Fields) -> Attempt:
    value = Attempt(
        step=attempt.text("step"),
        version=attempt.text("version"),
        outcome=attempt.choice("outcome", _OUTCOMES),
        why=attempt.text("why", ""),
        findings=_read_findings(attempt, []),
    )
    attempt.finish()
    return value


def _read_findings(holder: Fields, default: list[object] | None) -> tuple[Finding, ...]:
    return tuple(_read_finding(each) for each in holder.objects("findings", default))


def _read_finding(finding: Fields) -> Finding:
    value = Finding(
        id=finding.text("id"),
        severity=finding.choice("severity", _SEVERITIES),
        subject=finding.text("subject"),
        evidence=_read_evidence(finding.inner("evidence")),
    )
    finding.finish()
    return value


def _read_evidence(evidence: Fields) -> tuple[tuple[str, Evidence], ...]:
    found: list[tuple[str, Evidence]] = []
    for name, value in evidence.members():
        if isinstance(value, str | int) and not isinstance(value, bool):
            found.append((name, value))
        else:
            evidence.wrong(name, f"{fields.shown(value)} where text or a number is needed")
    return tuple(found)


def _read_walk(top: Fields) -> Walked:
    walk = top.inner("walk")
    others = []
    for each in top.objects("others"):
        others.append((each.place("path"), each.number("size")))
        each.finish()
    value = Walked(walk.number("links"), walk.number("debug_modules"), walk.number("debug_bytes"), tuple(others))
    walk.finish()
    return value


def _read_override(override: Fields) -> Override:
    keep = Keep(
        override.text("glob"),
        override.text("finding", ""),
        override.text("reason", ""),
        override.text("origin", ""),
    )
    value = Override(keep, override.texts("matched"))
    if not value.matched:
        override.wrong("matched", "empty, but an entry that matched nothing is no override")
    override.finish()
    return value


# --- fields that contradict each other -------------------------------------------------------------------------------


def _check_names(top: Fields, entries: tuple[Entry, ...]) -> None:
    """Note what breaks the order of the paths, and each file that two entries claim."""
    owners: dict[str, int] = {}
    last = ""
    for at, entry in enumerate(entries):
        if entry.path < last:
            top.wrong(f"entries[{at}].path", f"{fields.shown(entry.path)} does not come after the path before it")
        last = entry.path
        for name in (entry.path, *entry.names):
            owner = owners.setdefault(name, at)
            if owner != at:
                top.wrong(f"entries[{at}]", f"{fields.shown(name)} is already in entries[{owner}]")


def _check_totals(top: Fields, sums: Totals) -> None:
    said = top.inner("totals")
    for name, right in _totals(sums).items():
        if isinstance(right, int):
            said.same(name, right)
    _check_counts(said.inner("states"), sums.states)
    _check_counts(said.inner("proofs"), sums.proofs)
    said.finish()


def _check_counts(said: Fields, counts: Iterable[tuple[str, int]]) -> None:
    for name, count in counts:
        said.same(name, count)
    said.finish()


def _check_rows(top: Fields, rows: tuple[Row, ...]) -> None:
    said = list(top.objects("rows"))
    if len(said) != len(rows):
        top.wrong("rows", f"{len(said)} of them, but the entries make {len(rows)}")
    for each, row in zip(said, rows, strict=False):
        for name, right in _row(row).items():
            each.same(name, right)
        each.finish()
