"""The hook in real builds: what it notices, where it is called from, how settings reach it, and that failure stops."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import shapes
from tests.modules import named, shipped
from tests.packages.rpmbuild import EXTRA, HOOKS, Bench, Built, bench, plant_python, spec
from tests.packages.styles import KMP, STYLES, prepare
from tests.support import need_tool

BRP_STRIP = "%global __brp_strip %{_rpmconfigdir}/brp-strip %{__strip}"


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    """A bench with the hook."""
    return bench(tmp_path)


@pytest.fixture(scope="module")
def module(corpus: Path) -> Path:
    """A small module with debug information and .BTF."""
    return named(corpus, "amd64", "crc-itu-t")


@pytest.fixture
def modules(module: Path) -> dict[str, Path]:
    """What is packaged."""
    return {module.name: module}


@pytest.fixture
def without_btf(module: Path, tmp_path: Path) -> dict[str, Path]:
    """The same from a kernel without .BTF."""
    path = tmp_path / "no-btf.ko"
    subprocess.run([need_tool("objcopy"), "--remove-section=.BTF", module, path], check=True)
    return {module.name: path}


def stopped(built: Built, *words: str) -> None:
    """That the build ended in %install, without a package, and says why."""
    assert built.status == 1, built.log
    assert not built.rpms
    assert "Bad exit status from" in built.log
    assert [word for word in words if word not in built.log] == [], built.log


def hooked(built: Built, proof: str = "verified") -> None:
    """That the hook has done its work."""
    assert built.status == 0, built.log
    assert max(built.sizes().values()) < 10_000
    assert {entry.proof.value for entry in built.receipt().entries} == {proof}


# --- what other tools have done --------------------------------------------------------------------------------------


def brp_stripped(modules: Mapping[str, Path]) -> str:
    """A spec that leaves modules to rpm's own script, which up to rpm 4.16 looks at executable files only."""
    return spec(modules, macros=BRP_STRIP, mode="755")


def test_brp_strip_and_a_plain_module(place: Bench, modules: dict[str, Path]) -> None:
    """Nothing was lost: the build goes on, and the receipt says that the record is the proof."""
    hooked(place.build(brp_stripped(modules)), "recorded")


def test_brp_strip_and_a_signed_module(place: Bench, corpus: Path, module: Path) -> None:
    signed = {module.name: shipped(corpus, "amd64", module)}
    stopped(place.build(brp_stripped(signed)), f"error: {EXTRA}/{module.name}:", "[signature-lost]")
    built = place.build(spec(signed))
    assert built.status == 0, built.log
    assert built.modules()[module.name].read_bytes() == signed[module.name].read_bytes()


def test_brp_strip_and_a_livepatch_module(place: Bench, tmp_path: Path) -> None:
    path = tmp_path / "patch.ko"
    path.write_bytes(shapes.livepatch("b"))
    stopped(
        place.build(brp_stripped({path.name: path})),
        f"error: {EXTRA}/patch.ko:",
        "[livepatch-changed]",
    )
    built = place.build(spec({path.name: path}))
    assert built.status == 0, built.log
    assert built.sizes()[path.name] < path.stat().st_size


@pytest.mark.parametrize("hook", ["", "%{?pkghook_hook}"], ids=["without", "with"])
def test_find_debuginfo_eats_btf(place: Bench, modules: dict[str, Path], hook: str) -> None:
    built = place.build(spec(modules, first=hook, mode="755", tags="%debug_package\n"))
    if hook:
        stopped(built, f"error: {EXTRA}/crc-itu-t.ko:", "section: .BTF; lost: ", "[section-changed]")
    else:
        assert built.status == 0, built.log
        assert ".BTF" not in sections(built.modules()["crc-itu-t.ko"])


def test_find_debuginfo_and_nothing_that_is_read(place: Bench, without_btf: dict[str, Path]) -> None:
    """.comment and .note.GNU-stack may go."""
    built = place.build(spec(without_btf, mode="755", tags="%debug_package\n"))
    hooked(built, "recorded")
    assert "(sections: .comment .note.GNU-stack; bytes: 80) [unread-lost]" in built.log


# --- debug packages --------------------------------------------------------------------------------------------------


def sections(path: Path) -> set[str]:
    """Names of a file's sections."""
    listing = subprocess.run([need_tool("readelf"), "-SW", path], check=True, capture_output=True, text=True).stdout
    return {word for line in listing.splitlines() for word in line.split() if word.startswith(".")}


