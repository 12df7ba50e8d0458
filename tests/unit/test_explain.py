"""`pkghook explain`."""

from __future__ import annotations

import io
import json

import pytest

from pkghook.errors import UsageError
from pkghook.findings import registry
from pkghook.settings import Settings
from pkghook.stories import explain


def told(*args: str, format: str = "text") -> str:
    out, err = io.StringIO(), io.StringIO()
    assert explain.run(args, Settings(format=format), out, err) == 0
    assert err.getvalue() == ""
    return out.getvalue()


def test_list_has_a_line_for_each_id() -> None:
    lines = told().splitlines()
    assert [line.split()[0] for line in lines] == list(registry())
    assert "residue" in registry()
    row = next(line for line in lines if line.startswith("residue "))
    assert row.split(maxsplit=2)[1:] == ["error", registry()["residue"].title]


def test_one_id() -> None:
    kind = registry()["residue"]
    assert told("residue") == (
        f"residue: {kind.title}\nseverity: error (proof obligation V12)\n\n{kind.text}\n\nhint: {kind.hint}\n"
    )


def test_id_without_obligation() -> None:
    assert "\nseverity: warning\n" in told("unused-keep")


def test_json() -> None:
    every = json.loads(told(format="json"))
    assert list(every) == list(registry())
    one = json.loads(told("residue", format="json"))
    assert one == {"residue": every["residue"]}
    assert one["residue"]["severity"] == "error"
    assert one["residue"].keys() == {"id", "severity", "title", "hint", "text", "obligation"}


def test_unknown_id_gets_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        told("residues")
    assert "did you mean residue" in caught.value.hint


def test_unknown_id_like_nothing() -> None:
    with pytest.raises(UsageError) as caught:
        told("xyzzy")
    assert caught.value.hint == "`pkghook explain` lists them all"
