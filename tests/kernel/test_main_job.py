"""The main job, end to end: a real kernel's unstripped modules in, what its distribution ships out.

Debian strips with `strip -g` of the same release's binutils and then appends a signature.  So the shipped module
without its signature is, byte for byte, the right answer, and N is what two packages of one build agree on.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkghook.ko import symbols
from pkghook.model import State
from tests import jobs, loader, modules
from tests.jobs import Job
from tests.support import need_kernel, need_tool
from tests.surgery import Patient

KERNEL = "amd64"
SMALL = 2 << 20  # bytes of a module up to which the slow second opinion is asked
OUTSIDE = ("objcopy", "strip", "eu-strip", "llvm-strip")
IDENTICAL = ("native", "objcopy", "strip")  # elfutils and LLVM lay out a file in their own way
THREAD = ("--chain", "thread", "--strip-symbols", "symbols.2009", "--allow-depmod-change")
REFUSAL = re.compile(
    r"objcopy: not stripping symbol `\S+' because it is named in a relocation( \((at least )?\d+ more lines?\))?"
)


def unsigned(path: Path) -> bytes:
    """A shipped module up to its signature, which it has."""
    data = path.read_bytes()
    assert data.endswith(modules.MARKER), path
    return modules.unsigned(data)


def is_as_shipped(corpus: Path, path: Path) -> bool:
    """Whether a module is, byte for byte, the shipped one without its signature."""
    return path.read_bytes() == unsigned(modules.shipped(corpus, KERNEL, path))


@pytest.fixture
def lib_modules(corpus: Path) -> Path:
    """The unstripped ones of the corpus."""
    return jobs.kernel_tree(corpus, KERNEL, "dbg")


@pytest.fixture
def scratch(lib_modules: Path, tmp_path: Path) -> Iterator[Path]:
    """Room for a copy of them."""
    with jobs.roomy(jobs.size_of(lib_modules), tmp_path) as place:
        yield place


# --- the whole tree, as it is done by default ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """All modules, stripped by default."""
    source = jobs.kernel_tree(corpus, KERNEL, "dbg")
    with jobs.roomy(jobs.size_of(source), tmp_path_factory.mktemp("whole")) as place:
        jobs.plant(place / "root", source)
        yield jobs.strip(place / "root")


def test_n_of_n(corpus: Path, whole: Job) -> None:
    shipped = {modules.stem(path) for path in jobs.modules_of(need_kernel(corpus, KERNEL))}
    unstripped = {modules.stem(path) for path in jobs.modules_of(need_kernel(corpus, KERNEL, "dbg"))}
    assert len(shipped) > 1000
    assert shipped == unstripped
    jobs.verified(whole, len(shipped), "native")
    assert {modules.stem(Path("/", path)) for path in whole.entries} == shipped
    assert f"{len(shipped)} modules: {len(shipped)} stripped\n" in whole.out
    assert whole.err == ""


def test_each_is_what_is_shipped_to_the_byte(corpus: Path, whole: Job) -> None:
    found = jobs.modules_of(whole.root)
    assert [path for path in found if not is_as_shipped(corpus, path)] == []
    assert len(found) == len(whole.entries)


def test_receipt_says_what_lies_there(lib_modules: Path, whole: Job) -> None:
    totals = whole.receipt.totals
    assert totals.file_before == totals.image_before == jobs.size_of(lib_modules)
    assert totals.file_after == totals.image_after == totals.expected == jobs.size_of(whole.root)
    for path, entry in whole.entries.items():
        data = (whole.root / path).read_bytes()
        before = lib_modules.parent.parent / path
        assert (entry.sizes.file_after, entry.sha256_after) == (len(data), hashlib.sha256(data).hexdigest())
        assert entry.sizes.file_before == before.stat().st_size
        assert jobs.attempts(entry) == [("native", "passed")]
        assert entry.findings == ()


def test_mode_and_time_are_kept(lib_modules: Path, whole: Job) -> None:
    for path in whole.entries:
        after, before = (whole.root / path).stat(), (lib_modules.parent.parent / path).stat()
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    files = sorted(path for path in whole.root.rglob("*") if path.is_file())
    assert files == jobs.modules_of(whole.root), "nothing is left behind"


def test_verify_agrees(corpus: Path, lib_modules: Path, whole: Job) -> None:
    jobs.same(lib_modules, whole.root / "lib" / "modules")
    jobs.same(jobs.kernel_tree(corpus, KERNEL, "shipped"), whole.root / "lib" / "modules")


def test_a_second_run_changes_nothing(whole: Job) -> None:
    before = jobs.facts(whole.root)
    again = jobs.strip(whole.root)
    assert (again.status, again.states) == (0, {State.ALREADY_STRIPPED: len(whole.entries)})
    assert jobs.facts(whole.root) == before


def test_debug_tree_is_counted_and_left_alone(corpus: Path, lib_modules: Path, tmp_path: Path) -> None:
    """As the -dbg package has it: not even looked into, unless that is asked for."""
    some = modules.sample(corpus, KERNEL, 3, limit=SMALL)
    planted = jobs.plant(tmp_path / "root" / "usr" / "lib" / "debug", lib_modules, some)
    before = jobs.facts(tmp_path / "root")
    job = jobs.strip(tmp_path / "root")
    assert (job.status, job.states) == (0, {})
    assert (job.receipt.walk.debug_modules, job.receipt.walk.debug_bytes) == (len(planted), jobs.size_of(job.root))
    assert jobs.facts(tmp_path / "root") == before
    jobs.verified(jobs.strip(tmp_path / "root", "--include-debug"), len(planted), "native")


# --- each other step alone -------------------------------------------------------------------------------------------


def alone(corpus: Path, scratch: Path, step: str, only: list[Path] | None) -> None:
    """Strip by one step, and judge the result by what is shipped and by the second opinion."""
    need_tool(step)
    lib_modules = jobs.kernel_tree(corpus, KERNEL, "dbg")
    planted = jobs.plant(scratch / "root", lib_modules, only)
    job = jobs.verified(jobs.strip(scratch / "root", "--chain", step), len(planted), step)
    assert [name for name, _ in job.receipt.tools] == [step]
    if step in IDENTICAL:
        assert job.receipt.totals.file_after == job.receipt.totals.expected
        assert [path for path in planted if not is_as_shipped(corpus, path)] == []
    small = [
        path for path in planted if (lib_modules / path.relative_to(job.root / "lib/modules")).stat().st_size < SMALL
    ]
    for path in small[:: max(1, len(small) // 6)]:
        before = lib_modules / path.relative_to(job.root / "lib/modules")
        assert loader.same(before.read_bytes(), path.read_bytes()), path


def test_objcopy_alone_on_all(corpus: Path, scratch: Path) -> None:
    alone(corpus, scratch, "objcopy", None)


@pytest.mark.parametrize("step", OUTSIDE[1:])
def test_each_step_alone(corpus: Path, scratch: Path, step: str) -> None:
    alone(corpus, scratch, step, modules.sample(corpus, KERNEL, 60))


@pytest.mark.full
@pytest.mark.parametrize("step", OUTSIDE[1:])
def test_each_step_alone_on_all(corpus: Path, scratch: Path, step: str) -> None:
    alone(corpus, scratch, step, None)


# --- the chain of 2009 -----------------------------------------------------------------------------------------------


def exports(path: Path) -> bool:
    """Whether a module exports a symbol."""
    return "__ksymtab_strings" in Patient(path.read_bytes()).names


def fell(job: Job) -> set[str]:
    """The modules at which the first step failed; of each the receipt and the report have to show it."""
    found = {path for path, entry in job.entries.items() if len(entry.attempts) > 1}
    for path in found:
        entry = job.entries[path]
        assert jobs.attempts(entry) == [("objcopy-symbols", "failed"), ("objcopy", "passed")]
        assert REFUSAL.fullmatch(entry.attempts[0].why), entry.attempts[0].why
        assert job.findings(path) == ["fell-through"]
        assert entry.dropped_symbols == ()
    assert f"passed: {len(found)} warnings\n" in job.out
    return found


def test_chain_of_the_thread_falls_where_symbols_are_exported(corpus: Path, lib_modules: Path, scratch: Path) -> None:
    """Both ways: the step that drops symbols fails on all modules that export one, and on no other."""
    need_tool("objcopy")
    planted = jobs.plant(scratch / "root", lib_modules)
    exporting = {path for path in planted if exports(modules.shipped(corpus, KERNEL, path))}
    assert 200 < len(exporting) < len(planted) - 200
    job = jobs.verified(jobs.strip(scratch / "root", *THREAD), len(planted))
    assert {job.root / path for path in fell(job)} == exporting
    assert [path for path in sorted(exporting) if not is_as_shipped(corpus, path)] == []
    others = [entry for path, entry in job.entries.items() if job.root / path not in exporting]
    assert all(jobs.attempts(entry) == [("objcopy-symbols", "passed")] for entry in others)
    assert all(entry.dropped_symbols and not entry.findings for entry in others)


# --- symbol lists ----------------------------------------------------------------------------------------------------


def depmod(root: Path) -> dict[str, bytes]:
    """What depmod writes for the one kernel of a tree, by file name."""
    (home,) = (root / "lib" / "modules").iterdir()
    subprocess.run([need_tool("depmod"), "-b", root, home.name], check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in home.glob("modules.*")}


def test_safe_list_leaves_depmod_as_it_is(lib_modules: Path, scratch: Path) -> None:
    planted = jobs.plant(scratch / "root", lib_modules)
    before = depmod(scratch / "root")
    assert {"modules.dep", "modules.alias", "modules.symbols", "modules.symbols.bin"} <= set(before)
    assert before["modules.symbols"].count(b"\n") > 4000
    job = jobs.strip(scratch / "root", "--strip-symbols", "symbols.safe")
    jobs.verified(job, len(planted), "native-symbols")
    assert sum(len(entry.dropped_symbols) for entry in job.receipt.entries) > 10 * len(planted)
    assert depmod(scratch / "root") == before


def test_listed_symbols_go_and_nothing_else(corpus: Path, lib_modules: Path, tmp_path: Path) -> None:
    wanted = symbols.load("symbols.safe")
    planted = jobs.plant(tmp_path / "root", lib_modules, modules.sample(corpus, KERNEL, 24, limit=SMALL))
    job = jobs.strip(tmp_path / "root", "--strip-symbols", "symbols.safe")
    jobs.verified(job, len(planted), "native-symbols")
    for path in planted:
        before = loader.File(unsigned(modules.shipped(corpus, KERNEL, path))).symbols
        listed = [symbol[0] for symbol in before if wanted.matches(symbol[0].encode("latin-1"))]
        assert loader.File(path.read_bytes()).symbols == [symbol for symbol in before if symbol[0] not in listed], path
        assert sorted(listed) == list(job.entries[str(path.relative_to(job.root))].dropped_symbols)


def test_list_that_changes_depmod_is_refused(lib_modules: Path) -> None:
    done = jobs.run("strip", lib_modules, "--strip-symbols", "symbols.2009")
    assert done.returncode == 2
    assert "[depmod-change]" in done.stderr


# --- what is shipped -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["amd64", "amd64-6.12"])
def test_shipped_trees_stay_untouched(corpus: Path, tmp_path: Path, kernel: str) -> None:
    planted = jobs.plant(tmp_path / "root", jobs.kernel_tree(corpus, kernel, "shipped"))
    before = jobs.facts(tmp_path / "root")
    job = jobs.strip(tmp_path / "root", "--discard-labels")
    assert (job.status, job.states) == (0, {State.ALREADY_STRIPPED: len(planted)})
    assert len(planted) > 1000
    assert {entry.signature for entry in job.receipt.entries} == {"present"}
    assert jobs.facts(tmp_path / "root") == before
