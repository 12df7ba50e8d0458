"""`judge.aliases`: which aliases a module lost, and when one glob stands for another."""

from __future__ import annotations

import time
from fnmatch import fnmatchcase
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.judge.aliases import lost

PCI = "pci:v00001425d00000020sv*sd{}bc*sc*i*"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fs-ext4", "fs-ext4"),
        ("crypto-aes", "crypto_aes"),  # modprobe reads both alike
        (PCI.format("00000001"), PCI.format("*")),
        ("usb:v05ACp1290d*dc*", "usb:v05ACp*d*dc*"),
        ("usb:v05ACp1290d0[1-4]*", "usb:v05ACp1290d0[0-9A-F]*"),
        ("usb:v05ACp1290d01*", "usb:v05ACp1290d0[0-9]*"),
        ("a?c", "a*"),
        ("a[b-d]e", "a?e"),
        ("x*y*z", "x*z"),
        ("[!a]b", "[!a]b"),
        ("x", "**"),
        ("a[-_]b", "a[-_]b"),
    ],
)
def test_what_a_wider_alias_stands_for(old: str, new: str) -> None:
    assert lost([old], ["other", new]) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fs-ext4", "fs-ext3"),
        (PCI.format("*"), PCI.format("00000001")),
        ("a*", "a?"),  # fnmatch("a?", "a*") is true, but the star stands for more
        ("a?", "a[a-z]"),
        ("a[a-d]", "a[a-c]"),
        ("[!a]b", "[!b]b"),
        ("a[b-d]e", "abe"),
        ("x*z", "x*y*z"),
        ("a_[-x]", "a-[_x]"),  # brackets are taken as they are
        ("pci:v1*", "pci:v2*"),
        ("", "?"),
    ],
)
def test_what_it_does_not_stand_for(old: str, new: str) -> None:
    assert lost([old], [new]) == [old]


def test_they_come_sorted_and_once() -> None:
    assert lost(["c", "a", "c", "b"], ["b"]) == ["a", "c"]
    assert lost([], ["a"]) == lost(["a"], ["a"]) == []
    assert lost(["a"], []) == ["a"]


PIECES = st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[a-c]"])
GLOBS = st.lists(PIECES, max_size=5).map("".join)
TEXTS = ["".join(text) for length in range(6) for text in product("abc", repeat=length)]


@settings(max_examples=300, deadline=None)
@given(old=GLOBS, new=st.lists(GLOBS, max_size=3))
def test_what_is_not_lost_is_matched(old: str, new: list[str]) -> None:
    """Against fnmatch itself: if the alias is not lost, one new glob matches every text that it matched."""
    if lost([old], new):
        return
    matched = {text for text in TEXTS if fnmatchcase(text, old)}
    assert any(all(fnmatchcase(text, glob) for text in matched) for glob in new)


def test_crafted_globs_take_no_time() -> None:
    """Thousands of globs that nearly match each other, and one with a hundred stars."""
    old = [f"a*b*c*d*e*{number}" for number in range(3000)]
    new = [f"a*b*c*d*e*{number}x" for number in range(3000)]
    begun = time.process_time()
    assert lost(old, new) == sorted(old)
    assert lost(["a" * 5000 + "!"], ["a*" * 2500 + "b"])
    assert time.process_time() - begun < 5
