"""Receipts for tests: one by hand with something of everything, and arbitrary ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pkghook.findings import Finding, Severity
from pkghook.judge import receipt
from pkghook.judge.policy import Keep
from pkghook.judge.receipt import Override, Receipt, Walked
from pkghook.model import Attempt, Compression, DebugFile, Entry, Outcome, Proof, Sizes, State

KERNEL = "6.1.0-1-amd64"
DIRECTORY = f"lib/modules/{KERNEL}/kernel"


def module(name: str, state: State = State.STRIPPED, **fields: Any) -> Entry:  # noqa: ANN401  any field of Entry
    """An entry for a module of this name, with what its state needs."""
    needs: dict[str, Any] = {}
    if state is State.STRIPPED:
        needs = {"proof": Proof.VERIFIED, "step": "native", "sizes": Sizes(1000, 300, 1000, 300, 300)}
    elif state is State.KEPT:
        needs = {"reason": "on purpose"}
    elif state is State.FAILED:
        needs = {"findings": (error(name),)}
    return Entry(f"{DIRECTORY}/{name}", KERNEL, state)._replace(**(needs | fields))


def error(name: str, id: str = "chain-exhausted") -> Finding:
    """An error about the module of this name."""
    return Finding(id, Severity.ERROR, f"{DIRECTORY}/{name}", (("steps", 2),))


def warning(name: str, id: str = "fell-through") -> Finding:
    """A warning about the module of this name."""
    return Finding(id, Severity.WARNING, f"{DIRECTORY}/{name}")


def sample() -> Receipt:
    """A receipt with something of everything."""
    rejected = Finding("symbol-changed", Severity.ERROR, f"{DIRECTORY}/b.ko.xz", (("before", "init"), ("after", "")))
    entries = [
        module(
            "b.ko.xz",
            names=(f"{DIRECTORY}/c.ko.xz",),
            compression="xz",
            signature="removed",
            livepatch=True,
            machine="x86-64",
            build_id="00ff",
            sizes=Sizes(600, 200, 1000, 304, 300),
            sha256_before="0" * 64,
            sha256_after="1" * 64,
            kept_digest="2" * 64,
            step="objcopy",
            dropped_symbols=("__UNIQUE_ID_a",),
            dropped_labels=7,
            debug_file=DebugFile(".build-id/00/ff.debug", 5000, "3" * 64),
            attempts=(
                Attempt("native", "pkghook 0.1.0", Outcome.REJECTED, "not the same module", (rejected,)),
                Attempt("objcopy", "GNU objcopy 2.40", Outcome.PASSED),
            ),
            findings=(warning("b.ko.xz"),),
        ),
        module("a.ko"),
        module("d.ko", State.KEPT, sizes=Sizes(50, 50, 50, 50, 40)),
        module("e\udcff.ko", State.FAILED),
    ]
    return receipt.make(
        "strip",
        entries,
        settings=(("chain", "native,objcopy"), ("keep", "d.ko=on purpose")),
        tools=(("objcopy", "GNU objcopy 2.40"), ("native", "pkghook 0.1.0")),
        walk=Walked(3, 2, 5000, ((f"lib/modules/{KERNEL}/vmlinux", 123),)),
        findings=[Finding("scratch-left", Severity.INFO, "."), Finding("unused-keep", Severity.WARNING, "x.ko")],
        overrides=(Override(Keep("d.ko", "", "on purpose", "--keep"), (f"{DIRECTORY}/d.ko",)),),
    )._replace(pkghook="0.1.0")


# --- arbitrary ones --------------------------------------------------------------------------------------------------

# Of the surrogates only those that stand for a byte which is not UTF-8: others are in no file name.
_LETTERS = st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
TEXTS = st.text(_LETTERS, max_size=8)
_PARTS = st.text(_LETTERS.filter(lambda c: c not in "/\0"), min_size=1, max_size=5)
PATHS = st.lists(_PARTS.filter(lambda part: part not in {".", ".."}), min_size=1, max_size=3).map("/".join)
COUNTS = st.integers(0, (1 << 63) - 1)
_EVIDENCE = st.dictionaries(TEXTS, TEXTS | st.integers(), max_size=3).map(lambda facts: tuple(facts.items()))
FINDINGS = st.builds(Finding, TEXTS, st.sampled_from(Severity), TEXTS, _EVIDENCE)
_SOME_FINDINGS = st.lists(FINDINGS, max_size=2).map(tuple)
_PAIRS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple)
_DIGESTS = st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)
_SIZES = st.builds(Sizes, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
_ATTEMPTS = st.builds(Attempt, TEXTS, TEXTS, st.sampled_from(Outcome), TEXTS, _SOME_FINDINGS)
_ENTRIES = st.builds(
    Entry,
    path=PATHS,
    kernel=TEXTS,
    state=st.sampled_from(State),
    proof=st.sampled_from(Proof),
    reason=TEXTS.map(lambda text: text or "why"),
    names=st.lists(PATHS, max_size=2, unique=True).map(tuple),
    compression=st.sampled_from([how.value for how in Compression]),
    signature=st.sampled_from(["", "present", "removed"]),
    livepatch=st.booleans(),
    machine=TEXTS,
    build_id=st.binary(max_size=3).map(bytes.hex),
    sizes=_SIZES,
    sha256_before=_DIGESTS,
    sha256_after=_DIGESTS,
    kept_digest=_DIGESTS,
    step=TEXTS,
    matched_symbols=COUNTS,
    dropped_symbols=st.lists(TEXTS, max_size=2).map(tuple),
    dropped_labels=COUNTS,
    debug_file=st.none() | st.builds(DebugFile, PATHS, COUNTS, st.binary(min_size=32, max_size=32).map(bytes.hex)),
    attempts=st.lists(_ATTEMPTS, max_size=2).map(tuple),
    findings=_SOME_FINDINGS,
)
_KEEPS = st.builds(Keep, TEXTS, TEXTS, TEXTS, TEXTS)
_OVERRIDES = st.builds(Override, _KEEPS, st.lists(TEXTS, min_size=1, max_size=2).map(tuple))
_WALKS = st.builds(Walked, COUNTS, COUNTS, COUNTS, st.lists(st.tuples(PATHS, COUNTS), max_size=2).map(tuple))


def _valid(entries: list[Entry]) -> list[Entry]:
    """The entries without files that another one has, and with the error that one which failed must have."""
    seen: set[str] = set()
    good = []
    for entry in entries:
        files = {entry.path, *entry.names}
        if seen.isdisjoint(files):
            seen |= files
            failed = entry.state is State.FAILED
            good.append(entry._replace(findings=(*entry.findings, error("x.ko"))) if failed else entry)
            if entry.state is not State.STRIPPED:
                good[-1] = good[-1]._replace(debug_file=None)
    return good


RECEIPTS = st.builds(
    receipt.make,
    st.sampled_from(receipt.MODES),
    st.lists(_ENTRIES, max_size=4).map(_valid),
    settings=_PAIRS,
    tools=_PAIRS,
    walk=_WALKS,
    findings=st.lists(FINDINGS, max_size=3),
    overrides=st.lists(_OVERRIDES, max_size=2).map(tuple),
)
