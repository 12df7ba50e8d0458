"""Who installed a file below lib/modules: the values that the readers of package databases give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkghook.findings import Finding

MODULES = "lib/modules/"


class Owner(NamedTuple):
    """A package, or a DKMS source."""

    kind: str  # `dpkg`, `rpm`, `akmods` or `dkms`
    name: str  # of the package, with its architecture where dpkg needs it; MODULE/VERSION for DKMS
    version: str = ""  # with epoch and release; "" for DKMS

    @property
    def key(self) -> str:
        """As `model.Looked.owner` has it."""
        return f"{self.kind}:{self.name}"

    @property
    def packaged(self) -> bool:
        """Whether a package database vouches for the bytes, so that nobody else may change them."""
        return self.kind != "dkms"


class Database(NamedTuple):
    """What one package database knows of lib/modules."""

    kind: str  # `dpkg` or `rpm`
    place: str  # relative to the root
    packages: int  # how many there are in it
    files: Mapping[str, Owner]  # directories too, by path relative to the root
    findings: tuple[Finding, ...] = ()  # why it could not be read: then `files` are not all there are


def below_modules(path: str) -> bool:
    """Whether a path relative to the root lies below lib/modules, with or without the usr-merge."""
    return path.startswith((MODULES, f"usr/{MODULES}"))


def canonical(path: str, *, merged: bool) -> str:
    """One name for a path below lib/modules; `merged` says that /lib is /usr/lib, whichever a package uses."""
    path = path.lstrip("/")
    return path.removeprefix("usr/") if merged and below_modules(path) else path
