"""`chain.tools.run_step` among liars: each is caught, or leaves something for the verifier to judge."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook.chain.steps import STEPS, Step
from pkghook.chain.tools import Tools, run_step
from pkghook.model import Attempt, Outcome
from tests.liars.tools import LIES, liar
from tests.liars.ways import WAYS

CONTENTS = bytes(range(256)) * 40
OUTSIDE = [step for step in STEPS.values() if step.tool]


class Room(NamedTuple):
    """A private PATH, a scratch directory, and a file to strip."""

    bin: Path
    scratch: Path
    fd: int

    def attempt(self, step: str | Step, timeout: float = 10.0) -> tuple[str, Attempt | None]:
        """One step with the tool of the private PATH."""
        row = STEPS[step] if isinstance(step, str) else step
        tool = Tools().find(row, 62)
        assert tool is not None
        assert tool.path.startswith(str(self.bin))
        listfile = self.bin / "list"
        listfile.write_text("foo\n")
        return run_step(row, tool, self.fd, str(self.scratch), str(listfile), timeout=timeout)

    def failed(self, lie: str, timeout: float = 10.0, **values: object) -> Attempt:
        """How an attempt with that liar fails; nothing may be left of it."""
        liar(self.bin, "objcopy", lie, **values)
        path, attempt = self.attempt("objcopy", timeout)
        assert path == ""
        assert attempt is not None
        assert os.listdir(self.scratch) == []
        assert (attempt.step, attempt.version, attempt.findings) == ("objcopy", "objcopy: liar 1.0", ())
        return attempt


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A room whose file's offset is not 0."""
    for name in ("bin", "scratch"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    module = tmp_path / "module.ko"
    module.write_bytes(CONTENTS)
    with module.open("rb") as file:
        os.lseek(file.fileno(), 1000, os.SEEK_SET)
        yield Room(tmp_path / "bin", tmp_path / "scratch", file.fileno())


@pytest.mark.parametrize("step", OUTSIDE, ids=lambda step: step.name)
def test_a_tool_reads_the_image_and_writes_a_file_of_its_own(room: Room, step: Step) -> None:
    liar(room.bin, step.tool, "honest copy")
    path, attempt = room.attempt(step)
    assert attempt is None
    assert Path(path).read_bytes() == CONTENTS
    assert Path(path).parent == room.scratch
    assert os.listdir(room.scratch) == [Path(path).name]


@pytest.mark.parametrize("lie", ["writes half a module", "floods stdout"])
def test_what_only_the_verifier_can_tell(room: Room, lie: str) -> None:
    liar(room.bin, "strip", lie)
    path, attempt = room.attempt("strip")
    assert attempt is None
    assert 0 < os.stat(path).st_size <= len(CONTENTS)


def test_another_module_is_for_the_verifier(room: Room, tmp_path: Path) -> None:
    (tmp_path / "other.ko").write_bytes(b"other")
    liar(room.bin, "strip", "writes another module", other=tmp_path / "other.ko")
    path, attempt = room.attempt("strip")
    assert attempt is None
    assert Path(path).read_bytes() == b"other"


@pytest.mark.parametrize(
    ("lie", "why"),
    [
        ("writes nothing", "exit status 0, but wrote nothing"),
        ("writes an empty file", "exit status 0, but wrote an empty file"),
        ("writes a directory", "exit status 0, but wrote something that is no regular file"),
        ("writes a link", "exit status 0, but wrote something that is no regular file"),
        ("writes a pipe", "exit status 0, but wrote something that is no regular file"),
        ("asserts", "exit status 0: BFD: BFD (GNU Binutils) 2.40 assertion fail ../../bfd/elf.c:4131"),
        ("warns about its files", "exit status 0: objcopy: warning: IN: odd; see OUT"),
        ("fails without a word", "exit status 3 without a message"),
        ("fails with many words", "objcopy: IN: complaint 1 (2 more lines)"),
        ("prints control characters", "[31mred [0m tab \ufffd"),
        ("prints one long line", "x" * 197 + "..."),
        ("leaves a child behind", "exit status 0, but something that it started still runs"),
        ("is killed", "killed by SIGSEGV"),
        ("is killed with words", "killed by SIGKILL: objcopy: out of memory"),
        ("is killed by an odd signal", "killed by signal 40"),
        ("floods stderr", "exit status 0: a line of no use (at least 3855 more lines)"),
    ],
)
def test_lies(room: Room, lie: str, why: str) -> None:
    attempt = room.failed(lie)
    assert attempt.outcome is Outcome.FAILED
    assert attempt.why == why


@pytest.mark.parametrize("lie", ["hangs", "hangs with a grandchild"])
def test_a_tool_that_hangs(room: Room, lie: str) -> None:
    start = time.monotonic()
    attempt = room.failed(lie, timeout=0.5)
    assert (attempt.outcome, attempt.why) == (Outcome.TIMED_OUT, "not done within 0.5 s")
    assert time.monotonic() - start < 5


def test_a_tool_that_cannot_be_started(room: Room) -> None:
    (room.bin / "objcopy").write_text("#!/no/such/interpreter\n")
    (room.bin / "objcopy").chmod(0o755)
    path, attempt = room.attempt("objcopy")
    why = "cannot be started: No such file or directory"
    assert (path, attempt) == ("", Attempt("objcopy", "objcopy: of unknown version", Outcome.FAILED, why))


@pytest.mark.parametrize("kind", ["directory", "plain file"])
def test_what_is_named_like_a_tool_and_is_none(room: Room, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("PATH", str(room.bin))
    if kind == "directory":
        (room.bin / "objcopy").mkdir()
    else:
        (room.bin / "objcopy").write_text("#!/bin/sh\n")
    tools = Tools()
    assert tools.find(STEPS["objcopy"], 62) is None
    assert tools.absent(STEPS["objcopy"], 62).outcome is Outcome.ABSENT


def test_one_liar_after_the_other_in_one_directory(room: Room) -> None:
    """What one attempt left is never taken for the work of the next."""
    liar(room.bin, "objcopy", "honest copy")
    path, attempt = room.attempt("objcopy")
    assert os.path.exists(path)
    assert attempt is None
    assert room.failed("writes nothing").why == "exit status 0, but wrote nothing"


def test_same_words_in_any_directory(room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = room.failed("warns about its files")
    elsewhere = tmp_path / "else where"
    (elsewhere / "scratch").mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{elsewhere}/bin:{os.environ['PATH']}")
    fd = os.dup(room.fd)
    try:
        assert Room(elsewhere / "bin", elsewhere / "scratch", fd).failed("warns about its files") == first
    finally:
        os.close(fd)


def test_where_proc_is_missing_a_tool_gets_a_copy(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkghook.chain.tools.DEV_FD", "/nowhere")
    liar(room.bin, "objcopy", "honest copy")
    path, attempt = room.attempt("objcopy")
    assert attempt is None
    assert Path(path).read_bytes() == CONTENTS
    assert os.listdir(room.scratch) == [Path(path).name]
    assert room.failed("warns about its files").why.endswith("warning: IN: odd; see OUT")


def test_each_lie_is_told(room: Room) -> None:
    """The scripts are sound: an honest tool with the same prelude does its work, and no lie is forgotten here."""
    told = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert {lie for lie in LIES if f'"{lie}"' not in told} <= WAYS.keys() | {"drops .modinfo"}  # see the matrix
    assert room.failed("writes nothing").outcome is Outcome.FAILED
