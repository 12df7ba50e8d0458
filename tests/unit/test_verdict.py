"""May it pass: severities against --fail-on, failed modules, silenced findings, order."""

from __future__ import annotations

import pytest

from pkghook.errors import WorkerError
from pkghook.findings import Finding, Severity
from pkghook.judge import receipt
from pkghook.judge.policy import Keep, Policy
from pkghook.judge.receipt import Receipt
from pkghook.judge.verdict import Verdict, judge
from pkghook.model import Attempt, Entry, Outcome, State
from tests.receipts import error, module, warning


def of(*entries: Entry, findings: tuple[Finding, ...] = ()) -> Receipt:
    """A receipt of these."""
    return receipt.make("strip", entries, findings=findings)


def test_nothing_found_passes() -> None:
    """A clean run, and a run over no modules at all."""
    assert judge(of(module("a.ko"), module("k.ko", State.KEPT)), Policy()) == Verdict(passed=True, findings=())
    assert judge(of(), Policy()).passed


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("fail_on", Severity)
def test_fail_on_is_the_lowest_severity_that_closes_the_gate(severity: Severity, fail_on: Severity) -> None:
    """For findings about the tree and about one module alike."""
    finding = Finding("some-id", severity, "x")
    for run in (of(findings=(finding,)), of(module("a.ko", findings=(finding,)))):
        assert judge(run, Policy(fail_on=fail_on)) == Verdict(severity < fail_on, (finding,))


def test_one_failed_module_fails_the_packaging() -> None:
    """However many were stripped."""
    verdict = judge(of(module("a.ko"), module("b.ko", State.FAILED)), Policy())
    assert verdict == Verdict(passed=False, findings=(error("b.ko"),))


def test_findings_of_attempts_are_history() -> None:
    """A later step made good what was wrong with an earlier one."""
    attempt = Attempt("native", "1", Outcome.REJECTED, findings=(error("a.ko", "symbol-changed"),))
    assert judge(of(module("a.ko", attempts=(attempt,))), Policy()) == Verdict(passed=True, findings=())


def test_silenced_findings_close_no_gate() -> None:
    """They are told apart, not lost."""
    known, other = error("a.ko", "residue"), error("b.ko", "residue")
    tree = Finding("record-missing", Severity.ERROR, "c.ko")
    keeps = (Keep("a.ko", "residue", "known", "--keep"), Keep("c.ko", "record-missing", "new", "--keep"))
    run = of(module("a.ko", findings=(known,)), findings=(tree,))
    assert judge(run, Policy(keeps=keeps)) == Verdict(passed=True, findings=(), silenced=(tree, known))
    run = of(module("a.ko", findings=(known,)), module("b.ko", findings=(other,)))
    assert judge(run, Policy(keeps=keeps)) == Verdict(passed=False, findings=(other,), silenced=(known,))


def test_a_failed_module_stays_failed_whatever_is_silenced() -> None:
    """And the error that says why stays among the findings."""
    entry = module("a.ko", State.FAILED, findings=(error("a.ko"), warning("a.ko")))
    keeps = tuple(Keep("a.ko", id, "please", "--keep") for id in ("chain-exhausted", "fell-through"))
    expected = Verdict(passed=False, findings=(error("a.ko"),), silenced=(warning("a.ko"),))
    assert judge(of(entry), Policy(keeps=keeps)) == expected


def test_the_most_severe_first_then_subject_then_id() -> None:
    """The same order whatever came first, even if evidence is of other types."""
    findings = (
        Finding("a", Severity.ERROR, "m"),
        Finding("b", Severity.ERROR, "m", (("n", "1"),)),
        Finding("b", Severity.ERROR, "m", (("n", 1),)),
        Finding("a", Severity.ERROR, "n"),
        Finding("a", Severity.WARNING, "a"),
        Finding("a", Severity.INFO, "a"),
    )
    assert judge(of(findings=findings[::-1]), Policy()).findings == findings
    entry = module("a.ko", findings=findings[::-2])
    assert judge(of(entry, findings=findings[-2::-2]), Policy()).findings == findings


def test_a_failed_module_without_an_error_is_a_fault_of_ours() -> None:
    """It must never pass for an explanation."""
    entry = module("a.ko", State.FAILED, findings=(warning("a.ko"),))
    with pytest.raises(WorkerError, match=r"a\.ko: failed without an error"):
        judge(of(entry), Policy(fail_on=Severity.ERROR))


def test_severities_of_the_user() -> None:
    """Raised ones close the gate, lowered ones do not; a finding of another id keeps its own."""
    told, grave = warning("a.ko", "fell-through"), error("b.ko", "record-missing")
    run = of(module("a.ko", findings=(told,)), findings=(grave,))
    raised = Policy(severities=(("fell-through", Severity.ERROR), ("record-missing", Severity.INFO)))
    verdict = judge(run, raised)
    assert not verdict.passed
    assert verdict.findings == (told._replace(severity=Severity.ERROR), grave._replace(severity=Severity.INFO))
    assert judge(run, Policy(severities=(("record-missing", Severity.WARNING),))).passed


def test_the_error_of_a_failed_module_is_not_lowered() -> None:
    """The gate is closed for it, and the report must say why; a warning about the same module may be raised."""
    broken, told = error("a.ko", "residue"), warning("a.ko", "fell-through")
    run = of(module("a.ko", State.FAILED, findings=(broken, told)))
    levels = (("fell-through", Severity.ERROR), ("residue", Severity.INFO))
    verdict = judge(run, Policy(severities=levels))
    assert verdict == Verdict(passed=False, findings=(told._replace(severity=Severity.ERROR), broken))
