"""What an RPM says of itself before its payload: the lead, the signature header and the main header.

rpmfile reads the tags, but trusts what it reads: it looks for a header at every byte, believes any count, mixes the
tags of both headers, and has no 64-bit numbers, which is what packages of format 6 have for sizes.  So both headers
are measured here first, by rpm's own limits, and rpmfile gets the main header's wanted entries alone.
Source: rpm's docs/manual/format_*.md, lib/header.cc, include/rpm/rpmtag.h.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from pkghook.errors import MissingDependencyError
from pkghook.sources.payload import damaged
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from typing import Any

MAGIC = b"\xed\xab\xee\xdb"
FILES = 1 << 18  # in one package at most, so that a header that lies costs 100 MiB and no more
GHOST = 1 << 6  # RPMFILE_GHOST: belongs to the package, is not in the payload

_LEAD = 96
_INTRO = struct.Struct(">8sII")  # magic, entries, bytes of data
_INTRO_MAGIC = b"\x8e\xad\xe8\x01\0\0\0\0"
_ENTRY = struct.Struct(">IIiI")  # tag, type, offset, count
_ENTRIES = 0xFFFF  # HEADER_TAGS_MAX
_DATA = 32 << 20  # bytes; rpm's HEADER_DATA_MAX is eight times as much, a kernel with 50,000 files needs a quarter
_WIDTHS = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}  # bytes of a value; strings (6, 8, 9) have none
_MASKS = {2: 0xFF, 3: 0xFFFF, 4: 0xFFFFFFFF}
_INT64, _STRING, _BIN, _ARRAY, _I18N = 5, 6, 7, 8, 9

# Tags of the main header that are read, and the types that rpm gives them
_NAME, _VERSION, _RELEASE, _EPOCH, _SIZE, _ARCH = 1000, 1001, 1002, 1003, 1009, 1022
_OLD_NAMES, _SIZES, _MODES, _DIGESTS, _LINKS, _FLAGS = 1027, 1028, 1030, 1035, 1036, 1037
_SOURCE_RPM, _DEVICES, _INODES = 1044, 1095, 1096
_DIR_INDEXES, _BASE_NAMES, _DIR_NAMES, _FORMAT, _COMPRESSOR = 1116, 1117, 1118, 1124, 1125
_LONG_SIZES, _LONG_SIZE, _DIGEST_ALGORITHM = 5008, 5009, 5011
_PAYLOAD_SHA256, _PAYLOAD_ALGORITHM, _PAYLOAD_SIZE, _PAYLOAD_SHA512, _PAYLOAD_SHA3 = 5092, 5093, 5112, 5121, 5123
_TYPES = {
    _NAME: _STRING, _VERSION: _STRING, _RELEASE: _STRING, _EPOCH: 4, _SIZE: 4, _ARCH: _STRING,
    _OLD_NAMES: _ARRAY, _SIZES: 4, _MODES: 3, _DIGESTS: _ARRAY, _LINKS: _ARRAY, _FLAGS: 4,
    _SOURCE_RPM: _STRING, _DEVICES: 4, _INODES: 4,
    _DIR_INDEXES: 4, _BASE_NAMES: _ARRAY, _DIR_NAMES: _ARRAY, _FORMAT: _STRING, _COMPRESSOR: _STRING,
    _LONG_SIZES: _INT64, _LONG_SIZE: _INT64, _DIGEST_ALGORITHM: 4,
    _PAYLOAD_SHA256: _ARRAY, _PAYLOAD_ALGORITHM: 4, _PAYLOAD_SIZE: _INT64, _PAYLOAD_SHA512: _STRING,
    _PAYLOAD_SHA3: _STRING,
}  # fmt: skip
# Tags of the signature header
_SIG_LONG_SIZE, _SIG_SHA1, _SIG_SHA256, _SIG_SHA3, _SIG_SIZE, _SIG_MD5 = 270, 269, 273, 279, 1000, 1004
_SIG_TYPES = {
    _SIG_LONG_SIZE: _INT64, _SIG_SHA1: _STRING, _SIG_SHA256: _STRING, _SIG_SHA3: _STRING, _SIG_SIZE: 4, _SIG_MD5: _BIN
}  # fmt: skip
# RPM_HASH_*, include/rpm/rpmcrypto.h; those that hashlib has
ALGORITHMS = {
    1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224", 12: "sha3_256", 14: "sha3_512"
}  # fmt: skip


class Listed(NamedTuple):
    """One file of the header's list."""

    path: str  # relative, decoded with `surrogateescape`
    size: int  # bytes; of a symlink those of its target
    mode: int  # as in st_mode
    flags: int
    target: str  # of a symlink
    digest: str  # hexadecimal; "" for all but files
    inode: int  # device and inode in one number; 0 where the header has none


