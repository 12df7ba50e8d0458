"""Whole runs among liars: whatever an outside tool does, the chain goes on, or ends with the original bytes.

Every lie is told in the place of every tool, on a real module.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pkghook.model import Outcome, State
from tests import inprocess, modules
from tests.inprocess import HOME
from tests.liars.room import FORGERIES, NAME, STEPS, VERSION, Room, before, forged, right
from tests.liars.tools import LIES
from tests.liars.ways import HANGS, HONEST, JUDGED, OTHERWISE, WITH_RIGHT
from tests.processes import alive, until
from tests.support import need_tool


@pytest.fixture
def room(corpus: Path, tmp_path: Path) -> Room:
    """One room."""
    return Room(tmp_path, before(corpus))


# --- each lie, told by each tool -------------------------------------------------------------------------------------

PLAIN = sorted(LIES.keys() - HANGS - WITH_RIGHT - OTHERWISE)
PLAIN_HANGS = sorted(HANGS - WITH_RIGHT)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lie", [*PLAIN, *PLAIN_HANGS])
def test_lie(room: Room, step: str, lie: str) -> None:
    room.lie(step, lie)
    rejected = Outcome.REJECTED if lie in JUDGED else Outcome.FAILED
    first = room.falls_to_native(step, Outcome.TIMED_OUT if lie in HANGS else rejected)
    assert bool(first.findings) == (first.outcome is Outcome.REJECTED)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", FORGERIES)
def test_forgery(corpus: Path, room: Room, tmp_path: Path, step: str, what: str) -> None:
    (tmp_path / "other").write_bytes(forged(corpus, what))
    room.lie(step, "writes another module", other=tmp_path / "other")
    first = room.falls_to_native(step, Outcome.REJECTED)
    ids = [finding.id for finding in first.findings]
    assert set(ids) & set(FORGERIES[what][1].split("|")), ids
    assert first.why.startswith(ids[0])
    assert all(finding.subject == f"{HOME}/{NAME}" for finding in first.findings)


@pytest.mark.parametrize("lie", sorted(WITH_RIGHT - HONEST))
def test_right_bytes_and_yet_a_lie(room: Room, tmp_path: Path, lie: str) -> None:
    """The right bytes with exit status 1, in the wrong place, before a hang, or with gigabytes behind them."""
    (tmp_path / "other").write_bytes(right(room.data))
    room.lie("objcopy", lie, other=tmp_path / "other")
    room.falls_to_native("objcopy", Outcome.TIMED_OUT if lie in HANGS else Outcome.FAILED)


@pytest.mark.parametrize("step", STEPS)
def test_spoilt_input_does_not_reach_the_module(room: Room, tmp_path: Path, step: str) -> None:
    """The tool had a copy, so what it wrote elsewhere may be right."""
    (tmp_path / "other").write_bytes(right(room.data))
    room.lie(step, "spoils its input too", other=tmp_path / "other")
    entry = room.strip(step, "native").entry(NAME)
    assert (entry.state, entry.step, entry.findings) == (State.STRIPPED, step, ())
    assert room.path.read_bytes() == right(room.data)


@pytest.mark.parametrize("step", STEPS)
def test_real_objcopy_that_drops_more(corpus: Path, tmp_path: Path, step: str) -> None:
    room = Room(tmp_path, modules.image(modules.named(corpus, "amd64", "crc7")))
    room.lie(step, "drops .modinfo", objcopy=need_tool("objcopy"))
    assert room.falls_to_native(step, Outcome.REJECTED).findings[0].id == "alloc-changed"


@pytest.mark.parametrize("step", STEPS)
def test_absent_tool(room: Room, step: str) -> None:
    assert "; package " in room.falls_to_native(step, Outcome.ABSENT, version="").why


@pytest.mark.parametrize("step", STEPS)
def test_tool_that_cannot_be_started(room: Room, step: str) -> None:
    (room.bin / step).write_text("#!/no/such/interpreter\n")
    (room.bin / step).chmod(0o755)
    first = room.falls_to_native(step, Outcome.FAILED, version=f"{step}: of unknown version")
    assert first.why == "cannot be started: No such file or directory"


# --- nothing but liars -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [*PLAIN, *PLAIN_HANGS])
def test_only_liars(room: Room, lie: str) -> None:
    steps = STEPS if lie not in HANGS else STEPS[:2]
    for step in steps:
        room.lie(step, lie)
    room.fails({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.REJECTED}, *steps)


@pytest.mark.parametrize("what", FORGERIES)
def test_only_forgers(corpus: Path, room: Room, tmp_path: Path, what: str) -> None:
    (tmp_path / "other").write_bytes(forged(corpus, what))
    for step in STEPS:
        room.lie(step, "writes another module", other=tmp_path / "other")
    job = room.fails({Outcome.REJECTED}, *STEPS)
    assert [version for _, version in job.receipt.tools] == [VERSION.format(step) for step in sorted(STEPS)]


def test_no_tool_at_all(room: Room) -> None:
    job = room.fails({Outcome.ABSENT}, *STEPS)
    assert job.receipt.tools == ()
    for package in ("binutils", "elfutils", "llvm"):
        assert f"package {package})" in job.out


def test_different_lies_one_after_the_other(room: Room) -> None:
    """The chain passes all of them, and says so of each."""
    room.lie("objcopy", "asserts")
    room.lie("strip", "hangs")
    room.lie("eu-strip", "is killed")
    entry = room.strip("objcopy", "strip", "eu-strip", "llvm-strip", "native").entry(NAME)
    assert [(a.step, a.outcome.value) for a in entry.attempts] == [
        ("objcopy", "failed"),
        ("strip", "timed-out"),
        ("eu-strip", "failed"),
        ("llvm-strip", "absent"),
        ("native", "passed"),
    ]
    fallen = str(dict(entry.findings[0].evidence)["fallen"])
    assert fallen.startswith("objcopy failed: exit status 0: BFD: BFD (GNU Binutils) 2.40 assertion fail")
    for said in (
        "; strip timed-out: not done within 0.4 s",
        "; eu-strip failed: killed by SIGSEGV",
        "; llvm-strip absent: ",
    ):
        assert said in fallen


# --- liars that do harm ----------------------------------------------------------------------------------------------


def test_tool_that_removes_all_that_it_finds(room: Room) -> None:
    """Its working directory is the private one, so it finds nothing of the tree."""
    room.lie("objcopy", "writes nothing")
    script = (room.bin / "objcopy").read_text("utf-8")
    (room.bin / "objcopy").write_text(script.replace("\nexit 0\n", "\nrm -rf -- * .[!.]*; exit 0\n"))
    assert "rm -rf" in (room.bin / "objcopy").read_text("utf-8")
    room.falls_to_native("objcopy", Outcome.FAILED)


def test_tool_that_removes_its_directory(room: Room) -> None:
    """The scratch files of the next step find a new one."""
    room.lie("objcopy", "writes nothing")
    script = (room.bin / "objcopy").read_text("utf-8")
    (room.bin / "objcopy").write_text(script.replace("\nexit 0\n", '\nrm -rf -- "$(pwd -P)"; exit 0\n'))
    room.falls_to_native("objcopy", Outcome.FAILED)


def test_tool_that_outlives_its_time(room: Room, tmp_path: Path) -> None:
    """What it has started is gone with it."""
    room.lie("objcopy", "hangs with a grandchild")
    script = (
        (room.bin / "objcopy").read_text("utf-8").replace("sleep 600 & ", f"sleep 600 & echo $! > '{tmp_path}/pid'; ")
    )
    (room.bin / "objcopy").write_text(script)
    room.falls_to_native("objcopy", Outcome.TIMED_OUT)
    pid = int((tmp_path / "pid").read_text())
    assert until(lambda: not alive(pid), 1.0)


def test_child_that_writes_after_its_parent_has_ended(room: Room, tmp_path: Path) -> None:
    """Into the file that was proven, if that were still the tool's own."""
    (tmp_path / "other").write_bytes(right(room.data))
    for number in range(3):
        inprocess.put(room.root, f"copy-{number}.ko", room.data)
    room.names = set(inprocess.digests(room.root))
    room.lie("objcopy", "writes again later", other=tmp_path / "other")
    job = inprocess.strip(room.root, "--chain", "objcopy,native", "-j1", PATH=str(room.bin))
    assert job.states == {State.STRIPPED: 4}
    assert {path.read_bytes() for path in (room.root / HOME).iterdir()} == {right(room.data)}
