"""`strip --debug-dir` on real modules: what other readers find in the debug files, and that nothing is ever lost.

Readers that share no code with pkghook: pyelftools, readelf, eu-unstrip, eu-addr2line, gdb.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.elffile import ELFFile

from pkghook import split as splitting
from pkghook.model import Compression, Entry, State
from tests import inprocess, jobs, modules, shapes
from tests.inprocess import HOME, digests, packed, planted, put, strip, trailer
from tests.jobs import Job
from tests.setup import dkms
from tests.setup.apt import SetupError
from tests.support import lacking, need_tool
from tests.surgery import Patient
from tests.trees import mounted, need_root

KERNEL = "amd64"
LIMIT = 3 << 20  # bytes of a module that slow readers look at
FOREIGN = ("arm64", "s390x", "armel")
OFFSET = re.compile(rb"at offset 0x[0-9a-f]+")


class Halves(NamedTuple):
    """A tree that was split: the run, where the debug files lie, the modules as they were."""

    job: Job
    directory: Path
    before: dict[str, Path]  # by file name

    def debug(self, entry: Entry) -> Path:
        """The debug file of a module."""
        assert entry.debug_file
        return self.directory / entry.debug_file.path

    def original(self, entry: Entry) -> Path:
        """The module as it was."""
        return self.before[Path(entry.path).name]


def halved(place: Path, paths: list[Path], *options: str) -> Halves:
    """Copies of these modules, split."""
    planted(place / "root", paths)
    job = strip(place / "root", "--debug-dir", place / "debug", "--debuglink", *options)
    assert (job.status, job.states) == (0, {State.STRIPPED: len(paths)}), job.out
    return Halves(job, place / "debug", {path.name: path for path in paths})


@pytest.fixture(scope="module")
def halves(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Halves:
    """More than 44 of the amd64 kernel's."""
    return halved(tmp_path_factory.mktemp("halves"), modules.sample(corpus, KERNEL, 44, limit=LIMIT))


@pytest.fixture
def small(corpus: Path) -> list[Path]:
    """Three small modules."""
    return [modules.named(corpus, KERNEL, name) for name in ("crc-itu-t", "dummy", "libcrc32c")]


def said(*argv: str | Path) -> bytes:
    """What a reader prints, but for file offsets, which differ of course."""
    done = subprocess.run([need_tool(str(argv[0])), *argv[1:]], check=True, capture_output=True)
    return OFFSET.sub(b"", done.stdout)


def readable(path: Path, *, relocations: bool) -> list[bytes]:
    """A module's DWARF, symbols and relocations as readelf has them."""
    asked = [("--debug-dump=info,line,abbrev,ranges,str", "-W"), ("-sW",), *([("-rW",)] if relocations else [])]
    return [said("readelf", *options, path) for options in asked]


# --- what is in them -------------------------------------------------------------------------------------------------


def test_every_module_has_one(halves: Halves) -> None:
    totals = halves.job.receipt.totals
    files = sorted(path for path in halves.directory.rglob("*") if path.is_file())
    assert len(files) == totals.debug_files == totals.modules >= 44
    assert sum(path.stat().st_size for path in files) == totals.debug_bytes
    assert f"debug files: {len(files)}, {totals.debug_bytes:,} bytes\n" in halves.job.out
    assert sorted(map(halves.debug, halves.job.receipt.entries)) == files
    for entry in halves.job.receipt.entries:
        file, id = halves.debug(entry), entry.build_id
        assert file.relative_to(halves.directory) == Path(f".build-id/{id[:2]}/{id[2:]}.debug")
        assert entry.debug_file == (str(file.relative_to(halves.directory)), file.stat().st_size, _sha256(file))
        assert (file.stat().st_mode & 0o7777, file.parent.stat().st_mode & 0o7777) == (0o644, 0o755)
        assert file.stat().st_mtime_ns == (halves.job.root / entry.path).stat().st_mtime_ns


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_second_reader_finds_the_original(halves: Halves) -> None:
    """By pyelftools: debug information, relocations and symbols are the bytes of the module, all else is an outline."""
    for entry in halves.job.receipt.entries:
        with halves.original(entry).open("rb") as before, halves.debug(entry).open("rb") as after:
            _outlined(ELFFile(before), ELFFile(after))


