"""Sums by kernel, state and step."""

from __future__ import annotations

from hypothesis import given

from pkghook.judge.receipt import Receipt
from pkghook.judge.totals import Row, Totals, totals
from pkghook.model import Proof, Sizes, State
from tests.receipts import KERNEL, RECEIPTS, module


def test_no_modules() -> None:
    """Every state and proof is there, with 0."""
    assert totals([]) == Totals(states=tuple((state, 0) for state in State), proofs=tuple((p, 0) for p in Proof))


def test_rows_and_sums() -> None:
    """One row per kernel, state and step; states in their own order; the step of what was not stripped says nothing."""
    entries = [
        module("e.ko", State.FAILED, sizes=Sizes(7, 7, 7, 7, 5)),
        module("a.ko", step="strip", sizes=Sizes(100, 40, 200, 80, 79)),
        module("b.ko", sizes=Sizes(10, 11, 10, 8, 8), kernel="7.0"),
        module("c.ko", sizes=Sizes(1, 1, 1, 1, 1)),
        module("d.ko", proof=Proof.RECORDED, sizes=Sizes(2, 1, 2, 1, 1)),
        module("f.ko", State.KEPT, step="native"),
    ]
    found = totals(entries)
    assert found.rows == (
        Row(KERNEL, State.STRIPPED, "native", 2, 3, 2, 3, 2, 2, 1, 1, 0),
        Row(KERNEL, State.STRIPPED, "strip", 1, 100, 40, 200, 80, 79, 1, 0, 0),
        Row(KERNEL, State.KEPT, "", 1, 0, 0, 0, 0, 0, 0, 0, 1),
        Row(KERNEL, State.FAILED, "", 1, 7, 7, 7, 7, 5, 0, 0, 1),
        Row("7.0", State.STRIPPED, "native", 1, 10, 11, 10, 8, 8, 1, 0, 0),
    )
    assert found[:6] == (6, 120, 60, 220, 97, 94)
    assert found.states == (("stripped", 4), ("already-stripped", 0), ("kept", 1), ("failed", 1))
    assert found.proofs == (("verified", 3), ("recorded", 1), ("none", 2))
    assert (found.saved, [row.saved for row in found.rows]) == (60, [1, 60, 0, 0, -1])


@given(RECEIPTS)
def test_rows_make_up_the_totals(receipt: Receipt) -> None:
    """No module is lost and none counted twice."""
    sums = receipt.totals
    assert sums.modules == len(receipt.entries) == sum(row.modules for row in sums.rows)
    assert sums.modules == sum(count for _, count in sums.states) == sum(count for _, count in sums.proofs)
    assert sums.saved == sum(row.saved for row in sums.rows)
    assert all(row.modules == row.verified + row.recorded + row.none for row in sums.rows)
