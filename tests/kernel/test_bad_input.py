"""Whatever lies in a tree: a clear error that names the file, its very bytes kept, all other modules stripped."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook import work
from pkghook.findings import registry
from pkghook.ko.signature import MARKER
from pkghook.model import Compression, Proof, State
from pkghook.sources.tree import Tree
from tests import inprocess, modules, shapes
from tests.inprocess import HOME
from tests.jobs import CHECKOUT, Job
from tests.support import need_tool
from tests.surgery import Patient, native_strip
from tests.trees import NOBODY, in_child, mounted, need_root

MODULE = "crc-itu-t"  # each kernel has it, small as it is
GOOD = ("good-1.ko", "good-2.ko")
KERNELS = ("amd64", "s390x", "armel")
Damage = Callable[[bytes], bytes]


@cache
def whole(corpus: Path, kernel: str = "amd64") -> bytes:
    """The unstripped module that is damaged."""
    return modules.image(modules.named(corpus, kernel, MODULE))


class Outcome(NamedTuple):
    """A run over a tree with something bad in it."""

    job: Job
    before: dict[str, str]

    def kept(self, path: str) -> bool:
        """Whether a file has the bytes it had."""
        return inprocess.digests(self.job.root).get(path) == self.before[path]


def ran(root: Path, data: bytes, *options: str | Path, receipt: Path | None = None) -> Outcome:
    """Strip the tree, after two good modules were put beside what is there."""
    for name in GOOD:
        inprocess.put(root, name, data)
    before = inprocess.digests(root)
    return Outcome(inprocess.strip(root, *options, receipt=receipt), before)


def well(outcome: Outcome, *bad: str, status: int = 1) -> Job:
    """What must hold however bad the files `bad` were: good ones stripped, these as they were, nothing left behind."""
    job, before = outcome
    after = inprocess.digests(job.root)
    assert (job.status, job.err) == (status, "")
    assert set(after) == set(before)
    changed = {path for path in before if before[path] != after[path]}
    assert {Path(path).name for path in changed} == set(GOOD)
    for name in GOOD:
        entry = job.entry(name)
        assert (entry.state, entry.proof, entry.sha256_after) == (State.STRIPPED, Proof.VERIFIED, after[entry.path])
    for name in bad:
        assert job.entry(name).state is State.FAILED
    return job


def told(job: Job, name: str, id: str) -> str:
    """The line that tells the user what is wrong with a file; the id's hint follows the last of its kind."""
    lines = job.out.splitlines()
    begin = f"error: {HOME}/{name}: {registry()[id].title}"
    (line,) = (line for line in lines if line.startswith(begin))
    assert line.endswith(f" [{id}]")
    assert f"  hint: {registry()[id].hint}" in lines
    return line


# --- damaged ELF files -----------------------------------------------------------------------------------------------


def cut(part: float) -> Damage:
    """The first part of a file."""
    return lambda data: data[: int(len(data) * part)]


def first(size: int) -> Damage:
    """The first bytes of a file."""
    return lambda data: data[:size]


def header(**fields: int) -> Damage:
    """Fields of the ELF header."""
    return lambda data: bytes(Patient(data).set_header(**fields))


def section(which: str, **fields: int) -> Damage:
    """Fields of the header of a section."""
    return lambda data: bytes(Patient(data).set_section(which, **fields))


def symbol(pick: Callable[[Patient], int], **fields: int) -> Damage:
    """Fields of the symbol that `pick` chooses."""

    def change(data: bytes) -> bytes:
        patient = Patient(data)
        return bytes(patient.set_symbol(pick(patient), **fields))

    return change


def named_symbol(patient: Patient) -> int:
    """A symbol with a name that is defined in a section."""
    return next(row for row in patient.rows() if patient.symbol_name(row) and 0 < patient.symbol(row, "shndx") < 0xFF00)


def unnamed_symbol(patient: Patient) -> int:
    """One without."""
    return next(row for row in patient.rows() if not patient.symbol_name(row))


def relocations(patient: Patient) -> str:
    """The relocations of the code."""
    return next(name for name in (".rela.text", ".rel.text") if name in patient.names)


def relocated(**fields: int) -> Damage:
    """Fields of the header of a relocation section."""

    def change(data: bytes) -> bytes:
        patient = Patient(data)
        return bytes(patient.set_section(relocations(patient), **fields))

    return change


