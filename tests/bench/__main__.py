"""python3 -m tests.bench [-n N] [--dir DIR] [--only TEXT] [--write] [PART...]: speed and memory, paired in one run.

Every round lets each rival have its turn, on a copy of its own that is not timed, in a warm page cache; what is
shown is the median of the rounds, and of the ratios within each round.  `tests/run --full bench` fetches what it needs,
`tests/run --full big` the full kernel for the parts that are run by hand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench import big, measure, packages, peers, rivals, samples, table
from tests.bench.contest import Bench, Group, figures, show
from tests.bench.measure import BenchError, Used
from tests.bench.rivals import Place
from tests.bench.table import Figures
from tests.setup import kernels, room
from tests.setup.apt import SetupError

STARTS = 8  # for each round: a start is over in milliseconds


# --- parts -----------------------------------------------------------------------------------------------------------


def tree(bench: Bench) -> list[Figures]:
    """All unstripped modules of the amd64 kernel."""
    modules = samples.unstripped(bench.home, "amd64")
    return bench.contests([Group(peers.TREE, modules, samples.subject(modules))])


def tree_xz(bench: Bench) -> list[Figures]:
    """The same, compressed."""
    plain = samples.unstripped(bench.home, "amd64")
    twin = bench.home / "amd64" / "dbg-xz"
    show(f"modules as .ko.xz in {twin}: {'there' if twin.is_dir() else 'made once, some minutes'}")
    modules = samples.compressed(plain, twin)
    return bench.contests([Group(peers.TREE_XZ, modules, samples.subject(modules))])


def largest(bench: Bench) -> list[Figures]:
    """The largest module there is: amdgpu of Debian's riscv64 kernel, 858 MB."""
    source = samples.largest(bench.home)
    return bench.contest(rivals.LARGEST, source, f"{source.name}, {kernels.size_text(source.stat().st_size)}")


def rpm(bench: Bench) -> list[Figures]:
    """All unstripped modules of the amd64 kernel, packed by rpmbuild."""
    from tests.bench.packing import PACKINGS  # it brings pytest along: see `measure.run` on memory

    modules = samples.unstripped(bench.home, "amd64")
    source = modules.root
    cache = kernels.cache_dir()
    turns: list[list[Used]] = []
    show(f"packing {bench.rounds} times, {len(PACKINGS)} ways")
    for _ in range(bench.rounds):
        turns.append([])
        for packing in PACKINGS:
            with room.made(bench.place or room.find(2 * rivals.size_of(source), cache)) as scratch:
                turns[-1].append(packing.run(scratch, source))
    return figures([(each.what, each.command) for each in PACKINGS], turns, samples.subject(modules))


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


def check(bench: Bench) -> list[Figures]:
    """Packages with all unstripped modules of the amd64 kernel, against what only unpacks them."""
    modules = samples.unstripped(bench.home, "amd64")
    found = []
    for kind in packages.PAYLOADS:
        show(f"a package of {samples.subject(modules)}, {kind}")
        package = packages.made(kind, kernels.cache_dir() / "packages", modules.root)
        found += bench.contest(rivals.packages(kind), package, f"{samples.subject(modules)}, {kind}")
    return found


PARTS: dict[str, Callable[[Bench], list[Figures]]] = {
    "start": start,
    "tree": tree,
    "tree-xz": tree_xz,
    "largest": largest,
    "audit": audit,
    "check": check,
    "rpm": rpm,
}
BIG: dict[str, Callable[[Bench], list[Figures]]] = {"full": big.full, "sizes": big.sizes}


def main() -> int:
    """Command line; exit status 0, or 2 when something could not be measured."""
    parser = argparse.ArgumentParser(prog="tests/bench", description=__doc__)
    parser.add_argument("-n", type=int, help="rounds [default: 5; of the big parts 3]")
    parser.add_argument("--dir", type=Path, help="place for copies [default: memory, if there is plenty]")
    parser.add_argument("--only", default="", metavar="TEXT", help="rivals with TEXT in their name, and the first")
    parser.add_argument("--write", action="store_true", help=f"put the rows into {table.RESULTS.name}")
    parser.add_argument("part", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} [default: all]; {', '.join(BIG)}")
    args = parser.parse_args()
    if unknown := set(args.part) - set(PARTS | BIG):
        parser.error(f"there is no part {min(unknown)}")
    table.commit()
    status = 0
    for part in args.part or PARTS:
        bench = Bench(kernels.corpus_dir(), args.n or (3 if part in BIG else 5), args.dir, args.only)
        try:
            found = (PARTS | BIG)[part](bench)
        except (SetupError, BenchError, OSError) as error:
            print(f"tests/bench: {part}: {error}", file=sys.stderr)
            status = 2
            continue
        print(table.text(found), flush=True)
        if args.write:
            table.write(found)
            subprocess.run([sys.executable, "-m", "tests.bench.picture"], cwd=table.CHECKOUT, check=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
