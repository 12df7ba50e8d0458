"""The chain's outside tools as they really are: GNU binutils, elfutils and LLVM, on real modules."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pkghook.chain.steps import STEPS
from pkghook.chain.tools import Tool, Tools, known_machines, run_step
from pkghook.ko import symbols
from pkghook.model import Attempt, Outcome
from tests.liars.tools import liar
from tests.support import need_kernel, need_tool

MACHINES = {"amd64": 62, "arm64": 183, "s390x": 22, "armel": 40}
CROSS = {"arm64": "aarch64-linux-gnu-", "s390x": "s390x-linux-gnu-", "armel": "arm-linux-gnueabi-"}
OUTSIDE = ["objcopy", "strip", "eu-strip", "llvm-strip"]
EXPORTS, EXPORTS_NOTHING = "crc-itu-t.ko", "dummy.ko"


def module(corpus: Path, kernel: str, name: str, part: str = "dbg") -> Path:
    """A module of a kernel by its file name."""
    return next(need_kernel(corpus, kernel, part).rglob(name))


def found(step: str, machine: int) -> Tool:
    """The tool of a step, which has to be there."""
    need_tool(STEPS[step].tool)
    tool = Tools().find(STEPS[step], machine)
    assert tool is not None
    return tool


def stripped(
    step: str, image: Path, scratch: Path, names: symbols.SymbolList | None = None, tool: Tool | None = None
) -> tuple[str, Attempt | None]:
    """One step on one image, opened read-only with the offset somewhere inside."""
    listfile = scratch / "list"
    listfile.write_bytes(names.file_text() if names else b"")
    tool = tool or found(step, 62)
    fd = os.open(image, os.O_RDONLY)
    try:
        os.lseek(fd, 1234, os.SEEK_SET)
        return run_step(STEPS[step], tool, fd, str(scratch), str(listfile), timeout=60)
    finally:
        os.close(fd)


def names_in(path: str | Path) -> set[str]:
    """Names of all symbols, as binutils reads them."""
    text = subprocess.run([need_tool("nm"), "-a", "--format=posix", path], check=True, capture_output=True, text=True)
    return {line.split()[0] for line in text.stdout.splitlines()}


# --- each tool as a step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", OUTSIDE)
def test_each_tool_strips_a_real_module(corpus: Path, tmp_path: Path, step: str) -> None:
    source = module(corpus, "amd64", EXPORTS)
    path, attempt = stripped(step, source, tmp_path)
    assert attempt is None
    sections = subprocess.run([need_tool("readelf"), "-SW", path], check=True, capture_output=True, text=True).stdout
    assert ".debug_info" not in sections
    assert ".gnu.linkonce.this_module" in sections
    assert os.stat(path).st_size < source.stat().st_size / 4


@pytest.mark.parametrize("step", ["objcopy", "strip"])
def test_binutils_writes_what_debian_ships(corpus: Path, tmp_path: Path, step: str) -> None:
    path, attempt = stripped(step, module(corpus, "amd64", EXPORTS), tmp_path)
    assert attempt is None
    written = Path(path).read_bytes()
    shipped = module(corpus, "amd64", EXPORTS, "shipped").read_bytes()
    assert shipped.startswith(written)
    assert shipped.endswith(b"~Module signature appended~\n")


@pytest.mark.parametrize("kernel", MACHINES)
@pytest.mark.parametrize("step", OUTSIDE)
def test_modules_of_other_machines(corpus: Path, tmp_path: Path, kernel: str, step: str) -> None:
    if kernel in CROSS and step in {"objcopy", "strip"}:
        need_tool(CROSS[kernel] + step)
    tool = found(step, MACHINES[kernel])
    if kernel in CROSS and step in {"objcopy", "strip"}:
        assert Path(tool.path).name == CROSS[kernel] + step
    path, attempt = stripped(step, module(corpus, kernel, EXPORTS), tmp_path, tool=tool)
    assert attempt is None
    assert os.stat(path).st_size > 0


@pytest.mark.parametrize("mode", [0o400, 0o444, 0o644, 0o4755])
@pytest.mark.parametrize("step", OUTSIDE)
def test_no_tool_minds_the_mode_of_its_input(corpus: Path, tmp_path: Path, step: str, mode: int) -> None:
    image = tmp_path / "image"
    shutil.copyfile(module(corpus, "amd64", EXPORTS), image)
    image.chmod(mode)
    path, attempt = stripped(step, image, tmp_path)
    assert attempt is None
    with open(path, "rb") as file:
        assert file.read(4) == b"\x7fELF"
    assert image.stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("step", OUTSIDE)
def test_same_bytes_from_a_copy_where_proc_is_missing(
    corpus: Path, tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = module(corpus, "amd64", EXPORTS)
    path, _ = stripped(step, source, tmp_path)
    first = Path(path).read_bytes()
    monkeypatch.setattr("pkghook.chain.tools.DEV_FD", "/nowhere")
    path, attempt = stripped(step, source, tmp_path)
    assert attempt is None
    assert Path(path).read_bytes() == first


@pytest.mark.parametrize("step", OUTSIDE)
def test_a_truncated_image_fails_whatever_the_exit_status(corpus: Path, tmp_path: Path, step: str) -> None:
    """eu-strip says `illformed file`, leaves an empty file, and ends with status 0."""
    image = tmp_path / "image"
    image.write_bytes(module(corpus, "amd64", EXPORTS).read_bytes()[:30_000])
    path, attempt = stripped(step, image, tmp_path)
    assert path == ""
    assert attempt is not None
    assert attempt.outcome is Outcome.FAILED
    assert "IN" in attempt.why
    assert "/" not in attempt.why
    assert sorted(os.listdir(tmp_path)) == ["image", "list"]


def test_a_tool_for_another_machine_says_so(corpus: Path, tmp_path: Path) -> None:
    """The trap of cross builds: strip of the build machine on modules of the target."""
    path = need_tool("aarch64-linux-gnu-objcopy")
    tool = Tool("objcopy", path, "2")
    _, attempt = stripped("objcopy", module(corpus, "s390x", EXPORTS), tmp_path, tool=tool)
    assert attempt is not None
    assert attempt.outcome is Outcome.FAILED
    assert attempt.why == "objcopy: Unable to recognise the format of the input file `IN'"


def test_a_liar_with_a_real_tool_behind_it(corpus: Path, tmp_path: Path) -> None:
    """Nothing in the process's end gives it away; the verifier has to see that .modinfo is missing."""
    fake = liar(tmp_path / "bin", "objcopy", "drops .modinfo", objcopy=need_tool("objcopy"))
    path, attempt = stripped(
        "objcopy", module(corpus, "amd64", EXPORTS), tmp_path, tool=Tool("objcopy", str(fake), "1")
    )
    assert attempt is None
    assert b".modinfo" not in Path(path).read_bytes()


