"""The report for programs: a receipt or a survey and the verdict on it as one JSON document.

It has the members of the receipt or survey, under the same names and with entries in the same form (a field that
has its default is left out), but `findings` are those of the verdict, each with title and hint; beside them stand
`passed` and `silenced`.  Layout as `fields`: pure ASCII, one entry a line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook import fields
from pkghook.findings import Finding, registry
from pkghook.model import Sizes
from pkghook.report.facts import is_receipt, is_survey, is_system

if TYPE_CHECKING:
    from pkghook.report import Style
    from pkghook.report.facts import (
        Baseline,
        LookedSums,
        Override,
        Receipt,
        ReleaseSizes,
        Row,
        Run,
        Sums,
        Survey,
        SystemSurvey,
        Totals,
        Verdict,
    )

FORMAT = "pkghook report"
VERSION = 1


def render(run: Run, verdict: Verdict, style: Style) -> str:
    """The document, ending with a newline. The style changes nothing in it."""
    del style
    document = {
        "format": FORMAT,
        "version": VERSION,
        "passed": verdict.passed,
        "findings": [explained(found) for found in verdict.findings],
        "silenced": [plain(found) for found in verdict.silenced],
        "pkghook": run.pkghook,
        "mode": run.mode,
        "settings": run.settings,
        **(_stripped(run) if is_receipt(run) else {}),
        **(_looked(run) if is_survey(run) else {}),
        **(_system(run) if is_system(run) else {}),
        "overrides": [_override(override) for override in run.overrides],
        "entries": [plain(entry) for entry in run.entries],
    }
    return fields.layout(document).decode("ascii")


def _stripped(receipt: Receipt) -> dict[str, object]:
    walk = receipt.walk
    return {
        "tools": receipt.tools,
        "totals": _totals(receipt.totals),
        "rows": [_row(row) for row in receipt.totals.rows],
        "walk": {"links": walk.links, "debug_modules": walk.debug_modules, "debug_bytes": walk.debug_bytes},
        "others": _others(walk.others),
    }


def _looked(survey: Survey) -> dict[str, object]:
    return {
        "running": survey.running,
        "totals": _looked_sums(survey.sums),
        "rows": [{"source": row.source, "kernel": row.kernel, **_looked_sums(row.sums)} for row in survey.rows],
        "packages": [plain(package) for package in survey.packages],
        "others": _others(survey.others),
        **({"baseline": _baseline(survey.baseline)} if survey.baseline else {}),
    }


def _baseline(found: Baseline) -> dict[str, object]:
    return {
        "name": found.name,
        "before": _release(found.before),
        "now": _release(found.now),
        "growth_percent": round(found.growth, 2),
        "kernels": [{"before": before, "now": now} for before, now in found.kernels],
        "gone": found.gone,
        "came": found.came,
        "changed": [{"path": each.path, "before": each.before, "now": each.now} for each in found.changed],
        "compared": found.compared,
    }


def _release(sizes: ReleaseSizes) -> dict[str, int]:
    return {name: getattr(sizes, name) for name in ("modules", "file_size", "image_size", "expected")}


def _system(survey: SystemSurvey) -> dict[str, object]:
    return {
        "kernels": [plain(kernel) for kernel in survey.kernels],
        "owners": [plain(remedy) for remedy in survey.owners],
        "fixed": [plain(entry) for entry in survey.fixed],
    }


def _looked_sums(sums: LookedSums) -> dict[str, object]:
    names = ("modules", "file_size", "kept", "unstripped", "damaged", "compressed", "signed", "image_size", "saving")
    return {name: getattr(sums, name) for name in (*names, "label_bytes")}


def _others(others: tuple[tuple[str, int], ...]) -> list[dict[str, object]]:
    return [{"path": path, "size": size} for path, size in others]


def explained(found: Finding) -> dict[str, object]:
    """A finding, with the title and hint that the registry has for its id."""
    row = registry().get(found.id)
    return _finding(found) | ({"title": row.title, "hint": row.hint} if row else {})


def plain(value: object) -> object:
    """A value of `model` as JSON has it.

    Findings have their evidence as an object; other named tuples become objects by field name, without the
    fields that have their default (but sizes stand in full: 0 is a size); enums are texts already.
    """
    if isinstance(value, Finding):
        return _finding(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        default: dict[str, object] = {} if isinstance(value, Sizes) else getattr(value, "_field_defaults", {})
        items = value._asdict().items()
        return {name: plain(item) for name, item in items if name not in default or item != default[name]}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value


def _finding(found: Finding) -> dict[str, object]:
    evidence = dict(found.evidence)
    return {"id": found.id, "severity": str(found.severity), "subject": found.subject, "evidence": evidence}


def _sums(sums: Sums) -> dict[str, object]:
    names = ("modules", "file_before", "file_after", "image_before", "image_after", "expected", "saved")
    return {name: getattr(sums, name) for name in names}


def _totals(totals: Totals) -> dict[str, object]:
    return _sums(totals) | {"states": dict(totals.states), "proofs": dict(totals.proofs)}


def _row(row: Row) -> dict[str, object]:
    proofs = {"verified": row.verified, "recorded": row.recorded, "none": row.none}
    return {"kernel": row.kernel, "state": row.state, "step": row.step, **_sums(row), **proofs}


def _override(override: Override) -> dict[str, object]:
    keep = override.keep
    about = {"finding": keep.finding} if keep.finding else {}
    return {"glob": keep.glob, **about, "reason": keep.reason, "origin": keep.origin, "matched": override.matched}
