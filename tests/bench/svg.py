"""Plain SVG 1.1 as text: two kinds of chart, readable on light and dark paper and by a screen reader."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

STYLE = """
text { font: 12px system-ui, -apple-system, "DejaVu Sans", sans-serif; fill: #1f2328 }
.paper { fill: #ffffff }
.title { font-weight: 600; font-size: 13px }
.note { fill: #59636e; font-size: 11px }
.ours { fill: #0550ae; font-weight: 600 }
.end { text-anchor: end }
.middle { text-anchor: middle }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.line { stroke: #6e7781; stroke-width: 2; fill: none; stroke-dasharray: 5 3 }
.line.ours { stroke: #0550ae; stroke-dasharray: none; fill: none }
.dot { fill: #6e7781 }
.dot.ours { fill: #0550ae }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .paper { fill: #0d1117 }
  .note { fill: #9198a1 }
  .ours, .dot.ours { fill: #79c0ff }
  .grid { stroke: #3d444d }
  .line { stroke: #9198a1 }
  .line.ours { stroke: #79c0ff; fill: none }
  .dot { fill: #9198a1 }
}
"""
TEXT = 12  # pixels from one line of text to where the next may start, about
LETTER, BOLD = 6.3, 7.2  # pixels, the width of one, about
ROW = 20
FAR = 10  # times the least value


class Box(NamedTuple):
    """A part of the picture, in pixels."""

    left: float
    top: float
    width: float
    height: float


class Scale(NamedTuple):
    """Values on a stretch of pixels, by their logarithms or as they are."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = True

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        low, high, at = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values on the scale."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            few = len(powers) < 5
            found = [factor * 10.0**power for power in powers for factor in ((1, 3) if few else (1,))]
        else:
            step = 10.0 ** math.floor(math.log10(self.high))
            step /= next(part for part in (1, 2, 5, 10) if self.high / step * part >= 2)
            found = [step * count for count in range(int(self.high / step) + 1)]
        return [value for value in found if self.low <= value <= self.high * 1.0001]


class Series(NamedTuple):
    """One line of a chart: points from left to right."""

    name: str
    points: tuple[tuple[float, float], ...]
    ours: bool = False


def wide(values: Sequence[float]) -> tuple[float, float]:
    """Ends of a logarithmic scale that all values lie on, with a little room."""
    return min(values) / 1.3, max(values) * 1.3


def document(width: int, height: int, title: str, description: str, body: Sequence[str]) -> str:
    """The whole picture."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-labelledby="title description">'
    )
    return "\n".join([
        head,
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(description)}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        *body,
        "</svg>\n",
    ])  # fmt: skip


def text(x: float, y: float, words: str, style: str = "") -> str:
    """Some words, from `x` on, on the line `y`."""
    styled = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{styled}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line class="grid" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def mark(x: float, y: float, *, ours: bool) -> str:
    """A point: round for ours, square for others, so that no colour is needed to tell them apart."""
    if ours:
        return f'<circle class="dot ours" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    return f'<rect class="dot" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'


def dots(box: Box, title: str, rows: Sequence[tuple[str, float, str]], label: Callable[[float], str]) -> Iterator[str]:
    """A point for each row (name, value, what stands behind it); where they lie far apart the scale is logarithmic."""
    names, behind = 190, 52
    yield text(box.left, box.top + TEXT, title, "title")
    if not rows:
        return
    values = [value for _, value, _ in rows]
    far = max(values) > FAR * min(values)
    low, high = wide(values) if far else (0.0, 1.1 * max(values))
    scale = Scale(low, high, box.left + names, box.left + box.width - behind, logarithmic=far)
    top, bottom = box.top + 2 * TEXT, box.top + 2 * TEXT + ROW * len(rows)
    for tick in scale.ticks():
        yield line(scale(tick), top, scale(tick), bottom)
        yield text(scale(tick), bottom + TEXT + 2, label(tick), "note middle")
    for number, (name, value, said) in enumerate(rows):
        y = top + ROW * (number + 0.5)
        ours = name.startswith("pkghook")
        yield text(box.left + names - 10, y + 4, name, "ours end" if ours else "end")
        yield line(scale.start, y, scale(value), y)
        yield mark(scale(value), y, ours=ours)
        yield text(scale(value) + 8, y + 4, said, "note")


def curves(
    box: Box,
    title: str,
    series: Sequence[Series],
    labels: tuple[Callable[[float], str], Callable[[float], str]],
    names: tuple[str, str],
    *,
    logarithmic: bool,
) -> Iterator[str]:
    """Lines over a logarithmic x; `labels` and `names` are those of x and y."""
    yield text(box.left, box.top + TEXT, title, "title")
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    if not xs:
        return
    across = Scale(*wide(xs), box.left + 52, box.left + box.width - 12)
    bottom, low_high = box.top + box.height - 3 * TEXT, wide(ys) if logarithmic else (0.0, max(ys) * 1.25)
    up = Scale(*low_high, bottom, box.top + 3.5 * TEXT, logarithmic=logarithmic)
    yield text(box.left, box.top + 2.3 * TEXT, names[1], "note")
    yield text((across.start + across.end) / 2, box.top + box.height - 4, names[0], "note middle")
    for tick in up.ticks():
        yield line(across.start, up(tick), across.end, up(tick))
        yield text(across.start - 6, up(tick) + 4, labels[1](tick), "note end")
    for tick in across.ticks():
        yield line(across(tick), bottom, across(tick), bottom + 4)
        yield text(across(tick), bottom + TEXT + 4, labels[0](tick), "note middle")
    yield from legend(box, [(one.name, one.ours) for one in series])
    for one in series:
        yield from curve(one, across, up)


def legend(box: Box, names: Sequence[tuple[str, bool]]) -> Iterator[str]:
    """What the marks stand for, at the right of the line below the title."""
    right, y = box.left + box.width, box.top + 2.3 * TEXT
    for name, ours in reversed(names):
        yield text(right, y, name, "ours end" if ours else "end")
        right -= len(name) * (BOLD if ours else LETTER) + 8
        yield mark(right, y - 4, ours=ours)
        right -= 20


def curve(one: Series, across: Scale, up: Scale) -> Iterator[str]:
    """One line with its points."""
    where = [(across(x), up(y)) for x, y in one.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in where)
    yield f'<polyline class="line{" ours" * one.ours}" points="{path}"/>'
    for x, y in where:
        yield mark(x, y, ours=one.ours)
