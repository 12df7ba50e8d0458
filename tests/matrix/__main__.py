"""python3 -m tests.matrix [SUITE...]: pkghook beside the tools, Pythons and kernels of Debian 12, 13 and sid.

`rpm-4.16` is Debian 12 with Debian 11's rpm.  Makes a chroot of each suite (mmdebstrap, root; once, then kept in the
user's cache directory) and runs the cells of tests/matrix/cells.py in it.  What cannot be fetched is `not run`, never
passed; other versions than last time are no failure.  Exit status: 0; 1 when something that ran has failed; 2 when
nothing ran, or when something did not run and everything is required (PKGHOOK_REQUIRE_TOOLS).
`tests/run --full matrix` sets up what this needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pkghook.errors import PkghookError
from tests.matrix.cells import CELLS, Cell
from tests.matrix.systems import SUITES, Suite, System, opened
from tests.setup.apt import SetupError

OK, FAILED, NOT_RUN = "ok", "FAILED", "not run"


class Row(NamedTuple):
    """How a cell ended."""

    suite: str
    cell: str
    state: str
    figures: str  # or why not


def rows(suite: Suite, versions: dict[str, str]) -> Iterator[Row]:
    """Each cell of a suite as it ends; what was found goes into `versions`."""
    try:
        with tempfile.TemporaryDirectory(prefix="pkghook-matrix.") as place, opened(suite, Path(place)) as system:
            versions.update(system.versions())
            for cell in CELLS:
                if cell.name in (suite.cells or {cell.name}) and major(versions.get("rpm", "0")) >= cell.rpm:
                    yield row(system, cell)
    except (SetupError, OSError) as error:
        yield Row(suite.name, "all", NOT_RUN, str(error))


def major(version: str) -> int:
    """6 of 6.1.0."""
    return int(version.partition(".")[0])


def row(system: System, cell: Cell) -> Row:
    """One cell."""
    start = time.monotonic()
    try:
        state, text = OK, cell.run(system)
    except SetupError as error:
        state, text = NOT_RUN, str(error)
    except (AssertionError, OSError, subprocess.SubprocessError, PkghookError, LookupError, ValueError) as error:
        state, text = FAILED, f"{type(error).__name__}: {error}"
    return Row(system.suite.name, cell.name, state, f"{text} [{time.monotonic() - start:.0f} s]")


def show_versions(found: dict[str, dict[str, str]]) -> None:
    """A table, one line for each package, one column for each suite."""
    names = dict.fromkeys(name for versions in found.values() for name in versions)
    lines = [("", *found), *((name, *(versions.get(name, "-") for versions in found.values())) for name in names)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print("\nversions found")
    for line in lines:
        print("  " + "  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def main() -> int:
    """Command line."""
    names = sys.argv[1:] or list(SUITES)
    if unknown := [name for name in names if name not in SUITES]:
        print(f"tests.matrix: no suite is called {unknown[0]!r}; there are {', '.join(SUITES)}", file=sys.stderr)
        return 2
    seen: list[Row] = []
    found: dict[str, dict[str, str]] = {}
    for name in names:
        for row in rows(SUITES[name], found.setdefault(name, {})):
            seen.append(row)
            print(f"{row.suite:9} {row.cell:10} {row.state:8} {row.figures}", flush=True)
    show_versions(found)
    counts = {state: sum(row.state == state for row in seen) for state in (OK, FAILED, NOT_RUN)}
    print("\n" + ", ".join(f"{count} {state}" for state, count in counts.items()))
    for row in seen:
        if row.state != OK:
            print(f"{row.state}: {row.suite} {row.cell}")
    if counts[FAILED]:
        return 1
    required = bool(os.environ.get("PKGHOOK_REQUIRE_TOOLS"))
    return 2 if not counts[OK] or (required and counts[NOT_RUN]) else 0


if __name__ == "__main__":
    sys.exit(main())