def _outlined(before: ELFFile, after: ELFFile) -> None:
    assert before.num_sections() == after.num_sections()
    for old, new in zip(before.iter_sections(), after.iter_sections(), strict=True):
        assert (old.name, old["sh_size"], old["sh_flags"]) == (new.name, new["sh_size"], new["sh_flags"])
        assert (old["sh_link"], old["sh_info"], old["sh_entsize"]) == (
            new["sh_link"],
            new["sh_info"],
            new["sh_entsize"],
        )
        if new["sh_type"] != old["sh_type"]:
            assert new["sh_type"] == "SHT_NOBITS"
            assert not re.search(r"debug_|\.symtab|strtab|\.note\.gnu", new.name), new.name
        elif old["sh_type"] != "SHT_NOBITS":
            assert old.data() == new.data()
    units = [[unit.cu_offset for unit in _dwarf(file).iter_CUs()] for file in (before, after)]
    assert units[0] == units[1] != []


def _dwarf(file: ELFFile) -> DWARFInfo:
    """Relocations were compared, and pyelftools is slow to apply them."""
    return file.get_dwarf_info(relocate_dwarf_sections=False)


def test_readelf_reads_the_same(halves: Halves) -> None:
    for entry in halves.job.receipt.entries[::4]:
        assert readable(halves.original(entry), relocations=False) == readable(halves.debug(entry), relocations=False)


@pytest.fixture(scope="module", params=(KERNEL, *FOREIGN))
def some(
    request: pytest.FixtureRequest, corpus: Path, halves: Halves, tmp_path_factory: pytest.TempPathFactory
) -> Halves:
    """Split modules of each machine."""
    if request.param == KERNEL:
        return halves
    return halved(tmp_path_factory.mktemp(request.param), modules.sample(corpus, request.param, 12, limit=LIMIT))


def test_eu_unstrip_puts_both_together(some: Halves, tmp_path: Path) -> None:
    """What comes of it has the module's DWARF, symbols and relocations.

    It joins symbols that are alike in all fields and then miscounts; there it must do no worse with our files
    than with those that eu-strip splits.
    """
    right = 0
    for entry in some.job.receipt.entries[:: 1 if len(some.before) < 20 else 3]:
        before = some.original(entry)
        joined = reunited(some.job.root / entry.path, some.debug(entry), tmp_path)
        if joined != readable(before, relocations=True):
            done: list[str | Path] = [
                need_tool("eu-strip"),
                "-g",
                "-f",
                tmp_path / "theirs.debug",
                "-o",
                tmp_path / "theirs",
                before,
            ]
            subprocess.run(done, check=True)
            assert joined == reunited(tmp_path / "theirs", tmp_path / "theirs.debug", tmp_path), before
        else:
            right += 1
    assert right > 8


def reunited(module: Path, debug: Path, place: Path) -> list[bytes]:
    """What readers see in what eu-unstrip makes of both."""
    joined = place / "joined.ko"
    done = subprocess.run([need_tool("eu-unstrip"), "-o", joined, module, debug], check=True, capture_output=True)
    assert done.stderr == b""
    return readable(joined, relocations=True)


def test_the_link_has_name_and_checksum(some: Halves) -> None:
    """In the byte order of the module's machine."""
    for entry in some.job.receipt.entries:
        module, debug = some.job.root / entry.path, some.debug(entry)
        done = subprocess.run([need_tool("readelf"), "--debug-dump=links", module], capture_output=True, check=False)
        assert f"Separate debug info file: {debug.name}\n" in done.stdout.decode()
        assert f"CRC value: {zlib.crc32(debug.read_bytes()):#x}\n" in done.stdout.decode()
        assert entry.sizes.image_after == entry.sizes.expected == module.stat().st_size


