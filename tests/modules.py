"""The real modules of the corpus: unstripped ones, and for each the one that its distribution ships."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from pkghook.ko.file import load
from tests.support import lacking, need_kernel

LIMIT = 4 << 30
MARKER = b"~Module signature appended~\n"
WITH_DEBUG = ("amd64", "arm64", "s390x", "armel")  # 64 and 32 bits, both byte orders, RELA and REL


@cache
def unstripped(corpus: Path, kernel: str) -> tuple[Path, ...]:
    """All of a kernel, the smallest first."""
    found = need_kernel(corpus, kernel, "dbg").rglob("*.ko")
    return tuple(sorted(found, key=lambda path: (path.stat().st_size, str(path))))


def sample(corpus: Path, kernel: str, number: int, *, limit: int = 0) -> list[Path]:
    """About `number` of them: the smallest, the largest (up to `limit` bytes, if given), and evenly between."""
    paths = [path for path in unstripped(corpus, kernel) if not limit or path.stat().st_size <= limit]
    step = max(1, (len(paths) - 1) // max(1, number - 1))
    return sorted({*paths[::step], paths[-1]})


def stem(path: Path) -> str:
    """The part of a path below lib/modules, without a compression's suffix."""
    return str(path).rpartition("/lib/modules/")[2].partition(".ko")[0]


@cache
def _shipped(corpus: Path, kernel: str) -> dict[str, Path]:
    return {stem(path): path for path in need_kernel(corpus, kernel, "shipped").rglob("*.ko*")}


def shipped(corpus: Path, kernel: str, path: Path) -> Path:
    """The module that the distribution ships for an unstripped one."""
    return _shipped(corpus, kernel)[stem(path)]


def named(corpus: Path, kernel: str, name: str) -> Path:
    """The unstripped module of this name."""
    for path in unstripped(corpus, kernel):
        if path.name == f"{name}.ko":
            return path
    return lacking(f"{kernel} has no module {name}")


def image(path: Path) -> bytes:
    """A module's ELF file: without compression, without signature."""
    fd = os.open(path, os.O_RDONLY)
    try:
        loaded = load(fd, path.name, limit=LIMIT).image
        return loaded.read(0, loaded.size)
    finally:
        os.close(fd)


def unsigned(image: bytes) -> bytes:
    """The module up to its signature: blob, a descriptor of 12 bytes that ends with the blob's size, MARKER."""
    if not image.endswith(MARKER):
        return image
    end = len(image) - len(MARKER)
    return image[: end - 12 - int.from_bytes(image[end - 4 : end], "big")]
