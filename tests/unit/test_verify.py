"""`pkghook verify`: pairs, unwraps, asks the verifier, and says what it found; by file and by tree."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook import cli
from pkghook.ko import codec
from pkghook.ko.signature import MARKER
from pkghook.model import Compression
from tests import shapes
from tests.shapes import KINDS, LOCAL, Sec, Sym
from tests.surgery import Patient, native_strip
from tests.trees import VERSION, put

DATA = shapes.module()
OUT = native_strip(DATA)
OTHER = native_strip(shapes.module(KINDS["amd64"], Sec(".note.other", b"x")))


def signed(data: bytes, size: int = 300) -> bytes:
    """With a signature trailer."""
    return data + bytes(size) + struct.pack(">5B3xI", 0, 0, 2, 0, 0, size) + MARKER


class Said(NamedTuple):
    """How a run ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The line that sums up."""
        return self.out.splitlines()[-1]

    def ids(self) -> list[str]:
        """The finding ids in brackets, in order."""
        lines = (line for line in self.out.splitlines() if line.endswith("]"))
        return [line.rpartition("[")[2].removesuffix("]") for line in lines]


Verify = Callable[..., Said]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Verify:
    """`verify(...)` runs the command line in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def run(*args: object) -> Said:
        status = cli.main(["verify", *map(str, args)])
        return Said(status, *capsys.readouterr())

    return run


# --- files -----------------------------------------------------------------------------------------------------------


def test_either_may_be_the_stripped_one(verify: Verify, tmp_path: Path) -> None:
    one, other = put(tmp_path, "a.ko", DATA), put(tmp_path, "b.ko", OUT)
    for args, debug in (((one, other), (1, 0)), ((other, one), (0, 1)), ((one, one), (1, 1))):
        said = verify(*args)
        assert (said.status, said.err) == (0, "")
        assert said.out == (
            f"1 of 1 the same module to the loader; with debug information: {debug[0]} before, {debug[1]} after\n"
        )
    assert verify(other, other).out == "1 of 1 the same module to the loader\n"


def test_not_the_same(verify: Verify, tmp_path: Path) -> None:
    said = verify(put(tmp_path, "a.ko", DATA), put(tmp_path, "b.ko", OTHER))
    assert said.status == 1
    assert said.ids() == ["section-changed"]
    assert "b.ko: a section outside the debug set" in said.out
    assert "section: .note.other; added: 1" in said.out
    assert said.last.startswith("0 of 1 the same module")


@pytest.mark.parametrize("how", list(Compression))
def test_wrappings_are_taken_off(verify: Verify, tmp_path: Path, how: Compression) -> None:
    one = put(tmp_path, "a.ko", signed(DATA))
    other = put(tmp_path, f"b.ko{how.suffix}", codec.compress(signed(OUT), how))
    assert verify(one, other).status == 0


def test_signatures_are_told_and_not_compared(verify: Verify, tmp_path: Path) -> None:
    plain, one = put(tmp_path, "a.ko", OUT), put(tmp_path, "b.ko", signed(OUT))
    other = put(tmp_path, "c.ko", signed(OUT, 400))
    for args in ((plain, one), (one, plain), (one, other)):
        said = verify(*args)
        assert (said.status, said.ids()) == (0, ["signature-differs"])
        assert said.last == "1 of 1 the same module to the loader; signatures differ: 1"
    assert "before: none; after: PKCS#7 signature of 300 bytes" in verify(plain, one).out
    assert verify(one, one).ids() == []
    assert verify(plain, one, "--fail-on", "info").status == 1
    assert verify(plain, one, "-q").out == ""


