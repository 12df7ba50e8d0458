"""pkghook's own packages on a real Debian 12: installed, upgraded, removed, purged, and what they do to DKMS's modules.

Each test has a chroot of its own.  Nothing of the machine is touched; kernels are installed in it and never booted.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import inprocess, modules
from tests.packages import debian
from tests.packages.systems import BARE, WHOLE, fresh, install, kernel, system
from tests.setup.chroots import Chroot

pytestmark = pytest.mark.full

WRITEBOOST, LIME = "dm-writeboost", "lime"  # by the names of their modules
SOURCES = {WRITEBOOST: "dm-writeboost", LIME: "lime-forensics"}
SMALL = 110_000  # bytes; neither module is larger without debug information, neither is smaller with it


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debian.own_packages(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def bare_system(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chroot]:
    with system(own, tmp_path_factory.mktemp("bare"), BARE) as chroot:
        yield chroot


@pytest.fixture
def bare(bare_system: Chroot, tmp_path: Path) -> Iterator[Chroot]:
    """Debian with Python, and not one library."""
    with fresh(bare_system, tmp_path) as chroot:
        yield chroot


@pytest.fixture(scope="module")
def whole_system(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chroot]:
    with system(own, tmp_path_factory.mktemp("whole"), WHOLE) as chroot:
        yield chroot


@pytest.fixture
def whole(whole_system: Chroot, tmp_path: Path) -> Iterator[Chroot]:
    """Debian with a kernel, two modules built by DKMS, and what builds packages."""
    with fresh(whole_system, tmp_path) as chroot:
        yield chroot


@pytest.fixture(scope="module")
def ruined_system(whole_system: Chroot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chroot]:
    """The same, after a kernel arrived while stripping failed: both modules unstripped, nobody has noticed."""
    with fresh(whole_system, tmp_path_factory.mktemp("ruined")) as chroot:
        ruin_stripping(chroot)
        kernel_arrives(chroot)
        yield chroot


@pytest.fixture
def ruined(ruined_system: Chroot, tmp_path: Path) -> Iterator[Chroot]:
    with fresh(ruined_system, tmp_path) as chroot:
        yield chroot


def state(chroot: Chroot, package: str = "pkghook") -> str:
    return chroot.run("dpkg-query", "-W", "-f", "${db:Status-Status}", package).output


# --- the package itself ----------------------------------------------------------------------------------------------


def test_on_a_machine_with_nothing_but_python(bare: Chroot, corpus: Path) -> None:
    """Installs, strips and explains without a library; the trigger says what is missing and fails nobody."""
    said = install(bare, "pkghook")
    assert state(bare) == "installed"
    assert "python3-debian" in said
    place = bare.path / "root/tree/lib/modules/6.1.0-test/extra"
    place.mkdir(parents=True)
    shutil.copy(modules.named(corpus, "amd64", "crc7"), place)
    assert "1 stripped" in bare.must("pkghook", "strip", "/root/tree")
    assert "hint:" in bare.must("pkghook", "explain", "signed-unstripped")
    assert bare.must("dpkg", "-V", "pkghook") == ""
    done = bare.run("apt-get", "install", "-y", "/debs/" + next((bare.path / "debs").glob("dh-pkghook_*")).name)
    assert done.status != 0
    assert "python3-pyelftools" in done.output


def test_upgrade_removal_purge(bare: Chroot) -> None:
    """A second installation is an upgrade; what was configured stays until it is purged, receipts until then too."""
    install(bare, "pkghook")
    hook = bare.path / "etc/kernel/postinst.d/dkms-pkghook"
    hook.write_text(f"{hook.read_text()}# changed by hand\n")
    receipt = bare.put("var/lib/pkghook/6.1.0-test.json", "{}\n")
    bare.must("dpkg", "-i", *map(str, sorted(Path("/debs") / p.name for p in bare.path.glob("debs/pkghook_*"))))
    assert "# changed by hand" in hook.read_text()
    bare.must("run-parts", "--arg=6.1.0-test", "/etc/kernel/postrm.d")
    assert not receipt.exists()
    bare.put("var/lib/pkghook/all.json", "{}\n")
    bare.must("dpkg", "--remove", "pkghook")
    assert state(bare) == "config-files"
    assert hook.exists()
    assert not (bare.path / "usr/bin/pkghook").exists()
    assert list(bare.path.glob("usr/lib/python3/dist-packages/pkghook*")) == []
    for directory in ("postinst.d", "header_postinst.d", "postrm.d"):
        assert bare.run("run-parts", "--arg=6.1.0-test", f"/etc/kernel/{directory}") == (0, "")
    bare.must("dpkg", "--purge", "pkghook")
    left = [path for path in bare.path.rglob("*pkghook*") if not path.match("debs/*") and path.parts[-2] != "info"]
    assert [path for path in left if "var/log" not in str(path)] == []


def test_builds_packages(whole: Chroot) -> None:
    """autopkgtest's scripts, one of which builds a package with the one word; as a user that is not root, too."""
    install(whole, "pkghook", "dh-pkghook")
    scripts = debian.HOOKS / "debian" / "tests"
    for name in ("command", "dh-addon"):
        whole.put(f"root/{name}", (scripts / name).read_text(), 0o755)
        (whole.path / "srv" / name).mkdir()
        whole.must(f"/root/{name}", AUTOPKGTEST_TMP=f"/srv/{name}")
    whole.put("usr/local/bin/dh-addon", (scripts / "dh-addon").read_text(), 0o755)
    whole.must("install", "-d", "-o", "nobody", "/srv/nobody")
    whole.must(
        "setpriv", "--reuid=nobody", "--clear-groups", "dh-addon", AUTOPKGTEST_TMP="/srv/nobody", HOME="/srv/nobody"
    )


