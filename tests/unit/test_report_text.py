"""The report for people, against golden texts."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkghook.findings import Severity, make, registry
from pkghook.judge import receipt
from pkghook.judge.policy import Keep, Policy
from pkghook.judge.receipt import Receipt
from pkghook.model import Entry, State
from pkghook.report import REPORTS, Style, printable, style_for
from pkghook.report.text import MANY, NO_MODULES, human
from pkghook.settings import Settings
from tests.unit import report_samples as samples

MIXED_MODULES = r"""
stripped         lib/modules/6.1/b.ko: native rejected (residue); eu-strip failed (killed by SIGSEGV\x1b[2J); 50.0 kB -> 30.0 kB by objcopy; [fell-through]
kept             lib/modules/6.1/c.ko: 5.0 kB; vendor's own
failed           lib/modules/6.1/d\xff\n.ko: original 312 B kept; [not-elf]
stripped         lib/modules/6.12/f.ko: 4.0 kB -> 1.5 kB by native; signature removed
"""  # noqa: E501  as it is printed
MIXED_TABLE = """
kernel  step              modules   before     after     saved  expected  proof
-       already-stripped        1    700 B     700 B       0 B       0 B  none
6.1     native                  1   1.0 MB  100.0 kB  900.0 kB  900.0 kB  verified
6.1     objcopy                 1  50.0 kB   30.0 kB   20.0 kB   20.0 kB  verified
6.1     kept                    1   5.0 kB    5.0 kB       0 B    2.5 kB  none
6.1     failed                  1    312 B     312 B       0 B       0 B  none
6.12    native                  2  24.0 kB   11.5 kB   12.5 kB            verified 1, recorded 1
          decompressed             94.0 kB   41.5 kB   52.5 kB   52.5 kB
total                           7   1.1 MB  147.5 kB  932.5 kB
          decompressed              1.2 MB  177.5 kB  972.5 kB  975.0 kB
"""
MIXED_LEFT_ALONE = """
debug trees: 2 modules kept (5.0 MB)
other ELF files: 1, not touched (40.0 kB)
"""
NOT_ELF = rf"""
error: lib/modules/6.1/d\xff\n.ko: {registry()["not-elf"].title} (magic: 7f 45\u202e) [not-elf]
  hint: {registry()["not-elf"].hint}
"""
MIXED_WARNINGS = f"""
warning: lib/modules/6.1/b.ko: {registry()["fell-through"].title} (first: native; passed: objcopy) [fell-through]
  hint: {registry()["fell-through"].hint}
warning: z*: {registry()["unused-keep"].title} (reason: none; origin: --keep) [unused-keep]
  hint: {registry()["unused-keep"].hint}
"""
MIXED_OUTCOME = """
7 modules: 4 stripped, 1 already-stripped, 1 kept, 1 failed
saved 932,492 of 1,080,012 bytes (86.3 %)
failed: 1 error, 2 warnings
"""


def text(of: Receipt, style: Style = Style(), policy: Policy = Policy()) -> str:  # noqa: B008  frozen
    return REPORTS["text"](of, samples.verdict(of, policy), style)


def golden(*parts: str) -> str:
    return "\n".join(part.removeprefix("\n") for part in parts)


def test_clean_run() -> None:
    assert text(samples.clean()) == golden(
        """
kernel  step    modules  before     after     saved  expected  proof
6.1     native        2  1.0 MB  101.0 kB  901.0 kB  901.0 kB  verified
""",
        """
2 modules: 2 stripped
saved 901,000 of 1,002,000 bytes (89.9 %)
passed
""",
    )


def test_clean_run_quiet() -> None:
    assert text(samples.clean(), Style(quiet=True)) == ""


def test_everything_at_once() -> None:
    assert text(samples.mixed()) == golden(
        MIXED_MODULES, MIXED_TABLE, MIXED_LEFT_ALONE, NOT_ELF.rstrip("\n") + MIXED_WARNINGS, MIXED_OUTCOME
    )


def test_quiet_has_what_closes_the_gate() -> None:
    assert text(samples.mixed(), Style(quiet=True)) == golden(NOT_ELF)
    warnings = text(samples.mixed(), Style(quiet=True, fail_on=Severity.WARNING))
    assert warnings == golden(NOT_ELF.rstrip("\n") + MIXED_WARNINGS)


def test_verbose_has_every_module_and_what_was_left_alone() -> None:
    told = text(samples.mixed(), Style(verbose=True))
    assert "already-stripped g.ko: 700 B\n" in told
    assert "stripped         lib/modules/6.1/a.ko: 1.0 MB -> 100.0 kB by native; 1 further hard link\n" in told
    assert "stripped         lib/modules/6.12/e.ko.xz: 20.0 kB -> 10.0 kB by native\n" in told
    assert "  lib/modules/6.1/vdso/vdso64.so.dbg: 40.0 kB\nsymlinks: 3, not followed\n" in told
    assert "kept by --keep: c.ko (matched 1): vendor's own\n" in told


def test_dry_run_says_would() -> None:
    told = text(samples.mixed("dry-run"))
    assert [line[:16].rstrip() for line in told.splitlines()[:4]] == [
        "would strip",
        "would keep",
        "would fail",
        "would strip",
    ]
    assert "  would save  " in told
    assert "\ndry run, nothing written; 7 modules: " in told
    assert "\nwould save 932,492 of 1,080,012 bytes" in told
    assert "\nsaved" not in told


def test_no_modules() -> None:
    assert text(receipt.make("strip", [])) == f"{NO_MODULES}\npassed\n"


def test_hint_is_said_once_for_many_findings() -> None:
    findings = [make("unused-keep", f"{at:03}", reason="r") for at in range(MANY + 5)]
    told = text(receipt.make("strip", [], findings=findings))
    assert told.count("hint: ") == 1
    assert told.count("[unused-keep]") == MANY + 1
    assert "warning: and 5 more (-v lists them) [unused-keep]\n" in told


@pytest.mark.parametrize("style", [Style(verbose=True), Style(fail_on=Severity.WARNING)])
def test_findings_that_close_the_gate_are_all_said(style: Style) -> None:
    findings = [make("unused-keep", f"{at:03}", reason="r") for at in range(MANY + 5)]
    told = text(receipt.make("strip", [], findings=findings), style)
    assert told.count("[unused-keep]") == MANY + 5


def test_the_same_error_of_a_thousand_modules_is_not_said_twice_for_each() -> None:
    """Each has its line in the list; with -q there is no such list."""
    paths = [f"{at:03}.ko" for at in range(MANY + 5)]
    full, read_only = "No space left on device", "Read-only file system"
    entries = [
        Entry(path, "", State.FAILED, findings=(make("cannot-write", path, error=full if at else read_only),))
        for at, path in enumerate(paths)
    ]
    run = receipt.make("strip", entries)
    lines = text(run).splitlines()
    assert [line for line in lines if line.startswith("failed ")] == [
        f"failed           {p}: [cannot-write]" for p in paths
    ]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 + MANY + 1
    assert read_only in errors[0]
    assert errors[-1] == "error: and 4 more (-v lists them) [cannot-write]"
    assert text(run, Style(quiet=True)).count("[cannot-write]") == len(paths)
    assert text(run, Style(verbose=True)).count("\nerror: ") == len(paths)


def test_findings_left_alone_are_counted() -> None:
    policy = Policy(keeps=(Keep("z*", "unused-keep", "known", "--keep"),))
    assert text(samples.mixed(), policy=policy).endswith(
        "failed: 1 error, 1 warning, 1 finding left alone by keep entries\n"
    )


def test_finding_of_a_newer_version_is_shown_without_title() -> None:
    newer = make("residue", "a.ko", section=".debug_x")._replace(id="from-the-future")
    told = text(receipt.make("strip", [], findings=[newer]))
    assert told.startswith("error: a.ko: from-the-future (section: .debug_x) [from-the-future]\n\n")


def test_colour_changes_nothing_but_colour() -> None:
    coloured = text(samples.mixed(), Style(colour=True))
    assert "\x1b[31merror\x1b[0m: " in coloured
    for code in ("0", "1", "31", "33", "36"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == text(samples.mixed())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "colour"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals(stream: io.StringIO, environ: dict[str, str], *, colour: bool) -> None:
    settings = Settings(quiet=True, fail_on=Severity.INFO)
    assert style_for(settings, stream, environ) == Style(colour, quiet=True, fail_on=Severity.INFO)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (-4000, "-4.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_human(size: int, told: str) -> None:
    assert human(size) == told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("modules/a b-ä.ko", "modules/a b-ä.ko"),
        ("a\nb\t\x7f", r"a\nb\t\x7f"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b2J", r"\x9b2J"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("ok\u202eok.exe", r"ok\u202eok.exe"),
    ],
)
def test_printable(name: str, told: str) -> None:
    assert printable(name) == told


@given(st.text(st.characters(exclude_categories=())))
def test_printable_is_safe(name: str) -> None:
    told = printable(name)
    assert told.isprintable()
    told.encode()


@given(st.text(st.characters(exclude_categories=()), min_size=1))
def test_report_has_only_lines_that_a_terminal_shows(name: str) -> None:
    entries = [samples.kept(name, name, 1, name), samples.failed(name + "x", "k", 1, make("not-elf", name, fact=name))]
    for style in (Style(), Style(verbose=True), Style(quiet=True)):
        told = text(receipt.make("strip", entries, findings=[make("unused-keep", name, reason=name)]), style)
        assert all(line.isprintable() for line in told.split("\n"))
