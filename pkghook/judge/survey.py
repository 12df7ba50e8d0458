"""The survey: all that a run saw which only looks (`check`, `audit`), and whether it may pass.

It is to such a run what the receipt is to one that strips, and reports take either.  No time, user or host is in
it: the same packages, settings and version give the same survey.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pkghook import __version__
from pkghook.findings import Finding, Severity
from pkghook.findings import make as finding
from pkghook.judge.policy import kept_by, silenced, weighed
from pkghook.judge.receipt import order
from pkghook.judge.rules import overrides, unused_keeps
from pkghook.judge.verdict import Verdict
from pkghook.model import Compression, Entry, Kernel, Looked, PackageFacts
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.judge.baseline import Baseline
    from pkghook.judge.policy import Policy
    from pkghook.judge.receipt import Override, Pairs
    from pkghook.judge.remedies import Remedy

MODES = ("check", "audit")
DEBUG_TREE = "debug tree"
SIGNED, LIVEPATCH = "signed", "livepatch"  # why a module is kept that a setting keeps


class Sums(NamedTuple):
    """Numbers of modules, and bytes. A module that is kept on purpose counts in the first two alone."""

    modules: int = 0
    file_size: int = 0  # as they lie on disk or in the package
    kept: int = 0  # left as they are on purpose
    unstripped: int = 0
    damaged: int = 0  # with an error among their findings beside `unstripped`
    compressed: int = 0
    signed: int = 0
    image_size: int = 0  # the ELF files inside
    saving: int = 0  # that stripping would free, of the images
    label_bytes: int = 0  # that dropping labels would free besides


class Row(NamedTuple):
    """The modules of one kernel in one package or directory."""

    source: str
    kernel: str
    sums: Sums


class Survey(NamedTuple):
    """One run. Made by `make`, which puts all lists in their order and adds up."""

    mode: str  # "check" or "audit"
    entries: tuple[Looked, ...]  # sorted by source and path
    sums: Sums
    rows: tuple[Row, ...]
    pkghook: str = __version__
    settings: Pairs = ()  # those that shape the result
    packages: tuple[PackageFacts, ...] = ()  # in the order in which they were named
    running: str = ""  # the kernel that runs, where an installed system was looked at
    others: tuple[tuple[str, int], ...] = ()  # path and size of ELF files that are no modules (vmlinux, vdso)
    findings: tuple[Finding, ...] = ()  # about all of it; those about one module are in its entry
    overrides: tuple[Override, ...] = ()
    baseline: Baseline | None = None  # the comparison with the last release, if there was one
    kernels: tuple[Kernel, ...] = ()  # of an installed system, those without modules too
    owners: tuple[Remedy, ...] = ()  # of what there are findings about, with what its users can do
    fixed: tuple[Entry, ...] = ()  # what --fix stripped, or failed to; `entries` are as they are after that


def make(  # noqa: PLR0913  what there is to say
    mode: str,
    entries: Iterable[Looked],
    policy: Policy,
    *,
    settings: Pairs = (),
    packages: Sequence[PackageFacts] = (),
    running: str = "",
    others: Iterable[tuple[str, int]] = (),
    findings: Iterable[Finding] = (),
    baseline: Baseline | None = None,
) -> Survey:
    """The survey of what was looked at; `entries` and `findings` may come in any order.

    Adds what the policy keeps, the findings that follow from all modules together, and the use of keep entries.
    """
    ordered = sorted((kept(policy, entry) for entry in entries), key=_place)
    sums = add_up(ordered)
    known = [*findings, *labels(ordered)]
    known += unused_keeps(policy, ordered, known)
    return Survey(
        mode,
        tuple(ordered),
        sums,
        tuple(_rows(ordered, sums)),
        settings=settings,
        packages=tuple(packages),
        running=running,
        others=tuple(sorted(others)),
        findings=tuple(sorted(known, key=order)),
        overrides=overrides(policy, ordered, known),
        baseline=baseline,
    )


def _place(entry: Looked) -> tuple[str, str]:
    return entry.source, entry.path


def kept(policy: Policy, entry: Looked) -> Looked:
    """The entry, with the reason where policy says that the module stays as it is."""
    if entry.kept:
        return entry
    keep = kept_by(policy, entry.path, *entry.names)
    if keep:
        return entry._replace(kept=keep.reason)
    if entry.unstripped and entry.signature and policy.signed == "keep":
        return entry._replace(kept=SIGNED)
    if entry.unstripped and entry.livepatch and policy.livepatch == "keep":
        return entry._replace(kept=LIVEPATCH)
    return entry


def labels(entries: Iterable[Looked]) -> Iterator[Finding]:
    """One finding for the modules of each source and kernel that have labels to drop."""
    for (source, kernel), same in groupby(entries, key=_group):
        sizes = [entry.label_bytes for entry in same if entry.label_bytes and not entry.kept]
        if sizes:
            yield finding("labels", source or kernel, modules=len(sizes), bytes=sum(sizes))


def _group(entry: Looked) -> tuple[str, str]:
    return entry.source, entry.kernel


def _rows(entries: Sequence[Looked], sums: Sums) -> Iterator[Row]:
    groups: dict[tuple[str, str], list[Looked]] = {}
    for entry in entries:
        groups.setdefault(_group(entry), []).append(entry)
    for source, kernel in sorted(groups):
        yield Row(source, kernel, sums if len(groups) == 1 else add_up(groups[source, kernel]))


def add_up(entries: Sequence[Looked]) -> Sums:
    """The sums over `entries`."""
    seen = [entry for entry in entries if not entry.kept]
    image_size = sum([entry.image_size for entry in seen])
    return Sums(
        modules=len(entries),
        file_size=sum([entry.file_size for entry in entries]),
        kept=len(entries) - len(seen),
        unstripped=sum([entry.unstripped for entry in seen]),
        damaged=sum([_is_damaged(entry) for entry in seen if entry.findings]),
        compressed=len(seen) - [entry.compression for entry in seen].count(Compression.NONE.value),
        signed=sum([entry.signature != "" for entry in seen]),
        image_size=image_size,
        saving=image_size - sum([entry.expected for entry in seen]),
        label_bytes=sum([entry.label_bytes for entry in seen]),
    )


def _is_damaged(entry: Looked) -> bool:
    return any(each.severity is Severity.ERROR and each.id != "unstripped" for each in entry.findings)


def _left_alone(policy: Policy, entry: Looked, finding: Finding) -> bool:
    if silenced(policy, finding):
        return True
    by_setting = entry.kept in {SIGNED, LIVEPATCH} and not kept_by(policy, entry.path, *entry.names)
    return bool(entry.kept) and (finding.id == "unstripped" or not by_setting)


def judge(survey: Survey, policy: Policy) -> Verdict:
    """The verdict: fails on a finding of at least `policy.fail_on` that no keep entry silences.

    Those of a module that a keep entry keeps are left alone as well; of one that a setting keeps, which is about
    stripping, only that it is unstripped.
    """
    counted: list[Finding] = []
    left: list[Finding] = []
    for each in survey.findings:
        (left if silenced(policy, each) else counted).append(weighed(policy.severities, each))
    for entry in survey.entries:
        for each in entry.findings:
            (left if _left_alone(policy, entry, each) else counted).append(weighed(policy.severities, each))
    passed = all(each.severity < policy.fail_on for each in counted)
    return Verdict(passed, tuple(sorted(counted, key=order)), tuple(sorted(left, key=order)))