def test_modules_are_what_they_are_without_it(some: Halves, tmp_path: Path) -> None:
    """The same to the loader; and to the byte where no link was asked for."""
    paths = sorted(some.before.values())[:8]
    plain = strip(planted(tmp_path / "plain", paths)).root
    quiet = strip(planted(tmp_path / "quiet", paths), "--debug-dir", tmp_path / "debug").root
    assert digests(plain) == digests(quiet)
    for path in paths:
        jobs.same(path, some.job.root / HOME / path.name)
        linked = Patient((some.job.root / HOME / path.name).read_bytes())
        bare = Patient((plain / HOME / path.name).read_bytes())
        assert linked.names == [*bare.names, ".gnu_debuglink"]
        assert all(
            linked.contents(name) == bare.contents(name)
            for name in (".text", ".symtab", ".rela.text", ".rel.text")
            if name in bare.names
        )


# --- debuggers -------------------------------------------------------------------------------------------------------


def functions(path: Path) -> list[str]:
    """Two functions of a module."""
    found = re.findall(r" [tT] ((?!__|\.)\w+)$", said("nm", path).decode(), re.MULTILINE)
    return [found[0], found[-1]]


def line(module: Path, function: str, directory: Path) -> str:
    """Where gdb says that a function's code comes from."""
    words = ("-nx", "-batch", "-iex", f"set debug-file-directory {directory}", "-ex", f"info line {function}")
    found = said("gdb", *words, module).decode()
    assert re.match(r"Line \d+ of ", found), found
    return found


def test_gdb_finds_a_line_by_build_id(halves: Halves) -> None:
    for entry in halves.job.receipt.entries[::9]:
        module, before = halves.job.root / entry.path, halves.original(entry)
        for function in functions(module):
            assert line(module, function, halves.directory) == line(before, function, Path("/nowhere"))


def test_gdb_finds_a_line_by_the_link(corpus: Path, tmp_path: Path) -> None:
    """The mirror, at the module's own path below the directory; and beside the module."""
    path = modules.named(corpus, KERNEL, "dummy")
    root = planted(tmp_path / "root", [path])
    mirror = tmp_path / "debug" / str(root).lstrip("/")
    strip(root, "--debug-dir", mirror, "--debug-layout", "mirror", "--debuglink")
    (function, _), module = functions(path), root / HOME / path.name
    assert line(module, function, tmp_path / "debug") == line(path, function, Path("/nowhere"))
    with pytest.raises(AssertionError):
        line(module, function, tmp_path / "elsewhere")
    shutil.copy(mirror / HOME / "dummy.ko.debug", module.parent)
    assert line(module, function, Path("/nowhere")) == line(path, function, Path("/nowhere"))


def test_elfutils_finds_a_line(halves: Halves) -> None:
    for entry in halves.job.receipt.entries[::5]:
        module, before = halves.job.root / entry.path, halves.original(entry)
        for function in functions(module):
            found = said("eu-addr2line", "-e", module, f"--debuginfo-path={halves.directory}", function)
            assert found == said("eu-addr2line", "-e", before, function)
            assert b"?" not in found


# --- where they go ---------------------------------------------------------------------------------------------------


def split(root: Path, *options: str | Path) -> Job:
    """Strip a tree, debug files beside it."""
    return strip(root, "--debug-dir", root.with_name("debug"), "--debuglink", *options)


