"""`pkghook record` on real modules, real tools in between, and what the record says afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pkghook import cli
from pkghook.findings import Finding
from pkghook.ko import codec, file, record
from pkghook.ko.compare import judge_recorded
from pkghook.ko.elf import parse
from pkghook.ko.facts import facts
from pkghook.ko.plan import plan
from pkghook.model import Compression, Proof
from pkghook.sources import Found
from pkghook.sources.tree import Tree
from tests import inprocess, shapes
from tests.support import need_kernel, need_tool
from tests.surgery import Patient, native_strip

if TYPE_CHECKING:
    from pkghook.ko.facts import Facts

LIMIT = 4 << 30
HOME = "lib/modules/6.1.0/kernel"
CROSS = {"amd64": "", "arm64": "aarch64-linux-gnu-", "s390x": "s390x-linux-gnu-", "armel": "arm-linux-gnueabi-"}
RIGHT = {
    "strip": ("{}strip", "-g"),
    "objcopy": ("{}objcopy", "--strip-debug"),
    "eu-strip": ("eu-strip", "-g"),
    "llvm-strip": ("llvm-strip", "--strip-debug"),
}


class Build(NamedTuple):
    """A buildroot whose modules were recorded, and the record."""

    root: Path
    record: record.Record

    def judged(self) -> dict[str, tuple[Proof, list[Finding]]]:
        """What the record says of each module that is there now, by file name."""
        with Tree(str(self.root)) as tree:
            return {Path(found.path).name: self.one(tree, found) for found in tree.walk().modules}

    def one(self, tree: Tree, found: Found) -> tuple[Proof, list[Finding]]:
        """What it says of one."""
        source = tree.open(found)

        def now() -> Facts:
            module = file.load(source.fd, source.name, limit=LIMIT)
            elf = parse(module.image)
            return facts(elf, plan(elf), module.trailer)

        try:
            proof, findings = judge_recorded(self.record, (found.path,), source.stat, now)
        finally:
            os.close(source.fd)
        return proof, list(findings)

    def only(self) -> tuple[Proof, list[Finding]]:
        """What it says of the one module that there is."""
        (found,) = self.judged().values()
        return found

    def modules(self) -> list[Path]:
        """All of them."""
        return sorted(path for path in self.root.rglob("*.ko*") if path.is_file())


def recorded(root: Path) -> Build:
    """The tree, recorded by the command."""
    where = root.with_name(f"{root.name}.record")
    assert cli.main(["record", str(root), "--out", str(where), "-q"]) == 0
    return Build(root, record.read(str(where)))


def some(directory: Path, number: int, pattern: str = "*.ko") -> list[Path]:
    """Modules of all sizes but the very large, the smallest among them."""
    paths = sorted(directory.rglob(pattern), key=lambda path: (path.stat().st_size, path))
    small = [path for path in paths if path.stat().st_size < 20_000_000]
    return small[:: max(1, len(small) // number)]


def planted(paths: list[Path], root: Path) -> Path:
    """Copies of these modules as a buildroot."""
    home = root / HOME
    home.mkdir(parents=True)
    for path in paths:
        shutil.copyfile(path, home / path.name)
    return root


def ran(tool: tuple[str, ...], kernel: str, *paths: Path) -> None:
    """The tool on these files, in place; it has to succeed."""
    name, *options = tool
    subprocess.run([need_tool(name.format(CROSS[kernel])), *options, *paths], check=True, capture_output=True)


def stripped(tool: str, kernel: str, *paths: Path) -> None:
    """By a tool that does it right."""
    for batch in [[path] for path in paths] if tool == "objcopy" else [paths]:  # its second file would be its output
        ran(RIGHT[tool], kernel, *batch)


def ids(found: tuple[Proof, list[Finding]]) -> list[str]:
    """The finding ids, each once."""
    return list(dict.fromkeys(finding.id for finding in found[1]))


def evidence(found: tuple[Proof, list[Finding]], id: str) -> list[dict[str, str | int]]:
    """That of all findings of a kind."""
    return [dict(finding.evidence) for finding in found[1] if finding.id == id]


@pytest.fixture(scope="module")
def hundred(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A hundred unstripped modules, recorded. Never change them: see `copied`."""
    root = tmp_path_factory.mktemp("hundred") / "root"
    return recorded(planted(some(need_kernel(corpus, "amd64", "dbg"), 100), root))


