"""dh_pkghook in real builds: `dpkg-buildpackage` on real modules."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pkghook.chain.tools import Tools
from tests import inprocess, modules
from tests.liars.tools import liar
from tests.packages.debian import EXTRA, HOOKS, RULES, WORD, Builder, Done, builder, control, unpacked
from tests.support import need_tool

SMALL = ("crc-itu-t", "crc7")
LIES = ("asserts", "drops .modinfo", "fails with many words", "is killed", "writes half a module", "writes nothing")


@pytest.fixture
def bench(tmp_path: Path) -> Builder:
    return builder(tmp_path)


def some(corpus: Path, *names: str, kernel: str = "amd64") -> list[tuple[Path, str]]:
    """Unstripped modules, and where they are installed."""
    return [(modules.named(corpus, kernel, name), EXTRA) for name in names]


def sizes(done: Done) -> dict[str, int]:
    """Bytes of each module in the built package."""
    root = unpacked(done.deb("demo-modules"), done.home / "unpacked")
    return {path.stem: path.stat().st_size for path in root.rglob("*.ko*")}


def same_to_the_loader(bench: Builder, before: Path, after: Path) -> bool:
    done = bench.dh(bench.home, "pkghook", "verify", str(before), str(after))
    return done.status == 0


def test_without_the_word_nobody_strips_a_module(bench: Builder, corpus: Path) -> None:
    """What dh_pkghook is there for: dh_strip leaves modules as they are, and says nothing."""
    done = bench.build(bench.source(some(corpus, "xfs"), build_depends="debhelper"))
    assert done.status == 0, done.output
    assert sizes(done) == {"xfs": modules.named(corpus, "amd64", "xfs").stat().st_size}
    assert int(control(done.deb("demo-modules"))["Installed-Size"]) > 42_000
    assert "pkghook" not in done.output


def test_with_the_word(bench: Builder, corpus: Path) -> None:
    """Stripped before dh_gencontrol counts and dh_md5sums sums, and the same to the loader."""
    names = ("xfs", *SMALL)
    done = bench.build(bench.source(some(corpus, *names)))
    assert done.status == 0, done.output
    package = done.deb("demo-modules")
    root = unpacked(package, bench.home / "root")
    for path in root.rglob("*.ko"):
        before = modules.named(corpus, "amd64", path.stem)
        assert path.stat().st_size < before.stat().st_size / 8
        assert same_to_the_loader(bench, before, path)
    assert len(list(root.rglob("*.ko"))) == len(names)
    assert 4_100 < int(control(package)["Installed-Size"]) < 4_200
    summed = bench.dh(root, "sh", "-c", f"dpkg-deb -e {package} DEBIAN && md5sum -c DEBIAN/md5sums")
    assert summed.status == 0, summed.output
    receipt = json.loads((bench.home / "source" / RECEIPT).read_text())
    assert receipt["mode"] == "strip"
    assert len(receipt["entries"]) == len(names)


RECEIPT = "debian/.debhelper/generated/demo-modules/pkghook-receipt.json"
OLD_STYLE = """\
#!/usr/bin/make -f
build build-arch build-indep:
clean:
\tdh_clean
binary-indep:
binary binary-arch: build
\tdh_testdir
\tdh_prep
\tdh_install -a
\tdh_strip -a
\tdh_pkghook -a
\tdh_compress -a
\tdh_fixperms -a
\tdh_installdeb -a
\tdh_gencontrol -a
\tdh_md5sums -a
\tdh_builddeb -a
.PHONY: build build-arch build-indep clean binary binary-arch binary-indep
"""
WAYS = {
    "--with pkghook": RULES.replace("dh $@", "dh $@ --with pkghook"),
    "old-style rules": OLD_STYLE,
    "override_dh_strip": f"{RULES}\noverride_dh_strip:\n\tdh_strip\n\tdh_pkghook\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_to_ask_for_it(bench: Builder, corpus: Path, way: str) -> None:
    done = bench.build(bench.source(some(corpus, *SMALL), build_depends="debhelper", rules=WAYS[way]))
    assert done.status == 0, done.output
    assert all(size < 20_000 for size in sizes(done).values()), done.output


def test_override_dh_strip_does_not_switch_it_off(bench: Builder, corpus: Path) -> None:
    rules = f"{RULES}\noverride_dh_strip:\n\techo not today\n"
    done = bench.build(bench.source(some(corpus, *SMALL), rules=rules))
    assert done.status == 0, done.output
    assert all(size < 20_000 for size in sizes(done).values()), done.output


def test_nostrip(bench: Builder, corpus: Path) -> None:
    """By Policy nothing is stripped then, and nobody complains that nothing is; even a signed module passes."""
    source = bench.source(some(corpus, *SMALL))
    (source / "crc7.ko").write_bytes(signed(corpus))
    done = bench.build(source, DEB_BUILD_OPTIONS="nostrip parallel=2")
    assert done.status == 0, done.output
    assert all(size > 100_000 for size in sizes(done).values())
    assert done.debs() == ["demo-modules"]


def signed(corpus: Path) -> bytes:
    """An unstripped module with a real signature behind it."""
    module = modules.named(corpus, "amd64", "crc7")
    return module.read_bytes() + inprocess.trailer(modules.shipped(corpus, "amd64", module).read_bytes())


def test_signed_module_stops_the_build(bench: Builder, corpus: Path) -> None:
    source = bench.source(some(corpus, *SMALL))
    (source / "crc7.ko").write_bytes(signed(corpus))
    done = bench.build(source)
    assert done.status == 2
    assert f"{EXTRA}/crc7.ko" in done.output
    assert "[signed-unstripped]" in done.output
    assert done.debs() == []


def test_module_that_cannot_be_stripped_stops_the_build(bench: Builder, corpus: Path) -> None:
    source = bench.source(some(corpus, *SMALL))
    (source / "crc7.ko").write_bytes((source / "crc7.ko").read_bytes()[:50_000])
    done = bench.build(source)
    assert done.status == 2
    assert f"{EXTRA}/crc7.ko" in done.output
    assert "dh_pkghook: error: pkghook strip debian/demo-modules" in done.output
    assert done.debs() == []


def test_broken_tools_on_path(bench: Builder, corpus: Path) -> None:
    """The chain falls past tools that lie, to the one that does not; the build goes on and tells of it."""
    honest = need_tool("objcopy")
    for tool, lie in zip(("strip", "eu-strip", "llvm-strip"), LIES, strict=False):
        liar(bench.home / "bin", tool, lie, objcopy=honest)
    source = bench.source(
        some(corpus, *SMALL), files={"demo-modules.pkghook": "--chain strip,eu-strip,llvm-strip,objcopy\n"}
    )
    done = bench.dh(source, "dh", "binary")
    assert done.status == 0, done.output
    assert all(size < 20_000 for size in sizes(done).values())
    assert "[fell-through]" in done.output
    assert "by objcopy" in done.output


@pytest.mark.parametrize("lie", LIES)
def test_every_step_broken(bench: Builder, corpus: Path, lie: str) -> None:
    """Nothing acceptable comes out of any step: the build stops, and the module is what it was."""
    honest = need_tool("objcopy")
    for tool in ("strip", "eu-strip", "llvm-strip", "objcopy"):
        liar(bench.home / "bin", tool, lie, objcopy=honest)
    source = bench.source(
        some(corpus, "crc7"), files={"pkghook": "# no native\n--chain\tstrip,eu-strip,llvm-strip,objcopy\n"}
    )
    assert bench.dh(source, "dh_install").status == 0
    done = bench.dh(source, "dh_pkghook")
    assert done.status != 0
    assert f"{EXTRA}/crc7.ko" in done.output
    assert "[chain-exhausted]" in done.output
    left = source / "debian" / "demo-modules" / EXTRA / "crc7.ko"
    assert left.read_bytes() == modules.named(corpus, "amd64", "crc7").read_bytes()


@pytest.mark.parametrize("chain", ["native", "objcopy", "strip"])
def test_cross_build(bench: Builder, corpus: Path, chain: str) -> None:
    """arm64 modules built on another machine: in process without any tool, or by the tools for that machine."""
    if chain == "native":  # nothing for arm64 is to be found
        programs = bench.home / "bin"
        for tool in ("objcopy", "strip", "eu-strip", "llvm-strip"):
            liar(programs, tool, "fails without a word")
            liar(programs, f"aarch64-linux-gnu-{tool}", "fails without a word")
    else:
        need_tool(f"aarch64-linux-gnu-{chain}")
    source = bench.source(
        some(corpus, *SMALL, kernel="arm64"), arch="arm64", files={"demo-modules.pkghook": f"--chain {chain}\n"}
    )
    done = bench.build(source, "-aarm64", PKGHOOK_VERBOSE="1")
    assert done.status == 0, done.output
    assert control(done.deb("demo-modules"))["Architecture"] == "arm64"
    assert all(size < 20_000 for size in sizes(done).values()), done.output
    tools = (source / RECEIPT).read_text()
    assert chain == "native" or f"aarch64-linux-gnu-{chain}: GNU {chain}" in tools


# Debian's architectures that have a kernel, ports included, and the machine (ELF e_machine) of its modules.
ARCHITECTURES = {
    "amd64": 62, "arm64": 183, "armel": 40, "armhf": 40, "i386": 3, "mips64el": 8, "mipsel": 8, "ppc64el": 21,
    "riscv64": 243, "s390x": 22, "alpha": 0x9026, "hppa": 15, "ia64": 50, "loong64": 258, "m68k": 4, "powerpc": 20,
    "ppc64": 21, "sh4": 42, "sparc64": 43,
}  # fmt: skip


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_cross_tools_are_those_that_debhelper_takes(bench: Builder, arch: str) -> None:
    """Its `cross_command` goes by the architecture, pkghook by the module: both come to the same name."""
    perl = "use Debian::Debhelper::Dh_Lib; print cross_command('demo-modules', 'objcopy')"
    script = f'DEB_HOST_GNU_TYPE=$(dpkg-architecture -f -a{arch} -qDEB_HOST_GNU_TYPE) perl -e "{perl}" 2>/dev/null'
    done = bench.dh(bench.source([]), "sh", "-c", script, DEB_HOST_ARCH=arch)
    tool = done.output.splitlines()[-1]
    assert tool.endswith("objcopy")
    assert tool in Tools(host=0).candidates("objcopy", ARCHITECTURES[arch])


def test_reproducible(bench: Builder, corpus: Path) -> None:
    """Two builds in two directories, one after the other and with other jobs: the same bytes."""
    built = []
    for name, jobs in (("one", "parallel=1"), ("another place", "parallel=2")):
        here = bench._replace(home=bench.home / name)
        done = here.build(here.source(some(corpus, *SMALL, "xfs")), DEB_BUILD_OPTIONS=jobs)
        assert done.status == 0, done.output
        built.append({path.name: path.read_bytes() for path in done.home.glob("*.deb")})
    assert built[0] == built[1]


def test_package_without_modules(bench: Builder) -> None:
    """Not one byte changes, nothing is said; a text in Korean is named like a module, before and after dh_compress."""
    packages = [korean(bench._replace(home=bench.home / word), word) for word in ("debhelper", WORD)]
    assert packages[0].read_bytes() == packages[1].read_bytes()
    listed = bench.dh(bench.home, "dpkg-deb", "-c", str(packages[1])).output
    assert "README.ko.gz" in listed
    assert "INSTALL.ko\n" in listed


def korean(bench: Builder, word: str) -> Path:
    """A package built of documentation."""
    source = bench.source([], build_depends=word, files={"demo-modules.docs": "INSTALL.ko\nREADME.ko\n"})
    (source / "README.ko").write_text("한국어\n" * 2000)
    (source / "INSTALL.ko").write_text("설치\n")
    done = bench.build(source)
    assert done.status == 0, done.output
    assert ("dh_pkghook" in done.output) == (word == WORD)
    assert "modules found" not in done.output
    return done.deb("demo-modules")


# --- the gate --------------------------------------------------------------------------------------------------------

GATE = f"{RULES}\noverride_dh_pkghook:\n\tdh_pkghook --audit-only\n"


def test_gate_lets_signed_modules_through(bench: Builder, corpus: Path) -> None:
    """What linux-signed-* packages: stripped, then signed. Nothing is touched."""
    ready = [(modules.shipped(corpus, "amd64", path), place) for path, place in some(corpus, *SMALL)]
    done = bench.build(bench.source(ready, rules=GATE))
    assert done.status == 0, done.output
    for path in unpacked(done.deb("demo-modules"), bench.home / "root").rglob("*.ko"):
        assert path.read_bytes() == (bench.home / "source" / path.name).read_bytes()
        assert path.read_bytes().endswith(inprocess.MARKER)
    assert done.debs() == ["demo-modules"]


def test_gate_stops_the_build(bench: Builder, corpus: Path) -> None:
    source = bench.source(some(corpus, *SMALL), rules=GATE)
    shutil.copy(modules.shipped(corpus, "amd64", modules.named(corpus, "amd64", "crc7")), source)
    done = bench.build(source)
    assert done.status == 2
    assert f"{EXTRA}/crc-itu-t.ko" in done.output
    assert f"{EXTRA}/crc7.ko" not in done.output
    assert "[unstripped]" in done.output
    assert done.debs() == []


def test_gate_is_open_by_policy(bench: Builder, corpus: Path) -> None:
    """`nostrip` asks for unstripped modules; then nobody may complain that they are."""
    done = bench.build(bench.source(some(corpus, *SMALL), rules=GATE), DEB_BUILD_OPTIONS="nostrip")
    assert done.status == 0, done.output


GATED = {
    "nothing said": ("", {"demo-modules", "demo-more"}),
    "-N": ("-Ndemo-more", {"demo-modules"}),
    "-X of all": ("-X/extra/", set()),
    "kept": ("-- --keep *.ko=wanted", set()),
}


@pytest.mark.parametrize("choice", GATED)
def test_gate_options(bench: Builder, laid: Path, choice: str) -> None:
    """The gate knows the same options; -dbg packages are not its concern. The first that fails ends it."""
    words, wrong = GATED[choice]
    before = {path: path.read_bytes() for path in (laid / "debian").rglob("*.ko")}
    done = bench.dh(laid, "dh_pkghook", "--audit-only", *words.split(" " if words else None))
    assert (done.status != 0) == bool(wrong), done.output
    assert ("[unstripped]" in done.output) == bool(wrong)
    assert {path: path.read_bytes() for path in (laid / "debian").rglob("*.ko")} == before
    assert wrong or done.output == ""


def test_gate_where_there_is_no_module(bench: Builder) -> None:
    """Silence, unless modules were asked for."""
    source = bench.source([])
    (source / "debian" / "demo-modules" / "usr/share/doc/demo").mkdir(parents=True)
    (source / "debian" / "demo-modules" / "usr/share/doc/demo/README.ko").write_text("한국어\n")
    assert bench.dh(source, "dh_pkghook", "--audit-only") == (0, "", bench.home)
    (source / "debian" / "demo-modules" / "usr/share/doc/demo/README.ko").unlink()
    assert bench.dh(source, "dh_pkghook", "--audit-only") == (0, "", bench.home)
    done = bench.dh(source, "dh_pkghook", "--audit-only", "--", "--require-modules")
    assert done.status != 0
    assert "[no-modules]" in done.output


# --- the options of debhelper, without a whole build -----------------------------------------------------------------


@pytest.fixture
def laid(bench: Builder, corpus: Path) -> Path:
    """A source whose build directories have modules in them: two packages with two each, and a -dbg package."""
    source = bench.source([])
    stanza = "\nPackage: {0}\nArchitecture: any\nDescription: demo\n demo\n"
    with (source / "debian" / "control").open("a") as file:
        file.write(stanza.format("demo-more") + stanza.format("demo-dbg"))
    for package in ("demo-modules", "demo-more", "demo-dbg"):
        place = source / "debian" / package / EXTRA
        place.mkdir(parents=True)
        for name in SMALL:
            shutil.copy(modules.named(corpus, "amd64", name), place)
    return source


def unstripped(source: Path) -> set[str]:
    """What is still as large as it was, as package/module; -dbg packages always are."""
    found = {path for path in (source / "debian").rglob("*.ko") if path.stat().st_size > 100_000}
    names = {f"{path.relative_to(source).parts[1]}/{path.stem}" for path in found}
    dbg = {f"demo-dbg/{name}" for name in SMALL}
    assert dbg <= names
    return names - dbg


ALL = {f"{package}/{name}" for package in ("demo-modules", "demo-more") for name in SMALL}
CHOICES = {
    "nothing said": ("", set()),
    "-p": ("-pdemo-more", {"demo-modules/crc7", "demo-modules/crc-itu-t"}),
    "-N": ("-Ndemo-more", {"demo-more/crc7", "demo-more/crc-itu-t"}),
    "-X": ("-Xcrc7", {"demo-modules/crc7", "demo-more/crc7"}),
    "-X twice": ("-Xextra/crc7 -X-itu", ALL),
    "-X of a package": ("-X/demo-more/", {"demo-more/crc7", "demo-more/crc-itu-t"}),
    "-X that means itself": ("-X*", set()),
    "--no-act": ("--no-act", ALL),
    "-i": ("-i", ALL),
    "-a": ("-a", set()),
    "behind --": ("-- --keep crc7.ko=wanted", {"demo-modules/crc7", "demo-more/crc7"}),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_options(bench: Builder, laid: Path, choice: str) -> None:
    words, left = CHOICES[choice]
    done = bench.dh(laid, "dh_pkghook", *words.split(" " if words else None))
    assert done.status == 0, done.output
    assert unstripped(laid) == left


VARIABLES = {
    "DH_NO_ACT": ("1", ALL),
    "DH_OPTIONS": ("-pdemo-more", {"demo-modules/crc7", "demo-modules/crc-itu-t"}),
    "DH_ALWAYS_EXCLUDE": ("crc7:none", {"demo-modules/crc7", "demo-more/crc7"}),
    "DH_INTERNAL_OPTIONS": ("-Xcrc7\x1e-Ndemo-more", {"demo-modules/crc7", "demo-more/crc7", "demo-more/crc-itu-t"}),
}


@pytest.mark.parametrize("name", VARIABLES)
def test_variables(bench: Builder, laid: Path, name: str) -> None:
    value, left = VARIABLES[name]
    done = bench.dh(laid, "dh_pkghook", **{name: value})
    assert done.status == 0, done.output
    assert unstripped(laid) == left


def test_texts_beside_modules(bench: Builder, laid: Path) -> None:
    """What pkghook does not look at needs no keep entry, which would be one that matches nothing."""
    (laid / "debian" / "demo-more" / "usr/share/doc/demo").mkdir(parents=True)
    (laid / "debian" / "demo-more" / "usr/share/doc/demo/README.ko").write_text("한국어\n")
    done = bench.dh(laid, "dh_pkghook")
    assert done.status == 0, done.output
    assert unstripped(laid) == set()
    assert "unused-keep" not in done.output


def test_modules_anywhere(bench: Builder, corpus: Path) -> None:
    """Without a lib/modules they may be anywhere, as those of User Mode Linux are; a text still is none."""
    source = bench.source([])
    for place in ("usr/lib/uml/modules/6.1.0/kernel", "usr/share/doc/demo", "usr/share/demo"):
        (source / "debian" / "demo-modules" / place).mkdir(parents=True)
    root = source / "debian" / "demo-modules"
    shutil.copy(modules.named(corpus, "amd64", "crc7"), root / "usr/lib/uml/modules/6.1.0/kernel")
    shutil.copy(modules.named(corpus, "amd64", "crc7"), root / "usr/share/demo/odd.ko")
    (root / "usr/share/doc/demo/README.ko").write_text("한국어\n")
    done = bench.dh(source, "dh_pkghook")
    assert done.status == 0, done.output
    assert [path.name for path in root.rglob("*.ko") if path.stat().st_size > 20_000] == []
    assert (root / "usr/share/doc/demo/README.ko").read_text() == "한국어\n"


def test_odd_names(bench: Builder, laid: Path) -> None:
    """A name full of what means something in a glob is excluded, and no other."""
    place = laid / "debian" / "demo-modules" / EXTRA
    for name in ("a[b]*?=c", "ab"):
        shutil.copy(place / "crc7.ko", place / f"{name}.ko")
    done = bench.dh(laid, "dh_pkghook", "-X[b]*?=c")
    assert done.status == 0, done.output
    assert unstripped(laid) == {"demo-modules/a[b]*?=c"}
    assert "unused" not in done.output


def test_options_file(bench: Builder, laid: Path) -> None:
    """One option a line, of one package; its value may have blanks in it. The command line comes behind it."""
    text = "# why\n\n--keep **/crc7.ko=the vendor wants it\n  --keep\t**/crc-itu-t.ko=${env:WHY}\n--chain objcopy\n"
    (laid / "debian" / "demo-more.pkghook").write_text(text)
    done = bench.dh(laid, "dh_pkghook", "-v", "--", "--chain", "native", WHY="no reason")
    assert done.status == 0, done.output
    assert unstripped(laid) == {"demo-more/crc7", "demo-more/crc-itu-t"}
    assert "the vendor wants it" in done.output
    assert "no reason" in done.output
    receipt = laid / "debian" / ".debhelper" / "generated" / "demo-modules" / "pkghook-receipt.json"
    assert ["chain", "native"] in json.loads(receipt.read_text())["settings"]


def test_options_file_with_a_mistake(bench: Builder, laid: Path) -> None:
    (laid / "debian" / "pkghook").write_text("--chian native\n")
    done = bench.dh(laid, "dh_pkghook")
    assert done.status != 0
    assert "--chian" in done.output
    assert unstripped(laid) == ALL


def test_unknown_option(bench: Builder, laid: Path) -> None:
    done = bench.dh(laid, "dh_pkghook", "--audit")
    assert done.status != 0
    assert "unknown option" in done.output.lower()
    assert unstripped(laid) == ALL


def test_how_much_is_said(bench: Builder, laid: Path) -> None:
    """-v shows the command and each module; DH_QUIET nothing; without both the sums."""
    assert "pkghook strip debian/demo-modules --jobs 2" in bench.dh(laid, "dh_pkghook", "-v", "--no-act").output
    loud = bench.dh(laid, "dh_pkghook", "-v", "-pdemo-more").output
    assert "crc7.ko: " in loud
    assert "--jobs 1" in bench.dh(laid, "dh_pkghook", "-v", "--no-act", DEB_BUILD_OPTIONS="").output
    assert bench.dh(laid, "dh_pkghook", DH_QUIET="1").output == ""
    (laid / "debian" / "demo-more" / EXTRA / "crc7.ko").unlink()
    assert "1 module: 1 already-stripped" in bench.dh(laid, "dh_pkghook", "-pdemo-more").output


def test_pkghook_is_missing(bench: Builder, laid: Path) -> None:
    (bench.home / "bin" / "pkghook").unlink()
    done = bench.dh(laid, "dh_pkghook", PATH=f"{bench.home}/bin:/usr/bin:/bin")
    assert done.status != 0
    assert "exec" in done.output


def test_no_promise() -> None:
    """dh evaluates such a line itself and drops the command, without a word, where it comes to `nothing to do`."""
    assert "PROMISE" not in (HOOKS / "dh_pkghook").read_text()
