"""`--severity` on real modules, in every verb that judges; and what it does not lower."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from sarif_pydantic import Sarif

from tests import inprocess, modules
from tests.inprocess import call, put


@pytest.fixture
def built(corpus: Path) -> bytes:
    """A module as it was built."""
    return modules.image(modules.named(corpus, "amd64", "crc-itu-t"))


@pytest.fixture
def shipped(corpus: Path) -> bytes:
    """The same as Debian ships it: stripped, then signed."""
    return modules.shipped(corpus, "amd64", modules.named(corpus, "amd64", "crc-itu-t")).read_bytes()


def test_strip(tmp_path: Path, built: bytes, shipped: bytes) -> None:
    """A warning is raised; the error of a module that failed stays one."""
    root = tmp_path / "root"
    put(root, "a.ko", built)
    status = [
        inprocess.strip(root, "--keep", "no.ko=nothing", "--severity", f"unused-keep={level}").status
        for level in ("warning", "error", "info")
    ]
    assert status == [0, 1, 0]
    put(root, "b.ko", built + inprocess.trailer(shipped))
    job = inprocess.strip(root, "--severity", "signed-unstripped=info")
    assert (job.status, "error: " in job.out) == (1, True)


def test_verify(tmp_path: Path, built: bytes, shipped: bytes) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    put(before, "a.ko", built)
    put(after, "a.ko", shipped)
    put(after, "b.ko", shipped)

    def status(*levels: str) -> int:
        return call("verify", before, after, *(part for level in levels for part in ("--severity", level))).status

    assert status() == 1  # b.ko is only there
    assert status("only-after=warning") == 0
    assert status("only-after=warning", "signature-differs=error") == 1
    put(after, "a.ko", shipped.replace(b"\0license=GPL\0", b"\0license=BSD\0"))
    assert status("only-after=warning", "alloc-changed=info") == 1  # not the same module, whatever that weighs


def test_record(tmp_path: Path, built: bytes) -> None:
    """What is missing in the record is an error; what was seen beside it may weigh what the user says."""
    root, out = tmp_path / "root", tmp_path / "record"
    put(root, "a.ko", built)
    (root / inprocess.HOME / "link.ko").symlink_to("nowhere")
    first = call("record", root, "--out", out)
    assert "dangling-link" in first.err
    raised = call("record", root, "--out", out, "--severity", "dangling-link=error").status
    lowered = call("record", root, "--out", out, "--severity", "dangling-link=info").status
    assert (raised, lowered) == (1, 0)
    put(root, "b.ko", b"text")
    assert call("record", root, "--out", out, "--severity", "not-elf=info").status == 1


def test_check(tmp_path: Path, built: bytes) -> None:
    """Nothing was done to a module by looking: all that was found may weigh what the user says."""
    path = tmp_path / "a.ko"
    path.write_bytes(built)
    assert call("check", path).status == 1
    assert call("check", path, "--severity", "unstripped=warning").status == 0


def test_unknown_ones_are_told_with_their_origin(tmp_path: Path) -> None:
    told = call("check", tmp_path, PKGHOOK_SEVERITY="unstriped=error")
    assert told.status == 2
    assert "PKGHOOK_SEVERITY: 'unstriped' is not a finding" in told.err


@pytest.mark.parametrize("form", ["junit", "sarif"])
def test_reports_of_every_verb(tmp_path: Path, built: bytes, shipped: bytes, form: str) -> None:
    """Each parses, agrees with the exit status, and names the module."""
    for name in ("one", "other", "third"):
        put(tmp_path / name, "a.ko", built)
    put(tmp_path / "other", "a.ko", shipped.replace(b"\0license=GPL\0", b"\0license=BSD\0"))
    shutil.copyfile(tmp_path / "third" / inprocess.HOME / "a.ko", tmp_path / "single.ko")
    for words in (
        ("verify", tmp_path / "one", tmp_path / "other"),
        ("verify", tmp_path / "one", tmp_path / "one"),
        ("check", tmp_path / "one"),
        ("check", tmp_path / "other"),
        ("check", tmp_path / "single.ko", tmp_path / "one"),
        ("strip", tmp_path / "third"),
    ):
        told = call(*words, "--format", form)
        assert told.status in (0, 1), told.err
        closed, named = (of_junit if form == "junit" else of_sarif)(told.out)
        assert closed == (told.status == 1), told.out
        assert named or form == "sarif"
        assert str(tmp_path) not in told.out


def of_junit(text: str) -> tuple[bool, bool]:
    """Whether there is a failure, and whether a module is named."""
    root = ET.fromstring(text.encode())  # noqa: S314  our own text
    return root.find(".//failure") is not None, any(".ko" in case.get("name", "") for case in root.iter("testcase"))


def of_sarif(text: str) -> tuple[bool, bool]:
    """Whether there is an error that is not suppressed, and whether a module is named."""
    Sarif.model_validate_json(text, strict=True)
    results = json.loads(text)["runs"][0]["results"]
    return any(each["level"] == "error" for each in results), any(".ko" in json.dumps(each) for each in results)
