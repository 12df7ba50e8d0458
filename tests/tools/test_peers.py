"""What the real strip tools write, judged: right outputs pass, and what they ruin with exit status 0 is caught.

Two opinions each time, that of `pkghook.ko.prove` and that of `tests.loader`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pkghook.chain.steps import STEPS
from pkghook.chain.tools import Tools
from pkghook.ko.measure import account
from pkghook.ko.plan import plan
from tests import loader, modules, shapes
from tests.shapes import ADDRSIG, AMD64, KINDS, Rel, Sec, Sym
from tests.support import need_tool
from tests.surgery import elf, faults

OUTSIDE = ("objcopy", "strip", "eu-strip", "llvm-strip")
CROSS = {"arm64": "aarch64-linux-gnu-strip", "s390x": "s390x-linux-gnu-strip", "armel": "arm-linux-gnueabi-strip"}
LIMIT = 6 << 20  # bytes of a module; GNU strip takes its time for the largest

Strip = Callable[..., bytes]


@pytest.fixture
def run(tmp_path: Path) -> Strip:
    """What a command writes (`OUT` stands for its file) from `data`; it has to end well, and silently."""

    def call(data: bytes, *argv: str) -> bytes:
        need_tool(argv[0])
        (tmp_path / "in").write_bytes(data)
        (tmp_path / "out").unlink(missing_ok=True)
        words = ["out" if word == "OUT" else word for word in argv]
        done = subprocess.run([*words, "in"], cwd=tmp_path, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        return (tmp_path / "out").read_bytes()

    return call


@pytest.fixture
def step(tmp_path: Path) -> Strip:
    """What a step of the chain writes, and the tool's complaint if it writes nothing that counts."""

    def call(data: bytes, name: str) -> bytes:
        need_tool(STEPS[name].tool)
        tool = Tools().find(STEPS[name], elf(data).machine)
        assert tool is not None
        (tmp_path / "in").write_bytes(data)
        (tmp_path / "out").unlink(missing_ok=True)
        done = subprocess.run(
            STEPS[name].command(tool.path, "in", "out"), cwd=tmp_path, capture_output=True, check=False
        )
        good = done.returncode == 0 and not done.stderr
        return (tmp_path / "out").read_bytes() if good else b""

    return call


def judged(data: bytes, out: bytes) -> list[str]:
    """Finding ids, on which both opinions agree."""
    found = faults(data, out)
    assert (not found) == loader.same(data, out)
    return found


def sized(data: bytes, out: bytes, tool: str) -> list[str]:
    """Finding ids about the size."""
    return [fault.id for fault in account(elf(data), plan(elf(data)), len(out), tool)]


# --- what is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(("kernel", "number"), [("amd64", 16), ("arm64", 8), ("s390x", 8), ("armel", 8)])
def test_right_outputs_pass(corpus: Path, step: Strip, kernel: str, number: int, name: str) -> None:
    if kernel in CROSS:
        need_tool(CROSS[kernel])
    for path in modules.sample(corpus, kernel, number, limit=LIMIT):
        data = modules.image(path)
        out = step(data, name)
        assert out, path
        assert judged(data, out) == [], path
        assert sized(data, out, name) == [], path


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "arc"])
def test_right_outputs_of_small_modules_pass(step: Strip, kind: str, name: str) -> None:
    data = shapes.module(KINDS[kind])
    out = step(data, name)
    if not out:
        assert (kind, name) == ("mips64el", "eu-strip") or STEPS[name].tool in ("objcopy", "strip")
        return
    assert judged(data, out) == []
    assert sized(data, out, name) == []


@pytest.mark.parametrize("name", ["eu-strip", "llvm-strip"])
def test_arc_loses_debug_frame(step: Strip, name: str) -> None:
    """Kernels before 4.9 unwind with it there, and no tool knows that."""
    frame = Sec(".debug_frame", bytes(16), relocations=(Rel(4, "@.text", 1),))
    out = step(shapes.module(KINDS["arc"], frame), name)
    assert judged(shapes.module(KINDS["arc"]), step(shapes.module(KINDS["arc"]), name)) == []
    assert "section-changed" in judged(shapes.module(KINDS["arc"], frame), out)


@pytest.mark.parametrize("name", OUTSIDE)
def test_addrsig_may_stay(step: Strip, name: str) -> None:
    for size in (2, 5000):
        data = shapes.module(AMD64, Sec(".llvm_addrsig", bytes(size), 0x80000000, ADDRSIG))
        out = step(data, name)
        assert judged(data, out) == []
        assert sized(data, out, name) == []


