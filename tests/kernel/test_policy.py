"""States and policy on real modules: what is stripped, kept and failed, on whose word, and what the user is told."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from pkghook.findings import registry
from pkghook.model import Compression, Outcome, Proof, State
from pkghook.settings import ROWS
from tests import inprocess, jobs, modules, shapes
from tests.inprocess import HOME, MARKER, call, digests, put
from tests.surgery import native_strip

NAMES = ("crc-itu-t", "crc7", "af_alg")
PACKED = (Compression.NONE, Compression.GZIP, Compression.XZ, Compression.ZSTD)


@cache
def unstripped(corpus: Path, name: str = "crc-itu-t") -> bytes:
    """A real module as it was built."""
    return modules.image(modules.named(corpus, "amd64", name))


@cache
def shipped(corpus: Path, name: str = "crc-itu-t") -> bytes:
    """The same as Debian ships it: stripped, then signed."""
    return modules.shipped(corpus, "amd64", modules.named(corpus, "amd64", name)).read_bytes()


@cache
def trailer(corpus: Path) -> bytes:
    """Debian's signature of it."""
    return inprocess.trailer(shipped(corpus))


@cache
def signed(corpus: Path) -> bytes:
    """Unstripped and signed."""
    return unstripped(corpus) + trailer(corpus)


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> Path:
    """A tree with three modules, unstripped."""
    for name in NAMES:
        put(tmp_path / "root", f"{name}.ko", unstripped(corpus, name))
    return tmp_path / "root"


def warnings(job: jobs.Job) -> list[str]:
    """The first words of the findings in the report."""
    return [line for line in job.out.splitlines() if line.startswith(("error: ", "warning: ", "info: "))]


# --- signed ----------------------------------------------------------------------------------------------------------


def test_shipped_module_is_already_stripped_and_stays_signed(corpus: Path, tmp_path: Path) -> None:
    for how in PACKED:
        put(tmp_path / "root", f"m.ko{how.suffix}", inprocess.packed(shipped(corpus), how))
    before = digests(tmp_path / "root")
    for word in ("fail", "keep", "strip"):
        job = inprocess.strip(tmp_path / "root", "--signed", word)
        assert (job.status, job.states) == (0, {State.ALREADY_STRIPPED: 4})
        assert {entry.signature for entry in job.receipt.entries} == {"present"}
    assert digests(tmp_path / "root") == before


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("options", [(), ("--signed", "fail")])
def test_signed_fails(corpus: Path, tmp_path: Path, how: Compression, options: tuple[str, ...]) -> None:
    path = put(tmp_path / "root", f"m.ko{how.suffix}", inprocess.packed(signed(corpus), how))
    before = path.read_bytes()
    job = inprocess.strip(tmp_path / "root", *options)
    entry = job.entry(path.name)
    saving = len(unstripped(corpus)) - len(native_strip(unstripped(corpus)))
    assert (job.status, entry.state, entry.signature) == (1, State.FAILED, "present")
    assert [(finding.id, dict(finding.evidence)) for finding in entry.findings] == [
        ("signed-unstripped", {"saving": saving})
    ]
    assert path.read_bytes() == before
    assert f"  hint: {registry()['signed-unstripped'].hint}" in job.out.splitlines()


@pytest.mark.parametrize("how", PACKED)
def test_signed_is_kept(corpus: Path, tmp_path: Path, how: Compression) -> None:
    path = put(tmp_path / "root", f"m.ko{how.suffix}", inprocess.packed(signed(corpus), how))
    before = path.read_bytes()
    job = inprocess.strip(tmp_path / "root", "--signed", "keep")
    entry = job.entry(path.name)
    assert (job.status, entry.state, entry.reason, entry.signature) == (0, State.KEPT, "signed", "present")
    assert path.read_bytes() == before
    assert job.out.startswith(f"kept             {HOME}/{path.name}: ")


@pytest.mark.parametrize("how", PACKED)
def test_signature_is_removed_if_told_so(corpus: Path, tmp_path: Path, how: Compression) -> None:
    path = put(tmp_path / "root", f"m.ko{how.suffix}", inprocess.packed(signed(corpus), how))
    job = inprocess.strip(tmp_path / "root", "--signed", "strip")
    entry = job.entry(path.name)
    assert (job.status, entry.state, entry.proof, entry.signature) == (0, State.STRIPPED, Proof.VERIFIED, "removed")
    assert [(finding.id, dict(finding.evidence)) for finding in entry.findings] == [
        ("signature-removed", {"bytes": len(trailer(corpus))})
    ]
    assert modules.image(path) == native_strip(unstripped(corpus))
    assert MARKER not in path.read_bytes()
    assert "; signature removed; [signature-removed]\n" in job.out
    assert inprocess.strip(tmp_path / "root", "--signed", "strip", "--fail-on", "warning").status == 0, "gone for good"


