"""python3 -m tests.bench [-n N] [--dir DIR] [--only TEXT] [--write] [PART...]: speed and memory, paired in one run.

Every round lets each rival have its turn, on a copy of its own that is not timed, in a warm page cache; what is
shown is the median of the rounds, and of the ratios within each round.  `tests/run --full bench` fetches what it needs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench import measure, rivals, table
from tests.bench.measure import BenchError, Used
from tests.bench.packing import PACKINGS
from tests.bench.rivals import Place, Rival
from tests.bench.table import Figures
from tests.setup import kernels, room
from tests.setup.apt import SetupError

COPIES = 2.1  # bytes of room needed for each byte of modules: a copy, and one that a rival makes
STARTS = 8  # for each round: a start is over in milliseconds


class Bench(NamedTuple):
    """How to measure."""

    home: Path  # kernels
    rounds: int
    place: Path | None  # for copies
    only: str  # what the names of rivals have in them, but for the first

    def contest(self, field: tuple[Rival, ...], source: Path, subject: str) -> list[Figures]:
        """Everybody in turn, round by round; those whose programs are missing are named and left out."""
        field = (field[0], *(rival for rival in field[1:] if self.only in rival.what))
        for rival in field:
            if rival.absent():
                print(f"not measured: {rival.what}: {', '.join(rival.absent())} not installed", flush=True)
        here = [rival for rival in field if not rival.absent()]
        wanted = int(COPIES * (rivals.size_of(source) or source.stat().st_size))
        cache = kernels.cache_dir()
        cache.mkdir(parents=True, exist_ok=True)
        with room.made(self.place or room.find(wanted, cache)) as scratch:
            place = Place(scratch / "tree", scratch / "out")
            show(f"{subject}, {self.rounds} rounds, copies in {table.filesystem(scratch)}")
            seen = [[rival.run(place, source) for rival in here] for _ in range(self.rounds + 1)][
                1:
            ]  # the first warms up
        return figures([(rival.what, rival.command) for rival in here], seen, subject)


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


# --- parts -----------------------------------------------------------------------------------------------------------


def tree(bench: Bench) -> list[Figures]:
    """All unstripped modules of the amd64 kernel."""
    source = modules_of_amd64(bench)
    return bench.contest(rivals.TREE, source, subject_of(source))


def modules_of_amd64(bench: Bench) -> Path:
    """The `lib/modules` of the unstripped kernel."""
    source = next(bench.home.glob("amd64/dbg/**/lib/modules"), None)
    if source is None:
        raise SetupError("no unstripped modules of amd64; `tests/corpus amd64` fetches them")
    return source


def subject_of(source: Path) -> str:
    """How many modules of which kernel."""
    (kernel,) = (path.name for path in source.iterdir())
    return f"{sum(1 for _ in source.rglob('*.ko'))} modules of {kernel}"


def largest(bench: Bench) -> list[Figures]:
    """The largest module there is: amdgpu of Debian's riscv64 kernel, 858 MB."""
    source = next(bench.home.glob("riscv64/dbg/**/amdgpu.ko"), None)
    if source is None:
        raise SetupError("no unstripped amdgpu of riscv64; `tests/corpus riscv64` fetches it")
    return bench.contest(rivals.LARGEST, source, f"{source.name}, {kernels.size_text(source.stat().st_size)}")


def rpm(bench: Bench) -> list[Figures]:
    """All unstripped modules of the amd64 kernel, packed by rpmbuild."""
    source = modules_of_amd64(bench)
    cache = kernels.cache_dir()
    turns: list[list[Used]] = []
    show(f"packing {bench.rounds} times, {len(PACKINGS)} ways")
    for _ in range(bench.rounds):
        turns.append([])
        for packing in PACKINGS:
            with room.made(bench.place or room.find(2 * rivals.size_of(source), cache)) as scratch:
                turns[-1].append(packing.run(scratch, source))
    return figures([(each.what, each.command) for each in PACKINGS], turns, subject_of(source))


def start(bench: Bench) -> list[Figures]:
    """How long `pkghook --version` takes, against Python itself."""
    nowhere = Place(Path("/nonexistent"), Path("/nonexistent"))
    bare = [sys.executable, "-c", "pass"]
    script = Path(sys.executable).with_name("pkghook")
    lines = [("python3 -c pass", bare), ("pkghook --version", nowhere.argv("pkghook --version"))]
    if script.is_file():
        lines.append(("pkghook --version, console script", [str(script), "--version"]))
    rounds = STARTS * bench.rounds
    show(f"starting {rounds} times")
    turns = [[measure.run(argv, nowhere.environment) for _, argv in lines] for _ in range(rounds + 2)][2:]
    return figures([(what, what.partition(",")[0]) for what, _ in lines], turns, "")


def audit(bench: Bench) -> list[Figures]:
    """The modules of two kernels as they are installed, plain and compressed."""
    found = []
    for name, pattern, field in (("amd64", "*.ko", rivals.INSTALLED), ("amd64-6.12", "*.ko.xz", rivals.INSTALLED_XZ)):
        source = bench.home / name / "shipped"
        modules = sum(1 for _ in source.rglob(pattern))
        if not modules:
            raise SetupError(f"no shipped modules of {name}; `tests/corpus {name}:shipped` fetches them")
        found += bench.contest(field, source, f"{modules} installed {pattern} of {name}")
    return found


PARTS: dict[str, Callable[[Bench], list[Figures]]] = {
    "start": start,
    "tree": tree,
    "largest": largest,
    "audit": audit,
    "rpm": rpm,
}


def main() -> int:
    """Command line; exit status 0, or 2 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument("-n", type=int, default=5, help="rounds [default: 5]")
    parser.add_argument("--dir", type=Path, help="place for copies [default: memory, if there is plenty]")
    parser.add_argument("--only", default="", metavar="TEXT", help="rivals with TEXT in their name, and the first")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {table.RESULTS.name}")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [default: all]")
    args = parser.parse_args()
    if unknown := set(args.part) - set(PARTS):
        parser.error(f"there is no part {min(unknown)}")
    table.commit()
    bench = Bench(kernels.corpus_dir(), args.n, args.dir, args.only)
    status = 0
    for part in args.part or PARTS:
        try:
            found = PARTS[part](bench)
        except (SetupError, BenchError, OSError) as error:
            print(f"tests/bench: {part}: {error}", file=sys.stderr)
            status = 2
            continue
        print(table.text(found), flush=True)
        if args.write:
            table.write(found)
    return status


if __name__ == "__main__":
    sys.exit(main())
