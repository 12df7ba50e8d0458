"""The command line: verbs, options, the one error boundary, exit status."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import IO, TextIO
from weakref import ref

import pytest

from pkghook import __version__, cli
from pkghook.errors import (
    EXIT_SIGTERM,
    InputError,
    Interrupted,
    MissingDependencyError,
    ReceiptError,
    TreeBusyError,
    UsageError,
)
from pkghook.findings import registry
from pkghook.settings import ROWS, Settings

ROOT = Path(__file__).parents[2]
Story = Callable[[tuple[str, ...], Settings, TextIO, TextIO], int]
Tell = Callable[..., None]


@pytest.fixture(autouse=True)
def _bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of anybody's."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PKGHOOK_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Story], None]:
    """Put a story in the place of a verb's own."""

    def put(verb: str, run: Story) -> None:
        name = f"pkghook.stories.{verb}"
        module = ModuleType(name)
        vars(module)["run"] = run
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture
def raising(story: Callable[[str, Story], None], capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Exit status and stderr of a run whose story raises `error`."""

    def outcome(error: BaseException, *args: str) -> tuple[int, str]:
        def run(*_: object) -> int:
            raise error

        story("tools", run)
        status = cli.main(["tools", *args])
        told = capfd.readouterr()
        assert told.out == ""
        return status, told.err

    return outcome


def pkghook(*args: str, stdout: int | IO[bytes] = subprocess.PIPE, **env: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pkghook", *args],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | env,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


KEEPS = (("a", "", "b", "--keep"), ("c", "", "d", "--keep"))

# --- verbs and help --------------------------------------------------------------------------------------------------


def test_version() -> None:
    assert pkghook("--version") == (0, f"pkghook {__version__}\n", "")


def test_version_loads_next_to_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pkghook", "--version"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert "pkghook.cli" in loaded
    assert {name for name in loaded if name.startswith("pkghook.")} == {"pkghook.cli"}
    assert not loaded & {"argparse", "enum", "typing", "tomllib"}


def test_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("usage: pkghook VERB")
    assert told.err.endswith(cli.STATUS_HELP + "\n")


@pytest.mark.parametrize("args", [["help"], ["--help"], ["-h"]])
def test_help(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 0
    told = capsys.readouterr()
    assert told.err == ""
    for name, verb in cli.VERBS.items():
        assert re.search(rf"^  {name} .*{re.escape(verb.help)}$", told.out, re.MULTILINE)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert cli.main(["help", verb]) == 0
    assert capsys.readouterr().out == text
    assert text.endswith(cli.STATUS_HELP + "\n")
    for row in ROWS:
        assert (row.help in " ".join(text.split())) == (not row.verbs or verb in row.verbs)


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["stip"], "there is no verb 'stip'", "did you mean `pkghook strip`?"),
        (["xyzzy"], "there is no verb 'xyzzy'", "`pkghook --help` lists them"),
        (["help", "xyzzy"], "there is no verb 'xyzzy'", "`pkghook --help` lists them"),
        (
            ["-v", "strip"],
            "-v stands before the verb",
            "options come behind it: pkghook VERB [ARGUMENT...] [OPTION...]",
        ),
        (["strip"], "strip needs ROOT", "pkghook strip --help"),
        (["strip", "a", "b"], "one argument too many: b", "pkghook strip --help"),
        (["tools", "x"], "one argument too many: x", "pkghook tools --help"),
        (["audit", "x", "y"], "one argument too many: x", "pkghook audit --help"),
        (["verify"], "verify needs BEFORE", "pkghook verify --help"),
        (["verify", "a"], "verify needs AFTER", "pkghook verify --help"),
        (["strip", "a", "--dry"], "unrecognized arguments: --dry", "pkghook strip --help"),
        (["explain", "--signed=keep"], "unrecognized arguments: --signed=keep", "pkghook explain --help"),
        (["strip", "a", "--chain"], "argument --chain: expected one argument", "pkghook strip --help"),
        (["record", "a"], "record needs --out", "pkghook record --help"),
    ],
)
def test_usage_errors(args: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", f"pkghook: error: {message}\nhint: {hint}\n")


def test_unknown_format_names_those_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "--format", "xml"]) == 2
    assert "--format: 'xml' is not one of text, json\n" in capsys.readouterr().err


# --- arguments and settings reach the story --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "words", "settings"),
    [
        (["verify", "a", "b"], ("a", "b"), {}),
        (["verify", "a", "-j2", "b"], ("a", "b"), {"jobs": 2}),
        (["verify", "-qj2", "--", "-a", "-b"], ("-a", "-b"), {"jobs": 2, "quiet": True}),
        (["explain"], (), {}),
        (["explain", "--format=json", "x"], ("x",), {"format": "json"}),
        (["verify", "a", "-q", "--", "-b"], ("a", "-b"), {"quiet": True}),
        (["strip", "--keep", "a=b", "r", "--keep=c=d"], ("r",), {"keep": KEEPS}),
        (["strip", "-n", "r", "--no-dry-run"], ("r",), {"dry_run": False}),
        (["record", "r", "-o", "f"], ("r",), {"out": "f"}),
    ],
)  # fmt: skip
def test_what_the_story_gets(
    args: list[str], words: tuple[str, ...], settings: dict[str, object], story: Callable[[str, Story], None]
) -> None:
    got: list[tuple[tuple[str, ...], Settings]] = []

    def run(args: tuple[str, ...], given: Settings, out: TextIO, err: TextIO) -> int:
        assert (out, err) == (sys.stdout, sys.stderr)
        got.append((args, given))
        return 1

    story(args[0], run)
    assert cli.main([args[0], *args[1:], "--keep-dir", ""] if args[0] == "strip" else args) == 1
    assert got[0][0] == words
    defaults = {"jobs": len(os.sched_getaffinity(0))} | ({"keep_dir": ""} if args[0] == "strip" else {})
    assert got[0][1] == Settings()._replace(**(defaults | settings))  # type: ignore[arg-type]


def test_the_command_line_turns_a_switch_off(
    monkeypatch: pytest.MonkeyPatch, story: Callable[[str, Story], None]
) -> None:
    monkeypatch.setenv("PKGHOOK_VERBOSE", "1")
    story("tools", lambda _args, settings, _out, _err: 10 + settings.verbose)
    assert [cli.main(["tools"]), cli.main(["tools", "--no-verbose"])] == [11, 10]


def test_unknown_variable_is_a_warning(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PKGHOOK_SIGND", "keep")
    assert cli.main(["explain"]) == 0
    assert capsys.readouterr().err == "pkghook: warning: PKGHOOK_SIGND is not a setting of pkghook, ignored\n"


def test_names_that_the_terminal_cannot_show() -> None:
    status, out, err = pkghook("explain", "\udcff\x1b[2J", PYTHONIOENCODING="ascii")
    assert (status, out) == (2, "")
    assert err.startswith("pkghook: error: there is no finding '\\udcff\\x1b[2J'\n")


# --- the error boundary ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UsageError("no"), 2, "pkghook: error: no\n"),
        (InputError("x: no", hint="do"), 2, "pkghook: error: x: no\nhint: do\n"),
        (ReceiptError("r: 2 fields:\n  a\x07\n  b"), 2, "pkghook: error: r: 2 fields:\n  a\\x07\n  b\n"),
        (TreeBusyError("busy"), 2, "pkghook: error: busy\n"),
        (MissingDependencyError("no zstd", hint="apt"), 2, "pkghook: error: no zstd\nhint: apt\n"),
        (Interrupted("SIGTERM", EXIT_SIGTERM), 143, "pkghook: interrupted by SIGTERM\n"),
        (KeyboardInterrupt(), 130, "pkghook: interrupted by SIGINT\n"),
        (MemoryError(), 2, "pkghook: error: out of memory\nhint: fewer modules at a time: -j 1\n"),
        (PermissionError(13, "Permission denied", "f"), 2, "pkghook: error: f: Permission denied\n"),
        (OSError(28, "No space left on device"), 2, "pkghook: error: No space left on device\n"),
    ],
)
def test_errors(error: BaseException, status: int, told: str, raising: Callable[..., tuple[int, str]]) -> None:
    assert raising(error) == (status, told)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), RecursionError("x"), BrokenPipeError(32, "x"), OSError("x")])
def test_a_bug_is_one_line_and_a_hint(error: Exception, raising: Callable[..., tuple[int, str]]) -> None:
    status, told = raising(error)
    assert status == 2
    if not (isinstance(error, OSError) and error.strerror):
        line, hint = told.splitlines()
        assert line == f"pkghook: error: a bug of pkghook itself ({type(error).__name__}: x)"
        assert hint == "hint: please report it; --debug shows the traceback"


def test_a_bug_without_words(raising: Callable[..., tuple[int, str]]) -> None:
    assert "(AssertionError)" in raising(AssertionError())[1]


def test_traceback_on_request(raising: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in raising(ZeroDivisionError("x"), "--debug")[1]
    monkeypatch.setenv("PKGHOOK_DEBUG", "1")
    assert "Traceback" in raising(ZeroDivisionError("x"))[1]
    assert "Traceback" not in raising(UsageError("x"))[1]


def test_out_of_memory_is_told_with_little(
    monkeypatch: pytest.MonkeyPatch, story: Callable[[str, Story], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What the run held is let go of before the word, and the environment was read before the run."""
    kept: list[ref[Kept]] = []

    def run(*_: object) -> int:
        held = Kept()
        kept.append(ref(held))
        monkeypatch.setattr(cli, "_wants_traceback", None)
        raise MemoryError

    def write(text: str) -> None:
        assert kept[0]() is None
        told.append(text)

    told: list[str] = []
    story("explain", run)
    monkeypatch.setattr(cli, "_write_err", write)
    assert cli.main(["explain"]) == 2
    assert told == ["pkghook: error: out of memory\nhint: fewer modules at a time: -j 1\n"]
    assert not capsys.readouterr().err


class Kept:
    """Something that a run has in memory."""


def test_reader_that_leaves_early() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        for buffering in ("", "1"):
            status, _, err = pkghook("explain", stdout=writer, PYTHONUNBUFFERED=buffering)
            assert (status, err) == (2, "")
    finally:
        os.close(writer)


def test_full_disk() -> None:
    with open("/dev/full", "wb") as full:
        status, _, err = pkghook("explain", stdout=full)
    assert (status, err) == (2, "pkghook: error: No space left on device\n")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m pkghook explain {closed}', sys.executable],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ("residue" in done.stdout) == ("1>&-" not in closed)


def test_error_with_stderr_closed() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m pkghook explain nothing 2>&-', sys.executable],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 2


def test_explain_is_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "residue"]) == 0
    assert registry()["residue"].title in capsys.readouterr().out
