"""Room for copies of a kernel's modules, a gigabyte and more: in memory where that is plenty, else on disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.setup.apt import SetupError
from tests.setup.kernels import size_text

SHM = Path("/dev/shm")  # noqa: S108 only asked for room; what is made there has a name of its own
SHARE = 3  # it is taken for no more than this part of what is free there


def find(wanted: int, otherwise: Path) -> Path:
    """A place with room for `wanted` bytes; SetupError where there is none."""
    if SHM.is_dir() and shutil.disk_usage(SHM).free > SHARE * wanted:
        return SHM
    free = shutil.disk_usage(otherwise).free
    if free < wanted:
        raise SetupError(f"{size_text(wanted)} are needed in {otherwise}, {size_text(free)} are free")
    return otherwise


@contextmanager
def made(place: Path) -> Iterator[Path]:
    """A directory of our own there, for a while."""
    with tempfile.TemporaryDirectory(prefix="pkghook-test.", dir=place) as scratch:
        yield Path(scratch)
