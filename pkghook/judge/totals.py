"""The sums over all modules of a run: what was there, what is left, what stands behind it. Sizes are bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.model import Entry, Proof, Sizes, State
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Row(NamedTuple):
    """The modules of one kernel that ended in one state, and, where they were stripped, by one step."""

    kernel: str
    state: State
    step: str  # "" but for `stripped`
    modules: int
    file_before: int
    file_after: int
    image_before: int
    image_after: int
    expected: int
    verified: int  # modules by what stands behind them; these three make up `modules`
    recorded: int
    none: int

    @property
    def saved(self) -> int:
        """Bytes on disk; negative if files grew."""
        return self.file_before - self.file_after


class Totals(NamedTuple):
    """The sums over all modules, and by kernel, state and step."""

    modules: int = 0
    file_before: int = 0
    file_after: int = 0
    image_before: int = 0
    image_after: int = 0
    expected: int = 0
    states: tuple[tuple[State, int], ...] = ()  # every state, in the order of `State`
    proofs: tuple[tuple[Proof, int], ...] = ()  # every proof, in the order of `Proof`
    debug_files: int = 0  # split off; one that several modules share counts once
    debug_bytes: int = 0
    rows: tuple[Row, ...] = ()  # sorted by kernel, state (in the order of `State`), step

    @property
    def saved(self) -> int:
        """Bytes on disk; negative if files grew."""
        return self.file_before - self.file_after


_STATES = tuple(State)


def totals(entries: Sequence[Entry]) -> Totals:
    """The sums over `entries`."""
    groups: dict[tuple[str, State, str], list[Entry]] = {}
    for entry in entries:
        step = entry.step if entry.state is State.STRIPPED else ""
        groups.setdefault((entry.kernel, entry.state, step), []).append(entry)
    keys = sorted(groups, key=lambda key: (key[0], _STATES.index(key[1]), key[2]))
    rows = tuple(_row(*key, groups[key]) for key in keys)
    files = {entry.debug_file.path: entry.debug_file.size for entry in entries if entry.debug_file}
    return Totals(
        len(entries),
        *_sums(entries),
        states=tuple((state, sum(row.modules for row in rows if row.state is state)) for state in State),
        proofs=tuple((proof, sum(entry.proof is proof for entry in entries)) for proof in Proof),
        debug_files=len(files),
        debug_bytes=sum(files.values()),
        rows=rows,
    )


def _row(kernel: str, state: State, step: str, entries: Sequence[Entry]) -> Row:
    proofs = [entry.proof for entry in entries]
    return Row(kernel, state, step, len(entries), *_sums(entries), *map(proofs.count, Proof))


def _sums(entries: Sequence[Entry]) -> Sizes:
    return Sizes(*map(sum, zip(*(entry.sizes for entry in entries), strict=True)))
