"""Manual pages and completions of both packagings: made of pkghook's own tables, understood by their readers."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pkghook.chain.steps import STEPS
from pkghook.cli import VERBS
from pkghook.findings import registry
from pkghook.settings import ROWS
from tests.repo.tree import ROOT
from tests.support import need_tool

PAGES = ("pkghook.1", "pkghook.toml.5", "pkghook-findings.7")


def make(script: str, into: Path) -> Path:
    """What a script writes, by a Python that has nothing but the standard library."""
    into.mkdir(exist_ok=True)
    subprocess.run([sys.executable, "-I", ROOT / "hooks" / script, into], check=True)
    return into


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("man/pages.py", tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make("completion/shells.py", tmp_path_factory.mktemp("shells"))


def shown(page: Path) -> str:
    """A page as a reader sees it, on long lines; what groff complains about fails."""
    need_tool("man")
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "MANWIDTH": "5000",
        "MANROFFOPT": "-rHY=0",
        "MAN_KEEP_FORMATTING": "",
    }
    argv = ["man", "--warnings", "-E", "UTF-8", "-l", str(page)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_page_is_read_without_a_complaint(pages: Path, name: str) -> None:
    text = shown(pages / name)
    assert text.startswith(f"{name.upper()[:-2]}({name[-1]})")
    assert "`" not in text


def test_command_page_has_every_verb_option_and_step(pages: Path) -> None:
    text = shown(pages / "pkghook.1")
    for verb, row in VERBS.items():
        assert f"pkghook {verb}" in text
        assert row.help in text
    for option in ROWS:
        for flag in option.flags:
            assert flag in text.replace(",", " ").split()
    for step in STEPS:
        assert f"       {step}" in text


def test_settings_page_has_every_setting(pages: Path) -> None:
    text = shown(pages / "pkghook.toml.5")
    for option in ROWS:
        if option.name not in {"keep", "config"}:
            assert f"       {option.name.replace('_', '-')} = " in text
            assert option.env in text
    for key in ("glob", "reason", "finding"):
        assert f"{key} = " in text


def test_findings_page_has_every_finding(pages: Path) -> None:
    text = shown(pages / "pkghook-findings.7")
    plain = " ".join(text.split())
    for kind in registry().values():
        assert f"   {kind.id}\n" in text
        assert f"{kind.title.replace('`', '')} ({kind.severity})" in plain
        for part in (kind.text, kind.hint):
            assert " ".join(part.replace("`", "").split()) in plain


@pytest.mark.parametrize("script", ["man/pages.py", "completion/shells.py"])
def test_wrong_call(script: str) -> None:
    done = subprocess.run([sys.executable, ROOT / "hooks" / script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr


# --- completions, typed into real shells -----------------------------------------------------------------------------

TYPED = {
    "": set(VERBS),
    "--": {"--help", "--version"},
    "s": {"strip"},
    "strip --signed ": {"fail", "keep", "strip"},
    "strip --chain native,ob": {"objcopy", "objcopy-symbols"},
    "explain signed-": {"signed-unstripped"},
    "strip --no-disc": {"--no-discard-labels"},
    "strip --strip-symbols sym": {"symbols.safe", "symbols.2009"},
    "tools --form": {"--format"},
}


def bash_offers(shells: Path, typed: str) -> set[str]:
    """What the function that bash would call puts into COMPREPLY."""
    words = ["pkghook", *typed.split()] + ([""] if typed.endswith(" ") or not typed else [])
    script = (
        f'source {shells}/pkghook; compopt() {{ :; }}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pkghook; '
        "printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("typed", TYPED)
def test_bash(shells: Path, typed: str) -> None:
    need_tool("bash")
    before = typed.rpartition(" ")[2].rpartition(",")
    assert bash_offers(shells, typed) == {f"{before[0]}{before[1]}{word}" for word in TYPED[typed]}


@pytest.mark.parametrize("verb", VERBS)
def test_bash_knows_every_option(shells: Path, verb: str) -> None:
    need_tool("bash")
    wanted = {flag for row in ROWS if not row.verbs or verb in row.verbs for flag in row.flags}
    assert wanted <= bash_offers(shells, f"{verb} -")


class Zsh:
    """An interactive zsh on a terminal of its own, with the completion loaded."""

    def __init__(self, shells: Path, place: Path) -> None:
        """`place` is an empty directory: there are no files to offer."""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.chdir(place)
            os.execve(need_tool("zsh"), ["zsh", "-f", "-i"], {**os.environ, "TERM": "dumb", "LC_ALL": "C.UTF-8"})  # noqa: S606
        self.type(f"PS1=; LISTMAX=9999; stty cols 999 rows 999; fpath=({shells} $fpath)\n")
        self.type("autoload -Uz compinit; compinit -u -D; echo rea''dy\n")
        assert self.shows({"ready\r\n"})

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def shows(self, wanted: set[str]) -> bool:
        """Whether all of `wanted` comes, within a minute."""
        read, end = "", time.monotonic() + 60
        while not all(word in read for word in wanted):
            if not select.select([self.terminal], [], [], max(0.0, end - time.monotonic()))[0]:
                return False
            read += os.read(self.terminal, 65536).decode(errors="replace")
        return True

    def end(self) -> None:
        os.close(self.terminal)  # it is hung up on
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("typed", TYPED)
def test_zsh(shells: Path, tmp_path: Path, typed: str) -> None:
    need_tool("zsh")
    zsh = Zsh(shells, tmp_path)
    try:
        zsh.type(f"pkghook {typed}\t\t")
        assert zsh.shows({word.removeprefix("--") for word in TYPED[typed]})
    finally:
        zsh.end()