def test_signed_with_only_symbols_to_drop_is_kept(corpus: Path, tmp_path: Path) -> None:
    """A signature is worth more than a few symbols."""
    path = put(tmp_path / "root", "m.ko", shipped(corpus))
    job = inprocess.strip(tmp_path / "root", "--strip-symbols", "symbols.safe")
    entry = job.entry("m.ko")
    assert (job.status, entry.state) == (0, State.KEPT)
    assert entry.reason == "signed, and only symbols or labels to drop"
    assert path.read_bytes() == shipped(corpus)


# --- livepatch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "state", "reason", "findings"),
    [
        ((), State.STRIPPED, "", []),
        (("--livepatch", "strip"), State.STRIPPED, "", []),
        (("--livepatch", "keep"), State.KEPT, "livepatch", []),
        (("--livepatch", "fail"), State.FAILED, "", ["livepatch-unstripped"]),
    ],
)
@pytest.mark.parametrize("shape", shapes.LIVEPATCH_SHAPES)
def test_livepatch(
    tmp_path: Path, shape: str, options: tuple[str, ...], state: State, reason: str, findings: list[str]
) -> None:
    path = put(tmp_path / "root", "patch.ko", shapes.livepatch(shape))
    job = inprocess.strip(tmp_path / "root", *options)
    entry = job.entry("patch.ko")
    assert (entry.livepatch, entry.state, entry.reason) == (True, state, reason)
    assert [finding.id for finding in entry.findings] == findings
    assert job.status == (state is State.FAILED)
    assert (path.read_bytes() == shapes.livepatch(shape)) == (state is not State.STRIPPED)


def test_stripped_livepatch_passes_whatever_policy_says(tmp_path: Path) -> None:
    put(tmp_path / "root", "patch.ko", native_strip(shapes.livepatch("b")))
    for word in ("strip", "keep", "fail"):
        job = inprocess.strip(tmp_path / "root", "--livepatch", word)
        assert (job.status, job.states) == (0, {State.ALREADY_STRIPPED: 1})


# --- keep entries ----------------------------------------------------------------------------------------------------


def test_kept_by_hand(corpus: Path, root: Path) -> None:
    job = inprocess.strip(root, "--keep", "crc*.ko=for the tests", "--keep", f"/{HOME}/af_alg.ko=by its path")
    assert (job.status, job.states) == (0, {State.KEPT: 3})
    assert {entry.reason for entry in job.receipt.entries} == {"for the tests", "by its path"}
    assert digests(root)[f"{HOME}/crc7.ko"] == hashlib.sha256(unstripped(corpus, "crc7")).hexdigest()
    assert [(o.keep.glob, o.keep.origin, len(o.matched)) for o in job.receipt.overrides] == [
        ("crc*.ko", "--keep", 2),
        (f"/{HOME}/af_alg.ko", "--keep", 1),
    ]
    assert job.receipt.totals.saved == 0


def test_kept_by_configuration(root: Path, tmp_path: Path) -> None:
    (tmp_path / "keep.d").mkdir()
    (tmp_path / "keep.d" / "vendor.toml").write_text(
        '[[keep]]\nglob = "crc7.ko"\nreason = "the vendor\'s"\n\n[[keep]]\nglob = "nvidia*.ko"\nreason = "not here"\n'
    )
    (tmp_path / "pkghook.toml").write_text('[[keep]]\nglob = "**/crc-itu-t.ko"\nreason = "ours"\n')
    told = call(
        *("strip", root, "--keep-dir", tmp_path / "keep.d", "--config", tmp_path / "pkghook.toml", "-v"),
        PKGHOOK_KEEP="af_*=by environment; none*=matches nothing",
    )
    assert (told.status, told.err) == (0, "")
    for line in (
        f"kept             {HOME}/af_alg.ko: ",
        f"kept             {HOME}/crc-itu-t.ko: ",
        f"kept             {HOME}/crc7.ko: ",
        "kept by PKGHOOK_KEEP: af_* (matched 1): by environment\n",
        "kept by pkghook.toml: **/crc-itu-t.ko (matched 1): ours\n",
        "kept by keep.d/vendor.toml: crc7.ko (matched 1): the vendor's\n",
    ):
        assert line in told.out
    unused = (
        "warning: none*: a keep entry matched nothing (reason: matches nothing; origin: PKGHOOK_KEEP) [unused-keep]"
    )
    assert [line for line in told.out.splitlines() if line.startswith("warning: ")] == [unused]