def behind_the_table(data: bytes) -> bytes:
    """A relocation names the symbol behind the last."""
    patient = Patient(data)
    return bytes(patient.set_target(relocations(patient), 0, patient.count))


def bytes_of(which: str, at: int, new: bytes) -> Damage:
    """Bytes of the contents of a section; `at` counts from the end if it is negative."""

    def change(data: bytes) -> bytes:
        patient = Patient(data)
        return bytes(patient.set_bytes(which, at if at >= 0 else patient.section(which, "size") + at, new))

    return change


def over(which: str, other: str) -> Damage:
    """One section laid over another."""

    def change(data: bytes) -> bytes:
        patient = Patient(data)
        return bytes(patient.set_section(which, offset=patient.section(other, "offset")))

    return change


def two_tables(data: bytes) -> bytes:
    """A second symbol table."""
    return bytes(Patient(data).append_section(".symtab2", bytes(48), type=shapes.SYMTAB))


def no_table(data: bytes) -> bytes:
    """What a plain `strip` leaves."""
    return bytes(Patient(data).set_section(".symtab", type=shapes.PROGBITS))


def extended(data: bytes) -> bytes:
    """Extended section numbers."""
    return bytes(Patient(data).append_section(".symtab_shndx", bytes(4), type=18))


def other_class(data: bytes) -> bytes:
    """A 32-bit file that says it has 64 bits, or the other way round."""
    return data[:4] + bytes([3 - data[4]]) + data[5:]


def other_order(data: bytes) -> bytes:
    """The other byte order."""
    return data[:5] + bytes([3 - data[5]]) + data[6:]


def group(*words: int) -> Damage:
    """A section group of these words, in the file's byte order."""

    def change(data: bytes) -> bytes:
        patient = Patient(data)
        return bytes(patient.append_section(".group", struct.pack(f"{patient.order}{len(words)}I", *words), type=17))

    return change


def lying_signature(length: int) -> Damage:
    """A signature trailer whose descriptor promises `length` bytes."""
    return lambda data: data + bytes(100) + struct.pack(">5B3xI", 0, 0, 2, 0, 0, length) + MARKER


