"""The report as SARIF: parsed strictly by a model of somebody else's, and what it says."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from sarif_pydantic import Sarif

from pkghook import __version__
from pkghook.findings import Finding, Severity, make, registry
from pkghook.judge import receipt
from pkghook.judge.policy import Keep, Policy
from pkghook.judge.receipt import Override, Receipt
from pkghook.report import REPORTS, Style
from pkghook.report.sarif import relative_uri
from tests.unit import report_samples as samples

KNOWN = {"$schema", "version", "runs"}
LEVELS = {"error", "warning", "note"}


def report(of: Receipt, policy: Policy = Policy()) -> Any:  # noqa: ANN401, B008  JSON; frozen
    """The one run, after the model has read the whole document strictly."""
    text = REPORTS["sarif"](of, samples.verdict(of, policy), Style())
    assert text.isascii()
    assert text.endswith("}\n")
    Sarif.model_validate_json(text, strict=True)
    document = json.loads(text)
    assert document.keys() == KNOWN
    assert (document["version"], len(document["runs"])) == ("2.1.0", 1)
    return document["runs"][0]


def found(*findings: Finding, **more: Any) -> Any:  # noqa: ANN401  further parts of a receipt
    """The results of a run with these findings about the tree as a whole."""
    return report(receipt.make("strip", [], findings=findings, **more))["results"]


def uri(result: Any) -> str:  # noqa: ANN401  JSON
    """Where a result is."""
    (location,) = result["locations"]
    at: str = location["physicalLocation"]["artifactLocation"]["uri"]
    return at


def test_a_clean_run_has_no_results_and_no_rules() -> None:
    run = report(samples.clean())
    assert (run["results"], run["tool"]["driver"]["rules"]) == ([], [])
    assert run["tool"]["driver"]["version"] == __version__
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 0}]


def test_rules_are_those_of_the_registry_that_occur() -> None:
    run = report(samples.mixed())
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["not-elf", "fell-through", "unused-keep"]
    for rule in rules:
        kind = registry()[rule["id"]]
        assert rule["shortDescription"]["text"] == kind.title + "."
        assert rule["fullDescription"]["text"] == kind.text
        assert rule["help"]["text"] == kind.hint
        assert rule["defaultConfiguration"]["level"] == {3: "error", 2: "warning", 1: "note"}[kind.severity]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in LEVELS
    assert run["invocations"][0]["exitCode"] == 1


def test_a_result() -> None:
    (result,) = found(make("record-missing", "lib/modules/6.1/a b.ko", path="x"))
    assert result == {
        "ruleId": "record-missing",
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": f"lib/modules/6.1/a b.ko: {registry()['record-missing'].title} (path: x)"},
        "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": "lib/modules/6.1/a%20b.ko", "uriBaseId": "ROOT"}}}
        ],
        "properties": {"evidence": {"path": "x"}},
        "suppressions": [],
    }


@pytest.mark.parametrize(
    "name", ["a.ko", "d\udcff\n.ko", "50%.ko", "a:b.ko", "?#[]@!$&'()*+,;=.ko", "ü/\u202e.ko", "//", "\x00\x1b.ko"]
)
def test_hostile_names_become_relative_uris_that_lead_back(name: str) -> None:
    path = f"lib/modules/6.1/{name}"
    at = relative_uri(path)
    if "//" in name:  # a part without a name: no file
        assert at == ""
        return
    assert at.isascii()
    assert not at.startswith(("/", "file:"))
    assert not set(at) & set(' <>"{}|\\^`?#[]:\n')
    assert unquote_to_bytes(at) == path.encode("utf-8", "surrogateescape")
    (result,) = found(Finding("not-elf", Severity.ERROR, path))
    assert uri(result) == at


@pytest.mark.parametrize("path", ["../etc/shadow", "a/../../b", "./a", "a//b", "", "."])
def test_what_leads_elsewhere_is_no_uri(path: str) -> None:
    assert relative_uri(path) == ""


def test_no_absolute_path_is_told() -> None:
    (result,) = found(Finding("not-elf", Severity.ERROR, "/home/somebody/build/x.rpm"))
    assert "somebody" not in json.dumps(result)
    assert uri(result) == "x.rpm"


def test_what_is_no_file_is_a_logical_location() -> None:
    (result,) = found(make("unused-keep", "lib/*.ko", reason="r", origin="--keep"))
    assert result["locations"] == [{"logicalLocations": [{"name": "lib/*.ko"}]}]
    assert found(make("no-proof", ""))[0]["locations"] == []
    of = receipt.make("strip", [samples.kept("a.ko", "6.1", 1, "r")], findings=[make("vermagic-changed", "6.1")])
    (result,) = report(of)["results"]
    assert result["locations"] == [{"logicalLocations": [{"name": "6.1"}]}]


def test_nothing_in_a_message_is_a_placeholder_or_a_link() -> None:
    (result,) = found(Finding("not-elf", Severity.ERROR, "{0}.ko", (("why", "[click](http://x) {1}"),)))
    assert result["message"]["text"].startswith("{{0}}.ko: ")
    assert "](" not in result["message"]["text"]
    assert result["properties"]["evidence"] == {"why": "[click](http://x) {1}"}


def test_silenced_findings_are_suppressed_with_the_reason() -> None:
    policy = Policy(keeps=(Keep("z*", "unused-keep", "known \x1b", "--keep"),))
    of = samples.mixed()
    of = of._replace(overrides=(*of.overrides, Override(policy.keeps[0], ("z*",))))
    *others, last = report(of, policy)["results"]
    assert [result["suppressions"] for result in others] == [[], []]
    assert last["ruleId"] == "unused-keep"
    assert last["suppressions"] == [{"kind": "external", "status": "accepted", "justification": "known \\x1b"}]


def test_a_severity_of_the_users_is_the_level() -> None:
    levels = Policy(severities=(("fell-through", Severity.ERROR),))
    run = report(samples.mixed(), levels)
    assert {result["ruleId"]: result["level"] for result in run["results"]}["fell-through"] == "error"
    assert run["tool"]["driver"]["rules"][1]["defaultConfiguration"]["level"] == "warning"


def test_finding_of_a_newer_version_has_no_rule() -> None:
    (result,) = found(samples.mixed().findings[0]._replace(id="from-the-future"))
    assert "ruleIndex" not in result
    assert result["message"]["text"].endswith(": from-the-future (reason: none; origin: --keep)")
