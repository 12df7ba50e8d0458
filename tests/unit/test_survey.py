"""The survey: what policy keeps, sums, findings that follow, and the verdict; and the report on it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pkghook.findings import Finding, Severity, make
from pkghook.judge import survey
from pkghook.judge.policy import Keep, Livepatch, Policy, Signed
from pkghook.judge.survey import Row, Sums, Survey
from pkghook.model import Looked, PackageFacts
from pkghook.report import REPORTS, Style

HOME = "lib/modules/6.1"


def clean(name: str = "a.ko", **fields: Any) -> Looked:  # noqa: ANN401  any field of Looked
    """A module without fault."""
    path = f"{HOME}/{name}"
    return Looked(path, "6.1", file_size=300, image_size=300, expected=300)._replace(**fields)


def fat(name: str = "b.ko", **fields: Any) -> Looked:  # noqa: ANN401  any field of Looked
    """An unstripped one."""
    path = f"{HOME}/{name}"
    finding = make("unstripped", path, saving=700)
    return clean(name, file_size=1000, image_size=1000, unstripped=True, findings=(finding,))._replace(**fields)


def of(*entries: Looked, policy: Policy = Policy(), **more: Any) -> Survey:  # noqa: ANN401, B008  as `make`; frozen
    """The survey of these."""
    return survey.make("check", entries, policy, **more)


def ids(findings: tuple[Finding, ...]) -> list[str]:
    """Only those."""
    return [each.id for each in findings]


def test_order_and_sums() -> None:
    found = of(
        fat("z.ko", source="two"), clean("c.ko.xz", source="one", compression="xz", file_size=100, signature="present"),
        clean("b.ko", source="one", label_bytes=40), fat("a.ko", source="one", kept="debug tree"),
    )  # fmt: skip
    assert [each.path.rpartition("/")[2] for each in found.entries] == ["a.ko", "b.ko", "c.ko.xz", "z.ko"]
    assert found.sums == Sums(4, 2400, 1, 1, 0, 1, 1, 1600, 700, 40)
    assert found.rows == (
        Row("one", "6.1", Sums(3, 1400, 1, 0, 0, 1, 1, 600, 0, 40)),
        Row("two", "6.1", Sums(1, 1000, 0, 1, 0, 0, 0, 1000, 700, 0)),
    )


def test_labels_are_told_once_for_each_source() -> None:
    found = of(*(clean(f"{n}.ko", source="one", label_bytes=n) for n in range(5)), clean("x.ko", source="two"))
    (finding,) = found.findings
    assert (finding.id, finding.subject, dict(finding.evidence)) == ("labels", "one", {"modules": 4, "bytes": 10})
    assert finding.severity is Severity.INFO


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("fail_on", Severity)
def test_fail_on(severity: Severity, fail_on: Severity) -> None:
    finding = Finding("some-id", severity, "x")
    for found in (of(clean(findings=(finding,))), of(findings=[finding])):
        verdict = survey.judge(found, Policy(fail_on=fail_on))
        assert (verdict.passed, verdict.findings) == (severity < fail_on, (finding,))


def test_modules_that_are_kept_close_no_gate() -> None:
    policy = Policy(keeps=(Keep("b.ko", "", "vendor", "--keep"),))
    found = of(fat(), clean(), policy=policy)
    verdict = survey.judge(found, policy)
    assert (verdict.passed, ids(verdict.findings), ids(verdict.silenced)) == (True, [], ["unstripped"])
    assert [each.kept for each in found.entries] == ["", "vendor"]
    assert [each.matched for each in found.overrides] == [(f"{HOME}/b.ko",)]


def test_what_a_setting_keeps_may_still_be_another_module() -> None:
    """It excuses that the module is unstripped, and nothing else."""
    other = Finding("alloc-changed", Severity.ERROR, f"{HOME}/b.ko")
    signed = fat(signature="present")
    signed = signed._replace(findings=(*signed.findings, other))
    verdict = survey.judge(of(signed, policy=Policy(signed=Signed.KEEP)), Policy(signed=Signed.KEEP))
    assert (verdict.passed, ids(verdict.findings), ids(verdict.silenced)) == (False, ["alloc-changed"], ["unstripped"])
    by_entry = Policy(signed=Signed.KEEP, keeps=(Keep("**", "", "signed", "--keep"),))
    assert survey.judge(of(signed, policy=by_entry), by_entry).passed


def test_findings_that_are_left_alone() -> None:
    policy = Policy(keeps=(Keep("**", "unstripped", "debug kernel", "--keep"),))
    found = of(fat(), policy=policy)
    verdict = survey.judge(found, policy)
    assert (verdict.passed, ids(verdict.silenced), found.sums.unstripped) == (True, ["unstripped"], 1)


def test_unused_keep_entries() -> None:
    policy = Policy(keeps=(Keep("x.ko", "", "why", "--keep"), Keep("y.ko", "", "why", "keep.d/vendor")))
    found = of(fat(), policy=policy)
    assert [(each.id, each.subject) for each in found.findings] == [("unused-keep", "x.ko")]


def test_signed_and_livepatch_policies() -> None:
    signed, patch = fat("s.ko", signature="present"), fat("l.ko", livepatch=True)
    both = Policy(signed=Signed.KEEP, livepatch=Livepatch.KEEP)
    assert [each.kept for each in of(signed, patch, policy=both).entries] == ["livepatch", "signed"]
    assert [each.kept for each in of(signed, patch).entries] == ["", ""]
    assert [each.kept for each in of(clean("s.ko", signature="present"), policy=both).entries] == [""]


# --- the reports -----------------------------------------------------------------------------------------------------

FACTS = PackageFacts("x.deb", "deb", "x", "1-2", "amd64", "xz", 500, 2048, 1024, members=7)


def text(found: Survey, policy: Policy = Policy(), style: Style = Style()) -> str:  # noqa: B008  frozen
    """For people."""
    return REPORTS["text"](found, survey.judge(found, policy), style)


def test_text_of_a_clean_package() -> None:
    assert text(of(clean(), packages=[FACTS])) == (
        "x.deb: x 1-2 amd64; 500 B (xz); 1.0 kB in 7 members, its header says 2.0 kB\n"
        "\n"
        "kernel  modules   size\n"
        "6.1           1  300 B\n"
        "\n"
        "1 module: 1 stripped\n"
        "passed\n"
    )


def test_text_of_findings_sums_and_several_sources() -> None:
    damaged = clean("d.ko", source="two", findings=(make("not-elf", f"{HOME}/d.ko"),))
    kept = fat("k.ko", source="one", kept="debug tree", findings=())
    found = text(of(fat(source="one"), kept, damaged, others=[("lib/modules/6.1/vmlinux", 4096)]))
    assert "in     kernel  modules    size  unstripped  to be had  kept\n" in found
    rows = [line.split() for line in found.splitlines()]
    assert ["total", "3", "2.3", "kB", "1", "700", "B", "1"] in rows
    assert "other ELF files: 1 (4.1 kB)\n" in found
    assert "error: lib/modules/6.1/b.ko: debug information is left in the module (saving: 700) [unstripped]\n" in found
    assert "3 modules: 1 stripped, 1 unstripped, 1 with other errors, 1 kept as they are\n" in found
    assert "stripping would free 700 of 1,300 bytes\n" in found
    assert found.endswith("failed: 2 errors\n")


def test_verbose_and_quiet_text() -> None:
    found = of(fat(), clean("c.ko.xz", compression="xz", signature="present", names=("x", "y"), owner="dpkg:x"))
    lines = text(found, style=Style(verbose=True)).splitlines()
    assert f"unstripped       {HOME}/b.ko: 1.0 kB; 700 B to be had; [unstripped]" in lines
    assert (
        f"stripped         {HOME}/c.ko.xz: 300 B; xz, 300 B inside; signed; from dpkg:x; 2 further hard links" in lines
    )
    quiet = text(found, style=Style(quiet=True))
    assert [line.partition(":")[0] for line in quiet.splitlines()] == ["error", "  hint"]
    assert text(of(clean()), style=Style(quiet=True)) == ""


def test_names_are_safe_for_a_terminal() -> None:
    found = of(clean("a\x1b[2J.ko", source="s\x1b"), clean(source="t"))
    assert "\x1b" not in text(found, style=Style(verbose=True))


def test_no_modules() -> None:
    assert text(of()).startswith("no modules found")


def test_json() -> None:
    found = of(fat(source="one"), clean(source="two"), packages=[FACTS], running="6.1", settings=(("a", "b"),))
    said = json.loads(REPORTS["json"](found, survey.judge(found, Policy()), Style()))
    assert (said["format"], said["mode"], said["passed"], said["running"]) == ("pkghook report", "check", False, "6.1")
    assert said["totals"] == found.sums._asdict()
    assert said["rows"][0] == {"source": "one", "kernel": "6.1", **found.rows[0].sums._asdict()}
    assert said["packages"] == [{"path": "x.deb", "form": "deb", "name": "x", "version": "1-2", "arch": "amd64",
                                 "payload": "xz", "file_size": 500, "installed_size": 2048, "counted_size": 1024,
                                 "members": 7}]  # fmt: skip
    assert [each["path"] for each in said["entries"]] == [f"{HOME}/b.ko", f"{HOME}/a.ko"]
    assert said["entries"][0]["unstripped"] is True
    assert said["findings"][0]["evidence"] == {"saving": 700}
