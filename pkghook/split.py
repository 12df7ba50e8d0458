"""The debug file of one module: written from the module's own bytes, read back, proven, put in its place.

It is there before the module is replaced; whatever goes wrong on the way leaves the module unstripped.
"""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.findings import make
from pkghook.ko import debugfile, debuglink
from pkghook.ko.buildid import build_id
from pkghook.ko.file import FdImage
from pkghook.model import SUFFIXES, DebugFile
from pkghook.sources.debugdir import other_path
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pkghook.ko.elf import Elf
    from pkghook.ko.file import Image
    from pkghook.model import Entry
    from pkghook.sources import Found, Scratch, Source
    from pkghook.sources.debugdir import DebugDir

STREAM = 1 << 20
SUFFIX = ".debug"
# What copy_file_range(2) says where it cannot copy between these two files.
_NOT_HERE = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EPERM))


class Splitting(NamedTuple):
    """Where debug files go, and how modules refer to them."""

    directory: DebugDir | None  # None: a dry run
    by_build_id: bool  # else, and for modules without one, the tree is mirrored
    link: bool  # whether modules get a .gnu_debuglink
    doubles: frozenset[str] = frozenset()  # paths in the mirror that several modules lead to
    fsync: bool = False


class Split(NamedTuple):
    """A debug file that is written and proven, not yet in its place."""

    scratch: Scratch | None  # None: a dry run
    paths: tuple[str, ...]  # relative to the directory; the further ones for hard-linked names
    shared: bool  # whether other modules may lead to the same path
    file: DebugFile
    link: bytes  # contents of .gnu_debuglink, b"" where none is wanted


def write(splitting: Splitting, found: Found, source: Source, elf: Elf, removed: frozenset[int]) -> Split:
    """Write and prove the debug file of the module `elf`, from which the sections `removed` go.

    It is the caller's to `publish` and `discard`.

    Raises ModuleError debug-file-failed, debug-file-broken, too-many-sections, unreadable, truncated.
    """
    if splitting.link:
        debuglink.check_room(elf)
    plan = debugfile.outline(elf, removed)
    paths, shared = _paths(splitting, found, build_id(elf))
    pieces = debugfile.render(elf, plan)
    scratch = None
    if splitting.directory is None:
        sha256, crc = _sums(_bytes(elf.image, pieces), crc=splitting.link)
    else:
        scratch = splitting.directory.scratch()
        try:
            sha256, crc = _written(scratch, elf, pieces, crc=splitting.link)
            splitting.directory.finish(scratch, source.stat.st_mtime_ns, fsync=splitting.fsync)
        except BaseException:
            splitting.directory.discard(scratch)
            raise
    name = paths[0].rpartition("/")[2]
    link = debuglink.contents(name, crc, elf.shape.order) if splitting.link else b""
    return Split(scratch, paths, shared, DebugFile(paths[0], plan.size, sha256), link)


def _written(scratch: Scratch, elf: Elf, pieces: Iterator[bytes | debugfile.Span], *, crc: bool) -> tuple[str, int]:
    """Write the file, read it back afresh and prove it; SHA-256 and CRC-32 of what was read."""
    fill(scratch.fd, elf.image, pieces)
    written = FdImage(scratch.fd, os.fstat(scratch.fd).st_size)
    debugfile.check(elf, written)
    return _sums(_whole(written), crc=crc)


def publish(splitting: Splitting, split: Split) -> DebugFile:
    """Put the debug file in its place.  Raises ModuleError debug-file-failed."""
    if splitting.directory is None or split.scratch is None:
        return split.file
    if not split.shared:
        splitting.directory.put(split.scratch, split.paths, fsync=splitting.fsync)
        return split.file
    (path,) = split.paths
    other = other_path(path, split.file.sha256)
    got = splitting.directory.share(split.scratch, path, other, split.file.sha256, fsync=splitting.fsync)
    return split.file._replace(path=got)


def discard(splitting: Splitting, split: Split) -> None:
    """Forget the scratch file, whether it was published or not."""
    if splitting.directory is not None and split.scratch is not None:
        splitting.directory.discard(split.scratch)


# --- where -----------------------------------------------------------------------------------------------------------


