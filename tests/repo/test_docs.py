"""What can be typed is documented, and what is documented can be typed."""

from __future__ import annotations

import re
import tomllib

import pytest

from pkghook import __version__
from pkghook.chain import steps
from pkghook.cli import VERBS, parser
from pkghook.findings import registry
from pkghook.settings import ROWS
from tests.repo import readme
from tests.repo.tree import ROOT, files, texts

TEXT = readme.README.read_text("utf-8")


def test_findings_table_is_fresh() -> None:
    assert readme.updated(TEXT) == TEXT, "python3 -m tests.repo.readme writes it anew"


@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_documented(verb: str) -> None:
    assert re.search(rf"`pkghook {verb}\b", TEXT)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_option_is_documented(row: object) -> None:
    for flag in getattr(row, "flags"):  # noqa: B009 a row of settings
        assert re.search(rf"`[^`]*{re.escape(flag)}(?![\w-])", TEXT), f"README.md does not name {flag}"


@pytest.mark.parametrize("step", steps.STEPS)
def test_step_is_documented(step: str) -> None:
    assert f"`{step}`" in TEXT


def test_documented_options_exist() -> None:
    known = {flag for row in ROWS for flag in row.flags} | {"--version", "--help"}
    shown = set()
    for command in re.findall(r"\bpkghook [a-z]+ [^`\n]*", TEXT):
        shown |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", command))
    assert shown - known == set()


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_says_what_each_option_does(verb: str) -> None:
    text = parser(verb).format_help()
    assert VERBS[verb].help in " ".join(text.split())
    assert "exit status" in text


@pytest.mark.parametrize("id", registry())
def test_finding_has_all_its_texts(id: str) -> None:
    kind = registry()[id]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id)
    assert kind.title
    assert kind.hint
    assert kind.text
    assert not kind.title.endswith(".")
    assert kind.obligation == "" or re.fullmatch(r"V\d+", kind.obligation)


@pytest.mark.parametrize("id", registry())
def test_finding_is_tested(id: str) -> None:
    """Every id occurs in some test file by name, and in the package besides the registry."""
    quoted = re.compile(rf"['\"]{id}['\"]")
    texts_of = {name: text for name, text in texts() if name.endswith(".py")}
    assert any(quoted.search(text) for name, text in texts_of.items() if name.startswith("tests/")), "no test names it"
    assert any(quoted.search(text) for name, text in texts_of.items() if name.startswith("pkghook/")), "nobody emits it"


def test_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_version_floors_are_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for text in project["dependencies"]:
        name, _, floor = text.partition(">=")
        assert f"{name} {floor}" in TEXT


def test_paths_in_the_documentation_exist() -> None:
    known = {str(path.relative_to(ROOT)) for path in files()}
    known |= {name.rsplit("/", depth)[0] for name in known for depth in (1, 2)}
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text("utf-8")
        for path in re.findall(r"`((?:tests|pkghook|hooks|\.ci)/[\w./-]+)`", text):
            assert path.rstrip("/") in known, f"{name} names {path}"