def test_unused_keep_may_close_the_gate(root: Path) -> None:
    assert inprocess.strip(root, "--keep", "none=why", "--fail-on", "warning").status == 1
    assert inprocess.strip(root, "--keep", "none=why").status == 0


def test_damaged_module_may_be_kept(root: Path) -> None:
    path = put(root, "broken.ko", b"nothing of the kind")
    assert inprocess.strip(root).status == 1
    job = inprocess.strip(root, "--keep", "broken.ko=known to be")
    assert (job.status, job.entry("broken.ko").reason) == (0, "known to be")
    assert path.read_bytes() == b"nothing of the kind"


def test_one_finding_may_be_left_alone(corpus: Path, root: Path, tmp_path: Path) -> None:
    put(root, "signed.ko", signed(corpus))
    keep = '[[keep]]\nglob = "signed.ko"\nfinding = "signed-unstripped"\nreason = "comes so"\n'
    (tmp_path / "pkghook.toml").write_text(keep)
    job = inprocess.strip(root, "--config", tmp_path / "pkghook.toml")
    entry = job.entry("signed.ko")
    assert (job.status, entry.state, entry.reason) == (0, State.KEPT, "signed-unstripped: comes so")
    assert "1 finding left alone by keep entries" in job.out


# --- proof -----------------------------------------------------------------------------------------------------------


def test_require_proof(corpus: Path, root: Path) -> None:
    put(root, "done.ko", native_strip(unstripped(corpus)))
    job = inprocess.strip(root, "--require-proof")
    assert job.status == 1
    assert [(finding.id, finding.subject) for finding in job.receipt.findings] == [("no-proof", f"{HOME}/done.ko")]
    assert job.states == {State.STRIPPED: 3, State.ALREADY_STRIPPED: 1}


def test_require_proof_in_a_dry_run_says_what_a_real_run_would(root: Path) -> None:
    assert inprocess.strip(root, "--require-proof", "--dry-run").status == 0
    assert inprocess.strip(root, "--require-proof").status == 0
    assert inprocess.strip(root, "--require-proof", "--dry-run").status == 1


# --- debug trees -----------------------------------------------------------------------------------------------------


def test_debug_trees(corpus: Path, root: Path) -> None:
    debug = root / "usr/lib/debug" / HOME
    debug.mkdir(parents=True)
    (debug / "crc7.ko").write_bytes(unstripped(corpus, "crc7"))
    (root / HOME / "vmlinux.debug").write_bytes(unstripped(corpus))
    job = inprocess.strip(root)
    assert (job.status, job.states) == (0, {State.STRIPPED: 3})
    assert (debug / "crc7.ko").read_bytes() == unstripped(corpus, "crc7")
    assert (root / HOME / "vmlinux.debug").read_bytes() == unstripped(corpus)
    assert (job.receipt.walk.debug_modules, job.receipt.walk.debug_bytes) == (1, len(unstripped(corpus, "crc7")))
    assert "debug trees: 1 module kept (" in job.out
    assert "other ELF files: 1, not touched (" in job.out
    with_debug = inprocess.strip(root, "--include-debug")
    assert with_debug.states == {State.STRIPPED: 1, State.ALREADY_STRIPPED: 3}
    assert (debug / "crc7.ko").read_bytes() == native_strip(unstripped(corpus, "crc7"))


def test_root_in_a_debug_tree(corpus: Path, root: Path) -> None:
    """Who names it means it."""
    debug = root / "usr/lib/debug/lib/modules/6.1.0"
    debug.mkdir(parents=True)
    (debug / "crc7.ko").write_bytes(unstripped(corpus, "crc7"))
    assert inprocess.strip(debug).states == {State.STRIPPED: 1}


# --- dry run ---------------------------------------------------------------------------------------------------------

DRY = {
    "default": (),
    "labels": ("--discard-labels",),
    "symbols": ("--strip-symbols", "symbols.safe"),
    "debug first": ("--chain", "native,native-symbols", "--strip-symbols", "symbols.safe"),
    "signed": ("--signed", "strip"),
}


