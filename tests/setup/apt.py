"""Debian packages by apt, of any suite and architecture, without touching the machine's own apt state.

A private `Dir::State` and `Dir::Cache` for each suite and architecture lie below the user's cache
directory, so that this works as an ordinary user, where `/var/lib/apt/lists` is empty, and for
packages of other machines.  Where the archive is and whose signature counts is read from the
machine's own sources (one-line `.list` and deb822 `.sources`), by apt itself.

Sources: apt-get(8), apt.conf(5), sources.list(5).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

DEBIAN = (
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "stable",
    "testing",
    "unstable",
    "oldstable",
    "bullseye",
    "oldoldstable",
)
MOVING = frozenset({"sid", "unstable"})  # without security updates of their own, and another system next week


class SetupError(Exception):
    """Something outside the project is missing or refused; the message says what to do."""


class Package(NamedTuple):
    """One downloadable package. `size` is that of the .deb, in bytes."""

    name: str
    version: str
    size: int


class Archive(NamedTuple):
    """Where a suite comes from: base URI, and what follows `Signed-By:`, verbatim ("" for apt's default keys)."""

    uri: str
    signed_by: str


def run(argv: list[str], *, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed; raises SetupError with what it complained about."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, cwd=cwd)
    except FileNotFoundError:
        message = f"{argv[0]} is not installed; this needs a Debian system (or one that has apt)"
        raise SetupError(message) from None
    if done.returncode:
        raise SetupError(f"{' '.join(argv[:3])} ... failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return done.stdout


def find_archive(suite: str) -> Archive | None:
    """The archive of the machine's own sources that serves `suite`, or its sister suites of the same kind."""
    kind = "-security" if suite.endswith("-security") else ""
    wanted = {name + kind for name in DEBIAN} | ({name + "/updates" for name in DEBIAN} if kind else set())
    lines = run(
        [
            "apt-get",
            "indextargets",
            "--no-release-info",
            "--format",
            "$(RELEASE)|$(COMPONENT)|$(REPO_URI)|$(SOURCESENTRY)",
            "Identifier: Packages",
        ],
    ).splitlines()
    found = [fields for fields in (line.split("|") for line in lines) if fields[0] in wanted and fields[1] == "main"]
    # a third party may name its suites as Debian does: Debian's own mirrors end in /debian or /debian-security
    found.sort(key=lambda fields: not re.search(r"/debian(-security)?/?$|^mirror\+file:", fields[2]))
    if not found:
        return None
    _, _, uri, entry = found[0]
    return Archive(uri, signed_by(Path(entry.rpartition(":")[0]), uri))


def signed_by(sources: Path, uri: str) -> str:
    """What a file of the machine's sources says about keys for `uri`, as a deb822 file has it behind `Signed-By:`."""
    text = sources.read_text("utf-8", "replace")
    if sources.suffix == ".sources":
        for stanza in re.split(r"\n[ \t]*\n", text):
            found = re.search(r"^Signed-By:((?:.*)(?:\n[ \t].*)*)", stanza, re.MULTILINE | re.IGNORECASE)
            if uri.rstrip("/") in stanza and found:
                return found[1].rstrip()
        return ""
    for line in text.splitlines():
        found = re.match(r"\s*deb\s+\[([^]]*)\]\s+(\S+)", line)
        key = re.search(r"signed-by=(\S+)", found[1]) if found and found[2].rstrip("/") == uri.rstrip("/") else None
        if key:
            return " " + key[1].replace(",", " ")
    return ""


class Apt:
    """apt with a private state for one suite and architecture, below `base`; `arch` "source" is for source packages."""

    def __init__(self, base: Path, suite: str, arch: str, archive: Archive) -> None:
        self.suite = suite
        self.arch = arch
        self.home = base / f"{suite}-{arch}"
        self._write_state(archive)

    def _write_state(self, archive: Archive) -> None:
        for part in ("lists/partial", "cache/archives/partial", "sources", "none"):
            (self.home / part).mkdir(parents=True, exist_ok=True)
        (self.home / "status").write_text("")
        signed = f"Signed-By:{archive.signed_by}\n" if archive.signed_by else ""
        kind = "Types: deb-src\n" if self.arch == "source" else f"Types: deb\nArchitectures: {self.arch}\n"
        (self.home / "sources" / "kernels.sources").write_text(
            f"{kind}URIs: {archive.uri}\nSuites: {self.suite}\nComponents: main\n"
            f"Targets: {'Sources' if self.arch == 'source' else 'Packages'}\n{signed}",
        )
        (self.home / "apt.conf").write_text("".join(self._config()))

    def _config(self) -> Iterator[str]:
        """Read after the machine's own configuration (proxies and the like stay), see `-c` in apt-get(8)."""
        for hook in ("APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"):
            yield f"#clear {hook};\n"  # the machine's hooks care for the machine's own lists
        rows: dict[str, object] = {}
        if self.arch != "source":
            yield f'#clear APT::Architectures;\nAPT::Architectures {{ "{self.arch}"; }};\n'
            rows["APT::Architecture"] = self.arch
        rows |= {
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Dir::State": self.home,
            "Dir::State::status": self.home / "status",
            "Dir::State::lists": self.home / "lists",
            "Dir::Cache": self.home / "cache",
            "Dir::Etc::sourcelist": "/dev/null",
            "Dir::Etc::sourceparts": self.home / "sources",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": self.home / "none",
        }
        if self.suite in MOVING:
            rows["Acquire::Check-Valid-Until"] = "false"  # a snapshot of it is older than it allows itself to be
        if os.geteuid() == 0:
            rows["APT::Sandbox::User"] = "root"  # root would become _apt, which may not write here
        for key, value in rows.items():
            yield f'{key} "{value}";\n'

    def _argv(self, tool: str, *args: str) -> list[str]:
        return [tool, "-c", str(self.home / "apt.conf"), *args]

    def update(self) -> None:
        """Fetch the suite's package index (some MB at most)."""
        run(self._argv("apt-get", "-q=2", "update"))

    def packages(self, name: str) -> list[Package]:
        """Every package whose whole name the regex `name` matches, oldest version first."""
        found = []
        for stanza in run(self._argv("apt-cache", "dumpavail")).split("\n\n"):
            match = re.match(r"Package: (\S+)\n", stanza)
            if match and re.fullmatch(name, match[1]):
                fields = dict(re.findall(r"^(Version|Size): (\S+)$", stanza, re.MULTILINE))
                found.append(Package(match[1], fields["Version"], int(fields["Size"])))
        return sort_versions(found)

    def download(self, package: Package, into: Path) -> Path:
        """Fetch one .deb, checked by apt against the signed index; its path."""
        into.mkdir(parents=True, exist_ok=True)
        quiet = [] if sys.stderr.isatty() else ["-q=2"]
        argv = self._argv("apt-get", *quiet, "download", f"{package.name}={package.version}")
        if subprocess.run(argv, cwd=into, stdout=sys.stderr, check=False).returncode:
            raise SetupError(f"apt could not download {package.name} {package.version}")
        return next(into.glob(f"{package.name}_*.deb"))

    def source(self, name: str, into: Path) -> Path:
        """Fetch the newest version of a source package, checked by apt against the signed index; its .dsc."""
        into.mkdir(parents=True, exist_ok=True)
        argv = self._argv("apt-get", "-q=2", "source", "--download-only", name)
        done = subprocess.run(argv, cwd=into, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"apt could not download the sources of {name}: {done.stderr.strip()[-500:]}")
        return next(into.glob(f"{name}_*.dsc"))


def sort_versions(packages: Iterable[Package]) -> list[Package]:
    """Oldest first, by Debian's order of versions (deb-version(7)), which dpkg knows."""
    ordered: list[Package] = []
    for package in packages:
        place = len(ordered)
        while place and is_older(package.version, ordered[place - 1].version):
            place -= 1
        ordered.insert(place, package)
    return ordered


def is_older(one: str, other: str) -> bool:
    """Whether Debian version `one` comes before `other`."""
    argv = ["dpkg", "--compare-versions", one, "lt", other]
    return subprocess.run(argv, check=False).returncode == 0
