"""The examples of README.md, built for real: what a reader copies works."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import need_kernel, need_tool

CHECKOUT = Path(__file__).resolve().parents[2]
README = (CHECKOUT / "README.md").read_text("utf-8")
MODULE = "kernel/lib/crc-itu-t.ko"  # small, and exports a symbol
EXTRA = "lib/modules/6.1.0-test/extra"


class Bench(NamedTuple):
    """A place to build in, a module that needs stripping, and an environment with pkghook on PATH."""

    home: Path
    module: Path
    env: dict[str, str]

    def run(self, *argv: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A build, with its output."""
        return subprocess.run(argv, cwd=cwd or self.home, env=self.env, capture_output=True, text=True, check=False)


@pytest.fixture
def bench(corpus: Path, tmp_path: Path) -> Bench:
    """Everything for one build."""
    module = next(need_kernel(corpus, "amd64", "dbg").rglob(MODULE))
    command = tmp_path / "bin" / "pkghook"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{CHECKOUT}" exec "{sys.executable}" -m pkghook "$@"\n')
    command.chmod(0o755)
    env = {key: value for key, value in os.environ.items() if not key.startswith("PKGHOOK_")}
    return Bench(tmp_path, module, env | {"PATH": f"{command.parent}:{env['PATH']}"})


def examples(heading: str) -> list[str]:
    """The indented blocks below a heading of README.md."""
    section = README.partition(f"### {heading}\n")[2].partition("\n##")[0]
    blocks = re.findall(r"(?:^(?: {4}.*)?\n)+", section, re.MULTILINE)
    return [textwrap.dedent(block).strip("\n") for block in blocks if block.strip()]


def spec(example: str, source: Path) -> str:
    """A whole spec file around an example; building the module becomes copying it."""
    install = f"install -D -m644 '{source}' %{{buildroot}}/{EXTRA}/{source.name}"
    example = re.sub(r"^make .*$", lambda _: install, example, flags=re.MULTILINE)
    macros = re.findall(r"^%(?:global|define) (?:.*\\\n)*.*\n?", example, re.MULTILINE)
    for macro in macros:
        example = example.replace(macro, "")
    head = ["%{!?debug_package:%global debug_package %{nil}}", *macros]
    tags = [
        "Name: demo-kmod",
        "Version: 1",
        "Release: 1",
        "Summary: demo",
        "License: GPL",
        "",
        "%description",
        "demo",
        "",
    ]
    return "\n".join([*head, *tags, example, "", "%files", f"/{EXTRA}/{source.name}", ""])


def shipped(bench: Bench, package: Path) -> Path:
    """The module as it lies in a built package."""
    where = bench.home / "unpacked"
    where.mkdir()
    if package.suffix == ".rpm":
        need_tool("rpm2cpio")
        need_tool("cpio")
        done = bench.run("sh", "-c", f"rpm2cpio '{package}' | cpio --quiet -idm", cwd=where)
    else:
        done = bench.run("dpkg-deb", "-x", str(package), str(where))
    assert done.returncode == 0, done.stderr
    return next(where.rglob("*.ko"))


@pytest.mark.parametrize("number", [0, 1], ids=["strip", "record and strip"])
def test_spec_file(bench: Bench, number: int) -> None:
    need_tool("rpmbuild")
    path = bench.home / "demo.spec"
    path.write_text(spec(examples("In a spec file")[number], bench.module))
    done = bench.run("rpmbuild", "-bb", "--define", f"_topdir {bench.home}/rpm", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    result = shipped(bench, next(bench.home.glob("rpm/RPMS/*/*.rpm")))
    assert result.stat().st_size < bench.module.stat().st_size / 10
    assert bench.run("pkghook", "verify", str(bench.module), str(result)).returncode == 0


def test_debian_rules(bench: Bench) -> None:
    need_tool("dh")
    source = bench.home / "foo-1"
    debian = source / "debian"
    debian.mkdir(parents=True)
    shutil.copy(bench.module, source)
    files = {
        "control": "Source: foo\nMaintainer: A <a@example.org>\nBuild-Depends: debhelper-compat (= 13)\n\n"
        "Package: foo-modules\nArchitecture: any\nDescription: demo\n demo\n",
        "changelog": "foo (1) unstable; urgency=low\n\n  * Demo.\n\n"
        " -- A <a@example.org>  Mon, 01 Jan 2024 00:00:00 +0000\n",
        "rules": f"#!/usr/bin/make -f\n%:\n\tdh $@\n\n{examples('In debian/rules')[0]}\n",
        "foo-modules.install": f"{bench.module.name} {EXTRA}\n",
    }
    for name, text in files.items():
        (debian / name).write_text(text)
    (debian / "rules").chmod((debian / "rules").stat().st_mode | stat.S_IXUSR)
    done = bench.run("dpkg-buildpackage", "-b", "-us", "-uc", "-d", cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    result = shipped(bench, next(bench.home.glob("*.deb")))
    assert result.stat().st_size < bench.module.stat().st_size / 10
    assert bench.run("pkghook", "verify", str(bench.module), str(result)).returncode == 0
    assert '"mode": "strip"' in (debian / "foo-modules.receipt.json").read_text()
