"""Rivals in turn, round by round, each on a fresh copy that is not timed."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench import table
from tests.bench.measure import Used
from tests.bench.rivals import Place, Rival
from tests.bench.samples import Modules
from tests.bench.table import Figures
from tests.setup import kernels, room

COPIES = 2.1  # bytes of room needed for each byte of modules: a copy, and one that a rival makes
WARM = 40  # modules that warm up


class Group(NamedTuple):
    """Rivals for one job. What the others are compared with comes first."""

    field: tuple[Rival, ...]
    modules: Modules
    subject: str

    def only(self, text: str) -> Group:
        """Without those whose programs are missing, which are named, and those without `text` in their names."""
        field = (self.field[0], *(rival for rival in self.field[1:] if text in rival.what))
        for rival in field:
            if rival.absent():
                print(f"not measured: {rival.what}: {', '.join(rival.absent())} not installed", flush=True)
        return self._replace(field=tuple(rival for rival in field if not rival.absent()))


class Bench(NamedTuple):
    """How to measure."""

    home: Path  # kernels
    rounds: int
    place: Path | None  # for copies
    only: str  # what the names of rivals have in them, but for the first

    def contest(self, field: tuple[Rival, ...], source: Path, subject: str) -> list[Figures]:
        """Everybody in turn, round by round, on all that is below `source`, or on that one module."""
        modules = Modules(source) if source.is_dir() else Modules(source.parent, (source.name,))
        return self.contests([Group(field, modules, subject)])

    def contests(self, groups: list[Group]) -> list[Figures]:
        """Several jobs, whose rounds are one: what is compared with one another has been done at the same time."""
        groups = [group.only(self.only) for group in groups]
        wanted = max(int(COPIES * sum(group.modules.sizes.values())) for group in groups)
        cache = kernels.cache_dir()
        cache.mkdir(parents=True, exist_ok=True)
        seen: list[list[list[Used]]] = [[] for _ in groups]
        with room.made(self.place or room.find(wanted, cache)) as scratch:
            place = Place(scratch / "tree", scratch / "out")
            where = table.filesystem(scratch)
            show(f"{'; '.join(group.subject for group in groups)}: {self.rounds} rounds, copies in {where}")
            for group in groups:
                turn(group._replace(modules=group.modules.like(WARM)), place)  # every program has run once
            for number in range(self.rounds):
                start = time.monotonic()
                for group, turns in zip(groups, seen, strict=True):
                    turns.append(turn(group, place, say=f"{number + 1}/{self.rounds}"))
                show(f"round {number + 1} of {self.rounds}: {(time.monotonic() - start) / 60:.1f} min")
        return [row for group, turns in zip(groups, seen, strict=True) for row in group_figures(group, turns)]


def turn(group: Group, place: Place, say: str = "") -> list[Used]:
    """Every rival once, and a line for each that begins with `say`."""
    found = []
    for rival in group.field:
        found.append(rival.run(place, group.modules.root, group.modules.names))
        if say:
            print(f"    {say} {rival.what}: {table.seconds(found[-1].seconds)}", flush=True)
    return found


def group_figures(group: Group, turns: list[list[Used]]) -> list[Figures]:
    """Those of a group's rivals."""
    return figures([(rival.what, rival.command) for rival in group.field], turns, group.subject)


def figures(rows: list[tuple[str, str]], rounds: list[list[Used]], subject: str) -> list[Figures]:
    """Medians, and ratios to the first row."""
    columns = list(zip(*rounds, strict=True))
    first, found = columns[0], []
    for (what, command), column in zip(rows, columns, strict=True):
        pairs = list(zip(column, first, strict=True))
        ratio = median(used.seconds / base.seconds for used, base in pairs)
        cpu = median(used.cpu / base.cpu for used, base in pairs)
        middle = Used(*(median(values) for values in zip(*column, strict=True)))
        found.append(Figures(what, command, subject, len(rounds), middle, ratio, cpu, rows[0][0]))
    return found


def show(text: str) -> None:
    """A line about what happens now."""
    print(f"==> {text}", flush=True)
