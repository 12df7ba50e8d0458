"""The systems of the matrix: Debian releases in chroots, each with its own tools, Python and kernel."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.repo.tree import ROOT, files
from tests.setup import chroots, kernels
from tests.setup.apt import SetupError, run
from tests.setup.chroots import Chroot, Done

LIBRARIES = ("python3", "python3-debian", "python3-pyelftools", "python3-rich", "python3-zstandard")
TOOLS = ("binutils", "elfutils", "llvm", "kmod", "xz-utils", "zstd", "openssl")
RPM = ("rpm", "cpio", "debugedit", "file")  # find-debuginfo asks `file`
DEB = ("build-essential", "debhelper", "dh-python", "pybuild-plugin-pyproject", "python3-setuptools", "man-db")
DKMS = ("dkms", "linux-headers-cloud-amd64")
WHOLE = (*LIBRARIES, *TOOLS, *RPM, *DEB, *DKMS)
SMALL = ("python3", "python3-pyelftools", "python3-zstandard", "binutils", "elfutils", *RPM)
LIBRPM = ("rpm", "rpm-common", "librpm9", "librpmbuild9", "librpmio9", "librpmsign9", "rpm2cpio", "debugedit")

# Whose versions are shown, where they are there.
SHOWN = ("python3", "binutils", "elfutils", "llvm", "rpm", "debugedit", "debhelper", "dkms", "kmod", *LIBRARIES[1:])
# From PyPI: what the unit tests need, and rpmfile, which Debian has not. pure or for many Linuxes: nothing is compiled.
WHEELS = ("pytest", "hypothesis", "jsonschema", "junitparser", "sarif-pydantic", "setuptools")
NEWEST = ("pyelftools", "python-debian", "rpmfile", "zstandard", "rich")

CHECKOUT, SITE, ALONE = "/srv/pkghook", "/srv/site", "/srv/alone"


class Suite(NamedTuple):
    """One system, and which kernel of tests/setup/kernels.py is its own."""

    name: str
    kernel: str
    release: str = ""  # of Debian, where the name is another
    also: str = ""  # another one, from which some packages are
    packages: tuple[str, ...] = WHOLE
    cells: frozenset[str] = frozenset()  # that are run in it; none stands for all


# EL 9 has this rpm, with which no Debian has a Python of today. It brings a find-debuginfo of its own.
OLD_RPM = (*set(SMALL).difference(LIBRPM), *(f"{name}=4.16.*" for name in LIBRPM))
RPM_4_16 = Suite("rpm-4.16", "amd64", "bookworm", "bullseye", OLD_RPM, frozenset({"rpm"}))
SUITES = {suite.name: suite for suite in (
    Suite("bookworm", "amd64"), Suite("trixie", "amd64-trixie"), Suite("sid", "amd64-sid"), RPM_4_16,
)}  # fmt: skip


class System(NamedTuple):
    """One of them, made and unpacked, with the checkout in /srv/pkghook. Works for it go into directories of /srv."""

    chroot: Chroot
    suite: Suite

    def place(self, name: str) -> Path:
        """A path of /srv, from outside."""
        return self.chroot.path / "srv" / name

    def pkghook(self, *args: str, **env: str) -> Done:
        """The command, of the checkout and with the suite's own libraries; a warning of Python is an error."""
        return self.chroot.run("python3", "-P", "-m", "pkghook", *args, **self.environment, **env)

    def clean(self, *args: str, **env: str) -> str:
        """What the command says, which must find nothing wrong."""
        done = self.pkghook(*args, **env)
        assert done.status == 0, f"pkghook {' '.join(args)} ended with {done.status}:\n{done.output}"
        return done.output

    def finds(self, id: str, *args: str) -> None:
        """The command must find this, and say so by its exit status."""
        done = self.pkghook(*args)
        assert done.status == 1, f"pkghook {' '.join(args)} ended with {done.status}:\n{done.output}"
        assert f"[{id}]" in done.output, done.output

    @property
    def environment(self) -> dict[str, str]:
        """For whatever runs pkghook."""
        return {"PYTHONPATH": f"{CHECKOUT}:{ALONE}", "PYTHONWARNINGS": "error", "PYTHONDONTWRITEBYTECODE": "1"}

    def has(self, tool: str) -> bool:
        """Whether a program is there; "" stands for none."""
        return not tool or (self.chroot.path / "usr/bin" / tool).exists()

    def version(self, package: str) -> str:
        """What dpkg says is installed, "" for nothing."""
        done = self.chroot.run("dpkg-query", "-W", "-f", "${Version}", package)
        return done.output if done.status == 0 else ""

    def versions(self) -> dict[str, str]:
        """What was found, by name."""
        found = {name: self.version(name) for name in SHOWN}
        found["python3"] = self.chroot.must("python3", "--version").removeprefix("Python ").strip()
        with suppress(SetupError):
            found["kernel"] = packages_of(self.kernel())
        return {name: version for name, version in found.items() if version}

    # --- its kernel --------------------------------------------------------------------------------------------------

    def kernel(self) -> Path:
        """Directory of its kernel's modules, fetched if they are not there; SetupError where they cannot be had."""
        return kernel(self.suite.kernel)

    def headers(self) -> str:
        """The version of the kernel that modules can be built for."""
        found = [path.parent.name for path in (self.chroot.path / "usr/src").glob("linux-headers-*/Module.symvers")]
        assert len(found) == 1, found
        return found[0].removeprefix("linux-headers-")

    # --- libraries of PyPI -------------------------------------------------------------------------------------------

    def site(self) -> None:
        """The newest libraries for its Python in SITE, and rpmfile alone in ALONE; SetupError without network."""
        if self.place("site").is_dir():
            return
        said = self.chroot.must("python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
        words = ["--only-binary=:all:", "--python-version", said, *platforms(), "--target", str(self.place("site"))]
        run([sys.executable, "-m", "pip", "install", "-qq", "--no-compile", *words, *WHEELS, *NEWEST])
        shutil.copytree(self.place("site") / "rpmfile", self.place("alone") / "rpmfile")


def platforms() -> Iterator[str]:
    """Words for pip: what wheels are built for that run on any Linux of today."""
    for tag in ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux_2_17_x86_64"):
        yield f"--platform={tag}"


def kernel(name: str) -> Path:
    """Directory of a kernel, of the corpus or of the cache, fetched if it is in neither."""
    row = kernels.by_name(name)
    given, own = kernels.corpus_dir(), kernels.cache_dir() / "corpus"
    for home in (given, own):
        if not {"shipped", "dbg"} & set(kernels.missing(row, home)):
            return home / name
    with kernels.alone(own):
        gaps = [part for part in kernels.missing(row, own) if part != "boot"]
        pair = kernels.look_up(row)
        if kernels.stale(own / name, pair):
            shutil.rmtree(own / name)
            gaps = ["shipped", "dbg"]
        kernels.fetch(row, pair, own, gaps)
    return own / name


def packages_of(kernel: Path) -> str:
    """What a kernel's modules came from: version of the package."""
    found = re.match(r"(\S+?)=(\S+)", (kernel / "INFO").read_text("utf-8"))
    assert found, kernel
    return f"{found[1].removeprefix('linux-image-').removeprefix('linux-modules-')} ({found[2]})"


@contextmanager
def opened(suite: Suite, place: Path, packages: tuple[str, ...] = (), *, plain: bool = False) -> Iterator[System]:
    """The system for a while, below `place`, with its own packages or these; SetupError where it cannot be had.

    A container may not have namespaces of its own; with `plain` it is entered by chroot alone there.
    """
    image = chroots.image(suite.release or suite.name, packages or suite.packages, suite.also)
    with ExitStack() as stack:
        chroot = stack.enter_context(chroots.unpacked(image, place))
        entered = chroot.run("true")
        if entered.status and plain:
            chroot = chroot._replace(plain=True)
            entered = chroot.run("true")
        if entered.status:
            raise SetupError(f"no namespaces can be had here: {entered.output.strip()}")
        for path in files():
            copy = chroot.path / CHECKOUT.lstrip("/") / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        yield System(chroot, suite)
