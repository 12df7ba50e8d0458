"""`rpm`, `rpmheader` and `newc` on packages written byte by byte: good, odd and hostile ones."""

from __future__ import annotations

import gzip
import hashlib
import random
import struct
from pathlib import Path

import pytest

from pkghook.errors import InputError, MissingDependencyError
from pkghook.sources import ledger
from pkghook.sources.packages import open_package
from tests.looks import Look, look, look_at
from tests.packages_by_hand import (
    ARRAY,
    BIN,
    DIRECTORY,
    GHOST,
    INT32,
    INT64,
    LEAD,
    REGULAR,
    STRING,
    SYMLINK,
    TRAILER,
    File,
    Tag,
    intro,
    newc,
    newc_member,
    rpm,
    rpm_header,
    rpm_of,
    rpm_tags,
    stripped,
    stripped_member,
)

DATA = bytes(range(256)) * 5
FILES = [
    File("/lib/modules/6.1", b"", DIRECTORY),
    File("/lib/modules/6.1/a.ko", DATA),
    File("/lib/modules/6.1/b.ko", b"other", inode=77),
    File("/lib/modules/6.1/c.ko", b"other", inode=77),
    File("/lib/modules/6.1/empty", b""),
    File("/lib/modules/6.1/gone", b"12345", flags=GHOST),
    File("/lib/modules/6.1/link", b"a.ko", SYMLINK),
    File("/lib/modules/6.1/odd \udcff\n.ko", b"x"),
]
SIZE = len(DATA) + 5 + 5 + 4 + 1  # as rpm counts: links once, targets of symlinks, files that are not in the payload


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


def refused(tmp_path: Path, package: bytes) -> str:
    """The message of the error that reading it must end with."""
    with pytest.raises(InputError) as caught:
        look_at(tmp_path, package)
    assert caught.value.message.startswith(str(tmp_path))
    assert caught.value.exit_status == 2
    return caught.value.message


def check_good(found: Look) -> None:
    """What a package with FILES must give."""
    assert found.findings == ()
    kinds = {member.path.rpartition("/")[2]: member.kind for member in found.members}
    assert kinds == {
        "6.1": "dir", "a.ko": "file", "b.ko": "link", "c.ko": "file", "empty": "file", "link": "symlink",
        "odd \udcff\n.ko": "file",
    }  # fmt: skip
    assert {path.rpartition("/")[2]: data for path, data in found.contents.items()} == {
        "a.ko": DATA, "c.ko": b"other", "empty": b"", "odd \udcff\n.ko": b"x"
    }  # fmt: skip
    by_name = {member.path.rpartition("/")[2]: member for member in found.members}
    assert by_name["link"].target == "a.ko"
    assert by_name["link"].size == 0
    assert by_name["b.ko"].target == "lib/modules/6.1/c.ko"
    assert by_name["b.ko"].inode == by_name["c.ko"].inode
    assert by_name["a.ko"].inode != by_name["c.ko"].inode
    assert by_name["a.ko"].mode == REGULAR
    assert (found.facts.counted_size, found.facts.installed_size, found.facts.members) == (SIZE, SIZE, 7)


# --- good ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [None, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("long", [False, True], ids=["newc", "07070X"])
def test_every_kind_of_member(tmp_path: Path, compress: object, *, long: bool) -> None:
    archive = stripped(FILES) if long else newc(FILES)
    payload = compress(archive) if callable(compress) else archive
    found = look_at(tmp_path, rpm(rpm_tags(FILES, long=long), archive, payload=payload))
    check_good(found)
    assert found.facts.payload == ("gzip" if compress else "none")
    assert (found.facts.name, found.facts.version, found.facts.arch, found.facts.form) == (
        "demo",
        "1-2",
        "noarch",
        "rpm",
    )


def test_members_may_come_in_another_order_than_the_header_has(tmp_path: Path) -> None:
    order = [7, 4, 1, 6, 0, 2, 3]
    check_good(look_at(tmp_path, rpm(rpm_tags(FILES, long=True), stripped(FILES, order))))


def test_bytes_that_nobody_reads_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "package"
    path.write_bytes(rpm_of(FILES))
    with open_package(str(path)) as package:
        heads = {member.path: reader.read(4) for member, reader in package.members()}
        assert package.findings == []
    assert heads["lib/modules/6.1/a.ko"] == DATA[:4]
    assert heads["lib/modules/6.1/c.ko"] == b"othe"


