"""Whole runs among liars: whatever an outside tool does, the chain goes on, or ends with the original bytes.

Every lie is told in the place of every tool, on a real module.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from pkghook.model import Attempt, Outcome, Proof, State
from tests import inprocess, modules
from tests.inprocess import HOME
from tests.jobs import Job
from tests.liars.tools import LIES, liar
from tests.processes import alive, until
from tests.support import need_tool
from tests.surgery import Patient, native_strip

STEPS = ("objcopy", "strip", "eu-strip", "llvm-strip")
NAME = "crc-itu-t.ko"
PATIENCE = "0.4"  # seconds that a liar which hangs gets
VERSION = "{}: liar 1.0"


@cache
def before(corpus: Path) -> bytes:
    """A real module, unstripped, with a section group of code and debug information."""
    data = modules.image(modules.named(corpus, "amd64", Path(NAME).stem))
    patient = Patient(data)
    words = struct.pack("<3I", 1, patient.names.index(".text"), patient.names.index(".debug_info"))
    patient.append_section(".group", words, type=17)
    patient.set_section(".group", link=patient.symtab, info=patient.row("__this_module"), entsize=4, align=4)
    return bytes(patient)


def right(data: bytes) -> bytes:
    """The right answer."""
    return native_strip(data)


# --- what a tool may write that is not the module --------------------------------------------------------------------


def renamed(data: bytes) -> bytes:
    """Another name for a symbol, of the same length."""
    patient = Patient(right(data))
    strings = patient.section(patient.symtab, "link")
    at = patient.symbol(patient.row("crc_itu_t"), "name")
    return bytes(patient.set_bytes(strings, at, b"crc_xxx_t"))


def emptied_group(data: bytes) -> bytes:
    """What llvm-strip 14 leaves of groups."""
    return bytes(Patient(right(data)).set_section(".group", size=4))


def changed_code(data: bytes) -> bytes:
    """One bit of the code."""
    patient = Patient(right(data))
    return bytes(patient.flip(patient.section(".text", "offset") + 5))


def lost_relocation(data: bytes) -> bytes:
    """The last of the code's relocations is gone."""
    patient = Patient(right(data))
    return bytes(patient.set_section(".rela.text", size=patient.section(".rela.text", "size") - 24))


