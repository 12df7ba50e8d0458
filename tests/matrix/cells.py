"""What is done in each system: its figures where all went well; AssertionError where not; SetupError: not run."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from pkghook.chain.steps import STEPS
from pkghook.judge import receipt as receipts
from pkghook.judge.receipt import Receipt
from pkghook.model import Proof, State
from tests import loader, modules, shapes
from tests.boot import livepatch
from tests.inprocess import digests
from tests.looks import look
from tests.matrix.systems import CHECKOUT, SITE, System
from tests.packages import debian, dkms_source, rpm6
from tests.packages.rpms import PAYLOADS
from tests.setup.kernels import size_text

NUMBER = 40  # modules of each kernel
HOME = "lib/modules/1.0/kernel"
# What a step needs beside its name.
OPTIONS = {
    "native-symbols": ("--strip-symbols", "symbols.safe"),
    "objcopy-symbols": ("--strip-symbols", "symbols.safe"),
    "native-labels": ("--discard-labels",),
}
SURE = ("default", "native", "native-symbols", "native-labels")  # others may be fallen past: their tools' faults


class Cell(NamedTuple):
    """One column of the matrix."""

    name: str
    run: Callable[[System], str]
    rpm: int = 0  # from this version of rpm on


# --- strip -----------------------------------------------------------------------------------------------------------


def strip(system: System, sources: list[Path] | None = None) -> str:
    """Real unstripped modules of its own kernel, by each step alone and by the whole chain."""
    before = plant(system, "before", sources or some(system.kernel(), NUMBER))
    paths = [path for path in before.rglob("*") if path.is_file()]
    steps = {name: ("--chain", name, *OPTIONS.get(name, ())) for name, step in STEPS.items() if system.has(step.tool)}
    assert sources or len(steps) == len(STEPS), f"of the steps there are {', '.join(steps)}"
    told = [one_chain(system, before, name, options) for name, options in {"default": (), **steps}.items()]
    size = size_text(sum(path.stat().st_size for path in paths))
    shutil.rmtree(before)
    return f"{len(paths)} modules ({size}); " + ", ".join(told)


def one_chain(system: System, before: Path, name: str, options: tuple[str, ...]) -> str:
    """A copy of the tree stripped; what was not is as it was. Proven by the suite's Python, and by ours."""
    copy = before.with_name("after")
    shutil.copytree(before, copy)
    done = system.pkghook("strip", "/srv/after", "--receipt", "/srv/receipt.json", *options)
    receipt = last_receipt(system)
    passed = {entry.path for entry in receipt.entries if entry.state is State.STRIPPED}
    assert passed, done.output
    assert done.status == (0 if len(passed) == len(receipt.entries) else 1), done.output
    assert name not in SURE or len(passed) == len(receipt.entries), done.output
    for entry in receipt.entries:
        judge(before / entry.path, copy / entry.path, stripped=entry.path in passed, symbols=bool(options[2:]))
        assert entry.path not in passed or entry.proof is Proof.VERIFIED, entry
        assert entry.path not in passed or name in {entry.step, "default"}, entry
    same = system.clean("verify", "/srv/before", "/srv/after", *options[2:])
    assert f"{len(receipt.entries)} of {len(receipt.entries)} the same module" in same, same
    shutil.rmtree(copy)
    return f"{name} {len(passed)}"


def judge(before: Path, after: Path, *, stripped: bool, symbols: bool) -> None:
    """By the tests' model of the loader, which knows nothing of pkghook; lost `symbols` are expected."""
    if not stripped:
        assert after.read_bytes() == before.read_bytes(), f"{after.name}: neither stripped nor left alone"
        return
    assert after.stat().st_size < before.stat().st_size / 2, after.name
    assert symbols or loader.same(before.read_bytes(), after.read_bytes()), f"{after.name} is another module now"


def last_receipt(system: System) -> Receipt:
    """Of the run that has just ended."""
    return receipts.read(str(system.place("receipt.json")))


