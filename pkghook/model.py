"""Frozen values and enums that cross wings: what happened to each module, in plain facts.

Sizes are bytes.  Paths are relative to ROOT, POSIX, decoded with `surrogateescape`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pkghook.findings import Finding


class State(StrEnum):
    """How a module ended the run; each module has exactly one."""

    STRIPPED = "stripped"
    ALREADY_STRIPPED = "already-stripped"
    KEPT = "kept"
    FAILED = "failed"


class Proof(StrEnum):
    """What stands behind the state."""

    VERIFIED = "verified"  # against the module's own bytes before
    RECORDED = "recorded"  # against a record made before other tools touched it
    NONE = "none"


class Outcome(StrEnum):
    """How one step of the chain ended on one module."""

    PASSED = "passed"
    ABSENT = "absent"
    FAILED = "failed"
    TIMED_OUT = "timed-out"
    REJECTED = "rejected"
    NO_GAIN = "no-gain"


class Compression(StrEnum):
    """How a module file is wrapped; told by magic, never by name alone."""

    NONE = "none"
    GZIP = "gzip"
    XZ = "xz"
    ZSTD = "zstd"

    @property
    def suffix(self) -> str:
        """The file name suffix behind `.ko`."""
        return SUFFIXES[self]


SUFFIXES = {Compression.NONE: "", Compression.GZIP: ".gz", Compression.XZ: ".xz", Compression.ZSTD: ".zst"}


class Attempt(NamedTuple):
    """One step tried on one module: which, by what, how it ended and why."""

    step: str
    version: str  # tool name and version, or pkghook's own
    outcome: Outcome
    why: str = ""
    findings: tuple[Finding, ...] = ()


class Sizes(NamedTuple):
    """A module's bytes: the file as it lies on disk, and the image inside (decompressed, unsigned)."""

    file_before: int = 0
    file_after: int = 0
    image_before: int = 0
    image_after: int = 0
    expected: int = 0  # what the plan says the image must become; image_before if nothing has to go


class Entry(NamedTuple):
    """All that a run says about one module (one inode; further hard-linked names in `names`)."""

    path: str
    kernel: str  # the directory below lib/modules, "" if there is none
    state: State
    proof: Proof = Proof.NONE
    reason: str = ""  # why kept
    names: tuple[str, ...] = ()
    compression: str = "none"
    signature: str = ""  # "", "present" or "removed"
    livepatch: bool = False
    machine: str = ""
    build_id: str = ""
    sizes: Sizes = Sizes()
    sha256_before: str = ""  # only with --digest-before
    sha256_after: str = ""  # of the file as it lies on disk after the run
    kept_digest: str = ""  # of what was kept of the bytes before: see ko.prove.kept_digest
    step: str = ""
    matched_symbols: int = 0  # that a symbol list names, those that a relocation holds included
    dropped_symbols: tuple[str, ...] = ()  # by a symbol list
    dropped_labels: int = 0
    attempts: tuple[Attempt, ...] = ()
    findings: tuple[Finding, ...] = ()
