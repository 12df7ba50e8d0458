"""`judge.pairing`: modules of two releases, whatever their kernels, directories and compressions are called."""

from __future__ import annotations

import pytest

from pkghook.judge.pairing import match, name, pair_kernels, place
from pkghook.model import Looked
from tests.releases import at


def pairs(old: list[Looked], new: list[Looked]) -> list[tuple[str, str]]:
    return [(pair.old.path, pair.new.path) for pair in match(old, new).pairs]


def test_an_abi_bump_the_usr_merge_and_compression_are_no_difference() -> None:
    old = [at("6.1.0-55-amd64", "kernel/fs/ext4.ko"), at("6.1.0-55-amd64", "kernel/net/dummy.ko")]
    new = [
        at("6.1.0-56-amd64", "kernel/net/dummy.ko.xz", "usr/"),
        at("6.1.0-56-amd64", "kernel/fs/ext4.ko.zst", "usr/"),
    ]
    found = match(old, new)
    assert [pair.old.path.rpartition("/")[2] for pair in found.pairs] == ["ext4.ko", "dummy.ko"]
    assert (found.gone, found.new) == ((), ())
    assert found.kernels == (("6.1.0-55-amd64", "6.1.0-56-amd64"),)


def test_a_module_that_moved_pairs_by_name() -> None:
    old = [at("1", "extra/snd-x.ko"), at("1", "kernel/a/twice.ko"), at("1", "kernel/b/twice.ko")]
    new = [at("1", "kernel/sound/snd_x.ko.gz"), at("1", "kernel/a/twice.ko"), at("1", "kernel/c/twice.ko")]
    found = match(old, new)
    assert [(pair.old.path[14:], pair.new.path[14:]) for pair in found.pairs] == [
        ("kernel/a/twice.ko", "kernel/a/twice.ko"),
        ("kernel/b/twice.ko", "kernel/c/twice.ko"),
        ("extra/snd-x.ko", "kernel/sound/snd_x.ko.gz"),
    ]


def test_two_of_one_name_left_on_a_side_pair_with_nothing() -> None:
    found = match([at("1", "a/x.ko"), at("1", "b/x.ko")], [at("1", "c/x.ko")])
    assert (len(found.pairs), len(found.gone), len(found.new)) == (0, 2, 1)


def test_a_debug_file_is_not_the_module() -> None:
    shipped, debug = at("1", "kernel/x.ko"), at("1", "kernel/x.ko", "usr/lib/debug/")
    merged = at("1", "kernel/x.ko", "usr/lib/debug/usr/")
    assert place(shipped) != place(debug) == place(merged)
    assert name(shipped) != name(debug)
    found = match([shipped], [debug])
    assert (found.pairs, found.gone, found.new) == ((), (shipped,), (debug,))


def test_modules_outside_of_lib_modules_pair_by_path_or_name() -> None:
    assert pairs([Looked("x/a.ko", "")], [Looked("x/a.ko.xz", "")]) == [("x/a.ko", "x/a.ko.xz")]
    assert pairs([Looked("a.ko", "")], [at("6.1", "updates/a.ko")]) == [("a.ko", "lib/modules/6.1/updates/a.ko")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("6.1.0-56-cloud-amd64", "6.12.117+deb13-cloud-amd64", ["0>0"]),
        ("5.14-old", "not-alike-at-all", ["0>0"]),  # one on each side belong together
        ("6.1-50-rpi 6.1-50-marvell", "6.1-51-marvell 6.1-51-rpi", ["0>1", "1>0"]),
        ("6.5.6-300.fc39.x86_64 6.5.6-300.fc39.x86_64+debug", "6.5.7-100.fc39.x86_64+debug 6.5.7-100.fc39.x86_64",
         ["0>1", "1>0"]),
        ("6.1-9-amd64 6.1-10-amd64", "6.1-10-amd64 6.1-11-amd64", ["1>0", "0>1"]),  # the same one first
        ("6.1-9-amd64 6.1-10-amd64", "6.1-11-amd64", ["1>0"]),  # the newest of what is alike
        ("6.1-rt-amd64 6.1-amd64", "6.2-amd64 6.2-cloud-amd64", ["1>0"]),  # rt is gone, cloud came
        ("", "6.1", ["0>0"]),
        ("6.1", "", []),
    ],
)  # fmt: skip
def test_kernels(old: str, new: str, expected: list[str]) -> None:
    before, now = old.split() or ([""] if expected else []), new.split()
    found = {is_: was for was, is_ in pair_kernels(before, now)}
    assert sorted(f"{before.index(was)}>{now.index(is_)}" for is_, was in found.items()) == sorted(expected)


def test_thousands_of_crafted_kernels_take_no_time() -> None:
    old, new = ([f"{number}-{side}" for number in range(5000)] for side in ("amd", "amd-x"))
    assert len(pair_kernels(old, new)) <= 64
