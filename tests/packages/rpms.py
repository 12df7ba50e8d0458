"""RPMs by real rpmbuild, from a tree of files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PAYLOADS = {
    "w9.gzdio": "gzip",
    "w7.xzdio": "xz",
    "w7T2.xzdio": "xz",
    "w19.zstdio": "zstd",
    "w9.bzdio": "bzip2",
    "w7.lzdio": "lzma",
    "w.ufdio": "none",
}
SPEC = """\
%global debug_package %{nil}
%global __os_install_post %{nil}
Name: demo-kmod
Version: 1
Release: 2
Summary: demo
License: GPL
AutoReqProv: no
%description
demo
%install
cp -a '@SOURCE@/.' %{buildroot}/
%files
@FILES@
"""


def spec(source: Path, files: tuple[str, ...]) -> str:
    """A spec file that packs a tree as it is."""
    return SPEC.replace("@SOURCE@", str(source)).replace("@FILES@", "\n".join(files))


def rpmbuild(home: Path, source: Path, files: tuple[str, ...], payload: str, *defines: str) -> Path:
    """The package with the tree `source`; its build directories lie in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "demo.spec").write_text(spec(source, files))
    wanted = (f"_topdir {home}/top", f"_rpmdir {home}/rpms", f"_binary_payload {payload}", *defines)
    argv = ["rpmbuild", "-bb", *(word for define in wanted for word in ("--define", define)), str(home / "demo.spec")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = (home / "rpms").rglob("*.rpm")
    return package