@pytest.mark.parametrize("options", DRY.values(), ids=DRY)
def test_dry_run_changes_nothing_and_tells_the_bytes(corpus: Path, root: Path, options: tuple[str, ...]) -> None:
    """Compressed modules too: what they will take is known only when they are compressed."""
    for how in PACKED[1:]:
        put(root, f"packed.ko{how.suffix}", inprocess.packed(unstripped(corpus, "af_alg"), how))
    put(root, "signed.ko", signed(corpus))
    put(root, "done.ko", native_strip(unstripped(corpus)))
    before = jobs.facts(root), digests(root)
    dry = inprocess.strip(root, "-n", *options)
    assert (jobs.facts(root), digests(root)) == before
    assert dry.receipt.mode == "dry-run"
    assert "dry run, nothing written; " in dry.out
    real = inprocess.strip(root, *options)
    assert real.receipt.mode == "strip"
    assert dry.status == real.status == ("--signed" not in options)
    assert (dry.receipt.totals.saved, dry.states) == (real.receipt.totals.saved, real.states)
    assert dry.receipt.totals.saved > 0
    for path, entry in dry.entries.items():
        other = real.entries[path]
        assert (entry.state, entry.step, entry.sizes, entry.signature) == (
            other.state,
            other.step,
            other.sizes,
            other.signature,
        )
        assert (entry.findings, entry.dropped_symbols) == (other.findings, other.dropped_symbols)
        assert entry.sha256_after == ""
        assert not any(attempt.outcome is Outcome.PASSED for attempt in entry.attempts)
    saved = f"{dry.receipt.totals.saved:,} of {dry.receipt.totals.file_before:,} bytes"
    assert f"would save {saved}" in dry.out
    assert f"\nsaved {saved}" in real.out


def test_dry_run_where_tools_are_missing(root: Path, tmp_path: Path) -> None:
    """It falls through as the real run would, or fails."""
    (tmp_path / "bin").mkdir()
    path = str(tmp_path / "bin")
    dry = inprocess.strip(root, "-n", "--chain", "objcopy,native", PATH=path)
    assert dry.status == 0
    assert {entry.step for entry in dry.receipt.entries} == {"native"}
    assert {finding.id for entry in dry.receipt.entries for finding in entry.findings} == {"fell-through"}
    failed = inprocess.strip(root, "-n", "--chain", "objcopy,strip", PATH=path)
    assert (failed.status, failed.states) == (1, {State.FAILED: 3})


def test_dry_run_of_a_busy_tree_and_a_tree_with_leftovers(root: Path) -> None:
    """It changes nothing, so it neither waits nor sweeps."""
    left = root / "lib/modules/.pkghook-00ff-1"
    left.mkdir()
    assert inprocess.strip(root, "-n").status == 0
    assert left.is_dir()
    job = inprocess.strip(root)
    assert not left.exists()
    assert [(f.id, f.subject, dict(f.evidence)) for f in job.receipt.findings] == [
        ("scratch-left", "lib/modules/.pkghook-00ff-1", {"files": 0})
    ]


# --- what is said ----------------------------------------------------------------------------------------------------


def test_quiet_says_nothing_when_all_is_well(root: Path) -> None:
    told = call("strip", root, "-q")
    assert told == (0, "", "")


def test_quiet_says_what_fails(root: Path) -> None:
    put(root, "broken.ko", b"nothing of the kind")
    told = call("strip", root, "-q", "--keep", "none=why")
    assert (told.status, told.err) == (1, "")
    line, hint = told.out.splitlines()
    assert line.startswith(f"error: {HOME}/broken.ko: not an ELF file (starts_with: 6e 6f 74")
    assert hint == f"  hint: {registry()['not-elf'].hint}"


def test_normal_and_verbose(root: Path) -> None:
    """One line for each module to which something happened that is worth a line; with -v for each."""
    told = call("strip", root, "-n")
    assert HOME not in told.out
    told = call("strip", root, "-v")
    for name in NAMES:
        assert f"stripped         {HOME}/{name}.ko: " in told.out
    last = told.out.splitlines()[-3:]
    assert last[0] == "3 modules: 3 stripped"
    assert last[1].startswith("saved ")
    assert last[2] == "passed"


def test_json(root: Path) -> None:
    told = call("strip", root, "--format", "json")
    assert (told.status, told.err) == (0, "")
    document = json.loads(told.out)
    assert (document["format"], document["passed"], document["mode"]) == ("pkghook report", True, "strip")
    assert document["totals"]["states"] == {"stripped": 3, "already-stripped": 0, "kept": 0, "failed": 0}
    assert [entry["path"] for entry in document["entries"]] == sorted(f"{HOME}/{name}.ko" for name in NAMES)


