"""The automatic debug symbol package: what dh_strip does for programs dh_pkghook does for modules."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests import modules
from tests.packages.debian import EXTRA, RULES, STANZA, Builder, builder, control, unpacked
from tests.support import need_tool

MANY = 44
PROGRAM = """
override_dh_auto_install:
\tmkdir -p debian/demo-modules/usr/bin
\techo 'int main(void) { return 0; }' | gcc -g -xc -Wl,--build-id -o debian/demo-modules/usr/bin/demo -
"""


@pytest.fixture
def bench(tmp_path: Path) -> Builder:
    return builder(tmp_path)


def ids(debug: Path) -> set[str]:
    """The build-ids that an unpacked package has debug files for."""
    found = debug.glob("usr/lib/debug/.build-id/??/*.debug")
    return {path.parent.name + path.name.removesuffix(".debug") for path in found}


def build_id(path: Path) -> str:
    """As binutils reads it."""
    text = subprocess.run(["readelf", "-n", path], check=True, capture_output=True, text=True).stdout
    return text.partition("Build ID: ")[2].partition("\n")[0]


def source_lines(path: Path, debug: Path) -> list[str]:
    """Where the functions of a module are in its sources, as elfutils finds it by build-id below `debug`."""
    where = f"{debug}/usr/lib/debug"
    argv = ["eu-addr2line", "--debuginfo-path", where, "-S", "-j", ".text", "-e", str(path), "0x0", "0x20"]
    environment = {**os.environ, "DEBUGINFOD_URLS": ""}
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()


def test_dbgsym_package(bench: Builder, corpus: Path) -> None:
    """A debug file for every module, found by build-id; a program's of the same package is among them."""
    need_tool("gcc")
    need_tool("readelf")
    need_tool("eu-addr2line")
    chosen = modules.sample(corpus, "amd64", MANY, limit=2_000_000)
    source = bench.source([(path, EXTRA) for path in chosen], rules=RULES + PROGRAM)
    done = bench.build(source)
    assert done.status == 0, done.output
    assert done.debs() == ["demo-modules", "demo-modules-dbgsym"]
    package, debug = done.deb("demo-modules"), done.deb("demo-modules-dbgsym")
    root, debug_root = unpacked(package, bench.home / "root"), unpacked(debug, bench.home / "debug")
    stripped = sorted(root.rglob("*.ko"))
    assert len(stripped) == len(chosen)
    wanted = {build_id(path) for path in (*stripped, root / "usr" / "bin" / "demo")}
    assert "" not in wanted
    assert ids(debug_root) == wanted
    fields = control(debug)
    assert set(fields["Build-Ids"].split()) == wanted
    assert fields["Depends"] == "demo-modules (= 1)"
    assert fields["Auto-Built-Package"] == "debug-symbols"
    assert "Build-Ids" not in control(package)
    assert (debug_root / "usr/share/doc/demo-modules-dbgsym").readlink() == Path("demo-modules")
    for path in stripped[::10]:
        lines = source_lines(path, debug_root)
        assert lines == source_lines(modules.named(corpus, "amd64", path.stem), bench.home / "nowhere")
        assert any(line.split(":")[0].endswith((".c", ".h", ".S")) for line in lines), lines
        assert source_lines(path, bench.home / "nowhere") != lines


def test_package_is_the_same_without_one(bench: Builder, corpus: Path) -> None:
    """`noautodbgsym` leaves out the debug package and changes nothing else."""
    built = []
    for name, options in (("with", "parallel=2"), ("without", "parallel=2 noautodbgsym")):
        here = bench._replace(home=bench.home / name)
        source = here.source([(modules.named(corpus, "amd64", "crc7"), EXTRA)])
        done = here.build(source, DEB_BUILD_OPTIONS=options)
        assert done.status == 0, done.output
        assert (done.debs() == ["demo-modules"]) == (name == "without")
        built.append(done.deb("demo-modules").read_bytes())
    assert built[0] == built[1]


def test_reproducible(bench: Builder, corpus: Path) -> None:
    """Two builds give the same debug package."""
    built = []
    for name, options in (("one", "parallel=1"), ("another", "parallel=2")):
        here = bench._replace(home=bench.home / name)
        source = here.source([(path, EXTRA) for path in modules.sample(corpus, "amd64", 10, limit=500_000)])
        done = here.build(source, DEB_BUILD_OPTIONS=options)
        assert done.status == 0, done.output
        built.append(done.deb("demo-modules-dbgsym").read_bytes())
    assert built[0] == built[1]


# --- which package gets it, without a whole build --------------------------------------------------------------------


