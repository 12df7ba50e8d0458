"""`judge.system`: what modules say of each other, on made-up ones."""

from __future__ import annotations

from typing import Any

from pkghook.findings import make
from pkghook.judge.system import Place, judge
from pkghook.model import Kernel, Looked

KERNEL = Kernel("6.1", "lib/modules/6.1", owners=("dpkg:image",))


def module(name: str, **fields: Any) -> Looked:  # noqa: ANN401  any field of Looked
    """One that has nothing wrong with it."""
    known: dict[str, Any] = {
        "owner": "dpkg:image",
        "machine": "x86-64",
        "btf": True,
        "signature": "present",
        "vermagic": "6.1 SMP ",
    }
    return Looked(f"{KERNEL.path}/{name}", KERNEL.version)._replace(**(known | fields))


def said(*entries: Looked, known: bool = True, kernel: Kernel = KERNEL, **place: Any) -> list[tuple[str, str]]:  # noqa: ANN401
    """Ids and subjects, sorted."""
    named = frozenset(entry.path for entry in entries)
    after, findings = judge([Place(kernel, **({"named": named} | place))], entries, known=known)
    every = [*findings, *(finding for entry in after for finding in entry.findings)]
    return sorted((finding.id, finding.subject.removeprefix(f"{KERNEL.path}/")) for finding in every)


MANY = [module(f"kernel/m{number}.ko") for number in range(4)]


def test_nothing_to_say() -> None:
    assert said(*MANY) == []
    assert said() == []


def test_siblings_of_a_build_have_btf() -> None:
    assert said(*MANY, module("kernel/x.ko", btf=False)) == [("btf-missing", "kernel/x.ko")]
    # Elsewhere nobody has it, and half of them are no rule.
    assert said(*MANY, module("extra/x.ko", btf=False, owner="dkms:x/1")) == []
    assert said(*MANY[:2], module("kernel/a.ko", btf=False), module("kernel/b.ko", btf=False)) == []


def test_siblings_in_a_kernel_are_signed() -> None:
    assert said(*MANY, module("extra/x.ko", signature="", owner="")) == [("signature-missing", "extra/x.ko")]
    assert said(module("kernel/a.ko", signature=""), module("kernel/b.ko")) == []


def test_unreadable_modules_have_neither() -> None:
    assert said(*MANY, module("kernel/x.ko", btf=False, signature="", machine="", vermagic="")) == []


def test_vermagic() -> None:
    assert said(*MANY, module("kernel/x.ko", vermagic="6.1.0 SMP")) == [("vermagic-differs", "kernel/x.ko")]
    assert said(*MANY, module("kernel/x.ko", vermagic="")) == []


def test_formats() -> None:
    xz = [entry._replace(compression="xz") for entry in MANY]
    assert said(*xz, module("extra/x.ko.gz", compression="gzip")) == [("compression-foreign", "extra/x.ko.gz")]
    assert said(*xz, module("extra/x.ko")) == []  # every kernel reads that
    assert len(said(*xz, kernel=KERNEL._replace(compression="zstd"))) == 4
    assert said(*xz, kernel=KERNEL._replace(compression="xz")) == []


def test_a_kernel_that_leaves_it_to_kmod() -> None:
    refused = make("compression-refused", f"{KERNEL.path}/kernel/x.ko.xz")
    entry = module("kernel/x.ko.xz", findings=(refused,), compression="xz")
    for decompresses, ids in ((False, []), (True, ["compression-refused"]), (None, ["compression-refused"])):
        kernel = KERNEL._replace(compression="xz", decompresses=decompresses)
        assert [id for id, _ in said(entry, kernel=kernel)] == ids


def test_duplicates_and_what_modules_dep_names() -> None:
    """depmod names one of several: the others are not unnamed, they are hidden."""
    one, other = module("kernel/net/my-x.ko"), module("updates/my_x.ko")
    assert said(one, other, named=frozenset([other.path])) == [("duplicate-module", "updates/my_x.ko")]
    assert said(one, other, named=frozenset([one.path])) == [("duplicate-module", "kernel/net/my-x.ko")]
    assert said(one, other, named=frozenset()) == [
        ("duplicate-module", "updates/my_x.ko"),
        ("module-unnamed", "kernel/net/my-x.ko"),
    ]
    assert said(one, named=frozenset()) == [("module-unnamed", "kernel/net/my-x.ko")]
    assert said(module("kernel/x.ko", names=(f"{KERNEL.path}/updates/x.ko",))) == [("duplicate-module", "kernel/x.ko")]


def test_kernels() -> None:
    gone = ("lib/modules/6.1/kernel/gone.ko",)
    alone = KERNEL._replace(owners=())
    assert said(*MANY, gone=gone) == [("module-missing", "kernel/gone.ko")]
    assert said(*MANY, named=None) == [("no-modules-dep", KERNEL.path)]
    assert said(named=None) == []
    assert said(gone=gone, kernel=alone) == [("kernel-unowned", KERNEL.path)]
    assert said(gone=gone, kernel=alone, known=False) == [("module-missing", "kernel/gone.ko")]
    assert said(gone=gone, kernel=alone._replace(image="boot/x")) == [
        ("kernel-unowned", KERNEL.path),
        ("module-missing", "kernel/gone.ko"),
    ]