def test_json_of_a_failure(root: Path) -> None:
    put(root, "broken.ko", b"nothing of the kind")
    told = call("strip", root, "--format=json", "-q")
    document = json.loads(told.out)
    assert (told.status, told.err, document["passed"]) == (1, "", False)
    (finding,) = document["findings"]
    assert (finding["id"], finding["subject"]) == ("not-elf", f"{HOME}/broken.ko")
    assert finding["hint"] == registry()["not-elf"].hint


def test_nothing_there(tmp_path: Path) -> None:
    told = call("strip", tmp_path)
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith("no modules found")


# --- settings: four origins, one validation --------------------------------------------------------------------------

BAD = {
    "signed": "maybe",
    "livepatch": "no",
    "fail_on": "never",
    "jobs": "0",
    "max_module_size": "some",
    "tool_timeout": "-1",
    "dry_run": "perhaps",
    "fsync": "sometimes",
    "format": "xml",
    "chain": "native,nativ",
    "keep": "a glob without a reason",
}


@pytest.mark.parametrize("name", BAD)
def test_one_validation(root: Path, tmp_path: Path, name: str) -> None:
    """The same words from the command line, the environment and the file; nothing happens to the tree."""
    row = next(row for row in ROWS if row.name == name)
    config = tmp_path / "pkghook.toml"
    config.write_text(f'{name.replace("_", "-")} = "{BAD[name]}"\n')
    before = digests(root)
    flag = [row.flags[-1], BAD[name]] if row.metavar else []
    runs = [
        call("strip", root, *flag) if flag else None,
        call("strip", root, **{row.env: BAD[name]}),
        call("strip", root, "--config", config) if name != "keep" else None,
    ]
    errors = [run.err.splitlines() for run in runs if run]
    assert all(run.status == 2 and run.out == "" for run in runs if run)
    assert len(errors) >= 2 - (name == "keep")
    for lines in errors:
        assert lines[0].startswith("pkghook: error: ")
        assert lines[1].startswith("hint: ")
    reasons = {lines[0].rpartition(": ")[2] for lines in errors}
    assert len(reasons) == 1
    assert digests(root) == before


def test_each_origin_goes_before_the_next(corpus: Path, tmp_path: Path) -> None:
    put(tmp_path / "root", "m.ko", signed(corpus))
    config = tmp_path / "pkghook.toml"
    config.write_text('signed = "keep"\nverbose = true\n')
    options = ("--config", config, "-n")
    states = [
        inprocess.strip(tmp_path / "root", "-n").states,
        inprocess.strip(tmp_path / "root", *options).states,
        inprocess.strip(tmp_path / "root", *options, PKGHOOK_SIGNED="strip").states,
        inprocess.strip(tmp_path / "root", *options, "--signed", "fail", PKGHOOK_SIGNED="strip").states,
    ]
    assert [*map(list, states)] == [[State.FAILED], [State.KEPT], [State.STRIPPED], [State.FAILED]]


def test_settings_stand_in_the_receipt(root: Path, tmp_path: Path) -> None:
    """Those that shape the result, whatever their origin; not those that only say how to get there."""
    (tmp_path / "pkghook.toml").write_text('chain = ["native", "objcopy"]\n')
    options = ("--config", tmp_path / "pkghook.toml", "-j1", "--tool-timeout", "7", "--fail-on", "info")
    job = inprocess.strip(root, *options, PKGHOOK_SIGNED="keep")
    assert dict(job.receipt.settings) == {
        "chain": "native,objcopy",
        "discard-labels": "no",
        "max-module-size": str(4 << 30),
        "signed": "keep",
        "livepatch": "strip",
        "require-proof": "no",
    }


# --- symbol lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "names no symbol to drop"),
        (b"# nothing\n\n", "names no symbol to drop"),
        (b"crc_itu_t second\n", "line 1: a second word, 'second'"),
        (b"one\r\ntwo three\r\n", "line 2: a second word, 'three'"),
        (b"[a-\n", "line 1: "),
    ],
)
def test_list_that_is_none(root: Path, tmp_path: Path, text: bytes, said: str) -> None:
    wanted = tmp_path / "my.list"
    wanted.write_bytes(text)
    before = digests(root)
    told = call("strip", root, "--strip-symbols", wanted)
    assert (told.status, told.out) == (2, "")
    message, hint = told.err.splitlines()
    assert message.startswith(f"pkghook: error: symbol list {wanted}")
    assert said in message
    assert hint.startswith("hint: one symbol name or pattern a line")
    assert digests(root) == before


