"""A real driver from its sources, built, stripped and installed as a packager would."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests import jobs
from tests.packages.rpmbuild import PACKAGE, TAGS, Built, bench, query
from tests.setup import dkms, kernels
from tests.setup.apt import SetupError
from tests.support import lacking, need_tool

pytestmark = pytest.mark.full

DRIVER = "v4l2loopback-dkms"
SPEC = """\
{first}
{macros}
{tags}
%description
A driver.
%prep
rm -rf driver
cp -r {source} driver
%build
make -s -C {headers} M=$PWD/driver KCFLAGS=-g modules
%install
make -s -C {headers} M=$PWD/driver INSTALL_MOD_PATH=%{{buildroot}} INSTALL_MOD_DIR=extra DEPMOD=true modules_install
rm -f %{{buildroot}}/lib/modules/*/modules.*
{install}
%files
/lib/modules/*/extra/*
"""


class Driver:
    """Sources, headers, and packages built from them."""

    def __init__(self, home: Path) -> None:
        try:
            (source,) = (each for each in dkms.SOURCES if each.package == DRIVER)
            self.headers = dkms.newest_headers()
            with kernels.alone(kernels.cache_dir() / "dkms"):
                self.source = dkms.sources(source, kernels.cache_dir() / "dkms")
        except SetupError as error:
            lacking(str(error))
        self.version = self.headers.name.removeprefix("linux-headers-")
        self.bench = bench(home)

    def build(self, first: str, macros: str = "", tags: str = "", install: str = "") -> Built:
        """A package of the driver."""
        words = {"source": self.source, "headers": self.headers, "first": first, "macros": macros, "install": install}
        built = self.bench.build(SPEC.format(**words, tags=TAGS + tags))
        assert built.status == 0, built.log
        return built

    def installed(self, built: Built) -> Path:
        """A root of its own with the package, as rpm installs it."""
        root = built.home / "root"
        root.mkdir()
        rpm: list[str | Path] = ["rpm", "--force-debian", "--root", root, "--nodeps", "--noscripts"]
        subprocess.run([*rpm, "--install", built.rpms[PACKAGE]], check=True)
        verified = subprocess.run([*rpm, "--verify", PACKAGE], capture_output=True, text=True, check=False)
        assert (verified.returncode, verified.stdout) == (0, ""), verified.stdout
        return root


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The driver."""
    need_tool("make")
    need_tool("gcc")
    return Driver(tmp_path_factory.mktemp("driver"))


def told(module: Path) -> str:
    """What modinfo says, but for the path."""
    said = subprocess.run([need_tool("modinfo"), module], check=True, capture_output=True, text=True).stdout
    return re.sub(r"^filename:.*\n", "", said)


def depmod(root: Path, driver: Driver) -> tuple[str, str]:
    """All that depmod would write, and its complaints about symbols that nobody exports."""
    symbols = driver.headers / "Module.symvers"
    argv: list[str | Path] = [need_tool("depmod"), "-b", root, "-n", "-e", "-E", symbols, driver.version]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout, done.stderr.replace(str(root), "")


def test_a_driver_from_its_sources(driver: Driver) -> None:
    as_built = driver.build("", macros="%global __brp_strip %{nil}")
    hooked = driver.build("%{?pkghook_hook}", macros="%global __brp_strip %{nil}")
    before, after = driver.installed(as_built), driver.installed(hooked)
    (module,) = jobs.modules_of(before)
    (stripped,) = jobs.modules_of(after)
    assert stripped.relative_to(after) == module.relative_to(before)
    assert stripped.stat().st_size < module.stat().st_size / 3
    assert hooked.sizes()[stripped.name] == stripped.stat().st_size
    assert told(stripped) == told(module) != ""
    assert depmod(after, driver) == depmod(before, driver)
    assert "v4l2loopback" in depmod(after, driver)[0]
    jobs.same(hooked.home / "BUILD" / "driver" / module.name, stripped)


@pytest.mark.parametrize("line", ["%{?pkghook_debuginfo}", "%{?pkghook_hook}"])
def test_the_same_with_a_debuginfo_package(driver: Driver, line: str) -> None:
    """A driver has no .BTF where the kernel's vmlinux is not at hand, so the plain style passes, if it sets x bits."""
    after = "" if "debuginfo" in line else "chmod u+x %{buildroot}/lib/modules/*/extra/*"
    built = driver.build(line, tags="%debug_package\n", install=after)
    assert set(built.rpms) >= {PACKAGE, f"{PACKAGE}-debuginfo"}
    assert "[unread-lost]" in built.log
    listing = "".join(query(path, "[%{FILENAMES}\\n]") for path in built.rpms.values())
    assert re.search(r"/usr/lib/debug/lib/modules/.*/extra/v4l2loopback\.ko.*\.debug", listing)
    assert re.search(r"/usr/src/debug/", listing)
    assert max(built.sizes().values()) < 150_000
