"""`judge.baseline` and `judge.losses`: what is said of this release against the last one."""

from __future__ import annotations

import pytest

from pkghook.findings import Evidence, Finding, Severity, make
from pkghook.judge import receipt
from pkghook.judge.baseline import NOTICEABLE, Sizes, compare, of_receipt, too_large
from pkghook.model import Looked, State
from tests.receipts import module
from tests.releases import at, offering

OLD, NEW = "6.1.0-55-amd64", "6.1.0-56-amd64"


def said(old: list[Looked], new: list[Looked], limit: float | None = None) -> list[Finding]:
    return list(compare("old.deb", old, new, limit)[1])


def ids(old: list[Looked], new: list[Looked], limit: float | None = None) -> list[str]:
    return [finding.id for finding in said(old, new, limit)]


def evidence(finding: Finding) -> dict[str, Evidence]:
    return dict(finding.evidence)


# --- came, went, grew ------------------------------------------------------------------------------------------------


def test_a_release_against_itself() -> None:
    same = [offering(OLD, f"kernel/{name}.ko", exports=((name, "1"),), aliases=("a", "b*")) for name in "xyz"]
    found, findings = compare("old.deb", same, same, 0.0)
    assert findings == ()
    assert (found.gone, found.came, found.changed, found.compared, found.growth) == ((), (), (), 3, 0.0)
    assert found.before == found.now == Sizes(3, 3000, 3000, 3000)


def test_nothing_here_and_nothing_there_is_nothing() -> None:
    assert ids([], []) == []


def test_came_and_went() -> None:
    old, new = (
        [offering(OLD, "kernel/a.ko"), offering(OLD, "b.ko")],
        [offering(NEW, "kernel/a.ko"), offering(NEW, "c.ko")],
    )
    found, findings = compare("old.deb", old, new)
    assert [(each.id, each.subject, str(each.severity)) for each in findings] == [
        ("module-gone", f"lib/modules/{OLD}/b.ko", "warning"),
        ("module-new", f"lib/modules/{NEW}/c.ko", "info"),
    ]
    assert (found.gone, found.came) == ((old[1].path,), (new[1].path,))


def test_a_module_that_went_into_the_kernel_image() -> None:
    """By modules.builtin of the kernel that follows; nobody depends on it as a module any more, which is no loss."""
    old = [offering(OLD, "crypto/sha-x.ko"), offering(OLD, "user.ko", depends=("sha_x", "other"))]
    new = [offering(NEW, "user.ko", depends=("other",))]
    for builtin, expected in (
        ({NEW: frozenset({"sha_x"})}, ["module-built-in"]),
        ({OLD: frozenset({"sha_x"})}, ["module-gone", "dependency-changed"]),
        ({NEW: frozenset({"other"})}, ["module-gone", "dependency-changed"]),
    ):
        findings = compare("old.deb", old, new, builtin=builtin)[1]
        assert [finding.id for finding in findings] == expected
    assert compare("old.deb", old, new, builtin={NEW: frozenset({"sha_x"})})[1][0].severity is Severity.INFO


def test_a_baseline_of_another_package_compares_nothing_and_passes_nothing() -> None:
    (finding,) = said([at(OLD, "kernel/a.ko")], [at(OLD, "kernel/b.ko")])
    assert (finding.id, finding.severity, finding.subject) == ("baseline-unrelated", Severity.ERROR, "old.deb")
    assert ids([], [at(OLD, "kernel/b.ko")]) == ["baseline-unrelated"]
    assert ids([at(OLD, "kernel/b.ko")], []) == ["baseline-unrelated"]


def test_growth_of_the_sum() -> None:
    """The gate: strictly above the limit; new modules count, and the largest are named."""
    old = [offering(OLD, "a.ko")._replace(image_size=1_000_000, expected=1_000_000)]
    grown = offering(NEW, "a.ko")._replace(image_size=1_100_000, expected=1_050_000)
    assert ids(old, [grown], 10) == []
    assert ids(old, [grown], 9.99) == ["module-grew", "growth"]
    assert ids(old, [grown]) == []
    *_, finding = said(old, [grown, offering(NEW, "b.ko")._replace(image_size=5)], 10)
    assert evidence(finding) == {
        "baseline": "old.deb",
        "before": 1_000_000,
        "now": 1_100_005,
        "growth": "10.0 %",
        "limit": "10 %",
        "strippable": 50_000 - 995,
        "strippable_before": 0,
        "largest": f"lib/modules/{NEW}/a.ko +100000, lib/modules/{NEW}/b.ko new +5",
    }


