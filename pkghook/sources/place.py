"""Verified bytes take a module's place: one rename per name, each path whole at any instant.

Up to the first rename nothing in the tree has changed, and whatever goes wrong is a
ModuleError: every name holds its original bytes.  After it the module has its new bytes,
and what goes wrong with further names is a finding: each of them holds the original bytes or
the verified ones.

rename(2) cannot be told which file it may replace.  Between the last look and the rename, a
few microseconds, another process's new file could be lost; the look is at inode, size and times.
"""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.findings import Finding, make
from pkghook.sources import metadata
from pkghook.sources.dirs import split
from pkghook.sources.refusals import GONE, cannot_write, reason
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from pkghook.sources import Found, Scratch, Source
    from pkghook.sources.dirs import Dirs

# File systems that cannot sync a directory have nothing to sync there.
NO_SYNC = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EBADF))


class _Name(NamedTuple):
    """A further name of the module and the link to the new bytes that will replace it."""

    path: str
    link: str


def replace(dirs: Dirs, found: Found, source: Source, scratch: Scratch, *, fsync: bool) -> tuple[Finding, ...]:
    """Put the file behind `scratch` in the place of `found`, which was read through `source`.

    All names of `found` share the new inode afterwards.  With `fsync` the bytes are on the disk before they
    have the name, and the names before this returns.  The scratch name is used up; both
    handles stay open.  Findings: metadata-not-kept, ima-voided, outside-link, not-durable, identity-changed.
    Raises ModuleError changed-during-run or cannot-write; every name then holds its original bytes.
    """
    names = tuple(_Name(path, f"{scratch.name}-{i}") for i, path in enumerate(found.names))
    # The store of handles may close this one while it opens those of many further names.
    source = source._replace(dirfd=os.dup(source.dirfd)) if names else source
    try:
        kept = _prepare(source, scratch, names, fsync=fsync)
        findings = _commit(dirs, found, source, scratch, names, fsync=fsync)
    except OSError as error:
        raise cannot_write(error) from error
    finally:
        if names:
            os.close(source.dirfd)
            _unlink(scratch.dirfd, names)
    return (*_about_metadata(found.path, kept), *_about_links(found), *findings)


def _prepare(source: Source, scratch: Scratch, names: tuple[_Name, ...], *, fsync: bool) -> metadata.Kept:
    """All that can fail for lack of space or rights, before anything is replaced."""
    for name in names:
        os.link(scratch.name, name.link, src_dir_fd=scratch.dirfd, dst_dir_fd=scratch.dirfd, follow_symlinks=False)
    kept = metadata.keep(source.fd, source.stat, scratch.fd)
    if fsync:
        os.fsync(scratch.fd)
    # A tool that ran on the scratch path may have put another file there than the one that was verified.
    if not os.path.samestat(kept.stat, _look(scratch.dirfd, scratch.name)):
        raise ModuleError("cannot-write", error="the scratch file was replaced by another")
    return kept


def _commit(
    dirs: Dirs, found: Found, source: Source, scratch: Scratch, names: tuple[_Name, ...], *, fsync: bool
) -> list[Finding]:
    """Look a last time, then rename.  A group is not torn apart by SIGINT or SIGTERM half way."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM)) if names else None
    try:
        for name in names:
            _check_name(dirs, name, source)
        _check_path(dirs, found.path, source)
        os.rename(scratch.name, source.name, src_dir_fd=scratch.dirfd, dst_dir_fd=source.dirfd)
        findings = [_relink(dirs, found.path, name, source, scratch, fsync=fsync) for name in names]
        findings.append(_sync(source.dirfd, found.path) if fsync else None)
        return [finding for finding in findings if finding]
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _check_path(dirs: Dirs, path: str, source: Source) -> None:
    """The file that was read must still be the one under the path, and the one that the rename replaces."""
    try:
        status = _look(source.dirfd, source.name)
        if _facts(status) != _facts(source.stat) or _facts(os.fstat(source.fd)) != _facts(source.stat):
            raise ModuleError("changed-during-run", **_difference(source.stat, status))
        try:
            # The handle may be of a directory that was moved away: what is under the path now?
            status = _look(dirs.get(""), path)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            status = source.stat  # a path that only handles can reach
    except OSError as error:
        raise _no_longer(error) from error
    if not os.path.samestat(status, source.stat):
        raise ModuleError("changed-during-run", what="a directory of the path")


def _check_name(dirs: Dirs, name: _Name, source: Source) -> None:
    """The further name must still be one of the file that was read."""
    directory, last = split(name.path)
    try:
        status = _look(dirs.get(directory), last)
    except OSError as error:
        raise _no_longer(error, name=name.path) from error
    if not os.path.samestat(status, source.stat):
        raise ModuleError("changed-during-run", name=name.path, what="another file")


def _relink(dirs: Dirs, path: str, name: _Name, source: Source, scratch: Scratch, *, fsync: bool) -> Finding | None:
    """Give a further name the new bytes; the module itself has them already."""
    directory, last = split(name.path)
    try:
        dirfd = dirs.get(directory)
        status = _look(dirfd, last)
        if os.path.samestat(status, os.fstat(scratch.fd)):
            return None  # the same directory, mounted twice
        if not os.path.samestat(status, source.stat):
            return make("identity-changed", path, name=name.path, what="another file")
        os.rename(name.link, last, src_dir_fd=scratch.dirfd, dst_dir_fd=dirfd)
    except OSError as error:
        return make("identity-changed", path, name=name.path, error=reason(error))
    return _sync(dirfd, name.path) if fsync else None


def _sync(dirfd: int, subject: str) -> Finding | None:
    """Bring a directory's names to the disk."""
    try:
        os.fsync(dirfd)
    except OSError as error:
        if error.errno not in NO_SYNC:
            return make("not-durable", subject, error=reason(error))
    return None


def _look(dirfd: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=dirfd, follow_symlinks=False)


def _facts(status: os.stat_result) -> tuple[int, ...]:
    """What changes when anybody writes to the file, links it or puts another in its place."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _difference(before: os.stat_result, now: os.stat_result) -> dict[str, str | int]:
    if not os.path.samestat(before, now):
        return {"what": "another file"}
    if before.st_size != now.st_size:
        return {"what": "size", "before": before.st_size, "now": now.st_size}
    return {"what": "contents or metadata"}


def _no_longer(error: OSError, **evidence: str) -> ModuleError:
    if error.errno in GONE:
        return ModuleError("changed-during-run", **evidence, error=reason(error))
    return cannot_write(error)


def _unlink(dirfd: int, names: tuple[_Name, ...]) -> None:
    """Remove the links that no rename has used up."""
    for name in names:
        try:
            os.unlink(name.link, dir_fd=dirfd)
        except OSError:
            continue  # used up; or removed with the private directory later


def _about_metadata(path: str, kept: metadata.Kept) -> list[Finding]:
    findings = []
    if kept.lost:
        findings.append(make("metadata-not-kept", path, lost=", ".join(kept.lost), error=kept.error))
    if kept.voided:
        findings.append(make("ima-voided", path, attributes=", ".join(kept.voided)))
    return findings


def _about_links(found: Found) -> list[Finding]:
    if not found.outside:
        return []
    return [make("outside-link", found.path, names=1 + len(found.names), outside=found.outside)]
