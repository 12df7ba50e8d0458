"""One system of the matrix with a few packages, in every run: the hook for RPM, the gate, a few modules stripped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import cells
from tests.matrix.systems import SMALL, SUITES, System, opened
from tests.modules import named
from tests.setup.apt import SetupError
from tests.support import lacking
from tests.trees import need_root

SUITE = SUITES["trixie"]  # not the one that the others of tests/run are built for, and not one that moves
MODULES = ("crc7", "crc-itu-t", "tun", "nf_conntrack")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Made once, and kept in the cache."""
    need_root()
    try:
        with opened(SUITE, tmp_path_factory.mktemp("matrix"), SMALL, plain=True) as found:
            yield found
    except SetupError as error:
        lacking(str(error))


def test_rpm(system: System, corpus: Path) -> None:
    said = cells.rpm(system, named(corpus, "amd64", "crc-itu-t"))
    assert said.endswith("the gate refused what was not stripped")


def test_strip(system: System, corpus: Path) -> None:
    said = cells.strip(system, [named(corpus, "amd64", name) for name in MODULES])
    assert said.startswith(f"{len(MODULES)} modules ")
    for step in ("default", "native", "eu-strip", "objcopy", "strip"):
        assert f", {step} {len(MODULES)}" in said.replace(";", ","), said
