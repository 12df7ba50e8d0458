"""Where two loads differ."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from tests.boot.course import Load
from tests.boot.dump import Symbol
from tests.boot.messages import Kind, Result

GOOD = (Kind.OK, Kind.INIT)


class Differences(NamedTuple):
    """By module, what B has otherwise than A; empty where nothing differs."""

    missing: tuple[str, ...]  # in one of them only
    results: dict[str, tuple[Result, Result]]  # kind or errno
    messages: dict[str, set[str]]  # of the kernel, which A has not
    lost: dict[str, Counter[Symbol]]  # from kallsyms
    gained: dict[str, Counter[Symbol]]
    sections: dict[str, tuple[int, int]]
    btf: tuple[str, ...]
    taint: dict[str, tuple[str, str]]

    @property
    def worse(self) -> list[str]:
        """Modules that load in A and not in B."""
        return [name for name, (a, b) in self.results.items() if a.kind in GOOD and b.kind not in GOOD]

    @property
    def but_taint(self) -> bool:
        """Whether nothing differs, taint aside."""
        return not any(self._replace(taint={}))

    def __str__(self) -> str:
        return "; ".join(f"{name}: {value}" for name, value in self._asdict().items() if value) or "no difference"


def compare(a: Load, b: Load) -> Differences:
    """A is the reference; both with one kernel on one machine."""
    both = [name for name in a.results if name in b.results]
    there = [name for name in both if name in a.known and name in b.known]
    results = {name: (a.results[name], b.results[name]) for name in both}
    views = {name: (a.known[name], b.known[name]) for name in there}
    return Differences(
        missing=tuple(sorted((a.results.keys() ^ b.results.keys()) | (a.known.keys() ^ b.known.keys()))),
        results={name: pair for name, pair in results.items() if pair[0][:2] != pair[1][:2]},
        messages={name: said for name, (x, y) in results.items() if (said := _said(y) - _said(x))},
        lost={name: gone for name, (x, y) in views.items() if (gone := x.symbols - y.symbols)},
        gained={name: new for name, (x, y) in views.items() if (new := y.symbols - x.symbols)},
        sections={name: (x.sections, y.sections) for name, (x, y) in views.items() if x.sections != y.sections},
        btf=tuple(name for name, (x, y) in views.items() if x.btf != y.btf),
        taint={name: (x.taint, y.taint) for name, (x, y) in views.items() if x.taint != y.taint},
    )


def _said(result: Result) -> set[str]:
    """The messages without their numbers; that a signature is missing is told by the taint."""
    plain = re.sub(r"0x[0-9a-f]+|[0-9a-f]{8,}|\d+", "N", result.detail)
    return {text for text in plain.split(" | ") if text and "verification failed" not in text}
