"""The gate in real builds: no spec line, any style; what is unstripped does not leave rpmbuild."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pkghook.ko import codec
from pkghook.model import Compression
from tests import shapes
from tests.modules import named, shipped
from tests.packages.rpmbuild import CHECKOUT, EXTRA, Bench, Built, bench, signer, spec
from tests.packages.styles import STYLES, Wish, prepare
from tests.support import need_tool

CLOSED = "pkghook's gate is closed"


@pytest.fixture
def place(tmp_path: Path) -> Bench:
    """A bench with the gate and without the hook."""
    return bench(tmp_path, gate=True, hook=False)


@pytest.fixture(scope="module")
def module(corpus: Path) -> Path:
    """A small module with debug information and .BTF."""
    return named(corpus, "amd64", "crc-itu-t")


@pytest.fixture
def modules(module: Path) -> dict[str, Path]:
    """What is packaged."""
    return {module.name: module}


def refused(built: Built, *words: str) -> None:
    """That the gate stopped the build, without a package, and why."""
    assert built.status == 1, built.log
    assert not built.rpms
    assert CLOSED in built.log
    assert [word for word in words if word not in built.log] == [], built.log


@pytest.mark.parametrize("style", STYLES)
def test_every_style_without_the_hook(style: str, tmp_path: Path, modules: dict[str, Path]) -> None:
    made = bench(tmp_path, gate=True)
    prepare(made, STYLES[style], hook=False)
    text = STYLES[style].write(Wish(modules, signer(tmp_path), hook=False))
    if style == "debuginfo":  # find-debuginfo has stripped it, and eaten .BTF, which nobody can see afterwards
        assert made.build(text).status == 0
        return
    refused(made.build(text), f"error: {EXTRA}/crc-itu-t.ko", "[unstripped]", "hint: a spec strips with")


@pytest.mark.parametrize("style", STYLES)
def test_every_style_with_the_hook(style: str, tmp_path: Path, modules: dict[str, Path]) -> None:
    made = bench(tmp_path, gate=True)
    prepare(made, STYLES[style])
    built = made.build(STYLES[style].write(Wish(modules, signer(tmp_path))))
    assert built.status == 0, built.log
    assert CLOSED not in built.log


@pytest.mark.parametrize("how", [Compression.XZ, Compression.GZIP, Compression.ZSTD])
def test_inside_compression(place: Bench, module: Path, tmp_path: Path, how: Compression) -> None:
    path = tmp_path / f"{module.name}{how.suffix}"
    path.write_bytes(codec.compress(module.read_bytes(), how))
    refused(place.build(spec({path.name: path})), f"error: {EXTRA}/{path.name}:", "[unstripped]")


@pytest.mark.parametrize("value", ["0", "%{nil}", "1"])
def test_a_spec_that_allows_unpackaged_files(place: Bench, modules: dict[str, Path], value: str) -> None:
    """Their number says nothing about modules: what is only a warning stays one, the gate does not become one."""
    macros = f"%global _unpackaged_files_terminate_build {value}"
    install = "touch %{buildroot}/unpackaged"
    refused(place.build(spec(modules, macros=macros, install=install)), "[unstripped]")
    built = place.build(
        spec(modules, macros=f"{macros}\n%global __brp_strip %{{_rpmconfigdir}}/brp-strip", install=install, mode="755")
    )
    assert built.status == int(value == "1"), built.log
    assert "Installed (but unpackaged) file(s) found:\n   /unpackaged" in built.log
    assert CLOSED not in built.log


def test_stripped_too_far(place: Bench, module: Path, tmp_path: Path) -> None:
    path = tmp_path / "far.ko"
    subprocess.run([need_tool("llvm-strip"), module, "-o", path], check=True)
    refused(place.build(spec({path.name: path})), f"error: {EXTRA}/far.ko:", "[no-symbol-table]")


def test_what_is_kept_on_purpose_passes(tmp_path: Path, modules: dict[str, Path]) -> None:
    place = bench(tmp_path, gate=True)
    keep = "lib/modules/*/extra/crc-itu-t.ko=the vendor's support wants it"
    built = place.build(
        spec(modules, first=f'%global pkghook_opts -v --chain native --keep "{keep}"\n%{{?pkghook_hook}}')
    )
    assert built.status == 0, built.log
    assert built.sizes()["crc-itu-t.ko"] == modules["crc-itu-t.ko"].stat().st_size
    assert place.build(spec(modules, first=""), PKGHOOK_KEEP=keep).status == 0
    place.config.joinpath("keep.d").mkdir()
    place.config.joinpath("keep.d", "vendor.toml").write_text('[[keep]]\nglob = "**/crc-itu-t.ko"\nreason = "vendor"\n')
    assert place.build(spec(modules, first=""), PKGHOOK_KEEP_DIR=str(place.config / "keep.d")).status == 0


def test_debug_packages_pass(tmp_path: Path, module: Path) -> None:
    """And the modules that a debug package itself carries, as Debian's and SUSE's do."""
    install = f"install -D -m644 '{module}' %{{buildroot}}/usr/lib/debug/{EXTRA}/{module.name}"
    place = bench(tmp_path, gate=True)
    built = place.build(spec({module.name: module}, install=install, files="/usr/lib/debug\n"))
    assert built.status == 0, built.log


def test_signed_and_stripped_modules_pass(place: Bench, corpus: Path, module: Path) -> None:
    built = place.build(spec({module.name: shipped(corpus, "amd64", module)}))
    assert built.status == 0, built.log


def test_a_livepatch_module(place: Bench, tmp_path: Path) -> None:
    path = tmp_path / "patch.ko"
    path.write_bytes(shapes.livepatch("a"))
    refused(place.build(spec({path.name: path})), "[unstripped]")


def test_packages_without_modules_are_let_through(place: Bench) -> None:
    text = spec({}).partition("%install")[0] + "%files\n"
    assert place.build(text).status == 0
    text = spec({}, install="mkdir -p %{buildroot}/etc; touch %{buildroot}/etc/demo").replace(
        f"/{EXTRA}/*", "/etc/demo"
    )
    built = place.build(text)
    assert built.status == 0, built.log


@pytest.mark.parametrize("env", [{"PYTHONPATH": "/nowhere"}, {"PKGHOOK_SIGNED": "maybe"}])
def test_a_gate_that_cannot_judge_is_closed(place: Bench, modules: dict[str, Path], env: dict[str, str]) -> None:
    refused(place.build(spec(modules), **env))


def test_an_interpreter_that_is_not_there(place: Bench, modules: dict[str, Path]) -> None:
    refused(place.build(spec(modules), "--define", "pkghook_python /nowhere/python3"), "/nowhere/python3")


def test_the_same_in_small_for_any_system(module: Path) -> None:
    """The script that other systems run; it prints what it found, and that all is well."""
    python = Path(sys.executable).parent
    environ = {**os.environ, "PATH": f"{python}:{os.environ['PATH']}"}
    done = subprocess.run(
        [CHECKOUT / "tests" / "matrix" / "rpm", module], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^RPM version .*, Python 3\..*, pkghook .*\nok: ", done.stdout)