@pytest.fixture
def copied(hundred: Build, tmp_path: Path) -> Build:
    """The same with files that may be changed."""
    root = tmp_path / "root"
    shutil.copytree(hundred.root, root)
    return hundred._replace(root=root)


@pytest.fixture
def build(corpus: Path, tmp_path: Path) -> Build:
    """One unstripped module that exports symbols, has .BTF and a build-id, recorded."""
    module = next(need_kernel(corpus, "amd64", "dbg").rglob("crc-itu-t.ko"))
    return recorded(planted([module], tmp_path / "root"))


@pytest.fixture
def module(build: Build) -> Path:
    """That module."""
    return build.modules()[0]


# --- tools that do it right ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", RIGHT)
def test_right_tools_keep_what_was_recorded(copied: Build, tool: str) -> None:
    assert len(copied.record.entries) >= 100
    before = {path: path.stat().st_size for path in copied.modules()}
    stripped(tool, "amd64", *copied.modules())
    assert all(path.stat().st_size < size for path, size in before.items())
    assert set(map(str, copied.judged().values())) == {str((Proof.RECORDED, []))}


@pytest.mark.parametrize("kernel", ["arm64", "s390x", "armel"])
def test_other_machines(corpus: Path, kernel: str, tmp_path: Path) -> None:
    build = recorded(planted(some(need_kernel(corpus, kernel, "dbg"), 12), tmp_path / "root"))
    originals = {path: path.read_bytes() for path in build.modules()}
    for tool in RIGHT:
        for path, data in originals.items():
            path.write_bytes(data)
        stripped(tool, kernel, *build.modules())
        assert set(map(str, build.judged().values())) == {str((Proof.RECORDED, []))}, tool


def test_what_debian_ships_is_what_was_recorded_but_signed(corpus: Path, hundred: Build, tmp_path: Path) -> None:
    """Stripped and signed elsewhere, from the same build."""
    names = {path.name for path in hundred.modules()}
    shipped = [path for path in need_kernel(corpus, "amd64").rglob("*.ko") if path.name in names]
    build = hundred._replace(root=planted(shipped, tmp_path / "root"))
    assert set(map(str, build.judged().values())) == {str((Proof.RECORDED, []))}


@pytest.mark.parametrize("how", [Compression.GZIP, Compression.XZ, Compression.ZSTD])
def test_compressed_in_between(build: Build, module: Path, how: Compression) -> None:
    data = native_strip(module.read_bytes())
    module.unlink()
    module.with_name(module.name + how.suffix).write_bytes(codec.compress(data, how))
    assert build.only() == (Proof.RECORDED, [])


def test_compressed_and_signed_when_recorded(corpus: Path, tmp_path: Path) -> None:
    paths = some(need_kernel(corpus, "amd64-6.12"), 8, "*.ko.xz")
    build = recorded(planted(paths, tmp_path / "root"))
    assert all(entry.facts.signature and entry.compression is Compression.XZ for entry in build.record.entries)
    for path in build.modules():
        path.write_bytes(path.read_bytes())
    assert set(map(str, build.judged().values())) == {str((Proof.RECORDED, []))}
    for path in build.modules():
        path.with_suffix("").write_bytes(codec.decompress(path.read_bytes(), Compression.XZ, LIMIT))
        path.unlink()
    assert set(map(str, build.judged().values())) == {str((Proof.RECORDED, []))}


