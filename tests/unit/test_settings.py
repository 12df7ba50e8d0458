"""Settings: one validation for four origins."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pkghook import settings
from pkghook.errors import SettingError
from pkghook.findings import Severity
from pkghook.settings import ROWS, AtLeast, Settings, gather

Cli = Mapping[str, str | Sequence[str]]

# One right and one wrong value for every setting that can be wrong.
EXAMPLES = {
    "chain": ("native, strip", "native,,strip", "native,strip"),
    "strip_symbols": ("a list", "\0", "a list"),
    "discard_labels": ("yes", "maybe", True),
    "allow_depmod_change": ("1", "2", True),
    "signed": ("keep", "drop", "keep"),
    "livepatch": ("fail", "FAIL", "fail"),
    "keep_dir": ("d", "\0", "d"),
    "include_debug": ("TRUE", "-", True),
    "require_proof": ("on", "onn", True),
    "before": ("record.json", "\0", "record.json"),
    "out": ("record.json", "\0", "record.json"),
    "receipt": ("receipt.json", "\0", "receipt.json"),
    "max_growth": ("2.5%", "-1", 2.5),
    "max_size": ("200M", "0", 200 << 20),
    "debug_dir": ("debian/dbgsym", "\0", "debian/dbgsym"),
    "debug_layout": ("mirror", "mirrored", "mirror"),
    "debuglink": ("on", "link", True),
    "digest_before": ("true", "t", True),
    "dry_run": (" yes ", "ye", True),
    "root": ("/mnt", "\0", "/mnt"),
    "kernel": ("6.1.0", "\0", "6.1.0"),
    "fix": ("yes", "please", True),
    "owned": ("strip", "keep", "strip"),
    "dkms_enable": ("yes", "enable", True),
    "dkms_disable": ("1", "disable", True),
    "dkms_status": ("on", "status", True),
    "dkms_strip": ("true", "strip", True),
    "dkms_sign": ("yes", "sign", True),
    "fsync": ("no", "false", "no"),
    "fail_on": ("warning", "never", Severity.WARNING),
    "require_modules": ("yes", "some", True),
    "second_reader": ("no", "third", False),
    "min_shrink": ("62.5%", "100%", AtLeast(percent=62.5)),
    "jobs": ("16", "0", 16),
    "max_module_size": ("512M", "4X", 512 << 20),
    "tool_timeout": ("1.5", "nan", 1.5),
    "format": ("json", "xml", "json"),
    "quiet": ("yes", "quiet", True),
    "verbose": ("yes", "very", True),
    "debug": ("1", "all", True),
}
FORMATS = ("text", "json")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `pkghook.toml` of anybody's, no vendor's directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "listdir", _no_vendor)


_listdir = os.listdir


def _no_vendor(path: str) -> list[str]:
    return [] if path in {Settings().keep_dir, "d"} else _listdir(path)


def write(text: str, name: str = "pkghook.toml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def fails(cli: Cli | None = None, environ: Mapping[str, str] | None = None) -> SettingError:
    with pytest.raises(SettingError) as caught:
        gather(cli or {}, environ or {}, formats=FORMATS)
    return caught.value


def test_every_row_is_a_field_and_every_field_a_row() -> None:
    assert sorted(row.name for row in ROWS) == sorted(Settings._fields)
    assert set(EXAMPLES) == {row.name for row in ROWS} - {"keep", "severity", "baseline", "config"}


def test_defaults_are_valid() -> None:
    given = gather({}, {})
    assert given == Settings(jobs=len(os.sched_getaffinity(0)))
    for row in ROWS:
        if text := settings.default_text(row):
            assert row.parse(text) == getattr(Settings(), row.name)


@pytest.mark.parametrize("name", EXAMPLES)
def test_right_value_from_every_origin(name: str) -> None:
    text, _, value = EXAMPLES[name]
    assert getattr(gather({name: text}, {}, formats=FORMATS), name) == value
    assert getattr(gather({}, {f"PKGHOOK_{name.upper()}": text}, formats=FORMATS), name) == value
    write(f"{name.replace('_', '-')} = '{text}'")
    assert getattr(gather({}, {}, formats=FORMATS), name) == value


@pytest.mark.parametrize("name", EXAMPLES)
def test_wrong_value_names_origin_and_setting(name: str) -> None:
    _, text, _ = EXAMPLES[name]
    row = next(row for row in ROWS if row.name == name)
    assert fails({name: text}).message.startswith(f"{row.flags[-1]}: ")
    assert fails({}, {row.env: text}).message.startswith(f"{row.env}: ")
    write(f'{name} = "{text.encode("unicode_escape").decode().replace("x00", "u0000")}"')
    assert fails().message.startswith(f"pkghook.toml: {name}: ")
    assert row.help in fails().hint


def test_the_stronger_origin_holds() -> None:
    write("jobs = 3\nsigned = 'keep'\nlivepatch = 'keep'")
    environ = {"PKGHOOK_JOBS": "2", "PKGHOOK_SIGNED": "strip", "PKGHOOK_LIVEPATCH": ""}
    given = gather({"jobs": "1"}, environ)
    assert (given.jobs, given.signed, given.livepatch) == (1, "strip", "keep")


def test_an_overridden_value_is_not_looked_at() -> None:
    assert gather({"jobs": "1"}, {"PKGHOOK_JOBS": "many"}).jobs == 1


def test_a_verb_takes_its_own_settings_alone() -> None:
    assert gather({}, {"PKGHOOK_SIGNED": "nonsense"}, verb="explain") == gather({}, {}, verb="explain")


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("4096", 4096), ("1k", 1024), ("3M", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert settings.size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0G", "-1", "1.5G", "G", "1KM", "1 G", "0x10", "²", "9" * 16])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="size|too small"):
        settings.size(text)


@pytest.mark.parametrize("text", ["0", "-1", "inf", "nan", "1e9", "soon", ""])
def test_no_seconds(text: str) -> None:
    with pytest.raises(ValueError, match="seconds"):
        settings.seconds(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "4097", "٣", "1" * 5000])
def test_no_counts(text: str) -> None:
    with pytest.raises(ValueError, match="whole number|between"):
        settings.count(text)


def test_quiet_and_verbose() -> None:
    given = gather({"verbose": "yes"}, {"PKGHOOK_QUIET": "1"})
    assert (given.quiet, given.verbose) == (False, True)
    write("verbose = true")
    given = gather({}, {"PKGHOOK_QUIET": "1"})
    assert (given.quiet, given.verbose) == (True, False)
    assert fails({"quiet": "yes", "verbose": "yes"}).message == "--quiet and --verbose contradict each other"


def test_fsync(tmp_path: Path) -> None:
    Path("link").symlink_to("/")
    assert [Settings().fsync_wanted(root) for root in ("/", "link", str(tmp_path))] == [True, True, False]
    assert Settings(fsync="yes").fsync_wanted(str(tmp_path))
    assert not Settings(fsync="no").fsync_wanted("/")


def test_strangers() -> None:
    environ = {"PKGHOOK_SIGND": "keep", "PKGHOOK_JOBS": "1", "PKGHOOK_CORPUS": "/x", "PATH": "/bin"}
    assert settings.strangers(environ) == ["PKGHOOK_SIGND"]


# --- pkghook.toml ----------------------------------------------------------------------------------------------------


def test_config_file_is_named_or_lies_here() -> None:
    write("jobs = 3")
    write("jobs = 4", "four.toml")
    write("jobs = 5", "five.toml")
    assert gather({}, {}).jobs == 3
    assert gather({}, {"PKGHOOK_CONFIG": "four.toml"}).jobs == 4
    assert gather({"config": "five.toml"}, {"PKGHOOK_CONFIG": "four.toml"}).jobs == 5
    assert gather({"config": "/dev/null"}, {}).jobs == len(os.sched_getaffinity(0))


def test_config_file_must_be_there_if_named() -> None:
    assert fails({"config": "no.toml"}).message == "no.toml: No such file or directory"


def test_dangling_config_is_not_passed_over() -> None:
    Path("pkghook.toml").symlink_to("nowhere")
    assert fails().message == "pkghook.toml: No such file or directory"


def test_values_as_toml_has_them() -> None:
    write("jobs = 2\ndry-run = true\nquiet = false\ntool_timeout = 2.5\nchain = ['native', 'strip']")
    given = gather({}, {})
    assert (given.jobs, given.dry_run, given.quiet, given.tool_timeout) == (2, True, False, 2.5)
    assert given.chain == "native,strip"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jbos = 3", "pkghook.toml: jbos: no such setting"),
        ("config = 'x'", "pkghook.toml: config: no such setting"),
        ("dry-run = true\ndry_run = false", "pkghook.toml: dry_run: given twice, with - and with _"),
        ("jobs = [1]", "pkghook.toml: jobs: must be text, a number, true or false, or a list of texts"),
        ("jobs = {a = 1}", "pkghook.toml: jobs: must be text, a number, true or false, or a list of texts"),
        ("signed = 2020-01-01", "pkghook.toml: signed: must be text, a number, true or false, or a list of texts"),
        ("jobs = ", "pkghook.toml: not TOML: "),
        ("keep = 'x'", "pkghook.toml: keep: must be [[keep]] tables"),
    ],
)
def test_wrong_files(text: str, message: str) -> None:
    write(text)
    assert fails().message.startswith(message)


def test_near_name_is_hinted() -> None:
    write("jbos = 3")
    assert fails().hint == "did you mean jobs?"


def test_file_that_is_not_utf8() -> None:
    Path("pkghook.toml").write_bytes(b"chain = '\xff'")
    assert fails().message.startswith("pkghook.toml: not TOML: ")


# --- keep entries ----------------------------------------------------------------------------------------------------


def test_keeps_of_all_origins_add_up() -> None:
    write("[[keep]]\nglob = 'c/*'\nreason = 'three'\nfinding = 'fell-through'")
    Path("keep.d").mkdir()
    write("[[keep]]\nglob = 'd'\nreason = 'four'", "keep.d/b.toml")
    write("[[keep]]\nglob = 'e'\nreason = 'five'", "keep.d/a.toml")
    write("not read", "keep.d/README")
    given = gather({"keep": ["a*=one"], "keep_dir": "keep.d/"}, {"PKGHOOK_KEEP": "b=two; \nb2=x=y"})
    assert given.keep == (
        ("a*", "", "one", "--keep"),
        ("b", "", "two", "PKGHOOK_KEEP"),
        ("b2", "", "x=y", "PKGHOOK_KEEP"),
        ("c/*", "fell-through", "three", "pkghook.toml"),
        ("e", "", "five", "keep.d/a.toml"),
        ("d", "", "four", "keep.d/b.toml"),
    )


def test_origin_says_nothing_of_where_the_file_lies(tmp_path: Path) -> None:
    name = write("[[keep]]\nglob = 'c'\nreason = 'r'", str(tmp_path / "my.toml"))
    assert gather({"config": name}, {}).keep == (("c", "", "r", "my.toml"),)


@pytest.mark.parametrize("text", ["a*", "=reason", "a*=", " = "])
def test_wrong_keeps(text: str) -> None:
    assert fails({"keep": [text]}).message.startswith("--keep: ")
    assert fails({}, {"PKGHOOK_KEEP": text + ";x=y"}).message.startswith("PKGHOOK_KEEP: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("glob = 'a'", "keep[0]: the keep entry for 'a' needs a reason"),
        ("reason = 'a'", "keep[0]: a keep entry needs a glob"),
        ("glob = 'a'\nreason = 'b'\nfinding = 'no'", "keep[0]: .* names a finding 'no' that does not exist"),
        ("glob = 'a'\nreason = 'b'\nid = 'no'", r"keep[0]: id: no such key"),
        ("glob = {}\nreason = 'b'", "keep[0]: must be text"),
    ],
)
def test_wrong_keep_tables(text: str, message: str) -> None:
    pattern = re.escape("pkghook.toml: ") + message.replace("[", r"\[").replace("]", r"\]")
    write(f"[[keep]]\n{text}")
    assert re.match(pattern, fails().message)


def test_vendor_file_with_settings() -> None:
    Path("keep.d").mkdir()
    write("jobs = 1", "keep.d/a.toml")
    assert fails({"keep_dir": "keep.d"}).message == "keep.d/a.toml: jobs: only [[keep]] entries may stand here"


def test_vendor_directory_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual one need not be; who names another counts on what is in it."""
    write("", "file")
    for name, reason in (("file", "Not a directory"), ("nowhere", "No such file or directory")):
        assert fails({"keep_dir": name}).message == f"keep-dir: {name}: {reason}"
        assert fails({}, {"PKGHOOK_KEEP_DIR": name}).message == f"keep-dir: {name}: {reason}"
    monkeypatch.setattr(os, "listdir", lambda _: _listdir("nowhere"))
    assert gather({}, {}).keep == gather({"keep_dir": ""}, {}).keep == ()