FORGERIES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "the unstripped module": (lambda data: data, "residue"),
    "another module": (lambda _: b"", "header-changed|alloc-changed|section-changed"),  # see `forged`
    "half the module": (lambda data: right(data)[: len(right(data)) // 2], "table-broken"),
    "no ELF file": (lambda _: b"usage: strip FILE\n" * 100, "table-broken"),
    "a module without .modinfo": (lambda data: bytes(Patient(right(data)).drop_section(".modinfo")), "alloc-changed"),
    "a module without __versions": (
        lambda data: bytes(Patient(right(data)).drop_section("__versions")),
        "alloc-changed",
    ),
    "a module without .BTF": (lambda data: bytes(Patient(right(data)).drop_section(".BTF")), "section-changed"),
    "an emptied group": (emptied_group, "dangling-reference|section-changed"),
    "a renamed symbol": (renamed, "symbol-changed|relocation-changed"),
    "a changed bit": (changed_code, "alloc-changed"),
    "a lost relocation": (lost_relocation, "relocation-changed"),
    "bytes behind the end": (
        lambda data: right(data) + b"garbage",
        "trailing-bytes|overstripped|shrink-below-expected",
    ),
}


def forged(corpus: Path, what: str) -> bytes:
    """The bytes that the liar writes."""
    if what == "another module":
        return right(modules.image(modules.named(corpus, "amd64", "crc7")))
    return FORGERIES[what][0](before(corpus))


# --- the rooms -------------------------------------------------------------------------------------------------------


class Room:
    """A tree with one module, and a private PATH with nothing but liars and what their scripts need."""

    def __init__(self, place: Path, data: bytes) -> None:
        self.root = place / "root"
        self.bin = place / "bin"
        self.bin.mkdir()
        self.data = data
        for name in ("cat", "head", "tr", "sleep", "mkdir", "ln", "mkfifo", "wc", "yes", "rm"):
            (self.bin / name).symlink_to(need_tool(name))
        self.path = inprocess.put(self.root, NAME, data)
        self.names = set(inprocess.digests(self.root))

    def lie(self, step: str, lie: str, **values: object) -> None:
        """Put a liar in the place of the tool of a step."""
        liar(self.bin, step, lie, **values)

    def strip(self, *steps: str) -> Job:
        """Strip by these steps; whatever happens, nothing else is in the tree afterwards."""
        job = inprocess.strip(self.root, "--chain", ",".join(steps), "--tool-timeout", PATIENCE, PATH=str(self.bin))
        assert set(inprocess.digests(self.root)) == self.names
        assert job.err == ""
        return job

    def falls_to_native(self, step: str, outcome: Outcome, version: str | None = None) -> Attempt:
        """Run `step`, then the native one: the attempt with the first, which has this outcome; the second passes."""
        job = self.strip(step, "native")
        entry = job.entry(NAME)
        first, second = entry.attempts
        assert (first.step, first.outcome) == (step, outcome), first
        assert first.version == (VERSION.format(step) if version is None else version)
        assert first.why
        assert (second.step, second.outcome) == ("native", Outcome.PASSED)
        assert (job.status, entry.state, entry.step, entry.proof) == (0, State.STRIPPED, "native", Proof.VERIFIED)
        assert self.path.read_bytes() == right(self.data)
        assert entry.sha256_after == hashlib.sha256(right(self.data)).hexdigest()
        (fell,) = entry.findings
        assert fell.id == "fell-through"
        assert dict(fell.evidence) == {"passed": "native", "fallen": f"{step} {outcome}: {first.why}"}
        self.is_told(job, entry.path, first)
        return first

    def is_told(self, job: Job, path: str, attempt: Attempt) -> None:
        """The report has the module's line with the attempt, and the finding."""
        lines = job.out.splitlines()
        assert any(line.startswith(f"stripped         {path}: {attempt.step} {attempt.outcome} (") for line in lines)
        assert any(line.startswith(f"warning: {path}: ") and line.endswith("[fell-through]") for line in lines)

    def fails(self, outcomes: set[Outcome], *steps: str) -> Job:
        """Run a chain of liars alone: nothing happens to the module, and the packaging fails."""
        job = self.strip(*steps)
        entry = job.entry(NAME)
        assert (job.status, entry.state, entry.proof, entry.step) == (1, State.FAILED, Proof.NONE, "")
        assert [attempt.step for attempt in entry.attempts] == list(steps)
        assert {attempt.outcome for attempt in entry.attempts} <= outcomes
        (finding,) = entry.findings
        assert finding.id == "chain-exhausted"
        said = dict(finding.evidence)
        assert said["attempts"] == ", ".join(f"{a.step} {a.outcome}" for a in entry.attempts)
        assert said["last"] == entry.attempts[-1].why
        assert self.path.read_bytes() == self.data
        assert f"failed           {HOME}/{NAME}: {steps[0]} " in job.out
        return job


@pytest.fixture
def room(corpus: Path, tmp_path: Path) -> Room:
    """One room."""
    return Room(tmp_path, before(corpus))


# --- each lie, told by each tool -------------------------------------------------------------------------------------

HANGS = {"hangs", "hangs with a grandchild"}
JUDGED = {"writes half a module", "honest copy", "floods stdout"}  # what they write is for the verifier
WITH_OTHER = {
    "writes another module",
    "writes another module and fails",
    "writes to its input",
    "spoils its input too",
    "drops .modinfo",
}
PLAIN = sorted(LIES.keys() - HANGS - WITH_OTHER)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("lie", [*PLAIN, *sorted(HANGS)])
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


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("lie", "outcome"),
    [("writes another module and fails", Outcome.FAILED), ("writes to its input", Outcome.FAILED)],
)
def test_right_bytes_and_yet_a_lie(room: Room, tmp_path: Path, step: str, lie: str, outcome: Outcome) -> None:
    """The right bytes with exit status 1, or in the wrong place, are not taken."""
    (tmp_path / "other").write_bytes(right(room.data))
    room.lie(step, lie, other=tmp_path / "other")
    room.falls_to_native(step, outcome)


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


@pytest.mark.parametrize("lie", [*PLAIN, *sorted(HANGS)])
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
