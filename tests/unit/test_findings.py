"""The registry of findings and its short form."""

from __future__ import annotations

from pkghook.findings import registry, severities


def test_severities_are_those_of_the_registry() -> None:
    assert severities() == {id: kind.severity for id, kind in registry().items()}
    assert list(severities()) == list(registry())
