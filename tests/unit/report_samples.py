"""Runs as receipts, for the tests of the reports."""

from __future__ import annotations

from pkghook.findings import Finding, make
from pkghook.judge import receipt
from pkghook.judge.policy import Keep, Policy
from pkghook.judge.receipt import Override, Receipt, Walked
from pkghook.judge.verdict import Verdict, judge
from pkghook.model import Attempt, Entry, Outcome, Proof, Sizes, State

BASE = "lib/modules"
NATIVE = Attempt("native", "pkghook 0.1.0", Outcome.PASSED)


def stripped(path: str, kernel: str, before: int, after: int, **more: object) -> Entry:
    """A module that `native` stripped; `more` are further fields."""
    sizes = Sizes(before, after, before, after, after)
    entry = Entry(f"{BASE}/{kernel}/{path}", kernel, State.STRIPPED, Proof.VERIFIED, sizes=sizes, step="native")
    return entry._replace(attempts=(NATIVE,))._replace(**more)  # type: ignore[arg-type]


def kept(path: str, kernel: str, size: int, reason: str) -> Entry:
    """A module that a policy kept."""
    sizes = Sizes(size, size, size, size, size // 2)
    return Entry(f"{BASE}/{kernel}/{path}", kernel, State.KEPT, reason=reason, sizes=sizes)


def failed(path: str, kernel: str, size: int, *findings: Finding) -> Entry:
    """A module that failed."""
    sizes = Sizes(size, size, size, size, size)
    return Entry(f"{BASE}/{kernel}/{path}", kernel, State.FAILED, sizes=sizes, findings=findings)


def clean() -> Receipt:
    """Two modules, all well."""
    return receipt.make("strip", [stripped("a.ko", "6.1", 1_000_000, 100_000), stripped("b.ko", "6.1", 2000, 1000)])


def mixed(mode: str = "strip") -> Receipt:
    """Two kernels, each state, a fall past two steps, compression, a removed signature, hard links, an override."""
    rejected = Attempt(
        "native", "pkghook 0.1.0", Outcome.REJECTED, findings=(make("residue", "x"), make("residue", "y"))
    )
    dead = Attempt("eu-strip", "eu-strip 0.188", Outcome.FAILED, "killed by SIGSEGV\x1b[2J")
    good = Attempt("objcopy", "GNU objcopy 2.40", Outcome.PASSED)
    fell = make("fell-through", f"{BASE}/6.1/b.ko", first="native", passed="objcopy")
    entries = [
        stripped("a.ko", "6.1", 1_000_000, 100_000, names=(f"{BASE}/6.1/a2.ko",)),
        stripped("b.ko", "6.1", 50_000, 30_008, step="objcopy", attempts=(rejected, dead, good), findings=(fell,)),
        kept("c.ko", "6.1", 5_000, "vendor's own"),
        failed("d\udcff\n.ko", "6.1", 312, make("not-elf", "lib/modules/6.1/d\udcff\n.ko", magic="7f 45\u202e")),
        stripped(
            "e.ko.xz", "6.12", 20_000, 10_000, compression="xz", sizes=Sizes(20_000, 10_000, 90_000, 40_000, 40_000)
        ),
        stripped("f.ko", "6.12", 4_000, 1_500, signature="removed", proof=Proof.RECORDED),
        Entry("g.ko", "", State.ALREADY_STRIPPED, sizes=Sizes(700, 700, 700, 700, 700)),
    ]
    return receipt.make(
        mode,
        entries,
        settings=(("chain", "native,eu-strip,objcopy"),),
        tools=(("native", "pkghook 0.1.0"), ("objcopy", "GNU objcopy 2.40")),
        walk=Walked(3, 2, 5_000_000, (("lib/modules/6.1/vdso/vdso64.so.dbg", 40_000),)),
        findings=[make("unused-keep", "z*", reason="none", origin="--keep")],
        overrides=(Override(Keep("c.ko", "", "vendor's own", "--keep"), (f"{BASE}/6.1/c.ko",)),),
    )


def verdict(of: Receipt, policy: Policy = Policy()) -> Verdict:  # noqa: B008  frozen
    """What the default policy makes of it."""
    return judge(of, policy)