# --- tools that lose something ---------------------------------------------------------------------------------------


def test_eu_strip_without_g_eats_btf(copied: Build) -> None:
    ran(("eu-strip",), "amd64", *copied.modules())
    for found in copied.judged().values():
        assert (found[0], ids(found)) == (Proof.NONE, ["section-changed", "unread-lost"])
        assert [said["section"] for said in evidence(found, "section-changed")] == [".BTF"]


def test_find_debuginfo_s_eu_strip_told_to_keep_btf(copied: Build) -> None:
    """What it takes from every module then is read by nobody."""
    ran(("eu-strip", "--remove-comment", "--keep-section", ".BTF"), "amd64", *copied.modules())
    for found in copied.judged().values():
        assert (found[0], ids(found)) == (Proof.RECORDED, ["unread-lost"])
        assert evidence(found, "unread-lost")[0]["sections"] == ".comment .note.GNU-stack"


def test_what_find_debuginfo_s_eu_strip_takes_from_other_machines(corpus: Path, tmp_path: Path) -> None:
    """s390x and armel have no .BTF: nothing that is read is lost, as the plain `%debug_package` has it."""
    for kernel, lost in (("s390x", ".comment .note.GNU-stack"), ("armel", ".comment .note.GNU-stack .ARM.attributes")):
        build = recorded(planted(some(need_kernel(corpus, kernel, "dbg"), 12), tmp_path / kernel))
        ran(("eu-strip", "--remove-comment"), "amd64", *build.modules())
        for found in build.judged().values():
            assert (found[0], ids(found)) == (Proof.RECORDED, ["unread-lost"])
            assert sorted(str(evidence(found, "unread-lost")[0]["sections"]).split()) == sorted(lost.split())


def test_find_debuginfo_s_eu_strip_and_kernel_7(tmp_path: Path) -> None:
    """Its modules have a .note.GNU-stack of each type, one of which is taken."""
    path = tmp_path / "root" / HOME / "m.ko"
    path.parent.mkdir(parents=True)
    path.write_bytes(shapes.module(shapes.AMD64, shapes.Sec(".note.GNU-stack", type=shapes.NOTE, key="of a note")))
    build = recorded(tmp_path / "root")
    ran(("eu-strip", "--remove-comment"), "amd64", path)
    found = build.only()
    assert (found[0], ids(found)) == (Proof.RECORDED, ["unread-lost"])
    assert evidence(found, "unread-lost")[0]["sections"] == ".comment .note.GNU-stack"
    assert Patient(path.read_bytes()).names.count(".note.GNU-stack") == 1


def test_strip_unneeded_loses_symbols(copied: Build) -> None:
    ran(("strip", "--strip-unneeded"), "amd64", *copied.modules())
    for found in copied.judged().values():
        assert (found[0], ids(found)) == (Proof.NONE, ["symbol-changed"])
        (said,) = evidence(found, "symbol-changed")
        assert str(said["symbol"]).isprintable()
        assert isinstance(said["symbols_before"], int)
        assert said["lost"] == said["symbols_before"] - int(said["symbols_after"])


def test_plain_strip_leaves_no_module(build: Build, module: Path) -> None:
    ran(("llvm-strip",), "amd64", module)
    proof, findings = build.only()
    assert (proof, [finding.id for finding in findings]) == (Proof.NONE, ["no-symbol-table"])


def test_strip_drops_the_signature(corpus: Path, tmp_path: Path) -> None:
    build = recorded(planted(some(need_kernel(corpus, "amd64"), 20), tmp_path / "root"))
    ran(("strip", "-g"), "amd64", *build.modules())
    for found in build.judged().values():
        assert (found[0], ids(found)) == (Proof.NONE, ["signature-lost"])
        assert int(evidence(found, "signature-lost")[0]["bytes"]) > 40


