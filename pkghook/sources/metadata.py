"""What belongs to a file beside its bytes: owner, mode, times, extended attributes, taken over by handle.

Obligation V14.  The order matters: a change of owner clears the set-user-ID bits and
security.capability; a file that its owner may not write takes no user.* attributes; and
everything but utimensat(2) may move the time.
"""

from __future__ import annotations

import errno
import os
import stat
from functools import partial
from typing import TYPE_CHECKING

from pkghook.sources.refusals import reason
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# Both vouch for the bytes or for metadata with them (Linux: Documentation/ABI/testing/evm,
# security/integrity/ima): a copy on other bytes is a false statement.
VOUCHERS = ("security.ima", "security.evm")
KERNEL_OWN = "security."  # labels that the kernel gives to each new file
# The user may not (EPERM, EACCES), the file system cannot (ENOTSUP, E2BIG, ERANGE), the id has no
# meaning in this user namespace (EINVAL).  Anything else (ENOSPC, EIO, EROFS) is a failure to write.
REFUSED = frozenset((errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.E2BIG, errno.ERANGE, errno.EINVAL))
SET_ID = stat.S_ISUID | stat.S_ISGID


class Kept(NamedTuple):
    """The new file as it is now, and what could not be kept, in a fixed order."""

    stat: os.stat_result
    lost: tuple[str, ...] = ()  # "owner", "group", "mode", "mtime" or the name of an attribute
    error: str = ""  # the system's reason for the first of them
    voided: tuple[str, ...] = ()  # those of `VOUCHERS` that the original had


class _Refusals:
    """Runs one call after the other and remembers what the system refused."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.error = ""

    def attempt(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except OSError as error:
            if error.errno not in REFUSED:
                raise
            self.lost.append(what)
            self.error = self.error or reason(error)


def keep(old: int, status: os.stat_result, new: int) -> Kept:
    """Give the file behind handle `new` what the file behind `old` has; `status` is that of `old`.

    Raises OSError if writing fails for another reason than that it is refused.
    """
    refusals = _Refusals()
    now = os.fstat(new)
    # Apart, since an ordinary user may give a file to another group and not to another owner.
    if now.st_gid != status.st_gid:
        refusals.attempt("group", lambda: os.fchown(new, -1, status.st_gid))
    if now.st_uid != status.st_uid:
        refusals.attempt("owner", lambda: os.fchown(new, status.st_uid, -1))
    mode = stat.S_IMODE(status.st_mode)
    if refusals.lost:
        mode &= ~SET_ID  # never the privileges of another owner than the one who got them
    voided = _keep_attributes(old, new, refusals)
    refusals.attempt("mode", lambda: os.fchmod(new, mode))
    refusals.attempt("mtime", lambda: os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns)))
    return _compare(status, os.fstat(new), refusals, voided)


def _compare(want: os.stat_result, now: os.stat_result, refusals: _Refusals, voided: tuple[str, ...]) -> Kept:
    """A file system without owners or modes says yes to everything: only what is there now counts."""
    pairs = {
        "owner": (want.st_uid, now.st_uid),
        "group": (want.st_gid, now.st_gid),
        "mode": (want.st_mode, now.st_mode),
        "mtime": (want.st_mtime_ns, now.st_mtime_ns),
    }
    differ = [what for what, (one, other) in pairs.items() if one != other]
    lost = (*differ, *(what for what in refusals.lost if what not in pairs))
    return Kept(now, lost, (refusals.error or "no effect") if lost else "", voided)


def _keep_attributes(old: int, new: int, refusals: _Refusals) -> tuple[str, ...]:
    """Make the attributes of `new` those of `old`; the result is which of `VOUCHERS` were left behind."""
    names = _names(old)
    have = _names(new)
    for name in have:
        # Such as an access list inherited from a directory.
        if name not in names and not name.startswith(KERNEL_OWN):
            refusals.attempt(name, partial(os.removexattr, new, name))
    for name in names:
        if name not in VOUCHERS:
            refusals.attempt(name, partial(_copy, name, old, new, have))
    return tuple(name for name in VOUCHERS if name in names)


def _copy(name: str, old: int, new: int, have: list[str]) -> None:
    value = os.getxattr(old, name)
    # A label that is right already need not be set, which may be forbidden.
    if name not in have or os.getxattr(new, name) != value:
        os.setxattr(new, name, value)


def _names(fd: int) -> list[str]:
    """Sorted, since the order in which a file system lists them is no fact about the file."""
    try:
        return sorted(os.listxattr(fd))
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return []
        raise
