"""The receipt's JSON Schema: accepts what `dump` writes, refuses what `load` refuses, knows what the code knows."""

from __future__ import annotations

import json
from enum import Enum
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from pkghook.findings import Finding, Severity
from pkghook.judge import receipt
from pkghook.judge.policy import Keep
from pkghook.judge.receipt import Receipt
from pkghook.judge.totals import Row
from pkghook.model import Attempt, Compression, DebugFile, Entry, Outcome, Proof, Sizes, State
from tests.receipts import RECEIPTS, sample
from tests.unit.test_receipt import SPOILT, document, spoilt

SCHEMA: dict[str, Any] = json.loads(files("pkghook").joinpath("data/receipt.schema.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
DEFS = SCHEMA["$defs"]


def test_the_schema_is_one() -> None:
    """By the rules of its own kind."""
    Draft202012Validator.check_schema(SCHEMA)


def test_the_sample_is_valid() -> None:
    """It has something of everything."""
    VALIDATOR.validate(json.loads(receipt.dump(sample())))


@given(RECEIPTS)
def test_any_receipt_is_valid(arbitrary: Receipt) -> None:
    """Whatever is dumped."""
    VALIDATOR.validate(json.loads(receipt.dump(arbitrary)))


@pytest.mark.parametrize(("where", "what"), [row[:2] for row in SPOILT])
def test_what_load_refuses_is_not_valid(where: str, what: object) -> None:
    """But for contradictions between fields, which a schema cannot tell."""
    assert not VALIDATOR.is_valid(spoilt(where, what))


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_other_versions_are_not_valid(version: object) -> None:
    """Nor other formats."""
    assert not VALIDATOR.is_valid(document() | {"version": version})
    assert not VALIDATOR.is_valid(document() | {"format": "pkghook record"})


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("entry", Entry._fields),
        ("attempt", Attempt._fields),
        ("finding", Finding._fields),
        ("sizes", Sizes._fields),
        ("debug_file", DebugFile._fields),
        ("row", (*Row._fields, "saved")),
        ("override", (*Keep._fields, "matched")),
    ],
)
def test_the_fields_of_values(name: str, fields: tuple[str, ...]) -> None:
    """The schema has those of the code, all of them and no others, in the same order."""
    assert tuple(DEFS[name]["properties"]) == fields


def test_defaults() -> None:
    """What is left out means what the schema says."""
    said = {name: rule["default"] for name, rule in DEFS["entry"]["properties"].items() if "default" in rule}
    plain = {name: [] if value == () else value for name, value in Entry._field_defaults.items() if name != "sizes"}
    assert said == plain
    assert set(DEFS["entry"]["required"]) == set(Entry._fields) - Entry._field_defaults.keys()
    assert set(DEFS["attempt"]["required"]) == set(Attempt._fields) - Attempt._field_defaults.keys()


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (DEFS["state"]["enum"], State),
        (DEFS["totals"]["properties"]["states"]["required"], State),
        (DEFS["totals"]["properties"]["proofs"]["required"], Proof),
        (DEFS["entry"]["properties"]["proof"]["enum"], Proof),
        (DEFS["entry"]["properties"]["compression"]["enum"], Compression),
        (DEFS["attempt"]["properties"]["outcome"]["enum"], Outcome),
        (DEFS["finding"]["properties"]["severity"]["enum"], Severity),
    ],
)
def test_the_words(words: list[str], kind: type[Enum]) -> None:
    """The schema has those of the code."""
    assert words == [str(word) for word in kind]


def test_every_object_is_closed() -> None:
    """A member that the schema does not know is an error in the same version."""
    open_objects = [path for path, rule in _objects(SCHEMA, "") if "additionalProperties" not in rule]
    assert not open_objects


def _objects(rule: object, path: str) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(rule, list):
        return [found for at, each in enumerate(rule) for found in _objects(each, f"{path}/{at}")]
    if not isinstance(rule, dict):
        return []
    here = [(path, rule)] if rule.get("type") == "object" else []
    return here + [found for name, each in rule.items() for found in _objects(each, f"{path}/{name}")]
