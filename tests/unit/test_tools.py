"""`chain.tools` and `stories.tools`: which tool is taken for which machine, told with scripts in a private PATH."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from pkghook.chain.steps import STEPS
from pkghook.chain.tools import Tools, known_machines, summary
from pkghook.errors import SettingError
from pkghook.model import Attempt, Outcome
from pkghook.settings import Settings
from pkghook.stories import tools as story

X86_64, ARM64, ARM, UNKNOWN = 62, 183, 40, 4711
INFO = (
    "BFD header file version 2.40\nelf64-x86-64\n (header little endian)\n  i386\nelf32-i386\nelf64-little\n  aarch64\n"
)


def script(place: Path, name: str, version: str = "1.0", body: str = "") -> str:
    """An executable that tells its name and version, and with `--info` what GNU tools tell."""
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_text(f"#!/bin/sh\n{body}\n[ $1 = --info ] && printf '{INFO}' || echo '{name} {version}'\n")
    path.chmod(0o755)
    return str(path)


def found(place: Path, tool: str, machine: int) -> str:
    """The name of what is found on an x86-64 host."""
    result = Tools(path=str(place), host=X86_64).find(STEPS[tool], machine)
    return Path(result.path).name if result else ""


def test_cross_tool_before_the_plain_one_on_a_foreign_module(tmp_path: Path) -> None:
    script(tmp_path, "objcopy")
    assert found(tmp_path, "objcopy", ARM64) == "objcopy"  # may know it: binutils-multiarch does
    script(tmp_path, "aarch64-suse-linux-objcopy")
    assert found(tmp_path, "objcopy", ARM64) == "aarch64-suse-linux-objcopy"
    script(tmp_path, "aarch64-linux-gnu-objcopy")
    assert found(tmp_path, "objcopy", ARM64) == "aarch64-linux-gnu-objcopy"
    assert found(tmp_path, "objcopy-symbols", ARM64) == "aarch64-linux-gnu-objcopy"
    assert found(tmp_path, "strip", ARM64) == ""


def test_plain_tool_first_on_a_module_of_this_machine(tmp_path: Path) -> None:
    script(tmp_path, "x86_64-linux-gnu-strip")
    assert found(tmp_path, "strip", X86_64) == "x86_64-linux-gnu-strip"
    script(tmp_path, "strip")
    assert found(tmp_path, "strip", X86_64) == "strip"
    assert found(tmp_path, "strip", UNKNOWN) == "strip"


def test_tools_that_know_any_machine_have_no_prefix(tmp_path: Path) -> None:
    script(tmp_path, "aarch64-linux-gnu-eu-strip")
    assert found(tmp_path, "eu-strip", ARM64) == ""
    script(tmp_path, "eu-strip")
    assert found(tmp_path, "eu-strip", ARM64) == "eu-strip"


def test_newest_of_the_numbered_names(tmp_path: Path) -> None:
    for name in ("llvm-strip-9", "llvm-strip-19", "llvm-strip-14", "llvm-strip-20rc", "xllvm-strip-30"):
        script(tmp_path, name)
    (tmp_path / "llvm-strip-21").mkdir()
    assert found(tmp_path, "llvm-strip", X86_64) == "llvm-strip-19"
    tool = Tools(path=f"{tmp_path}/none:{tmp_path}").find(STEPS["llvm-strip"], X86_64)
    assert tool is not None
    assert tool.version == "llvm-strip-19 1.0"
    script(tmp_path, "llvm-strip")
    assert found(tmp_path, "llvm-strip", X86_64) == "llvm-strip"


def test_path_is_walked_in_order(tmp_path: Path) -> None:
    script(tmp_path / "late", "strip")
    early = script(tmp_path / "early", "strip")
    tool = Tools(path=f"{tmp_path}/none:{tmp_path}/early:{tmp_path}/late").find(STEPS["strip"], X86_64)
    assert tool is not None
    assert tool.path == early


def test_overrides_hold_for_all_machines(tmp_path: Path) -> None:
    script(tmp_path, "aarch64-linux-gnu-strip")
    script(tmp_path, "llvm-strip")
    mine = script(tmp_path / "mine", "my-strip")
    for given, name in ((mine, "my-strip"), ("llvm-strip", "llvm-strip")):
        tools = Tools({"strip": given}, path=str(tmp_path))
        for machine in (X86_64, ARM64, UNKNOWN):
            tool = tools.find(STEPS["strip"], machine)
            assert tool is not None
            assert tool.path.endswith(f"/{name}")


def test_an_override_that_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="strip: there is no executable 'nothing'"):
        Tools({"strip": "nothing"}, path=str(tmp_path))


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("GNU objcopy (GNU Binutils) 2.40\nCopyright", "GNU objcopy (GNU Binutils) 2.40"),
        ("objcopy, compatible with GNU objcopy\nDebian LLVM version 14.0.6", "objcopy: Debian LLVM version 14.0.6"),
        ("LLVM (http://llvm.org/):\n  LLVM version 9.0.0", "objcopy: LLVM version 9.0.0"),
        ("no number", "objcopy: of unknown version"),
        ("", "objcopy: of unknown version"),
    ],
)
def test_versions(tmp_path: Path, output: str, version: str) -> None:
    script(tmp_path, "objcopy", body=f"printf '{output}\\n'; exit 0")
    tool = Tools(path=str(tmp_path)).find(STEPS["objcopy"], X86_64)
    assert tool is not None
    assert tool.version == version


def test_versions_tell_cross_tools_apart(tmp_path: Path) -> None:
    names = ("objcopy", "aarch64-linux-gnu-objcopy")
    for name in names:
        script(tmp_path, name, body="echo GNU objcopy 2.40")
    tools = Tools(path=str(tmp_path), host=X86_64)
    found = [tools.find(STEPS["objcopy"], machine) for machine in (X86_64, ARM64)]
    assert [tool and tool.version for tool in found] == ["GNU objcopy 2.40", f"{names[1]}: GNU objcopy 2.40"]


def test_version_is_asked_for_once(tmp_path: Path) -> None:
    script(tmp_path, "objcopy", body=f"echo called >> {tmp_path}/calls")
    tools = Tools(path=str(tmp_path), host=X86_64)
    assert not (tmp_path / "calls").exists()
    for machine in (X86_64, ARM64, UNKNOWN, X86_64):
        assert tools.find(STEPS["objcopy"], machine)
        assert tools.find(STEPS["objcopy-symbols"], machine)
    assert (tmp_path / "calls").read_text() == "called\n"


def test_absent_says_what_to_install(tmp_path: Path) -> None:
    tools = Tools(path=str(tmp_path), host=X86_64)
    why = "no aarch64-linux-gnu-objcopy or objcopy here; package binutils"
    assert tools.absent(STEPS["objcopy"], ARM64) == Attempt("objcopy", "", Outcome.ABSENT, why)
    assert tools.absent(STEPS["objcopy"], X86_64).why == "no objcopy here; package binutils"
    assert tools.absent(STEPS["eu-strip"], ARM64).why == "no eu-strip here; package elfutils"


def test_machines_that_a_tool_knows(tmp_path: Path) -> None:
    for name in ("objcopy", "eu-strip"):
        script(tmp_path, name)
    tools = Tools(path=str(tmp_path))
    gnu, other = (tools.find(STEPS[name], X86_64) for name in ("objcopy", "eu-strip"))
    assert gnu is not None
    assert other is not None
    assert known_machines(gnu) == ("x86-64", "i386")
    assert known_machines(other) is None


@pytest.mark.parametrize(
    ("stderr", "text"),
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"/d/o.tmp: x /d/i\nmore\n", "OUT.tmp: x IN (1 more line)"),
        (b"\n/usr/bin/t: one\n\ntwo\nthree", "t: one (2 more lines)"),
    ],
)
def test_summary_of_a_message(stderr: bytes, text: str) -> None:
    assert summary(stderr, {"/d/i": "IN", "/d/o": "OUT", "/usr/bin/t": "t"}) == text


# --- pkghook tools ---------------------------------------------------------------------------------------------------


def surveyed(place: Path) -> story.Survey:
    """What is found in one directory, on an x86-64 host."""
    return story.survey(Tools(path=str(place), host=X86_64))


def test_survey_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkghook.ko.machines.host", lambda: X86_64)
    path = script(tmp_path, "objcopy")
    cross = script(tmp_path, "arm-linux-gnueabi-objcopy", "2.0")
    document = json.loads(story.as_json(surveyed(tmp_path)))
    assert (document["version"], document["host"]) == (1, "x86-64")
    assert document["chains"]["thread"] == ["objcopy-symbols", "objcopy", "strip"]
    rows = {row["step"]: row for row in document["steps"]}
    assert list(rows) == list(STEPS)
    assert rows["native"]["machines"] is None
    assert rows["native-labels"]["drops"] == ["debug", "symbols", "labels"]
    assert rows["objcopy"] == {
        "step": "objcopy",
        "drops": ["debug"],
        "tool": "objcopy",
        "path": path,
        "version": "objcopy 1.0",
        "machines": ["x86-64", "i386"],
        "package": "binutils",
    }
    assert (rows["strip"]["path"], rows["strip"]["version"], rows["strip"]["machines"]) == ("", "", [])
    expected = {"machine": "arm", "tool": "objcopy", "path": cross, "version": "arm-linux-gnueabi-objcopy 2.0"}
    assert document["cross"] == [expected]


def test_survey_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkghook.ko.machines.host", lambda: X86_64)
    script(tmp_path, "objcopy")
    script(tmp_path, "arm-linux-gnueabi-objcopy", "2.0")
    text = story.as_text(surveyed(tmp_path))
    assert "this machine: x86-64\n" in text
    assert "  objcopy     x86-64, i386\n" in text
    assert "  strip       not here\n" in text
    assert "  arm  objcopy  arm-linux-gnueabi-objcopy 2.0" in text
    assert text.endswith("hint: strip comes with the package binutils\n")
    assert "hint: objcopy" not in text


def test_one_program_by_two_names_is_no_cross_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkghook.ko.machines.host", lambda: X86_64)
    script(tmp_path, "x86_64-linux-gnu-objcopy")
    (tmp_path / "objcopy").symlink_to("x86_64-linux-gnu-objcopy")
    assert surveyed(tmp_path).cross == ()


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    script(tmp_path, "eu-strip")
    monkeypatch.setenv("PATH", str(tmp_path))
    out, err = io.StringIO(), io.StringIO()
    assert story.run((), Settings(format=form), out, err) == 0
    assert "eu-strip 1.0" in out.getvalue()
    assert out.getvalue().startswith("{" if form == "json" else "this machine")
    assert err.getvalue() == ""
