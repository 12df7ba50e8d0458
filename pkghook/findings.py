"""A finding: a stable id, a severity, a subject and evidence; and the registry of ids.

The registry is data, `findings.toml` beside this file: per id its severity, obligation,
one-line title, hint and explanation.  It is read when the first finding is made, so that a
clean run does not pay for it.
"""

from __future__ import annotations

import os
from enum import IntEnum
from functools import cache

from pkghook.values import NamedTuple

Evidence = str | int


class Severity(IntEnum):
    """How much a finding weighs; `--fail-on` compares against it."""

    INFO = 1
    WARNING = 2
    ERROR = 3

    def __str__(self) -> str:
        return self.name.lower()


class Finding(NamedTuple):
    """One fact that somebody should know. Never a ready-made sentence: see `report`.

    `subject` is the path (relative to ROOT) or other thing it is about; `evidence` are
    (key, value) pairs in the order they are worth reading.
    """

    id: str
    severity: Severity
    subject: str
    evidence: tuple[tuple[str, Evidence], ...] = ()


class Kind(NamedTuple):
    """What the registry knows of one finding id."""

    id: str
    severity: Severity
    title: str
    hint: str
    text: str
    obligation: str


@cache
def registry() -> dict[str, Kind]:
    """All registered ids in the order of the data file."""
    import tomllib

    # importlib.resources, which loads a third of what an audit needs otherwise, finds nothing more
    with open(os.path.join(os.path.dirname(__file__), "findings.toml"), "rb") as file:
        rows = tomllib.load(file)
    return {
        id: Kind(
            id,
            Severity[row["severity"].upper()],
            row["title"],
            row["hint"],
            row["text"].strip(),
            row.get("obligation", ""),
        )
        for id, row in rows.items()
    }


def make(id: str, subject: str, **evidence: Evidence) -> Finding:
    """A finding of a registered kind, with that kind's severity.

    Raises KeyError for an id that the registry does not have: a mistake of ours.
    """
    return Finding(id, registry()[id].severity, subject, tuple(evidence.items()))