def test_list_that_cannot_be_read(root: Path) -> None:
    told = call("strip", root, "--strip-symbols", "symbols.save")
    assert told.status == 2
    assert "symbols.safe, symbols.2009" in told.err


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_list_with_any_line_end(root: Path, tmp_path: Path, end: bytes) -> None:
    """objcopy alone would match nothing with CRLF, and say nothing."""
    (tmp_path / "my.list").write_bytes(end.join([b"__UNIQUE_ID_*", b"__param_str_*"]) + end)
    options = ("--strip-symbols", tmp_path / "my.list")
    for chain in ("native-symbols", "objcopy-symbols"):
        job = inprocess.strip(shutil.copytree(root, tmp_path / chain), "--chain", chain, *options)
        assert job.status == 0
        found = sum(len(entry.dropped_symbols) for entry in job.receipt.entries)
        assert (found > 0) == (end != b"")
        assert ("list-matched-nothing" in job.out) == (end == b"")


def test_list_that_matches_nothing(root: Path, tmp_path: Path) -> None:
    (tmp_path / "my.list").write_text("nobody_has_this\nprintk\n")  # the second is defined elsewhere
    job = inprocess.strip(root, "--strip-symbols", tmp_path / "my.list")
    assert job.status == 0
    assert [(f.id, f.subject, dict(f.evidence)) for f in job.receipt.findings] == [
        ("list-matched-nothing", "my.list", {"modules": 3})
    ]
    (line,) = warnings(job)
    assert line.startswith("warning: my.list: ")
    again = inprocess.strip(root, "--strip-symbols", tmp_path / "my.list", "--fail-on", "warning")
    assert (again.status, again.states) == (1, {State.ALREADY_STRIPPED: 3})


@pytest.mark.parametrize("options", [(), ("--chain", "objcopy-symbols,objcopy")])
def test_list_that_relocations_hold(root: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    """What the list names is there, so nothing is wrong with the list; objcopy refuses, and the chain goes on."""
    (tmp_path / "my.list").write_text("crc_itu_t_table\naf_alg_proto\n__kstrtab_crc_itu_t\n")
    job = inprocess.strip(root, "--strip-symbols", tmp_path / "my.list", "--allow-depmod-change", *options)
    assert job.status == 0
    assert "list-matched-nothing" not in job.out
    entry = job.entry("crc-itu-t.ko")
    assert entry.matched_symbols > 0
    assert entry.dropped_symbols == ()


def test_list_that_changes_depmod_is_refused(root: Path, tmp_path: Path) -> None:
    before = digests(root)
    (tmp_path / "my.list").write_text("__crc_*\n")
    for wanted in ("symbols.2009", str(tmp_path / "my.list")):
        told = call("strip", root, "--strip-symbols", wanted)
        assert (told.status, told.out) == (2, "")
        message, hint = told.err.splitlines()
        assert message.endswith("[depmod-change]")
        assert "--allow-depmod-change" in hint
    assert digests(root) == before
    assert "depmod-change" in registry()
    assert inprocess.strip(root, "--strip-symbols", "symbols.2009", "--allow-depmod-change").status == 0


# --- the receipt's place ---------------------------------------------------------------------------------------------


def test_receipt_that_cannot_be_written_is_told_before_the_work(root: Path, tmp_path: Path) -> None:
    before = digests(root)
    for where in (tmp_path / "nowhere" / "r.json", tmp_path, root / HOME / "crc7.ko" / "r.json"):
        told = call("strip", root, "--receipt", where)
        assert (told.status, told.out) == (2, "")
        assert told.err.startswith(f"pkghook: error: {where}: cannot be written: ")
    assert digests(root) == before


def test_what_was_done_is_told_even_without_a_receipt(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may fill up meanwhile."""
    monkeypatch.setattr("pkghook.atomic.check", lambda _: None)
    told = call("strip", root, "--receipt", root / "nowhere" / "r.json")
    assert told.status == 2
    assert "3 modules: 3 stripped\n" in told.out
    assert "cannot be written" in told.err


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_report_that_cannot_be_written(root: Path) -> None:
    done = jobs.run("strip", root, "--receipt", "/dev/full")
    assert done.returncode == 2
    assert done.stderr == "pkghook: error: /dev/full: cannot be written: No space left on device\n"
    assert "3 modules: 3 stripped\n" in done.stdout