def test_signature_put_back_on_other_bytes(corpus: Path, tmp_path: Path) -> None:
    """And a signature of one's own is fine: it is told."""
    build = recorded(planted(some(need_kernel(corpus, "amd64"), 1)[:1], tmp_path / "root"))
    (path,) = build.modules()
    data = path.read_bytes()
    trailer = data[-build.record.entries[0].facts.signature :]
    ran(("objcopy", "--add-gnu-debuglink=/dev/null"), "amd64", path)
    path.write_bytes(path.read_bytes() + trailer)
    assert ids(build.only()) == ["signature-stale"]
    path.write_bytes(data[: -len(trailer)] + bytes([trailer[0] ^ 1]) + trailer[1:])
    assert (build.only()[0], ids(build.only())) == (Proof.RECORDED, ["signature-differs"])


@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
@pytest.mark.parametrize("tool", ["strip", "objcopy", "eu-strip"])
def test_livepatch(shape: str, tool: str, tmp_path: Path) -> None:
    """GNU strip ruins two of the three shapes and exits 0; elfutils does none of that."""
    path = tmp_path / "root" / HOME / "livepatch.ko"
    path.parent.mkdir(parents=True)
    path.write_bytes(shapes.livepatch(shape))
    build = recorded(tmp_path / "root")
    assert build.record.entries[0].facts.livepatch
    stripped(tool, "amd64", path)
    if shape == "a" or tool == "eu-strip":
        assert build.only() == (Proof.RECORDED, [])
    else:
        assert build.only()[0] is Proof.NONE
        assert "livepatch-changed" in ids(build.only())


def test_debugedit_and_a_debuglink_are_fine(build: Build, module: Path) -> None:
    """What find-debuginfo of RPM does, if it is told to keep what is not debug information."""
    before = build.record.entries[0].facts
    seed: list[str | Path] = [need_tool("debugedit"), "-b", "/", "-d", "/usr/src", "-i", "--build-id-seed=1", module]
    subprocess.run(seed, check=True, capture_output=True)
    debug = module.with_suffix(".debug")
    ran(("objcopy", "--only-keep-debug"), "amd64", module, debug)
    ran(("eu-strip", "-g"), "amd64", module)
    ran(("objcopy", f"--add-gnu-debuglink={debug}"), "amd64", module)
    with module.open("rb") as opened:
        elf = parse(file.load(opened.fileno(), module.name, limit=LIMIT).image)
        now = facts(elf, plan(elf))
    assert now.build_id != before.build_id
    assert ".gnu_debuglink" in [part.name for part in now.others]
    assert build.only() == (Proof.RECORDED, [])


# --- every kind of damage --------------------------------------------------------------------------------------------


def test_damage_of_a_real_module(build: Build, module: Path) -> None:
    whole = native_strip(module.read_bytes())

    def after(change: Patient) -> list[str]:
        module.write_bytes(bytes(change))
        return ids(build.only())

    def fresh() -> Patient:
        return Patient(whole)

    assert after(fresh()) == []
    assert after(fresh().set_header(flags=7)) == ["header-changed"]
    assert after(fresh().set_bytes(".text", 40, b"\xcc")) == ["alloc-changed"]
    assert after(fresh().set_bytes(".BTF", 40, b"\xcc")) == ["section-changed"]
    shorter = fresh().section(".rela.text", "size") - 24
    assert after(fresh().set_section(".rela.text", size=shorter)) == ["relocation-changed"]
    kind = fresh().relocation(".rela.text", 0, "info") & 0xFFFFFFFF
    assert after(fresh().set_relocation(".rela.text", 0, info=kind)) == ["relocation-symbol-lost"]
    assert after(fresh().set_symbol(fresh().row("__crc_crc_itu_t"), value=1)) == ["symbol-changed"]
    assert after(fresh().set_symbol(fresh().row("__x86_return_thunk"), shndx=0xFFF1)) == [
        "relocation-changed",
        "symbol-changed",
    ]
    assert after(fresh().set_section(".text", flags=7)) == ["alloc-changed", "section-rule"]
    assert after(fresh().set_section(".strtab", flags=2)) == ["table-broken"]
    assert after(fresh().set_section(".BTF", link=1)) == ["dangling-reference"]
    module.write_bytes(whole + b"behind")
    assert ids(build.only()) == ["trailing-bytes"]


