"""Frozen values and enums that cross wings: what happened to each module, in plain facts.

Sizes are bytes.  Paths are relative to ROOT, POSIX, decoded with `surrogateescape`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from pkghook.values import NamedTuple

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
MODULES = tuple(f".ko{suffix}" for suffix in SUFFIXES.values())  # how the name of a module ends


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


class DebugFile(NamedTuple):
    """The debug file that was split off a module."""

    path: str  # relative to --debug-dir
    size: int  # bytes
    sha256: str


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
    debug_file: DebugFile | None = None
    attempts: tuple[Attempt, ...] = ()
    findings: tuple[Finding, ...] = ()


class SectionTable(NamedTuple):
    """All that decides whether a module is stripped, and how far, whichever reader of ELF files says it."""

    bits: int  # 32 or 64
    order: str  # "<" or ">"
    type: int
    machine: int
    columns: tuple[tuple[bytes, ...] | tuple[int, ...], ...]  # the names, then the other fields, each of all sections


class Interface(NamedTuple):
    """What users of a module rely on, from `.modinfo`, the export and the import tables; all sorted, each once.

    include/linux/moduleparam.h and include/linux/module.h name the keys, scripts/mod/modpost.c the tables.
    """

    name: str
    vermagic: str = ""
    license: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()  # name, type as in `parmtype` ("" where none is given)
    aliases: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    exports: tuple[tuple[str, str], ...] = ()  # symbol, CRC as 8 hexadecimal digits ("" where there is none)
    imports: tuple[tuple[str, str], ...] = ()  # symbol, CRC from `__versions` or `__version_ext_*`
    softdeps: tuple[str, ...] = ()  # what modprobe loads too: `pre: NAME`, `post: NAME`, `weak: NAME`


class Looked(NamedTuple):
    """What a look at one module file showed (one inode; further hard-linked names in `names`); nothing was changed."""

    path: str
    kernel: str  # the directory below lib/modules, "" if there is none
    names: tuple[str, ...] = ()
    source: str = ""  # the package or directory it was seen in, as the user named it; "" where there is one only
    owner: str = ""  # who installed it: `dpkg:NAME`, `rpm:NAME`, `dkms:NAME/VERSION`, `akmods:NAME`; "" for nobody
    file_size: int = 0  # as it lies on disk or in the package
    image_size: int = 0  # the ELF file inside, decompressed and without signature
    expected: int = 0  # what `native` would make of the image; image_size if nothing has to go
    label_bytes: int = 0  # what dropping local labels would free besides
    unstripped: bool = False
    kept: str = ""  # why it is left as it is on purpose ("debug tree", a keep entry's reason)
    compression: str = "none"
    signature: str = ""  # "" or "present"
    livepatch: bool = False
    machine: str = ""
    build_id: str = ""
    btf: bool = False  # whether there is a .BTF section
    vermagic: str = ""  # as .modinfo has it
    sha256: str = ""  # of the file; only where something asks for it
    image_sha256: str = ""  # of the image, where that is not the whole file; only where something asks for it
    proof: Proof = Proof.NONE  # `recorded` if a record proves the module
    interface: Interface | None = None  # only where something asks for it
    findings: tuple[Finding, ...] = ()

    @property
    def saving(self) -> int:
        """Bytes of the image that stripping would free."""
        return self.image_size - self.expected


class Kernel(NamedTuple):
    """One directory of lib/modules on an installed system."""

    version: str
    path: str  # relative to the root
    running: bool = False
    owners: tuple[str, ...] = ()  # as `Looked.owner`: who owns it or something in it
    size: int = 0  # bytes of all that is in it, where nobody owns it
    image: str = ""  # the kernel itself, relative to the root; "" where there is none
    compression: str = ""  # that its configuration says, "" where there is none
    decompresses: bool | None = None  # whether it reads compressed modules itself; None where nothing tells


class PackageFacts(NamedTuple):
    """What a package says of itself, and what was counted in it; sizes in bytes."""

    path: str  # as the user named it
    form: str  # `rpm`, `deb`, `tree` or `module`
    name: str = ""
    version: str = ""  # with release or revision
    arch: str = ""
    payload: str = ""  # how the payload is compressed: gzip, xz, zstd, bzip2, lzma, none
    file_size: int = 0  # the package file as it lies on disk
    installed_size: int | None = None  # as its header declares it (Debian: KiB times 1024), None if it does not
    counted_size: int = 0  # the same sum made from what the payload gave, by the format's own way of counting
    uncertain_size: int = 0  # what the declared one may have besides: dpkg-gencontrol counts control files too
    members: int = 0  # files, directories and links in it