def test_epoch_and_source_package(tmp_path: Path) -> None:
    tags = rpm_tags(FILES[:1]) | {1003: (INT32, [3])}
    assert look_at(tmp_path, rpm(tags, newc(FILES[:1]))).facts.version == "3:1-2"
    del tags[1044]
    assert look_at(tmp_path, rpm(tags, newc(FILES[:1]))).facts.arch == "src"


def test_package_without_files(tmp_path: Path) -> None:
    found = look_at(tmp_path, rpm_of([]))
    assert (found.members, found.findings, found.facts.counted_size) == ((), (), 0)


def test_old_digests(tmp_path: Path) -> None:
    """Before rpm 4.14 there is one MD5 sum of header and payload, and MD5 sums of files; zeros for empty files."""
    files = [File("/a.ko", b"data"), File("/empty", b"")]
    tags = rpm_tags(files)
    del tags[5011]
    sum_of = hashlib.md5(b"data", usedforsecurity=False).hexdigest().encode()
    tags[1035] = (ARRAY, [sum_of, b"0" * 32])
    header, payload = rpm_header(tags), newc(files)
    whole = hashlib.md5(header + payload, usedforsecurity=False).digest()
    head = LEAD + rpm_header({1000: (INT32, [len(header) + len(payload)]), 1004: (BIN, whole)})
    package = head + bytes(-len(head) % 8) + header + payload
    assert look_at(tmp_path, package).findings == ()
    changed = package.replace(b"data", b"dat4")
    assert look_at(tmp_path, changed).ids == [
        ("package-digest", str(tmp_path / "package")),
        ("package-differs", "a.ko"),
    ]


# --- the payload is not what the header says -------------------------------------------------------------------------


def test_unlisted(tmp_path: Path) -> None:
    archive = newc([*FILES, File("/lib/modules/6.1/stowaway.ko", b"?")])
    found = look_at(tmp_path, rpm(rpm_tags(FILES), archive))
    assert found.ids == [("package-unlisted", "lib/modules/6.1/stowaway.ko")]
    assert found.contents["lib/modules/6.1/stowaway.ko"] == b"?"


def test_missing(tmp_path: Path) -> None:
    found = look_at(tmp_path, rpm(rpm_tags(FILES), newc(FILES[:4])))
    assert {id for id, _ in found.ids} == {"package-missing"}
    assert [subject.rpartition("/")[2] for _, subject in found.ids] == ["empty", "link", "odd \udcff\n.ko"]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (File("/lib/modules/6.1/a.ko", DATA + b"!"), "size"),
        (File("/lib/modules/6.1/a.ko", DATA, 0o100755), "mode"),
        (File("/lib/modules/6.1/a.ko", DATA[::-1]), "digest"),
    ],
)
def test_differs(tmp_path: Path, changed: File, what: str) -> None:
    files = [changed if file.path == changed.path else file for file in FILES]
    found = look_at(tmp_path, rpm(rpm_tags(FILES), newc(files)))
    assert set(found.ids) == {("package-differs", "lib/modules/6.1/a.ko")}
    assert dict(found.findings[0].evidence)["what"] == what


def test_target_differs(tmp_path: Path) -> None:
    files = [*FILES[:6], File("/lib/modules/6.1/link", b"b.ko", SYMLINK), FILES[7]]
    found = look_at(tmp_path, rpm(rpm_tags(FILES), newc(files)))
    assert found.evidence("package-differs") == {
        "what": "target", "listed": "a.ko", "found": "b.ko", "package": found.facts.path
    }  # fmt: skip


def test_digest_is_not_asked_of_what_nobody_read(tmp_path: Path) -> None:
    path = tmp_path / "package"
    files = [FILES[0], File("/lib/modules/6.1/a.ko", DATA[::-1]), *FILES[2:]]
    path.write_bytes(rpm(rpm_tags(FILES), newc(files)))
    assert look(path, read=False).findings == ()


def test_bytes_with_the_first_name_of_a_file(tmp_path: Path) -> None:
    """rpm has them with the last; another order of them is another size of both."""
    archive = newc([FILES[2]])[: -len(TRAILER)] + newc([FILES[3]._replace(data=b"")])
    files = [FILES[2], FILES[3]]
    found = look_at(tmp_path, rpm(rpm_tags(files), archive))
    assert [id for id, _ in found.ids] == ["package-differs"] * 3  # both sizes, and the digest of nothing
    assert found.contents["lib/modules/6.1/b.ko"] == b"other"


def test_twice(tmp_path: Path) -> None:
    archive = newc(FILES)[: -len(TRAILER)] + newc([FILES[1]])
    assert look_at(tmp_path, rpm(rpm_tags(FILES), archive)).ids == [("package-twice", "lib/modules/6.1/a.ko")]


