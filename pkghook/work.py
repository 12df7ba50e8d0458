"""One module all the way: read, plan, chain, prove, replace. What happened becomes an Entry.

Bytes replace a module only after `prove` has read them afresh from where they were written, whichever
step wrote them; every way out before that leaves the module's path untouched.
"""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from pkghook import __version__
from pkghook.chain import native
from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.findings import Finding, Severity, make
from pkghook.ko import codec, machines
from pkghook.ko.elf import parse
from pkghook.ko.file import BytesImage, FdImage, load
from pkghook.ko.measure import account, build_id, kept_digest, named_by
from pkghook.ko.plan import DEBUG_ONLY, Drop, plan
from pkghook.ko.prove import broken_table, prove
from pkghook.model import Attempt, Compression, Entry, Outcome, Proof, Sizes, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


class Seen(NamedTuple):
    """A module that has been read and planned."""

    found: Found
    source: Source
    file: ModuleFile
    elf: Elf
    plan: Plan
    entry: Entry  # the facts so far


def strip_module(order: Order, found: Found) -> Entry:
    """The whole course of one module. Whatever is wrong with it is in the Entry, never raised."""
    blank = Entry(found.path, found.kernel, State.FAILED, names=found.names, sizes=Sizes(found.size, found.size))
    try:
        source = order.tree.open(found)
    except ModuleError as error:
        return _failed(blank, error.finding(found.path))
    try:
        return _judged(order, found, source, blank)
    finally:
        os.close(source.fd)


def _judged(order: Order, found: Found, source: Source, blank: Entry) -> Entry:
    keep = order.keeps.get(found.path)
    try:
        seen = _read(order, found, source, blank)
    except ModuleError as error:
        return _kept(blank, keep.reason) if keep else _failed(blank, _cause(source, error).finding(found.path))
    except MissingDependencyError as error:
        if keep:
            return _kept(blank, keep.reason)
        return _failed(blank, make("missing-dependency", found.path, needs=error.message, install=error.hint))
    proof, told = _against_record(order, seen)
    seen = seen._replace(entry=seen.entry._replace(proof=proof, findings=told))
    if any(finding.severity is Severity.ERROR for finding in told):
        # What another tool has damaged must not be made to look well by stripping it.
        return _failed(seen.entry)
    if keep:
        return _kept(seen.entry, keep.reason)
    return _by_policy(order, seen) or _through_chain(order, seen)


def _against_record(order: Order, seen: Seen) -> tuple[Proof, tuple[Finding, ...]]:
    """The proof that this is still the module that was recorded, or what was lost."""
    if order.record is None:
        return Proof.NONE, ()
    from pkghook.ko.compare import judge_recorded
    from pkghook.ko.facts import facts

    planned = seen.plan if order.drop == DEBUG_ONLY else plan(seen.elf)
    return judge_recorded(
        order.record, seen.found.path, seen.source.stat, lambda: facts(seen.elf, planned, seen.file.trailer)
    )


def _read(order: Order, found: Found, source: Source, blank: Entry) -> Seen:
    file = load(source.fd, source.name, limit=order.limit)
    elf = parse(file.image)
    planned = plan(elf, order.drop)
    size = file.image.size
    entry = blank._replace(
        compression=file.compression.value,
        signature="present" if file.signature else "",
        livepatch=planned.livepatch,
        machine=machines.name(elf.machine),
        build_id=build_id(elf),
        sizes=Sizes(file.file_size, file.file_size, size, size, planned.expected),
        sha256_before=_sha256_of(source.fd, file.file_size) if order.digest_before else "",
        matched_symbols=named_by(elf, order.drop.symbols) if order.drop.symbols else 0,
    )
    return Seen(found, source, file, elf, planned, entry)


def _by_policy(order: Order, seen: Seen) -> Entry | None:
    """The modules that the chain does not see: nothing to do, signed, livepatch by policy."""
    entry = seen.entry
    if not (seen.plan.unstripped or seen.plan.dropped):
        sizes = entry.sizes._replace(expected=seen.file.image.size)
        return entry._replace(state=State.ALREADY_STRIPPED, sizes=sizes)
    return _if_signed(order.policy, seen) or _if_livepatch(order.policy, seen)


def _if_signed(policy: Policy, seen: Seen) -> Entry | None:
    if not seen.file.signature or policy.signed == "strip":
        return None
    if not seen.plan.unstripped:
        return _kept(seen.entry, "signed, and only symbols or labels to drop")
    if policy.signed == "keep":
        return _kept(seen.entry, "signed")
    saving = seen.file.image.size - seen.plan.expected
    return _failed(seen.entry, make("signed-unstripped", seen.found.path, saving=saving))


