"""pkghook's own RPMs installed on a machine: what happens when modules arrive, kernels go, and pkghook itself goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.modules import named, shipped
from tests.packages import own
from tests.packages.machine import Machine, machine
from tests.packages.rpmbuild import EXTRA, KERNEL, PACKAGE, bench, spec
from tests.support import need_tool

DKMS = f"lib/modules/{KERNEL}/updates/dkms"
RECEIPT = f"/var/lib/pkghook/{KERNEL}.json"


class Stock(NamedTuple):
    """Packages to install, and a module."""

    pkghook: dict[str, Path]
    clean: Path  # a package of a stripped module
    dirty: Path  # of an unstripped one
    module: Path  # unstripped


@pytest.fixture(scope="module")
def stock(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Everything, built once."""
    home = tmp_path_factory.mktemp("stock")
    module = named(corpus, "amd64", "crc-itu-t")
    builder = bench(home)
    post = "%post\n%{pkghook_post " + KERNEL + "}\n"
    clean = builder.build(spec({module.name: shipped(corpus, "amd64", module)}, first=""))
    dirty = builder.build(spec({module.name: module}, first="").replace("%files", post + "%files"))
    assert (clean.status, dirty.status) == (0, 0), clean.log + dirty.log
    return Stock(own.packages(home / "own"), clean.rpms[PACKAGE], dirty.rpms[PACKAGE], module)


@pytest.fixture
def host(stock: Stock, tmp_path: Path) -> Machine:
    """A machine with pkghook."""
    made = machine(tmp_path / "machine")
    made.rpm("-i", *made.send(stock.pkghook["pkghook"]))
    return made


def plant(host: Machine, module: Path, name: str = "dkms.ko", directory: str = DKMS) -> Path:
    """A module that no package owns."""
    (there,) = host.send(module)
    host.did("install", "-D", "-m644", there, f"/usr/{directory}/{name}")
    return host.path(f"/usr/{directory}/{name}")


def untouched(host: Machine, package: str = PACKAGE) -> bool:
    """Whether rpm finds all files of a package as they were packaged."""
    return host.rpm("-V", package) == ""


# --- modules arrive --------------------------------------------------------------------------------------------------


def test_the_trigger_strips_what_nobody_owns(host: Machine, stock: Stock) -> None:
    """And nothing else; what was done stands in a receipt."""
    stray = plant(host, stock.module)
    size = stray.stat().st_size
    said = host.rpm("-i", *host.send(stock.clean))
    assert f"pkghook looks at {KERNEL}:" in said
    assert [line.split()[1] for line in said.splitlines() if line.startswith("stripped ")] == [f"usr/{DKMS}/dkms.ko:"]
    assert stray.stat().st_size < size / 10
    assert untouched(host)
    receipt = json.loads(host.path(RECEIPT).read_text())
    (entry,) = [each for each in receipt["entries"] if each["path"].endswith("dkms.ko")]
    assert (entry["state"], entry["sizes"]["file_before"]) == ("stripped", size)
    assert entry["sha256_before"] != entry["sha256_after"]


def test_other_packages_wake_nobody(host: Machine, stock: Stock, tmp_path: Path) -> None:
    stray = plant(host, stock.module)
    text = spec({}, first="", install="mkdir -p %{buildroot}/etc; touch %{buildroot}/etc/demo")
    built = bench(tmp_path / "other").build(text.replace(f"/{EXTRA}/*", "/etc/demo"))
    assert host.rpm("-i", *host.send(built.rpms[PACKAGE])) == ""
    assert stray.stat().st_size == stock.module.stat().st_size


def test_what_a_package_owns_is_reported(host: Machine, stock: Stock) -> None:
    """By its own %post and by the trigger; the transaction is held up by neither."""
    said = host.rpm("-i", *host.send(stock.dirty))
    assert f"error: usr/{EXTRA}/crc-itu-t.ko: debug information is left in the module" in said
    assert "[unstripped]" in said
    assert said.count("pkghook: see above; nothing else is held up by it") == 2
    assert untouched(host)