def test_debuginfo_of_plain_modules(place: Bench, modules: dict[str, Path]) -> None:
    """Mode 0644, which find-debuginfo leaves out: "Empty %files file debugfiles.list" without our line."""
    failed = place.build(spec(modules, tags="%debug_package\n"))
    assert failed.status == 1
    assert "Empty %files file" in failed.log
    built = place.build(spec(modules, first="%{?pkghook_debuginfo}", tags="%debug_package\n"))
    hooked(built, "recorded")
    assert set(built.rpms) == {"demo-kmod", "demo-kmod-debuginfo"}
    (packaged,) = built.modules().values()
    assert packaged.stat().st_mode & 0o777 == 0o644
    assert {".BTF", ".gnu_debuglink", ".symtab"} <= sections(packaged)
    assert not any(name.startswith(".debug") for name in sections(packaged))
    (debug,) = (path for path in built.unpacked("demo-kmod-debuginfo").rglob("*.debug") if not path.is_symlink())
    assert debug.name == "crc-itu-t.ko-1-1.x86_64.debug"
    assert {".debug_info", ".debug_line", ".debug_str"} <= sections(debug)
    whole = place.home / "whole.ko"
    subprocess.run([need_tool("eu-unstrip"), packaged, debug, "-o", whole], check=True)
    assert sections(whole) >= {".debug_info", ".BTF", ".text"}


def test_debuginfo_with_jobs_and_a_broken_tool(place: Bench, modules: dict[str, Path]) -> None:
    """find-debuginfo exits 0 where its workers fail, and its strip tool has told no lie that it looks for."""
    text = spec(
        {**modules, "second.ko": modules["crc-itu-t.ko"]}, first="%{?pkghook_debuginfo}", tags="%debug_package\n"
    )
    stopped(
        place.build(text, "--define", "_smp_build_ncpus 2", PATH=place.lie()),
        "find-debuginfo made no debug file for",
        f"/{EXTRA}/crc-itu-t.ko",
    )


# --- where the line stands -------------------------------------------------------------------------------------------

EXPANDED = "%global __spec_install_post %{__arch_install_post} %{__os_install_post}\n"


@pytest.mark.parametrize("line", [EXPANDED, "%kmp\n"], ids=["kmodtool", "kernel_module_package without slots"])
def test_a_line_behind_those_that_expand(place: Bench, modules: dict[str, Path], line: str) -> None:
    place.vendor(re.sub(".*__brp_kmod_.*\n", "", KMP))
    text = spec(modules, first="", tags=line + "%{?pkghook_hook}\n")
    stopped(place.build(text), "%{pkghook_hook} stands where it does nothing", "make it the first line of the spec")
    hooked(place.build(spec(modules, tags=line)))


@pytest.mark.parametrize("line", ["", "%{?pkghook_hook}\n"], ids=["no line", "a line behind"])
def test_kernel_module_package_with_slots(
    place: Bench, modules: dict[str, Path], without_btf: dict[str, Path], line: str
) -> None:
    """RHEL's makes modules executable, so that find-debuginfo takes them: what that loses is noticed all the same."""
    prepare(place, STYLES["kmp"])
    tags = f"%kmp\n{line}"
    hooked(place.build(spec(modules, first="", tags=tags)))
    tags += "%debug_package\n"
    stopped(place.build(spec(modules, first="", tags=tags)), "section: .BTF; lost: ", "[section-changed]")
    hooked(place.build(spec(without_btf, first="", tags=tags)), "recorded")


def test_a_spec_that_calls_no_scripts_of_rpm(place: Bench, modules: dict[str, Path]) -> None:
    own = "%define __spec_install_post %{_rpmconfigdir}/brp-compress"
    stopped(place.build(spec(modules, macros=own)), "put %{pkghook_run} into %install")


@pytest.mark.parametrize(
    "line",
    [
        "%define __os_install_post %{nil}",
        "%global __os_install_post %(echo '%{__os_install_post}' | sed -e 's!brp-elfperms!brp-compress!')",
        "%define __debug_install_post true",
    ],
)
@pytest.mark.parametrize("behind", ["behind", ""], ids=["behind", "before"])
def test_specs_that_change_the_scripts(place: Bench, modules: dict[str, Path], line: str, behind: str) -> None:
    """As many do in the wild; before the hook line or behind it."""
    lines = ["%{?pkghook_hook}", line]
    hooked(place.build(spec(modules, first="", macros="\n".join(lines if behind else lines[::-1]))))


def test_a_find_debuginfo_of_the_spec_s_own_is_recorded_before(place: Bench, modules: dict[str, Path]) -> None:
    own = "%define __debug_install_post eu-strip %{buildroot}/" + f"{EXTRA}/crc-itu-t.ko\n%global __debug_package 1"
    stopped(place.build(spec(modules, macros=own)), "section: .BTF; lost: ", "[section-changed]")


def test_a_spec_that_calls_its_own_before_ours_is_told(place: Bench, modules: dict[str, Path]) -> None:
    """It cannot be known what those have lost; what was there when pkghook saw it is proven."""
    own = "%global __debug_package 1\n%define __spec_install_post true \\\n%{__os_install_post}"
    built = place.build(spec(modules, macros=own))
    hooked(built)
    assert "pkghook: warning: find-debuginfo ran before the record" in built.log


def test_two_lines_are_one(place: Bench, modules: dict[str, Path]) -> None:
    built = place.build(spec(modules, first="%{?pkghook_hook}\n%{?pkghook_hook}"))
    hooked(built)
    assert built.log.count("brp-pkghook strip") == 1


