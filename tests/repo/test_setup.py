"""What tests and the demo stand on: reading the machine's apt sources, choosing packages and modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.setup import kernels, packages
from tests.setup.apt import Apt, Archive, Package, SetupError, find_archive, signed_by, sort_versions
from tests.support import need_tool

KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
ONE_LINE = f"""
deb [arch=amd64 signed-by=/etc/apt/keyrings/other.gpg] https://packages.example.org/php bookworm main
# deb [signed-by={KEY}] http://mirror.example.org/debian bookworm main
deb [ signed-by={KEY} ] http://mirror.example.org/debian/ bookworm main contrib
deb http://mirror.example.org/debian-security bookworm-security main
"""
DEB822 = f"""# the archive
Types: deb deb-src
URIs: http://mirror.example.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: {KEY}

Types: deb
URIs: http://mirror.example.org/debian-security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----
"""


@pytest.fixture
def sources(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with these apt sources and no others."""
    need_tool("apt-get")
    text, suffix = request.param
    path = tmp_path / "parts" / f"machine.{suffix}"
    path.parent.mkdir()
    path.write_text(text)
    (tmp_path / "lists").mkdir()
    conf = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": path.parent,
        "Dir::State::lists": tmp_path / "lists",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in conf.items()))
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return path


@pytest.mark.parametrize("sources", [(ONE_LINE, "list")], indirect=True)
def test_one_line_sources(sources: Path) -> None:
    assert sources.is_file()
    assert find_archive("bookworm") == Archive("http://mirror.example.org/debian/", f" {KEY}")
    assert find_archive("trixie") == Archive("http://mirror.example.org/debian/", f" {KEY}"), "any suite of the archive"
    assert find_archive("bookworm-security") == Archive("http://mirror.example.org/debian-security/", "")


@pytest.mark.parametrize("sources", [(DEB822, "sources")], indirect=True)
def test_deb822_sources(sources: Path) -> None:
    assert find_archive("bookworm") == Archive("http://mirror.example.org/debian/", f" {KEY}")
    block = signed_by(sources, "http://mirror.example.org/debian-security/")
    assert block.startswith("\n -----BEGIN PGP")
    assert block.endswith("\n -----END PGP PUBLIC KEY BLOCK-----")


@pytest.mark.parametrize("sources", [("deb http://mirror.example.org/ubuntu jammy main\n", "list")], indirect=True)
def test_no_debian_archive(sources: Path) -> None:
    assert sources.is_file()
    assert find_archive("bookworm") is None
    with pytest.raises(SetupError, match="no Debian archive"):
        kernels.look_up(kernels.by_name("s390x"))


def test_private_state_may_lie_anywhere(tmp_path: Path) -> None:
    need_tool("apt-get")
    apt = Apt(tmp_path / "a place", "bookworm", "riscv64", Archive("http://mirror.example.org/debian", f" {KEY}"))
    assert apt.packages("linux-image-.*") == []
    text = (apt.home / "sources" / "kernels.sources").read_text()
    assert f"Signed-By: {KEY}\n" in text
    assert "Architectures: riscv64\n" in text


def test_newest_version_last() -> None:
    need_tool("dpkg")
    found = [Package("p", version, 0) for version in ("6.1.10-1", "6.1.9-1", "6.1.10-1~bpo1", "6.1.100-1")]
    assert [p.version for p in sort_versions(found)] == ["6.1.9-1", "6.1.10-1~bpo1", "6.1.10-1", "6.1.100-1"]


def test_every_package_of_the_list_says_what_for() -> None:
    need_tool("dpkg")
    groups = [line.strip("[]") for line in packages.LIST.read_text("utf-8").splitlines() if line.startswith("[")]
    assert groups == ["demo", "tests", "boot"]
    for line in packages.LIST.read_text("utf-8").splitlines():
        assert not line or line[0] in "#[" or len(line.split()) > 2, line
    assert {row.package for row in packages.needed("demo")} >= {"apt", "dpkg"}


def test_unknown_kernel() -> None:
    with pytest.raises(SetupError, match="there are amd64"):
        kernels.by_name("vax")


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("lib/modules/6.1/kernel/fs/ext4/ext4.ko.xz", "fs/ext4/ext4"),
        ("usr/lib/debug/lib/modules/6.1/kernel/drivers/net/tun.ko", "drivers/net/tun"),
    ],
)
def test_stem(path: str, stem: str) -> None:
    assert kernels.is_module(path)
    assert kernels.stem(path) == stem


def test_sizes_for_people() -> None:
    assert [kernels.size_text(count) for count in (5, 1200, 309_700_000, 1_026_000_000)] == [
        "5 B",
        "1 kB",
        "310 MB",
        "1.0 GB",
    ]
