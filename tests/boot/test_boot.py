"""Stripped modules loaded by real kernels, side by side with the shipped ones.

`tests/run` loads a sample; `tests/run --full boot` every module and everything else.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import jobs, modules
from tests.boot import broken, livepatch
from tests.boot.compare import GOOD, Differences, compare
from tests.boot.course import Load, Wanted, load
from tests.boot.dump import Symbol
from tests.boot.machines import AMD64, RISCV64
from tests.boot.messages import Kind
from tests.boot.staged import module_name, stage
from tests.conftest import Tell
from tests.support import lacking, need_tool

KERNEL = "amd64"
NUMBER = 60  # of the sample; what these need comes with them
STEPS = ("native", "objcopy", "strip", "eu-strip", "llvm-strip")
AS_SHIPPED = ("native", "objcopy", "strip")


def kernel(corpus: Path, name: str = KERNEL) -> Path:
    """The kernel of the corpus, as it boots."""
    found = sorted((corpus / name / "boot").glob("vmlinu*"))
    return found[0] if found else lacking(f"no {name} kernel to boot in {corpus}; `tests/corpus {name}` fetches it")


def modules_dir(root: Path) -> Path:
    """The directory of the one kernel below a root, or below a lib/modules."""
    (found,) = (path for path in (*root.glob("lib/modules/*"), *root.glob("[0-9]*")) if path.is_dir())
    return found


@cache
def shipped(corpus: Path, number: int) -> Load:
    """The reference: what Debian ships."""
    need_tool("qemu-system-x86_64")
    tree = modules_dir(jobs.kernel_tree(corpus, KERNEL, "shipped"))
    return load(AMD64, kernel(corpus), tree, Wanted(number=number))


@pytest.fixture
def scratch(corpus: Path, tmp_path: Path) -> Iterator[Path]:
    """Room for a copy of all unstripped modules."""
    with jobs.roomy(jobs.size_of(jobs.kernel_tree(corpus, KERNEL, "dbg")), tmp_path) as place:
        yield place


def planted(corpus: Path, scratch: Path, names: Counter[str] | None = None) -> Path:
    """A buildroot with the unstripped modules, or those of these names."""
    tree = jobs.kernel_tree(corpus, KERNEL, "dbg")
    root = scratch / "root"
    if root.exists():
        shutil.rmtree(root)
    only = None if names is None else [p for p in jobs.modules_of(tree) if p.stem.replace("-", "_") in names]
    jobs.plant(root, tree, only)
    return root


def loaded(corpus: Path, root: Path, *names: str, append: str = "", one_boot: bool = False) -> Load:
    """What becomes of the modules of a buildroot."""
    return load(AMD64, kernel(corpus), modules_dir(root), Wanted(names, append=append, one_boot=one_boot))


def figures(what: str, run: Load, differences: Differences | None = None) -> str:
    """What became of all modules."""
    kinds = Counter(f"{result.kind}/{result.word}" for result in run.results.values())
    symbols = sum(view.symbols.total() for view in run.known.values())
    taints = Counter(view.taint or "none" for view in run.known.values())
    refused = [f"{name} ({run.results[name].detail[:150]})" for name in run.of(Kind.FAIL)[:5]]
    return (
        f"{what}: {len(run.results)} modules, {len(run.known)} seen by the kernel, {symbols} kallsyms, "
        f"{dict(kinds.most_common())}, taint {dict(taints)}, boots of {[round(s) for s in run.seconds]} s"
        + (f"; {len(differences.taint)} differ in taint" if differences else "")
        + (f"; refused: {', '.join(refused)}" if refused else "")
    )


def test_sample_loads_as_shipped(corpus: Path, tmp_path: Path) -> None:
    reference = shipped(corpus, NUMBER)
    assert len(reference.of(Kind.OK)) >= NUMBER, "the guest loads what is shipped"
    assert not reference.of(Kind.FAIL, Kind.CRASH, Kind.NEED, Kind.SKIP)
    assert reference.known.keys() == reference.results.keys(), "the kernel has seen every one"
    root = planted(corpus, tmp_path, Counter(reference.results))
    jobs.verified(jobs.strip(root), len(reference.results), "native")
    differences = compare(reference, loaded(corpus, root))
    assert differences.but_taint, differences
    assert all(after == "E" for _, after in differences.taint.values()), "unsigned, nothing else"


def test_what_is_broken_is_seen(corpus: Path, tmp_path: Path) -> None:
    """A proof by loading that nothing can fail would prove nothing."""
    reference = shipped(corpus, NUMBER)
    tree = modules_dir(jobs.kernel_tree(corpus, KERNEL, "shipped"))
    copy = tmp_path / tree.name
    shutil.copytree(tree, copy)
    paths = {path.stem.replace("-", "_"): path for path in jobs.modules_of(copy)}
    for damage in broken.DAMAGES:
        paths[damage.name].write_bytes(damage.how(modules.unsigned(paths[damage.name].read_bytes())))
    run = load(AMD64, kernel(corpus), copy, Wanted(tuple(damage.name for damage in broken.DAMAGES), one_boot=True))
    seen = {
        damage.name: "no btf" if run.results[damage.name].kind in GOOD and not run.known[damage.name].btf
        else run.results[damage.name].word
        for damage in broken.DAMAGES
    }  # fmt: skip
    assert seen == {damage.name: damage.seen for damage in broken.DAMAGES}
    damaged = {damage.name for damage in broken.DAMAGES}
    assert compare(reference, run).worse == [
        name for name in reference.results if name in damaged and name in run.results
    ]


# --- everything: tests/run --full boot -------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("step", STEPS)
def test_every_module_by_each_step(corpus: Path, scratch: Path, step: str, tell: Tell) -> None:
    reference = shipped(corpus, 0)
    if step == "native":
        tell(figures("shipped", reference))
    assert not reference.of(Kind.FAIL, Kind.CRASH, Kind.NEED, Kind.SKIP)
    assert reference.known.keys() == reference.results.keys()
    root = planted(corpus, scratch)
    jobs.verified(jobs.strip(root, "--chain", step), len(reference.results), step)
    run = loaded(corpus, root)
    differences = compare(reference, run)
    tell(figures(step, run, differences))
    assert differences.but_taint, differences


@pytest.mark.full
def test_what_hangs_is_put_apart(corpus: Path, tmp_path: Path, tell: Tell) -> None:
    tree = modules_dir(jobs.kernel_tree(corpus, KERNEL, "shipped"))
    copy = tmp_path / tree.name
    shutil.copytree(tree, copy)
    path = next(path for path in copy.rglob("*.ko") if module_name(path) == broken.HANG.name)
    path.write_bytes(broken.HANG.how(modules.unsigned(path.read_bytes())))
    names = (broken.HANG.name, "mac_croatian", "xfs")
    run = load(AMD64, kernel(corpus), copy, Wanted(names, one_boot=True, patience=30))
    tell(figures("one that hangs", run))
    assert [name for name, result in run.results.items() if result.kind is not Kind.OK] == [broken.HANG.name]
    assert run.results[broken.HANG.name][:2] == (Kind.CRASH, "HANG")


@pytest.mark.full
def test_symbols_safe(corpus: Path, scratch: Path, tell: Tell) -> None:
    reference = shipped(corpus, 0)
    root = planted(corpus, scratch)
    job = jobs.strip(root, "--strip-symbols", "symbols.safe")
    jobs.verified(job, len(reference.results), "native-symbols")
    run = loaded(corpus, root)
    differences = compare(reference, run)
    tell(figures("symbols.safe", run, differences))
    dropped = {Path(entry.path).stem.replace("-", "_"): set(entry.dropped_symbols) for entry in job.receipt.entries}
    gone = {name: shown_of(reference, name, dropped[name]) for name in reference.known}
    assert differences.lost == {name: symbols for name, symbols in gone.items() if symbols}
    assert differences._replace(lost={}).but_taint, differences
    tell(
        f"{sum(map(len, dropped.values()))} symbols dropped, {sum(s.total() for s in differences.lost.values())} of "
        f"them in kallsyms before, just those gone after"
    )


def shown_of(run: Load, name: str, names: set[str]) -> Counter[Symbol]:
    """Those of a module's symbols that the kernel shows."""
    return Counter({symbol: count for symbol, count in run.known[name].symbols.items() if symbol[0] in names})