def test_growth_of_one_module_among_many() -> None:
    """It is told where it is noticeable, and closes no gate: the sum over all decides."""
    old = [offering(OLD, f"{name}.ko")._replace(image_size=10_000_000) for name in "abc"]
    new = [each._replace(path=each.path.replace(OLD, NEW), kernel=NEW) for each in old]
    small = new[0]._replace(image_size=old[0].image_size + NOTICEABLE - 1)
    assert ids(old, [small, *new[1:]], 0.5) == []
    (finding,) = said(old, [new[0]._replace(image_size=10_000_000 + NOTICEABLE), *new[1:]], 0.5)
    assert (finding.id, finding.severity, finding.subject) == ("module-grew", Severity.WARNING, new[0].path)
    assert evidence(finding)["growth"] == "0.7 %"


def test_compression_is_no_change_of_size() -> None:
    """What is compared is inside; what lies on disk is told beside it."""
    old, new = [offering(OLD, "a.ko")], [offering(OLD, "a.ko.xz")._replace(file_size=300, compression="xz")]
    found, findings = compare("old.deb", old, new, 0.0)
    assert findings == ()
    assert (found.before.file_size, found.now.file_size) == (1000, 300)


def test_debug_trees_that_are_left_out_are_left_out() -> None:
    debug = at(OLD, "kernel/d.ko", "usr/lib/debug/", size=10**9, kept="debug tree")
    assert ids([offering(OLD)], [offering(OLD), debug], 0.0) == []


def test_what_could_not_be_read_is_no_growth() -> None:
    """Neither is what its users would lose known, and that is said for the baseline's; ours has its own error."""
    broken = at(OLD, "kernel/x.ko", size=0, findings=(make("not-elf", "x"),))
    good = [offering(OLD, "kernel/y.ko"), offering(NEW, "kernel/y.ko")]
    (finding,) = said([broken, good[0]], [offering(NEW), good[1]], 0.0)
    assert (finding.id, evidence(finding)) == ("baseline-unreadable", {"because": "not-elf"})
    assert ids([offering(OLD), good[0]], [at(NEW, "kernel/x.ko", size=0), good[1]], 0.0) == []


def test_where_nothing_can_be_read_nothing_passes() -> None:
    broken = at(OLD, "kernel/x.ko", size=0, findings=(make("not-elf", "x"),))
    assert ids([broken], [offering(NEW)], 0.0) == ["baseline-unrelated", "baseline-unreadable"]
    assert "baseline-unrelated" in ids([offering(OLD)], [broken], 0.0)


def test_a_receipt_knows_sizes_only() -> None:
    """Those after the run."""
    run = receipt.make("strip", [module("a.ko"), module("b.ko", State.ALREADY_STRIPPED)])
    old = of_receipt(run)
    first = old[0]
    assert (first.path, first.kernel) == (run.entries[0].path, run.entries[0].kernel)
    assert (first.image_size, first.file_size, first.expected) == (300, 300, 300)
    new = [each._replace(interface=offering(OLD).interface) for each in old]
    (finding,) = said(old, new, 0.0)
    assert (finding.id, finding.severity) == ("baseline-sizes-only", Severity.INFO)


def test_max_size_is_of_each_package() -> None:
    some = [
        at(OLD, "a.ko", size=60, source="x.deb"),
        at(OLD, "b.ko", size=41, source="x.deb"),
        at(OLD, "c.ko", source="y"),
    ]
    assert [(each.subject, evidence(each)["bytes"]) for each in too_large(some, 100)] == [("x.deb", 101), ("y", 1000)]
    assert list(too_large(some, 1000)) == []


# --- what users would lose -------------------------------------------------------------------------------------------


def only(old: Looked, new: Looked, *others: Looked) -> Finding:
    """The one finding."""
    (finding,) = [each for each in said([old], [new, *others]) if each.id != "module-new"]
    return finding


def test_parameters() -> None:
    lost = only(
        offering(OLD, parameters=(("a", "int"), ("b", ""))), offering(NEW, parameters=(("b", "int"), ("c", "")))
    )
    assert (lost.id, lost.severity, evidence(lost)) == ("parameter-lost", Severity.WARNING, {"count": 1, "names": "a"})


