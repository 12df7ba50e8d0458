"""The report as JUnit XML: read back by junitparser, and what it says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from pkghook.findings import Finding, Severity, make, registry
from pkghook.judge import receipt
from pkghook.judge.policy import Policy
from pkghook.judge.receipt import Receipt
from pkghook.judge.verdict import judge
from pkghook.report import REPORTS, Style
from tests.unit import report_samples as samples

# XML 1.0, production 2
ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def suites(of: Receipt, fail_on: Severity = Severity.ERROR) -> dict[str, TestSuite]:
    """By name, after all counts have been compared with what is there."""
    text = REPORTS["junit"](of, judge(of, Policy(fail_on=fail_on)), Style(fail_on=fail_on))
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')
    assert not ILLEGAL.search(text)
    assert "time" not in ET.fromstring(text.encode()).attrib  # noqa: S314  our own text
    document = JUnitXml.fromstring(text.encode())
    found = {suite.name: suite for suite in document}
    counted: list[tuple[Any, list[TestCase]]] = [(suite, list(suite)) for suite in document]
    for whole, cases in (*counted, (document, [case for suite in document for case in suite])):
        assert whole.tests == len(cases)
        assert whole.failures == sum(any(isinstance(each, Failure) for each in case.result) for case in cases)
        assert whole.skipped == sum(any(isinstance(each, Skipped) for each in case.result) for case in cases)
        assert whole.errors == 0
    return found


def cases(suite: TestSuite) -> dict[str, TestCase]:
    """By the last part of the name."""
    return {case.name.rpartition("/")[2]: case for case in suite}


def test_one_case_a_module_one_suite_a_kernel() -> None:
    of = samples.mixed()
    found = suites(of)
    assert set(found) == {"6.1", "6.12", "modules", "pkghook"}
    named = {case.name for name in ("6.1", "6.12", "modules") for case in found[name]}
    assert named == {entry.path.replace("\udcff", "\\xff").replace("\n", "\\n") for entry in of.entries}
    assert all(case.classname == name for name, suite in found.items() for case in suite)


def test_states() -> None:
    found = cases(suites(samples.mixed())["6.1"])
    assert found["a.ko"].result == []
    assert [type(each) for each in found["c.ko"].result] == [Skipped]
    assert found["c.ko"].result[0].message == "vendor's own"
    (failure,) = found["d\\xff\\n.ko"].result
    assert (type(failure), failure.type) == (Failure, "not-elf")
    assert failure.message == registry()["not-elf"].title + " (magic: 7f 45\\u202e)"
    assert f"hint: {registry()['not-elf'].hint}" in failure.text
    assert found["b.ko"].result == []
    assert "[fell-through]" in found["b.ko"].system_out


def test_fail_on_decides_what_is_a_failure() -> None:
    found = suites(samples.mixed(), Severity.WARNING)
    assert [type(each) for each in cases(found["6.1"])["b.ko"].result] == [Failure]
    assert [type(each) for each in cases(found["pkghook"])["z*"].result] == [Failure]


def test_what_is_about_no_module_has_a_case_of_its_own() -> None:
    of = receipt.make("strip", [], findings=[make("no-proof", "x"), make("no-proof", "")])
    found = cases(suites(of)["pkghook"])
    assert set(found) == {"x", "strip"}
    assert [len(case.result) for case in found.values()] == [1, 1]


def test_every_error_of_a_module_is_a_failure_of_it() -> None:
    path = "lib/modules/6.1/a.ko"
    of = receipt.make("strip", [samples.failed("a.ko", "6.1", 1, make("not-elf", path), make("truncated", path))])
    (case,) = suites(of)["6.1"]
    assert [each.type for each in case.result] == ["not-elf", "truncated"]


def test_nothing_at_all() -> None:
    assert suites(receipt.make("strip", [])) == {}


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, 0x85, 0x202E, 0xDCFF, 0xD800, 0xFFFE, 0xFFFF, 0x1FFFE, 0xE000])
def test_every_text_is_legal_xml(code: int) -> None:
    text = f"<a&\"'{chr(code)}]]>.ko"
    of = receipt.make("strip", [samples.kept(text, "6.1", 5, text)], findings=[Finding(text, Severity.ERROR, text)])
    found = suites(of)
    (case,) = found["6.1"]
    assert case.name.startswith("lib/modules/6.1/<a&\"'")
    assert case.result[0].message.startswith("<a&\"'")
    (case,) = found["pkghook"]
    assert case.result[0].text.startswith("error: <a&\"'")


def test_no_absolute_path_is_told() -> None:
    of = receipt.make("strip", [], findings=[Finding("not-elf", Severity.ERROR, "/home/somebody/x.rpm")])
    assert "somebody" not in REPORTS["junit"](of, samples.verdict(of), Style())
