"""`pkghook dkms` below --root, on real modules: what is installed is stripped, nothing of that system is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pkghook.model import Compression
from pkghook.stories.dkmsmend import same_signer
from tests import modules
from tests.inprocess import call, packed, trailer
from tests.surgery import native_strip

KERNEL = "6.1.0-9-amd64"
HOME = f"lib/modules/{KERNEL}/updates/dkms"
BUILT = f"var/lib/dkms/net/1.0/{KERNEL}/x86_64/module"


class System:
    """A root with DKMS and one module that it has built and installed."""

    def __init__(self, root: Path, data: bytes, suffix: str = "") -> None:
        self.root, self.data, self.name = root, data, f"net.ko{suffix}"
        for place in (HOME, BUILT, "etc/dkms", "usr/src/net-1.0"):
            (root / place).mkdir(parents=True)
        self.installed, self.built = root / HOME / self.name, root / BUILT / self.name
        for path in (self.installed, self.built):
            path.write_bytes(data)
        (root / f"var/lib/dkms/net/kernel-{KERNEL}-x86_64").symlink_to(f"1.0/{KERNEL}/x86_64")
        (root / "var/lib/dkms/net/1.0/source").symlink_to("/usr/src/net-1.0")


@pytest.fixture
def module(corpus: Path) -> Path:
    """A small one with debug information."""
    return modules.named(corpus, "amd64", "dummy")


@pytest.fixture
def depmod(tmp_path: Path) -> dict[str, str]:
    """An environment in which depmod is ours and writes down its arguments."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "depmod").write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (place / "depmod").chmod(0o755)
    return {"PATH": f"{place}:/usr/bin:/bin"}


def found(id: str, said: str) -> bool:
    """Whether there was such a finding."""
    return f" [{id}]\n" in said


def test_strip(tmp_path: Path, module: Path, depmod: dict[str, str]) -> None:
    """Both copies, as they were compressed; then the kernel's index of modules."""
    data = module.read_bytes()
    system = System(tmp_path / "root", packed(data, Compression.XZ), ".xz")
    other = call("dkms", "--strip", "--kernel", "6.2.0", "--root", system.root, **depmod)
    assert (other.status, "no modules found" in other.out) == (0, True)
    dry = call("dkms", "--strip", "--dry-run", "--root", system.root, **depmod)
    assert (dry.status, "would strip" in dry.out or "would save" in dry.out) == (0, True)
    assert system.installed.read_bytes() == system.data
    done = call("dkms", "--strip", "--root", system.root, "--format", "json", **depmod)
    assert (done.status, json.loads(done.out)["totals"]["states"]["stripped"]) == (0, 1), done.err
    assert modules.image(system.installed) == native_strip(data)
    assert system.built.read_bytes() == system.installed.read_bytes()
    assert (tmp_path / "asked").read_text() == f"-b {system.root} {KERNEL}\n"
    status = call("dkms", "--status", "--root", system.root)
    assert f"{HOME}/{system.name}: stripped\n" in status.out


def test_copies_that_differ_are_each_their_own(tmp_path: Path, module: Path, depmod: dict[str, str]) -> None:
    system = System(tmp_path / "root", module.read_bytes())
    system.built.write_bytes(native_strip(module.read_bytes()))
    assert call("dkms", "--strip", "--root", system.root, **depmod).status == 0
    assert system.installed.read_bytes() == system.built.read_bytes() == native_strip(module.read_bytes())


def test_a_link_to_dkms_own_copy(tmp_path: Path, module: Path, depmod: dict[str, str]) -> None:
    """As `symlink_modules` has it."""
    system = System(tmp_path / "root", module.read_bytes())
    system.installed.unlink()
    system.installed.symlink_to(f"/{BUILT}/net.ko")
    assert call("dkms", "--strip", "--root", system.root, **depmod).status == 0
    assert system.installed.is_symlink()
    assert system.built.read_bytes() == native_strip(module.read_bytes())