def signed(corpus: Path, root: Path) -> None:
    """Append to every module the signature of its shipped twin."""
    for path in jobs.modules_of(root):
        whole = modules.shipped(corpus, KERNEL, path).read_bytes()
        with path.open("ab") as file:
            file.write(whole[len(modules.unsigned(whole)) :])


@pytest.mark.full
@pytest.mark.parametrize("step", AS_SHIPPED)
def test_distribution_signature_fits(corpus: Path, tmp_path: Path, step: str, tell: Tell) -> None:
    reference = shipped(corpus, NUMBER)
    root = planted(corpus, tmp_path, Counter(reference.results))
    jobs.verified(jobs.strip(root, "--chain", step), len(reference.results), step)
    bare = loaded(corpus, root, append="module.sig_enforce=1", one_boot=True)
    assert {result.word for result in bare.results.values()} <= {"EKEYREJECTED", "ENOKEY"}, "enforced it is"
    signed(corpus, root)
    run = loaded(corpus, root, append="module.sig_enforce=1", one_boot=True)
    tell(figures(f"{step}, signed, enforced", run))
    changed = [name for name, result in run.results.items() if result[:2] != reference.results[name][:2]]
    # Where another module refused for want of hardware there is no second boot: its image would not be signed.
    assert all(run.results[name].kind is Kind.FAIL and "Unknown symbol" in run.results[name].detail for name in changed)
    assert len(changed) <= 2
    assert not any(view.taint for view in run.known.values())