def test_what_a_package_owns_is_stripped_if_asked_for(host: Machine, stock: Stock) -> None:
    host.send(stock.dirty)
    said = host.did("env", "PKGHOOK_OWNED=strip", "rpm", "--force-debian", "--nodeps", "-i", f"/srv/{stock.dirty.name}")
    assert "1 stripped" in said
    packaged = host.path(f"/usr/lib/modules/{KERNEL}/extra/crc-itu-t.ko")
    assert packaged.stat().st_size < stock.module.stat().st_size / 10
    assert host.run("rpm", "-V", PACKAGE).stdout.startswith("S.5")


def test_a_pkghook_that_fails_holds_up_nothing(host: Machine, stock: Stock) -> None:
    host.did("sh", "-c", "printf '#!/bin/sh\necho broken >&2\nexit 3\n' > /usr/bin/pkghook")
    said = host.rpm("-i", *host.send(stock.clean))
    assert "broken" in said
    assert "nothing else is held up by it" in said
    assert untouched(host)


def know(host: Machine, module: Path, name: str) -> Path:
    """Make DKMS's tree say that it has built a module and installed it; its own copy."""
    built = f"/var/lib/dkms/{name}/1.0/{KERNEL}/x86_64"
    (there,) = host.send(module)
    host.did("install", "-D", "-m644", there, f"{built}/module/{name}.ko")
    host.did("ln", "-s", f"1.0/{KERNEL}/x86_64", f"/var/lib/dkms/{name}/kernel-{KERNEL}-x86_64")
    host.did("mkdir", "-p", "/etc/dkms", f"/usr/src/{name}-1.0")
    host.did("ln", "-s", f"/usr/src/{name}-1.0", f"/var/lib/dkms/{name}/1.0/source")
    return host.path(f"{built}/module/{name}.ko")


def test_what_dkms_has_installed_stays_as_dkms_has_it(host: Machine, stock: Stock) -> None:
    """As on Debian: both copies are stripped, or `dkms status` would say that they differ."""
    stray, twin = plant(host, stock.module), know(host, stock.module, "dkms")
    said = host.rpm("-i", *host.send(stock.clean))
    assert [line.split()[1] for line in said.splitlines() if line.startswith("stripped ")] == [f"usr/{DKMS}/dkms.ko:"]
    assert stray.read_bytes() == twin.read_bytes()
    assert stray.stat().st_size < stock.module.stat().st_size / 10
    assert json.loads(host.path("/var/lib/pkghook/dkms.json").read_text())["totals"]["states"]["stripped"] == 1
    again = host.did("/usr/lib/pkghook/look", KERNEL)
    assert "already-stripped lib" not in again
    assert "held up" not in again


def test_a_package_s_module_is_not_dkms_s(host: Machine, stock: Stock, corpus: Path) -> None:
    """Whatever DKMS has of that name."""
    twin = know(host, named(corpus, "amd64", "crc7"), stock.module.stem)
    size = twin.stat().st_size
    host.rpm("-i", *host.send(stock.dirty))
    assert untouched(host)
    assert twin.stat().st_size < size / 10
    host.did("sh", "-c", "echo nothing of rpm >/var/lib/rpm/rpmdb.sqlite")
    said = host.did("/usr/lib/pkghook/look", KERNEL)
    assert "cannot read RPM's database" in said
    assert "nothing else is held up by it" in said


FROZEN = {
    "image": 'mkdir -p "$0/root/run"; touch "$0/root/run/ostree-booted"',
    "read-only": 'for d in usr/lib/modules; do mount --bind "$0/root/$d" "$0/root/$d"; '
    'mount -o remount,bind,ro "$0/root/$d"; done',
}


@pytest.mark.parametrize("why", FROZEN)
def test_a_system_that_must_not_be_written_to(host: Machine, stock: Stock, why: str) -> None:
    stray = plant(host, stock.module)
    said = host.did("/usr/lib/pkghook/look", KERNEL, more=FROZEN[why])
    assert "[unstripped]" in said
    assert stray.stat().st_size == stock.module.stat().st_size
    assert not host.path(RECEIPT).exists()