def some(kernel: Path, number: int) -> list[Path]:
    """That many of its unstripped modules from the smallest to the largest, evenly."""
    paths = sorted((kernel / "dbg").rglob("*.ko"), key=lambda path: (path.stat().st_size, str(path)))
    assert len(paths) >= number, f"{len(paths)} unstripped modules in {kernel}"
    return [paths[place * (len(paths) - 1) // (number - 1)] for place in range(number)]


def named(kernel: Path, name: str) -> Path:
    """Its unstripped module of this name."""
    return next((kernel / "dbg").rglob(f"{name}.ko"))


def plant(system: System, name: str, sources: Iterable[Path]) -> Path:
    """A tree with copies of modules below /srv; its path from outside."""
    root = system.place(name)
    (root / HOME).mkdir(parents=True)
    for path in sources:
        shutil.copy2(path, root / HOME)
    return root


# --- the kernel as it is shipped -------------------------------------------------------------------------------------


def shipped(system: System) -> str:
    """All modules of its own kernel: readable, in order, nothing to strip, and then not touched."""
    kernel = system.kernel()
    root = system.place("shipped")
    shutil.copytree(kernel / "shipped", root, symlinks=True)
    before = digests(root)
    said = system.clean("check", "/srv/shipped")
    system.clean("strip", "/srv/shipped", "--receipt", "/srv/receipt.json")
    receipt = last_receipt(system)
    assert {entry.state for entry in receipt.entries} == {State.ALREADY_STRIPPED}
    assert digests(root) == before
    kinds = Counter(path.suffix for path in root.rglob("*.ko*"))
    assert sum(kinds.values()) == len(receipt.entries), said
    shutil.rmtree(root)
    notes = ", ".join(f"{count} with {what}" for what, count in features(kernel).items())
    return f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())}; {notes}; packed again: {packed(system)}"


def features(kernel: Path) -> dict[str, int]:
    """In how many of its unstripped modules there is what kernels differ in."""
    found = {".BTF": 0, "__versions": 0, "two .note.GNU-stack": 0}
    for path in (kernel / "dbg").rglob("*.ko"):
        with path.open("rb") as file:
            names = Counter(section_names(file.read()))
        found[".BTF"] += names[".BTF"] > 0
        found["__versions"] += names["__versions"] > 0
        found["two .note.GNU-stack"] += names[".note.GNU-stack"] == 2
    return found


def section_names(data: bytes) -> list[str]:
    """Of a module, in order."""
    return [section.name for section in loader.File(data).sections]


def packed(system: System) -> str:
    """Unstripped modules that its own xz packed, as the kernel's makefile calls it: stripped, and read by its kmod."""
    root = plant(system, "packed", some(system.kernel(), NUMBER)[:3])
    shutil.copytree(root, system.place("plain"))
    names = [f"/srv/packed/{HOME}/{path.name}" for path in (root / HOME).iterdir()]
    system.chroot.must("xz", "--check=crc32", "--lzma2=dict=1MiB", *names)
    system.clean("strip", "/srv/packed")
    for name in names:
        system.chroot.must("xz", "-t", f"{name}.xz")
        told = [
            system.chroot.must("modinfo", "-0", f"{path}") for path in (f"{name}.xz", name.replace("packed", "plain"))
        ]
        assert told[0].partition("\0")[2] == told[1].partition("\0")[2], told
    system.clean("verify", "/srv/plain", "/srv/packed")
    return f"{len(names)} .ko.xz"


# --- livepatch -------------------------------------------------------------------------------------------------------


def livepatches(system: System) -> str:
    """Livepatch modules: GNU strip says 0 and ruins some; verify sees it, and strip does not let it happen."""
    grown = {shape.replace(" ", "-"): shapes.livepatch(shape) for shape in shapes.LIVEPATCH_SHAPES}
    grown["real"] = real_livepatch(system)
    ruined = [name for name, data in grown.items() if is_ruined(system, name, data)]
    root = system.place("livepatch")
    shutil.copytree(root, system.place("livepatch-after"))
    system.clean("strip", "/srv/livepatch-after")
    system.clean("verify", "/srv/livepatch", "/srv/livepatch-after")
    shutil.rmtree(system.place("livepatch-after"))
    shutil.copytree(root, system.place("livepatch-after"))
    done = system.pkghook("strip", "/srv/livepatch-after", "--chain", "strip", "--receipt", "/srv/receipt.json")
    kept = [entry for entry in last_receipt(system).entries if entry.state is State.KEPT]
    assert {Path(entry.path).stem for entry in kept} == set(ruined), done.output
    assert all([finding.id for finding in entry.findings] == ["livepatch-kept"] for entry in kept), done.output
    system.clean("verify", "/srv/livepatch", "/srv/livepatch-after")
    return f"GNU strip ruins {len(ruined)} of {len(grown)} with exit status 0 ({', '.join(ruined)}): all caught"