# --- severities ------------------------------------------------------------------------------------------------------


def test_the_strongest_origin_gives_a_finding_its_severity() -> None:
    write("[severity]\nfell-through = 'error'\nunused-keep = 'info'\nresidue = 'warning'")
    environ = {"PKGHOOK_SEVERITY": "unused-keep = error; scratch-left=warning;\n"}
    given = gather({"severity": ["scratch-left=error", "no-proof=info"]}, environ)
    assert given.severity == (
        ("fell-through", Severity.ERROR),
        ("no-proof", Severity.INFO),
        ("residue", Severity.WARNING),
        ("scratch-left", Severity.ERROR),
        ("unused-keep", Severity.ERROR),
    )
    assert gather({}, {}, verb="tools").severity == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fell-through", "'fell-through' is not ID=SEVERITY"),
        ("fall-through=error", "'fall-through' is not a finding; `pkghook explain` lists them"),
        ("fell-through=fatal", "'fatal' is not one of info, warning, error"),
        ("fell-through=", "'' is not one of info, warning, error"),
    ],
)
def test_wrong_severities(text: str, message: str) -> None:
    """Of every origin, by the same words."""
    assert fails({"severity": [text]}).message == f"--severity: {message}"
    assert fails({}, {"PKGHOOK_SEVERITY": text}).message == f"PKGHOOK_SEVERITY: {message}"
    id, equals, level = text.partition("=")
    if equals:
        write(f"[severity]\n{id} = '{level}'")
        assert fails().message == f"pkghook.toml: severity: {message}"


