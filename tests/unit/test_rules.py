"""Findings about a run as a whole, and which keep entries were used."""

from __future__ import annotations

from pkghook.findings import Evidence, Finding, Severity, make
from pkghook.judge import rules
from pkghook.judge.policy import Keep, Policy
from pkghook.judge.receipt import Override
from pkghook.model import Entry, Proof, State
from tests.receipts import DIRECTORY, error, module, warning

A, B = module("a.ko"), module("b.ko", State.ALREADY_STRIPPED)
KEPT, FAILED = module("k.ko", State.KEPT), module("f.ko", State.FAILED)
EVERY = [A, B, KEPT, FAILED]


def told(findings: list[Finding]) -> list[tuple[str, str, dict[str, Evidence]]]:
    """Id, subject and evidence."""
    return [(finding.id, finding.subject, dict(finding.evidence)) for finding in findings]


def test_no_proof_only_if_asked_for() -> None:
    """Without --require-proof the totals say it, and that is all."""
    assert not list(rules.no_proof(Policy(), EVERY))


def test_no_proof_of_each_module_that_has_none() -> None:
    """Not of one that failed: it has its own error."""
    recorded = module("r.ko", State.ALREADY_STRIPPED, proof=Proof.RECORDED)
    assert told(list(rules.no_proof(Policy(require_proof=True), [*EVERY, recorded]))) == [
        ("no-proof", B.path, {"state": "already-stripped"}),
        ("no-proof", KEPT.path, {"state": "kept"}),
    ]


def test_a_list_that_matched_nothing() -> None:
    """Named without its directory, with the number of modules in which it was looked for."""
    found = list(rules.list_matched_nothing("/home/me/my.list", 0, [A, A, B]))
    assert told(found) == [("list-matched-nothing", "my.list", {"modules": 3})]


def test_a_list_that_has_nothing_to_answer_for() -> None:
    """It matched, or there is none, or no module was looked at."""
    assert not list(rules.list_matched_nothing("my.list", 1, [A]))
    assert not list(rules.list_matched_nothing("", 0, [A]))
    assert not list(rules.list_matched_nothing("my.list", 0, [KEPT, FAILED]))


def test_overrides_say_what_was_matched() -> None:
    """Modules by path even where a further name matched; findings by subject, of entries and of the tree."""
    linked = module("x.ko", State.KEPT, names=(f"{DIRECTORY}/y.ko",))
    fell = module("b.ko", findings=(warning("b.ko"),))
    keeps = (
        Keep("y.ko", "", "why", "--keep"),
        Keep("nothing.ko", "", "why", "--keep"),
        Keep("**", "fell-through", "known", "--keep"),
        Keep("**", "record-unmatched", "moved", "--keep"),
    )
    tree = [
        Finding("record-unmatched", Severity.WARNING, "z.ko"),
        Finding("record-unmatched", Severity.WARNING, "c.ko"),
    ]
    assert rules.overrides(Policy(keeps=keeps), [linked, fell], tree) == (
        Override(keeps[0], (linked.path,)),
        Override(keeps[2], (fell.path,)),
        Override(keeps[3], ("c.ko", "z.ko")),
    )


def test_unused_keeps() -> None:
    """Each entry once; those of vendors hold for every tree, so there it is normal."""
    stale = Keep("z.ko", "", "old", "--keep")
    finding = Keep("a.ko", "fell-through", "known", "pkghook.toml")
    used = Keep("k.ko", "", "why", "--keep")
    vendor = Keep("v.ko", "", "why", "keep.d/vendor.toml")
    found = list(rules.unused_keeps(Policy(keeps=(stale, used, finding, vendor, stale)), EVERY, []))
    assert told(found) == [
        ("unused-keep", "z.ko", {"reason": "old", "origin": "--keep"}),
        ("unused-keep", "a.ko", {"finding": "fell-through", "reason": "known", "origin": "pkghook.toml"}),
    ]


def test_the_error_of_a_failed_module_is_not_for_silencing() -> None:
    """So an entry that tries is unused; a warning about the same module may be silenced."""
    entry = module("f.ko", State.FAILED, findings=(error("f.ko"), warning("f.ko")))
    hopeless = Keep("f.ko", "chain-exhausted", "please", "--keep")
    fine = Keep("f.ko", "fell-through", "known", "--keep")
    policy = Policy(keeps=(hopeless, fine))
    assert [override.keep for override in rules.overrides(policy, [entry], [])] == [fine]
    assert [finding.subject for finding in rules.unused_keeps(policy, [entry], [])] == ["f.ko"]


def test_conclude_brings_all_together() -> None:
    """What was known before, what follows, and entries that silence what only came up in the end."""
    stale = Keep("z.ko", "", "old", "--keep")
    quiet = Keep("z.ko", "unused-keep", "it comes and goes", "--keep")
    proof = Keep("b.ko", "no-proof", "from a vendor", "--keep")
    known = Finding("scratch-left", Severity.INFO, ".")
    policy = Policy(keeps=(stale, quiet, proof), require_proof=True)
    entries: list[Entry] = [A, B]
    findings, overrides = rules.conclude(policy, entries, [known], list_name="my.list")
    ids = [(finding.id, finding.subject) for finding in findings]
    assert ids == [
        ("scratch-left", "."),
        ("no-proof", B.path),
        ("list-matched-nothing", "my.list"),
        ("unused-keep", "z.ko"),
    ]
    assert overrides == (Override(quiet, ("z.ko",)), Override(proof, (B.path,)))


def test_a_module_whose_every_error_is_excused_is_kept() -> None:
    keep = Keep("*.ko", "signed-unstripped", "the vendor's", "--keep")
    failed = Entry("a.ko", "", State.FAILED, findings=(make("signed-unstripped", "a.ko"),))
    excused = rules.excuse(Policy(keeps=(keep,)), failed)
    assert (excused.state, excused.reason) == (State.KEPT, "signed-unstripped: the vendor's")
    other = failed._replace(findings=(*failed.findings, make("truncated", "a.ko")))
    assert rules.excuse(Policy(keeps=(keep,)), other) == other
    assert rules.excuse(Policy(), failed) == failed