def _if_livepatch(policy: Policy, seen: Seen) -> Entry | None:
    if not seen.plan.livepatch or policy.livepatch == "strip":
        return None
    if policy.livepatch == "keep":
        return _kept(seen.entry, "livepatch")
    return _failed(seen.entry, make("livepatch-unstripped", seen.found.path))


def _cause(source: Source, error: ModuleError) -> ModuleError:
    """A file that somebody writes to looks damaged in many ways, of which only this one is worth saying."""
    now = os.fstat(source.fd)
    if (now.st_size, now.st_mtime_ns) == (source.stat.st_size, source.stat.st_mtime_ns):
        return error
    return ModuleError("changed-during-run", before=source.stat.st_size, now=now.st_size, seen=error.id)


def _kept(entry: Entry, reason: str) -> Entry:
    sizes = entry.sizes._replace(expected=entry.sizes.image_before)
    return entry._replace(state=State.KEPT, reason=reason, sizes=sizes)


def _failed(entry: Entry, *findings: Finding, attempts: tuple[Attempt, ...] = ()) -> Entry:
    sizes = entry.sizes._replace(expected=entry.sizes.expected or entry.sizes.image_before)
    return entry._replace(state=State.FAILED, findings=(*entry.findings, *findings), attempts=attempts, sizes=sizes)


# --- the chain -------------------------------------------------------------------------------------------------------


class Candidate(NamedTuple):
    """Bytes that passed: the scratch file that holds them and what was seen in them."""

    scratch: Scratch
    plan: Plan
    size: int
    sha256: str  # of the bytes in the scratch file
    kept_digest: str


def _through_chain(order: Order, seen: Seen) -> Entry:
    """Try the steps in order until one passes; replace the module by what it wrote."""
    if order.dry_run:
        return _would(order, seen)
    attempts: list[Attempt] = []
    try:
        for step in order.steps:
            attempt, candidate = _attempt(order, seen, step)
            attempts.append(attempt)
            if candidate is not None:
                try:
                    return _replaced(order, seen, candidate, tuple(attempts))
                finally:
                    order.tree.discard(candidate.scratch)
    except ModuleError as error:
        return _failed(seen.entry, _cause(seen.source, error).finding(seen.found.path), attempts=tuple(attempts))
    except OSError as error:
        found = make("cannot-write", seen.found.path, error=error.strerror or str(error))
        return _failed(seen.entry, found, attempts=tuple(attempts))
    return _exhausted(seen, tuple(attempts))


def _exhausted(seen: Seen, attempts: tuple[Attempt, ...]) -> Entry:
    path, entry = seen.found.path, seen.entry._replace(attempts=attempts)
    if not seen.plan.unstripped:
        sizes = entry.sizes._replace(expected=entry.sizes.image_before)
        return entry._replace(state=State.ALREADY_STRIPPED, sizes=sizes)
    last = attempts[-1]
    tried = ", ".join(f"{a.step} {a.outcome.value}" for a in attempts)
    if seen.plan.livepatch:
        found = make("livepatch-kept", path, attempts=tried)
        return _kept(entry, "livepatch: no step passed")._replace(findings=(*entry.findings, found))
    error = _cause(seen.source, ModuleError("chain-exhausted", attempts=tried, last=last.why))
    return _failed(entry, error.finding(path), attempts=attempts)


def _would(order: Order, seen: Seen) -> Entry:
    """What a real run would do if the first step that has its tool passed; nothing is written.

    The sizes are those of the native steps, whichever step it is.
    """
    attempts: list[Attempt] = []
    for step in order.steps:
        trial = _trial(order, seen, step)
        hindered = _hindered(order, seen, trial)
        if hindered is None:
            return _foretold(seen, trial, tuple(attempts))
        attempts.append(hindered)
    return _exhausted(seen, tuple(attempts))


def _foretold(seen: Seen, trial: Trial, attempts: tuple[Attempt, ...]) -> Entry:
    entry, how, size = seen.entry, seen.file.compression, trial.plan.expected
    if how is Compression.NONE:
        file_after = size
    else:
        image = b"".join(bytes(memoryview(piece).cast("B")) for piece in native.render(seen.elf, trial.plan))
        file_after = len(codec.compress(image, how))
    return entry._replace(
        state=State.STRIPPED,
        sizes=entry.sizes._replace(image_after=size, file_after=file_after, expected=size),
        signature="removed" if seen.file.signature else "",
        step=trial.step.name,
        dropped_symbols=tuple(sorted(_names(seen.elf, trial.plan))),
        dropped_labels=trial.plan.labels,
        attempts=attempts,
        findings=(*entry.findings, *_price(seen, trial.step.name, attempts)),
    )