HUGE = (1 << 31) - 1  # fits into the fields of both classes
DAMAGE: dict[str, tuple[Damage, str]] = {
    "empty": (first(0), "empty-file"),
    "one byte": (first(1), "not-elf"),
    "text": (lambda _: b"This is not the module that you are looking for.\n", "not-elf"),
    "zeros": (lambda data: bytes(len(data)), "not-elf"),
    "a program": (header(type=2), "not-relocatable"),
    "a shared library": (header(type=3), "not-relocatable"),
    "only the magic": (first(4), "truncated"),
    "half a header": (first(40), "truncated"),
    "a header alone": (first(64), "section-outside-file"),
    "a tenth": (cut(0.1), "section-outside-file"),
    "half": (cut(0.5), "section-outside-file"),
    "all but a byte": (lambda data: data[:-1], "section-outside-file"),
    "unknown class": (lambda data: data[:4] + b"\3" + data[5:], "bad-header"),
    "unknown byte order": (lambda data: data[:5] + b"\0" + data[6:], "bad-header"),
    "other version": (header(version=2), "bad-header"),
    "no section table": (header(shoff=0), "bad-header"),
    "no sections": (header(shnum=0), "too-many-sections"),
    "more sections than there are": (header(shnum=5000), "section-outside-file"),
    "extended numbering": (header(shnum=0xFF00), "too-many-sections"),
    "extended table": (extended, "too-many-sections"),
    "headers outside the file": (header(shoff=HUGE), "section-outside-file"),
    "headers over the header": (header(shoff=8), "bad-string-table|section-outside-file|bad-section"),
    "section header size": (header(shentsize=32), "bad-header"),
    "no name table": (header(shstrndx=0), "bad-header"),
    "name table out of range": (header(shstrndx=0xFE00), "bad-header"),
    "name table elsewhere": (header(shstrndx=1), "bad-string-table"),
    "name out of range": (section(".comment", name=HUGE), "bad-string-table"),
    "names without end": (bytes_of(".shstrtab", -1, b"x"), "bad-string-table"),
    "symbol names without end": (bytes_of(".strtab", -1, b"x"), "bad-string-table"),
    "symbol names without begin": (bytes_of(".strtab", 0, b"x"), "bad-string-table"),
    "no symbol names": (section(".strtab", size=0), "bad-string-table"),
    "symbol name out of range": (symbol(named_symbol, name=HUGE), "bad-string-table"),
    "section outside": (section(".text", offset=HUGE), "section-outside-file"),
    "huge section": (section(".text", size=HUGE), "section-outside-file"),
    "huge debug section": (section(".debug_info", size=HUGE), "section-outside-file"),
    "sections overlap": (over(".modinfo", ".comment"), "sections-overlap"),
    "section over the header": (section(".comment", offset=4), "sections-overlap"),
    "odd alignment": (section(".text", align=48), "bad-section"),
    "link out of range": (section(".comment", link=HUGE), "bad-section"),
    "section 0 in use": (lambda data: bytes(Patient(data).set_section(0, type=1)), "section-rule"),
    "symbol in no section": (symbol(named_symbol, shndx=0xFE00), "bad-symbol"),
    "unnamed symbol in no section": (symbol(unnamed_symbol, shndx=0xFE00), "bad-symbol"),
    "symbol of unknown kind": (symbol(named_symbol, shndx=0xFF55), "bad-symbol"),
    "two symbol tables": (two_tables, "bad-symbol-table"),
    "no symbol table": (no_table, "no-symbol-table"),
    "symbol size": (section(".symtab", entsize=17), "bad-symbol-table"),
    "symbol table without names": (section(".symtab", link=0), "bad-symbol-table"),
    "locals behind globals": (section(".symtab", info=1), "bad-symbol-table"),
    "symbol 0 in use": (symbol(lambda _: 0, value=1), "bad-symbol-table"),
    "relocations of nothing": (relocated(info=0), "bad-relocation"),
    "relocations of no section": (relocated(info=HUGE), "bad-relocation"),
    "relocations without symbols": (relocated(link=0), "bad-relocation"),
    "relocation size": (relocated(entsize=7), "bad-relocation"),
    "relocation of no size": (relocated(entsize=0), "bad-relocation"),
    "relocation with no symbol": (behind_the_table, "bad-relocation"),
    "group of nothing": (group(), "bad-group"),
    "group of no section": (group(1, HUGE), "bad-group"),
    "signature of all bytes": (lying_signature(HUGE), "bad-signature"),
    "signature of nothing": (lying_signature(0), "bad-signature"),
    "only a marker": (lambda data: data[:64] + MARKER, "bad-signature"),
}  # fmt: skip
# What these are taken for depends on the bytes that happen to be there.
STRANGE: dict[str, Damage] = {"wrong class": other_class, "wrong byte order": other_order}


def file_name(name: str) -> str:
    """Of a damaged module."""
    return f"bad {name}.ko"


