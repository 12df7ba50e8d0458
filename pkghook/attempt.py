"""One step on one module: let it write a candidate, read that back afresh, prove it, wrap it as the module was.

A candidate is a scratch file; it takes the module's place only in `work`, after all of this.
"""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from typing import TYPE_CHECKING

from pkghook import __version__
from pkghook.chain import native
from pkghook.errors import ModuleError
from pkghook.findings import make
from pkghook.ko import codec
from pkghook.ko.elf import parse
from pkghook.ko.file import BytesImage, FdImage
from pkghook.ko.measure import account, kept_digest
from pkghook.ko.plan import Drop, plan
from pkghook.ko.prove import broken_table, prove
from pkghook.model import Attempt, Compression, Entry, Outcome
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pkghook.chain.steps import Step
    from pkghook.chain.tools import Tools
    from pkghook.judge.policy import Keep, Policy
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import ModuleFile
    from pkghook.ko.match import Fault
    from pkghook.ko.plan import Plan
    from pkghook.ko.record import Record
    from pkghook.sources import Found, Scratch, Source
    from pkghook.sources.tree import Tree
    from pkghook.split import Split, Splitting

IN_MEMORY = 1 << 26  # bytes up to which a candidate is read back in one piece
STREAM = 1 << 22  # bytes hashed at a time
PIECES = 256  # written by one writev(2), which takes 1,024 at the most
MAX_FAULTS = 8  # of one rejected candidate; the first says enough
NATIVE_VERSION = f"pkghook {__version__}"


class Order(NamedTuple):
    """What is to be done with every module of a run."""

    tree: Tree
    steps: tuple[Step, ...]
    drop: Drop  # what may go beyond debug information, where a step's promise has it
    tools: Tools
    policy: Policy
    keeps: dict[str, Keep]  # by path: the modules that policy leaves alone
    list_file: str = ""  # the symbol list as outside tools take it
    limit: int = 4 << 30
    timeout: float = 300.0
    fsync: bool = False
    dry_run: bool = False
    digest_before: bool = False
    record: Record | None = None  # made before other tools touched the tree
    splitting: Splitting | None = None  # where debug files go, if they are wanted


class Seen(NamedTuple):
    """A module that has been read and planned."""

    found: Found
    source: Source
    file: ModuleFile
    elf: Elf
    plan: Plan
    entry: Entry  # the facts so far
    split: Split | None = None  # its debug file, where one was asked for

    @property
    def link(self) -> bytes:
        """Contents of the .gnu_debuglink that the module gets; b"" for none."""
        return self.split.link if self.split else b""


class Candidate(NamedTuple):
    """Bytes that passed: the scratch file that holds them and what was seen in them."""

    scratch: Scratch
    plan: Plan
    size: int
    sha256: str  # of the bytes in the scratch file
    kept_digest: str


class Trial(NamedTuple):
    """One step on one module: what it may drop, and what must come of it."""

    step: Step
    drop: Drop
    plan: Plan
    added: int = 0  # bytes of the debuglink in `plan.expected`


def try_step(order: Order, seen: Seen, step: Step) -> tuple[Attempt, Candidate | None]:
    """Run one step and judge what it wrote. A candidate's scratch file is the caller's to discard."""
    trial = plan_trial(order, seen, step)
    hindered = hindrance(order, seen, trial)
    if hindered is not None:
        return hindered, None
    scratch, attempt = _strip(order, seen, trial)
    if scratch is not None and seen.link:
        scratch, attempt = _linked(order, seen, attempt, scratch)
    if scratch is None:
        return attempt, None
    try:
        attempt, candidate = _judge(order, seen, trial, attempt, scratch)
    except BaseException:
        order.tree.discard(scratch)
        raise
    if candidate is None or candidate.scratch is not scratch:
        order.tree.discard(scratch)
    return attempt, candidate