def names(directory: Path) -> list[str]:
    """The files below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_the_mirror(small: list[Path], tmp_path: Path) -> None:
    """Whatever the compression; a hard link has its own name there; two modules of one name keep their suffixes."""
    root = planted(tmp_path / "root", small)
    data = small[0].read_bytes()
    put(root, "crc-itu-t.ko.xz", packed(data, Compression.XZ))
    put(root, "zst.ko.zst", packed(data, Compression.ZSTD))
    (root / HOME / "extra").mkdir()
    os.link(root / HOME / "dummy.ko", root / HOME / "extra" / "other.ko")
    job = split(root, "--debug-layout", "mirror")
    assert (job.status, job.states) == (0, {State.STRIPPED: 5}), job.out
    debug = tmp_path / "debug" / HOME
    found = ["crc-itu-t.ko.debug", "crc-itu-t.ko.xz.debug", "dummy.ko.debug"]
    assert names(debug) == [*found, "extra/other.ko.debug", "libcrc32c.ko.debug", "zst.ko.debug"]
    assert (debug / "dummy.ko.debug").samefile(debug / "extra" / "other.ko.debug")
    assert (
        _sha256(debug / "crc-itu-t.ko.debug")
        == _sha256(debug / "crc-itu-t.ko.xz.debug")
        == _sha256(debug / "zst.ko.debug")
    )
    assert {("debug-layout", "mirror"), ("debuglink", "yes")} <= set(job.receipt.settings)
    assert b"zst.ko.debug" in modules.image(root / HOME / "zst.ko.zst")


def test_without_a_build_id_it_is_the_mirror(small: list[Path], tmp_path: Path) -> None:
    data = bytes(Patient(small[0].read_bytes()).drop_section(".note.gnu.build-id"))
    put(tmp_path / "root", "none.ko", data)
    job = split(tmp_path / "root")
    assert job.states == {State.STRIPPED: 1}
    assert names(tmp_path / "debug") == [f"{HOME}/none.ko.debug"]


def test_copies_share_one(small: list[Path], tmp_path: Path) -> None:
    root = planted(tmp_path / "root", small[:1])
    put(root, "copy.ko", small[0].read_bytes())
    put(root, "packed.ko.gz", packed(small[0].read_bytes(), Compression.GZIP))
    job = split(root)
    assert (job.status, job.states, job.receipt.totals.debug_files) == (0, {State.STRIPPED: 3}, 1)
    assert len({entry.debug_file for entry in job.receipt.entries}) == len(names(tmp_path / "debug")) == 1
    assert all(not entry.findings for entry in job.receipt.entries)


@pytest.mark.parametrize("pad", [0, 500_000])  # the larger module comes first
@pytest.mark.parametrize("flip", [5, 6, 7])
def test_two_modules_of_one_build_id(small: list[Path], tmp_path: Path, flip: int, pad: int) -> None:
    """Neither is lost, and who comes first does not matter."""
    data = small[0].read_bytes()
    patient = Patient(data)
    other = bytes(patient.flip(patient.section(".debug_str", "offset") + flip)) + bytes(pad)
    results = []
    for number, jobs_ in enumerate(("1", "2", "1")):
        root = tmp_path / str(number) / "root"
        put(root, "a.ko", other if number == 2 else data)
        put(root, "b.ko", data if number == 2 else other)
        job = split(root, "-j", jobs_)
        assert (job.status, job.states, job.receipt.totals.debug_files) == (0, {State.STRIPPED: 2}, 2)
        results.append(digests(root.with_name("debug")))
        aside = [entry for entry in job.receipt.entries if entry.findings]
        assert [[finding.id for finding in entry.findings] for entry in aside] == [["debug-id-shared"]]
        for entry in job.receipt.entries:
            assert entry.debug_file
            assert _sha256(root.with_name("debug") / entry.debug_file.path) == entry.debug_file.sha256
    assert results[0] == results[1] == results[2]


def test_what_is_there_from_before_is_kept(small: list[Path], tmp_path: Path) -> None:
    """Another's debug file of the same build-id is not overwritten; the same one is left as it is."""
    job = split(planted(tmp_path / "root", small[:1]))
    (file,) = (path for path in (tmp_path / "debug").rglob("*.debug"))
    inode = file.stat().st_ino
    shutil.rmtree(tmp_path / "root")
    again = split(planted(tmp_path / "root", small[:1]))
    assert again.receipt == job.receipt
    assert file.stat().st_ino == inode
    file.write_bytes(b"another's")
    shutil.rmtree(tmp_path / "root")
    third = split(planted(tmp_path / "root", small[:1]))
    assert third.states == {State.STRIPPED: 1}
    assert sorted(path.read_bytes() == b"another's" for path in (tmp_path / "debug").rglob("*.debug")) == [False, True]