# --- symbol lists ----------------------------------------------------------------------------------------------------


def test_the_step_of_2009_falls_on_a_module_that_exports(corpus: Path, tmp_path: Path) -> None:
    source = module(corpus, "amd64", EXPORTS)
    path, attempt = stripped("objcopy-symbols", source, tmp_path, symbols.load("symbols.2009"))
    assert path == ""
    assert attempt is not None
    assert attempt.outcome is Outcome.FAILED
    assert attempt.why.startswith("objcopy: not stripping symbol `__kstrtab")
    assert "because it is named in a relocation (" in attempt.why
    assert attempt.why.endswith(" more lines)")


def test_and_not_on_one_that_exports_nothing(corpus: Path, tmp_path: Path) -> None:
    source = module(corpus, "amd64", EXPORTS_NOTHING)
    path, attempt = stripped("objcopy-symbols", source, tmp_path, symbols.load("symbols.2009"))
    assert attempt is None
    assert {name for name in names_in(source) if name.startswith("__UNIQUE_ID_")}
    assert not {name for name in names_in(path) if name.startswith("__UNIQUE_ID_")}


def test_symbols_safe_is_accepted_where_symbols_2009_is_not(corpus: Path, tmp_path: Path) -> None:
    source = module(corpus, "amd64", EXPORTS)
    safe = symbols.load("symbols.safe")
    path, attempt = stripped("objcopy-symbols", source, tmp_path, safe)
    assert attempt is None
    plain, _ = stripped("objcopy", source, tmp_path)
    gone = {name for name in names_in(plain) if safe.matches(name.encode())}
    assert gone
    assert names_in(path) == names_in(plain) - gone


NAMES = [
    "foo",
    "fop",
    "f",
    "Foo",
    "_foo",
    "__crc_foo",
    "a.cold",
    "a$b",
    "init_module",
    "cleanup_module",
    "__this_module",
    "__start_set",
    "__stop_set",
    "__start_",
    "__cfi_check",
    "__cfi_check_fail",
    "__startle",
    "x-y",
    "x]y",
    "x^y",
]


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An object file with NAMES, none of which a relocation uses."""
    place = tmp_path_factory.mktemp("object")
    source = "".join(f'.globl "{name}"\n"{name}": .byte 0\n' for name in NAMES)
    subprocess.run([need_tool("as"), "-o", place / "a.o", "-"], input=source.encode(), check=True)
    return place / "a.o"


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "f*",
        "*\n!f*",
        "!f*\n*",
        "!foo\nfoo\n*o*",
        "fo?",
        "[a-f]*",
        "[!a-f]*",
        "[^a-f]*",
        "*[]]*",
        "*[^]]?",
        "x[]^-]y",
        r"*[\]^]y",
        r"\f\o*",
        "_*\n__*",
        "__start_*\n__st*",
        "init_module\ncleanup_module\n__this_module\nfoo",
        "__cfi*",
        "*.*",
        "*$*",
        "a?b\r\na.*\r\n",
        "# foo\nfoo # fop\n",
        "nothing",
    ],
)
def test_objcopy_takes_our_lists_as_we_do(assembled: Path, tmp_path: Path, text: str) -> None:
    names = symbols.parse(text.encode(), "L")
    path, attempt = stripped("objcopy-symbols", assembled, tmp_path, names)
    assert attempt is None
    expected = {name for name in NAMES if not names.matches(name.encode())}
    assert names_in(path) & set(NAMES) == expected
    assert {"init_module", "cleanup_module", "__this_module", "__start_set", "__stop_set", "__cfi_check"} <= expected


# --- what they are ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "name"),
    [("objcopy", "GNU objcopy"), ("strip", "GNU strip"), ("eu-strip", "eu-strip"), ("llvm-strip", "LLVM")],
)
def test_versions(step: str, name: str) -> None:
    tool = found(step, 62)
    assert name in tool.version
    assert step in tool.version
    assert any(letter.isdigit() for letter in tool.version)


def test_machines_known() -> None:
    need_tool("aarch64-linux-gnu-strip")
    known = known_machines(found("strip", 183))
    assert known is not None
    assert "arm64" in known
    assert "x86-64" not in known
    assert known_machines(found("eu-strip", 183)) is None
