"""Shapes that compilers, assemblers and linkers really write, stripped by native and by the tools."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pkghook.chain.steps import STEPS
from pkghook.chain.tools import Tools
from pkghook.ko.measure import account
from pkghook.ko.plan import plan
from tests import loader
from tests.support import need_tool
from tests.surgery import Patient, elf, faults, native_strip

OUTSIDE = ("objcopy", "strip", "eu-strip", "llvm-strip")
GCC = {
    "-g": ("-g",),
    "-g3": ("-g3",),
    "dwarf 4": ("-g", "-gdwarf-4"),
    "compressed": ("-g3", "-gz"),
    "sections": ("-g3", "-ffunction-sections", "-fdata-sections"),
    "assembler": ("-g3", "-O0", "-fPIC"),
}


def passed(data: bytes, out: bytes) -> bool:
    """Whether it is the same module, on which both opinions agree."""
    found = faults(data, out)
    assert (not found) == loader.same(data, out)
    return not found


def by_tool(name: str, data: bytes, scratch: Path) -> bytes:
    """What a step of the chain writes, b"" if it fails or complains."""
    need_tool(STEPS[name].tool)
    tool = Tools().find(STEPS[name], elf(data).machine)
    assert tool is not None
    (scratch / "in").write_bytes(data)
    (scratch / "out").unlink(missing_ok=True)
    done = subprocess.run(STEPS[name].command(tool.path, "in", "out"), cwd=scratch, capture_output=True, check=False)
    return (scratch / "out").read_bytes() if done.returncode == 0 and not done.stderr else b""


@pytest.fixture(params=GCC)
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    """Two files of C, compiled and linked as the kernel links a module: `ld -r`."""
    gcc, ld = need_tool("gcc"), need_tool("ld")
    for name in "ab":
        text = f"#define VALUE_{name} 7\nstatic inline int f_{name}(int i) {{ return i + VALUE_{name}; }}\n"
        (tmp_path / f"{name}.h").write_text(text)
    for name in "ab":
        code = f"""#include "a.h"
#include "b.h"
extern int printk(const char *, ...);
static int counter = VALUE_a;
int g_{name}(int i);
int g_{name}(int i) {{ return printk("hello %d", counter++) + f_a(i) + f_b(VALUE_b); }}
"""
        (tmp_path / f"{name}.c").write_text(code)
        argv = [gcc, "-O1", *GCC[request.param], "-c", f"{name}.c", "-o", f"{name}.o"]
        subprocess.run(argv, cwd=tmp_path, check=True)
    subprocess.run([ld, "-r", "a.o", "b.o", "-o", "m.ko"], cwd=tmp_path, check=True)
    return (tmp_path / "m.ko").read_bytes()


def test_linked_by_native(linked: bytes) -> None:
    found = plan(elf(linked))
    out = native_strip(linked)
    assert found.unstripped
    assert len(out) == found.expected
    assert passed(linked, out)
    assert not any(name.startswith((".debug", ".zdebug", ".group")) for name in Patient(out).names)


@pytest.mark.parametrize("name", OUTSIDE)
def test_linked_by_tools(linked: bytes, tmp_path: Path, name: str) -> None:
    """Groups of .debug_macro, as `gcc -g3` writes them, are left empty by llvm-strip 14; such a result is no result."""
    out = by_tool(name, linked, tmp_path)
    groups = ".group" in Patient(linked).names
    if name == "llvm-strip" and groups:
        assert not passed(linked, out)
        return
    assert passed(linked, out)
    assert list(account(elf(linked), plan(elf(linked)), len(out), name)) == []


def test_g3_leaves_groups(linked: bytes, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["linked"] == "-g3":
        assert Patient(linked).names.count(".group") > 1
        assert ".debug_macro" in Patient(linked).names


# --- many machines, by LLVM's assembler: one string table for all names, .llvm_addrsig -------------------------------

WORDS = {
    "x86_64-linux-gnu": 8, "aarch64-linux-gnu": 8, "aarch64_be-linux-gnu": 8, "s390x-linux-gnu": 8,
    "riscv64-linux-gnu": 8, "riscv32-linux-gnu": 4, "powerpc64le-linux-gnu": 8, "powerpc64-linux-gnu": 8,
    "powerpc-linux-gnu": 4, "mips64el-linux-gnuabi64": 8, "mips64-linux-gnuabi64": 8, "mipsel-linux-gnu": 4,
    "mips-linux-gnu": 4, "armv7-linux-gnueabi": 4, "i386-linux-gnu": 4, "sparc64-linux-gnu": 8, "m68k-linux-gnu": 4,
    "hexagon-linux-musl": 4,
}  # fmt: skip

ASSEMBLY = """
 .file "grown.c"
 .text
 .globl init_module
 .type init_module,TYPEfunction
init_module:
 nop
.Lhere:
 nop
 .size init_module, .-init_module
 .section .modinfo,"a",TYPEprogbits
 .asciz "license=GPL"
 .data
 .p2align 3
local: .WORD external
 .WORD local
 .WORD .Lhere
 .WORD external + 8
 .section .debug_str,"MS",TYPEprogbits,1
.Lstring: .asciz "string"
 .section .note.GNU-stack,"",TYPEprogbits
 .section .gnu.linkonce.this_module,"aw",TYPEprogbits
 .p2align 3
 .globl __this_module
__this_module: .WORD init_module
 .WORD external
 .weak maybe
 .WORD maybe
 .section .debug_ranges,"",TYPEprogbits
 .WORD .Lhere
 .WORD .Lstring
"""
ADDRSIG = " .addrsig\n .addrsig_sym external\n"


@pytest.fixture(params=WORDS)
def assembled(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    """A small module for some machine, with the debug information of its own assembly."""
    mc, triple = need_tool("llvm-mc"), request.param
    text = ASSEMBLY.replace("WORD", f"{WORDS[triple]}byte").replace("TYPE", "%" if triple.startswith("arm") else "@")
    argv = [mc, f"-triple={triple}", "-filetype=obj", "-g", "-o", "m.ko"]
    done = subprocess.run(argv, input=text + ADDRSIG, cwd=tmp_path, text=True, capture_output=True, check=False)
    if "unable to get target" in done.stderr:
        pytest.skip(f"this LLVM does not know {triple}")
    assert done.returncode == 0, done.stderr
    return (tmp_path / "m.ko").read_bytes()


def test_assembled_by_native(assembled: bytes) -> None:
    found = plan(elf(assembled))
    out = native_strip(assembled)
    assert found.unstripped
    assert len(out) == found.expected
    assert passed(assembled, out)
    assert ".llvm_addrsig" not in Patient(out).names


@pytest.mark.parametrize("name", OUTSIDE)
def test_assembled_by_tools(assembled: bytes, tmp_path: Path, name: str) -> None:
    """What a tool does not refuse it does right; but a table for all names is split by GNU."""
    out = by_tool(name, assembled, tmp_path)
    machine = elf(assembled).machine
    if not out:
        unknown = name in ("objcopy", "strip") and machine == 164  # hexagon
        assert unknown or (name == "eu-strip" and machine == 8), "only what a tool does not know may be refused"
        return
    assert passed(assembled, out)