def plan_trial(order: Order, seen: Seen, step: Step) -> Trial:
    """What the step may do to the module, and what must come of it."""
    drop = _allowed(order.drop, step)
    planned = seen.plan if drop == order.drop else plan(seen.elf, drop)
    if not seen.link:
        return Trial(step, drop, planned)
    from pkghook.ko import debuglink

    expected = debuglink.expected(seen.elf, planned, seen.link)
    return Trial(step, drop, planned._replace(expected=expected), expected - planned.expected)


def hindrance(order: Order, seen: Seen, trial: Trial) -> Attempt | None:
    """The attempt with a step that has nothing to do here, or no tool to do it with."""
    step = trial.step
    if not (trial.plan.unstripped or trial.plan.dropped):
        return Attempt(step.name, "", Outcome.NO_GAIN, "nothing that this step may remove")
    if not step.tool and trial.plan.expected - trial.added > seen.file.image.size:
        # Alignments far beyond what the file has: a crafted module could ask for gigabytes of padding.
        return Attempt(step.name, "", Outcome.NO_GAIN, f"would grow to {trial.plan.expected} bytes")
    if step.tool and order.tools.find(step, seen.elf.machine) is None:
        return order.tools.absent(step, seen.elf.machine)
    return None


def _allowed(drop: Drop, step: Step) -> Drop:
    if not (drop.symbols or drop.labels):
        return drop
    return Drop(drop.symbols if step.promise.symbols else None, drop.labels and step.promise.labels)


def _strip(order: Order, seen: Seen, trial: Trial) -> tuple[Scratch | None, Attempt]:
    """Let the step write its candidate: in process, or by an outside tool."""
    step = trial.step
    if not step.tool:
        scratch = order.tree.scratch(seen.source)
        _write(order, scratch, native.render(seen.elf, trial.plan))
        return scratch, Attempt(step.name, NATIVE_VERSION, Outcome.PASSED)
    tool = order.tools.find(step, seen.elf.machine)
    if tool is None:
        return None, order.tools.absent(step, seen.elf.machine)
    from pkghook.chain.tools import run_step

    image = _image_file(order, seen)
    try:
        scratch = order.tree.scratch(seen.source)
    except BaseException:
        order.tree.discard(image)
        raise
    try:
        path, failure = run_step(
            step, tool, image.fd, os.path.dirname(scratch.path), order.list_file, timeout=order.timeout
        )
        if failure is None:
            os.rename(path, scratch.path)
            scratch = order.tree.reopen(scratch)
            scratch = _own(order, seen, scratch)
    except BaseException:
        order.tree.discard(scratch)
        raise
    finally:
        order.tree.discard(image)
    if failure is not None:
        order.tree.discard(scratch)
        return None, failure
    return scratch, Attempt(step.name, tool.version, Outcome.PASSED)


def _own(order: Order, seen: Seen, theirs: Scratch) -> Scratch:
    """A copy of what a tool wrote. The tool's own file may change later: by something that it left running."""
    written = FdImage(theirs.fd, size_of(theirs.fd))
    own = order.tree.scratch(seen.source)
    _write(order, own, (written.read(at, min(STREAM, written.size - at)) for at in range(0, written.size, STREAM)))
    order.tree.discard(theirs)
    return own


def _image_file(order: Order, seen: Seen) -> Scratch:
    """A copy of the image for an outside tool, which might write to its input."""
    image = seen.file.image
    scratch = order.tree.scratch(seen.source)
    _write(order, scratch, (image.read(at, min(STREAM, image.size - at)) for at in range(0, image.size, STREAM)))
    return scratch


def _linked(order: Order, seen: Seen, attempt: Attempt, scratch: Scratch) -> tuple[Scratch | None, Attempt]:
    """What the step wrote, with the debuglink added; a new scratch file in the place of the old one."""
    from pkghook.ko import debuglink

    try:
        try:
            pieces = debuglink.linked(parse(FdImage(scratch.fd, size_of(scratch.fd))), seen.link)
        except ModuleError as error:
            return None, _rejected(attempt, seen.found.path, (broken_table(error),))
        new = order.tree.scratch(seen.source)
        _write(order, new, pieces)
    finally:
        order.tree.discard(scratch)
    return new, attempt


