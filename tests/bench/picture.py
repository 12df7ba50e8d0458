"""speed.svg, drawn from the rows of tests/RESULTS.md and from nothing else.

`python3 -m tests.bench.picture` draws it anew, with the table of README.md.
.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench import big, peers, results, svg
from tests.bench.results import Row
from tests.bench.rivals import Rival
from tests.bench.svg import Box, Series
from tests.repo import readme
from tests.setup import kernels

PICTURE = Path(__file__).with_name("speed.svg")
WIDTH, HALF, GAP, CHART = 920, 440, 40, 270
TITLE = "Speed of pkghook and of the strip tools"
LEFT_OUT = ("pkghook record", "pkghook strip --before, after batch strip -g")  # nobody else does that


def draw(rows: Mapping[str, Row]) -> str:
    """The picture of these rows; what has no row is not in it."""
    fields = [present(field, rows) for field in (peers.TREE, peers.TREE_XZ)]
    high = 4 * svg.TEXT + svg.ROW * max(len(field) for field in fields) + 20
    body: list[str] = []
    for number, field in enumerate(fields):
        box = Box(16 + number * (HALF + GAP), 10, HALF - 20, high)
        body += svg.dots(box, titled(field), [(short(row.what), row.seconds, said(row)) for row in field], seconds)
    body += svg.curves(
        Box(16, high + 10, HALF - 20, CHART),
        "As the tree grows, two processors",
        by_count(rows),
        (lambda value: f"{value:,.0f}", lambda value: f"{value:.1f}"),
        ("modules, of the same mean size", "milliseconds a module"),
        logarithmic=False,
    )
    body += svg.curves(
        Box(16 + HALF + GAP, high + 10, HALF - 20, CHART),
        "As a module grows, one processor",
        by_size(rows),
        (size, duration),
        ("size of a module", "time a module"),
        logarithmic=True,
    )
    return svg.document(WIDTH, high + CHART + 24, TITLE, " ".join(described(rows)), body)


def titled(field: list[Row]) -> str:
    """What has been stripped; "" if nobody did."""
    if not field:
        return ""
    what = ".ko.xz" if field[0].what.endswith(".ko.xz") else "modules"
    size = f", {kernels.size_text(field[0].size)}" if field[0].size else ""
    return f"Time to strip {field[0].modules:,} {what}{size}"


def present(field: tuple[Rival, ...], rows: Mapping[str, Row]) -> list[Row]:
    """The rows of a field that are there and that can be compared, the quickest first."""
    there = [rows[rival.what] for rival in field if rival.what in rows and rival.what not in LEFT_OUT]
    return sorted((row for row in there if not row.what.endswith("leaves all")), key=lambda row: row.seconds)


def short(what: str) -> str:
    """A name, where the title says the rest."""
    return what.partition(", .ko.xz")[0].replace("strip --chain ", "by ")


def said(row: Row) -> str:
    """What stands behind a point."""
    return f"{row.seconds:.1f} s" if row.seconds >= 10 else f"{row.seconds:.2f} s"


def seconds(value: float) -> str:
    """A tick."""
    return f"{value:g} s"


def duration(value: float) -> str:
    """A tick of milliseconds."""
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"


def size(value: float) -> str:
    """A tick of bytes, in decimal units."""
    return next(f"{value / unit:g} {name}" for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")) if value >= unit)


def by_count(rows: Mapping[str, Row]) -> list[Series]:
    """Milliseconds a module by the number of modules."""
    trees = [f"{count} modules" for count in big.GROWTH] + ["full kernel"]
    return lines([(rival.what, [f"{rival.what}, {tree}" for tree in trees]) for rival in peers.STRIPPERS[:2]], rows)


def by_size(rows: Mapping[str, Row]) -> list[Series]:
    """Milliseconds a module by its size."""
    fields = [peers.one_process(what) for what in big.CLASSES]
    names = zip(*([rival.what for rival in field] for field in fields), strict=True)
    return lines([(group[0].partition(",")[0], list(group)) for group in names], rows, by_mean=True)


def lines(wanted: list[tuple[str, list[str]]], rows: Mapping[str, Row], *, by_mean: bool = False) -> list[Series]:
    """A line for each name that has points."""
    found = []
    for name, whats in wanted:
        there = [rows[what] for what in whats if what in rows]
        points = tuple((row.mean if by_mean else row.modules, row.each) for row in there)
        if points:
            found.append(Series(name, points, name.startswith("pkghook")))
    return found


def described(rows: Mapping[str, Row]) -> Iterator[str]:
    """The picture in sentences."""
    for field in (peers.TREE, peers.TREE_XZ):
        there = present(field, rows)
        if there:
            said_of = ", ".join(f"{short(row.what)} {said(row)}" for row in there)
            yield f"Time to strip {there[0].subject}: {said_of}."
    for one in by_count(rows):
        points = ", ".join(f"{y:.2f} at {x:.0f}" for x, y in one.points)
        yield f"Milliseconds a module, {one.name}, by the number of modules: {points}."
    for one in by_size(rows):
        points = ", ".join(f"{y:.2f} at {x / 1e6:.2f} MB" for x, y in one.points)
        yield f"Milliseconds a module, {one.name}, by its size: {points}."


def refresh() -> None:
    """Write the picture and README.md's table anew."""
    PICTURE.write_text(draw(results.measured()), "utf-8")
    readme.refresh()


if __name__ == "__main__":
    refresh()
