"""The rows of tests/RESULTS.md as values: what README.md's table and the picture are made from."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.bench import peers
from tests.bench.table import RESULTS

FIGURES = re.compile(
    r"(?P<time>[\d.]+) (?P<unit>m?s) \((?P<cpu>[\d.]+) (?P<cpu_unit>m?s) CPU\), (?P<peak>\d+) MiB"
    r"(?:, (?P<left>[\d,]+) bytes left)?(?:; (?P<ratio>[\d.]+) x )?"
)
COUNTED = re.compile(r"(?P<count>\d+) modules? of [^,]+, (?:(?P<size>[\d.]+) (?P<unit>[kMG]?B))?")
UNITS = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}


class Row(NamedTuple):
    """One measured row."""

    what: str
    subject: str  # as in the column N, without the rounds
    seconds: float
    cpu: float
    peak: int  # MiB
    left: int  # bytes; 0 where nothing was stripped
    ratio: float  # to the first of its field, whose own is 1
    modules: int  # 0 where they are not counted
    size: float  # bytes of all modules together; 0 as above

    @property
    def each(self) -> float:
        """Milliseconds for one module."""
        return 1000 * self.seconds / self.modules

    @property
    def mean(self) -> float:
        """The mean size of a module, in bytes."""
        return self.size / self.modules


def cells(line: str) -> list[str]:
    """What stands between the bars of a line of a table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def measured(text: str | None = None) -> dict[str, Row]:
    """The rows of the benchmark by their first cell; all others are left out."""
    found = {}
    for line in (RESULTS.read_text("utf-8") if text is None else text).splitlines():
        row = parsed(cells(line)) if line.startswith("| ") else None
        if row:
            found[row.what] = row
    return found


def parsed(row: list[str]) -> Row | None:
    """A row of the benchmark; None for one that is not."""
    figures = FIGURES.match(row[6]) if len(row) == 7 else None
    if not figures:
        return None
    counted = COUNTED.match(row[4])
    return Row(
        what=row[0],
        subject=row[4].rpartition(", ")[0],
        seconds=in_seconds(figures["time"], figures["unit"]),
        cpu=in_seconds(figures["cpu"], figures["cpu_unit"]),
        peak=int(figures["peak"]),
        left=int((figures["left"] or "0").replace(",", "")),
        ratio=float(figures["ratio"] or 1),
        modules=int(counted["count"]) if counted else 0,
        size=float(counted["size"]) * UNITS[counted["unit"]] if counted and counted["size"] else 0.0,
    )


def in_seconds(number: str, unit: str) -> float:
    """Seconds of `number` seconds or milliseconds."""
    return float(number) / (1000 if unit == "ms" else 1)


# --- README.md -------------------------------------------------------------------------------------------------------

FIELDS = (peers.TREE, peers.TREE_XZ, peers.named(peers.STRIPPERS, "full kernel"))


def markdown() -> str:
    """The table of README.md: every way to strip a tree that has a row."""
    rows = measured()
    lines = ["| what | time | CPU | largest process | bytes left |", "|---|---|---|---|---|"]
    for field in FIELDS:
        there = [rows[rival.what] for rival in field if rival.what in rows]
        if there:
            lines.append(f"| **{there[0].subject}** | | | | |")
        lines += [line(row) for row in there]
    return "".join(f"{text}\n" for text in lines)


def line(row: Row) -> str:
    """One row as README.md shows it."""
    left = f"{row.left:,}" if row.left else ""
    return f"| {row.what} | {row.seconds:.2f} s | {row.cpu:.2f} s | {row.peak} MiB | {left} |"
