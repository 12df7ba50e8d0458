"""`deb`, `ar` and `tar` on packages written byte by byte: good, odd and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pkghook.errors import InputError, MissingDependencyError
from pkghook.sources import deb as deb_module
from tests.looks import look, look_at
from tests.packages_by_hand import CONTROL, ar, ar_header, control, deb, deb_of, tar, tar_info

DATA = bytes(range(256)) * 5
LONG = "lib/modules/6.1/" + "/".join(["d" * 60] * 6) + "/m.ko"
KINDS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
    ".lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}


@pytest.fixture(autouse=True)
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


def refused(tmp_path: Path, package: bytes) -> str:
    """The message of the error that reading it must end with."""
    with pytest.raises(InputError) as caught:
        look_at(tmp_path, package)
    assert caught.value.message.startswith(str(tmp_path))
    return caught.value.message


def archive(format: int = tarfile.GNU_FORMAT) -> bytes:
    """One member of each kind."""
    return tar(
        [
            (tar_info("./", tarfile.DIRTYPE), b""),
            (tar_info("./lib/", tarfile.DIRTYPE), b""),
            (tar_info("./lib/a.ko"), DATA),
            (tar_info("./lib/b.ko", tarfile.LNKTYPE, "./lib/a.ko"), b""),
            (tar_info("./lib/c.ko", tarfile.SYMTYPE, "a.ko"), b""),
            (tar_info("./lib/pipe", tarfile.FIFOTYPE), b""),
            (tar_info("./lib/empty"), b""),
            (tar_info(f"./{LONG}"), b"x" * 1025),
            (tar_info("./lib/odd \udcff\n.ko"), b"odd"),
        ],
        format,
    )


# --- good ones -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_member(tmp_path: Path, kind: str) -> None:
    package = ar([
        (b"debian-binary", b"2.0\n"),
        ((b"control.tar" + kind.encode() + b"/")[:16], KINDS[kind](control())),
        (b"_extra", b"odd"),
        (b"data.tar" + kind.encode(), KINDS[kind](archive())),
    ])  # fmt: skip
    found = look_at(tmp_path, package)
    assert found.findings == ()
    assert [(member.path, member.kind, member.target) for member in found.members] == [
        ("", "dir", ""),
        ("lib", "dir", ""),
        ("lib/a.ko", "file", ""),
        ("lib/b.ko", "link", "lib/a.ko"),
        ("lib/c.ko", "symlink", "a.ko"),
        ("lib/pipe", "other", ""),
        ("lib/empty", "file", ""),
        (LONG, "file", ""),
        ("lib/odd \udcff\n.ko", "file", ""),
    ]
    assert found.contents == {"lib/a.ko": DATA, "lib/empty": b"", LONG: b"x" * 1025, "lib/odd \udcff\n.ko": b"odd"}
    inodes = {member.path: member.inode for member in found.members}
    assert inodes["lib/a.ko"] == inodes["lib/b.ko"] != inodes["lib/empty"]
    modes = [oct(member.mode) for member in found.members]
    assert modes[:6] == ["0o40755", "0o40755", "0o100644", "0o100644", "0o120644", "0o10644"]
    # KiB: two directories and a pipe 1 each, a symlink 1, a hard link 0, files of 1280, 0, 1025 and 3 bytes 2, 0, 2, 1
    assert found.facts.counted_size == 9 * 1024
    assert found.facts.installed_size == 7 * 1024
    payload = {"": "none", ".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2"}.get(kind, kind[1:])
    facts = found.facts
    assert (facts.form, facts.name, facts.version, facts.arch) == ("deb", "demo", "1-2", "all")
    assert (facts.payload, facts.file_size, facts.members) == (payload, len(package), 9)


def test_ustar_prefix_and_old_headers(tmp_path: Path) -> None:
    name = "d" * 90 + "/" + "e" * 90
    assert list(look_at(tmp_path, deb(tar([(tar_info(name), b"x")], tarfile.USTAR_FORMAT))).contents) == [name]
    old = bytearray(tar([(tar_info("old/"), b"")]))  # a directory, before there was a type for it
    old[257:512] = bytes(255)
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + sum(old[156:512]) + 8 * 32)
    assert look_at(tmp_path, deb(bytes(old))).members[0].kind == "dir"


def test_gnu_header_has_no_prefix(tmp_path: Path) -> None:
    """What lies there is other things in GNU's form; dpkg does not take it for a name."""
    block = bytearray(tar([(tar_info("a"), b"")]))
    block[345:350] = b"evil/"
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:512]) + 8 * 32)
    assert [member.path for member in look_at(tmp_path, deb(bytes(block))).members] == ["a"]


def test_size_in_base_256(tmp_path: Path) -> None:
    block = bytearray(tar([(tar_info("a"), b"x" * 700)]))
    block[124:136] = b"\x80" + (700).to_bytes(11)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:512]) + 8 * 32)
    assert look_at(tmp_path, deb(bytes(block))).contents == {"a": b"x" * 700}