# --- kernels come and go ---------------------------------------------------------------------------------------------

PLUGIN = "/usr/lib/kernel/install.d/45-pkghook.install"


def test_kernel_install_strips_before_depmod_and_initrd(host: Machine, stock: Stock, tmp_path: Path) -> None:
    need_tool("kernel-install")
    stray = plant(host, stock.module)
    host.did(
        "sh",
        "-c",
        "mkdir -p /boot/loader; echo > /boot/vmlinuz; echo 0123456789abcdef0123456789abcdef > /etc/machine-id",
    )
    later = tmp_path / "50-later.install"
    later.write_text('#!/bin/sh\nstat -c "seen by 50: %s" /usr/lib/modules/$2/updates/dkms/dkms.ko >&2\n')
    host.did("install", "-D", "-t", "/etc/kernel/install.d", *host.send(later))
    said = host.did("kernel-install", "add", KERNEL, "/boot/vmlinuz")
    assert f"pkghook looks at {KERNEL}:" in said
    assert f"seen by 50: {stray.stat().st_size}" in said
    assert stray.stat().st_size < stock.module.stat().st_size / 10
    assert host.path(RECEIPT).exists()
    host.did("kernel-install", "remove", KERNEL)
    assert not host.path(RECEIPT).exists()


@pytest.mark.parametrize("words", [("add",), ("add", "no-such-kernel"), ("remove",), ("remove", "../.."), ("odd",), ()])
def test_the_plugin_never_fails(host: Machine, words: tuple[str, ...]) -> None:
    assert "error" not in host.did(PLUGIN, *words)


def test_receipts_of_kernels_that_are_gone_go(host: Machine, stock: Stock) -> None:
    host.rpm("-i", *host.send(stock.clean))
    host.rpm("-e", PACKAGE)
    assert host.path(RECEIPT).exists(), "its directory is still there"
    host.rpm("-i", *host.send(stock.clean))
    host.did("rm", "-r", f"/usr/lib/modules/{KERNEL}")
    host.rpm("-e", PACKAGE)
    assert not host.path(RECEIPT).exists()


# --- pkghook comes and goes ------------------------------------------------------------------------------------------


def test_upgrade_and_removal(host: Machine, stock: Stock, tmp_path: Path) -> None:
    names = [f"pkghook-{part}" for part in ("rpm-macros", "rpm-gate")]
    host.rpm("-i", *host.send(*(stock.pkghook[name] for name in names), stock.clean))
    receipt = host.path(RECEIPT).read_bytes()
    host.rpm("-U", *host.send(*own.packages(tmp_path / "newer", ".2").values()))
    assert host.rpm("-qa", "pkghook*").count("-1.2.noarch") == len(own.NAMES)
    assert all(untouched(host, name) for name in own.NAMES)
    assert json.loads(host.path(RECEIPT).read_bytes())["mode"] == json.loads(receipt)["mode"]
    host.rpm("-e", *own.NAMES)
    left = host.run("find", "/usr", "/var/lib", "/etc", "-name", "*pkghook*").stdout.split()
    assert left == []
    assert untouched(host)


def test_installed_it_hooks_and_gates(host: Machine, stock: Stock) -> None:
    """From the installed packages alone: no configuration of our own, no checkout on any path."""
    host.rpm("-i", *host.send(*(stock.pkghook[f"pkghook-rpm-{part}"] for part in ("macros", "gate"))))
    (module,) = host.send(stock.module)
    for line, status in (("%{?pkghook_hook}", 0), ("", 1)):
        path = host.home / "upper" / "srv" / "demo.spec"
        path.write_text(spec({"demo.ko": Path(module)}, first=line))
        done = host.run("rpmbuild", "-bb", "--define", "_topdir /srv/top", "/srv/demo.spec")
        assert done.returncode == status, done.stdout + done.stderr
        assert ("pkghook's gate is closed" in done.stderr) is bool(status)
