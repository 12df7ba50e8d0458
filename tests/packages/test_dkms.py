"""Debian's dkms in a chroot with kernel headers: two modules that it would install unstripped, and what we make of it.

One has STRIP[0]=no in its dkms.conf, the other meets a `strip` that does nothing and says 0. DKMS makes its own key,
by openssl, and signs with the kernel's sign-file.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pkghook.judge import receipt as receipts
from tests import modules
from tests.inprocess import MARKER
from tests.jobs import CHECKOUT
from tests.packages.dkms_source import add
from tests.setup import chroots, dkms
from tests.setup.apt import SetupError
from tests.setup.chroots import Chroot
from tests.support import lacking, need_tool
from tests.surgery import Patient

pytestmark = pytest.mark.full  # minutes for each system
PACKAGES = ("dkms", "openssl", "python3", "xz-utils", "zstd")
LIAR = "#!/bin/sh\nexit 0\n"
MODULES = ("unasked", "broken")  # STRIP[0]=no; a strip that does nothing


class Machine(NamedTuple):
    """A system with DKMS and kernel headers."""

    chroot: Chroot
    kernel: str
    suite: str

    def module(self, name: str) -> Path:
        """The installed module."""
        (found,) = (self.chroot.path / f"lib/modules/{self.kernel}/updates").rglob(f"{name}.ko*")
        return found

    def copy(self, name: str) -> Path:
        """DKMS's own copy of it."""
        (found,) = (self.chroot.path / "var/lib/dkms" / name / "1.0" / self.kernel).rglob(f"{name}.ko*")
        return found

    def build(self, name: str) -> str:
        """(Re)build and install a module; what DKMS says."""
        which = ("-m", name, "-v", "1.0", "-k", self.kernel)
        self.chroot.run("dkms", "remove", *which)
        return self.chroot.must("dkms", "install", *which)

    def pkghook(self, *args: str) -> chroots.Done:
        """Run it there."""
        return self.chroot.run("pkghook", *args)


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One with the sources of two modules, and pkghook as a package would install it; nobody writes to it."""
    for tool in ("mmdebstrap", "unshare", "mount"):
        need_tool(tool)
    try:
        headers = dkms.newest_headers().name if request.param == "bookworm" else f"linux-headers-{machine_name()}"
        image = chroots.image(request.param, (*PACKAGES, headers))
    except SetupError as error:
        lacking(str(error))
    with chroots.unpacked(image, tmp_path_factory.mktemp("dkms")) as chroot:
        headers = next((chroot.path / "usr/src").glob("linux-headers-*/Module.symvers")).parent.name
        _install_pkghook(chroot)
        for name in MODULES:
            add(chroot, name, strip=name != "unasked")
        chroot.put("usr/local/bin/strip", LIAR, 0o755)
        yield Machine(chroot, headers.removeprefix("linux-headers-"), request.param)


def machine_name() -> str:
    """As Debian calls the architecture."""
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def machine(system: Machine, tmp_path: Path) -> Iterator[Machine]:
    """The same, to write to."""
    for name in ("upper", "aside", "root"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={system.chroot.path},upperdir={tmp_path}/upper,workdir={tmp_path}/aside"
    mount: list[str | Path] = [need_tool("mount"), "-t", "overlay", "-o", options, "overlay", tmp_path / "root"]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        lacking(f"no overlay can be mounted: {done.stderr.strip()}")
    try:
        yield system._replace(chroot=Chroot(tmp_path / "root"))
    finally:
        subprocess.run([need_tool("umount"), "-l", tmp_path / "root"], check=True)


def _install_pkghook(chroot: Chroot) -> None:
    for path in sorted((CHECKOUT / "pkghook").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            place = chroot.path / "usr/lib/python3/dist-packages" / path.relative_to(CHECKOUT)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    start = "#!/usr/bin/python3\nimport sys\nfrom pkghook.cli import main\nsys.exit(main())\n"
    chroot.put("usr/bin/pkghook", start, 0o755)


def unstripped(path: Path) -> bool:
    """Whether a module has debug information."""
    return any(name.startswith(".debug_") for name in Patient(modules.image(path)).names)


def signer(machine: Machine, path: Path) -> str:
    """Whose signature modinfo sees, "" for none."""
    return machine.chroot.must("modinfo", "-F", "signer", "/" + str(path.relative_to(machine.chroot.path))).strip()


def found(id: str, said: str) -> bool:
    """Whether there was such a finding."""
    return f" [{id}]\n" in said


def compressed(machine: Machine) -> None:
    """Let DKMS believe that the kernel's modules are compressed with xz."""
    machine.chroot.put(f"lib/modules/{machine.kernel}/modules.dep", "kernel/x.ko.xz:\n")