@pytest.mark.parametrize("path", ["/lib/../../etc/a.ko", "/../a.ko"])
def test_path_that_leads_out(tmp_path: Path, path: str) -> None:
    found = look_at(tmp_path, rpm_of([File(path, b"x")]))
    assert found.ids == [("package-path", path.lstrip("/"))]
    assert found.contents == {path.lstrip("/"): b"x"}


def test_bytes_behind_the_archive(tmp_path: Path) -> None:
    assert look_at(tmp_path, rpm(rpm_tags(FILES), newc(FILES) + bytes(1000))).findings == ()
    found = look_at(tmp_path, rpm(rpm_tags(FILES), newc(FILES) + bytes(10) + b"boo" + bytes(5)))
    assert found.evidence("package-trailing") == {"where": "payload", "bytes": 13, "package": found.facts.path}


def test_bytes_behind_the_package(tmp_path: Path) -> None:
    found = look_at(tmp_path, rpm_of(FILES) + b"more")
    assert found.evidence("package-trailing") == {"where": "file", "bytes": 4, "package": found.facts.path}
    assert [id for id, _ in found.ids] == ["package-trailing", "package-digest"]  # rpm digests up to the file's end


def test_digests_of_the_package(tmp_path: Path) -> None:
    tags: dict[int, Tag] = rpm_tags(FILES) | {5092: (ARRAY, [b"00" * 32])}
    assert look_at(tmp_path, rpm(tags, newc(FILES))).evidence("package-digest")["of"] == "payload"
    signature: dict[int, Tag] = {273: (STRING, [b"00" * 32])}
    found = look_at(tmp_path, rpm(rpm_tags(FILES), newc(FILES), signature=signature))
    assert found.evidence("package-digest")["of"] == "header"


# --- what is no package, or none that can be read --------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3, 95, 96, 111, 112, 200, 400, 900, 1500, -100, -1])
def test_truncated(tmp_path: Path, size: int) -> None:
    package = rpm_of(FILES)
    assert refused(tmp_path, package[:size] if size >= 0 else package[: len(package) + size])


def test_truncated_everywhere_in_the_archive(tmp_path: Path) -> None:
    """With sizes and digests made to fit, so that nothing but the archive itself tells."""
    archive = newc(FILES)
    for end in range(0, len(archive) - 3, 7):  # the last 3 are padding
        tags = rpm_tags(FILES)
        assert "end after" in refused(tmp_path, rpm(tags, archive[:end]))


