"""A whole pass over a package, and what it gave."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pkghook.findings import Finding
from pkghook.model import PackageFacts
from pkghook.sources.member import Member
from pkghook.sources.packages import open_package


class Look(NamedTuple):
    """What one pass gave."""

    members: tuple[Member, ...]
    contents: dict[str, bytes]  # of files, by path
    facts: PackageFacts
    findings: tuple[Finding, ...]

    @property
    def ids(self) -> list[tuple[str, str]]:
        """Id and subject of each finding."""
        return [(finding.id, finding.subject) for finding in self.findings]

    def evidence(self, id: str) -> dict[str, str | int]:
        """That of the only finding with this id."""
        (finding,) = [finding for finding in self.findings if finding.id == id]
        return dict(finding.evidence)


def look(path: Path, *, read: bool = True) -> Look:
    """Read a package to its end; `read` also all bytes of all files."""
    members, contents = [], {}
    with open_package(str(path)) as package:
        for member, reader in package.members():
            members.append(member)
            if read and member.kind == "file":
                contents[member.path] = reader.read()
        return Look(tuple(members), contents, package.facts, tuple(package.findings))


def look_at(tmp_path: Path, package: bytes) -> Look:
    """The same of a package that is not yet a file."""
    path = tmp_path / "package"
    path.write_bytes(package)
    return look(path)