def test_without_pkghook_both_are_installed_unstripped(machine: Machine) -> None:
    """What the other tests would not notice otherwise."""
    for name in MODULES:
        machine.build(name)
        assert unstripped(machine.module(name))
        assert signer(machine, machine.module(name)) == "DKMS module signing key"


def test_the_slot(machine: Machine) -> None:
    """Stripped, proven, signed with DKMS's key; and all is as before when it is given back."""
    before = sorted(str(path) for path in (machine.chroot.path / "etc/dkms").rglob("*"))
    done = machine.pkghook("dkms", "--enable")
    assert (done.status, done.output.count("not stripped by DKMS")) == (0, 2), done.output
    for name in MODULES:
        said = machine.build(name)
        if machine.suite == "bookworm":  # later ones keep what the slot says to themselves, if all is well
            assert re.search(rf"pkghook: {name}\.ko: stripped, .*, signed\n", said), said
        path = machine.module(name)
        assert not unstripped(path)
        assert signer(machine, path) == "DKMS module signing key"
        assert path.read_bytes() == machine.copy(name).read_bytes()
        where = machine.chroot.path / "var/lib/pkghook/dkms" / machine.kernel / f"{name}.ko.json"
        (entry,) = receipts.read(str(where)).entries
        assert (entry.step, entry.proof.value, entry.kernel) == ("native", "verified", machine.kernel)
    status = machine.pkghook("dkms", "--status")
    assert status.status == 0, status.output
    assert "slot: ours\n" in status.output
    assert (
        status.output.count(": stripped by pkghook\n")
        == len(re.findall(r"\.ko\S*: stripped, signed\n", status.output))
        == 2
    )
    assert machine.pkghook("dkms", "--disable").status == 0
    after = sorted(str(path) for path in (machine.chroot.path / "etc/dkms").rglob("*"))
    assert after == before
    machine.build("broken")
    assert unstripped(machine.module("broken"))


LIES = {
    "exit 0": "no new signature",
    "kill -SEGV $$": "signal 11",
    'echo x >>"$4"': "the module under it changed",
    'sed -i s/GPL/BSD/ "$4"': "the module under it changed",
    ': >"$4"': "empty-file",
}


def test_a_failure_is_seen(machine: Machine) -> None:
    """DKMS says nothing of it and installs; the message, the exit status of --status and the receipt do."""
    machine.pkghook("dkms", "--enable")
    tool = next((machine.chroot.path / "usr/lib").glob("linux-kbuild-*/scripts/sign-file"))
    place = str(tool.relative_to(machine.chroot.path))
    tool.unlink()
    machine.chroot.put(place, "#!/bin/sh\necho trouble\nexit 3\n", 0o755)
    assert found("dkms-sign-failed", machine.build("broken"))
    status = machine.pkghook("dkms", "--status")
    assert (status.status, found("dkms-sign-failed", status.output)) == (1, True)
    assert "exit status 3; said: trouble" in status.output
    for lie, why in LIES.items():
        machine.chroot.put(place, f"#!/bin/sh\n{lie}\n", 0o755)
        done = slot(machine)
        assert (done.status, found("dkms-sign-failed", done.output), why in done.output) == (1, True, True), done.output
    tool.unlink()
    assert "no sign program found" in slot(machine).output


def slot(machine: Machine) -> chroots.Done:
    """Call what DKMS calls, on a copy of a module."""
    (machine.chroot.path / "srv/broken.ko").write_bytes(modules.image(machine.module("broken")))
    words = ("sha512", "/var/lib/dkms/mok.key", "/var/lib/dkms/mok.pub", "/srv/broken.ko")
    return machine.chroot.run("/etc/dkms/pkghook-sign-file", *words)


def test_an_administrators_files_stay(machine: Machine) -> None:
    """Of a module's .conf and of sign_file: that program is what we run."""
    machine.chroot.put("etc/dkms/broken.conf", 'CLEAN="true"')
    machine.chroot.put("etc/dkms/framework.conf.d/mine.conf", 'sign_file="/usr/local/bin/mine"\n')
    real = next((machine.chroot.path / "usr/lib").glob("linux-kbuild-*/scripts/sign-file"))
    place = "/" + str(real.relative_to(machine.chroot.path))
    machine.chroot.put("usr/local/bin/mine", f'#!/bin/sh\necho "$@" >/tmp/mine\nexec {place} "$@"\n', 0o755)
    assert machine.pkghook("dkms", "--enable").status == 0
    machine.build("broken")
    assert signer(machine, machine.module("broken")) == "DKMS module signing key"
    assert (machine.chroot.path / "tmp/mine").read_text().split()[1:3] == [
        "/var/lib/dkms/mok.key",
        "/var/lib/dkms/mok.pub",
    ]
    machine.pkghook("dkms", "--disable")
    assert (machine.chroot.path / "etc/dkms/broken.conf").read_text() == 'CLEAN="true"\n'
    machine.chroot.put("etc/dkms/framework.conf.d/zz.conf", "sign_file=/usr/local/bin/mine\n")
    done = machine.pkghook("dkms", "--enable")
    assert (done.status, found("dkms-slot-taken", done.output)) == (1, True)
    assert not (machine.chroot.path / "etc/dkms/unasked.conf").exists()