def laid(bench: Builder, corpus: Path, *, arch: str = "any", more: str = "", udeb: bool = False) -> Path:
    """A source whose one package has a module in its build directory."""
    source = bench.source([(modules.named(corpus, "amd64", "crc7"), EXTRA)], arch=arch)
    path = source / "debian" / "control"
    text = path.read_text()
    path.write_text(text.replace("Description:", "Package-Type: udeb\nDescription:") if udeb else text + more)
    assert bench.dh(source, "dh_install").status == 0
    return source


def debug_files(source: Path) -> list[Path]:
    """All of them, wherever they are."""
    return [path.relative_to(source / "debian") for path in (source / "debian").rglob("*.debug")]


NONE = {
    "--no-automatic-dbgsym": (("--no-automatic-dbgsym",), {}),
    "--no-ddebs, as dh hands it on": (("-O--no-ddebs",), {}),
    "architecture all": ((), {"arch": "all"}),
    "a udeb": ((), {"udeb": True}),
    "a package of that name": ((), {"more": "\n" + STANZA.format(name="demo-modules-dbgsym", arch="any")}),
}


@pytest.mark.parametrize("why", NONE)
def test_no_debug_package(bench: Builder, corpus: Path, why: str) -> None:
    argv, how = NONE[why]
    source = laid(bench, corpus, **how)  # type: ignore[arg-type]
    done = bench.dh(source, "dh_pkghook", *argv)
    assert done.status == 0, done.output
    assert "1 stripped" in done.output
    assert debug_files(source) == []
    assert not (source / "debian/.debhelper/demo-modules/dbgsym-root").exists()


@pytest.mark.parametrize("layout", ["build-id", "mirror"])
def test_manual_debug_package(bench: Builder, corpus: Path, layout: str) -> None:
    source = laid(bench, corpus, more="\n" + STANZA.format(name="demo-dbg", arch="any"))
    done = bench.dh(source, "dh_pkghook", "--dbg-package=demo-dbg", "--", "--debug-layout", layout)
    assert done.status == 0, done.output
    assert bench.dh(source, "dh_gencontrol").status == 0
    (path,) = debug_files(source)
    fields = (source / "debian/demo-dbg/DEBIAN/control").read_text()
    if layout == "mirror":
        assert str(path) == f"demo-dbg/usr/lib/debug/{EXTRA}/crc7.ko.debug"
    else:
        assert path.match("demo-dbg/usr/lib/debug/.build-id/??/*.debug")
        assert f"Build-Ids: {path.parent.name}{path.stem}\n" in fields


def test_manual_debug_package_that_is_not_there(bench: Builder, corpus: Path) -> None:
    source = laid(bench, corpus)
    done = bench.dh(source, "dh_pkghook", "--dbg-package=demo-dbg")
    assert done.status != 0
    assert "debug package demo-dbg is not listed" in done.output


def test_migration(bench: Builder, corpus: Path) -> None:
    source = laid(bench, corpus)
    assert bench.dh(source, "dh_pkghook", "--dbgsym-migration=demo-dbg (<< 2)").status == 0
    assert bench.dh(source, "dh_gencontrol").status == 0
    text = (source / "debian/.debhelper/demo-modules/dbgsym-root/DEBIAN/control").read_text()
    assert "Replaces: demo-dbg (<< 2)\n" in text
    assert "Breaks: demo-dbg (<< 2)\n" in text


def test_module_without_build_id(bench: Builder, corpus: Path) -> None:
    """It has its debug file below its own path."""
    source = laid(bench, corpus)
    module = source / "debian" / "demo-modules" / EXTRA / "crc7.ko"
    subprocess.run(["objcopy", "--remove-section=.note.gnu.build-id", module], check=True)
    done = bench.dh(source, "dh_pkghook")
    assert done.status == 0, done.output
    assert debug_files(source) == [Path(f".debhelper/demo-modules/dbgsym-root/usr/lib/debug/{EXTRA}/crc7.ko.debug")]
    assert bench.dh(source, "dh_gencontrol").status == 0


def test_twice_is_as_once(bench: Builder, corpus: Path) -> None:
    """A second call, as from an override behind the addon, finds all done and loses nothing."""
    source = laid(bench, corpus)
    once = bench.dh(source, "dh_pkghook"), debug_files(source)
    twice = bench.dh(source, "dh_pkghook"), debug_files(source)
    assert once[0].status == twice[0].status == 0
    assert once[1] == twice[1] != []
    assert bench.dh(source, "dh_gencontrol").status == 0
    text = (source / "debian/.debhelper/demo-modules/dbgsym-root/DEBIAN/control").read_text()
    assert len(text.partition("Build-Ids: ")[2].splitlines()[0].split()) == 1