def test_sums(tmp_path: Path) -> None:
    files = {"lib/a.ko": DATA, "lib/b.ko": b"b"}
    assert look_at(tmp_path, deb_of(files)).findings == ()
    data = tar([(tar_info("./lib/a.ko"), DATA[::-1]), (tar_info("./etc/conf"), b"")])
    found = look_at(tmp_path, deb(data, control_tar=control(sums=files)))
    assert found.ids == [("package-differs", "lib/a.ko"), ("package-missing", "lib/b.ko")]


def test_sums_with_escaped_names(tmp_path: Path) -> None:
    sums = b"\\" + b"d41d8cd98f00b204e9800998ecf8427e  a\\nb\\\\c\n"
    control_tar = tar(
        [(tar_info("./control"), b"Package: a\nVersion: 1\nArchitecture: all\n"), (tar_info("md5sums"), sums)]
    )
    found = look_at(tmp_path, deb(tar([(tar_info("./a\nb\\c"), b"")]), control_tar=control_tar))
    assert (found.findings, found.facts.installed_size) == ((), None)


@pytest.mark.parametrize("size", [0, 1, 8])
def test_parts_that_can_hold_nothing(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking dpkg-deb, which waits for ever for what is called zstd."""
    monkeypatch.undo()
    assert f"data.tar.zst has {size} bytes" in refused(tmp_path, deb(b"x" * size, name=b"data.tar.zst"))


def test_installed_size_beyond_all_numbers(tmp_path: Path) -> None:
    def said(size: bytes) -> bytes:
        return deb(tar([]), control_tar=control(control=CONTROL.replace(b"Size: 7", b"Size: " + size)))

    assert look_at(tmp_path, said(b"9" * 19)).facts.installed_size == (10**19 - 1) * 1024
    with pytest.raises(InputError, match="Installed-Size of 5000 digits"):
        look_at(tmp_path, said(b"9" * 5000))


def test_control_data_of_another_century(tmp_path: Path) -> None:
    fields = b"Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: Andr\xe9 <a@example.org>\n"
    assert look_at(tmp_path, deb(archive(), control_tar=control(control=fields))).facts.name == "demo"


# --- odd ones --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../a.ko", "./lib/../../a.ko", "/../a.ko"])
def test_path_that_leads_out(tmp_path: Path, name: str) -> None:
    found = look_at(tmp_path, deb(tar([(tar_info(name), b"x")])))
    assert [id for id, _ in found.ids] == ["package-path"]
    assert list(found.contents.values()) == [b"x"]


@pytest.mark.parametrize("name", ["/lib/a.ko", ".//lib/a.ko", "././lib/a.ko", "lib/a.ko"])
def test_absolute_path(tmp_path: Path, name: str) -> None:
    assert list(look_at(tmp_path, deb(tar([(tar_info(name), b"x")]))).contents) == ["lib/a.ko"]


def test_twice(tmp_path: Path) -> None:
    data = tar([(tar_info("a.ko"), b"1"), (tar_info("./a.ko"), b"2")])
    assert look_at(tmp_path, deb(data)).ids == [("package-twice", "a.ko")]


def test_hard_link_to_nothing(tmp_path: Path) -> None:
    data = tar([(tar_info("a.ko", tarfile.LNKTYPE, "b.ko"), b""), (tar_info("b.ko"), b"")])
    assert look_at(tmp_path, deb(data)).ids == [("package-differs", "a.ko")]


def test_bytes_behind_the_end(tmp_path: Path) -> None:
    assert look_at(tmp_path, deb(archive() + b"boo")).evidence("package-trailing")["where"] == "payload"
    parts = [(b"debian-binary", b"2.0\n"), (b"control.tar", control()), (b"data.tar", archive()), (b"more", b"boo")]
    assert look_at(tmp_path, ar(parts)).evidence("package-trailing") == {
        "where": "file", "bytes": 3, "package": str(tmp_path / "package")
    }  # fmt: skip


# --- what is no package, or none that can be read --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(tmp_path: Path, kind: str) -> None:
    """With an ar archive that fits, so that only the payload tells."""
    data = KINDS[kind](archive())
    for end in range(0, len(data) - (8192 if not kind else 1), max(len(data) // 40, 1)):
        refused(tmp_path, deb(data[:end], name=b"data.tar" + kind.encode()))


def test_truncated_file(tmp_path: Path) -> None:
    package = deb_of({"lib/a.ko": DATA})
    for end in range(0, len(package), 97):
        refused(tmp_path, package[:end])


@pytest.mark.parametrize("size", [b"-60", b"9" * 10, b"", b"1_0", b"0x1", "٣".encode()])
def test_part_whose_size_lies(tmp_path: Path, size: bytes) -> None:
    package = ar([(b"debian-binary", b"2.0\n")]) + ar_header(b"control.tar", size) + bytes(1000)
    assert refused(tmp_path, package)


def test_endless_parts(tmp_path: Path) -> None:
    assert "parts" in refused(tmp_path, ar([(b"_x", b"")] * 1000))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [(b"control.tar", control())],
        [(b"debian-binary", b"0.939")],
        [(b"debian-binary", b"2.0\n"), (b"data.tar", b""), (b"control.tar", control())],
        [(b"debian-binary", b"2.0\n"), (b"control.tar", control())],
        [(b"debian-binary", b"2.0\n"), (b"control.tar.7z", control()), (b"data.tar", b"")],
        [(b"debian-binary", b"2.0\n"), (b"control.tar", tar([])), (b"data.tar", b"")],
        [(b"debian-binary", b"2.0\n"), (b"control.tar", control(control=b"Package: a\n")), (b"data.tar", archive())],
    ],
)
def test_parts_of_no_package(tmp_path: Path, parts: list[tuple[bytes, bytes]]) -> None:
    assert refused(tmp_path, ar(parts))


@pytest.mark.parametrize("type", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE, b"?"])
def test_member_that_dpkg_does_not_read(tmp_path: Path, type: bytes) -> None:
    assert "dpkg does not read" in refused(tmp_path, deb(tar([(tar_info("a", type), b"x")])))


def test_extended_headers(tmp_path: Path) -> None:
    assert "dpkg does not read" in refused(tmp_path, deb(tar([(tar_info("n" * 200), b"x")], tarfile.PAX_FORMAT)))


@pytest.mark.parametrize(
    ("at", "bytes_there"),
    [
        (0, b"\0"),  # no name
        (124, b"9" * 11),  # not octal
        (124, b" " * 12),
        (124, b"\xff" * 12),  # negative
        (124, b"\x80" + b"\x7f" * 11),  # 2^87 bytes
        (124, b"77777777777\0"),
        (100, b"rwxr-xr-"),
    ],
)
def test_header_that_lies(tmp_path: Path, at: int, bytes_there: bytes) -> None:
    block = bytearray(tar([(tar_info("a"), b"x" * 700)]))
    block[at : at + len(bytes_there)] = bytes_there
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + sum(block[156:512]) + 8 * 32)
    assert refused(tmp_path, deb(bytes(block)))


def test_damage_in_the_middle_is_not_the_end(tmp_path: Path) -> None:
    whole = bytearray(tar([(tar_info("a"), b"x"), (tar_info("b"), b"y")]))
    whole[1024:1030] = b"?" * 6
    assert "no tar member begins at byte 1024" in refused(tmp_path, deb(bytes(whole)))


def test_directory_with_contents(tmp_path: Path) -> None:
    """tar would skip them, dpkg would take them for the next member."""
    inner = tar([(tar_info("hidden.ko"), b"x")])[:1024]
    assert "1024 bytes of contents" in refused(tmp_path, deb(tar([(tar_info("d", tarfile.DIRTYPE), inner)])))


def test_names_without_end(tmp_path: Path) -> None:
    assert "name of 5001 bytes" in refused(tmp_path, deb(tar([(tar_info("d" * 5000), b"")])))
    whole = tar([(tar_info("d" * 200), b"")])
    assert "long name" in refused(tmp_path, deb(whole[:1024] + bytes(10240)))


def test_control_data_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deb_module, "_CONTROL_MAX", 10_000)
    huge = control(control=b"Package: a\n" + bytes(20_000))
    assert "10000" in refused(tmp_path, deb(archive(), control_tar=huge))


def test_without_python_debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "package"
    path.write_bytes(deb_of({}))
    monkeypatch.setitem(sys.modules, "debian.deb822", None)
    with pytest.raises(MissingDependencyError, match="python-debian") as caught:
        look(path)
    assert "python3-debian" in caught.value.hint


def test_without_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "package"
    path.write_bytes(deb(KINDS[".zst"](archive()), name=b"data.tar.zst"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingDependencyError, match="zstandard"):
        look(path)


@pytest.mark.parametrize("kind", [".gz", ".xz"])
def test_flipped_bits(tmp_path: Path, kind: str) -> None:
    """At any place: an error, a finding, or what the package held before. A Debian package has no digest of all."""
    files = {f"lib/{number}.ko": DATA for number in range(4)}
    data = tar((tar_info(f"./{path}"), content) for path, content in files.items())
    package = deb(KINDS[kind](data), name=b"data.tar" + kind.encode(), control_tar=control(sums=files))
    body = package.index(KINDS[kind](data))
    good = look_at(tmp_path, package)
    dice = random.Random(4)  # noqa: S311 no secret
    for _ in range(300):
        bit = dice.randrange(body * 8, len(package) * 8)
        flipped = bytearray(package)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = look_at(tmp_path, bytes(flipped))
        except InputError:
            continue
        assert found.findings or found.contents == good.contents, f"bit {bit}"