def is_ruined(system: System, name: str, data: bytes) -> bool:
    """Whether the suite's `strip -g` makes another module of it; `pkghook verify` must agree with the tests' model."""
    path = system.place("livepatch") / HOME / f"{name}.ko"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    inside = f"/srv/livepatch/{HOME}/{name}.ko"
    system.chroot.must("strip", "-g", "-o", "/srv/stripped.ko", inside)
    ruined = not loader.same(data, system.place("stripped.ko").read_bytes())
    done = system.pkghook("verify", inside, "/srv/stripped.ko")
    assert done.status == (1 if ruined else 0), done.output
    return ruined


def real_livepatch(system: System) -> bytes:
    """One that was compiled there for its own kernel."""
    work = system.place("klp")
    livepatch.sources(work)
    headers = f"/usr/src/linux-headers-{system.headers()}"
    system.chroot.must("make", "-s", "-C", headers, "M=/srv/klp", *livepatch.WORDS)
    return livepatch.grafted((work / f"{livepatch.NAME}.ko").read_bytes())


# --- packages --------------------------------------------------------------------------------------------------------


def rpm(system: System, module: Path | None = None) -> str:
    """tests/matrix/rpm: the hook, the debuginfo package, a misplaced line, the gate."""
    shutil.copy2(module or named(system.kernel(), "crc-itu-t"), system.place("demo.ko"))
    said = system.chroot.must(f"{CHECKOUT}/tests/matrix/rpm", "/srv/demo.ko", CHECKOUT, **plain(system))
    assert "\nok: " in said, said
    return said.rpartition("\nok: ")[2].strip()


def plain(system: System) -> dict[str, str]:
    """The environment but for PYTHONPATH, which the script sets itself."""
    return {name: value for name, value in system.environment.items() if name != "PYTHONPATH"}


def rpm_6(system: System) -> str:
    """A package of format 6 with each payload: read by the suite's Python, and every byte of it by ours."""
    system.site()
    module = named(system.kernel(), "crc-itu-t")
    tree = plant(system, "rpm6/unstripped", [module])
    shutil.copytree(tree, system.place("rpm6/stripped"))
    system.clean("strip", "/srv/rpm6/stripped")
    for payload in PAYLOADS:
        for name in ("unstripped", "stripped"):
            source, place = system.place("rpm6") / name, system.place("rpm6") / f"{name}-packages"
            package = rpm6.build(system.chroot.path, source, (f"/{HOME}",), payload, place)
            inside = f"/srv/rpm6/{place.name}/{package.name}"
            assert system.chroot.must("rpm", "-qp", "--nosignature", "--qf", "%{RPMFORMAT}", inside) == "6"
            seen = look(package)
            assert (seen.findings, seen.facts.payload) == ((), PAYLOADS[payload])
            assert seen.contents == {f"{HOME}/{module.name}": (source / HOME / module.name).read_bytes()}
            if name == "stripped":
                system.clean("check", inside)
            else:
                system.finds("unstripped", "check", inside)
    return f"{len(PAYLOADS)} payloads, each unstripped and stripped: read by check and judged right"


