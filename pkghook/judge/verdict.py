"""May it pass? The receipt's findings against the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.errors import WorkerError
from pkghook.findings import Finding, Severity
from pkghook.judge.policy import Policy, silenced, weighed
from pkghook.judge.receipt import Receipt, order
from pkghook.judge.rules import silenceable
from pkghook.model import State
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.model import Entry


class Verdict(NamedTuple):
    """Whether the gate is open, and why not. Findings: most severe first, then by subject and id."""

    passed: bool
    findings: tuple[Finding, ...]  # all that count
    silenced: tuple[Finding, ...] = ()  # those that a keep entry leaves alone


def judge(receipt: Receipt, policy: Policy) -> Verdict:
    """The verdict on a run.

    It fails if a module failed, or on a finding of at least `policy.fail_on` that no keep entry silences.  The
    severities are those of the policy, but that an error for which a module failed stays one.
    The findings of attempts do not count: a later step made good what they are about, or the entry has the
    error.  WorkerError for a failed module without an error among its findings, which is a fault of pkghook.
    """
    counted: list[Finding] = []
    left: list[Finding] = []
    for entry, finding in _findings(receipt):
        may = entry is None or silenceable(entry, finding)
        (left if may and silenced(policy, finding) else counted).append(weighed(policy.severities, finding, lower=may))
    failed = [entry for entry in receipt.entries if entry.state is State.FAILED]
    _check_explained(failed)
    closed = failed or any(finding.severity >= policy.fail_on for finding in counted)
    return Verdict(not closed, tuple(sorted(counted, key=order)), tuple(sorted(left, key=order)))


def _findings(receipt: Receipt) -> Iterator[tuple[Entry | None, Finding]]:
    """Each finding that counts, with the module it belongs to."""
    for finding in receipt.findings:
        yield None, finding
    for entry in receipt.entries:
        for finding in entry.findings:
            yield entry, finding


def _check_explained(failed: list[Entry]) -> None:
    for entry in failed:
        if not any(finding.severity is Severity.ERROR for finding in entry.findings):
            raise WorkerError(f"{entry.path}: failed without an error among its findings: a fault of pkghook itself")
