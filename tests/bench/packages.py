"""Packages with all unstripped modules of a kernel, for the gate. Imports little: see `measure.run` on memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bench import rivals
from tests.packages.rpms import rpmbuild
from tests.setup import room

# Quick to make, and large: how long unpacking takes hangs little on the level.  But for zstd, whose level 19, that of
# Fedora's packages since release 31, has a larger window than level 3: it takes `rpm2cpio` a fifth longer.
PAYLOADS = {"zstd-19": "w19T2.zstdio", "zstd-3": "w3T2.zstdio", "gzip": "w1.gzdio", "xz": "w1T2.xzdio", "deb": ""}


def made(kind: str, home: Path, source: Path) -> Path:
    """A package with all of `source`, unstripped; made in `home` once, which takes minutes."""
    found = home / kind / f"modules.{'deb' if kind == 'deb' else 'rpm'}"
    if found.is_file():
        return found
    home.mkdir(parents=True, exist_ok=True)
    with room.made(room.find(3 * rivals.size_of(source), home)) as scratch:
        tree = scratch / "tree"
        (tree / "lib").mkdir(parents=True)
        subprocess.run(["cp", "-a", source, tree / "lib" / "modules"], check=True)
        package = _deb(tree) if kind == "deb" else rpmbuild(scratch / "rpm", tree, ("/lib/modules",), PAYLOADS[kind])
        found.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package, found.with_suffix(".new"))
        found.with_suffix(".new").rename(found)
    return found


def _deb(tree: Path) -> Path:
    fields = "Package: demo\nVersion: 1\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: demo\n"
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(fields)
    made = tree.parent / "demo.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", tree, made], check=True)
    return made
