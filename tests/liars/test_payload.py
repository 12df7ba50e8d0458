"""The programs that undo compression: real ones, and ones that lie."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pkghook.errors import InputError
from pkghook.sources import payload
from pkghook.sources.payload import KINDS
from tests.looks import Look, look
from tests.packages_by_hand import STRING, File, control, deb, newc, rpm, rpm_tags, tar, tar_info
from tests.support import need_tool

DATA = os.urandom(1 << 18)
FILES = [File("/lib/a.ko", DATA), File("/lib/b.ko", DATA[::-1])]
CONTENTS = {file.path[1:]: file.data for file in FILES}
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "zstd": zstandard.ZstdCompressor().compress,
}
SUFFIXES = {"gzip": b".gz", "bzip2": b".bz2", "xz": b".xz", "lzma": b".lzma", "zstd": b".zst"}
LIES = {
    "prints nothing": "exit 0",
    "does not know its options": 'echo "unrecognized option" >&2; exit 1',
    "is killed at once": "kill -SEGV $$",
    "cuts the output": '"$real" "$@" | head -c 300000',
    "cuts the output and fails": '"$real" "$@" | head -c 300000; echo "no space" >&2; exit 3',
    "fails at the end": '"$real" "$@"; echo "data integrity" >&2; exit 1',
    "is killed at the end": '"$real" "$@"; kill -KILL $$',
    "hangs": '"$real" "$@" | head -c 300000; exec sleep 600',
    "changes a byte": "\"$real\" \"$@\" | tr '\\376' '\\377'",
    "prints more": '"$real" "$@"; echo more',
}
WORDS = {
    "fails at the end": "exit status 1: data integrity",
    "is killed at the end": "signal 9",
    "hangs": "gave nothing for",
    "cuts the output and fails": "exit status 3: no space",
    "cuts the output": "end after",
}
FOUND = {"changes a byte": "package-differs", "prints more": "package-trailing"}
FALLS_BACK = ("prints nothing", "does not know its options", "is killed at once")


def package(form: str, kind: str) -> bytes:
    """The same files in both forms."""
    if form == "rpm":
        tags = rpm_tags(FILES) | {1125: (STRING, [kind.encode()])}
        return rpm(tags, b"", payload=COMPRESS[kind](newc(FILES)))
    data = tar((tar_info(path), content) for path, content in CONTENTS.items())
    return deb(COMPRESS[kind](data), name=b"data.tar" + SUFFIXES[kind], control_tar=control(sums=CONTENTS))


def read(tmp_path: Path, form: str, kind: str) -> Look:
    """A look at it."""
    path = tmp_path / f"demo.{form}"
    path.write_bytes(package(form, kind))
    return look(path)


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("form", ["rpm", "deb"])
def test_honest_programs(tmp_path: Path, form: str, kind: str) -> None:
    for program in ("dpkg-deb",) if form == "deb" else KINDS[kind].argv[:1]:  # none for what is read in process
        need_tool(program)
    found = read(tmp_path, form, kind)
    assert (found.contents, found.findings, found.facts.payload) == (CONTENTS, (), kind)


@pytest.fixture
def lying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Look]:
    """A look at a package of a form while its program tells a lie."""

    def read_by_liar(form: str, lie: str) -> Look:
        name = "dpkg-deb" if form == "deb" else "xz"
        liar = tmp_path / "bin" / name
        liar.parent.mkdir()
        liar.write_text(f"#!/bin/sh\nreal='{need_tool(name)}'\n{LIES[lie]}\n")
        liar.chmod(0o755)
        monkeypatch.setenv("PATH", f"{liar.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(payload, "STALL", 3.0 if lie == "hangs" else 60.0)
        return read(tmp_path, form, "xz")

    return read_by_liar


@pytest.mark.parametrize("lie", FALLS_BACK)
@pytest.mark.parametrize("form", ["rpm", "deb"])
def test_programs_of_no_use(lying: Callable[[str, str], Look], form: str, lie: str) -> None:
    assert lying(form, lie).contents == CONTENTS


@pytest.mark.parametrize("lie", WORDS)
@pytest.mark.parametrize("form", ["rpm", "deb"])
def test_liars_that_give_too_little(lying: Callable[[str, str], Look], form: str, lie: str) -> None:
    with pytest.raises(InputError, match=rf"demo\.{form}: ") as caught:
        lying(form, lie)
    assert WORDS[lie] in caught.value.message


@pytest.mark.parametrize(("lie", "id"), FOUND.items())
@pytest.mark.parametrize("form", ["rpm", "deb"])
def test_liars_that_give_something_else(lying: Callable[[str, str], Look], form: str, lie: str, id: str) -> None:
    assert {found for found, _ in lying(form, lie).ids} == {id}