# --- modules of packages ---------------------------------------------------------------------------------------------


def test_owned_modules_are_looked_at_only(whole: Chroot, corpus: Path, tmp_path: Path) -> None:
    """A package brings an unstripped module: the trigger says so, the module stays, dpkg and debsums are content."""
    install(whole, "pkghook")
    builder = debian.builder(tmp_path / "build")
    source = builder.source([(modules.named(corpus, "amd64", "crc7"), debian.EXTRA)], build_depends="debhelper")
    done = builder.build(source)
    assert done.status == 0, done.output
    shutil.copy(done.deb("demo-modules"), whole.path / "debs")
    said = install(whole, "demo-modules")
    assert "Processing triggers for pkghook" in said
    assert "crc7.ko: debug information is left" in said
    assert "demo-modules" in said
    assert (state(whole), state(whole, "demo-modules")) == ("installed", "installed")
    module = whole.path / debian.EXTRA / "crc7.ko"
    assert module.read_bytes() == modules.named(corpus, "amd64", "crc7").read_bytes()
    assert whole.must("dpkg", "-V") == ""
    assert whole.must("debsums", "-s", "demo-modules") == ""
    assert json.loads((whole.path / "var/lib/pkghook/all.json").read_text())["entries"] == []
    removed = whole.must("dpkg", "--remove", "demo-modules")
    assert "Processing triggers for pkghook" in removed
    assert "crc7.ko" not in removed.partition("Processing triggers")[2], "it is gone, so nothing is wrong any more"


# --- DKMS ------------------------------------------------------------------------------------------------------------


def ruin_stripping(chroot: Chroot) -> None:
    """DKMS may not strip one module, meets a `strip` that does nothing on the way to the other, and cannot sign."""
    chroot.put(f"etc/dkms/{SOURCES[WRITEBOOST]}.conf", "STRIP[0]=no\n")
    chroot.put("usr/local/bin/strip", "#!/bin/sh\nexit 0\n", 0o755)
    with (chroot.path / "etc/initramfs-tools/modules").open("a") as file:
        file.write(f"{WRITEBOOST}\n{LIME}\n")
    chroot.must("sh", "-c", "mkdir /root/keys && mv /var/lib/dkms/mok.* /root/keys && mv /usr/bin/openssl /root")


def sign_again(chroot: Chroot) -> None:
    """DKMS can sign, with the key that it had."""
    chroot.must("sh", "-c", "mv /root/keys/* /var/lib/dkms && mv /root/openssl /usr/bin")


def kernel_arrives(chroot: Chroot) -> str:
    """What an installed or upgraded kernel brings about: its own postinst, with all hooks; DKMS builds anew."""
    for name in SOURCES.values():
        (source,) = chroot.path.glob(f"usr/src/{name}-*")
        with (source / "dkms.conf").open("a") as file:
            file.write('\nAUTOINSTALL="yes"\n')  # not each asks for it itself
        module = f"{name}/{source.name.removeprefix(f'{name}-')}"
        chroot.run("dkms", "remove", module, "-k", kernel(chroot))
        chroot.run("dkms", "add", module)
    return chroot.must("dpkg-reconfigure", f"linux-image-{kernel(chroot)}")


