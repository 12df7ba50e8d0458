"""`ko.symbols` and `ko.globs`: what a symbol list says, and whether depmod would notice."""

from __future__ import annotations

import fnmatch
import itertools
import pickle
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook.errors import InputError, SettingError
from pkghook.ko import globs
from pkghook.ko.symbols import PROTECTED, SHIPPED, SymbolList, changes_depmod, load, parse

NAMES = [b"foo", b"__crc_foo", b"__crc_", b"bar", b"_", b"a.cold", b"*", b"f\xc3\xb6", b"[x]", b"a/b", b".L1"]


def listed(*patterns: str) -> SymbolList:
    """A list of these lines."""
    return parse("\n".join(patterns).encode(), "L")


def matching(*patterns: str) -> set[bytes]:
    """Those of NAMES that the list drops."""
    return {name for name in NAMES if listed(*patterns).matches(name)}


# --- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("foo", {b"foo"}),
        ("FOO", set()),
        ("__crc_*", {b"__crc_foo", b"__crc_"}),
        ("__crc_?*", {b"__crc_foo"}),
        ("???", {b"foo", b"bar", b"[x]", b"a/b", b".L1", b"f\xc3\xb6"}),  # bytes, as in the C locale
        ("[a-c]*", {b"bar", b"a.cold", b"a/b"}),
        ("[!_a-z]*", {b"*", b"[x]", b".L1"}),
        ("[^_a-z]*", {b"*", b"[x]", b".L1"}),
        ("[]x[]*", {b"[x]"}),
        ("[]-_]", {b"_"}),
        (r"\*", {b"*"}),
        (r"[\]_]", {b"_"}),
        ("a?b", {b"a/b"}),
        (".*", {b".L1"}),
        ("**", set(NAMES)),
        ("fö", {b"f\xc3\xb6"}),
    ],
)
def test_patterns(pattern: str, names: set[bytes]) -> None:
    assert matching(pattern) == names


def test_a_set_of_no_byte_matches_nothing() -> None:
    nothing = globs.parse(b"a[!\x01-\xff]")
    assert not globs.regex([nothing]).fullmatch(b"ab")
    assert not globs.share_a_name([nothing], [globs.parse(b"*")], [])


def test_an_exception_wins_wherever_it_stands() -> None:
    assert matching("!__crc_f*", "__crc_*") == matching("__crc_*", "!__crc_f*") == {b"__crc_"}


def test_names_match_as_a_whole() -> None:
    assert not listed("foo").matches(b"foo.cold")
    assert not listed("foo").matches(b"xfoo")


@pytest.mark.parametrize(
    "name", ["init_module", "cleanup_module", "__this_module", "__start_x", "__stop_x", "__cfi_check"]
)
def test_protected_names_never_go(name: str) -> None:
    assert not listed("*").matches(name.encode())
    assert not listed(name, "x").matches(name.encode())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b"foo\nbar baz\n", "line 2: a second word, 'baz'"),
        (b"foo\r\n!\r\n", "line 2: a ! with no pattern"),
        (b"a\n\n[abc\n", "line 3: '[abc' has a [ without its ]"),
        (b"[]abc\n", "has a [ without its ]"),
        (b"abc\\\n", "ends with a backslash"),
        (b"[[:alpha:]]\n", "character class"),
        (b"[z-a]\n", "wrong way round"),
        (b"\x7fELF\x02\x01\n", "line 1: a control character"),
        (b"", "names no symbol"),
        (b"\n# nothing\n  \n", "names no symbol"),
        (b"!foo\n", "names no symbol"),
    ],
)
def test_bad_lists(text: bytes, complaint: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse(text, "my.list")
    assert caught.value.message.startswith("symbol list my.list")
    assert complaint in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        b"foo\n__crc_*\n",
        b"foo\r\n__crc_*\r\n",
        b"\xef\xbb\xbffoo\r\n__crc_*",
        b"# all of them\n\n  foo\t# one\n__crc_*#two\nfoo\n",
    ],
)
def test_one_list_however_it_is_written(text: bytes) -> None:
    found = parse(text, "L")
    assert found.patterns == ("foo", "__crc_*")
    assert found.file_text().startswith(b"foo\n__crc_*\n!init_module\n")


