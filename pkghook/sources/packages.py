"""Packages as streams of members: what all forms have in common, and the table of forms.

    with open_package(path) as package:
        for member, reader in package.members():  # one pass, forward; unread bytes are skipped
            ...
    package.facts, package.findings  # complete after the pass

A package that cannot be read to its end raises InputError, at any of these places: what the pass gave before must
then not be taken for all that there is.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from pkghook.errors import InputError
from pkghook.sources import ar, rpmheader
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pkghook.findings import Finding
    from pkghook.model import PackageFacts
    from pkghook.sources.member import Member, Reader
    from pkghook.sources.sums import Digester

__all__ = ["FORMS", "Package", "form_of", "open_package"]


class Package(Protocol):
    """An open package."""

    @property
    def facts(self) -> PackageFacts:
        """What it says of itself, known from the start, and what was counted, complete after the pass."""

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with the package itself; grows during the pass."""

    def members(self, digest: Digester = ...) -> Iterator[tuple[Member, Reader]]:
        """Each member with its bytes, which can be read until the next step. May be called once.

        `digest` is given what the package has digests of in its own file; by default they are made at the start.
        Raises InputError where the package is damaged or cut short, MissingDependencyError where what
        decompresses it is not installed.
        """

    def close(self) -> None:
        """Let go of the file; a decompressor that still runs is ended."""


class Form(NamedTuple):
    """One kind of package."""

    magic: bytes
    open: Callable[[int, str], Package]  # of an open file and the path for messages


def _rpm(fd: int, path: str) -> Package:
    from pkghook.sources.rpm import Rpm

    return Rpm(fd, path)


def _deb(fd: int, path: str) -> Package:
    from pkghook.sources.deb import Deb

    return Deb(fd, path)


FORMS = {"rpm": Form(rpmheader.MAGIC, _rpm), "deb": Form(ar.MAGIC, _deb)}


def form_of(head: bytes) -> str:
    """The form of the package that begins with these 8 bytes or more; "" for anything else."""
    return next((name for name, form in FORMS.items() if head.startswith(form.magic)), "")


@contextmanager
def open_package(path: str) -> Iterator[Package]:
    """The package at `path`, whose form its first bytes tell, not its name.

    Raises InputError for what cannot be opened, is no package, or is a damaged one; MissingDependencyError
    where the library that reads its form is not installed.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hold us up
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        with _opened(fd, path) as package:
            yield package
    finally:
        os.close(fd)


@contextmanager
def _opened(fd: int, path: str) -> Iterator[Package]:
    head = os.pread(fd, 8, 0) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    if not (form := form_of(head)):
        raise InputError(f"{path}: neither an RPM nor a Debian package")
    package = FORMS[form].open(fd, path)
    try:
        yield package
    finally:
        package.close()