def built(chroot: Chroot) -> list[Path]:
    """DKMS's modules where they are installed."""
    return sorted(chroot.path.glob("lib/modules/*/updates/dkms/*.ko"))


def installed(chroot: Chroot) -> dict[str, int]:
    """Bytes of DKMS's modules."""
    return {path.stem: path.stat().st_size for path in built(chroot)}


def signer(chroot: Chroot, path: Path) -> str:
    return chroot.must("modinfo", "-F", "signer", f"/{path.relative_to(chroot.path)}").strip()


def in_initramfs(chroot: Chroot) -> dict[str, int]:
    """Bytes of DKMS's modules in the initramfs."""
    unpacked = chroot.path / "srv/initramfs"
    shutil.rmtree(unpacked, ignore_errors=True)
    chroot.must("unmkinitramfs", f"/boot/initrd.img-{kernel(chroot)}", "/srv/initramfs")
    return {path.stem: path.stat().st_size for path in unpacked.rglob("updates/dkms/*.ko")}


def test_dkms_modules_are_unstripped_without_pkghook(ruined: Chroot) -> None:
    """What the next test is there against."""
    assert set(installed(ruined)) == {WRITEBOOST, LIME}
    assert all(size > SMALL for size in installed(ruined).values()), installed(ruined)
    assert in_initramfs(ruined) == installed(ruined)


def test_dkms_modules_are_stripped_before_they_enter_the_initramfs(ruined: Chroot) -> None:
    before = {path.name: path.read_bytes() for path in built(ruined)}
    said = install(ruined, "pkghook")
    assert "2 stripped" in said
    at_installation = installed(ruined)
    assert set(at_installation) == {WRITEBOOST, LIME}
    assert all(size < SMALL for size in at_installation.values())
    said = kernel_arrives(ruined)
    assert said.index("postinst.d/dkms:") < said.index("postinst.d/dkms-pkghook:") < said.index("initramfs-tools:")
    assert installed(ruined) == at_installation, "a fresh build is stripped to the same bytes"
    assert in_initramfs(ruined) == at_installation
    for path in built(ruined):
        ruined.path.joinpath("root", path.name).write_bytes(before[path.name])
        after = f"/{path.relative_to(ruined.path)}"
        ruined.must("pkghook", "verify", f"/root/{path.name}", after)
        assert ruined.must("modinfo", "-F", "vermagic", after).startswith(kernel(ruined))
    receipt = json.loads((ruined.path / "var/lib/pkghook/dkms.json").read_text())
    assert {Path(entry["path"]).stem for entry in receipt["entries"]} == {WRITEBOOST, LIME}
    assert (ruined.path / "var/lib/pkghook" / f"{kernel(ruined)}.json").is_file()
    assert "Diff between" not in ruined.must("dkms", "status"), "DKMS's own copy has the same bytes"
    assert "/modules/" not in ruined.must("dpkg", "-V")
    assert kernel_looked_at_again(ruined) == ""


def test_modules_that_nobody_knows(whole: Chroot) -> None:
    """Built by hand and put below extra: neither a package's nor DKMS's, so stripped when the trigger looks."""
    install(whole, "pkghook")
    (module,) = (path for path in built(whole) if path.stem == LIME)
    extra = module.parents[2] / "extra" / "mine.ko"
    extra.parent.mkdir()
    (source,) = whole.path.glob("usr/src/lime-forensics-*")
    whole.must(
        "make", "-s", "-C", f"/lib/modules/{kernel(whole)}/build", f"M=/{source.relative_to(whole.path)}", "modules"
    )
    shutil.copy(source / f"{LIME}.ko", extra)
    large = extra.stat().st_size
    whole.must("dpkg-trigger", "--no-await", "/lib/modules")
    said = whole.must("dpkg", "--triggers-only", "-a")
    assert "extra/mine.ko" in said
    assert extra.stat().st_size < large / 5
    receipt = json.loads((whole.path / "var/lib/pkghook/all.json").read_text())
    assert [entry["path"].rpartition("/")[2] for entry in receipt["entries"]] == ["mine.ko"]


def kernel_looked_at_again(chroot: Chroot) -> str:
    """What the hook says where nothing is left to do."""
    return chroot.must("/etc/kernel/header_postinst.d/dkms-pkghook", kernel(chroot))


