"""The trees that all tests of faults share: a small one for tests/run, two hundred modules for --full faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import jobs
from tests.faults import shim
from tests.faults.ground import LIMIT, Ground

QUICK, SMALL, LARGE = 20, 24, 200
COPIES = 5


@pytest.fixture(scope="session")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the trees lie: in memory, if there is any, since a process that waits for a busy disk does not die."""
    with jobs.roomy(COPIES * LARGE * LIMIT, tmp_path_factory.mktemp("ground")) as place:
        yield place


@pytest.fixture(scope="session")
def ground_for(corpus: Path, memory: Path) -> Callable[[int], Ground]:
    """The ground for so many faults."""
    preload = shim.build(memory)

    @cache
    def made(size: int) -> Ground:
        (memory / str(size)).mkdir()
        return Ground(memory / str(size), preload, corpus, size)

    return lambda faults: made(SMALL if faults <= QUICK else LARGE)