def _paths(splitting: Splitting, found: Found, id: str) -> tuple[tuple[str, ...], bool]:
    """Where the debug file goes, and whether others may lead there."""
    if splitting.by_build_id and len(id) > 2:
        return (f".build-id/{id[:2]}/{id[2:]}{SUFFIX}",), True
    names = (mirrored(path) for path in (found.path, *found.names))
    plain = zip(names, (found.path, *found.names), strict=True)
    chosen = [path + SUFFIX if name in splitting.doubles else name for name, path in plain]
    return tuple(dict.fromkeys(chosen)), False


def mirrored(path: str) -> str:
    """The path of a module's debug file in the mirror: `x.ko.debug` beside, for `x.ko.xz` too.

    That name is what libdwfl looks for below /usr/lib/debug where no link says another, and what Fedora's
    debuginfo packages have; it is no module's name, so that no walk takes a debug file for one.
    """
    for suffix in SUFFIXES.values():
        if suffix and path.endswith(f".ko{suffix}"):
            return path.removesuffix(suffix) + SUFFIX
    return path + SUFFIX


def doubles(paths: Sequence[str]) -> frozenset[str]:
    """The paths in the mirror that several of these modules lead to: `x.ko` and `x.ko.xz` in one directory."""
    seen: set[str] = set()
    return frozenset(name for name in map(mirrored, paths) if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def settle(entries: Sequence[Entry]) -> list[Entry]:
    """The entries as they are once all debug files lie where they stay, with a finding for those pushed aside.

    Different debug files of one build-id sort themselves out in `DebugDir.share`; who came early may not
    know of it.
    """
    first: dict[str, str] = {}
    for entry in entries:
        if entry.debug_file:
            path, _, sha256 = entry.debug_file
            first[path] = min(sha256, first.get(path, sha256))
    return [_settled(entry, first) for entry in entries]


def _settled(entry: Entry, first: dict[str, str]) -> Entry:
    file = entry.debug_file
    if file is None:
        return entry
    if first[file.path] != file.sha256:
        file = file._replace(path=other_path(file.path, file.sha256))
    if not file.path.endswith(f".{file.sha256[:12]}{SUFFIX}"):
        return entry
    told = make("debug-id-shared", entry.path, build_id=entry.build_id, debug_file=file.path)
    return entry._replace(debug_file=file, findings=(*entry.findings, told))


# --- bytes -----------------------------------------------------------------------------------------------------------


def fill(fd: int, image: Image, pieces: Iterator[bytes | debugfile.Span]) -> None:
    """Write the pieces, spans of the image among them, to an open file.  Raises ModuleError debug-file-failed."""
    try:
        for piece in pieces:
            if isinstance(piece, debugfile.Span):
                _copy(fd, image, piece)
            else:
                _write_all(fd, piece)
    except OSError as error:
        raise ModuleError("debug-file-failed", error=error.strerror or str(error)) from error


def _copy(fd: int, image: Image, span: debugfile.Span) -> None:
    """A span of the image, within the kernel where that can be done."""
    start, left = span
    try:
        while left and isinstance(image, FdImage):
            done = os.copy_file_range(image.fd, fd, left, start)
            if not done:  # the file has become shorter, or lies where it cannot be copied from
                break
            start, left = start + done, left - done
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
    for at in range(start, start + left, STREAM):
        _write_all(fd, image.read(at, min(STREAM, start + left - at)))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _bytes(image: Image, pieces: Iterator[bytes | debugfile.Span]) -> Iterator[bytes]:
    for piece in pieces:
        if isinstance(piece, debugfile.Span):
            start, size = piece
            for at in range(start, start + size, STREAM):
                yield image.read(at, min(STREAM, start + size - at))
        else:
            yield piece


def _whole(image: Image) -> Iterator[bytes]:
    for at in range(0, image.size, STREAM):
        yield image.read(at, min(STREAM, image.size - at))


def _sums(parts: Iterator[bytes], *, crc: bool) -> tuple[str, int]:
    """SHA-256 as hex and, where it is wanted, the CRC-32 that a debuglink has: gdb's is zlib's."""
    digest, check = hashlib.sha256(), 0
    if not crc:
        for part in parts:
            digest.update(part)
        return digest.hexdigest(), 0
    import zlib

    for part in parts:
        digest.update(part)
        check = zlib.crc32(part, check)
    return digest.hexdigest(), check
