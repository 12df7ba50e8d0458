"""A package of Debian: control data, and the members as the payload gives them.

The payload comes through `dpkg-deb --fsys-tarfile` where it is there, which decompresses with several threads and
knows what dpkg installed on this system can read; otherwise, or where that gives nothing, it is decompressed here.
Files that a consumer reads to their end are held against the package's own list of MD5 sums where it has one (not
all have, and it does not name configuration files).  Source: deb(5), deb-control(5), dpkg's src/deb/extract.c.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from pkghook import proc
from pkghook.errors import MissingDependencyError
from pkghook.model import PackageFacts
from pkghook.sources import ar, payload, tar
from pkghook.sources.ledger import Ledger
from pkghook.sources.member import Member, Reader
from pkghook.sources.sums import at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pkghook.findings import Finding
    from pkghook.sources.sums import Digester
    from pkghook.sources.tar import Entry

_VERSION = b"2."
_SUFFIXES = {"": "none", ".gz": "gzip", ".xz": "xz", ".zst": "zstd", ".bz2": "bzip2", ".lzma": "lzma"}
_CONTROL_MAX = 64 << 20  # bytes of all control files
_WANTED = {"control": 2 << 20, "md5sums": 8 << 20}  # bytes at most: read, they take six times as much, or more
_SMALLEST = 9  # bytes of any archive; dpkg-deb 1.21 waits for ever for the rest of a smaller one that is called zstd
_KIB = 1024
_DIGITS = 19  # of a size in KiB that a file system could hold


class Deb:
    """An open `.deb`; see packages.Package."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self._ledger = Ledger(path)
        self._part, self._kind, control, kind = self._parts()
        files, self._control_size = _control_files(control, kind)
        self._control = _fields(files.get("control", b""), path)
        self._sums = _sums(files.get("md5sums", b""))
        self._stream: payload.Payload | None = None

    @property
    def findings(self) -> list[Finding]:
        """What was found so far."""
        return self._ledger.findings

    @property
    def facts(self) -> PackageFacts:
        """What the package says of itself, and what was counted so far."""
        size = self._control.get("Installed-Size", "")
        return PackageFacts(
            path=self._path,
            form="deb",
            name=self._control.get("Package", ""),
            version=self._control.get("Version", ""),
            arch=self._control.get("Architecture", ""),
            payload=self._kind,
            file_size=os.fstat(self._fd).st_size,
            installed_size=int(size) * _KIB if size.isdecimal() else None,
            counted_size=self._ledger.counted,
            uncertain_size=self._control_size,
            members=self._ledger.members,
        )

    def members(self, digest: Digester = at_once) -> Iterator[tuple[Member, Reader]]:
        """The members in the order of the payload, once. See packages.Package."""
        del digest  # dpkg has none of its file
        stream = self._stream = self._open()
        while (entry := tar.read(stream, self._path)) is not None:
            member = self._member(entry)
            end = stream.offset + entry.size
            self._ledger.enter(member.path, member.inode)
            self._ledger.counted += _counted(member)
            algorithm = "md5" if member.kind == "file" and member.path in self._sums else ""
            reader = Reader(stream, member.size, algorithm, partial(self._check_sum, member.path))
            yield member, reader
            stream.skip(end - stream.offset)
            reader.end()
        if trailing := stream.finish():
            self._ledger.note("package-trailing", self._path, where="payload", bytes=trailing)
        for path in self._sums.keys() - self._ledger.inodes.keys():
            self._ledger.note("package-missing", path)

    def close(self) -> None:
        """End the pass, wherever it is."""
        if self._stream:
            self._stream.close()

    # --- the parts

    def _parts(self) -> tuple[payload.Part, str, payload.Part, str]:
        """Payload and control data, each with its kind of compression, in the order that dpkg asks for."""
        found = [(name, part) for name, part in ar.parts(self._fd, self._path) if not name.startswith("_")]
        names = [name for name, _ in found]
        if names[:1] != ["debian-binary"] or os.pread(self._fd, 2, found[0][1].start) != _VERSION:
            raise payload.damaged(self._path, "it is an ar archive, but no Debian package of format 2")
        if len(found) < 3:
            raise payload.damaged(self._path, f"it has the parts {', '.join(names)} where a Debian package has three")
        for name, part in found[1:3]:
            if part.size < _SMALLEST:
                raise payload.damaged(self._path, f"its part {name} has {part.size} bytes, too few for an archive")
        control, data = (self._compression(name, stem) for name, stem in zip(names[1:], _STEMS, strict=False))
        if len(found) > 3:
            self._ledger.note(
                "package-trailing", self._path, where="file", bytes=sum(part.size for _, part in found[3:])
            )
        return found[2][1], data, found[1][1], control

    def _compression(self, name: str, stem: str) -> str:
        suffix = name.removeprefix(stem)
        if not name.startswith(stem) or suffix not in _SUFFIXES:
            raise payload.damaged(
                self._path, f"it has a part {name} where {stem} is expected, compressed in a known way"
            )
        return _SUFFIXES[suffix]

    def _open(self) -> payload.Payload:
        if program := proc.which("dpkg-deb"):
            argv = (program, "--fsys-tarfile", f"/proc/self/fd/{self._fd}")
            if stream := payload.by_program(argv, self._part, pass_fds=(self._fd,)):
                return stream
        return payload.open_part(self._part, self._kind)

    # --- one member

    def _member(self, entry: Entry) -> Member:
        path = _clean(entry.name)
        target = os.fsdecode(entry.target) if entry.kind == "symlink" else ""
        inode = self._ledger.members + 1
        if entry.kind == "link":
            target = _clean(entry.target)
            if target not in self._ledger.inodes:
                self._ledger.note(
                    "package-differs", path, what="hard link", listed=target, found="no such member before"
                )
            inode = self._ledger.inodes.get(target, inode)
        return Member(path, entry.kind, entry.size, entry.mode, target, inode)

    def _check_sum(self, path: str, found: str) -> None:
        if found != self._sums[path]:
            self._ledger.note("package-differs", path, what="MD5 sum", listed=self._sums[path], found=found)


