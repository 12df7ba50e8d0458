"""Installed systems for tests of `pkghook audit`: a root with a database of dpkg, grown file by file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests import inprocess, trees
from tests.support import need_kernel, need_tool

KERNEL = "amd64"  # of the corpus: signed, with BTF
SMALL = ("lib/crc-itu-t", "crypto/ansi_cprng", "lib/crc7", "drivers/net/tun")  # modules that every package has


class Seen(NamedTuple):
    """What an audit said."""

    status: int
    document: dict[str, Any]

    @property
    def findings(self) -> list[tuple[str, str]]:
        """Id and last part of the subject of each, sorted."""
        return sorted((each["id"], each["subject"].rpartition("/")[2]) for each in self.document["findings"])

    def ids(self, name: str) -> list[str]:
        """Of the findings about the file of this name."""
        return sorted(id for id, subject in self.findings if subject == name)

    def evidence(self, id: str) -> dict[str, str | int]:
        """Of the one finding with this id."""
        (found,) = (each for each in self.document["findings"] if each["id"] == id)
        evidence: dict[str, str | int] = found["evidence"]
        return evidence

    def entry(self, name: str) -> dict[str, Any]:
        """Of the module with this file name."""
        (found,) = (each for each in self.document["entries"] if each["path"].rpartition("/")[2] == name)
        entry: dict[str, Any] = found
        return entry


def audit(root: Path, *options: str | Path, **environ: str) -> Seen:
    """`pkghook audit` as JSON; it must come to its end."""
    done = inprocess.call("audit", "--root", root, "--keep-dir", "", "--format", "json", *options, **environ)
    assert done.status in (0, 1), done.err
    assert done.err == ""
    return Seen(done.status, json.loads(done.out))


class System:
    """A root with one kernel, merged as Debian's are: lib is a link to usr/lib."""

    def __init__(self, root: Path, version: str) -> None:
        """`version` is the kernel's."""
        self.root = root
        self.version = version
        self.home = f"usr/lib/modules/{version}"
        (root / self.home).mkdir(parents=True)
        (root / "lib").symlink_to("usr/lib")
        (root / "var/lib/dpkg/info").mkdir(parents=True)
        self.status = root / "var/lib/dpkg/status"
        self.status.touch()
        self.own(f"linux-image-{version}", *(f"/lib/modules/{version}{end}" for end in ("", "/kernel")))

    def put(self, path: str, data: bytes) -> Path:
        """A file below the kernel's directory."""
        return trees.put(self.root, f"{self.home}/{path}", data)

    def own(self, package: str, *paths: str, version: str = "1-1", state: str = "installed") -> None:
        """Let a package (`name` or `name:arch`) own further paths, as dpkg writes it down."""
        name, _, arch = package.partition(":")
        lists = self.root / f"var/lib/dpkg/info/{package}.list"
        if not lists.exists():
            stanza = (
                f"Package: {name}\nStatus: install ok {state}\nArchitecture: {arch or 'amd64'}\nVersion: {version}\n"
            )
            self.status.write_text(f"{self.status.read_text()}{stanza}\n")
            lists.write_text("/.\n")
        lists.write_text(lists.read_text() + "".join(f"{path}\n" for path in paths))

    def ship(self, path: str, data: bytes) -> Path:
        """A file below the kernel's directory that the kernel's package owns, under the name before the merge."""
        self.own(f"linux-image-{self.version}", f"/lib/modules/{self.version}/{path}")
        return self.put(path, data)

    def name_all(self) -> None:
        """A modules.dep that names every module there: a real depmod may be built without some compression."""
        home = self.root / self.home
        lines = [f"{path.relative_to(home)}:\n" for path in sorted(home.rglob("*.ko*"))]
        (home / "modules.dep").write_text("".join(lines))

    def depmod(self) -> None:
        """modules.dep and its like, by the real depmod."""
        subprocess.run([need_tool("depmod"), "-b", self.root, self.version], check=True, capture_output=True)


def release(corpus: Path) -> str:
    """The release of the kernel in the corpus."""
    (home,) = need_kernel(corpus, KERNEL).glob("lib/modules/*")
    return home.name


def shipped(corpus: Path, stem: str) -> Path:
    """The module that Debian ships: stripped, signed, with BTF."""
    return need_kernel(corpus, KERNEL) / f"lib/modules/{release(corpus)}/kernel/{stem}.ko"


def debian(root: Path, corpus: Path) -> System:
    """A system with a few modules of the real kernel, which has nothing to complain of."""
    system = System(root, release(corpus))
    for stem in SMALL:
        system.ship(f"kernel/{stem}.ko", shipped(corpus, stem).read_bytes())
    system.depmod()
    return system
