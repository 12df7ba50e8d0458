"""`pkghook audit --fix --receipt`: what was changed here is known afterwards, and told from damage."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests import inprocess, modules
from tests.installed import System, audit, release


class Host:
    """A system with an unstripped module of its kernel's package and one of nobody's."""

    def __init__(self, home: Path, corpus: Path) -> None:
        self.system = System(home / "root", release(corpus))
        self.data = modules.named(corpus, "amd64", "crc-itu-t").read_bytes()
        self.owned = self.system.ship("kernel/crc-itu-t.ko", self.data)
        self.stray = self.system.put("extra/stray.ko", self.data)
        self.receipt = home / "receipt.json"

    def fix(self, *options: str, **environ: str) -> list[tuple[str, str]]:
        """Ids and file names of what --fix says."""
        return audit(self.system.root, "--fix", "--receipt", str(self.receipt), *options, **environ).findings

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        """Of the receipt, by file name."""
        said = json.loads(self.receipt.read_text())
        return {Path(entry["path"]).name: entry for entry in said["entries"]}


@pytest.fixture
def host(tmp_path: Path, corpus: Path) -> Host:
    """The system."""
    return Host(tmp_path, corpus)


def digest(data: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(data).hexdigest()


def test_what_a_package_owns_is_left_alone_unless_asked_for(host: Host) -> None:
    assert ("fix-left-alone", "crc-itu-t.ko") in host.fix()
    assert host.owned.read_bytes() == host.data
    assert list(host.entries) == ["stray.ko"]


def test_owned_modules_are_stripped_with_both_digests(host: Host) -> None:
    found = host.fix(PKGHOOK_OWNED="strip")
    assert ("fix-left-alone", "crc-itu-t.ko") not in found
    entry = host.entries["crc-itu-t.ko"]
    assert (entry["sha256_before"], entry["sha256_after"]) == (digest(host.data), digest(host.owned.read_bytes()))
    (said,) = [each for each in entry["findings"] if each["id"] == "owned-stripped"]
    assert said["evidence"] == {"owner": f"dpkg:linux-image-{host.system.version}", "version": "1-1"}
    assert "findings" not in host.entries["stray.ko"]


def test_the_receipt_is_carried_on(host: Host) -> None:
    host.fix("--owned", "strip")
    first = host.entries
    another = host.system.put("extra/another.ko", host.data)
    host.fix()
    assert host.entries.keys() == {*first, another.name}
    assert {name: host.entries[name] for name in first} == first
    host.stray.unlink()
    host.fix()
    assert host.stray.name not in host.entries


def test_our_change_is_told_from_damage(host: Host) -> None:
    host.fix("--owned", "strip")
    ours = host.owned.read_bytes()
    assert not [id for id, _ in host.fix() if id == "changed-since-fix"]
    host.owned.write_bytes(ours[:200] + b"?" + ours[201:])
    for _ in range(2):  # it stays told
        assert ("changed-since-fix", "crc-itu-t.ko") in host.fix()
    host.owned.write_bytes(ours)
    assert not [id for id, _ in host.fix() if id == "changed-since-fix"]


def test_a_package_that_was_installed_again_is_no_damage(host: Host) -> None:
    host.fix("--owned", "strip")
    host.owned.write_bytes(host.data)
    assert "changed-since-fix" not in dict(host.fix())
    assert "crc-itu-t.ko" not in host.entries


def test_a_newer_package_is_no_damage(host: Host) -> None:
    host.fix("--owned", "strip")
    newer = host.owned.read_bytes() + b"newer"
    host.owned.write_bytes(newer)
    host.system.status.write_text(host.system.status.read_text().replace("Version: 1-1", "Version: 2-1"))
    assert "changed-since-fix" not in dict(host.fix())
    assert "crc-itu-t.ko" not in host.entries


def test_modules_of_nobody_may_be_built_again(host: Host) -> None:
    """By DKMS, say; only packages say which bytes are right."""
    host.fix()
    host.stray.write_bytes(host.stray.read_bytes() + b"built again")
    assert "changed-since-fix" not in dict(host.fix())


def test_a_receipt_belongs_to_a_fix(host: Host, tmp_path: Path) -> None:
    for options in ((), ("--fix", "--dry-run")):
        done = inprocess.call("audit", "--root", host.system.root, "--receipt", host.receipt, *options)
        assert done.status == 2
        assert "audit --receipt tells what --fix has changed" in done.err
    done = inprocess.call("audit", "--root", host.system.root, "--fix", "--receipt", tmp_path / "no" / "receipt.json")
    assert done.status == 2
    assert host.stray.read_bytes() == host.data, "told before the work"


def test_a_damaged_receipt_is_not_overwritten(host: Host) -> None:
    host.receipt.write_text("no receipt")
    done = inprocess.call("audit", "--root", host.system.root, "--fix", "--receipt", host.receipt)
    assert done.status == 2
    assert host.receipt.read_text() == "no receipt"
    assert host.stray.read_bytes() == host.data


def test_a_system_that_is_not_changed_in_place_gets_no_receipt(host: Host) -> None:
    """And needs no place for it that can be written to."""
    (host.system.root / "run").mkdir()
    (host.system.root / "run" / "ostree-booted").touch()
    host.receipt = host.receipt.parent / "no" / "receipt.json"
    assert ("fix-left-alone", "stray.ko") in host.fix()
    assert not host.receipt.parent.exists()
