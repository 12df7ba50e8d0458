"""Room for copies of a kernel's modules, a gigabyte and more: in memory where that is plenty, else on disk."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.setup.apt import SetupError
from tests.setup.kernels import size_text

SHM = Path("/dev/shm")  # noqa: S108 only asked for room; what is made there has a name of its own
PREFIX = "pkghook-test."
NEW = 60  # seconds
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
    """A directory of our own there, for a while; those of runs that were killed go first."""
    sweep(place)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as scratch, held(Path(scratch)):
        yield Path(scratch)


@contextmanager
def held(directory: Path) -> Iterator[bool]:
    """Whether nobody else holds the directory; if so, we do, for as long as we live at the most."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def sweep(place: Path) -> None:
    """Remove what nobody holds any more. One that is being made is not held yet, so new ones are left alone."""
    for directory in place.glob(f"{PREFIX}*"):
        try:
            if time.time() - directory.stat().st_mtime > NEW:
                with held(directory) as free:
                    if free:
                        shutil.rmtree(directory)
        except OSError:  # another user's, or another process was quicker
            continue