def test_what_a_package_owns_is_left_alone(tmp_path: Path, module: Path, depmod: dict[str, str]) -> None:
    system = System(tmp_path / "root", module.read_bytes())
    info = system.root / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "net-modules.list").write_text(f"/.\n/usr/{HOME}/net.ko\n")
    assert call("dkms", "--strip", "--root", system.root, **depmod).status == 0
    assert system.installed.read_bytes() == system.data


def test_a_signed_one_below_a_root_is_reported(corpus: Path, tmp_path: Path, module: Path) -> None:
    """The sign program of another system is not run."""
    signed = module.read_bytes() + trailer(modules.shipped(corpus, "amd64", module).read_bytes())
    system = System(tmp_path / "root", signed)
    done = call("dkms", "--strip", "--root", system.root, "--format", "json")
    assert done.status == 0
    assert [finding["id"] for finding in json.loads(done.out)["findings"]] == ["dkms-no-key"]
    assert system.installed.read_bytes() == system.built.read_bytes() == signed
    status = call("dkms", "--status", "--root", system.root)
    assert found("dkms-unstripped", status.out)
    assert f"{system.name}: unstripped, signed\n" in status.out


def test_depmod_fails(tmp_path: Path, module: Path, depmod: dict[str, str]) -> None:
    (tmp_path / "bin" / "depmod").write_text("#!/bin/sh\necho 'depmod: ERROR: no' >&2\nexit 1\n")
    system = System(tmp_path / "root", module.read_bytes())
    done = call("dkms", "--strip", "--root", system.root, "--format", "json", **depmod)
    assert done.status == 1
    assert [finding["id"] for finding in json.loads(done.out)["findings"]] == ["depmod-failed"]
    assert system.installed.read_bytes() == native_strip(module.read_bytes())


def test_a_receipt_that_nobody_can_read(tmp_path: Path, module: Path) -> None:
    system = System(tmp_path / "root", module.read_bytes())
    place = system.root / "var/lib/pkghook/dkms" / KERNEL
    place.mkdir(parents=True)
    (place / "net.ko.json").write_text("{}")
    told = call("dkms", "--status", "--root", system.root)
    assert (told.status, found("dkms-receipt-unreadable", told.out)) == (0, True), told.out


def test_enable_and_disable_below_a_root(tmp_path: Path, module: Path) -> None:
    system = System(tmp_path / "root", module.read_bytes())
    (system.root / "usr/bin").mkdir()
    shutil.copy("/bin/true", system.root / "usr/bin/openssl")
    before = sorted(system.root.rglob("*"))
    assert call("dkms", "--enable", "--root", system.root).status == 0
    assert 'STRIP[0]="no"\n' in (system.root / "etc/dkms/net.conf").read_text()
    assert call("dkms", "--disable", "--root", system.root).status == 0
    (system.root / "etc/dkms/framework.conf.d").rmdir()
    assert sorted(system.root.rglob("*")) == before


@pytest.mark.parametrize("args", [(), ("--enable", "--disable"), ("--status", "word"), ("--sign", "a", "b")])
def test_usage(args: tuple[str, ...]) -> None:
    assert call("dkms", *args).status == 2


def test_no_dkms_there(tmp_path: Path) -> None:
    told = call("dkms", "--status", "--root", tmp_path)
    assert (told.status, "no DKMS below" in told.err) == (2, True)


# --- signers ---------------------------------------------------------------------------------------------------------


def test_the_same_signer(corpus: Path) -> None:
    """Debian signs all modules of a kernel with one key: only the value differs."""
    first, other, *_ = (modules.shipped(corpus, "amd64", path) for path in modules.sample(corpus, "amd64", 3))
    one, two = trailer(first.read_bytes()), trailer(other.read_bytes())
    assert one != two
    assert same_signer(one, two)
    for at in (20, 60, 100, len(one) - 30):
        assert not same_signer(one, two[:at] + bytes([two[at] ^ 1]) + two[at + 1 :])
    assert not same_signer(one, two[1:])
    assert not same_signer(b"", b"")
