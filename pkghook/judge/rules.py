"""Findings that follow from all entries of a run together, and the use that was made of keep entries."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook.findings import Finding, Severity, make
from pkghook.judge.policy import silenced
from pkghook.judge.receipt import Override
from pkghook.model import Entry, Looked, Proof, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.judge.policy import Keep, Policy

    Modules = Sequence[Entry] | Sequence[Looked]


def conclude(
    policy: Policy, entries: Sequence[Entry], findings: Iterable[Finding], *, list_name: str = "", matched: int = 0
) -> tuple[tuple[Finding, ...], tuple[Override, ...]]:
    """All findings about the tree as a whole, and the keep entries that were used: what a receipt has of both.

    `findings` are those known before (of the walk, of the record); for the others see `list_matched_nothing`.
    """
    known = [*findings, *no_proof(policy, entries), *list_matched_nothing(list_name, matched, entries)]
    known += unused_keeps(policy, entries, known)
    return tuple(known), overrides(policy, entries, known)


def no_proof(policy: Policy, entries: Iterable[Entry]) -> Iterator[Finding]:
    """With --require-proof: each module without one.

    One that failed has its own error, and one that a dry run would strip would have its proof by that.
    """
    if not policy.require_proof:
        return
    for entry in entries:
        if entry.proof is Proof.NONE and entry.state not in (State.FAILED, State.STRIPPED):
            yield make("no-proof", entry.path, state=entry.state.value)


def list_matched_nothing(name: str, matched: int, entries: Iterable[Entry]) -> Iterator[Finding]:
    """A symbol list of which no symbol was found.

    `name` is the list's, "" where there is none.  `matched` counts the symbols it names, those that a
    relocation holds included, in all modules that could be read.  Where there is none nothing was looked for.
    """
    looked = sum(entry.state in (State.STRIPPED, State.ALREADY_STRIPPED) for entry in entries)
    if name and looked and not matched:
        # Without its directory, so that the receipt is the same wherever the list lies.
        yield make("list-matched-nothing", os.path.basename(name), modules=looked)


def excuse(policy: Policy, entry: Entry) -> Entry:
    """A module that failed only with errors which keep entries name is kept on purpose: its bytes were left anyway."""
    if entry.state is not State.FAILED:
        return entry
    errors = [finding for finding in entry.findings if finding.severity is Severity.ERROR]
    keeps = [silenced(policy, finding) for finding in errors]
    if not keeps or not all(keeps):
        return entry
    reasons = dict.fromkeys(f"{keep.finding}: {keep.reason}" for keep in keeps if keep)
    sizes = entry.sizes._replace(expected=entry.sizes.image_before)
    return entry._replace(state=State.KEPT, reason="; ".join(reasons), sizes=sizes)


def overrides(policy: Policy, entries: Modules, findings: Sequence[Finding]) -> tuple[Override, ...]:
    """The keep entries that matched something, in the order of the policy, with what they matched.

    `findings` are those about the tree as a whole; those of the entries are taken from there.
    """
    every = [*findings, *(each for entry in entries for each in entry.findings if silenceable(entry, each))]
    used = (Override(keep, _matched(keep, entries, every)) for keep in policy.keeps)
    return tuple(override for override in used if override.matched)


def unused_keeps(policy: Policy, entries: Modules, findings: Sequence[Finding]) -> Iterator[Finding]:
    """The keep entries that matched nothing, but for those that a vendor installed for every tree.

    Entries that silence this very finding are passed over: whether they match is not known before it ends.
    """
    used = {override.keep for override in overrides(policy, entries, findings)}
    for keep in dict.fromkeys(policy.keeps):
        if keep not in used and not keep.by_vendor and keep.finding != "unused-keep":
            about = {"finding": keep.finding} if keep.finding else {}
            yield make("unused-keep", keep.glob, **about, reason=keep.reason, origin=keep.origin)


def silenceable(entry: Entry | Looked, finding: Finding) -> bool:
    """Whether a keep entry may silence a finding of this module.

    Not an error of a module that failed: the gate is closed for it, and the report has to say why.  One
    whose every error is named by a keep entry has not failed but is kept: see `excuse`.
    """
    return isinstance(entry, Looked) or entry.state is not State.FAILED or finding.severity < Severity.ERROR


def _matched(keep: Keep, entries: Modules, findings: Iterable[Finding]) -> tuple[str, ...]:
    if keep.finding:
        subjects = {each.subject for each in findings if each.id == keep.finding and keep.matches(each.subject)}
    else:
        subjects = {each.path for each in entries if any(map(keep.matches, (each.path, *each.names)))}
    return tuple(sorted(subjects))