def test_signed_modules_are_signed_again(ruined: Chroot) -> None:
    """DKMS has signed what it did not strip: stripped, signed with the same key, in the initramfs like that."""
    sign_again(ruined)
    kernel_arrives(ruined)
    assert all(size > SMALL for size in installed(ruined).values()), installed(ruined)
    signers = {path: signer(ruined, path) for path in built(ruined)}
    assert set(signers.values()) == {"DKMS module signing key"}
    install(ruined, "pkghook")
    kernel_arrives(ruined)
    assert all(size < SMALL for size in installed(ruined).values()), installed(ruined)
    assert {path: signer(ruined, path) for path in built(ruined)} == signers
    assert all(path.read_bytes().endswith(inprocess.MARKER) for path in built(ruined))
    assert in_initramfs(ruined) == installed(ruined)
    assert "Diff between" not in ruined.must("dkms", "status"), "DKMS's own copy has the same bytes"
    assert "/modules/" not in ruined.must("dpkg", "-V")


def test_signed_modules_without_the_key(ruined: Chroot) -> None:
    """A new signature cannot be had: said, and left alone. The kernel's installation goes on."""
    sign_again(ruined)
    kernel_arrives(ruined)
    before = {path: path.read_bytes() for path in built(ruined)}
    for key in ruined.path.glob("var/lib/dkms/mok.*"):
        key.unlink()
    said = install(ruined, "pkghook")
    assert all(path.name in said for path in before)
    assert {path: path.read_bytes() for path in built(ruined)} == before
    assert state(ruined) == "installed"


def test_removal_gives_back_the_slot(whole: Chroot) -> None:
    """DKMS must not be left with a program that is gone."""
    install(whole, "pkghook")
    configuration = {path: path.read_bytes() for path in whole.path.glob("etc/dkms/**/*") if path.is_file()}
    whole.must("pkghook", "dkms", "--enable")
    assert {path: path.read_bytes() for path in whole.path.glob("etc/dkms/**/*") if path.is_file()} != configuration
    whole.must("dpkg", "--remove", "pkghook")
    assert {path: path.read_bytes() for path in whole.path.glob("etc/dkms/**/*") if path.is_file()} == configuration
    kernel_arrives(whole)
    assert set(installed(whole)) == {WRITEBOOST, LIME}
    assert {signer(whole, path) for path in built(whole)} == {"DKMS module signing key"}


def test_dry_run_by_configuration(ruined: Chroot) -> None:
    ruined.put("etc/pkghook.toml", "dry-run = true\n")
    install(ruined, "pkghook")
    kernel_arrives(ruined)
    assert all(size > SMALL for size in installed(ruined).values())


@pytest.mark.parametrize("why", ["image-based", "read-only"])
def test_frozen_systems(ruined: Chroot, why: str) -> None:
    """Nothing is changed or written, and nothing fails, where the system is not changed in place."""
    install_without_look(ruined)
    script = "/usr/libexec/pkghook/look"
    if why == "image-based":
        ruined.put("run/ostree-booted", "")
    else:
        script = f"mount --bind /usr /usr && mount -o remount,bind,ro /usr && {script}"
    said = ruined.run("sh", "-c", script)
    assert said.status == 0, said.output
    assert "debug information is left" in said.output
    assert all(size > SMALL for size in installed(ruined).values())
    assert list((ruined.path / "var/lib/pkghook").iterdir()) == []


def install_without_look(chroot: Chroot) -> None:
    """Unpacked, and looked at by nobody yet."""
    (package,) = chroot.path.glob("debs/pkghook_*.deb")
    chroot.must("dpkg", "--unpack", f"/debs/{package.name}")


def test_hook_never_fails(whole: Chroot) -> None:
    """A broken pkghook, a broken Python, a full disk: kernels are installed all the same."""
    install(whole, "pkghook")
    broken = {
        "usr/bin/pkghook": "#!/bin/sh\nexit 3\n",
        "usr/lib/python3/dist-packages/pkghook/cli.py": "raise SystemExit(7)\n",
    }
    for path, text in broken.items():
        good = (whole.path / path).read_text()
        whole.put(path, text, 0o755)
        whole.must("run-parts", "--exit-on-error", f"--arg={kernel(whole)}", "/etc/kernel/postinst.d")
        whole.must("dpkg-trigger", "--no-await", "/lib/modules")
        whole.must("dpkg", "--triggers-only", "-a")
        assert state(whole) == "installed"
        whole.put(path, good, 0o755)
    full = "mount -t tmpfs -o size=4k none /var/lib/pkghook && head -c 9999 /dev/zero > /var/lib/pkghook/x; "
    done = whole.run(
        "sh", "-c", f"{full} run-parts --exit-on-error --arg={kernel(whole)} /etc/kernel/header_postinst.d"
    )
    assert done.status == 0, done.output
