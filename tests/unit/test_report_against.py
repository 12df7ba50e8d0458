"""The reports on a comparison with the last release."""

from __future__ import annotations

import json

from pkghook.judge import survey
from pkghook.judge.baseline import compare
from pkghook.judge.policy import Policy
from pkghook.judge.survey import Survey
from pkghook.report import REPORTS, Style
from tests.releases import at, offering

OLD, NEW = "6.1.0-55-amd64", "6.1.0-56-amd64"


def seen(*, packed: bool = False) -> Survey:
    """A release in which one module grew, two shrank, one went and one came."""
    old = [offering(OLD, f"{name}.ko")._replace(image_size=size, file_size=size) for name, size in
           (("a", 1000), ("b", 2000), ("c", 3000), ("gone\x1b", 4000), ("same", 10))]  # fmt: skip
    new = [offering(NEW, f"{name}.ko")._replace(image_size=size, file_size=100 if packed else size) for name, size in
           (("a", 51_000), ("b", 1900), ("c", 1000), ("new", 5), ("same", 10))]  # fmt: skip
    found, _ = compare("old\x1b.deb", old, new)
    return survey.make("check", new, Policy(), baseline=found)


def text(of: Survey, style: Style) -> list[str]:
    told = REPORTS["text"](of, survey.judge(of, Policy()), style)
    (paragraph,) = [part for part in told.split("\n\n") if part.startswith("against ")]
    return paragraph.splitlines()


def test_people_are_told_the_counts_and_the_largest() -> None:
    assert text(seen(), Style()) == [
        r"against old\x1b.deb: 5 modules, 5 there: 1 new, 1 gone, 1 grew, 2 shrank",
        "  10.0 kB -> 53.9 kB inside (+438.6 %)",
        f"  +50.0 kB lib/modules/{NEW}/a.ko",
    ]


def test_files_are_told_where_they_are_of_another_size_than_what_is_inside() -> None:
    assert text(seen(packed=True), Style())[1] == "  10.0 kB -> 53.9 kB inside (+438.6 %), 10.0 kB -> 500 B as files"


def test_all_of_it_with_v() -> None:
    assert text(seen(), Style(verbose=True))[2:] == [
        f"  kernel {OLD} -> {NEW}",
        f"  +50.0 kB lib/modules/{NEW}/a.ko",
        f"  -2.0 kB lib/modules/{NEW}/c.ko",
        f"  -100 B lib/modules/{NEW}/b.ko",
    ]


def test_without_a_difference() -> None:
    same = [at(OLD, "a.ko")]
    found, _ = compare("old", same, same)
    of = survey.make("check", same, Policy(), baseline=found)
    assert text(of, Style()) == ["against old: 1 module, 1 there: no other sizes", "  1.0 kB -> 1.0 kB inside (+0.0 %)"]


def test_programs_are_told_all_of_it() -> None:
    of = seen()
    document = json.loads(REPORTS["json"](of, survey.judge(of, Policy()), Style()))
    assert document["baseline"] == {
        "name": "old\x1b.deb",
        "before": {"modules": 5, "file_size": 10_010, "image_size": 10_010, "expected": 5000},
        "now": {"modules": 5, "file_size": 53_915, "image_size": 53_915, "expected": 5000},
        "growth_percent": 438.61,
        "kernels": [{"before": OLD, "now": NEW}],
        "gone": [f"lib/modules/{OLD}/gone\x1b.ko"],
        "came": [f"lib/modules/{NEW}/new.ko"],
        "changed": [
            {"path": f"lib/modules/{NEW}/a.ko", "before": 1000, "now": 51_000},
            {"path": f"lib/modules/{NEW}/b.ko", "before": 2000, "now": 1900},
            {"path": f"lib/modules/{NEW}/c.ko", "before": 3000, "now": 1000},
        ],
        "compared": 4,
    }
    without = of._replace(baseline=None)
    assert "baseline" not in json.loads(REPORTS["json"](without, survey.judge(without, Policy()), Style()))
