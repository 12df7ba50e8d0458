"""Modules held against the receipt: paths, digests, what a build may do in between."""

from __future__ import annotations

from typing import Any

import pytest

from pkghook.judge import receipt
from pkghook.judge.agreement import Agreement, agree, place
from pkghook.judge.receipt import Receipt
from pkghook.model import Entry, Looked, Sizes, State

HOME = "lib/modules/6.1/kernel"
SHA, OTHER = "ab" * 32, "cd" * 32


def entry(name: str = "a.ko", **fields: object) -> Entry:
    """A module of a receipt: 1000 bytes, 300 after."""
    found = Entry(f"{HOME}/{name}", "6.1", State.STRIPPED, sizes=Sizes(1000, 300, 1000, 300, 300), sha256_after=SHA)
    return found._replace(build_id="0102")._replace(**fields)  # type: ignore[arg-type]


def looked(name: str = "a.ko", **fields: object) -> Looked:
    """The module that was packed."""
    path = name if "/" in name else f"{HOME}/{name}"
    found = Looked(path, "6.1", file_size=300, image_size=300, sha256=SHA, build_id="0102")
    return found._replace(**fields)  # type: ignore[arg-type]


def of(*entries: Entry) -> Receipt:
    """A receipt of these."""
    return receipt.make("strip", entries)


def told(found: Agreement) -> list[tuple[str, str]]:
    """Ids and subjects."""
    every = [*found.findings, *(each for one in found.entries for each in one.findings)]
    return [(each.id, each.subject) for each in every]


def test_the_same_bytes_agree() -> None:
    found = agree(of(entry()), [looked()])
    assert told(found) == []
    assert (found.before, found.now) == (1000, 300)


@pytest.mark.parametrize(
    "path",
    [
        f"usr/{HOME}/a.ko",
        f"{HOME}/a.ko.xz",
        f"usr/{HOME}/a.ko.zst",
        "/somewhere/build/lib/modules/6.1/kernel/a.ko",
    ],
)
def test_paths_that_are_the_same_module(path: str) -> None:
    assert told(agree(of(entry()), [looked(path)])) == []


@pytest.mark.parametrize("path", ["lib/modules/6.2/kernel/a.ko", f"{HOME}/b.ko", f"{HOME}/a.ko.bak"])
def test_paths_that_are_not(path: str) -> None:
    assert told(agree(of(entry()), [looked(path)])) == [
        ("receipt-unmatched", f"{HOME}/a.ko"),
        ("receipt-missing", path),
    ]


def test_a_receipt_of_one_kernels_directory() -> None:
    inner = entry()._replace(path="kernel/a.ko")
    assert told(agree(of(inner), [looked()])) == []


def test_every_name_of_a_module_counts() -> None:
    assert told(agree(of(entry("z.ko", names=(f"{HOME}/a.ko",))), [looked()])) == []
    assert told(agree(of(entry("z.ko")), [looked(names=(f"{HOME}/z.ko",))])) == []


def test_place() -> None:
    assert place("usr/lib/modules/6.1/a.ko.gz") == "6.1/a.ko" == place("lib/modules/6.1/a.ko")
    assert place("extra/a.ko.xz") == "extra/a.ko"
    assert place("extra/a.xz") == "extra/a.xz"


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": OTHER},
        {"sha256": OTHER, "image_size": 301},
        {"sha256": OTHER, "build_id": ""},
        {"sha256": OTHER, "image_sha256": OTHER, "signature": "present"},
        {"sha256": OTHER, "image_sha256": OTHER, "compression": "xz"},
    ],
)
def test_other_bytes_do_not_agree(change: dict[str, Any]) -> None:
    assert told(agree(of(entry()), [looked(**change)])) == [("receipt-mismatch", f"{HOME}/a.ko")]


def test_signed_or_compressed_since_agrees_by_the_image() -> None:
    for signature, compression in (("present", "none"), ("", "xz"), ("present", "zstd")):
        packed = looked(sha256=OTHER, image_sha256=SHA, signature=signature, compression=compression)
        assert told(agree(of(entry()), [packed])) == []


def test_compressed_anew_is_compared_by_size_and_id() -> None:
    """The receipt has the digest of wrappings that are gone."""
    before = of(entry(compression="gzip"))
    assert told(agree(before, [looked(sha256=OTHER, image_sha256=OTHER, compression="xz")])) == []
    wrong = looked(sha256=OTHER, image_sha256=OTHER, compression="xz", image_size=299)
    assert told(agree(before, [wrong])) == [("receipt-mismatch", f"{HOME}/a.ko")]


def test_without_a_digest_size_and_id_are_compared() -> None:
    before = of(entry(sha256_after="", state=State.ALREADY_STRIPPED))
    assert told(agree(before, [looked(sha256=OTHER)])) == []
    for change in ({"image_size": 299}, {"build_id": "0103"}):
        assert told(agree(before, [looked(**change)])) == [("receipt-mismatch", f"{HOME}/a.ko")]


def test_a_failed_module_is_vouched_for_by_nothing() -> None:
    assert told(agree(of(entry(state=State.FAILED)), [looked()])) == [("receipt-mismatch", f"{HOME}/a.ko")]


def test_what_nobody_read_is_not_compared() -> None:
    """Modules of debug trees, damaged ones: those have their own findings."""
    found = agree(of(entry()), [looked(image_size=0, kept="debug tree", sha256="")])
    assert (told(found), found.before, found.now) == ([], 0, 0)


def test_names_of_one_module_that_were_two() -> None:
    """By a hard link made since: one of them is another module now, whichever name comes first."""
    receipt = of(entry("a.ko"), entry("b.ko", sha256_after=OTHER, build_id="03"))
    for first, second in (("a.ko", "b.ko"), ("b.ko", "a.ko")):
        found = agree(receipt, [looked(first, names=(f"{HOME}/{second}",))])
        assert told(found) == [("receipt-mismatch", f"{HOME}/b.ko")]
    assert told(agree(of(entry("a.ko"), entry("b.ko")), [looked("a.ko", names=(f"{HOME}/b.ko",))])) == []
