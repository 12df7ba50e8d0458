"""Functions stay short. Please do not raise the limit: growth is what it is there to notice."""

from __future__ import annotations

import ast

import pytest

from tests.repo.tree import modules

LINES = 50  # of one function, docstring and comments included


@pytest.mark.parametrize("name", modules())
def test_functions_are_short(name: str) -> None:
    for node in ast.walk(ast.parse(modules()[name].read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LINES, f"{modules()[name]}:{node.lineno}: {node.name} has {length} lines"
