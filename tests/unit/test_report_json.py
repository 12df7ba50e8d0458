"""The report for programs."""

from __future__ import annotations

import json
from typing import Any

from pkghook.findings import registry
from pkghook.judge import receipt
from pkghook.judge.policy import Keep, Policy
from pkghook.judge.receipt import Receipt
from pkghook.report import REPORTS, Style
from tests.unit import report_samples as samples


def report(of: Receipt, policy: Policy = Policy()) -> Any:  # noqa: ANN401, B008  JSON; frozen
    return json.loads(REPORTS["json"](of, samples.verdict(of, policy), Style(quiet=True)))


def test_it_has_what_the_receipt_has_in_the_same_form() -> None:
    for of in (samples.clean(), samples.mixed(), samples.mixed("dry-run"), receipt.make("strip", [])):
        ours, theirs = report(of), json.loads(receipt.dump(of))
        for own in ("format", "version", "findings"):
            del theirs[own]
        assert theirs == {name: ours[name] for name in theirs}


def test_verdict() -> None:
    assert report(samples.clean())["passed"] is True
    found = report(samples.mixed())
    assert (found["format"], found["version"], found["passed"]) == ("pkghook report", 1, False)
    assert [row["id"] for row in found["findings"]] == ["not-elf", "fell-through", "unused-keep"]
    assert found["findings"][1] == {
        "id": "fell-through",
        "severity": "warning",
        "subject": "lib/modules/6.1/b.ko",
        "evidence": {"first": "native", "passed": "objcopy"},
        "title": registry()["fell-through"].title,
        "hint": registry()["fell-through"].hint,
    }


def test_silenced_findings_stand_apart() -> None:
    found = report(samples.mixed(), Policy(keeps=(Keep("z*", "unused-keep", "known", "--keep"),)))
    assert [row["id"] for row in found["findings"]] == ["not-elf", "fell-through"]
    assert [row["id"] for row in found["silenced"]] == ["unused-keep"]


def test_finding_of_a_newer_version_has_no_title() -> None:
    newer = samples.mixed().findings[0]._replace(id="from-the-future")
    found = report(receipt.make("strip", [], findings=[newer]))
    assert found["findings"][0].keys() == {"id", "severity", "subject", "evidence"}


def test_names_that_are_not_utf8_survive() -> None:
    of = samples.mixed()
    text = REPORTS["json"](of, samples.verdict(of), Style())
    assert text.isascii()
    assert [entry["path"] for entry in json.loads(text)["entries"]] == [entry.path for entry in of.entries]