@pytest.mark.parametrize("text", ["severity = 'error'", "severity = ['residue=error']", "[severity]\nresidue = 3"])
def test_wrong_severity_tables(text: str) -> None:
    write(text)
    assert fails().message.startswith("pkghook.toml: severity: must be a [severity] table")


# --- lists of paths --------------------------------------------------------------------------------------------------


def test_the_strongest_origin_gives_the_paths() -> None:
    write("baseline = ['a, b', 'c']")
    assert gather({}, {}).baseline == ("a, b", "c")
    assert gather({}, {"PKGHOOK_BASELINE": "d:e\n f \n"}).baseline == ("d:e", " f ")
    assert gather({"baseline": ["g"]}, {"PKGHOOK_BASELINE": "d"}).baseline == ("g",)
    assert gather({"baseline": ["g"]}, {}, verb="strip").baseline == ()
    assert fails({"baseline": ["a", "\0"]}).message == "--baseline: '\\x00' is not a path"


def test_a_single_path_and_one_that_is_none() -> None:
    write("baseline = 'a'")
    assert gather({}, {}).baseline == ("a",)
    write("baseline = [1]")
    assert fails().message.startswith("pkghook.toml: baseline: must be text")


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e9", "5%%"])
def test_wrong_growth(text: str) -> None:
    assert fails({"max_growth": text or " "}).message.startswith("--max-growth: ")