_STEMS = ("control.tar", "data.tar")


def _control_files(part: payload.Part, kind: str) -> tuple[dict[str, bytes], int]:
    """The two files of the control data that are wanted, and the size of all as dpkg-gencontrol counts."""
    files: dict[str, bytes] = {}
    size = 0
    stream = payload.inside(part, kind)
    try:
        while (entry := tar.read(stream, part.path)) is not None:
            if stream.offset + entry.size > _CONTROL_MAX:
                raise payload.damaged(part.path, f"its control data has more than {_CONTROL_MAX} bytes")
            end = stream.offset + entry.size
            size += max(_KIB, -(-entry.size // _KIB) * _KIB)
            if entry.kind == "file" and (name := _clean(entry.name)) in _WANTED:
                if entry.size > _WANTED[name]:
                    raise payload.damaged(part.path, f"its control data has a file {name} of {entry.size} bytes")
                files[name] = stream.read(entry.size)
            stream.skip(end - stream.offset)
        stream.finish()
    finally:
        stream.close()
    if "control" not in files:
        raise payload.damaged(part.path, "its control data has no file named control")
    return files, size


def _fields(control: bytes, path: str) -> Mapping[str, str]:
    try:
        from debian.deb822 import Deb822
    except ImportError as error:
        message = f"{path}: reading Debian packages needs the Python library python-debian, which is not installed"
        raise MissingDependencyError(
            message, hint="apt install python3-debian, or pip install python-debian"
        ) from error
    fields: Mapping[str, str] = Deb822(control.decode("utf-8", "backslashreplace"))
    if missing := [name for name in ("Package", "Version", "Architecture") if not fields.get(name)]:
        raise payload.damaged(path, f"its control data has no {', '.join(missing)}")
    if (size := fields.get("Installed-Size", "")).isdecimal() and len(size) > _DIGITS:
        raise payload.damaged(path, f"its control data has an Installed-Size of {len(size)} digits")
    return fields


def _sums(text: bytes) -> dict[str, str]:
    """Digest by path, as md5sum(1) writes them: a backslash first where the name is escaped."""
    sums = {}
    for line in text.splitlines():
        digest, _, name = line.partition(b"  ")
        if digest.startswith(b"\\"):
            digest = digest[1:]
            name = name.replace(b"\\n", b"\n").replace(b"\\\\", b"\\")
        if len(digest) == 32 and name:
            sums[_clean(name)] = digest.decode("ascii", "replace").lower()
    return sums


def _counted(member: Member) -> int:
    """Bytes of a member as dpkg-gencontrol counts: whole KiB of content, one KiB for what has none, links once."""
    match member.kind:
        case "file":
            return -(-member.size // _KIB) * _KIB
        case "symlink":
            return -(-len(os.fsencode(member.target)) // _KIB) * _KIB
        case "link":
            return 0
        case _:
            return _KIB


def _clean(name: bytes) -> str:
    """A name as dpkg takes it: without leading slashes and dots, without a slash at the end."""
    while name.startswith((b"./", b"/")):
        name = name.removeprefix(b".").removeprefix(b"/")
    return os.fsdecode(name.rstrip(b"/")) if name != b"." else ""
