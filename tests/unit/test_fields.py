"""Reading hostile JSON: it ends in one error that names the file, whatever is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook import fields
from pkghook.errors import InputError, ReceiptError
from pkghook.fields import WRONG_LIMIT, Fields, Problems
from pkghook.judge import receipt

_WORDS = st.text("ab/.\0é\udcff", max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(1.5) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=6,
)


def refused(data: bytes) -> str:
    """What is said to these bytes."""
    with pytest.raises(ReceiptError) as caught:
        fields.parse(data, "f.json", "some format", 1)
    return caught.value.message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON: Expecting property name"),
        (b"{}x", "not JSON: Extra data"),
        (b"\xff\xfe{}", "not JSON: 'utf-8' codec can't decode"),
        (b"\xef\xbb\xbf{}", "not JSON: Unexpected UTF-8 BOM"),
        (b'{"a": NaN}', "not JSON: NaN is no JSON value"),
        (b'{"a": -Infinity}', "not JSON: -Infinity is no JSON value"),
        (b'{"a": 1, "b": 2, "a": 1}', "not JSON: an object has the member 'a' twice"),
        (b'{"a": {"\\u001b": 1, "\\u001b": 2}}', r"not JSON: an object has the member '\x1b' twice"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b"[" * 200_000, "nested too deep"),
        (b'{"a":' * 200_000, "nested too deep"),
        (b'{"format": "other", "version": 1}', "not a some format"),
        (b'{"format": ["some format"], "version": 1}', "not a some format"),
        (b'{"format": "some format"}', "a some format of unknown version null"),
        (b'{"format": "some format", "version": 12}', "a some format of unknown version 12"),
        (b'{"format": "some format", "version": "' + b"1" * 99 + b'"}', "of unknown version '" + "1" * 56 + "..."),
    ],
)
def test_what_is_not_such_a_file(data: bytes, why: str) -> None:
    """Never a traceback, never a repetition of what a terminal would act on."""
    assert refused(data).startswith("f.json: ")
    assert why in refused(data)


@given(st.binary(max_size=40))
def test_any_bytes(data: bytes) -> None:
    """Nothing but the one error."""
    with pytest.raises(ReceiptError):
        receipt.load(data, "f.json")


@given(st.dictionaries(st.sampled_from(receipt.dump(receipt.make("strip", [])).decode().split('"')[1::2]), JSON))
def test_any_members(members: dict[str, object]) -> None:
    """A receipt by its head, with anything in it."""
    head = {"format": receipt.FORMAT, "version": receipt.VERSION}
    with pytest.raises(ReceiptError):
        receipt.load(json.dumps(members | head).encode("ascii"), "f.json")


def test_many_problems_are_counted() -> None:
    """A hostile file makes no endless message."""
    problems = Problems()
    for at in range(1000):
        problems.note(f"a[{at}]", "wrong")
    with pytest.raises(ReceiptError) as caught:
        problems.raise_any("f.json")
    lines = caught.value.message.splitlines()
    assert lines[0] == "f.json: 1000 fields are wrong"
    assert lines[1] == "  a[0]: wrong"
    assert lines[-1] == "  and 980 more"
    assert len(lines) == 22


def test_no_problem_no_error() -> None:
    """Nothing is raised."""
    Problems().raise_any("f.json")


def test_a_file_that_is_wrong_all_over_is_not_read_to_its_end() -> None:
    problems = Problems("f.json")
    for _ in range(WRONG_LIMIT):
        problems.note("a", "wrong")
    with pytest.raises(ReceiptError, match=r"^f\.json: more than 10000 fields are wrong\n  a: wrong"):
        problems.note("a", "wrong")


def test_members_as_they_are() -> None:
    """For objects whose member names are data: none is unknown then."""
    problems = Problems()
    found = Fields({"x": 1, "y": []}, "a", problems)
    assert list(found.members()) == [("x", 1), ("y", [])]
    found.finish()
    assert not problems.count


def test_a_number_may_have_a_lower_limit() -> None:
    """What a count can be at most is known to who asks."""
    problems = Problems()
    assert Fields({"x": 5}, "", problems).number("x", most=4) == 5
    assert problems.first == ["x: 5 is not between 0 and 4"]


def test_layout() -> None:
    """One member a line, and one item of a list there."""
    text = fields.layout({"a": 1, "b": [], "c": [{"x": [1, 2]}, "é"], "d": ()})
    assert text == b'{\n  "a": 1,\n  "b": [],\n  "c": [\n    {"x":[1,2]},\n    "\\u00e9"\n  ],\n  "d": []\n}\n'


def test_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes; not of a directory, and not without end."""
    file = tmp_path / "f.json"
    file.write_bytes(b"12345")
    assert fields.read(str(file)) == b"12345"
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        fields.read(str(tmp_path))
    monkeypatch.setattr(fields, "SIZE_LIMIT", 4)
    with pytest.raises(ReceiptError, match="larger than 4 bytes"):
        fields.read(str(file))