def test_two_runs_give_the_same_bytes(halves: Halves, tmp_path: Path) -> None:
    again = halved(tmp_path, sorted(halves.before.values()), "-j", "1")
    assert digests(again.directory) == digests(halves.directory)
    assert digests(again.job.root) == digests(halves.job.root)
    assert again.job.receipt == halves.job.receipt


def test_a_run_over_a_split_tree_changes_nothing(small: list[Path], tmp_path: Path) -> None:
    split(planted(tmp_path / "root", small))
    before = jobs.facts(tmp_path)
    job = split(tmp_path / "root")
    assert (job.status, job.states, job.receipt.totals.debug_files) == (0, {State.ALREADY_STRIPPED: 3}, 0)
    del before[tmp_path / "root.receipt.json"]
    after = jobs.facts(tmp_path)
    del after[tmp_path / "root.receipt.json"]
    assert after == before


@pytest.mark.parametrize("place", ["usr/lib/debug", "dbg", f"{HOME}/debug"])
def test_the_directory_within_the_tree_is_not_walked(small: list[Path], tmp_path: Path, place: str) -> None:
    """Neither what is in it, were it named like a module, nor what is written there."""
    root = planted(tmp_path / "root", small) if place != "dbg" else _flat(tmp_path / "root", small)
    theirs = root / place / HOME / "old.ko"
    theirs.parent.mkdir(parents=True)
    shutil.copy(small[0], theirs)
    for _ in range(2):
        job = strip(root, "--debug-dir", root / place, "--debug-layout", "mirror")
        assert (job.status, job.receipt.totals.modules, job.receipt.walk.debug_modules) == (0, 3, 1)
        assert job.receipt.walk.others == ()
        assert theirs.read_bytes() == small[0].read_bytes()
        assert len(list((root / place).rglob("*.ko.debug"))) == 3


def _flat(root: Path, paths: list[Path]) -> Path:
    """A directory with modules that is no buildroot."""
    root.mkdir()
    for path in paths:
        shutil.copy(path, root)
    return root


def test_a_dry_run_says_the_same_and_writes_nothing(small: list[Path], tmp_path: Path) -> None:
    root = planted(tmp_path / "root", small)
    put(root, "packed.ko.xz", packed(small[0].read_bytes(), Compression.XZ))
    foretold = split(root, "--dry-run", "-v")
    assert not (tmp_path / "debug").exists()
    done = split(root)
    for would, did in zip(foretold.receipt.entries, done.receipt.entries, strict=True):
        assert (would.debug_file, would.sizes) == (did.debug_file, did.sizes)


# --- every step, every kind of module --------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["native", "objcopy", "strip", "eu-strip", "llvm-strip"])
def test_whichever_step_strips(halves: Halves, tmp_path: Path, step: str) -> None:
    """The debug file comes from the module's own bytes."""
    need_tool(step) if step != "native" else None
    some = halved(tmp_path, sorted(halves.before.values())[::6], "--chain", step)
    for entry in some.job.receipt.entries:
        assert (entry.step, entry.findings) == (step, ())
        assert entry.debug_file == halves.job.entries[entry.path].debug_file
        jobs.same(some.original(entry), some.job.root / entry.path)


def test_with_symbols_and_labels_gone_too(halves: Halves, tmp_path: Path) -> None:
    """The debug file has them all."""
    some = halved(tmp_path, sorted(halves.before.values())[:5], "--strip-symbols", "symbols.safe", "--discard-labels")
    for entry in some.job.receipt.entries:
        assert entry.debug_file == halves.job.entries[entry.path].debug_file
        assert entry.sizes.image_after == entry.sizes.expected
    assert any(entry.dropped_symbols for entry in some.job.receipt.entries)


