"""Out-of-tree modules, built here from the DKMS sources that Debian packages, with debug information of three kinds."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import jobs, loader
from tests.setup import dkms
from tests.setup.apt import SetupError
from tests.support import lacking, need_tool
from tests.surgery import Patient

QUICK = ("v4l2loopback-dkms", "dm-writeboost-dkms")
STEPS = ("native", "objcopy", "strip", "eu-strip", "llvm-strip")
SMALL = 8 << 20  # bytes of a module up to which the slow second opinion is asked


def built(package: str, way: str) -> list[Path]:
    """The modules, built on first use."""
    for tool in ("apt-get", "make", "gcc"):
        need_tool(tool)
    try:
        return dkms.modules(package, way)
    except SetupError as error:
        lacking(str(error))


def planted(root: Path, paths: list[Path]) -> list[Path]:
    """A buildroot with them where DKMS installs them."""
    home = root / "lib" / "modules" / dkms.newest_headers().name.removeprefix("linux-headers-") / "updates" / "dkms"
    home.mkdir(parents=True)
    for path in paths:
        (home / path.name).write_bytes(path.read_bytes())
    return jobs.modules_of(root)


def judge(before: Path, after: Path, step: str, tmp_path: Path) -> None:
    """The same module to both opinions and to modinfo, and of the size that GNU strip gives it."""
    jobs.same(before, after)
    assert before.stat().st_size > SMALL or loader.same(before.read_bytes(), after.read_bytes())
    theirs = tmp_path / "theirs.ko"
    subprocess.run([need_tool("strip"), "-g", "-o", theirs, before], check=True)
    assert abs(after.stat().st_size - theirs.stat().st_size) <= slack(before, after, step)
    assert modinfo(after) == modinfo(before)


def slack(before: Path, after: Path, step: str) -> int:
    """Bytes that a step's result may differ from GNU strip's: padding, section symbols that stay, names that stay."""
    sections = Patient(after.read_bytes()).header("shnum")
    symbols = 24 * sections if step in ("eu-strip", "llvm-strip") else 0
    names = Patient(before.read_bytes()).section(".strtab", "size") if step == "eu-strip" else 0
    return 8 * sections + 64 + symbols + names


def modinfo(path: Path) -> bytes:
    """All that modinfo says, but for the path."""
    done = subprocess.run([need_tool("modinfo"), path], check=True, capture_output=True)
    assert b"vermagic:" in done.stdout
    return done.stdout.partition(b"\n")[2]


def strip_and_judge(package: str, way: str, step: str, tmp_path: Path) -> list[Path]:
    """Copies of a package's modules, stripped by one step."""
    originals = {path.name: path for path in built(package, way)}
    found = planted(tmp_path / "root", list(originals.values()))
    jobs.verified(jobs.strip(tmp_path / "root", "--chain", step), len(originals), step)
    for path in found:
        judge(originals[path.name], path, step, tmp_path)
    return found


def test_unknown_sources() -> None:
    with pytest.raises(SetupError, match="there are v4l2loopback-dkms"):
        dkms.modules("vax-dkms", "-g")


def test_shapes_are_what_they_are_here_for() -> None:
    plain, macros, packed = (Patient(built(QUICK[0], way)[0].read_bytes()) for way in ("-g", "-g3", "-gz"))
    assert ".debug_info" in plain.names
    assert ".debug_macro" not in plain.names
    assert macros.names.count(".debug_macro") > 100
    assert macros.names.count(".group") >= macros.names.count(".debug_macro") - 1
    assert packed.section(".debug_info", "flags") & 0x800, "SHF_COMPRESSED"


@pytest.mark.parametrize("way", dkms.WAYS)
@pytest.mark.parametrize("package", QUICK)
def test_native(package: str, way: str, tmp_path: Path) -> None:
    for path in strip_and_judge(package, way, "native", tmp_path):
        left = Patient(path.read_bytes()).names
        assert not [name for name in left if name.startswith(".debug") or name == ".group"]


@pytest.mark.parametrize("way", dkms.WAYS)
@pytest.mark.parametrize("step", STEPS[1:])
def test_other_steps(step: str, way: str, tmp_path: Path) -> None:
    need_tool(step)
    if step == "llvm-strip" and way != "-g":
        empties_groups(built(QUICK[0], way), tmp_path)
    else:
        strip_and_judge(QUICK[0], way, step, tmp_path)


def empties_groups(originals: list[Path], tmp_path: Path) -> None:
    """llvm-strip leaves the groups of .debug_macro there without members, and exits 0; what comes next has to do."""
    planted(tmp_path / "root", originals)
    job = jobs.verified(jobs.strip(tmp_path / "root", "--chain", "llvm-strip,native"), len(originals), "native")
    for entry in job.receipt.entries:
        assert jobs.attempts(entry) == [("llvm-strip", "rejected"), ("native", "passed")]
        assert entry.attempts[0].why.startswith("section-changed: section=.group")


@pytest.mark.full
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("package", [source.package for source in dkms.SOURCES if source.package not in QUICK])
def test_large_packages(package: str, step: str, tmp_path: Path) -> None:
    """Two dozen modules, some that export; and one of more than 20 MB."""
    assert len(strip_and_judge(package, "-g", step, tmp_path)) > 2