def test_no_key_and_no_openssl(machine: Machine) -> None:
    """Then DKMS never calls the slot, and its own strip must not be switched off."""
    (machine.chroot.path / "usr/bin/openssl").unlink()
    done = machine.pkghook("dkms", "--enable")
    assert (done.status, found("dkms-slot-idle", done.output)) == (0, True)
    assert not (machine.chroot.path / "etc/dkms/broken.conf").exists()
    machine.build("broken")
    status = machine.pkghook("dkms", "--status")
    assert found("dkms-unstripped", status.output)


def test_pkghook_is_gone(machine: Machine) -> None:
    """Removed without --disable: modules are signed all the same."""
    machine.pkghook("dkms", "--enable")
    (machine.chroot.path / "usr/bin/pkghook").unlink()
    said = machine.build("broken")
    assert machine.suite != "bookworm" or "signed, but not stripped" in said
    assert signer(machine, machine.module("broken")) == "DKMS module signing key"


def test_a_module_that_came_later(machine: Machine) -> None:
    """DKMS strips it by itself, unchecked, and that is said until --enable is repeated."""
    machine.chroot.must("dkms", "remove", "-m", "broken", "-v", "1.0", "--all")
    machine.pkghook("dkms", "--enable")
    machine.chroot.must("dkms", "add", "-m", "broken", "-v", "1.0")
    assert found("dkms-strip-unchecked", machine.pkghook("dkms", "--status").output)
    machine.pkghook("dkms", "--enable")
    assert not found("dkms-strip-unchecked", machine.pkghook("dkms", "--status").output)


# --- what is installed already ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_installed_modules_are_stripped_and_signed_again(machine: Machine, suffix: str) -> None:
    if suffix:
        compressed(machine)
    elif machine.suite != "bookworm":
        pytest.skip("its kernel's modules are compressed")
    for name in MODULES:
        machine.build(name)
        assert machine.module(name).name == f"{name}.ko{suffix}"
    before = {name: machine.module(name).stat().st_size for name in MODULES}
    foretold = machine.pkghook("dkms", "--strip", "--dry-run", "--format", "json")
    assert json.loads(foretold.output)["totals"]["states"]["stripped"] == 2
    done = machine.pkghook("dkms", "--strip", "-v")
    assert done.status == 0, done.output
    assert found("dkms-signed-again", done.output)
    for name in MODULES:
        path = machine.module(name)
        assert path.stat().st_size < before[name] / 3
        assert signer(machine, path) == "DKMS module signing key"
        assert path.read_bytes() == machine.copy(name).read_bytes()
        assert not unstripped(path)
        assert suffix or path.read_bytes().endswith(MARKER)
    status = machine.chroot.must("dkms", "status")
    assert status.count("installed") == 2
    assert "Diff" not in status
    again = machine.pkghook("dkms", "--strip")
    assert (again.status, "2 modules: 2 already-stripped\n" in again.output) == (0, True), again.output


def test_no_key_means_report_only(machine: Machine) -> None:
    machine.build("broken")
    data = machine.module("broken").read_bytes()
    (machine.chroot.path / "var/lib/dkms/mok.key").rename(machine.chroot.path / "tmp/mok.key")
    done = machine.pkghook("dkms", "--strip")
    assert (done.status, found("dkms-no-key", done.output)) == (0, True), done.output
    assert machine.module("broken").read_bytes() == data


def test_another_key_means_report_only(machine: Machine) -> None:
    machine.build("broken")
    data = machine.module("broken").read_bytes()
    for file in ("mok.key", "mok.pub"):
        (machine.chroot.path / "var/lib/dkms" / file).unlink()
    machine.build("unasked")  # DKMS makes a new key for it
    done = machine.pkghook("dkms", "--strip")
    assert (done.status, found("dkms-other-key", done.output)) == (0, True), done.output
    assert machine.module("broken").read_bytes() == data
    assert not unstripped(machine.module("unasked"))


def test_unsigned_modules_need_no_key(machine: Machine) -> None:
    tool = next((machine.chroot.path / "usr/lib").glob("linux-kbuild-*/scripts/sign-file"))
    tool.unlink()
    machine.build("broken")
    assert signer(machine, machine.module("broken")) == ""
    done = machine.pkghook("dkms", "--strip")
    assert done.status == 0, done.output
    assert not unstripped(machine.module("broken"))
    assert machine.module("broken").read_bytes() == machine.copy("broken").read_bytes()
