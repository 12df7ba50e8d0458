"""The report for people on an installed system: sums by kernel, findings by owner with what can be done, --fix."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.report import printable
from pkghook.report.survey import modules, others, outcome, table
from pkghook.report.text import BOLD, finding_lines, module_lines, paint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pkghook.findings import Finding
    from pkghook.report import Style
    from pkghook.report.facts import Remedy, SystemSurvey, Verdict

SYSTEM, NOBODY = "the system", "nobody's"


def parts(survey: SystemSurvey, verdict: Verdict, style: Style) -> Iterator[Iterable[str]]:
    """Paragraphs, as lines."""
    yield modules(survey) if style.verbose else ()
    yield table(survey, style)
    yield _bare(survey)
    yield others(survey, style)
    by_owner = _by_owner(survey, verdict.findings)
    remedies = {remedy.owner: remedy for remedy in survey.owners}
    for owner in sorted(by_owner, key=lambda owner: (owner == SYSTEM, owner == NOBODY, owner)):
        yield _group(owner, by_owner[owner], remedies.get(owner), style)
    dry = dict(survey.settings).get("fix") == "dry-run"
    yield module_lines(survey.fixed, "dry-run" if dry else "audit", style._replace(verbose=True))
    yield () if dry else _hints(survey)
    yield outcome(survey, verdict, style)


def _bare(survey: SystemSurvey) -> Iterator[str]:
    """Kernels that the table does not have."""
    there = {row.kernel for row in survey.rows}
    for kernel in survey.kernels:
        if kernel.version not in there:
            owned = f"; in it: {', '.join(map(printable, kernel.owners))}" if kernel.owners else ""
            running = " (running)" if kernel.running else ""
            yield f"{printable(kernel.version)}{running}: no modules{owned}"


def _by_owner(survey: SystemSurvey, findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    owners = {path: remedy.owner for remedy in survey.owners for path in remedy.subjects}
    owners |= {entry.path: entry.owner or NOBODY for entry in survey.entries}
    grouped: dict[str, list[Finding]] = {}
    for finding in findings:
        grouped.setdefault(owners.get(finding.subject, SYSTEM), []).append(finding)
    return grouped


def _group(owner: str, findings: list[Finding], remedy: Remedy | None, style: Style) -> Iterator[str]:
    """One owner's findings and the commands that help."""
    version = f" {printable(remedy.version)}" if remedy and remedy.version else ""
    yield paint(f"{printable(owner)}{version}:", BOLD, style)
    yield from finding_lines(findings, style)
    if remedy and remedy.report:
        yield f"  {paint('report:', BOLD, style)} {printable(remedy.report)}"
    if remedy and remedy.reinstall:
        yield f"  {paint('install again:', BOLD, style)} {printable(remedy.reinstall)}"


def _hints(survey: SystemSurvey) -> Iterator[str]:
    """An initramfs holds copies, and pkghook makes none."""
    stripped = sorted({entry.kernel for entry in survey.fixed if entry.step})
    if stripped:
        names = ", ".join(map(printable, stripped))
        yield f"an initramfs of {names} may hold copies of what was stripped: make it again"
