"""A package of RPM: the members as the payload gives them, held against the header's own list of files.

Sizes, modes and targets of all members are compared, in both directions; digests of those that a consumer reads to
their end; the digest of the header and that of the compressed payload always.  rpm goes by the header where the two
differ.  Source: rpm's lib/rpmfi.cc, lib/rpmvs.cc, build/files.cc.
"""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from pkghook.errors import InputError
from pkghook.model import PackageFacts
from pkghook.sources import newc, payload, rpmheader
from pkghook.sources.ledger import Ledger
from pkghook.sources.member import Member, Reader
from pkghook.sources.sums import Sum, at_once

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.findings import Finding
    from pkghook.sources.member import Kind
    from pkghook.sources.newc import Entry
    from pkghook.sources.rpmheader import Listed
    from pkghook.sources.sums import Digester

_TARGET_MAX = 4096  # bytes of a symlink's target; PATH_MAX
_INODE = 0xFFFFFFFF  # the half of Listed.inode that is not the device
_KINDS: dict[int, Kind] = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}


class Rpm:
    """An open `.rpm`; see packages.Package."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self._ledger = Ledger(path)
        self._size = os.fstat(fd).st_size
        self._header = rpmheader.read(fd, path)
        self._files = self._header.files
        self._part = self._payload()
        self._kind = self._compression()
        self._by_path = {file.path: index for index, file in enumerate(self._files)}
        self._last = self._last_names()
        self._seen = bytearray(len(self._files))
        self._stream: payload.Payload | None = None

    @property
    def findings(self) -> list[Finding]:
        """What was found so far."""
        return self._ledger.findings

    @property
    def facts(self) -> PackageFacts:
        """What the package says of itself, and what was counted so far."""
        ghosts = [
            file for file in self._files if file.flags & rpmheader.GHOST and _kind(file.mode) in ("file", "symlink")
        ]
        return PackageFacts(
            path=self._path,
            form="rpm",
            name=self._header.name,
            version=self._header.version,
            arch=self._header.arch,
            payload=self._kind,
            file_size=self._size,
            installed_size=self._header.installed_size,
            counted_size=self._ledger.counted + sum(file.size for file in ghosts),
            members=self._ledger.members,
        )

    def members(self, digest: Digester = at_once) -> Iterator[tuple[Member, Reader]]:
        """The members in the order of the payload, once. See packages.Package."""
        for wanted in self._sums():
            digest(self._fd, wanted, partial(self._check_sum, wanted))
        stream = self._stream = payload.open_part(self._part, self._kind)
        while (entry := newc.read(stream, self._path)) is not None:
            index = entry.place if entry.place >= 0 else self._by_path.get(_clean(entry.name), -1)
            size = self._size_of(entry, index)
            end = stream.offset + size
            member = self._listed(index, size) if index >= 0 else _stranger(entry)
            if member.kind == "symlink":
                member = self._with_target(member, size, stream)
            self._ledger.enter(member.path, member.inode)
            self._ledger.counted += size if member.kind in ("file", "symlink") else 0
            if index < 0:
                self._ledger.note("package-unlisted", member.path)
            algorithm = self._algorithm(index, member)
            reader = Reader(stream, member.size, algorithm, partial(self._check_digest, index))
            yield member, reader
            stream.skip(end - stream.offset)
            reader.end()
        if trailing := stream.finish():
            self._ledger.note("package-trailing", self._path, where="payload", bytes=trailing)
        self._check_missing()

    def close(self) -> None:
        """End the pass, wherever it is."""
        if self._stream:
            self._stream.close()

    # --- before the pass

    def _payload(self) -> payload.Part:
        begin, end = self._header.payload, self._header.end
        end = self._size if end is None else end
        if not begin <= end <= self._size:
            raise payload.damaged(self._path, f"it has {self._size} bytes where its header promises {end}")
        if end < self._size:
            self._ledger.note("package-trailing", self._path, where="file", bytes=self._size - end)
        return payload.Part(self._fd, begin, end - begin, self._path)

    def _compression(self) -> str:
        """As the header says; where it does not, rpm takes the payload for gzip, whose library passes plain bytes."""
        kind = self._header.compressor or payload.sniff(self._part)
        if kind not in payload.KINDS:
            raise InputError(f"{self._path}: its payload is compressed with {kind}, which is not known here")
        return kind

    def _last_names(self) -> dict[int, int]:
        """Of each file with several names the index of the last: it comes with the bytes."""
        last: dict[int, int] = {}
        several = set()
        for index, file in enumerate(self._files):
            if stat.S_ISREG(file.mode) and file.inode & _INODE and not file.flags & rpmheader.GHOST:
                if file.inode in last:
                    several.add(file.inode)
                last[file.inode] = index
        return {inode: last[inode] for inode in several}

    # --- one member

    def _size_of(self, entry: Entry, index: int) -> int:
        """Bytes of a member in the archive: as cpio says, in 07070X as the header says. What differs is noted."""
        if index < 0:
            return entry.size
        if index >= len(self._files):
            raise payload.damaged(self._path, f"its payload has file {index} of a list of {len(self._files)}")
        self._seen[index] = 1
        listed = self._files[index]
        with_bytes = stat.S_ISLNK(listed.mode) or (
            stat.S_ISREG(listed.mode) and self._last.get(listed.inode, index) == index
        )
        expected = listed.size if with_bytes else 0
        if entry.place >= 0:
            return expected
        self._compare(listed, "size", expected, entry.size)
        self._compare(listed, "mode", f"{listed.mode:o}", f"{entry.mode & 0xFFFF:o}")
        return entry.size

    def _listed(self, index: int, size: int) -> Member:
        """A member that is in the header's list, and comes with `size` bytes."""
        listed = self._files[index]
        kind = _kind(listed.mode)
        last = self._last.get(listed.inode, index)
        if kind == "file" and last != index and not size:
            return Member(listed.path, "link", 0, listed.mode, self._files[last].path, listed.inode)
        return Member(listed.path, kind, size if kind == "file" else 0, listed.mode, "", listed.inode)

    def _with_target(self, member: Member, size: int, stream: payload.Payload) -> Member:
        """A symlink, whose target comes in the place of its bytes."""
        if size > _TARGET_MAX:
            raise payload.damaged(self._path, f"a symlink in its payload has {size} bytes")
        target = os.fsdecode(stream.read(size))
        index = self._by_path.get(member.path)
        if index is not None:
            self._compare(self._files[index], "target", self._files[index].target, target)
        return member._replace(size=0, target=target)

    def _compare(self, listed: Listed, what: str, expected: str | int, found: str | int) -> None:
        if expected != found:
            self._ledger.note("package-differs", listed.path, what=what, listed=expected, found=found)

    def _algorithm(self, index: int, member: Member) -> str:
        """What kind of digest the header has of a file; "" if none."""
        has_one = member.kind == "file" and index >= 0 and self._files[index].digest
        return self._header.digest_algorithm if has_one else ""

    def _check_digest(self, index: int, found: str) -> None:
        # rpm before 4.6 gave empty files zeros for an MD5
        if set(self._files[index].digest) != {"0"}:
            self._compare(self._files[index], "digest", self._files[index].digest, found)

    # --- after the pass

    def _check_missing(self) -> None:
        for file, seen in zip(self._files, self._seen, strict=True):
            if not seen and not file.flags & rpmheader.GHOST:
                self._ledger.note("package-missing", file.path)

    # --- the whole

    def _sums(self) -> Iterator[Sum]:
        """Digests of the header and of the compressed payload; before rpm 4.14 there is one of both together."""
        header = self._header
        for algorithm, expected in header.header_digests[-1:]:
            yield Sum("header", algorithm, expected, header.begin, header.payload)
        for algorithm, expected in header.payload_digests[:1]:
            yield Sum("payload", algorithm, expected, header.payload, self._size)
        if not header.payload_digests and header.whole_md5:
            yield Sum("package", "md5", header.whole_md5, header.begin, self._size)

    def _check_sum(self, wanted: Sum, found: str) -> None:
        of, kind, said, _, _ = wanted
        if found != said:
            self._ledger.note("package-digest", self._path, of=of, kind=kind, said=said, found=found)


def _stranger(entry: Entry) -> Member:
    """A member that the header does not list."""
    kind = _kind(entry.mode)
    return Member(_clean(entry.name), kind, entry.size if kind == "file" else 0, entry.mode)


def _kind(mode: int) -> Kind:
    return _KINDS.get(stat.S_IFMT(mode), "other")


def _clean(name: bytes) -> str:
    """A name in the payload as the header's list has it: rpm writes "./" where a path was absolute."""
    return os.fsdecode(name.removeprefix(b".").lstrip(b"/") if name.startswith((b"./", b"/")) else name)
