"""Real rpmbuild with pkghook's macros, on real modules, in a configuration of its own.

Debian's rpm has no vendor's macros.  What is called a model of a vendor here was written for these tests from
how the vendor's macros behave, never from their text, and has their order and slots; it is not the vendor's system.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pkghook.judge import receipt as receipts
from pkghook.judge.receipt import Receipt
from tests.liars.tools import liar
from tests.support import lacking, need_tool

CHECKOUT = Path(__file__).resolve().parents[2]
HOOKS = CHECKOUT / "hooks" / "rpm"
CONFIG = Path("/usr/lib/rpm")
KERNEL = "6.1.0-test"
EXTRA = f"lib/modules/{KERNEL}/extra"
PACKAGE = "demo-kmod"
FOREIGN = "s390x"  # a kernel without .BTF


class Built(NamedTuple):
    """A build that has ended."""

    home: Path
    status: int
    log: str

    @property
    def rpms(self) -> dict[str, Path]:
        """What was written, by name of package."""
        found = sorted(self.home.glob("RPMS/*/*.rpm"))
        return {path.name.rpartition("-1-1.")[0]: path for path in found}

    def sizes(self, package: str = PACKAGE) -> dict[str, int]:
        """Bytes of each file, by name, as `rpm -qp` has them."""
        lines = query(self.rpms[package], "[%{FILENAMES} %{LONGFILESIZES}\\n]").splitlines()
        return {Path(name).name: int(size) for name, size in (line.rsplit(" ", 1) for line in lines)}

    def unpacked(self, package: str = PACKAGE) -> Path:
        """A directory with what is in the package."""
        need_tool("cpio")
        where = self.home / "unpacked" / package
        where.mkdir(parents=True)
        command = f"rpm2cpio '{self.rpms[package]}' | cpio --quiet -idm --no-absolute-filenames"
        subprocess.run(["sh", "-c", command], cwd=where, check=True)
        return where

    def modules(self, package: str = PACKAGE) -> dict[str, Path]:
        """The packaged modules, by file name."""
        return {path.name: path for path in self.unpacked(package).rglob("*.ko*") if path.is_file()}

    def receipt(self) -> Receipt:
        """The receipt beside the build; reading it checks that it adds up."""
        (path,) = self.home.glob("BUILD/*.pkghook.json")
        return receipts.read(str(path))


def query(package: Path, form: str) -> str:
    """`rpm -qp` of a file."""
    return subprocess.run(
        ["rpm", "-qp", "--nosignature", "--qf", form, package], check=True, capture_output=True, text=True
    ).stdout


class Bench(NamedTuple):
    """A place to build in. `config` is a copy of rpm's configuration with our files in it."""

    home: Path
    config: Path
    env: dict[str, str]

    def build(self, spec: str, *options: str, **env: str) -> Built:
        """`rpmbuild -bb` of a spec, in a tree of its own; `env` is added to the environment."""
        top = self.home / f"top{len(list(self.home.glob('top*')))}"
        top.mkdir()
        path = top / "demo.spec"
        path.write_text(spec)
        argv = ["rpmbuild", "-bb", "--define", f"_topdir {top}", "--define", f"pkghook_python {sys.executable}"]
        done = subprocess.run(
            [*argv, *options, path],
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Built(top, done.returncode, done.stdout)

    def vendor(self, text: str) -> None:
        """Macros of a vendor, read after rpm's own and before a spec."""
        for path in self.config.glob("platform/*/macros"):
            with path.open("a") as file:
                file.write(f"\n{text}\n")

    def lie(self, lie: str = "fails without a word", tools: Iterable[str] = ("strip", "objcopy", "eu-strip")) -> str:
        """A PATH with broken strip tools in front; rpm's own scripts call /usr/bin/strip."""
        place = self.home / "liars"
        for tool in tools:
            liar(place, tool, lie)
        return f"{place}:{self.env['PATH']}"


def bench(home: Path, *, gate: bool = False, hook: bool = True) -> Bench:
    """A bench below `home`, with the hook's macros, and with the gate's if asked for."""
    need_tool("rpmbuild")
    config = home / "config"
    shutil.copytree(CONFIG, config, symlinks=True)
    for name in [*(("macros.pkghook",) if hook else ()), *(("macros.pkghook-gate",) if gate else ())]:
        shutil.copy(HOOKS / name, config / "macros.d")
    for name in ("brp-pkghook", "pkghook-check-files"):
        if (HOOKS / name).exists():
            shutil.copy(HOOKS / name, config)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PKGHOOK_", "RPM_"))}
    env = kept | {"RPM_CONFIGDIR": str(config), "PYTHONPATH": str(CHECKOUT), "LC_ALL": "C.UTF-8"}
    return Bench(home, config, env)


# --- specs -----------------------------------------------------------------------------------------------------------

TAGS = f"""\
Name: {PACKAGE}
Version: 1
Release: 1
Summary: modules
License: GPL-2.0-only
"""


def spec(
    modules: Mapping[str, Path],
    *,
    first: str = "%{?pkghook_hook}",
    macros: str = "",
    tags: str = "",
    install: str = "",
    mode: str = "644",
    files: str = "",
) -> str:
    """A spec that installs copies of these modules: `first` is its first line, `macros` follow it, `tags` follow Name.

    brp-strip is left out, as vendors do for modules; `install` are further lines of %install.
    """
    copies = [f"install -D -m{mode} '{path}' %{{buildroot}}/{EXTRA}/{name}" for name, path in modules.items()]
    parts = [
        first,
        "%global __brp_strip %{nil}",
        macros,
        TAGS + tags,
        "%description\nmodules\n",
        "\n".join(["%install", *copies, install]),
        f"%files\n/{EXTRA}/*\n{files}",
    ]
    return "\n".join(parts)


# --- signing ---------------------------------------------------------------------------------------------------------


def signer(home: Path) -> str:
    """A command that signs the modules named behind it, as the kernel's build does, with a key made for the test."""
    openssl = need_tool("openssl")
    found = sorted(Path("/usr/lib").glob("linux-kbuild-*/scripts/sign-file"))
    if not found:
        lacking("no sign-file; linux-headers has it")
    key, cert = home / "key.pem", home / "cert.pem"
    words = "req -new -x509 -newkey rsa:2048 -nodes -days 9 -subj /CN=test -keyout"
    subprocess.run([openssl, *words.split(), key, "-out", cert], check=True, capture_output=True)
    return f"{found[-1]} sha256 {key} {cert}"


def plant_python(home: Path, python: str) -> tuple[Path, Path]:
    """A stand-in for the interpreter that passes everything on, and the file where it notes its calls."""
    path, log = home / "python", home / "python.log"
    path.write_text(f'#!/bin/sh\necho "$PKGHOOK_JOBS $1 $2 $3 $4" >> "{log}"\nexec "{python}" "$@"\n')
    path.chmod(0o755)
    return path, log
