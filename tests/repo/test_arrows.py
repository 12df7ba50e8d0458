"""The package's shape: imports point downward only, wings do not see each other, a start loads little."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.repo.tree import Import, imports, modules

WINGS = ("sources", "ko", "chain", "judge", "report")
# From the bottom to the top; what stands on one level does not see its neighbours.
LEVELS = (
    ("values",),
    ("findings",),
    ("errors",),
    ("model",),
    ("atomic", "fields", "parcel", "proc", "settings", "stopping", "stuck"),
    WINGS,
    ("split",),
    ("attempt", "pool"),
    ("work",),
    ("stories",),
    ("cli",),
    ("__main__",),
)
ALLOWED = {("chain", "ko")}

# Start-up time: these cost more than stripping a module does, so they are imported where they are used.
# Sizes and times: `python3 -X importtime -m pkghook strip DIR`.
HEAVY = frozenset({
    "argparse", "ctypes", "dataclasses", "gzip", "importlib.resources", "inspect", "logging", "lzma", "multiprocessing",
    "pathlib", "random", "shutil", "subprocess", "tempfile", "tomllib", "traceback", "zlib",
    "debian", "elftools", "rich", "rpmfile", "zstandard",
})  # fmt: skip


def part(name: str) -> str:
    """The wing or file directly below the package that a module belongs to; "" for the package itself and strangers."""
    head, _, rest = name.partition(".")
    return rest.partition(".")[0] if head == "pkghook" else ""


def level(name: str) -> int:
    """How high a part stands; fails for one that nobody has given a place."""
    for height, parts in enumerate(LEVELS):
        if name in parts:
            return height
    pytest.fail(f"pkghook/{name} has no place in LEVELS: which level is it on?")


def ours(name: str) -> Iterator[Import]:
    """The imports of a module that stay within the package."""
    return (found for found in imports(name) if part(found.target))


@pytest.mark.parametrize("name", modules())
def test_imports_point_downward(name: str) -> None:
    here = part(name)
    for found in ours(name) if here else ():
        there = part(found.target)
        if there != here and (here, there) not in ALLOWED:
            assert level(there) < level(here), f"{modules()[name]}:{found.line}: {here} must not see {there}"


def test_package_itself_imports_nothing() -> None:
    assert imports("pkghook") == ()


def test_no_knots() -> None:
    graph = {name: {found.target for found in ours(name) if found.top and found.target != name} for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' -> '.join(error.args[1])}")


def hot_path() -> set[str]:
    """Every module that `strip` on plain .ko may load: what its story reaches by imports at top level."""
    todo, seen = ["pkghook.cli", "pkghook.stories.strip"], set()
    while todo:
        name = todo.pop()
        if name in modules() and name not in seen:
            seen.add(name)
            todo += [found.target for found in imports(name) if found.top]
            todo.append(name.rpartition(".")[0])  # its package's __init__ is run too
    return seen


def test_hot_path_imports_nothing_heavy() -> None:
    for name in sorted(hot_path()):
        for found in imports(name):
            heavy = {found.target, found.target.split(".")[0]} & HEAVY
            assert not (found.top and heavy), f"{modules()[name]}:{found.line}: import {found.target} where it is used"


def test_version_loads_next_to_nothing() -> None:
    """`--version` is asked for by every hook: it may load the command line and what Python itself has loaded."""
    code = "import sys; from pkghook.cli import main; main(['--version']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert {name for name in loaded - set(bare.stdout.split()) if not name.startswith("pkghook")} <= {"__future__"}
