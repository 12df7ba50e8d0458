"""`ko.record`, `compare.judge_recorded` and `pkghook record`: the file, what it is trusted for, how it is made."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pkghook import cli
from pkghook.errors import ReceiptError
from pkghook.findings import Finding
from pkghook.ko import codec, compare, record
from pkghook.ko.elf import Elf, parse
from pkghook.ko.facts import Facts, facts
from pkghook.ko.file import BytesImage
from pkghook.ko.plan import Plan, plan
from pkghook.ko.record import Record, Recorded
from pkghook.model import Compression, Proof
from pkghook.sources import Found
from pkghook.sources.tree import Tree
from pkghook.stories import record as story
from tests import shapes
from tests.shapes import AMD64, KINDS
from tests.surgery import Patient, native_strip
from tests.trees import as_ordinary_user, put

KO = "lib/modules/6.1.0/kernel/a.ko"
SIGNED = b"signature~Module signature appended~\n"


def known(data: bytes, trailer: bytes = b"") -> Facts:
    """The facts of a module."""
    elf = parse(BytesImage(data))
    return facts(elf, plan(elf), trailer)


def sample() -> list[Recorded]:
    """Recorded modules with something of everything."""
    livepatch = known(shapes.livepatch("b"), SIGNED)
    members = [
        Recorded(f"lib/{kind}.ko", known(shapes.module(KINDS[kind])), (1, 2, 3, at)) for at, kind in enumerate(KINDS)
    ]
    odd = Recorded("lib/\udcff.ko.xz", livepatch, (), Compression.XZ, ("lib/other\n.ko.xz",))
    return [odd, *members]


# --- the file --------------------------------------------------------------------------------------------------------


def test_round_trip() -> None:
    entries = sample()
    data = record.dump(entries)
    assert list(record.load(data, "r").entries) == entries
    assert data.isascii()
    assert len(data.splitlines()) == len(entries) + 7  # one module a line
    assert record.load(record.dump([]), "r").entries == ()


def test_layout_does_not_matter(tmp_path: Path) -> None:
    """What a JSON tool has written anew is still the record."""
    path = put(tmp_path, "record", json.dumps(json.loads(record.dump(sample())), indent=3, sort_keys=True).encode())
    assert list(record.read(str(path)).entries) == sample()


def wrong(path: str, value: object) -> str:
    """The error for a record whose field at `path` (of Python) has another value; `...` removes it."""
    document = json.loads(record.dump(sample()[:2]))
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    place: Any = document
    for step in way:
        place = place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(ReceiptError) as caught:
        record.load(json.dumps(document).encode(), "r.json")
    return caught.value.message


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("format", "pkghook receipt", "r.json: not a pkghook record"),
        ("version", 2, "r.json: a pkghook record of unknown version 2"),
        ("modules", 7, "modules: 7 where a list is needed"),
        ("modules/0", 7, "modules[0]: 7 where an object is needed"),
        ("modules/1/path", "../up.ko", "modules[1].path: '../up.ko' is not a path below ROOT"),
        ("modules/1/path", ..., "modules[1].path: missing"),
        ("modules/1/colour", "red", "modules[1].colour: no such field in this version"),
        ("modules/1/compression", "lzma", "modules[1].compression: 'lzma' is not one of none, gzip, xz, zstd"),
        ("modules/1/names", ["lib/\udcff.ko.xz"], "modules[1]: 'lib/\\udcff.ko.xz' stands here for the second time"),
        ("modules/1/identity", [1, 2, 3], "modules[1].identity: neither 4 numbers nor none"),
        ("modules/1/identity", [1, 2, 3, -4], "modules[1].identity: neither 4 numbers nor none"),
        ("modules/1/identity", [1, 2, 3, True], "modules[1].identity: neither 4 numbers nor none"),
        ("modules/1/identity", ..., "modules[1].identity: neither 4 numbers nor none"),
        ("modules/1/facts", ..., "modules[1].facts: missing"),
        ("modules/1/facts", [], "modules[1].facts: a list where an object is needed"),
        ("modules/1/facts/header", ["7f"], "modules[1].facts.header: not a list of 6: ident, type, machine, version,"),
        ("modules/1/facts/header/2", "x86", "modules[1].facts.header[2]: 'x86' is not a number from 0 to"),
        ("modules/1/facts/loaded", ..., "modules[1].facts.loaded: missing, or no list"),
        ("modules/1/facts/loaded/3", {}, "modules[1].facts.loaded[3]: not a list of 8: name, type, flags"),
        ("modules/1/facts/loaded/3/5", -1, "modules[1].facts.loaded[3][5]: -1 is not a number from 0 to"),
        ("modules/1/facts/loaded/3/5", 1 << 64, "modules[1].facts.loaded[3][5]: 18446744073709551616 is not"),
        ("modules/1/facts/loaded/3/5", True, "modules[1].facts.loaded[3][5]: true or false is not a number"),
        ("modules/1/facts/others/0/0", "\ud800", "modules[1].facts.others[0][0]: '\\ud800' is not Unicode text (name)"),
        ("modules/1/facts/unstripped", 1, "modules[1].facts.unstripped: 1 where true or false is needed"),
        ("modules/1/facts/size", "1", "modules[1].facts.size: '1' where a number is needed"),
        ("modules/1/facts/build_id", ..., "modules[1].facts.build_id: missing"),
        ("modules/1/facts/more", 1, "modules[1].facts.more: no such field in this version"),
        ("pkghook", ..., "pkghook: missing"),
        ("host", "here", "host: no such field in this version"),
    ],
)
def test_wrong_field(path: str, value: object, told: str) -> None:
    assert told in wrong(path, value)


@given(st.binary(max_size=200), st.integers(0, 2000))
@settings(max_examples=300)
def test_any_bytes_are_a_record_or_an_error(noise: bytes, at: int) -> None:
    data = record.dump([Recorded(KO, known(shapes.stripped()))])
    for damaged in (noise, data[:at], data[:at] + noise + data[at + len(noise) :]):
        try:
            record.load(damaged, "r")
        except ReceiptError:
            continue


def test_collector_is_as_it_was() -> None:
    import gc

    with pytest.raises(ReceiptError):
        record.load(b"{", "r")
    assert gc.isenabled()
    gc.disable()
    try:
        record.load(record.dump([]), "r")
        assert not gc.isenabled()
    finally:
        gc.enable()


# --- finding a module again ------------------------------------------------------------------------------------------


def test_found_by_any_name_and_compression() -> None:
    plain = Recorded("lib/a.ko", known(shapes.module()), names=("lib/b.ko",))
    packed = Recorded("lib/c.ko.xz", known(shapes.module()), compression=Compression.XZ)
    both = Record([plain, packed])
    for path in ("lib/a.ko", "lib/a.ko.zst", "lib/b.ko", "lib/b.ko.gz"):
        assert both.find(path) is plain
    for path in ("lib/c.ko", "lib/c.ko.xz", "lib/c.ko.gz"):
        assert both.find(path) is packed
    for path in ("a.ko", "lib/d.ko", "lib/a", "lib/a.ko.lzma", "lib/a.xz"):
        assert both.find(path) is None


def test_the_very_name_goes_before_another_compression() -> None:
    plain, packed = Recorded("a.ko", known(shapes.module())), Recorded("a.ko.xz", known(shapes.stripped()))
    for entries in ([plain, packed], [packed, plain]):
        assert Record(entries).find("a.ko") is plain
        assert Record(entries).find("a.ko.xz") is packed


def test_what_the_tree_has_no_more() -> None:
    entries = [Recorded(path, known(shapes.stripped())) for path in ("a.ko", "b.ko.xz", "c.ko")]
    entries[2] = entries[2]._replace(names=("d.ko",))
    found = Record(entries).unmatched(["b.ko", "d.ko.gz", "new.ko"])
    assert [(each.id, each.subject) for each in found] == [("record-unmatched", "a.ko")]


# --- judging a module ------------------------------------------------------------------------------------------------


def judged(was: Recorded, now: Facts | None, status: os.stat_result, path: str = KO) -> tuple[Proof, list[Finding]]:
    """The judgement on the module at `path`; no facts: nobody may ask for them."""

    def ask() -> Facts:
        assert now is not None, "the facts were worked out for nothing"
        return now

    proof, findings = compare.judge_recorded(Record([was]), (path,), status, ask)
    return proof, list(findings)


def ids(result: tuple[Proof, list[Finding]]) -> tuple[Proof, list[str]]:
    """The proof, and the finding ids."""
    return result[0], [finding.id for finding in result[1]]


def test_untouched_file_is_not_looked_at(tmp_path: Path) -> None:
    path = put(tmp_path, "a.ko", shapes.module())
    was = Recorded(KO, known(shapes.module()), record.identity(path.stat()))
    assert judged(was, None, path.stat()) == (Proof.RECORDED, [])
    path.chmod(0o600)  # moves its ctime
    assert ids(judged(was, known(native_strip(shapes.module())), path.stat())) == (Proof.RECORDED, [])
    broken = known(bytes(Patient(shapes.module()).set_header(flags=1)))
    assert ids(judged(was, broken, path.stat())) == (Proof.NONE, ["header-changed"])


def names_judged(one: bytes, other: bytes, *, signed: bool = False) -> list[tuple[str, str]]:
    """What is said where a.ko and b.ko were recorded as these and are one file now: ids and subjects."""
    entries = Record([Recorded("a.ko", known(one)), Recorded("b.ko", known(other)._replace(signature=signed * 9))])
    return [(each.id, each.subject) for each in compare.judge_names(entries, ("a.ko", "b.ko", "new.ko"), signed=False)]


def test_names_of_one_module_that_were_two() -> None:
    module, broken = shapes.module(), bytes(Patient(shapes.module()).set_header(flags=1))
    assert names_judged(module, module) == names_judged(module, native_strip(module)) == []
    assert names_judged(native_strip(module), module) == []
    assert names_judged(module, broken) == [("header-changed", "b.ko")]
    assert names_judged(module, module, signed=True) == [("signature-lost", "b.ko")]


def test_a_new_name_is_no_new_module() -> None:
    """It may come first in the order of names."""
    was = Record([Recorded("b.ko", known(shapes.module()))])
    ask = partial(known, native_strip(shapes.module()))
    assert compare.judge_recorded(was, ("a.ko", "b.ko"), None, ask) == (Proof.RECORDED, ())
    assert [each.subject for each in compare.judge_recorded(was, ("a.ko",), None, ask)[1]] == ["a.ko"]


def test_no_identity_for_a_file_just_written(tmp_path: Path) -> None:
    """A clock tick of the file system may be longer than the time until the next write."""
    status = put(tmp_path, "a.ko", b"x").stat()
    assert record.identity(status, time.time_ns()) == ()
    later = status.st_ctime_ns + record.RACY
    assert record.identity(status, later) == (1, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert record.identity(status, later - 1) == ()
    assert record.identity(status, 0) == ()  # a clock that was set back


def test_time_before_1970(tmp_path: Path) -> None:
    path = put(tmp_path, "a.ko", b"x")
    os.utime(path, ns=(-1, -1))
    assert record.identity(path.stat()) == ()


def test_empty_identity_proves_nothing(tmp_path: Path) -> None:
    path = put(tmp_path, "a.ko", b"x")
    os.utime(path, ns=(-1, -1))
    was = Recorded(KO, known(shapes.module()))
    broken = known(bytes(Patient(shapes.module()).set_header(flags=1)))
    assert ids(judged(was, broken, path.stat())) == (Proof.NONE, ["header-changed"])


def test_unknown_module(tmp_path: Path) -> None:
    status = put(tmp_path, "a.ko", b"x").stat()
    was = Recorded(KO, known(shapes.module()))
    assert ids(judged(was, None, status, "lib/new.ko")) == (Proof.NONE, ["record-missing"])


@pytest.mark.parametrize(
    ("before", "after", "proof", "told"),
    [
        (b"", b"", Proof.RECORDED, []),
        (b"", b"new", Proof.RECORDED, []),
        (b"old", b"", Proof.NONE, ["signature-lost"]),
        (b"old", b"new", Proof.RECORDED, ["signature-differs"]),
        (b"old", b"old", Proof.NONE, ["signature-stale"]),
    ],
)
def test_signature(before: bytes, after: bytes, proof: Proof, told: list[str], tmp_path: Path) -> None:
    status = put(tmp_path, "a.ko", b"x").stat()
    was = Recorded(KO, known(shapes.module(), before))
    now = known(native_strip(shapes.module()), after)
    assert ids(judged(was, now, status)) == (proof, told)


def test_signature_that_still_fits(tmp_path: Path) -> None:
    status = put(tmp_path, "a.ko", b"x").stat()
    was = known(shapes.module(), b"old")
    assert ids(judged(Recorded(KO, was), was, status)) == (Proof.RECORDED, [])
    flipped = known(bytes(Patient(shapes.module()).set_bytes(".text", 0, b"\xff")), b"old")
    assert ids(judged(Recorded(KO, was), flipped, status)) == (Proof.NONE, ["alloc-changed", "signature-stale"])


def test_many_faults_of_a_kind_are_counted(tmp_path: Path) -> None:
    status = put(tmp_path, "a.ko", b"x").stat()
    ruined = Patient(shapes.stripped())
    names = [".text", ".init.text", ".data", ".bss", ".modinfo"]
    for name in names:
        ruined.set_section(name, align=32)
    _, found = judged(Recorded(KO, known(shapes.stripped())), known(bytes(ruined)), status)
    assert [finding.id for finding in found] == ["alloc-changed"] * compare.TOLD
    assert dict(found[-1].evidence)["more"] == len(names) - compare.TOLD
    assert all(finding.subject == KO for finding in found)


# --- pkghook record --------------------------------------------------------------------------------------------------


def make(root: Path, out: Path, *options: str) -> tuple[int, Record]:
    """Exit status and what was written."""
    status = cli.main(["record", str(root), "--out", str(out), "-j2", *options])
    return status, record.read(str(out))


def age(root: Path) -> None:
    """Nothing below `root` was touched lately: what was written a moment ago has no identity."""
    newest = max(path.stat().st_ctime_ns for path in root.rglob("*"))
    while time.time_ns() - newest < record.RACY:
        time.sleep(0.1)


def test_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    put(root, KO, shapes.module())
    put(root, "lib/modules/6.1.0/extra/b.ko.xz", codec.compress(shapes.stripped(), Compression.XZ))
    (root / "lib/modules/6.1.0/extra/a-too.ko").hardlink_to(root / KO)
    put(root, "usr/lib/debug/lib/modules/6.1.0/kernel/a.ko", shapes.module())
    put(root, "lib/modules/6.1.0/vmlinux", shapes.module())
    status, found = make(root, tmp_path / "record")
    assert status == 0
    assert [(entry.path, entry.names, entry.compression) for entry in found.entries] == [
        ("lib/modules/6.1.0/extra/a-too.ko", (KO,), Compression.NONE),
        ("lib/modules/6.1.0/extra/b.ko.xz", (), Compression.XZ),
    ]
    assert [entry.facts for entry in found.entries] == [known(shapes.module()), known(shapes.stripped())]
    assert [entry.identity for entry in found.entries] == [(), ()]
    captured = capsys.readouterr()
    assert captured.out == ""
    counts = "2 of 2 modules, 1 unstripped, 0 signed, 0 livepatch, 1 of debug trees left out"
    assert captured.err == f"recorded in {tmp_path}/record: {counts}\n"


def test_identity_of_a_tree_at_rest(tmp_path: Path) -> None:
    put(tmp_path / "root", KO, shapes.module())
    age(tmp_path / "root")
    _, found = make(tmp_path / "root", tmp_path / "record")
    (entry,) = found.entries
    assert entry.identity == record.identity((tmp_path / "root" / KO).stat())
    assert judged(entry, None, (tmp_path / "root" / KO).stat()) == (Proof.RECORDED, [])


def test_what_cannot_be_read_is_told_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    put(root, "lib/modules/6.1.0/good.ko", shapes.module())
    put(root, "lib/modules/6.1.0/empty.ko", b"")
    put(root, "lib/modules/6.1.0/not.ko", b"no module at all")
    put(root, "lib/modules/6.1.0/cut.ko", shapes.module()[:-100])
    put(root, "lib/modules/6.1.0/big.ko", shapes.module() + bytes(1 << 20))
    os.mkfifo(root / "lib/modules/6.1.0/fifo.ko")
    status, found = make(root, tmp_path / "record", "--max-module-size", "1M", "-q")
    assert status == 1
    assert [entry.path for entry in found.entries] == ["lib/modules/6.1.0/good.ko"]
    told = capsys.readouterr().err
    for id in ("empty-file", "not-elf", "section-outside-file", "too-large", "not-regular"):
        assert f"[{id}]" in told
    assert "recorded in" not in told


def test_record_goes_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, KO, shapes.module())
    assert cli.main(["record", str(tmp_path), "--out", str(tmp_path / "no/such/record")]) == 2
    assert "no/such/record: cannot be written" in capsys.readouterr().err
    assert cli.main(["record", str(tmp_path / "none"), "--out", str(tmp_path / "record")]) == 2
    assert not (tmp_path / "record").exists()


def test_unreadable_and_vanished(tmp_path: Path) -> None:
    path = put(tmp_path, KO, shapes.module())
    path.chmod(0)
    with Tree(str(tmp_path)) as tree:
        (found,) = tree.walk().modules
        assert as_ordinary_user(lambda: recorded(tree, found)) == "unreadable"
        path.unlink()
        assert recorded(tree, found) == "vanished"


def recorded(tree: Tree, found: Found) -> str:
    """The finding id that a worker has for one module."""
    answer = story.record_module(tree, found, 1 << 30)
    assert answer.recorded is None
    assert answer.finding
    return answer.finding.id


def test_changed_while_it_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path, KO, shapes.module())

    def meddle(elf: Elf) -> Plan:
        path.chmod(0o640)
        return plan(elf)

    monkeypatch.setattr(story, "plan", meddle)
    with Tree(str(tmp_path)) as tree:
        (found,) = tree.walk().modules
        assert recorded(tree, found) == "changed-during-run"


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, KO + ".zst", codec.compress(shapes.module(), Compression.ZSTD))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with Tree(str(tmp_path)) as tree:
        (found,) = tree.walk().modules
        assert recorded(tree, found) == "missing-dependency"


def test_a_fault_of_our_own_costs_one_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "root", KO, shapes.module())
    put(tmp_path / "root", "lib/modules/6.1.0/kernel/b.ko", shapes.stripped(AMD64))

    def broken(elf: Elf, found: Plan, trailer: bytes) -> Facts:
        if elf.image.size == len(shapes.stripped()):
            raise ZeroDivisionError
        return facts(elf, found, trailer)

    def deadly(elf: Elf, found: Plan, trailer: bytes) -> Facts:
        os.kill(os.getpid(), signal.SIGKILL)
        return facts(elf, found, trailer)

    monkeypatch.setattr(story, "facts", broken)
    status, found = make(tmp_path / "root", tmp_path / "record", "--debug")
    assert (status, len(found.entries)) == (1, 1)
    told = capsys.readouterr().err
    assert "[internal-error]" in told
    assert "ZeroDivisionError" in told
    monkeypatch.setattr(story, "facts", deadly)
    status, found = make(tmp_path / "root", tmp_path / "record")
    assert (status, len(found.entries)) == (1, 0)
    assert "[worker-killed]" in capsys.readouterr().err
