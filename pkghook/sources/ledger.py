"""What one pass over a package has seen: names, counts, findings; all within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.findings import make
from pkghook.sources.payload import damaged

if TYPE_CHECKING:
    from pkghook.findings import Evidence, Finding

MEMBERS = 1 << 18  # in one package at most
NAMES = 32 << 20  # bytes of all their names
FINDINGS = 1000


class Ledger:
    """Counts and findings of one package; `path` is the package as the user named it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.members = 0
        self.counted = 0  # bytes, in the form's own way of counting
        self.inodes: dict[str, int] = {}  # of each path seen
        self._names = 0

    def note(self, id: str, subject: str, **evidence: Evidence) -> None:
        """One more finding. Raises InputError when they are too many to be worth reading."""
        if len(self.findings) >= FINDINGS:
            raise damaged(self.path, f"more than {FINDINGS} of its members are wrong")
        self.findings.append(make(id, subject, **evidence, package=self.path))

    def enter(self, path: str, inode: int) -> None:
        """One more member: its name is looked at and remembered. Raises InputError when there are too many."""
        self.members += 1
        self._names += len(path)
        if self.members > MEMBERS or self._names > NAMES:
            raise damaged(self.path, f"it has more than {MEMBERS} members, or {NAMES} bytes of names")
        if ".." in path.split("/"):
            self.note("package-path", path)
        if path in self.inodes:
            self.note("package-twice", path)
        self.inodes[path] = inode