@pytest.mark.full
@pytest.mark.parametrize("append", ["", "module.sig_enforce=1"])
def test_stale_signature_is_refused(corpus: Path, tmp_path: Path, append: str, tell: Tell) -> None:
    reference = shipped(corpus, NUMBER)
    root = planted(corpus, tmp_path, Counter(reference.results))
    jobs.verified(jobs.strip(root, "--chain", "eu-strip"), len(reference.results), "eu-strip")
    signed(corpus, root)
    run = loaded(corpus, root, append=append, one_boot=True)
    tell(figures(f"stale signatures {append}", run))
    assert {result[:2] for result in run.results.values()} == {(Kind.FAIL, "EKEYREJECTED")}


@pytest.mark.full
def test_xz_as_pkghook_writes_it(corpus: Path, tmp_path: Path, tell: Tell) -> None:
    """Decompressed by Debian's 6.12 kernel itself (MODULE_INIT_COMPRESSED_FILE); its twin with CRC64 is refused."""
    tree = jobs.kernel_tree(corpus, "amd64-6.12", "shipped")
    paths = sorted(tree.rglob("*.ko.xz"), key=lambda path: path.stat().st_size)
    only = {module_name(path): path for path in paths[:: len(paths) // NUMBER]}
    needed = stage(modules_dir(tree), tmp_path / "staged").order(only)
    root = tmp_path / "root"
    planted = jobs.plant(root, tree, [path for path in paths if module_name(path) in needed])
    before = {path: path.read_bytes() for path in planted}
    job = jobs.strip(root, "--strip-symbols", "symbols.safe", "--signed", "strip", "--livepatch", "fail")
    written = [path for path in planted if path.read_bytes() != before[path]]
    assert job.status == 0, job.out
    assert len(written) > NUMBER // 2, "pkghook has compressed them"
    twin = next(path for path in written if not any(module_name(path) in needs_of(root, each) for each in planted))
    plain = lzma.decompress(twin.read_bytes())
    twin.write_bytes(lzma.compress(plain, check=lzma.CHECK_CRC64))
    names = tuple(map(module_name, planted))
    wanted = Wanted(names, packed="load", one_boot=True)
    run = load(AMD64, kernel(corpus, "amd64-6.12"), modules_dir(root), wanted)
    tell(figures(f"6.12, {len(written)} .ko.xz as pkghook wrote them, {module_name(twin)} with CRC64", run))
    assert run.results[module_name(twin)].kind is Kind.FAIL
    others = {name: result for name, result in run.results.items() if name != module_name(twin)}
    refused = {name: result for name, result in others.items() if result.kind not in GOOD}
    assert all("Unknown symbol" in result.detail for result in refused.values()), refused
    assert len(refused) <= 3, "what needs a module that found no hardware"


def needs_of(root: Path, path: Path) -> list[str]:
    """What a module depends on, directly."""
    done = subprocess.run(
        [need_tool("modinfo"), "-F", "depends", path], cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().replace("-", "_").split(",")


@pytest.mark.full
@pytest.mark.parametrize(("suffix", "by"), [(".zst", "kmod"), (".gz", "busybox"), (".xz", "kmod")])
def test_others_decompress_what_pkghook_wrote(corpus: Path, tmp_path: Path, suffix: str, by: str, tell: Tell) -> None:
    """In user space; Debian has no kernel that decompresses gzip or zstd modules itself, so that is not shown."""
    reference = shipped(corpus, NUMBER)
    root = planted(corpus, tmp_path, Counter(list(reference.results)[:NUMBER]))
    for path in jobs.modules_of(root):
        subprocess.run([*RECIPES[suffix], path], check=True)
    found = jobs.modules_of(root)
    assert {path.suffix for path in found} == {suffix}
    jobs.verified(jobs.strip(root), len(found), "native")
    run = load(AMD64, kernel(corpus), modules_dir(root), Wanted(packed=by, one_boot=True))
    tell(figures(f"{suffix} by {by}", run))
    bad = {name: result for name, result in run.results.items() if result.word != reference.results[name].word}
    assert {result.kind for name, result in run.results.items() if name not in bad} <= {Kind.OK}
    # insmod says no more than that it failed
    assert all(reference.results[name].kind is Kind.INIT for name in bad), bad


RECIPES = {  # scripts/Makefile.modinst
    ".gz": ("gzip", "-n", "-f"),
    ".xz": ("xz", "--check=crc32", "--lzma2=dict=1MiB", "-f"),
    ".zst": ("zstd", "-T0", "--rm", "-f", "-q"),
}


@pytest.mark.full
def test_livepatch(corpus: Path, tmp_path: Path, tell: Tell) -> None:
    """Its one klp relocation works after `native`, and is gone after `strip -g`, which exits 0."""
    version = modules_dir(jobs.kernel_tree(corpus, KERNEL, "shipped")).name
    build = tmp_path / "build"
    build.mkdir()
    image = livepatch.grow(version, build)
    seen = {}
    for step in ("as built", "native", "eu-strip", "strip -g"):
        root = tmp_path / step.replace(" ", "-")
        module = root / "lib" / "modules" / version / f"{livepatch.NAME}.ko"
        module.parent.mkdir(parents=True)
        module.write_bytes(image)
        if step == "strip -g":
            subprocess.run([need_tool("strip"), "-g", module], check=True)
        elif step != "as built":
            jobs.verified(jobs.strip(root, "--chain", step), 1, step)
        run = loaded(corpus, root, one_boot=True)
        tell(figures(f"livepatch, {step}, {module.stat().st_size} bytes", run))
        seen[step] = run.results[livepatch.NAME].kind, run.known.get(livepatch.NAME, None)
    for step in ("as built", "native", "eu-strip"):
        kind, known = seen[step]
        assert kind is Kind.OK
        assert known
        assert "K" in known.taint, "the kernel takes it for a livepatch"
    assert seen["strip -g"][0] is not Kind.OK


@pytest.mark.full
def test_riscv64_without_labels(corpus: Path, tmp_path: Path, tell: Tell) -> None:
    tree = jobs.kernel_tree(corpus, "riscv64", "shipped")
    unstripped = {
        modules.stem(path) for path in modules.unstripped(corpus, "riscv64") if path.stat().st_size < 100 << 20
    }
    version = modules_dir(tree).name
    reference_root, root = tmp_path / "shipped", tmp_path / "stripped"
    staged = stage(modules_dir(tree), tmp_path / "staged")
    names = {module_name(path) for path in tree.rglob("*.ko.xz") if modules.stem(path) in unstripped}
    order = staged.order(names)
    for name in order:
        for each in (reference_root, root):
            to = each / staged.path[name].lstrip("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(modules.unsigned(staged.file(name).read_bytes()))
    shutil.rmtree(tmp_path / "staged")
    job = jobs.strip(root, "--discard-labels")
    assert job.status == 0, job.out
    assert sum(entry.dropped_labels for entry in job.receipt.entries) > 100_000
    image = kernel(corpus, "riscv64")
    reference, run = (load(RISCV64, image, each / "lib" / "modules" / version) for each in (reference_root, root))
    differences = compare(reference, run)
    tell(figures("riscv64, shipped", reference))
    tell(figures("riscv64, --discard-labels", run, differences))
    assert differences._replace(lost={}).but_taint, differences
    gone = Counter(name for symbols in differences.lost.values() for name, _ in symbols.elements())
    assert all(name.startswith(".L") for name in gone), "nothing but labels"
    assert gone.total() > 100_000
    assert reference.of(Kind.OK)
