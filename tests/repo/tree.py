"""The repository as the tests over it see it: its files, its modules and what they import."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "pkghook"
SKIPPED = {".git", ".venv", "build", "dist", "__pycache__"}


class Import(NamedTuple):
    """One import statement's target, as seen from a module of ours."""

    target: str  # dotted
    line: int
    top: bool  # run when the module is imported: neither in a function nor under TYPE_CHECKING


@cache
def files() -> tuple[Path, ...]:
    """Every file that belongs to the repository: what git tracks or would track."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode == 0:  # git refuses a checkout of another user's
            listed = {ROOT / name.decode() for name in done.stdout.split(b"\0") if name}
            return tuple(sorted(path for path in listed if path.is_file()))
    found = (path for path in ROOT.rglob("*") if path.is_file())
    return tuple(sorted(path for path in found if not SKIPPED & set(path.relative_to(ROOT).parts)))


@cache
def script(name: str) -> ModuleType:
    """A script without suffix, as a module: `tests/run`, say."""
    loader = SourceFileLoader(name.replace("/", "_"), str(ROOT / name))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # where a NamedTuple looks for its names
    loader.exec_module(module)
    return module


def texts() -> Iterator[tuple[str, str]]:
    """Relative path and contents of every file."""
    for path in files():
        yield str(path.relative_to(ROOT)), path.read_text("utf-8")


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package goes by its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(name: str) -> tuple[Import, ...]:
    """Every import of a module of ours. `from pkghook.ko import elf` counts as pkghook.ko.elf if that is a module."""
    return tuple(_walk(ast.parse(modules()[name].read_text("utf-8")), top=True))


def _walk(node: ast.AST, *, top: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide where the arrow points"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(whole if whole in modules() else str(child.module), child.lineno, top)
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_typing(child)
            yield from _walk(child, top=top and not lazy)


def _is_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