def _judge(
    order: Order, seen: Seen, trial: Trial, attempt: Attempt, scratch: Scratch
) -> tuple[Attempt, Candidate | None]:
    """Read back what was written and prove it; then wrap it as the module was."""
    size = size_of(scratch.fd)
    written = FdImage(scratch.fd, size)
    data = written.read(0, size) if size <= IN_MEMORY else b""
    image = BytesImage(data) if data else written
    try:
        after = parse(image)
        faults = prove(seen.elf, after, trial.drop, debuglink=bool(seen.link))
        faults += tuple(account(seen.elf, trial.plan, size, trial.step.tool, trial.added))
        if seen.link:
            from pkghook.ko import debuglink

            faults += tuple(debuglink.faults(after, seen.link))
    except ModuleError as error:
        return _rejected(attempt, seen.found.path, (broken_table(error),)), None
    if faults:
        return _rejected(attempt, seen.found.path, faults), None
    if seen.file.compression is not Compression.NONE:
        scratch, sha256 = _wrap(order, seen, image)
    else:
        sha256 = hashlib.sha256(data).hexdigest() if data else sha256_of(scratch.fd, size)
    return attempt, Candidate(scratch, trial.plan, size, sha256, kept_digest(after))


def _rejected(attempt: Attempt, path: str, faults: tuple[Fault, ...]) -> Attempt:
    findings = tuple(make(f.id, path, **dict(f.evidence)) for f in faults[:MAX_FAULTS])
    said = ", ".join(f"{key}={value}" for key, value in faults[0].evidence)
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return attempt._replace(outcome=Outcome.REJECTED, why=f"{faults[0].id}: {said}{more}", findings=findings)


def _wrap(order: Order, seen: Seen, image: BytesImage | FdImage) -> tuple[Scratch, str]:
    """V13: compress as the module was, write, read back, decompress and compare."""
    plain = image.read(0, image.size)
    packed = codec.compress(plain, seen.file.compression)
    scratch = order.tree.scratch(seen.source)
    _write(order, scratch, (packed,))
    try:
        written = FdImage(scratch.fd, size_of(scratch.fd)).read(0, size_of(scratch.fd))
        codec.check(written, plain, seen.file.compression)
    except BaseException:
        order.tree.discard(scratch)
        raise
    return scratch, hashlib.sha256(written).hexdigest()


# --- bytes -----------------------------------------------------------------------------------------------------------


def _write(order: Order, scratch: Scratch, pieces: Iterable[native.Piece]) -> None:
    """All pieces to the scratch file. A full disk is cannot-write; the scratch is gone then."""
    rest = iter(pieces)
    try:
        while batch := list(islice(rest, PIECES)):
            _writev(scratch.fd, batch)
    except OSError as error:
        order.tree.discard(scratch)
        raise ModuleError("cannot-write", error=error.strerror or str(error)) from error
    except BaseException:
        order.tree.discard(scratch)
        raise


def _writev(fd: int, batch: list[native.Piece]) -> None:
    views = [memoryview(piece).cast("B") for piece in batch if len(piece)]
    while views:
        written = os.writev(fd, views)
        if written == sum(map(len, views)):
            return
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views and written:
            views[0] = views[0][written:]


def size_of(fd: int) -> int:
    """Bytes of an open file."""
    return os.fstat(fd).st_size


def sha256_of(fd: int, size: int) -> str:
    """SHA-256 of the first `size` bytes of an open file, as hex."""
    digest = hashlib.sha256()
    image = FdImage(fd, size)
    for at in range(0, size, STREAM):
        digest.update(image.read(at, min(STREAM, size - at)))
    return digest.hexdigest()