class Header(NamedTuple):
    """What the headers say."""

    name: str
    version: str  # [epoch:]version-release
    arch: str  # `src` for a source package
    compressor: str  # "" where there is no such tag
    installed_size: int | None  # bytes
    files: tuple[Listed, ...]
    digest_algorithm: str  # of the files' digests, as hashlib calls it
    payload_digests: tuple[tuple[str, str], ...]  # (algorithm, hexadecimal) of the compressed payload
    header_digests: tuple[tuple[str, str], ...]  # the same of the main header
    whole_md5: str  # of header and payload; "" where there is none
    begin: int  # where the main header begins in the file
    payload: int  # where the payload begins
    end: int | None  # where it ends; None where the package does not say


class _Blob(NamedTuple):
    """One header structure as it lies in the file."""

    begin: int
    end: int
    entries: dict[int, tuple[int, int, int]]  # tag: type, offset, count; only those that are wanted
    data: bytes


def read(fd: int, path: str) -> Header:
    """The headers of the package `path`, open as `fd`.

    Raises InputError for what is damaged or no package that this can read, MissingDependencyError without rpmfile.
    """
    signature = _blob(fd, _LEAD, _SIG_TYPES, path)
    main = _blob(fd, signature.end + -signature.end % 8, _TYPES, path)
    tags = _Tags(main, path)
    signs = _Tags(signature, path)
    if not all(tags.text(tag) for tag in (_NAME, _VERSION, _RELEASE)):
        raise damaged(path, "its header has no name, version or release")
    if tags.text(_FORMAT) not in ("", "cpio"):
        raise damaged(path, f"its payload is no cpio archive but {tags.text(_FORMAT)}")
    algorithm = tags.number(_DIGEST_ALGORITHM)
    return Header(
        name=tags.text(_NAME),
        version=_version(tags),
        arch=tags.text(_ARCH) if tags.has(_SOURCE_RPM) else "src",
        compressor=tags.text(_COMPRESSOR),
        installed_size=tags.number(_LONG_SIZE if tags.has(_LONG_SIZE) else _SIZE),
        files=_files(tags, path),
        digest_algorithm=_algorithm(1 if algorithm is None else algorithm, path),
        payload_digests=_payload_digests(tags, path),
        header_digests=_given((("sha1", _SIG_SHA1), ("sha256", _SIG_SHA256), ("sha3_256", _SIG_SHA3)), signs),
        whole_md5=signs.binary(_SIG_MD5).hex(),
        begin=main.begin,
        payload=main.end,
        end=_end(main, tags, signs),
    )


def _blob(fd: int, begin: int, types: dict[int, int], path: str) -> _Blob:
    """Measure a header structure as rpm's hdrblobRead() does; raises InputError for one that rpm would refuse."""
    intro = os.pread(fd, _INTRO.size, begin)
    if len(intro) < _INTRO.size or intro[:8] != _INTRO_MAGIC:
        raise damaged(path, f"there is no RPM header at byte {begin}")
    _, count, size = _INTRO.unpack(intro)
    if not 0 < count <= _ENTRIES or size > _DATA:
        raise damaged(path, f"its header at byte {begin} claims {count} entries and {size} bytes")
    raw = os.pread(fd, count * _ENTRY.size + size, begin + _INTRO.size)
    if len(raw) < count * _ENTRY.size + size:
        raise damaged(path, f"it ends in its header at byte {begin}")
    data = raw[count * _ENTRY.size :]
    entries: dict[int, tuple[int, int, int]] = {}
    for tag, type, offset, values in _ENTRY.iter_unpack(raw[: count * _ENTRY.size]):
        if tag not in types:
            continue
        width = _WIDTHS.get(type, 1)
        if type != types[tag] and not (tag == _PAYLOAD_SHA256 and type == _STRING):
            raise damaged(path, f"tag {tag} of its header has type {type} where rpm has {types[tag]}")
        if tag in entries or offset < 0 or not values or offset + values * width > size or values > FILES:
            raise damaged(path, f"tag {tag} of its header is there twice, or has offset {offset} and {values} values")
        entries[tag] = (type, offset, values)
    return _Blob(begin, begin + _INTRO.size + len(raw), entries, data)