@pytest.mark.parametrize("damage", [b"", b"text", DATA[:500], OUT[:-1], b"\x1f\x8b\x08"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_what_cannot_be_read_is_not_the_same(verify: Verify, tmp_path: Path, damage: bytes, side: str) -> None:
    good, bad = put(tmp_path, "good.ko", OUT), put(tmp_path, "bad.ko", damage)
    said = verify(*((bad, good) if side == "before" else (good, bad)))
    assert said.status == 1
    assert len(said.ids()) == 1
    assert f"{bad}: " in said.out
    assert f"(of: {side}" in said.out


def test_a_module_that_cannot_be_stripped_can_be_compared(verify: Verify, tmp_path: Path) -> None:
    kept = Sec(".data.x", bytes(8), 2, relocations=(shapes.Rel(0, "@.debug_str"),))
    data = shapes.module(KINDS["amd64"], kept)
    one, other = put(tmp_path, "a.ko", data), put(tmp_path, "b.ko", data)
    assert verify(one, other).status == 0
    assert verify(one, put(tmp_path, "c.ko", OUT)).status == 1


def test_symbols_that_may_be_missing(verify: Verify, tmp_path: Path) -> None:
    also = (Sym(".L7", ".text", 3, bind=LOCAL), Sym("__UNIQUE_ID_x", ".text", 3, bind=LOCAL))
    whole = put(tmp_path, "a.ko", shapes.stripped(also=also))
    no_label = put(tmp_path, "b.ko", shapes.stripped(also=also[1:]))
    neither = put(tmp_path, "c.ko", shapes.stripped())
    assert verify(whole, no_label).ids() == ["symbol-changed"]
    assert verify(whole, no_label, "--discard-labels").status == 0
    assert verify(whole, neither, "--discard-labels").status == 1
    assert verify(whole, neither, "--discard-labels", "--strip-symbols", "symbols.safe").status == 0


def test_the_size_limit(verify: Verify, tmp_path: Path) -> None:
    one = put(tmp_path, "a.ko", OUT)
    assert verify(one, one, "--max-module-size", "1000").ids() == ["too-large"]


# --- what is no comparison -------------------------------------------------------------------------------------------


def test_a_file_and_a_tree(verify: Verify, tmp_path: Path) -> None:
    said = verify(put(tmp_path, "a.ko", OUT), tmp_path)
    assert (said.status, said.out) == (2, "")
    assert "is a directory and the other is none" in said.err


def test_what_is_not_there(verify: Verify, tmp_path: Path) -> None:
    one = put(tmp_path, "a.ko", OUT)
    assert verify(one, tmp_path / "none.ko").status == 2
    assert verify(tmp_path / "none.ko", one).status == 2
    fifo = tmp_path / "fifo.ko"
    os.mkfifo(fifo)
    assert verify(one, fifo).ids() == ["not-regular"]  # and it does not hang


def test_trees_without_modules(verify: Verify, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    said = verify(tmp_path / "one", tmp_path / "two")
    assert said.status == 2
    assert "no modules below" in said.err


# --- trees -----------------------------------------------------------------------------------------------------------


def tree(root: Path, *paths: str, data: bytes = OUT) -> Path:
    """A tree of modules that are all alike."""
    for path in paths:
        put(root, path, data)
    return root


PLACES = {
    "buildroot": ("", f"{VERSION}/kernel/{{}}"),
    "usr-merged": ("", f"usr/{VERSION}/kernel/{{}}"),
    "debug tree": ("", f"usr/lib/debug/{VERSION}/kernel/{{}}"),
    "lib/modules": ("lib/modules", f"{VERSION}/kernel/{{}}"),
    "one kernel": (VERSION, f"{VERSION}/kernel/{{}}"),
    "a part of it": (f"{VERSION}/kernel", f"{VERSION}/kernel/{{}}"),
}


@pytest.mark.parametrize("after", PLACES)
@pytest.mark.parametrize("before", PLACES)
def test_paired_below_lib_modules_wherever_that_is(verify: Verify, tmp_path: Path, before: str, after: str) -> None:
    roots = []
    for side, place in (("x", before), ("y", after)):
        root, path = PLACES[place]
        tree(tmp_path / side, path.format("a.ko"), path.format("net/b.ko"))
        roots.append(tmp_path / side / root)
    said = verify(*roots)
    assert (said.status, said.last) == (0, "2 of 2 the same module to the loader")


def test_plain_directories_are_paired_below_themselves(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/kernel/a.ko", f"{VERSION}/kernel/net/b.ko")
    other = tree(tmp_path / "other", "kernel/a.ko", "kernel/net/b.ko")
    assert verify(one / VERSION, other).last == "2 of 2 the same module to the loader"
    assert verify(other, one / VERSION).status == 0


def test_suffixes_are_no_part_of_the_name(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/a.ko", f"{VERSION}/b.ko", f"{VERSION}/c.ko")
    other = tree(tmp_path / "other", f"{VERSION}/c.ko")
    for name, how in (("a", Compression.XZ), ("b", Compression.GZIP)):
        put(other, f"{VERSION}/{name}.ko{how.suffix}", codec.compress(OUT, how))
    assert verify(one, other).last == "3 of 3 the same module to the loader"
    put(one, f"{VERSION}/a.ko.xz", codec.compress(OUT, Compression.XZ))
    said = verify(one, other)
    assert said.ids() == ["only-before"]
    assert f"{VERSION}/a.ko.xz: " in said.out


def test_modules_of_one_side_alone(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/a.ko", f"{VERSION}/b.ko")
    other = tree(tmp_path / "other", f"{VERSION}/b.ko", f"{VERSION}/c.ko", f"{VERSION}/d.ko")
    said = verify(one, other)
    assert said.status == 1
    assert said.ids() == ["only-before", "only-after", "only-after"]
    assert said.last == "1 of 3 the same module to the loader"
    assert verify(one, tree(tmp_path / "empty", "x")).ids() == ["only-before", "only-before"]


def test_hard_links_are_compared_under_each_name(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/a.ko")
    (one / f"{VERSION}/b.ko").hardlink_to(one / f"{VERSION}/a.ko")
    other = tree(tmp_path / "other", f"{VERSION}/a.ko", f"{VERSION}/b.ko")
    assert verify(one, other).last == "2 of 2 the same module to the loader"
    put(other, f"{VERSION}/b.ko", OTHER)
    assert verify(one, other).last.startswith("1 of 2")


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_one_bad_module_stops_no_other(verify: Verify, tmp_path: Path, jobs: int) -> None:
    paths = [f"{VERSION}/m{number}.ko" for number in range(20)]
    one, other = tree(tmp_path / "one", *paths, data=DATA), tree(tmp_path / "other", *paths)
    put(other, paths[3], OTHER)
    put(other, paths[7], OUT[:100])
    put(one, paths[9], b"")
    said = verify(one, other, "-j", jobs)
    assert said.status == 1
    assert sorted(said.ids()) == ["empty-file", "section-changed", "section-outside-file"]
    assert said.last == "17 of 20 the same module to the loader; with debug information: 18 before, 0 after"
    assert said.out == verify(one, other, "-j", 3).out


def test_debug_trees_beside_others_are_left_out(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/a.ko", f"usr/lib/debug/{VERSION}/a.ko", f"usr/lib/debug/{VERSION}/b.ko")
    other = tree(tmp_path / "other", f"{VERSION}/a.ko")
    assert verify(one, other).last == (
        "1 of 1 the same module to the loader; of debug trees, left out: 2 before, 0 after"
    )
    assert verify(one, one / "usr/lib/debug").last.startswith("1 of 2")


def test_what_the_walk_finds_is_told(verify: Verify, tmp_path: Path) -> None:
    one, other = (tree(tmp_path / name, f"{VERSION}/a.ko") for name in ("one", "other"))
    os.mkfifo(other / f"{VERSION}/b.ko")
    said = verify(one, other)
    assert said.ids() == ["not-regular"]
    assert "(of: after; kind: " in said.out


def test_quiet_and_verbose(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/a.ko", f"{VERSION}/b.ko", data=signed(OUT))
    other = tree(tmp_path / "other", f"{VERSION}/a.ko", f"{VERSION}/b.ko")
    assert verify(one, other).out == "2 of 2 the same module to the loader; signatures differ: 2\n"
    assert verify(one, other, "-v").ids() == ["signature-differs", "signature-differs"]
    assert verify(one, other, "-q").out == ""
    put(other, f"{VERSION}/b.ko", OTHER)
    assert verify(one, other, "-q").ids() == ["section-changed"]


def test_json(verify: Verify, tmp_path: Path) -> None:
    one = tree(tmp_path / "one", f"{VERSION}/a.ko", f"{VERSION}/b.ko", data=DATA)
    other = tree(tmp_path / "other", f"{VERSION}/a.ko", f"{VERSION}/\udcff.ko")
    said = verify(one, other, "--format", "json")
    assert said.status == 1
    document = json.loads(said.out)
    findings = document.pop("findings")
    assert document == {
        "format": "pkghook comparison", "version": 1, "passed": False, "before": str(one), "after": str(other),
        "modules": {"before": 2, "after": 2}, "pairs": 1, "same": 1, "unstripped": {"before": 1, "after": 0},
        "signatures_differ": 0, "left_out": {"before": 0, "after": 0},
    }  # fmt: skip
    assert [(f["id"], f["subject"]) for f in findings] == [
        ("only-before", f"{VERSION}/b.ko"), ("only-after", f"{VERSION}/\udcff.ko"),
    ]  # fmt: skip
    assert said.out.isascii()
    assert json.loads(verify(one, one, "--format", "json").out)["passed"] is True


def test_faults_of_one_module_are_no_flood(verify: Verify, tmp_path: Path) -> None:
    many = [Sec(f".note.n{number}", b"x") for number in range(40)]
    said = verify(put(tmp_path, "a.ko", shapes.stripped(KINDS["amd64"], *many)), put(tmp_path, "b.ko", OUT))
    assert said.ids() == ["section-changed"] * 8


def test_a_livepatch_that_gnu_strip_has_ruined(verify: Verify, tmp_path: Path) -> None:
    data = shapes.livepatch("b")
    patient = Patient(native_strip(data))
    ruined = patient.set_section(".klp.rela.vmlinux..text.patched", flags=0)
    said = verify(put(tmp_path, "a.ko", data), put(tmp_path, "b.ko", bytes(ruined)))
    assert "livepatch-changed" in said.ids()