def test_aliases() -> None:
    old = offering(OLD, aliases=("fs-x", "pci:v1d*", "pci:v2d3*", "usb:v1"))
    lost = only(old, offering(NEW, aliases=("pci:v2d*", "fs-x")))
    assert (lost.id, evidence(lost)) == ("alias-lost", {"count": 2, "names": "pci:v1d*, usb:v1", "of": 4})


def test_an_alias_that_another_module_has_now() -> None:
    """To the letter it has moved; a generic driver's glob is another driver."""
    old, new = offering(OLD, aliases=("pci:v1d2",)), offering(NEW)
    assert ids([old], [new, offering(NEW, "kernel/split.ko", aliases=("pci:v1d2",))]) == ["module-new"]
    assert only(old, new, offering(NEW, "kernel/generic.ko", aliases=("pci:v*d*",))).id == "alias-lost"


def test_exports() -> None:
    old = offering(OLD, exports=(("gone", "1"), ("kept", "2"), ("moved", "3"), ("other", "4")))
    new = offering(OLD, exports=(("kept", "2"), ("other", "5")))
    there = offering(OLD, "kernel/there.ko", exports=(("moved", "3"),))
    lost, changed = (each for each in said([old], [new, there]) if each.id != "module-new")
    assert (lost.id, evidence(lost)) == ("export-lost", {"count": 1, "names": "gone", "of": 4})
    assert (changed.id, changed.subject) == ("export-changed", new.path)
    assert evidence(changed) == {"count": 1, "names": "other"}


def test_crcs_of_another_kernel_are_one_finding() -> None:
    old = [offering(OLD, f"{name}.ko", exports=((name, "1"), (name * 2, "1"))) for name in "abc"]
    new = [offering(NEW, f"{name}.ko", exports=((name, "2"), (name * 2, "1"))) for name in "abc"]
    (changed,) = said(old, new)
    assert (changed.id, changed.subject) == ("export-changed", NEW)
    assert evidence(changed) == {"count": 3, "names": "a, b, c", "of": 6, "modules": 3}


def test_many_names_are_counted() -> None:
    old = offering(OLD, parameters=tuple((f"p{number}", "") for number in range(9)))
    assert evidence(only(old, offering(NEW))) == {"count": 9, "names": "p0, p1, p2, p3, p4, p5 and 3 more"}


def test_dependencies_and_license() -> None:
    changed = only(offering(OLD, depends=("a", "b")), offering(NEW, depends=("b", "c")))
    assert (changed.id, evidence(changed)) == ("dependency-changed", {"no_longer": "a", "now_also": "c"})
    changed = only(offering(OLD, softdeps=("pre: a",)), offering(NEW, softdeps=("post: a",)))
    assert (changed.id, evidence(changed)) == ("dependency-changed", {"no_longer": "pre: a", "now_also": "post: a"})
    changed = only(offering(OLD), offering(NEW, license=("Proprietary",)))
    assert (changed.id, evidence(changed)) == ("license-changed", {"before": "GPL", "now": "Proprietary"})


@pytest.mark.parametrize(
    ("was", "now", "kernels", "told"),
    [
        ("6.1.0-55 SMP preempt", "6.1.0-56 SMP preempt", (OLD, NEW), False),  # the version is that of the directory
        ("6.1.0-55 SMP preempt", "6.1.0-56 SMP preempt", (OLD, OLD), True),
        ("6.1.0-55 SMP preempt", "6.1.0-56 SMP", (OLD, NEW), True),
        ("6.1.0-55 SMP", "6.1.0-55 SMP modversions", (OLD, OLD), True),
    ],
)
def test_vermagic(was: str, now: str, kernels: tuple[str, str], *, told: bool) -> None:
    found = ids([offering(kernels[0], vermagic=was)], [offering(kernels[1], vermagic=now)])
    assert found == (["vermagic-changed"] if told else [])


def test_one_change_of_the_vermagic_in_all_modules_is_one_finding() -> None:
    old = [offering(OLD, f"{name}.ko", vermagic="1 SMP") for name in "abcd"]
    new = [offering(NEW, f"{name}.ko", vermagic="2 SMP preempt") for name in "abc"]
    new.append(offering(NEW, "d.ko", vermagic="2 UP"))
    many, one = said(old, new)
    assert (many.subject, evidence(many)) == (NEW, {"before": "SMP", "now": "SMP preempt", "modules": 3})
    assert (one.subject, evidence(one)) == (new[3].path, {"before": "SMP", "now": "UP", "modules": 1})