@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
def test_livepatch(tmp_path: Path, shape: str) -> None:
    """The link does it no harm."""
    data = shapes.livepatch(shape)
    put(tmp_path / "root", "patch.ko", data)
    job = split(tmp_path / "root")
    assert job.entry("patch.ko").state is State.STRIPPED
    (tmp_path / "before.ko").write_bytes(data)
    jobs.same(tmp_path / "before.ko", tmp_path / "root" / HOME / "patch.ko")
    assert ".gnu_debuglink" in Patient((tmp_path / "root" / HOME / "patch.ko").read_bytes()).names


def test_signed_modules_by_policy(corpus: Path, small: list[Path], tmp_path: Path) -> None:
    """No debug file of one that stays as it is; without its signature where that goes."""
    signed = small[1].read_bytes() + trailer(modules.shipped(corpus, KERNEL, small[1]).read_bytes())
    for policy, status, files in (("fail", 1, 0), ("keep", 0, 0), ("strip", 0, 1)):
        root = tmp_path / policy / "root"
        put(root, "dummy.ko", signed)
        job = split(root, "--signed", policy)
        assert (job.status, job.receipt.totals.debug_files) == (status, files)
        assert len(names(root.with_name("debug"))) == files
    plain = split(planted(tmp_path / "root", small[1:2]))
    assert digests(tmp_path / "debug") == digests(tmp_path / "strip" / "debug")
    assert plain.receipt.totals.debug_files == 1


# --- whatever goes wrong, nothing is lost ----------------------------------------------------------------------------


def unharmed(job: Job, paths: list[Path], id: str, left: list[str] | None = None) -> None:
    """Every module failed for this reason and has the bytes it had; no scratch file lies about."""
    assert (job.status, job.states) == (1, {State.FAILED: len(paths)}), job.out
    assert {finding.id for entry in job.receipt.entries for finding in entry.findings} == {id}
    assert all(entry.debug_file is None for entry in job.receipt.entries)
    assert all((job.root / HOME / path.name).read_bytes() == path.read_bytes() for path in paths)
    directory = job.root.with_name("debug")
    assert names(directory) == (left or [])
    assert not list(directory.glob(".pkghook*"))


@pytest.mark.parametrize("what", ["file", "link", "module-link"])
def test_something_is_in_the_way(small: list[Path], tmp_path: Path, what: str) -> None:
    (tmp_path / "debug").mkdir()
    (tmp_path / "elsewhere").mkdir()
    root = planted(tmp_path / "root", small)
    if what == "file":
        (tmp_path / "debug" / ".build-id").write_bytes(b"")
    elif what == "link":
        (tmp_path / "debug" / ".build-id").symlink_to(tmp_path / "elsewhere")
    else:
        job = split(planted(tmp_path / "first" / "root", small))
        for entry in job.receipt.entries:
            assert entry.debug_file
            place = tmp_path / "debug" / entry.debug_file.path
            place.parent.mkdir(parents=True)
            place.symlink_to(tmp_path / "elsewhere" / "file")
    unharmed(split(root), small, "debug-file-failed", [".build-id"] if what == "file" else [])
    assert names(tmp_path / "elsewhere") == []


