"""pkghook's own Debian packages: what they hold, and what lintian thinks of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pkghook import __version__
from tests.packages import debian
from tests.packages.debian import control, unpacked
from tests.repo.tree import PACKAGE, ROOT, files
from tests.support import need_tool

EXPECTED = re.compile(
    r"[IX]: pkghook( source)?: (package-contains-empty-directory \[usr/share/pkghook/keep\.d/\]"
    r"|very-long-line-length-in-source-file .* \[tests/unit/test_receipt\.py:\d+\])"
)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which they were built."""
    return debian.own_packages(tmp_path_factory.mktemp("own"))


def the(own: Path, name: str) -> Path:
    """The package of this name; its version is pkghook's."""
    return own / f"{name}_{__version__}_all.deb"


@pytest.fixture(scope="module")
def roots(own: Path) -> tuple[Path, Path]:
    """The files of pkghook and of dh-pkghook."""
    return tuple(unpacked(the(own, name), own / "unpacked" / name) for name in ("pkghook", "dh-pkghook"))  # type: ignore[return-value]


def test_whole_package_is_there(roots: tuple[Path, Path]) -> None:
    place = roots[0] / "usr/lib/python3/dist-packages"
    found = {str(path.relative_to(place)) for path in place.glob("pkghook/**/*") if path.is_file()}
    assert found == {str(path.relative_to(ROOT)) for path in files() if path.is_relative_to(PACKAGE)}
    assert not (roots[1] / "usr/lib/python3").exists()


def test_command_runs(roots: tuple[Path, Path]) -> None:
    command = roots[0] / "usr/bin/pkghook"
    assert command.read_text().splitlines()[0] == "#!/usr/bin/python3"
    env = {"PYTHONPATH": str(roots[0] / "usr/lib/python3/dist-packages")}
    done = subprocess.run([sys.executable, command, "--version"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"pkghook {__version__}\n"


@pytest.mark.parametrize(
    "name",
    [
        "usr/share/man/man1/pkghook.1.gz",
        "usr/share/man/man5/pkghook.toml.5.gz",
        "usr/share/man/man7/pkghook-findings.7.gz",
        "usr/share/bash-completion/completions/pkghook",
        "usr/share/zsh/vendor-completions/_pkghook",
        "etc/kernel/postinst.d/dkms-pkghook",
        "etc/kernel/header_postinst.d/dkms-pkghook",
        "etc/kernel/postrm.d/pkghook",
        "usr/libexec/pkghook/look",
        "usr/share/pkghook/keep.d",
        "var/lib/pkghook",
    ],
)
def test_pkghook_has(roots: tuple[Path, Path], name: str) -> None:
    assert (roots[0] / name).exists()


@pytest.mark.parametrize(
    "name",
    [
        "usr/bin/dh_pkghook",
        "usr/share/man/man1/dh_pkghook.1.gz",
        "usr/share/perl5/Debian/Debhelper/Sequence/pkghook.pm",
        "usr/share/doc/dh-pkghook/README.md",
    ],
)
def test_dh_pkghook_has(roots: tuple[Path, Path], name: str) -> None:
    assert any(path.exists() for path in (roots[1] / name, roots[1] / f"{name}.gz"))


def test_hooks_run_in_their_place(roots: tuple[Path, Path]) -> None:
    """Behind DKMS, which builds modules, and before what puts them into an initramfs; some names are passed by."""
    need_tool("run-parts")
    for directory in ("postinst.d", "header_postinst.d"):
        place = roots[0] / "etc/kernel" / directory
        others = ("dkms", "dracut", "initramfs-tools", "zz-update-grub")
        for name in others:
            (place / name).write_text("#!/bin/sh\n")
            (place / name).chmod(0o755)
        done = subprocess.run(["run-parts", "--test", place], capture_output=True, text=True, check=True)
        assert [Path(line).name for line in done.stdout.split()] == ["dkms", "dkms-pkghook", *others[1:]]
        for name in others:
            (place / name).unlink()


@pytest.mark.parametrize("name", ["look", "dkms-pkghook", "pkghook"])
def test_hooks_are_quiet_without_the_command(name: str) -> None:
    """Configuration files outlive their package; a hook that fails would leave a kernel half installed."""
    hook = debian.HOOKS / "system" / name
    for words in ([], ["6.1.0-test"]):
        done = subprocess.run(
            ["/bin/sh", hook, *words], env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, "")


def test_relations(own: Path) -> None:
    """Build roots install no Recommends: what stripping and the gate need is depended on. Else Python alone is."""
    pkghook, dh = control(the(own, "pkghook")), control(the(own, "dh-pkghook"))
    assert pkghook["Depends"] == "python3:any (>= 3.11~)"
    for library in ("python3-pyelftools", "python3-zstandard", "python3-debian"):
        assert library in pkghook["Recommends"]
        assert library in dh["Depends"]
    assert f"pkghook (= {__version__})" in dh["Depends"]
    assert "dh-sequence-pkghook" in dh["Provides"]


def test_maintainer_scripts(own: Path) -> None:
    """The trigger waits for nobody and fails nobody."""
    scripts = own / "scripts"
    subprocess.run(["dpkg-deb", "-e", the(own, "pkghook"), scripts], check=True)
    lines = [line for line in (scripts / "triggers").read_text().splitlines() if line[:1] not in {"", "#"}]
    assert lines == ["interest-noawait /lib/modules", "interest-noawait /usr/lib/modules"]
    for name in ("postinst", "postrm", "prerm"):
        subprocess.run(["sh", "-n", scripts / name], check=True)
    assert "(triggered" not in (scripts / "postinst").read_text()


def test_lintian(own: Path) -> None:
    need_tool("lintian")
    (changes,) = own.glob("*.changes")
    argv = ["lintian", "--allow-root", "-EIL", "+pedantic", "--tag-display-limit", "0", str(changes)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if not EXPECTED.fullmatch(line)] == []
    assert done.returncode == 0, done.stderr
    readme = (debian.HOOKS / "README.md").read_text()
    for tag in re.findall(r"^[IX]: [^:]+: ([a-z-]+)", done.stdout, re.MULTILINE):
        assert tag in readme, "the reason has to be written down"
