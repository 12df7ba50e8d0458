"""Receipts: their text to the byte, the round trip, and what is said about a wrong one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from pkghook.errors import InputError, ReceiptError
from pkghook.findings import Finding, Severity
from pkghook.judge import receipt
from pkghook.judge.receipt import Receipt
from pkghook.model import State
from tests.receipts import RECEIPTS, module, sample

GOLDEN = r"""{
  "format": "pkghook receipt",
  "version": 1,
  "pkghook": "0.1.0",
  "mode": "strip",
  "settings": [
    ["chain","native,objcopy"],
    ["keep","d.ko=on purpose"]
  ],
  "tools": [
    ["native","pkghook 0.1.0"],
    ["objcopy","GNU objcopy 2.40"]
  ],
  "totals": {TOTALS},
  "rows": [
    {ROW,"state":"stripped","step":"native","modules":1,"file_before":1000,"file_after":300,"image_before":1000,"image_after":300,"expected":300,"verified":1,"recorded":0,"none":0,"saved":700},
    {ROW,"state":"stripped","step":"objcopy","modules":1,"file_before":600,"file_after":200,"image_before":1000,"image_after":304,"expected":300,"verified":1,"recorded":0,"none":0,"saved":400},
    {ROW,"state":"kept","step":"","modules":1,"file_before":50,"file_after":50,"image_before":50,"image_after":50,"expected":40,"verified":0,"recorded":0,"none":1,"saved":0},
    {ROW,"state":"failed","step":"","modules":1,"file_before":0,"file_after":0,"image_before":0,"image_after":0,"expected":0,"verified":0,"recorded":0,"none":1,"saved":0}
  ],
  "walk": {"links":3,"debug_modules":2,"debug_bytes":5000},
  "others": [
    {"path":"lib/modules/6.1.0-1-amd64/vmlinux","size":123}
  ],
  "findings": [
    {"id":"unused-keep","severity":"warning","subject":"x.ko","evidence":{}},
    {"id":"scratch-left","severity":"info","subject":".","evidence":{}}
  ],
  "overrides": [
    {"glob":"d.ko","reason":"on purpose","origin":"--keep","matched":["DIR/d.ko"]}
  ],
  "entries": [
    {"path":"DIR/a.ko",ROW,"state":"stripped","proof":"verified","sizes":{"file_before":1000,"file_after":300,"image_before":1000,"image_after":300,"expected":300},"step":"native"},
    {"path":"DIR/b.ko.xz",ROW,"state":"stripped","proof":"verified","names":["DIR/c.ko.xz"],"compression":"xz","signature":"removed","livepatch":true,"machine":"x86-64","build_id":"00ff","sizes":{"file_before":600,"file_after":200,"image_before":1000,"image_after":304,"expected":300},"sha256_before":"ZEROS","sha256_after":"ONES","kept_digest":"TWOS","step":"objcopy","dropped_symbols":["__UNIQUE_ID_a"],"dropped_labels":7,"debug_file":{"path":".build-id/00/ff.debug","size":5000,"sha256":"THREES"},"attempts":[{"step":"native","version":"pkghook 0.1.0","outcome":"rejected","why":"not the same module","findings":[{"id":"symbol-changed","severity":"error","subject":"DIR/b.ko.xz","evidence":{"before":"init","after":""}}]},{"step":"objcopy","version":"GNU objcopy 2.40","outcome":"passed"}],"findings":[{"id":"fell-through","severity":"warning","subject":"DIR/b.ko.xz","evidence":{}}]},
    {"path":"DIR/d.ko",ROW,"state":"kept","reason":"on purpose","sizes":{"file_before":50,"file_after":50,"image_before":50,"image_after":50,"expected":40}},
    {"path":"DIR/e\udcff.ko",ROW,"state":"failed","findings":[{"id":"chain-exhausted","severity":"error","subject":"DIR/e\udcff.ko","evidence":{"steps":2}}]}
  ]
}
"""  # noqa: E501  one entry, one line
TOTALS = (
    '"modules":4,"file_before":1650,"file_after":550,"image_before":2050,"image_after":654,"expected":640,'
    '"states":{"stripped":2,"already-stripped":0,"kept":1,"failed":1},'
    '"proofs":{"verified":2,"recorded":0,"none":2},"debug_files":1,"debug_bytes":5000,"saved":1100'
)
SHORT = {
    "TOTALS": TOTALS,
    "ROW": '"kernel":"6.1.0-1-amd64"',
    "DIR": "lib/modules/6.1.0-1-amd64/kernel",
    "ZEROS": "0" * 64,
    "ONES": "1" * 64,
    "TWOS": "2" * 64,
    "THREES": "3" * 64,
}


def golden() -> str:
    """The text of the sample."""
    text = GOLDEN
    for word, meaning in SHORT.items():
        text = text.replace(word, meaning)
    return text


def document() -> dict[str, Any]:
    """The sample as JSON values, to be spoilt."""
    found: dict[str, Any] = json.loads(receipt.dump(sample()))
    return found


def complaints(value: object) -> str:
    """What `load` says to a JSON value."""
    with pytest.raises(ReceiptError) as caught:
        receipt.load(json.dumps(value).encode(), "r.json")
    return caught.value.message


def test_the_text_to_the_byte() -> None:
    """One entry a line, sorted; defaults left out; ASCII."""
    assert receipt.dump(sample()).decode("ascii") == golden()


def test_the_text_read_back() -> None:
    """All of it."""
    assert receipt.load(golden().encode(), "r.json") == sample()


def test_an_empty_run() -> None:
    """No modules, nothing found."""
    empty = receipt.make("dry-run", [])
    assert receipt.load(receipt.dump(empty), "r.json") == empty


@given(RECEIPTS)
def test_any_receipt_survives_the_round_trip(arbitrary: Receipt) -> None:
    """Also with names that are no UTF-8; and the text is one."""
    text = receipt.dump(arbitrary)
    again = receipt.load(text, "r.json")
    assert again == arbitrary
    assert receipt.dump(again) == text


def test_the_order_of_arrival_does_not_show() -> None:
    """Which process was done first is not in the receipt."""
    findings = [Finding("a", Severity.INFO, "x", (("n", 1),)), Finding("a", Severity.INFO, "x", (("n", "1"),))]
    tools = (("native", "1"), ("strip", "2"), ("native", "1"))
    entries = [module("b.ko"), module("a.ko"), module("c.ko", State.KEPT)]
    one = receipt.make("strip", entries, tools=tools, findings=findings)
    other = receipt.make("strip", entries[::-1], tools=tools[::-1], findings=findings[::-1])
    assert receipt.dump(one) == receipt.dump(other)
    assert one.tools == (("native", "1"), ("strip", "2"))


def test_a_symbol_list_is_known_by_its_patterns() -> None:
    """Not by where it lies."""
    pairs = dict(receipt.symbol_list("/home/me/my.list", ("a*", "b")))
    assert pairs["strip-symbols"] == "my.list"
    assert pairs == dict(receipt.symbol_list("my.list", ["a*", "b"]))
    assert pairs["strip-symbols-sha256"] != dict(receipt.symbol_list("my.list", ["b", "a*"]))["strip-symbols-sha256"]


# --- wrong ones ------------------------------------------------------------------------------------------------------

GONE = object()
A_PATH = f"{SHORT['DIR']}/a.ko"

# A member of the sample, what is put there, and what is to be said.
SPOILT: list[tuple[str, object, str]] = [
    ("mode", GONE, "mode: missing"),
    ("mode", "check", "mode: 'check' is not one of strip, dry-run"),
    ("pkghook", 1, "pkghook: 1 where text is needed"),
    ("surprise", 1, "surprise: no such field in this version"),
    ("sur prise", 1, "'sur prise': no such field in this version"),
    ("settings", GONE, "settings: missing"),
    ("settings.0", ["chain"], "settings[0]: not a list of two texts"),
    ("settings.1", ["chain", 1], "settings[1][1]: 1 where text is needed"),
    ("tools", {}, "tools: an object where a list is needed"),
    ("tools.0", "native", "tools[0]: not a list of two texts"),
    ("walk", GONE, "walk: missing"),
    ("walk", None, "walk: null where an object is needed"),
    ("walk.links", -1, "walk.links: -1 is not between 0 and 9223372036854775807"),
    ("walk.debug_bytes", GONE, "walk.debug_bytes: missing"),
    ("others.0.path", "/vmlinux", "others[0].path: '/vmlinux' is not a path below ROOT"),
    ("others.0.size", True, "others[0].size: true or false where a number is needed"),
    ("others.0.sise", 1, "others[0].sise: no such field in this version"),
    ("overrides.0.glob", GONE, "overrides[0].glob: missing"),
    ("overrides.0.matched", [1], "overrides[0].matched[0]: 1 where text is needed"),
    ("overrides.0.matched", [], "overrides[0].matched: empty, but an entry that matched nothing is no override"),
    ("entries", GONE, "entries: missing"),
    ("entries.0.path", GONE, "entries[0].path: missing"),
    ("entries.1.debug_file.path", "../x", "entries[1].debug_file.path: '../x' is not a path below ROOT"),
    ("entries.1.debug_file.size", GONE, "entries[1].debug_file.size: missing"),
    ("entries.1.debug_file.sha256", "00", "entries[1].debug_file.sha256: '00' is not 32 bytes as hexadecimal digits"),
    ("entries.1.debug_file.crc", 1, "entries[1].debug_file.crc: no such field in this version"),
    ("entries.2.debug_file", {}, "entries[2].debug_file: there, but the module is kept"),
    ("entries.0.path", "a/../b", "entries[0].path: 'a/../b' is not a path below ROOT"),
    ("entries.0.path", "../b", "entries[0].path: '../b' is not a path below ROOT"),
    ("entries.0.path", "a//b", "entries[0].path: 'a//b' is not a path below ROOT"),
    ("entries.0.path", "", "entries[0].path: '' is not a path below ROOT"),
    ("entries.0.path", "a\0", r"entries[0].path: 'a\x00' is not a path below ROOT"),
    ("entries.0.kernel", None, "entries[0].kernel: null where text is needed"),
    ("entries.0.state", "gone", "entries[0].state: 'gone' is not one of stripped, already-stripped, kept, failed"),
    ("entries.0.proof", 0, "entries[0].proof: 0 where text is needed"),
    ("entries.1.names", ["."], "entries[1].names[0]: '.' is not a path below ROOT"),
    ("entries.1.names", ["a", []], "entries[1].names[1]: a list where text is needed"),
    ("entries.1.compression", "bzip2", "entries[1].compression: 'bzip2' is not one of none, gzip, xz, zstd"),
    ("entries.1.livepatch", "yes", "entries[1].livepatch: 'yes' where true or false is needed"),
    ("entries.1.build_id", "0", "entries[1].build_id: '0' is not bytes as hexadecimal digits"),
    ("entries.1.sha256_after", "ab", "entries[1].sha256_after: 'ab' is not 32 bytes as hexadecimal digits"),
    ("entries.1.sizes", [], "entries[1].sizes: a list where an object is needed"),
    ("entries.1.sizes.file_after", -5, "entries[1].sizes.file_after: -5 is not between"),
    ("entries.1.sizes.expected", 1.5, "entries[1].sizes.expected: a fraction where a number is needed"),
    ("entries.1.sizes.image_after", GONE, "entries[1].sizes.image_after: missing"),
    ("entries.1.sizes.image_before", 1 << 63, "entries[1].sizes.image_before: 9223372036854775808 is not between"),
    ("entries.1.sizes.file", 1, "entries[1].sizes.file: no such field in this version"),
    ("entries.1.attempts.0.outcome", GONE, "entries[1].attempts[0].outcome: missing"),
    ("entries.1.attempts.1", 5, "entries[1].attempts[1]: 5 where an object is needed"),
    (
        "entries.1.findings.0.severity",
        "fatal",
        "entries[1].findings[0].severity: 'fatal' is not one of info, warning, error",
    ),
    ("entries.1.findings.0.evidence", GONE, "entries[1].findings[0].evidence: missing"),
    ("entries.1.findings.0.evidence.a", None, "evidence.a: null where text or a number is needed"),
    ("entries.1.findings.0.evidence.b", True, "evidence.b: true or false where text or a number is needed"),
    ("entries.2.reason", GONE, "entries[2].reason: missing, but a module that was kept has one"),
    ("entries.3.findings", GONE, "entries[3].findings: no error among them, but the module failed"),
    ("totals.modules", "4", "totals.modules: '4' where a number is needed"),
    ("totals.states.lost", 0, "totals.states.lost: no such field in this version"),
    ("totals.proofs", GONE, "totals.proofs: missing"),
    ("rows.0.kernel", 6, "rows[0].kernel: 6 where text is needed"),
]

# What no schema can tell.
CONTRADICTORY: list[tuple[str, object, str]] = [
    ("totals.file_after", 551, "totals.file_after: 551, but other fields make it 550"),
    ("totals.saved", 0, "totals.saved: 0, but other fields make it 1100"),
    ("totals.debug_bytes", 0, "totals.debug_bytes: 0, but other fields make it 5000"),
    ("totals.states.kept", 2, "totals.states.kept: 2, but other fields make it 1"),
    ("rows.1.step", "strip", "rows[1].step: 'strip', but other fields make it 'objcopy'"),
    ("rows.2.state", "failed", "rows[2].state: 'failed', but other fields make it 'kept'"),
    ("rows.3", GONE, "rows: 3 of them, but the entries make 4"),
    ("entries.1.path", A_PATH, f"entries[1]: '{A_PATH}' is already in entries[0]"),
    ("entries.1.names", [A_PATH], f"entries[1]: '{A_PATH}' is already in entries[0]"),
    ("entries.1.path", "a.ko", "entries[1].path: 'a.ko' does not come after the path before it"),
    ("settings.0.0", "\ud800", r"settings[0][0]: '\ud800' is not Unicode text"),
    ("walk.links", 3.0, "walk.links: a fraction where a number is needed"),
]


def spoilt(where: str, what: object) -> dict[str, Any]:
    """The sample with another value at `where`, or without that member."""
    found = document()
    *outer, last = (int(step) if step.isdigit() else step for step in where.split("."))
    holder: Any = found
    for step in outer:
        holder = holder[step]
    if what is GONE:
        del holder[last]
    else:
        holder[last] = what
    return found


@pytest.mark.parametrize(("where", "what", "complaint"), SPOILT + CONTRADICTORY)
def test_a_wrong_field_is_named(where: str, what: object, complaint: str) -> None:
    """With its path, and what is wrong with it."""
    assert complaint in complaints(spoilt(where, what))


def test_all_complaints_at_once() -> None:
    """Those who repair a file want to do it once."""
    wrong = spoilt("mode", 1)
    wrong["entries"][0]["state"] = "gone"
    lines = complaints(wrong).splitlines()
    assert lines[0].endswith("fields are wrong")
    assert "  mode: 1 where text is needed" in lines
    assert any(line.startswith("  entries[0].state: ") for line in lines)


def test_a_single_complaint_is_one_line() -> None:
    """The file, the field, what is wrong."""
    assert complaints(spoilt("pkghook", 1)) == "r.json: pkghook: 1 where text is needed"


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.0])
def test_an_unknown_version(version: object) -> None:
    """Nothing else is looked at: a later version may say all of it differently."""
    said = complaints({"format": "pkghook receipt", "version": version})
    assert said.startswith("r.json: a pkghook receipt of unknown version ")


@pytest.mark.parametrize("value", [[], 1, "x", None, {}, {"format": "pkghook record", "version": 1}])
def test_another_file(value: object) -> None:
    """JSON, but no receipt."""
    assert complaints(value) == "r.json: not a pkghook receipt"


# --- files -----------------------------------------------------------------------------------------------------------


def test_write_and_read(tmp_path: Path) -> None:
    """Through a file; nothing else is left in the directory."""
    path = str(tmp_path / "r.json")
    receipt.write(sample(), path)
    receipt.write(sample(), path)
    assert receipt.read(path) == sample()
    assert os.listdir(tmp_path) == ["r.json"]


def test_what_cannot_be_written_or_read(tmp_path: Path) -> None:
    """The error names the file."""
    path = str(tmp_path / "missing" / "r.json")
    with pytest.raises(InputError, match=r"missing/r\.json: cannot be written: No such file"):
        receipt.write(sample(), path)
    with pytest.raises(InputError, match=r"missing/r\.json: cannot be read: No such file"):
        receipt.read(path)
