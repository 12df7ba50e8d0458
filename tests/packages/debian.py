"""Debian source packages made for a test, and what `dpkg-buildpackage` makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.support import need_tool

CHECKOUT = Path(__file__).resolve().parents[2]
HOOKS = CHECKOUT / "hooks" / "deb"
EXTRA = "lib/modules/6.1.0-test/extra"
RULES = "#!/usr/bin/make -f\n%:\n\tdh $@\n"
WORD = "dh-sequence-pkghook"  # the one word
CHANGELOG = "demo (1) unstable; urgency=low\n\n  * Demo.\n\n -- A <a@example.org>  Mon, 01 Jan 2024 00:00:00 +0000\n"
STANZA = "Package: {name}\nArchitecture: {arch}\nDescription: demo\n demo\n"


class Done(NamedTuple):
    """How a build ended."""

    status: int
    output: str  # stdout and stderr as they came
    home: Path  # where the packages are

    def deb(self, name: str) -> Path:
        """The one package of this name."""
        (found,) = self.home.glob(f"{name}_*.deb")
        return found

    def debs(self) -> list[str]:
        """The names of all packages."""
        return sorted(path.name.partition("_")[0] for path in self.home.glob("*.deb"))


class Builder(NamedTuple):
    """A place to build in, with pkghook and its debhelper program found as if they were installed."""

    home: Path
    env: Mapping[str, str]

    def source(
        self,
        modules: Iterable[tuple[Path, str]],
        *,
        build_depends: str = WORD,
        rules: str = RULES,
        arch: str = "any",
        files: Mapping[str, str] | None = None,
    ) -> Path:
        """A source package with ready made modules, each (its file, the directory it is installed into)."""
        source = self.home / "source"
        debian = source / "debian"
        debian.mkdir(parents=True)
        control = (
            f"Source: demo\nMaintainer: A <a@example.org>\nBuild-Depends: debhelper-compat (= 13), {build_depends}\n"
        )
        texts = {
            "control": f"{control}\n{STANZA.format(name='demo-modules', arch=arch)}",
            "changelog": CHANGELOG,
            "rules": rules,
            "demo-modules.install": "".join(f"{path.name} {place}\n" for path, place in modules),
            **(files or {}),
        }
        for path, _ in modules:
            shutil.copy(path, source)
        for name, text in texts.items():
            (debian / name).write_text(text, "utf-8")
        (debian / "rules").chmod(0o755)
        return source

    def build(self, source: Path, *argv: str, **env: str) -> Done:
        """`dpkg-buildpackage`, without a look at what is installed."""
        words = ["dpkg-buildpackage", "-b", "-us", "-uc", "-d", *argv]
        return Done(*self._run(words, source, env), self.home)

    def dh(self, source: Path, *argv: str, **env: str) -> Done:
        """One debhelper program in the source."""
        return Done(*self._run(argv, source, env), self.home)

    def _run(self, argv: Iterable[str], source: Path, env: Mapping[str, str]) -> tuple[int, str]:
        done = subprocess.run(
            list(argv),
            cwd=source,
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


def builder(home: Path) -> Builder:
    """A builder at `home`; the test is skipped where debhelper is missing."""
    need_tool("dh")
    need_tool("dpkg-buildpackage")
    programs = home / "bin"
    programs.mkdir(parents=True)
    (programs / "pkghook").write_text(f'#!/bin/sh\nPYTHONPATH="{CHECKOUT}" exec "{sys.executable}" -m pkghook "$@"\n')
    (programs / "pkghook").chmod(0o755)
    (programs / "dh_pkghook").symlink_to(HOOKS / "dh_pkghook")
    unwanted = ("PKGHOOK_", "DH_", "DEB_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    env |= {"PATH": f"{programs}:{env['PATH']}", "PERL5LIB": str(HOOKS / "perl"), "LC_ALL": "C.UTF-8"}
    # What is packed is the matter of these tests; packing it well would take most of their time.
    env |= {"DEB_BUILD_OPTIONS": "parallel=2", "DPKG_DEB_COMPRESSOR_TYPE": "none"}
    return Builder(home, env)


def own_packages(into: Path) -> Path:
    """pkghook's own packages, built of this checkout; the test is skipped where a tool for it is missing."""
    for tool in ("dpkg-buildpackage", "dh", "pybuild", "pod2man"):
        need_tool(tool)
    done = subprocess.run([HOOKS / "build", into], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return into


def unpacked(package: Path, into: Path) -> Path:
    """The files of a package."""
    into.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "-x", package, into], check=True)
    return into


def control(package: Path) -> dict[str, str]:
    """The fields of a package's control file, each on one line."""
    text = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True, text=True).stdout
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