def deb(system: System) -> str:
    """pkghook's own packages built and installed, then packages built with dh_pkghook, of real modules too."""
    system.chroot.must(f"{CHECKOUT}/hooks/deb/build", "/srv/debs", "-b")
    built = sorted(system.place("debs").glob("*.deb"))
    assert [path.name.partition("_")[0] for path in built] == ["dh-pkghook", "pkghook"]
    system.chroot.must(
        "apt-get", "install", "-y", "--no-install-recommends", *(f"/srv/debs/{path.name}" for path in built)
    )
    warned = {"PYTHONWARNINGS": "error"}
    for name in ("command", "dh-addon"):
        system.place(f"autopkgtest-{name}").mkdir()
        script = f"{CHECKOUT}/hooks/deb/debian/tests/{name}"
        system.chroot.must("sh", script, AUTOPKGTEST_TMP=f"/srv/autopkgtest-{name}", **warned)
    real = [(named(system.kernel(), name), debian.EXTRA) for name in ("crc-itu-t", "tun")]
    debian.Builder(system.place("deb"), {}).source(real)
    system.chroot.must("sh", "-c", "cd /srv/deb/source && dpkg-buildpackage -b -us -uc", **warned)
    inside = sorted(f"/srv/deb/{path.name}" for path in system.place("deb").glob("*.deb"))
    assert [re.split(r"[/_]", path)[3] for path in inside] == ["demo-modules-dbgsym", "demo-modules"], inside
    system.clean("check", *inside)
    files = debian.unpacked(system.place("deb") / Path(inside[1]).name, system.place("deb/root"))
    sizes = [path.stat().st_size for path in files.rglob("*.ko")]
    for path, _ in real:
        judge(path, next(files.rglob(path.name)), stripped=True, symbols=False)
    before, after = sum(path.stat().st_size for path, _ in real), sum(sizes)
    return (
        f"own packages built, installed and tested; {size_text(before)} packaged as {size_text(after)}, with a -dbgsym"
    )


# --- DKMS ------------------------------------------------------------------------------------------------------------


def dkms(system: System) -> str:
    """A module that says STRIP[0]=no: built, installed and signed by DKMS; stripped, proven and signed again by us."""
    version = system.headers()
    dkms_source.add(system.chroot, "unasked", strip=False)
    system.chroot.must("dkms", "install", "-m", "unasked", "-v", "1.0", "-k", version)
    (path,) = (system.chroot.path / f"lib/modules/{version}/updates").rglob("unasked.ko*")
    inside = "/" + str(path.relative_to(system.chroot.path))
    shutil.copy2(path, system.place(path.name))
    before = path.stat().st_size
    signer = system.chroot.must("modinfo", "-F", "signer", inside)
    system.finds("unstripped", "audit", "--kernel", version)
    assert "[dkms-signed-again]" in system.clean("dkms", "--strip", "-v")
    assert ".debug_info" not in section_names(modules.image(path))
    assert system.chroot.must("modinfo", "-F", "signer", inside) == signer == "DKMS module signing key\n"
    assert loader.same(unsigned(system.place(path.name)), unsigned(path))
    status = system.chroot.must("dkms", "status")
    assert "installed" in status, status
    assert "Diff" not in status, status
    assert "unstripped" not in system.pkghook("audit", "--kernel", version).output
    return f"{path.name} for {version}: {before:,} to {path.stat().st_size:,} bytes, signed again"


def unsigned(path: Path) -> bytes:
    """A module's ELF file, without compression and signature."""
    return modules.unsigned(modules.image(path))


# --- Python ----------------------------------------------------------------------------------------------------------


def unit(system: System) -> str:
    """pkghook's unit tests by the suite's Python and the newest libraries; any warning is an error."""
    system.site()
    environment = {**system.environment, "PYTHONPATH": SITE, "PYTHONWARNINGS": "error"}
    # not as the first process of all, which inherits orphans
    script = f"cd {CHECKOUT}; python3 -m pytest -q -p no:cacheprovider tests/unit; exit $?"
    done = system.chroot.run("sh", "-c", script, **environment)
    assert done.status == 0, done.output
    counted = re.findall(r"^(\d+ passed.*) in ", done.output, re.MULTILINE)
    names = ", ".join(
        f"{name} {version_in(system, name)}" for name in ("pyelftools", "python-debian", "rpmfile", "zstandard")
    )
    return f"{counted[-1]}; {names}"


def version_in(system: System, name: str) -> str:
    """Of a library in SITE."""
    (found,) = system.place("site").glob(f"{name.replace('-', '_')}-*.dist-info")
    return found.name.removesuffix(".dist-info").rpartition("-")[2]


CELLS = (
    Cell("strip", strip),
    Cell("shipped", shipped),
    Cell("livepatch", livepatches),
    Cell("rpm", rpm),
    Cell("rpm 6", rpm_6, rpm=6),
    Cell("dkms", dkms),
    Cell("deb", deb),
    Cell("unit", unit),
)