def test_a_module_that_names_a_debug_file_already(small: list[Path], tmp_path: Path) -> None:
    linked = bytes(Patient(small[0].read_bytes()).append_section(".gnu_debuglink", b"x.debug\0\1\2\3\4"))
    put(tmp_path / "root", "linked.ko", linked)
    job = split(tmp_path / "root")
    assert job.findings(f"{HOME}/linked.ko") == ["debug-file-failed"]
    assert (tmp_path / "root" / HOME / "linked.ko").read_bytes() == linked
    assert split(tmp_path / "root", "--no-debuglink").states == {State.STRIPPED: 1}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system with next to no room."""
    need_root()
    (tmp_path / "debug").mkdir()
    with mounted(tmp_path / "debug", "size=64k") as place:
        yield place


@pytest.mark.usefixtures("tiny")
def test_a_full_disk(small: list[Path], tmp_path: Path) -> None:
    unharmed(split(planted(tmp_path / "root", small)), small, "debug-file-failed")


def test_bytes_that_were_lost_on_the_way(small: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that writes other bytes than it was given, anywhere in the file: it is read back."""
    real = splitting.fill
    for where in range(0, 100, 4):
        monkeypatch.setattr(splitting, "fill", partial(_spoil, real, where))
        root = planted(tmp_path / str(where) / "root", small[:1])
        unharmed(split(root), small[:1], "debug-file-broken")


def _spoil(real: object, percent: int, fd: int, *rest: object) -> None:
    assert callable(real)
    real(fd, *rest)
    size = os.fstat(fd).st_size
    at = size * percent // 100
    while True:  # padding is nobody's
        byte = os.pread(fd, 1, at)
        if byte != b"\0" or at < 64:
            break
        at += 1
    os.pwrite(fd, bytes([byte[0] ^ 0x55]), at)


def test_no_step_passes(small: list[Path], tmp_path: Path) -> None:
    """Then there is no debug file either."""
    root = planted(tmp_path / "root", small)
    job = inprocess.strip(root, "--debug-dir", tmp_path / "debug", "--chain", "strip", PATH=str(tmp_path))
    unharmed(job, small, "chain-exhausted")


def test_a_link_without_a_directory_is_no_setting(small: list[Path], tmp_path: Path) -> None:
    told = inprocess.call("strip", planted(tmp_path / "root", small), "--debuglink")
    assert told.status == 2
    assert "--debuglink needs --debug-dir" in told.err


def test_a_directory_that_cannot_be_made(small: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    root = planted(tmp_path / "root", small)
    told = inprocess.call("strip", root, "--debug-dir", tmp_path / "file" / "debug")
    assert told.status == 2
    assert "Not a directory" in told.err
    assert all((root / HOME / path.name).read_bytes() == path.read_bytes() for path in small)


# --- modules built here, with macros, groups and compressed sections -------------------------------------------------


@pytest.mark.parametrize("way", ["-g3", "-gz"])
def test_modules_with_groups_and_compressed_sections(tmp_path: Path, way: str) -> None:
    need_tool("make")
    try:
        built = dkms.modules("dm-writeboost-dkms", way)
    except SetupError as error:
        lacking(str(error))
    some = halved(tmp_path, built)
    for entry in some.job.receipt.entries:
        before, module = some.original(entry), some.job.root / entry.path
        assert readable(before, relocations=False) == readable(some.debug(entry), relocations=False)
        assert said("readelf", "-gW", before) == said("readelf", "-gW", some.debug(entry))
        assert b"COMDAT" in said("readelf", "-gW", before)
        assert reunited(module, some.debug(entry), tmp_path)[0] == readable(before, relocations=True)[0]
        function = functions(module)[0]
        assert line(module, function, some.directory) == line(before, function, Path("/nowhere"))


def test_where_the_kernel_cannot_copy(small: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between file systems, or half way: the rest is read and written."""
    split(planted(tmp_path / "first" / "root", small))
    real = os.copy_file_range
    for most in (0, 1000):
        monkeypatch.setattr(os, "copy_file_range", partial(_short, real, most, [0]))
        split(planted(tmp_path / str(most) / "root", small))
        assert digests(tmp_path / str(most) / "debug") == digests(tmp_path / "first" / "debug")


def _short(real: Callable[..., int], most: int, calls: list[int], source: int, target: int, size: int, at: int) -> int:
    calls[0] += 1
    if not most or calls[0] % 2 == 0:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return real(source, target, min(size, most), at)