def _price(seen: Seen, step: str, attempts: tuple[Attempt, ...]) -> Iterator[Finding]:
    """What is to be said of a module that was stripped, beside that it was."""
    if seen.file.signature:
        yield make("signature-removed", seen.found.path, bytes=seen.file.signature.size)
    fallen = [a for a in attempts if a.outcome not in (Outcome.PASSED, Outcome.NO_GAIN)]
    if fallen:
        said = "; ".join(f"{a.step} {a.outcome.value}: {a.why}" for a in fallen)
        yield make("fell-through", seen.found.path, passed=step, fallen=said)


def _replaced(order: Order, seen: Seen, candidate: Candidate, attempts: tuple[Attempt, ...]) -> Entry:
    findings = order.tree.replace(seen.found, seen.source, candidate.scratch, order.fsync)
    entry, plan, step = seen.entry, candidate.plan, attempts[-1].step
    sizes = Sizes(
        seen.file.file_size, _size_of(candidate.scratch.fd), seen.file.image.size, candidate.size, plan.expected
    )
    return entry._replace(
        state=State.STRIPPED,
        proof=Proof.VERIFIED,
        signature="removed" if seen.file.signature else "",
        sizes=sizes,
        sha256_after=candidate.sha256,
        kept_digest=candidate.kept_digest,
        step=step,
        dropped_symbols=tuple(sorted(_names(seen.elf, plan))),
        dropped_labels=plan.labels,
        attempts=attempts,
        findings=(*entry.findings, *findings, *_price(seen, step, attempts)),
    )


def _names(elf: Elf, plan: Plan) -> Iterable[str]:
    if not plan.listed:
        return ()
    from pkghook.ko.match import text
    from pkghook.ko.symtab import symbol_table

    table = symbol_table(elf)
    return (text(table.name(row)) for row in plan.listed)


# --- one step --------------------------------------------------------------------------------------------------------


class Trial(NamedTuple):
    """One step on one module: what it may drop, and what must come of it."""

    step: Step
    drop: Drop
    plan: Plan


def _attempt(order: Order, seen: Seen, step: Step) -> tuple[Attempt, Candidate | None]:
    """Run one step and judge what it wrote. A candidate's scratch file is the caller's to discard."""
    trial = _trial(order, seen, step)
    hindered = _hindered(order, seen, trial)
    if hindered is not None:
        return hindered, None
    scratch, attempt = _strip(order, seen, trial)
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


def _trial(order: Order, seen: Seen, step: Step) -> Trial:
    drop = _allowed(order.drop, step)
    return Trial(step, drop, seen.plan if drop == order.drop else plan(seen.elf, drop))


def _hindered(order: Order, seen: Seen, trial: Trial) -> Attempt | None:
    """The attempt with a step that has nothing to do here, or no tool to do it with."""
    step = trial.step
    if not (trial.plan.unstripped or trial.plan.dropped):
        return Attempt(step.name, "", Outcome.NO_GAIN, "nothing that this step may remove")
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
    except BaseException:
        order.tree.discard(scratch)
        raise
    finally:
        order.tree.discard(image)
    if failure is not None:
        order.tree.discard(scratch)
        return None, failure
    return scratch, Attempt(step.name, tool.version, Outcome.PASSED)


def _image_file(order: Order, seen: Seen) -> Scratch:
    """A copy of the image for an outside tool, which might write to its input."""
    image = seen.file.image
    scratch = order.tree.scratch(seen.source)
    _write(order, scratch, (image.read(at, min(STREAM, image.size - at)) for at in range(0, image.size, STREAM)))
    return scratch


def _judge(
    order: Order, seen: Seen, trial: Trial, attempt: Attempt, scratch: Scratch
) -> tuple[Attempt, Candidate | None]:
    """Read back what was written and prove it; then wrap it as the module was."""
    size = _size_of(scratch.fd)
    written = FdImage(scratch.fd, size)
    data = written.read(0, size) if size <= IN_MEMORY else b""
    image = BytesImage(data) if data else written
    try:
        after = parse(image)
        faults = prove(seen.elf, after, trial.drop) + tuple(account(seen.elf, trial.plan, size, trial.step.tool))
    except ModuleError as error:
        return _rejected(attempt, seen.found.path, (broken_table(error),)), None
    if faults:
        return _rejected(attempt, seen.found.path, faults), None
    if seen.file.compression is not Compression.NONE:
        scratch, sha256 = _wrap(order, seen, image)
    else:
        sha256 = hashlib.sha256(data).hexdigest() if data else _sha256_of(scratch.fd, size)
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
        written = FdImage(scratch.fd, _size_of(scratch.fd)).read(0, _size_of(scratch.fd))
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
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if views and written:
            views[0] = views[0][written:]


def _size_of(fd: int) -> int:
    return os.fstat(fd).st_size


def _sha256_of(fd: int, size: int) -> str:
    digest = hashlib.sha256()
    image = FdImage(fd, size)
    for at in range(0, size, STREAM):
        digest.update(image.read(at, min(STREAM, size - at)))
    return digest.hexdigest()