@pytest.fixture(scope="module", params=KERNELS)
def ruins(corpus: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Outcome:
    """One run over all that is damaged, each once."""
    data = whole(corpus, request.param)
    root = tmp_path_factory.mktemp("ruins") / "root"
    damages = {name: damage for name, (damage, _) in DAMAGE.items()} | STRANGE
    for name, damage in damages.items():
        inprocess.put(root, file_name(name), damage(data))
    return ran(root, data)


def test_the_others_are_stripped(ruins: Outcome) -> None:
    job = well(ruins, *map(file_name, (*DAMAGE, *STRANGE)))
    assert job.states == {State.STRIPPED: len(GOOD), State.FAILED: len(DAMAGE) + len(STRANGE)}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_module(ruins: Outcome, name: str) -> None:
    expected = DAMAGE[name][1].split("|")
    entry = ruins.job.entry(file_name(name))
    (finding,) = entry.findings
    assert finding.id in expected
    assert (finding.subject, entry.state) == (entry.path, State.FAILED)
    told(ruins.job, file_name(name), finding.id)
    assert ruins.kept(entry.path)


@pytest.mark.parametrize("name", STRANGE)
def test_strange_module(ruins: Outcome, name: str) -> None:
    entry = ruins.job.entry(file_name(name))
    assert len(entry.findings) == 1
    told(ruins.job, file_name(name), entry.findings[0].id)
    assert ruins.kept(entry.path)


def test_truncated_at_any_byte(corpus: Path, tmp_path: Path) -> None:
    data = whole(corpus)
    size = len(data)
    edges = [*range(70), *range(size - 70, size), *range(70, size, size // 150)]
    for length in edges:
        inprocess.put(tmp_path / "root", f"cut-{length}.ko", data[:length])
    job = well(ran(tmp_path / "root", data))
    assert job.states == {State.STRIPPED: 2, State.FAILED: len(set(edges))}
    ids = {finding.id for entry in job.receipt.entries for finding in entry.findings}
    assert ids == {"empty-file", "not-elf", "truncated", "section-outside-file"}


def spoilt(data: bytes, luck: random.Random) -> bytes:
    """A module with up to three bytes changed, most of them in headers and tables."""
    patient, out = Patient(data), bytearray(data)
    sizes = (64, 24) if patient.is64 else (40, 16)
    table = patient.header("shoff")
    places = (
        range(sizes[0]),
        range(table, table + sizes[0] * patient.header("shnum")),
        range(patient.symbol_at(0), patient.symbol_at(patient.count)),
        range(patient.entry_at(relocations(patient), 0), patient.entry_at(relocations(patient), 4)),
        range(len(data)),
    )
    for _ in range(luck.randint(1, 3)):
        at = luck.choice(luck.choice(places))
        out[at] = luck.choice([0, 0xFF, out[at] ^ 1 << luck.randrange(8)])
    return bytes(out)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bytes_changed_by_chance(corpus: Path, tmp_path: Path, kernel: str) -> None:
    """No fault of ours, whatever they are changed to: stripped and proven, or left alone and told."""
    data, luck = whole(corpus, kernel), random.Random(kernel)  # noqa: S311  the same each time
    for number in range(300):
        inprocess.put(tmp_path / "root", f"{number}.ko", spoilt(data, luck))
    before = inprocess.digests(tmp_path / "root")
    job = inprocess.strip(tmp_path / "root", "--chain", "native")
    after = inprocess.digests(tmp_path / "root")
    assert set(before) == set(after)
    assert job.states[State.STRIPPED] > 50
    assert job.states[State.FAILED] > 50
    for path, entry in job.entries.items():
        assert (before[path] == after[path]) == (entry.state is not State.STRIPPED), path
        assert entry.proof is (Proof.VERIFIED if entry.state is State.STRIPPED else Proof.NONE)
        assert not {"internal-error", "worker-killed"} & set(job.findings(path)), entry
        assert {finding.id for finding in entry.findings} <= set(registry())


# --- compressed modules ----------------------------------------------------------------------------------------------

PACKED = (Compression.GZIP, Compression.XZ, Compression.ZSTD)


@pytest.mark.parametrize("how", PACKED)
def test_damaged_compression(corpus: Path, tmp_path: Path, how: Compression) -> None:
    data, suffix = whole(corpus), how.suffix
    good = inprocess.packed(data, how)
    other = next(each for each in PACKED if each is not how)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0x55
    cases = {
        f"half.ko{suffix}": (good[: len(good) // 2], "corrupt-compression"),
        f"last-byte.ko{suffix}": (good[:-1], "corrupt-compression"),
        f"flipped.ko{suffix}": (bytes(flipped), "corrupt-compression"),
        f"no-magic.ko{suffix}": (b"\0" + good[1:], "corrupt-compression"),
        f"only-magic.ko{suffix}": (good[:6], "corrupt-compression"),
        f"garbage-behind.ko{suffix}": (good + b"garbage", "trailing-garbage"),
        f"twice.ko{suffix}": (good + good, "trailing-garbage"),
        f"plain.ko{suffix}": (data, "name-content-mismatch"),
        f"other.ko{suffix}": (inprocess.packed(data, other), "name-content-mismatch"),
        "packed.ko": (good, "name-content-mismatch"),
        f"not-elf.ko{suffix}": (inprocess.packed(b"not a module", how), "not-elf"),
        f"nothing.ko{suffix}": (inprocess.packed(b"", how), "not-elf"),
        f"cut-inside.ko{suffix}": (inprocess.packed(data[:-1], how), "section-outside-file"),
        f"empty.ko{suffix}": (b"", "empty-file"),
    }
    for name, (contents, _) in cases.items():
        inprocess.put(tmp_path / "root", name, contents)
    inprocess.put(tmp_path / "root", f"fine.ko{suffix}", good)
    outcome = ran(tmp_path / "root", data)
    fine = outcome.job.entry(f"fine.ko{suffix}")
    assert (fine.state, fine.proof) == (State.STRIPPED, Proof.VERIFIED)
    (tmp_path / "root" / fine.path).write_bytes(good)
    job = well(outcome, *cases)
    for name, (_, id) in cases.items():
        assert [finding.id for finding in job.entry(name).findings] == [id], name
        told(job, name, id)


@pytest.mark.parametrize("how", PACKED)
def test_decompression_bomb(corpus: Path, tmp_path: Path, how: Compression) -> None:
    """A small file that unfolds to 64 MB, with a limit far below; neither the memory nor the time is spent."""
    bomb = inprocess.packed(b"\x7fELF" + bytes(1 << 26), how)
    assert len(bomb) < 1 << 17
    name = f"bomb.ko{how.suffix}"
    inprocess.put(tmp_path / "root", name, bomb)
    job = well(ran(tmp_path / "root", whole(corpus), "--max-module-size", "8M"), name)
    assert "limit: 8388608" in told(job, name, "too-large")


def test_plain_module_above_the_limit(corpus: Path, tmp_path: Path) -> None:
    data = whole(corpus)
    inprocess.put(tmp_path / "root", "large.ko", data + bytes(1000))
    job = well(ran(tmp_path / "root", data, "--max-module-size", str(len(data))), "large.ko")
    told(job, "large.ko", "too-large")


# --- things that are no files, or cannot be read ---------------------------------------------------------------------


def test_no_regular_files(corpus: Path, tmp_path: Path) -> None:
    home = tmp_path / "root" / HOME
    home.mkdir(parents=True)
    os.mkfifo(home / "fifo.ko")
    (home / "directory.ko").mkdir()
    (home / "dangling.ko").symlink_to("nowhere.ko")
    (home / "link.ko").symlink_to("good-1.ko")
    kinds = {"fifo.ko": "FIFO", "directory.ko": "directory", "socket.ko": "socket"}
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(home, os.O_RDONLY)  # the name of a socket must be short
        try:
            listener.bind(f"/proc/self/fd/{here}/socket.ko")
        finally:
            os.close(here)
        if os.geteuid() == 0:
            os.mknod(home / "device.ko", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            os.mknod(home / "disk.ko", stat.S_IFBLK | 0o600, os.makedev(7, 250))
            kinds |= {"device.ko": "character device", "disk.ko": "block device"}
        job = well(ran(tmp_path / "root", whole(corpus)))
    assert job.states == {State.STRIPPED: 2}
    for name, kind in kinds.items():
        assert f"(kind: {kind})" in told(job, name, "not-regular")
    dangling = f"warning: {HOME}/dangling.ko: {registry()['dangling-link'].title} (target: nowhere.ko"
    assert dangling in job.out
    assert job.receipt.walk.links == 2


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="pkghook-test.") as place:
        os.chmod(place, 0o755)  # noqa: S103
        yield Path(place)


def as_nobody(root: Path, *options: str) -> inprocess.Told:
    """The run of a user without rights; our own rights are those already unless we are root."""
    inprocess.call("strip", root.parent / "nothing", *options)  # what is imported late may lie where only we can read
    (root.parent / "empty").mkdir(exist_ok=True)
    inprocess.call("strip", root.parent / "empty", "--format", "text")
    return in_child(lambda: inprocess.call("strip", root, *options), uid=NOBODY if os.geteuid() == 0 else None)


def give(root: Path) -> None:
    """Let the user without rights own what is there."""
    for path in (root, *root.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)


def test_unreadable_file_and_directory(corpus: Path, public: Path) -> None:
    root = public / "root"
    for name in ("closed.ko", *GOOD):
        inprocess.put(root, name, whole(corpus))
    closed = root / HOME / "closed"
    closed.mkdir()
    (closed / "a.ko").write_bytes(whole(corpus))
    before = inprocess.digests(root)
    give(root)
    (root / HOME / "closed.ko").chmod(0)
    closed.chmod(0)
    done = as_nobody(root)
    closed.chmod(0o755)
    (root / HOME / "closed.ko").chmod(0o644)
    assert (done.status, done.err) == (1, "")
    for name in ("closed.ko", "closed"):
        line = f"error: {HOME}/{name}: cannot be read (error: Permission denied) [unreadable]"
        assert line in done.out.splitlines()
    after = inprocess.digests(root)
    assert {Path(path).name for path in before if before[path] != after[path]} == set(GOOD)
    assert set(before) == set(after)


def test_tree_that_may_not_be_written(corpus: Path, public: Path) -> None:
    root = public / "root"
    for name in GOOD:
        inprocess.put(root, name, whole(corpus))
    inprocess.put(root, "done.ko", native_strip(whole(corpus)))
    before = inprocess.digests(root)
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = as_nobody(root)
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)
    assert (done.status, done.err) == (1, "")
    assert done.out.count("[cannot-write]") == 4
    assert "3 modules: 1 already-stripped, 2 failed\n" in done.out
    assert "Permission denied" in done.out
    assert inprocess.digests(root) == before


# --- a file system that gives no room, or none to write --------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--chain", "objcopy,native"), ("--chain", "strip")])
def test_no_space_left(corpus: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Room for the small results, not for the large one."""
    if options:
        need_tool(options[1].partition(",")[0])
    small, large = whole(corpus), modules.image(modules.named(corpus, "amd64", "xfs"))
    room = len(large) + 3 * len(small) + (len(native_strip(large)) + len(large) * bool(options)) // 2
    with mounted(tmp_path / "disk", f"size={room // 1024}k,nr_inodes=100"):
        root = tmp_path / "disk" / "root"
        inprocess.put(root, "large.ko", large)
        job = well(ran(root, small, "-j1", *options, receipt=tmp_path / "receipt"))
        assert "No space left on device" in told(job, "large.ko", "cannot-write")


def pages(data: bytes) -> int:
    """How many pages of 4 KiB a file takes."""
    return -(-len(data) // 4096)


@pytest.mark.parametrize("how", PACKED)
def test_no_space_left_to_compress(corpus: Path, tmp_path: Path, how: Compression) -> None:
    """The stripped image finds room, the compressed result does not."""
    small, large = whole(corpus), modules.image(modules.named(corpus, "amd64", "af_alg"))
    data = inprocess.packed(large, how)
    stripped = native_strip(large)
    result = inprocess.packed(stripped, how)
    room = sum(map(pages, (data, small, small, stripped))) + pages(result) // 2
    name = f"large.ko{how.suffix}"
    with mounted(tmp_path / "disk", f"size={4 * room}k,nr_inodes=100"):
        root = tmp_path / "disk" / "root"
        inprocess.put(root, name, data)
        outcome = ran(root, small, "-j1", receipt=tmp_path / "receipt")
        job = well(outcome, name)
        assert "No space left on device" in told(job, name, "cannot-write")


def test_read_only_tree(corpus: Path, tmp_path: Path) -> None:
    """Mounted so, for a process of its own."""
    need_root()
    root = tmp_path / "root"
    for name in GOOD:
        inprocess.put(root, name, whole(corpus))
    inprocess.put(root, "done.ko", native_strip(whole(corpus)))
    before = inprocess.digests(root)
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" || exit 77; exec "$@"'
    argv = [need_tool("unshare"), "-m", "sh", "-c", script, str(root)]
    argv += [sys.executable, "-m", "pkghook", "strip", str(root)]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (1, "")
    for name in GOOD:
        line = f"error: {HOME}/{name}: {registry()['cannot-write'].title} (error: Read-only file system) [cannot-write]"
        assert line in done.stdout.splitlines()
    assert "3 modules: 1 already-stripped, 2 failed\n" in done.stdout
    assert inprocess.digests(root) == before
    for name in GOOD:
        (root / HOME / name).write_bytes(native_strip(whole(corpus)))
    assert subprocess.run(argv, env=environ, capture_output=True, check=False).returncode == 0, "nothing to write"


# --- a tree that somebody else changes meanwhile ---------------------------------------------------------------------

Change = Callable[[Path], object]


def replaced_by(data: bytes) -> Change:
    """Another file under the same name."""

    def change(path: Path) -> None:
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").rename(path)

    return change


def instead(make: Callable[[Path], object]) -> Change:
    """Something else under the same name."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def moved_away(path: Path) -> None:
    """The directory has another name now."""
    path.parent.rename(path.parent.with_name("elsewhere"))


def led_astray(path: Path) -> None:
    """A link to a directory outside stands where the module's directory was."""
    moved_away(path)
    outside = path.parents[6] / "outside"
    outside.mkdir(exist_ok=True)
    (outside / path.name).write_bytes(b"of somebody else")
    path.parent.symlink_to(os.path.relpath(outside, path.parents[1]))


CHANGES: dict[str, Change] = {
    "written to": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"),
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "cut short": lambda path: os.truncate(path, 1000),
    "emptied": lambda path: os.truncate(path, 0),
    "replaced": replaced_by(b"\x7fELF another"),
    "removed": lambda path: path.unlink(),
    "a link now": instead(lambda path: path.symlink_to("/etc/passwd")),
    "a FIFO now": instead(os.mkfifo),
    "a directory now": instead(Path.mkdir),
    "moved away with its directory": moved_away,
    "led astray": led_astray,
}  # fmt: skip


def changing(monkeypatch: pytest.MonkeyPatch, point: str, change: Callable[[], object]) -> None:
    """Let `change` happen in the worker, once, when it comes to the named point of the module `changed.ko`."""

    def at(number: int, call: Callable[..., object]) -> Callable[..., object]:
        def first_then(*args: object, **kwargs: object) -> object:
            if "changed.ko" in str(args[number]):
                change()
            return call(*args, **kwargs)

        return first_then

    if point == "opening":
        monkeypatch.setattr(Tree, "open", at(1, Tree.open))
    else:
        name = {"reading": "_read", "planned": "_by_policy", "proven": "_replaced"}[point]
        monkeypatch.setattr(work, name, at(1, getattr(work, name)))


@pytest.mark.parametrize("point", ["opening", "reading", "planned", "proven"])
@pytest.mark.parametrize("what", CHANGES)
def test_changed_meanwhile(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, point: str
) -> None:
    """Never a byte of the new file lost, never one written elsewhere."""
    root = tmp_path / "root"
    directory = root / HOME / "own"
    directory.mkdir(parents=True)
    path = directory / "changed.ko"
    path.write_bytes(whole(corpus))
    for name in GOOD:
        inprocess.put(root, name, whole(corpus))
    changing(monkeypatch, point, lambda: CHANGES[what](path))
    shutil.copytree(root, tmp_path / "copy")
    CHANGES[what](tmp_path / "copy" / HOME / "own" / "changed.ko")
    wanted = inprocess.digests(tmp_path / "copy")
    job = inprocess.strip(root)
    after = inprocess.digests(root)
    entry = job.entry("changed.ko")
    if point == "opening" and what in ("written to", "grown") and entry.state is State.STRIPPED:
        return  # it was changed before we looked at it, and is a module still
    assert (job.status, entry.state) == (1, State.FAILED)
    (finding,) = entry.findings
    early = {"vanished", "not-regular", "not-elf", "truncated", "section-outside-file", "empty-file"}
    assert finding.id in ({"changed-during-run"} | (early if point == "opening" else set())), finding
    assert {path for path in wanted if wanted[path] != after.get(path)} == {f"{HOME}/{name}" for name in GOOD}
    assert set(wanted) == set(after)
    if what == "led astray":
        assert [file.read_bytes() for file in (tmp_path / "outside").iterdir()] == [b"of somebody else"]
    told_of = [line for line in job.out.splitlines() if line.startswith(f"error: {entry.path}: ")]
    assert len(told_of) == 1


def test_changed_by_a_tool(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that removes the module while it is at it."""
    root = tmp_path / "root"
    path = inprocess.put(root, "changed.ko", whole(corpus))
    tool = tmp_path / "bin" / "objcopy"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\n[ $1 = --version ] && exit\nrm -f '{path}'\nexec {need_tool('objcopy')} \"$@\"\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    job = inprocess.strip(root, "--chain", "objcopy")
    assert [finding.id for finding in job.entry("changed.ko").findings] == ["changed-during-run"]
    assert not any(path.is_file() for path in root.rglob("*"))


def test_alignments_that_would_blow_the_file_up(tmp_path: Path) -> None:
    """Each section of a byte on 64 KiB of its own: native would write 64 times what is there, and does not begin."""
    patient = Patient(shapes.many_sections(300))
    for index in range(1, 280):
        patient.set_section(index, align=1 << 16)
    data = bytes(patient)
    root = tmp_path / "root"
    path = inprocess.put(root, "crafted.ko", data)
    job = inprocess.strip(root, "--chain", "native")
    entry = job.entry("crafted.ko")
    assert (job.status, entry.state) == (1, State.FAILED)
    assert [(a.step, a.outcome.value) for a in entry.attempts] == [("native", "no-gain")]
    assert entry.attempts[0].why.startswith("would grow to ")
    assert path.read_bytes() == data