def test_truncated_gzip(tmp_path: Path) -> None:
    payload = gzip.compress(newc(FILES))
    for end in (0, 5, 20, len(payload) // 2, len(payload) - 8, len(payload) - 1):
        refused(tmp_path, rpm(rpm_tags(FILES), b"", payload=payload[:end]))


@pytest.mark.parametrize(
    ("entries", "size"), [(10**9, 100), (0xFFFFFFFF, 0xFFFFFFFF), (0, 100), (1, 0xFFFFFFFF), (65536, 0)]
)
@pytest.mark.parametrize("which", ["signature", "main"])
def test_header_that_claims_too_much(tmp_path: Path, entries: int, size: int, which: str) -> None:
    head = LEAD if which == "signature" else LEAD + rpm_header({1000: (INT32, [1])}) + bytes(4)
    assert refused(tmp_path, head + intro(entries, size) + bytes(1000))


@pytest.mark.parametrize(
    "tag",
    [
        struct.pack(">IIiI", 1028, 4, 0, 10**9),
        struct.pack(">IIiI", 1028, 4, -4, 1),
        struct.pack(">IIiI", 1028, 4, 14, 1),
        struct.pack(">IIiI", 1028, 7, 0, 1),
        struct.pack(">IIiI", 1028, 99, 0, 1),
        struct.pack(">IIiI", 1117, 8, 0, 17),
        struct.pack(">IIiI", 1000, 6, 100, 1),
        struct.pack(">IIiI", 1000, 6, 0, 0),
        struct.pack(">IIiI", 1000, 6, 0, 2),
        struct.pack(">IIiI", 1116, 4, 0, 1) * 2,
    ],
)
def test_entry_of_a_header_that_lies(tmp_path: Path, tag: bytes) -> None:
    store = b"abcdefgh" * 2
    signature = rpm_header({1000: (INT32, [1])})
    head = LEAD + signature + bytes(-len(LEAD + signature) % 8)
    assert refused(tmp_path, head + intro(len(tag) // 16, len(store)) + tag + store)


def test_lists_of_different_length(tmp_path: Path) -> None:
    tags = rpm_tags(FILES) | {1030: (3, [REGULAR])}
    assert "differ in length" in refused(tmp_path, rpm(tags, newc(FILES)))


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    tags = rpm_tags(FILES) | {1116: (INT32, [9] * len(FILES))}
    assert "directory" in refused(tmp_path, rpm(tags, newc(FILES)))


def test_index_that_is_not_there(tmp_path: Path) -> None:
    archive = stripped_member(len(FILES)) + TRAILER
    assert "file 8 of a list of 8" in refused(tmp_path, rpm(rpm_tags(FILES, long=True), archive))


@pytest.mark.parametrize("long", [False, True], ids=["newc", "07070X"])
def test_member_that_claims_too_much(tmp_path: Path, *, long: bool) -> None:
    tags = rpm_tags([File("/a.ko", b"x")], long=long)
    huge = 1 << (62 if long else 31)
    tags |= {5008: (INT64, [huge])} if long else {1028: (INT32, [huge])}
    archive = (stripped_member(0) if long else newc_member(b"./a.ko", b"", size=huge)) + b"x" * 100
    assert "end after" in refused(tmp_path, rpm(tags, archive))


def test_symlink_that_claims_too_much(tmp_path: Path) -> None:
    archive = newc_member(b"./l", b"x" * 5000, SYMLINK) + TRAILER
    assert "5000" in refused(tmp_path, rpm(rpm_tags([File("/l", b"x" * 5000, SYMLINK)]), archive))


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"070707" + b"0" * 200,
        b"07070 " + b"0" * 200,
        newc_member(b"./a", b"")[:100],
        newc_member(b"./a", b"").replace(b"00000004", b"00000000", 1) + TRAILER,
        newc_member(b"./" + b"a" * 4096, b"") + TRAILER,
        newc_member(b"./a", b"").replace(b"000081a4", b"-00081a4") + TRAILER,
        newc_member(b"./a", b"").replace(b"000081a4", b"0_0081a4") + TRAILER,
        newc_member(b"./a", b""),
    ],
)
def test_archive_that_is_none(tmp_path: Path, archive: bytes) -> None:
    assert refused(tmp_path, rpm(rpm_tags([File("/a", b"")]), archive))


def test_compression_that_nobody_knows(tmp_path: Path) -> None:
    tags = rpm_tags(FILES) | {1125: (STRING, [b"brotli"])}
    assert "brotli" in refused(tmp_path, rpm(tags, newc(FILES)))


def test_delta_package(tmp_path: Path) -> None:
    tags = rpm_tags(FILES) | {1124: (STRING, [b"drpm"])}
    assert "drpm" in refused(tmp_path, rpm(tags, newc(FILES)))


def test_digests_that_nobody_knows(tmp_path: Path) -> None:
    tags = rpm_tags(FILES) | {5011: (INT32, [5])}
    assert "digests of kind 5" in refused(tmp_path, rpm(tags, newc(FILES)))


def test_names_as_of_last_century(tmp_path: Path) -> None:
    tags = rpm_tags([]) | {1027: (ARRAY, [b"/a"])}
    assert "2000" in refused(tmp_path, rpm(tags, newc([])))


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MEMBERS", 100)
    archive = newc_member(b"./a", b"") * 101 + TRAILER
    assert "more than 100 members" in refused(tmp_path, rpm(rpm_tags(FILES), archive))


def test_too_many_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "FINDINGS", 10)
    archive = newc_member(b"./a", b"") * 101 + TRAILER
    assert "more than 10" in refused(tmp_path, rpm(rpm_tags(FILES), archive))


def test_without_rpmfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "package"
    path.write_bytes(rpm_of(FILES))
    monkeypatch.setitem(__import__("sys").modules, "rpmfile", None)
    with pytest.raises(MissingDependencyError, match="rpmfile") as caught:
        look(path)
    assert "pip install" in caught.value.hint


def test_flipped_bits(tmp_path: Path) -> None:
    """At any place: an error, a finding, or what the package held before."""
    package = rpm(rpm_tags(FILES), b"", payload=gzip.compress(newc(FILES)))
    good = look_at(tmp_path, package)
    dice = random.Random(3)  # noqa: S311 no secret
    for _ in range(600):
        bit = dice.randrange(len(package) * 8)
        flipped = bytearray(package)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = look_at(tmp_path, bytes(flipped))
        except InputError:
            continue
        same = (found.contents, found.members, found.facts) == (good.contents, good.members, good.facts)
        assert found.findings or same, f"bit {bit}"
