"""A room for a liar: a tree with one module, a private PATH, and what a run in there must come to."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

from pkghook.model import Attempt, Outcome, Proof, State
from tests import inprocess, modules
from tests.inprocess import HOME
from tests.jobs import Job
from tests.liars.tools import liar
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

    def __init__(self, place: Path, data: bytes, name: str = NAME, options: tuple[str, ...] = ()) -> None:
        self.options = options
        self.root = place / "root"
        self.bin = place / "bin"
        self.bin.mkdir()
        self.data = data
        for tool in ("cat", "head", "tr", "sleep", "mkdir", "ln", "mkfifo", "wc", "yes", "rm", "truncate"):
            (self.bin / tool).symlink_to(need_tool(tool))
        self.path = inprocess.put(self.root, name, data)
        self.names = set(inprocess.digests(self.root))

    def lie(self, step: str, lie: str, **values: object) -> None:
        """Put a liar in the place of the tool of a step."""
        liar(self.bin, step, lie, **values)

    def strip(self, *steps: str) -> Job:
        """Strip by these steps; whatever happens, nothing else is in the tree afterwards."""
        options = ("--chain", ",".join(steps), "--tool-timeout", PATIENCE, *self.options)
        job = inprocess.strip(self.root, *options, PATH=str(self.bin))
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