class _Tags:
    """The values of a header's tags; those of 64 bits read here, all others by rpmfile."""

    def __init__(self, blob: _Blob, path: str) -> None:
        self._blob = blob
        self._path = path
        self._names, self._read = _by_rpmfile(blob, path)

    def has(self, tag: int) -> bool:
        """Whether the header has it."""
        return tag in self._blob.entries

    def values(self, tag: int) -> tuple[Any, ...]:
        """All values of a tag that is there."""
        type, offset, count = self._blob.entries[tag]
        if type == _INT64:
            return struct.unpack_from(f">{count}Q", self._blob.data, offset)
        value = self._read[self._names.get(tag, tag)]
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if type in _MASKS:  # rpmfile 2.0 takes them for signed
            values = tuple(number & _MASKS[type] for number in values)
        if type != _BIN and len(values) != count:
            raise damaged(self._path, f"tag {tag} of its header has {len(values)} of {count} values")
        return values

    def texts(self, tag: int) -> tuple[str, ...]:
        """Strings, decoded with `surrogateescape`; none where the tag is not there."""
        return tuple(os.fsdecode(value) for value in self.values(tag)) if self.has(tag) else ()

    def text(self, tag: int) -> str:
        """The first string; "" where there is none."""
        return (*self.texts(tag), "")[0]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Numbers; none where the tag is not there."""
        return self.values(tag) if self.has(tag) else ()

    def number(self, tag: int) -> int | None:
        """The first number; None where there is none."""
        return (*self.numbers(tag), None)[0]

    def binary(self, tag: int) -> bytes:
        """The bytes; none where the tag is not there."""
        return self.values(tag)[0] if self.has(tag) else b""


def _by_rpmfile(blob: _Blob, path: str) -> tuple[dict[int, str], dict[int | str, Any]]:
    """rpmfile's names of tags, and what it reads from `blob`: a package made of that header's entries alone."""
    try:
        import rpmfile
        from rpmfile.errors import RPMError
        from rpmfile.headers import rtags
    except ImportError as error:
        message = f"{path}: reading RPM packages needs the Python library rpmfile, which is not installed"
        raise MissingDependencyError(message, hint="pip install 'rpmfile>=2.0'") from error
    from io import BytesIO

    kept = [(tag, *entry) for tag, entry in blob.entries.items() if entry[0] != _INT64]
    index = b"".join(_ENTRY.pack(*entry) for entry in kept)
    intro = _INTRO.pack(_INTRO_MAGIC, len(kept), len(blob.data))
    package = bytes(_LEAD) + _INTRO.pack(_INTRO_MAGIC, 0, 0) + intro + index + blob.data
    try:
        return rtags, rpmfile.RPMFile(fileobj=BytesIO(package)).headers
    except (RPMError, ValueError, struct.error) as error:
        raise damaged(path, f"its header at byte {blob.begin} cannot be read: {error}") from error


def _version(tags: _Tags) -> str:
    epoch = tags.number(_EPOCH)
    return ("" if epoch is None else f"{epoch}:") + f"{tags.text(_VERSION)}-{tags.text(_RELEASE)}"


def _algorithm(number: int, path: str) -> str:
    if number not in ALGORITHMS:
        raise damaged(path, f"its files have digests of kind {number}, which nobody here can make")
    return ALGORITHMS[number]


def _payload_digests(tags: _Tags, path: str) -> tuple[tuple[str, str], ...]:
    first = tags.number(_PAYLOAD_ALGORITHM)  # obsolete, always 8
    kind = _algorithm(8 if first is None else first, path)
    return _given(((kind, _PAYLOAD_SHA256), ("sha512", _PAYLOAD_SHA512), ("sha3_256", _PAYLOAD_SHA3)), tags)


def _given(rows: tuple[tuple[str, int], ...], tags: _Tags) -> tuple[tuple[str, str], ...]:
    return tuple((kind, text.lower()) for kind, tag in rows if (text := tags.text(tag)))


def _end(main: _Blob, tags: _Tags, signs: _Tags) -> int | None:
    """Up to format 4 the signature has the bytes of header and payload, from 6 on the header those of the payload."""
    if (size := tags.number(_PAYLOAD_SIZE)) is not None:
        return main.end + size
    size = signs.number(_SIG_LONG_SIZE if signs.has(_SIG_LONG_SIZE) else _SIG_SIZE)
    return None if size is None else main.begin + size


def _files(tags: _Tags, path: str) -> tuple[Listed, ...]:
    if tags.has(_OLD_NAMES):
        raise damaged(path, "its list of files is of a form that rpm left in 2000")
    names = tags.texts(_BASE_NAMES)
    count = len(names)
    dirs, places = tags.texts(_DIR_NAMES), tags.numbers(_DIR_INDEXES)
    sizes = tags.numbers(_LONG_SIZES if tags.has(_LONG_SIZES) else _SIZES)
    modes, flags = tags.numbers(_MODES), tags.numbers(_FLAGS)
    targets, digests = tags.texts(_LINKS), tags.texts(_DIGESTS)
    if {count} != {len(column) for column in (places, sizes, modes, flags, targets, digests)}:
        raise damaged(path, "its lists of files' names, sizes, modes and digests differ in length")
    if any(place >= len(dirs) for place in places):
        raise damaged(path, "a file of its list lies in a directory that it does not have")
    devices, numbers = tags.numbers(_DEVICES), tags.numbers(_INODES)
    inodes = [device << 32 | number for device, number in zip(devices, numbers, strict=False)]
    inodes += [0] * (count - len(inodes))
    return tuple(
        Listed((dirs[place] + name).lstrip("/"), size, mode, flag, target, digest.lower(), inode)
        for name, place, size, mode, flag, target, digest, inode in zip(
            names, places, sizes, modes, flags, targets, digests, inodes, strict=False
        )
    )
