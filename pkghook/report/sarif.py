"""The report as SARIF 2.1.0 (OASIS): findings as results, the registry's texts as rules, for code scanning and editors.

Places are relative URIs below the base `ROOT`, which has no URI of its own: the same run gives the same document in any
directory.  A finding that is about no file (a keep entry, a kernel) has a logical location.  Every text is printable:
what is not becomes a backslash escape in texts and a percent escape in URIs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pkghook.findings import Severity, registry
from pkghook.report import base_name, placeless, printable, sentence

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from pkghook.findings import Finding, Kind
    from pkghook.report import Style
    from pkghook.report.facts import Run, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
BASE = "ROOT"
NO_FILES = frozenset({"unused-keep", "list-matched-nothing"})  # their subjects are globs and names of lists


def render(run: Run, verdict: Verdict, style: Style) -> str:
    """The document, ending with a newline. The style changes nothing in it."""
    del style
    rules = _rules((*verdict.findings, *verdict.silenced))
    numbers = {kind.id: at for at, kind in enumerate(rules)}
    reasons = _reasons(run)
    kernels = frozenset(entry.kernel for entry in run.entries)
    told: list[tuple[Finding, tuple[dict[str, object], ...]]] = [(found, ()) for found in verdict.findings]
    told += [(found, (_suppression(found, reasons),)) for found in verdict.silenced]
    results = [
        _result(placeless(found), numbers, kernels) | {"suppressions": suppressions} for found, suppressions in told
    ]
    driver = {"name": "pkghook", "version": run.pkghook, "rules": [_rule(kind) for kind in rules]}
    document = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "automationDetails": {"id": f"pkghook/{run.mode}/"},
                "invocations": [{"executionSuccessful": True, "exitCode": 0 if verdict.passed else 1}],
                "originalUriBaseIds": {BASE: {"description": {"text": "the directory or package that was looked at"}}},
                "results": results,
            }
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def _rules(findings: Iterable[Finding]) -> list[Kind]:
    """The kinds of these findings in the order of the registry."""
    ids = {found.id for found in findings}
    return [kind for kind in registry().values() if kind.id in ids]


def _rule(kind: Kind) -> dict[str, object]:
    return {
        "id": kind.id,
        "shortDescription": {"text": f"{kind.title}."},
        "fullDescription": {"text": kind.text},
        "help": {"text": kind.hint},
        "defaultConfiguration": {"level": LEVELS[kind.severity]},
    }


def _result(found: Finding, numbers: Mapping[str, int], kernels: Container[str]) -> dict[str, object]:
    evidence = {key: value if isinstance(value, int) else printable(value) for key, value in found.evidence}
    about = f"{printable(found.subject)}: " if found.subject else ""
    return {
        "ruleId": found.id,
        **({"ruleIndex": numbers[found.id]} if found.id in numbers else {}),
        "level": LEVELS[found.severity],
        "message": {"text": literal(about + sentence(found))},
        "locations": [_location(found, kernels)] if found.subject else [],
        "properties": {"evidence": evidence},
    }


def literal(text: str) -> str:
    """`text` as a message in which nothing is a placeholder or a link (3.11.5 and 3.11.6 of the specification)."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _location(found: Finding, kernels: Container[str]) -> dict[str, object]:
    uri = "" if found.id in NO_FILES or found.subject in kernels else relative_uri(found.subject)
    if not uri:
        return {"logicalLocations": [{"name": printable(found.subject)}]}
    return {"physicalLocation": {"artifactLocation": {"uri": uri, "uriBaseId": BASE}}}


def relative_uri(path: str) -> str:
    """A path as a relative URI reference (RFC 3986), its bytes percent-encoded where they must be.

    Of an absolute path, of a package that was named so, the last part; "" for a path that leads elsewhere when the
    URI is resolved.
    """
    from urllib.parse import quote

    parts = base_name(path).split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return ""
    return quote("/".join(parts).encode("utf-8", "surrogateescape"), safe="/")


def _suppression(found: Finding, reasons: Mapping[tuple[str, str], str]) -> dict[str, object]:
    reason = reasons.get((found.id, found.subject)) or reasons.get(("", found.subject), "")
    justified = {"justification": printable(reason)} if reason else {}
    return {"kind": "external", "status": "accepted", **justified}


def _reasons(run: Run) -> dict[tuple[str, str], str]:
    """Why findings are left alone, by finding id ("" for all of a module) and subject."""
    kept: Sequence[tuple[str, str]] = [(entry.path, getattr(entry, "kept", "")) for entry in run.entries]
    found = {("", path): reason for path, reason in kept if reason}
    for override in run.overrides:
        found |= {(override.keep.finding, subject): override.keep.reason for subject in override.matched}
    return found