def test_a_tool_gets_a_clean_file() -> None:
    text = parse(b"\xff*  # comment\r\n!a\r\n", "L").file_text()
    assert text.splitlines()[:2] == [b"\xff*", b"!a"]
    assert text.splitlines()[2:] == [f"!{name}".encode() for name in PROTECTED]
    assert b"\r" not in text
    assert b"#" not in text
    assert text.endswith(b"\n")


def test_a_list_goes_to_another_process() -> None:
    found = listed("a*", "b", "!c")
    assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301 our own bytes


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_lists(name: str) -> None:
    found = load(name)
    assert found.name == name
    assert found.patterns[:2] == ("__UNIQUE_ID_*", "__param_str_*")
    assert changes_depmod(found) == (name == "symbols.2009")


def test_the_list_of_2009() -> None:
    assert load("symbols.2009").patterns[2:] == ("__crc_*", "__kstrtab*", "__ksymtab*", "__mod_*")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "symbols.safe"
    path.write_bytes(b"only_this\n")
    assert load(str(path)).patterns == ("only_this",)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file") as caught:
        load(str(tmp_path / "none"))
    assert "symbols.safe" in caught.value.hint


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        load(str(tmp_path))


def test_a_file_too_large_to_be_a_list(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(SettingError, match="larger"):
        load(str(path))


# --- what depmod would see -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "patterns",
    [
        ["__crc_*"],
        ["__crc_foo"],
        ["*"],
        ["_*"],
        ["*crc*"],
        ["foo", "??crc_[a-z]*"],
        ["__k*"],
        ["__kstrtabns_x"],
        ["__mod_pci__ids_device_table"],
        ["__mod_device_table__kmod_foo__pci__ids"],
        ["*_table"],
        ["__ksymtab_*", "!__ksymtab_foo"],
    ],
)
def test_lists_that_depmod_would_notice(patterns: list[str]) -> None:
    assert changes_depmod(listed(*patterns))


@pytest.mark.parametrize(
    "patterns",
    [
        ["__crc"],
        ["__param_str_*"],
        ["*foo", "!__*"],
        ["__mod_foo"],
        ["__kstrtab"],
        ["[a-z]*"],
        ["?[!_]*"],
        ["*", "!__crc_*", "!__ks*", "!__mod_*"],
        ["__crc_*", "!*c_*"],
    ],
)
def test_lists_that_depmod_would_not_notice(patterns: list[str]) -> None:
    assert not changes_depmod(listed(*patterns))


def test_a_long_list_is_judged_quickly() -> None:
    assert not changes_depmod(listed(*(f"symbol_{number}" for number in range(5000))))


def test_a_contrived_list_is_taken_for_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(globs, "STATE_LIMIT", 3)
    assert changes_depmod(listed("__crc", "zzzzzzzz", "__param_*"))


# --- properties ------------------------------------------------------------------------------------------------------

pieces = st.lists(st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "_"]), max_size=5).map("".join)
words = st.text("ab_c", max_size=6)


@given(pieces, words)
def test_same_as_fnmatch(pattern: str, word: str) -> None:
    glob = globs.parse(pattern.encode())
    expected = re.fullmatch(fnmatch.translate(pattern), word) is not None
    assert bool(globs.regex([glob]).fullmatch(word.encode())) == expected
    assert (globs.literal(glob) == word.encode()) == (expected and not set(pattern) & set("*?["))


@settings(max_examples=300)
@given(st.lists(pieces, max_size=2), st.lists(pieces, max_size=2), st.lists(pieces, max_size=2), words)
def test_a_shared_name_is_never_overlooked(some: list[str], others: list[str], without: list[str], word: str) -> None:
    sets = [[globs.parse(pattern.encode()) for pattern in group] for group in (some, others, without)]
    one, two, three = (bool(globs.regex(group).fullmatch(word.encode())) for group in sets)
    if one and two and not three:
        assert globs.share_a_name(*sets)


short = st.lists(st.sampled_from(["a", "*", "?", "[!a]"]), max_size=2).map("".join)
WORDS = ["".join(letters) for length in range(6) for letters in itertools.product("ab", repeat=length)]


@given(st.lists(short, min_size=1, max_size=2), short, st.lists(short, max_size=2))
def test_a_shared_name_exists(some: list[str], other: str, without: list[str]) -> None:
    sets = [[globs.parse(pattern.encode()) for pattern in group] for group in (some, [other], without)]
    one, two, three = (globs.regex(group).fullmatch for group in sets)
    witness = any(one(w) and two(w) and not three(w) for w in map(str.encode, WORDS))
    assert globs.share_a_name(*sets) == witness
