"""An entry comes out of its parcel as it went in, or is not packed at all."""

from __future__ import annotations

import pytest

from pkghook import parcel
from pkghook.findings import make
from pkghook.model import Attempt, DebugFile, Entry, Outcome, Proof, Sizes, State

PASSED = Attempt("native", "pkghook 0.1.0", Outcome.PASSED)
FALLEN = Attempt("objcopy", "GNU objcopy 2.40", Outcome.FAILED, "exit status 1: \udcff not \N{SNOWMAN} symbol")
FINDINGS = (make("worker-killed", "a.ko", why="killed twice"),)
FULL = Entry(
    "6.1/kernel/\udce4.ko",
    "6.1",
    State.STRIPPED,
    Proof.VERIFIED,
    reason="why",
    names=("6.1/extra/a.ko",),
    compression="xz",
    signature="removed",
    livepatch=True,
    machine="x86_64",
    build_id="ab" * 20,
    sizes=Sizes(5 << 32, 4, 3, 2, 1),
    sha256_after="cd" * 32,
    kept_digest="ef" * 32,
    step="native",
    matched_symbols=3,
    dropped_symbols=("a", "b"),
    dropped_labels=7,
    attempts=(FALLEN, PASSED),
)


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("entry", [FULL, Entry("a.ko", "", State.KEPT, Proof.RECORDED)])
def test_there_and_back(entry: Entry, state: State) -> None:
    entry = entry._replace(state=state)
    data = parcel.pack(entry)
    assert data is not None
    back = parcel.unpack(data)
    assert back == entry
    assert [type(field) for field in back] == [type(field) for field in entry]
    assert [type(field) for attempt in back.attempts for field in attempt] == [
        type(field) for attempt in entry.attempts for field in attempt
    ]


@pytest.mark.parametrize(
    "entry",
    [
        FULL._replace(findings=FINDINGS),
        FULL._replace(attempts=(PASSED._replace(findings=FINDINGS),)),
        FULL._replace(debug_file=DebugFile("a.debug", 1, "00" * 32)),
    ],
)
def test_what_is_not_packed(entry: Entry) -> None:
    assert parcel.pack(entry) is None
