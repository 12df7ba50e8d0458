"""A finding: a stable id, a severity, a subject and evidence; and the registry of ids.

The registry is data, `findings.toml` beside this file: per id its severity, obligation,
one-line title, hint and explanation.  It is read when a finding is told; to make one the
severities are enough, which are found without reading TOML, so that workers do not pay for it.
"""

from __future__ import annotations

import os
import re
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


# importlib.resources, which loads a third of what an audit needs otherwise, finds nothing more.
_DATA = os.path.join(os.path.dirname(__file__), "findings.toml")
_HEAD = re.compile(r'^\[([a-z0-9-]+)\]\nseverity = "([a-z]+)"$', re.MULTILINE)


@cache
def severities() -> dict[str, Severity]:
    """The severity of each registered id: the file is ours, and each row of it begins with that."""
    with open(_DATA, encoding="utf-8") as file:
        return {id: Severity[name.upper()] for id, name in _HEAD.findall(file.read())}


@cache
def registry() -> dict[str, Kind]:
    """All registered ids in the order of the data file."""
    import tomllib

    with open(_DATA, "rb") as file:
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
    return Finding(id, severities()[id], subject, tuple(evidence.items()))
