"""One module all the way: read, plan, chain, prove, replace. What happened becomes an Entry.

Bytes replace a module only after `prove` has read them afresh from where they were written, whichever
step wrote them; every way out before that leaves the module's path untouched.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook.attempt import Candidate, Order, Seen, Trial, hindrance, plan_trial, sha256_of, size_of, try_step
from pkghook.chain import native
from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.findings import Finding, Severity, make
from pkghook.ko import codec, machines
from pkghook.ko.buildid import build_id
from pkghook.ko.elf import parse
from pkghook.ko.file import BytesImage, load
from pkghook.ko.measure import named_by
from pkghook.ko.plan import DEBUG_ONLY, plan
from pkghook.model import Attempt, Compression, Entry, Outcome, Proof, Sizes, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pkghook.judge.policy import Policy
    from pkghook.ko.elf import Elf
    from pkghook.ko.plan import Plan
    from pkghook.ko.record import Record
    from pkghook.sources import Found, Source
    from pkghook.split import Splitting

__all__ = ["Order", "strip_module"]


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
    if order.record is not None:
        proof, told = _against_record(order, order.record, seen)
        seen = seen._replace(entry=seen.entry._replace(proof=proof, findings=told))
        if any(finding.severity is Severity.ERROR for finding in told):
            # What another tool has damaged must not be made to look well by stripping it.
            return _failed(seen.entry)
    if keep:
        return _kept(seen.entry, keep.reason)
    return _by_policy(order, seen) or _through_chain(order, seen)


def _against_record(order: Order, record: Record, seen: Seen) -> tuple[Proof, tuple[Finding, ...]]:
    """The proof that this is still the module that was recorded, or what was lost."""
    from pkghook.ko.compare import judge_names, judge_recorded
    from pkghook.ko.facts import facts

    planned = seen.plan if order.drop == DEBUG_ONLY else plan(seen.elf)
    names = (seen.found.path, *seen.found.names)
    proof, told = judge_recorded(record, names, seen.source.stat, lambda: facts(seen.elf, planned, seen.file.trailer))
    lost = judge_names(record, names, signed=bool(seen.file.signature))
    return Proof.NONE if lost else proof, (*told, *lost)


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
        sha256_before=sha256_of(source.fd, file.file_size) if order.digest_before else "",
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


def _through_chain(order: Order, seen: Seen) -> Entry:
    """Try the steps in order until one passes; replace the module by what it wrote."""
    attempts: list[Attempt] = []
    try:
        if order.splitting and seen.plan.unstripped:
            return _split(order, order.splitting, seen, attempts)
        return _would(order, seen) if order.dry_run else _chain(order, seen, attempts)
    except ModuleError as error:
        return _failed(seen.entry, _cause(seen.source, error).finding(seen.found.path), attempts=tuple(attempts))
    except OSError as error:
        found = make("cannot-write", seen.found.path, error=error.strerror or str(error))
        return _failed(seen.entry, found, attempts=tuple(attempts))


def _chain(order: Order, seen: Seen, attempts: list[Attempt]) -> Entry:
    """`attempts` grows by every step that is tried, so that they are known whatever is raised."""
    for step in order.steps:
        attempt, candidate = try_step(order, seen, step)
        attempts.append(attempt)
        if candidate is not None:
            try:
                entry = _replaced(order, seen, candidate, tuple(attempts))
            except BaseException:
                order.tree.discard(candidate.scratch)
                raise
            os.close(candidate.scratch.fd)
            return entry
    return _exhausted(seen, tuple(attempts))


def _split(order: Order, splitting: Splitting, seen: Seen, attempts: list[Attempt]) -> Entry:
    """The same with a debug file, made before the chain and put in its place before the module is replaced."""
    from pkghook import split

    made = split.write(splitting, seen.found, seen.source, seen.elf, seen.plan.removed)
    seen = seen._replace(split=made)
    try:
        return _would(order, seen) if order.dry_run else _chain(order, seen, attempts)
    finally:
        split.discard(splitting, made)


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
        trial = plan_trial(order, seen, step)
        hindered = hindrance(order, seen, trial)
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
        if seen.link:
            from pkghook.ko import debuglink

            image = b"".join(debuglink.linked(parse(BytesImage(image)), seen.link))
        file_after = len(codec.compress(image, how))
    return entry._replace(
        state=State.STRIPPED,
        sizes=entry.sizes._replace(image_after=size, file_after=file_after, expected=size),
        signature="removed" if seen.file.signature else "",
        step=trial.step.name,
        dropped_symbols=tuple(sorted(_names(seen.elf, trial.plan))),
        dropped_labels=trial.plan.labels,
        debug_file=seen.split.file if seen.split else None,
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
    debug_file = None
    if seen.split and order.splitting:
        from pkghook import split

        debug_file = split.publish(order.splitting, seen.split)
    findings = order.tree.replace(seen.found, seen.source, candidate.scratch, order.fsync)
    entry, plan, step = seen.entry, candidate.plan, attempts[-1].step
    sizes = Sizes(
        seen.file.file_size, size_of(candidate.scratch.fd), seen.file.image.size, candidate.size, plan.expected
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
        debug_file=debug_file,
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
