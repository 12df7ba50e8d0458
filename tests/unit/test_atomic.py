"""A small file is replaced as a whole or not at all."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from pkghook import atomic, cli
from pkghook.errors import InputError


@pytest.mark.parametrize("fsync", [False, True])
def test_a_new_file_and_an_old_one(tmp_path: Path, *, fsync: bool) -> None:
    """The bytes are there and nothing else."""
    path = tmp_path / ("n" * 255)
    atomic.write(str(path), b"one", fsync=fsync)
    first = path.stat().st_ino
    atomic.write(str(path), b"two", fsync=fsync)
    assert path.read_bytes() == b"two"
    assert path.stat().st_ino != first
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    """As the user's umask says."""
    mask = os.umask(0o027)
    try:
        atomic.write(str(tmp_path / "f"), b"")
    finally:
        os.umask(mask)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_a_name_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any directory in it."""
    monkeypatch.chdir(tmp_path)
    atomic.write("f", b"here")
    assert (tmp_path / "f").read_bytes() == b"here"


def test_a_symlink_stays(tmp_path: Path) -> None:
    """Its target is replaced, or made."""
    (tmp_path / "d").mkdir()
    link = tmp_path / "link"
    link.symlink_to("d/target")
    for data in (b"one", b"two"):
        atomic.write(str(link), data)
        assert link.is_symlink()
        assert (tmp_path / "d" / "target").read_bytes() == data


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    """As in `--receipt >(program)`."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_bytes()))
    reader.start()
    atomic.write(str(fifo), b"bytes")
    reader.join(10)
    assert got == [b"bytes"]
    assert fifo.is_fifo()


def test_what_is_open_already_is_written_to(tmp_path: Path) -> None:
    """Replacing the file behind /dev/stdout would lose what is written to it afterwards."""
    file = tmp_path / "f"
    with file.open("wb", buffering=0) as stream:
        atomic.write(f"/proc/self/fd/{stream.fileno()}", b"one")
        stream.seek(0, os.SEEK_END)
        stream.write(b"two")
    assert file.read_bytes() == b"onetwo"


def test_errors_name_the_file(tmp_path: Path) -> None:
    """A directory, a missing directory, a loop of links."""
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (("", "Is a directory"), ("no/f", "No such file"), ("loop", "Too many levels of symbolic links")):
        with pytest.raises(InputError, match=f"{name}: cannot be written: {why}"):
            atomic.write(str(tmp_path / name), b"")


def test_a_full_device() -> None:
    """The error of the last moment is told too."""
    with pytest.raises(InputError, match="/dev/full: cannot be written: No space left"):
        atomic.write("/dev/full", b"x")


def test_the_old_bytes_stay_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no scratch file does."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        atomic.write(str(path), b"new", fsync=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


LEFT = ".pkghook-0123456789abcdef"


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    """But nothing that only looks like it."""
    (tmp_path / LEFT).write_bytes(b"half")
    others = [".pkghook-0123456789abcde", ".pkghook-0123456789abcdeg", "pkghook-0123456789abcdef", "f"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / LEFT.replace("0", "1")).mkdir()
    (tmp_path / LEFT.replace("0", "2")).symlink_to("f")
    atomic.write(str(tmp_path / "f"), b"new")
    assert {path.name for path in tmp_path.iterdir()} == {*others, LEFT.replace("0", "1"), LEFT.replace("0", "2")}


def test_what_is_being_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers at once: neither takes the other's scratch file away, up to the rename."""
    path, rename = tmp_path / "f", os.rename

    def late(*names: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        atomic.write(str(path), b"two")
        rename(*names)

    monkeypatch.setattr(os, "rename", late)
    atomic.write(str(path), b"one")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_scratch_file_swept_before_it_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer takes another."""
    hold = atomic._hold  # noqa: SLF001

    def late(fd: int) -> bool | None:
        monkeypatch.setattr(atomic, "_hold", hold)
        (left,) = tmp_path.iterdir()
        left.unlink()
        return hold(fd)

    monkeypatch.setattr(atomic, "_hold", late)
    atomic.write(str(tmp_path / "f"), b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_directory_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is swept, and that is all."""

    def refused(_: str) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refused)
    atomic.write(str(tmp_path / "f"), b"new")
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize("name", ["a.ko", "a.ko.xz", "a.ko.gz", "a.ko.zst"])
def test_modules_are_not_replaced(tmp_path: Path, name: str) -> None:
    """A receipt or record that is named like one: by a wrong word on the command line."""
    (tmp_path / name).write_bytes(b"module")
    with pytest.raises(InputError, match="is named like a kernel module"):
        atomic.check(str(tmp_path / name))
    for argv in (["strip", "--dry-run", "--receipt"], ["strip", "--receipt"], ["record", "--out"]):
        assert cli.main([*argv, str(tmp_path / name), str(tmp_path)]) == 2
    assert (tmp_path / name).read_bytes() == b"module"
    assert os.listdir(tmp_path) == [name]
