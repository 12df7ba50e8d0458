"""`python3 -m tests.fuzz [TARGET...]`: the full counts; what was run of the same code before counts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.fuzz import cover, runner, seeds
from tests.fuzz.oracle import Cost, Meter, check
from tests.fuzz.runner import Outcome, Work, line
from tests.fuzz.targets import TARGETS
from tests.setup import kernels


def main() -> int:
    """Exit status: 0, 1 if anything was found, 2 if nothing could be run."""
    asked = arguments()
    if asked.again:
        again(asked.again)
        return 0
    if why := runner.missing():
        print(f"not run: {why}", file=sys.stderr)
        return 2
    home = asked.dir or kernels.cache_dir() / "fuzz"
    works = []
    for name in asked.targets or TARGETS:
        seeds.make(name, kernels.corpus_dir(), home / name / "seeds")
        runner.forget_mended(home / name / "found")
        works.append(Work(name, TARGETS[name].readers, runs=TARGETS[name].number))
    outcomes = runner.run(works, home, lambda text: print(text, flush=True))
    for outcome in outcomes:
        print(told(outcome, home / outcome.work.name))
    return 1 if any(outcome.found for outcome in outcomes) else 0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--dir", type=Path, help="where corpora, counts and findings are kept, by default in the cache")
    parser.add_argument("--again", type=Path, metavar="FILE", help="one input, named TARGET-..., once more")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    return asked


def again(path: Path) -> None:
    """What an input does, with its traceback."""
    target, data = TARGETS[path.name.partition("-")[0]], path.read_bytes()

    def run() -> None:
        try:
            target.run(data)
        except target.errors as error:
            print(f"refused, as it may be: {error}")

    cost: Cost = Meter().cost(run)
    print(f"{cost.seconds:.3f} s, {cost.memory >> 10} KiB")
    check(cost, len(data))


def told(outcome: Outcome, home: Path) -> str:
    """Counts, coverage and findings, for tests/RESULTS.md and for who has to mend them."""
    name = outcome.work.name
    begin, now = cover.measure(name, home / "seeds"), cover.measure(name, home / "seeds", home / "corpus")
    lines = [f"{line(outcome)}; {now.taken} of {now.all} branches, {now.share:.1f} % (seeds alone {begin.share:.1f} %)"]
    lines += [f"    not taken: {path} {branches}" for path, branches in now.missed.items()]
    lines += [f"    found: {path}" for path in outcome.found]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