def test_without_the_macros_the_line_is_nothing(tmp_path: Path, modules: dict[str, Path]) -> None:
    """So it is paired with BuildRequires: pkghook-rpm-macros."""
    built = bench(tmp_path, hook=False).build(spec(modules))
    assert built.status == 0, built.log
    assert built.sizes()["crc-itu-t.ko"] == modules["crc-itu-t.ko"].stat().st_size


def test_no_modules(place: Bench) -> None:
    install = "mkdir -p %{buildroot}/lib/modules; touch %{buildroot}/lib/modules/nothing"
    text = spec({}, install=install).replace(f"/{EXTRA}/*", "/lib/modules/nothing")
    built = place.build(text)
    assert built.status == 0, built.log
    assert built.receipt().entries == ()


# --- settings --------------------------------------------------------------------------------------------------------

KEEP = '--keep "lib/modules/*/extra/crc-itu-t.ko=the vendor wants it"'
KEEP_TOO = "--keep=\"lib/modules/[0-9]*/extra/crc-[!x]*-t.ko\"='the vendor wants it'"


def test_options_reach_the_tool(place: Bench, modules: dict[str, Path]) -> None:
    built = place.build(spec(modules, first=f"%global pkghook_opts {KEEP}\n%{{?pkghook_hook}}"))
    assert built.status == 0, built.log
    (entry,) = built.receipt().entries
    assert (entry.state.value, entry.reason) == ("kept", "the vendor wants it")
    built = place.build(spec(modules), PKGHOOK_KEEP="lib/modules/*/extra/crc-itu-t.ko=the builder wants it")
    (entry,) = built.receipt().entries
    assert (entry.state.value, entry.reason) == ("kept", "the builder wants it")


@pytest.mark.parametrize("call", [
    f"%{{pkghook_run}} {KEEP}", f"%{{pkghook_run {KEEP}}}", f"%pkghook_run {KEEP}", f"%{{pkghook_run {KEEP_TOO}}}",
])  # fmt: skip
def test_arguments_of_run(place: Bench, modules: dict[str, Path], call: str) -> None:
    built = place.build(spec(modules, first="", install=call))
    assert built.status == 0, built.log
    assert [entry.reason for entry in built.receipt().entries] == ["the vendor wants it"]


def test_run_stops_the_build_within_a_list_of_commands(place: Bench, modules: dict[str, Path]) -> None:
    built = place.build(spec(modules, first="", install="%{pkghook_run --chain nothing}\ntrue"))
    stopped(built, "nothing")


def test_interpreter_and_jobs(place: Bench, modules: dict[str, Path]) -> None:
    python, log = plant_python(place.home, sys.executable)
    built = place.build(spec(modules), "--define", f"pkghook_python {python}", "--define", "_smp_build_ncpus 3")
    hooked(built)
    assert log.read_text().splitlines() == ["3 -P -m pkghook record", "3 -P -m pkghook strip"]
    log.unlink()
    place.build(spec(modules), "--define", f"pkghook_python {python}", PKGHOOK_JOBS="7")
    assert {line.split()[0] for line in log.read_text().splitlines()} == {"7"}


def test_an_interpreter_that_is_not_there(place: Bench, modules: dict[str, Path]) -> None:
    stopped(place.build(spec(modules), "--define", "pkghook_python /nowhere/python3"), "/nowhere/python3")


def test_a_python_without_pkghook(place: Bench, modules: dict[str, Path]) -> None:
    bare = place.home / "python3"  # -S: whatever is installed for the Python that runs the tests
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    built = place.build(spec(modules), "--define", f"pkghook_python {bare}", PYTHONPATH="/nowhere")
    stopped(built, "No module named pkghook")


def test_receipts_go_where_they_are_wanted(place: Bench, modules: dict[str, Path]) -> None:
    where = place.home / "new" / "receipt.json"
    built = place.build(spec(modules), "--define", f"pkghook_receipt {where}")
    assert built.status == 0, built.log
    assert '"mode": "strip"' in where.read_text()
    assert not list(built.home.glob("BUILD/*.json"))
    directory = "%{_datadir}/pkghook/receipts"
    first = f"%global pkghook_receipt_dir {directory}\n%{{?pkghook_hook}}"
    built = place.build(spec(modules, first=first, files="%{pkghook_receipt_dir}\n"))
    assert built.status == 0, built.log
    assert "demo-kmod-1-1.x86_64.pkghook.json" in built.sizes()


def test_a_receipt_that_cannot_be_written(place: Bench, modules: dict[str, Path]) -> None:
    stopped(place.build(spec(modules), "--define", "pkghook_receipt /proc/nowhere/receipt.json"))


def test_nothing_is_touched_without_a_buildroot() -> None:
    for root in ("", "/", "//"):
        done = subprocess.run(
            [HOOKS / "brp-pkghook", "strip"],
            env={"RPM_BUILD_ROOT": root, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, "pkghook: error: RPM_BUILD_ROOT names no buildroot\n")