def test_missing_and_unmatched(build: Build, module: Path) -> None:
    module.rename(module.with_name("renamed.ko"))
    assert ids(build.only()) == ["record-missing"]
    (gone,) = build.record.unmatched([f"{HOME}/renamed.ko"])
    assert (gone.id, gone.subject) == ("record-unmatched", f"{HOME}/crc-itu-t.ko")


# --- size and time ---------------------------------------------------------------------------------------------------


def test_a_whole_kernel(corpus: Path, tmp_path: Path) -> None:
    """The shipped tree: all signed, each symbol counted, some kilobytes a module."""
    shipped = need_kernel(corpus, "amd64")
    build = recorded_in_place(shipped, tmp_path / "record")
    number = sum(1 for _ in shipped.rglob("*.ko"))
    assert len(build.record.entries) == number
    assert Counter(entry.facts.signature > 0 for entry in build.record.entries) == {True: number}
    assert not any(entry.facts.unstripped for entry in build.record.entries)
    assert (tmp_path / "record").stat().st_size < 20_000 * number
    assert {proof for proof, _ in build.judged().values()} == {Proof.RECORDED}


def recorded_in_place(root: Path, where: Path) -> Build:
    """A tree that nobody may write to."""
    assert cli.main(["record", str(root), "--out", str(where), "-q"]) == 0
    return Build(root, record.read(str(where)))


# --- names that are linked after the record --------------------------------------------------------------------------


@pytest.fixture
def pair(corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two small modules that were recorded in `root.record`, as a.ko and b.ko."""
    sources = sorted(need_kernel(corpus, "amd64", "dbg").rglob("xt_[hm]*.ko"))[:2]
    home = planted([], tmp_path / "root") / HOME
    for source, name in zip(sources, "ab", strict=True):
        shutil.copyfile(source, home / f"{name}.ko")
    recorded(tmp_path / "root")
    return home / "a.ko", home / "b.ko"


@pytest.mark.parametrize("verb", ["strip", "check"])
def test_a_link_in_the_place_of_another_module(pair: tuple[Path, Path], verb: str, tmp_path: Path) -> None:
    """Neither passes: the bytes under its name are not what was recorded there."""
    pair[1].unlink()
    pair[1].hardlink_to(pair[0])
    done = inprocess.call(verb, tmp_path / "root", "--before", tmp_path / "root.record")
    assert done.status == 1
    assert f"{HOME}/b.ko: a section that the kernel loads changed" in done.out
    assert "record-unmatched" not in done.out


def test_a_link_of_the_module_itself(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """Under a name that comes before its own."""
    (pair[0].parent / "0.ko").hardlink_to(pair[0])
    done = inprocess.call("strip", tmp_path / "root", "--before", tmp_path / "root.record", "--fail-on", "warning")
    assert (done.status, done.out.splitlines()[-1]) == (0, "passed"), done.out


def test_a_receipt_in_the_place_of_the_record(pair: tuple[Path, Path], tmp_path: Path) -> None:
    before, where = inprocess.digests(tmp_path), tmp_path / "root.record"
    done = inprocess.call("strip", tmp_path / "root", "--before", where, "--receipt", where)
    assert (done.status, "the receipt would replace the record" in done.err) == (2, True)
    done = inprocess.call("strip", tmp_path / "root", "--dry-run", "--receipt", pair[0])
    assert (done.status, "is named like a kernel module" in done.err) == (2, True)
    assert inprocess.digests(tmp_path) == before