# --- what is wrong, with exit status 0 -------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["amd64", "arm64", "s390x", "armel"])
def test_strip_unneeded(corpus: Path, run: Strip, kernel: str) -> None:
    data = modules.image(modules.named(corpus, kernel, "af_alg"))
    assert "symbol-changed" in judged(data, run(data, CROSS.get(kernel, "strip"), "--strip-unneeded", "-o", "OUT"))


@pytest.mark.parametrize("kernel", ["amd64", "arm64", "s390x", "armel"])
def test_strip_all(corpus: Path, run: Strip, kernel: str) -> None:
    data = modules.image(modules.named(corpus, kernel, "af_alg"))
    assert judged(data, run(data, CROSS.get(kernel, "strip"), "-o", "OUT")) == ["table-broken"]


def test_eu_strip_without_g_eats_btf(corpus: Path, run: Strip) -> None:
    data = modules.image(modules.named(corpus, "amd64", "tun"))
    assert "section-changed" in judged(data, run(data, "eu-strip", "-o", "OUT"))
    assert judged(data, run(data, "eu-strip", "-g", "-o", "OUT")) == []


@pytest.mark.parametrize(
    "option", ["--remove-section=.comment", "--remove-section=.note.Linux", "-x", "--keep-file-symbols"]
)
def test_options_of_distributions(corpus: Path, run: Strip, option: str) -> None:
    data = modules.image(modules.named(corpus, "amd64", "tun"))
    found = judged(data, run(data, "strip", "-g", option, "-o", "OUT"))
    expected = {
        "--remove-section=.comment": "section-changed", "--remove-section=.note.Linux": "alloc-changed",
        "-x": "symbol-changed", "--keep-file-symbols": None,
    }  # fmt: skip
    assert (found[0] if found else None) == expected[option]


def test_eu_strip_without_g_ruins_m68k(run: Strip) -> None:
    """`.m68k_fixup` is not loaded, but relocations of this_module name the symbols around it."""
    fixup = Sec(".m68k_fixup", bytes(8), relocations=(Rel(4, "@.text", 1),))
    around = (Sym("__start_fixup", ".m68k_fixup"), Sym("__stop_fixup", ".m68k_fixup", 8))
    arch = Sec(".data.arch", bytes(8), 3, relocations=(Rel(0, "__start_fixup"), Rel(4, "__stop_fixup")))
    data = shapes.module(KINDS["m68k"], fixup, arch, also=around)
    found = judged(data, run(data, "eu-strip", "-o", "OUT"))
    assert {"section-changed", "relocation-symbol-lost"} <= set(found)
    assert judged(data, run(data, "eu-strip", "-g", "-o", "OUT")) == []


def test_eu_strip_ruins_mips64el(run: Strip) -> None:
    """It looks for the symbol's number where other machines have it, finds R_MIPS_NONE there and renumbers nothing."""
    sections = [
        s._replace(relocations=s.relocations and tuple(r._replace(type=0) for r in s.relocations))
        for s in [*shapes.basis(), *shapes.debug_sections()]
    ]
    data = shapes.grow(sections, shapes.symbols(), KINDS["mips64el"])
    found = judged(data, run(data, "eu-strip", "-g", "-o", "OUT"))
    assert set(found) <= {"relocation-changed", "relocation-symbol-lost"}
    assert found


@pytest.mark.parametrize("name", ["objcopy", "strip"])
@pytest.mark.parametrize("shape", ["b", "c"])
def test_gnu_ruins_livepatch_modules(step: Strip, shape: str, name: str) -> None:
    data = shapes.livepatch(shape)
    assert {"livepatch-changed", "relocation-symbol-lost"} <= set(judged(data, step(data, name)))


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
def test_livepatch_modules(step: Strip, shape: str, name: str) -> None:
    """LLVM refuses them; elfutils those with an empty section; GNU is right on one with ordinary relocations first."""
    out = step(shapes.livepatch(shape), name)
    right = {"a": ("objcopy", "strip", "eu-strip"), "b": ("eu-strip",)}.get(shape, ())
    passed = bool(out) and not judged(shapes.livepatch(shape), out)
    assert passed == (name in right)


@pytest.mark.parametrize("name", ["eu-strip", "llvm-strip"])
def test_residue(step: Strip, name: str) -> None:
    """Each tool has a list of its own of what debug information is called."""
    left = {"eu-strip": ".debug_foo", "llvm-strip": ".stab"}[name]
    data = shapes.module(AMD64, Sec(left, b"left behind"))
    assert judged(data, step(data, name)) == ["residue"]


@pytest.mark.parametrize("name", ["objcopy", "strip"])
def test_gnu_takes_too_much(step: Strip, name: str) -> None:
    data = shapes.module(AMD64, Sec(".debugfs_notes", b"no debug information"))
    assert judged(data, step(data, name)) == ["section-changed"]
