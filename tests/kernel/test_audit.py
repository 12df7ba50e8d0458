"""`pkghook audit` on small installed systems of real modules: each rule by what breaks it, and --fix."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from pkghook.ko import signature
from pkghook.model import Compression
from tests import inprocess, modules, trees
from tests.installed import System, audit, debian, release, shipped
from tests.support import need_tool
from tests.trees import as_ordinary_user

TUN = "drivers/net/tun"


@pytest.fixture
def system(tmp_path: Path, corpus: Path) -> System:
    """One that has nothing to complain of."""
    return debian(tmp_path / "root", corpus)


def unstripped(corpus: Path, name: str = "crc-itu-t") -> bytes:
    """A module with debug information, unsigned."""
    return modules.named(corpus, "amd64", name).read_bytes()


def without(section: str, path: Path) -> bytes:
    """A module without a section, as a careless tool leaves it: unsigned too."""
    with tempfile.NamedTemporaryFile(suffix=".ko") as out:
        subprocess.run([need_tool("objcopy"), "-R", section, path, out.name], check=True, capture_output=True)
        return Path(out.name).read_bytes()


def test_clean_system(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = os.uname_result(("Linux", "host", system.version, "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: runs)
    seen = audit(system.root)
    assert seen.document["running"] == ""
    assert (seen.status, seen.findings) == (0, [])
    assert seen.document["kernels"] == [
        {"version": system.version, "path": system.home, "owners": [f"dpkg:linux-image-{system.version}"]}
    ]
    assert {entry["owner"] for entry in seen.document["entries"]} == {f"dpkg:linux-image-{system.version}"}
    (row,) = seen.document["rows"]
    assert (row["modules"], row["signed"], row["unstripped"], row["compressed"]) == (4, 4, 0, 0)


def test_no_system(tmp_path: Path) -> None:
    done = inprocess.call("audit", "--root", tmp_path, "--keep-dir", "")
    assert done.status == 0
    assert "no modules found" in done.out
    done = inprocess.call("audit", "--root", tmp_path / "nowhere")
    assert (done.status, done.out) == (2, "")
    assert "--root is the directory" in done.err


def test_kernels_are_chosen_by_name(system: System, corpus: Path) -> None:
    other = "6.1.0-0-other"
    trees.put(system.root, f"usr/lib/modules/{other}/extra/x.ko", unstripped(corpus))
    assert {id for id, _ in audit(system.root).findings} > {"unstripped", "kernel-unowned"}
    assert audit(system.root, "--kernel", system.version).findings == []
    seen = audit(system.root, "--kernel", other)
    assert [kernel["version"] for kernel in seen.document["kernels"]] == [other]
    assert [entry["kernel"] for entry in seen.document["entries"]] == [other]
    done = inprocess.call("audit", "--root", system.root, "--kernel", "6.2")
    assert (done.status, done.out) == (2, "")
    assert system.version in done.err


# --- one rule each ---------------------------------------------------------------------------------------------------


def test_unstripped(system: System, corpus: Path) -> None:
    """The bytes to be had are, to the byte, those that stripping then frees; the owner is told with what he can do."""
    data = unstripped(corpus)
    system.ship("kernel/lib/crc-itu-t.ko", data)
    seen = audit(system.root)
    assert seen.status == 1
    assert seen.ids("crc-itu-t.ko") == ["signature-missing", "unstripped"]
    saving = seen.evidence("unstripped")["saving"]
    assert saving == len(data) - len(modules.image(shipped(corpus, "lib/crc-itu-t")))
    (owner,) = seen.document["owners"]
    assert owner["owner"] == f"dpkg:linux-image-{system.version}"
    assert owner["report"] == f"reportbug linux-image-{system.version}"
    chroot = f"chroot {system.root} "
    assert owner["reinstall"] == f"{chroot}apt-get install --reinstall linux-image-{system.version}=1-1"


def test_btf_missing(system: System, corpus: Path) -> None:
    system.ship(f"kernel/{TUN}.ko", without(".BTF", shipped(corpus, TUN)))
    assert audit(system.root).findings == [("btf-missing", "tun.ko"), ("signature-missing", "tun.ko")]
    # One from elsewhere has no siblings that could have it.
    system.put("extra/tun2.ko", without(".BTF", shipped(corpus, TUN)))
    assert audit(system.root).ids("tun2.ko") == ["module-unnamed", "signature-missing"]


def test_signature_missing_and_malformed(system: System, corpus: Path) -> None:
    path = shipped(corpus, TUN)
    system.ship(f"kernel/{TUN}.ko", modules.image(path))
    assert audit(system.root).findings == [("signature-missing", "tun.ko")]
    data = bytearray(path.read_bytes())
    data[-32:-28] = b"\xff\xff\xff\xff"  # the length of the signature
    system.ship(f"kernel/{TUN}.ko", bytes(data))
    assert audit(system.root).findings == [("bad-signature", "tun.ko")]


def signed(module: bytes, home: Path, *options: str) -> bytes:
    """As scripts/sign-file does it: a detached message and the trailer behind it; the certificate lies in `home`."""
    openssl = need_tool("openssl")
    home.mkdir(parents=True, exist_ok=True)
    key, pem, plain = (str(home / name) for name in ("key", "pem", "plain"))
    if not os.path.exists(key):
        words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-keyout", key, "-out", pem]
        subprocess.run([openssl, *words], check=True, capture_output=True)
        subprocess.run([openssl, "x509", "-in", pem, "-outform", "DER", "-out", str(home / "der")], check=True)
    Path(plain).write_bytes(module)
    words = ["cms", "-sign", "-binary", "-nocerts", "-outform", "DER", "-signer", pem, "-inkey", key, "-in", plain]
    message = subprocess.run([openssl, *words, *options], check=True, capture_output=True).stdout
    return module + message + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(message).to_bytes(4, "big") + signature.MARKER


@pytest.mark.parametrize("attributes", [True, False])
def test_signature_invalid(system: System, corpus: Path, tmp_path: Path, attributes: bool) -> None:  # noqa: FBT001
    """A stale one is told by the digest in it, or by the certificate that DKMS keeps."""
    module = modules.image(shipped(corpus, TUN))
    data = signed(module, tmp_path / "keys", *([] if attributes else ["-noattr"]))
    system.put("extra/x.ko", data)
    system.depmod()
    assert audit(system.root).findings == []
    damaged = data[:500] + bytes([data[500] ^ 1]) + data[501:]
    system.put("extra/x.ko", damaged)
    known = [("signature-invalid", "x.ko")]
    assert audit(system.root).findings == (known if attributes else [])  # whose it is nobody here knows
    trees.put(system.root, "var/lib/dkms/mok.pub", (tmp_path / "keys/der").read_bytes())
    assert audit(system.root).findings == known
    system.put("extra/x.ko", data)
    assert audit(system.root).findings == []
    # Another's key says nothing.
    signed(module, tmp_path / "others")
    trees.put(system.root, "var/lib/dkms/mok.pub", (tmp_path / "others/der").read_bytes())
    system.put("extra/x.ko", damaged)
    assert audit(system.root).findings == (known if attributes else [])


def test_vermagic_differs(system: System) -> None:
    other = "6.1.0-0-other"
    (system.root / system.home).rename(system.root / f"usr/lib/modules/{other}")
    system.own(f"linux-image-{system.version}", f"/lib/modules/{other}")
    seen = audit(system.root)
    assert {id for id, _ in seen.findings} == {"vermagic-differs"}
    assert len(seen.findings) == 4


def test_modules_dep(system: System, corpus: Path) -> None:
    (system.root / system.home / f"kernel/{TUN}.ko").unlink()
    system.put("updates/new.ko", shipped(corpus, TUN).read_bytes())
    seen = audit(system.root)
    assert seen.findings == [("module-missing", "tun.ko"), ("module-unnamed", "new.ko")]
    (owner,) = seen.document["owners"]  # of what is gone, since that is to be installed again
    assert owner["subjects"] == [f"{system.home}/kernel/{TUN}.ko"]
    (system.root / system.home / "modules.dep").unlink()
    assert audit(system.root).findings == [("no-modules-dep", system.version)]


def test_modules_dep_that_cannot_be_read(system: System) -> None:
    dep = system.root / system.home / "modules.dep"
    dep.unlink()
    os.mkfifo(dep)  # must not hang
    assert audit(system.root).findings == [("unreadable", "modules.dep")]


def test_both_places_of_an_unmerged_system(tmp_path: Path, corpus: Path) -> None:
    """Each directory is a kernel of its own then, and a package owns the path that it names, not its twin."""
    system = System(tmp_path / "root", release(corpus))
    (system.root / "lib").unlink()
    module = shipped(corpus, TUN).read_bytes()
    for place in ("lib", "usr/lib"):
        trees.put(system.root, f"{place}/modules/{system.version}/kernel/tun.ko", module)
        trees.put(system.root, f"{place}/modules/{system.version}/modules.dep", b"kernel/tun.ko:\n")
    system.own(f"linux-image-{system.version}", f"/lib/modules/{system.version}/kernel/tun.ko")
    seen = audit(system.root)
    assert [kernel["path"].partition("/modules")[0] for kernel in seen.document["kernels"]] == ["lib", "usr/lib"]
    assert [entry.get("owner", "") for entry in seen.document["entries"]] == [
        f"dpkg:linux-image-{system.version}",
        "",
    ]
    assert seen.findings == [("kernel-unowned", system.version)]


def test_second_reader(system: System) -> None:
    seen = audit(system.root, "--second-reader")
    assert seen.findings == []
    assert ["second-reader", "yes"] in seen.document["settings"]


def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it has: an answer.  The kernel that runs is marked here, and on no mounted system."""
    there = {path.name for path in Path("/lib/modules").glob("*") if path.is_dir() and not path.name.startswith(".")}
    seen = audit(Path("/"))
    assert {kernel["version"] for kernel in seen.document["kernels"]} == there
    for version in sorted(there)[:1]:
        runs = os.uname_result(("Linux", "host", version, "#1", "x86_64"))
        monkeypatch.setattr(os, "uname", lambda runs=runs: runs)
        assert audit(Path("/")).document["running"] == version
        done = inprocess.call("audit", "--keep-dir", "")
        assert f"{version} (running)" in done.out


def test_modules_dep_may_name_links(system: System) -> None:
    """As weak-updates on RHEL: named by depmod, and no module of its own."""
    link = system.root / system.home / "weak-updates/also.ko"
    link.parent.mkdir()
    link.symlink_to(f"/lib/modules/{system.version}/kernel/{TUN}.ko")
    dep = system.root / system.home / "modules.dep"
    dep.write_text(dep.read_text() + "weak-updates/also.ko:\n")
    assert audit(system.root).findings == []
    link.unlink()
    assert audit(system.root).findings == [("module-missing", "also.ko")]


def test_duplicate_module(system: System, corpus: Path) -> None:
    """The name is what the kernel knows: a - is a _, and a compression's suffix no part of it."""
    data = shipped(corpus, "lib/crc-itu-t").read_bytes()
    system.put("updates/crc_itu_t.ko.xz", xz(data))
    system.depmod()
    seen = audit(system.root)
    assert seen.findings == [("compression-foreign", "crc_itu_t.ko.xz"), ("duplicate-module", "crc_itu_t.ko.xz")]
    assert seen.evidence("duplicate-module") == {"hides": f"{system.home}/kernel/lib/crc-itu-t.ko", "named": "yes"}


def test_kernel_unowned(system: System) -> None:
    """A removed package owns nothing, whatever configuration it left; with an image it may be one's own kernel."""
    left = system.root / "usr/lib/modules/6.1.0-1-old"
    left.mkdir()
    (left / "modules.dep").write_text("kernel/x.ko:\n")
    system.own("linux-image-6.1.0-1-old", "/lib/modules/6.1.0-1-old", state="config-files")
    seen = audit(system.root)
    assert seen.findings == [("kernel-unowned", "6.1.0-1-old")]
    assert seen.evidence("kernel-unowned") == {"modules": 0, "bytes": 13, "image": "none"}
    trees.put(system.root, "boot/vmlinuz-6.1.0-1-old", b"")
    seen = audit(system.root)
    assert seen.findings == [("kernel-unowned", "6.1.0-1-old"), ("module-missing", "x.ko")]
    assert seen.evidence("kernel-unowned")["image"] == "boot/vmlinuz-6.1.0-1-old"


def test_debug_elf(system: System, tmp_path: Path) -> None:
    source = tmp_path / "v.c"
    source.write_text("int v(int x) { return x; }\n")
    vdso = system.put("vdso/vdso64.so.dbg", b"")
    flags = ["-shared", "-nostdlib", "-g", "-o"]
    subprocess.run([need_tool("gcc"), *flags, vdso, source], check=True)
    seen = audit(system.root)
    assert seen.findings == [("debug-elf", "vdso64.so.dbg")]
    assert 100 < int(seen.evidence("debug-elf")["bytes"]) < vdso.stat().st_size
    subprocess.run([need_tool("strip"), "--strip-debug", vdso], check=True)
    assert audit(system.root).findings == []
    assert [other["path"] for other in audit(system.root).document["others"]] == [f"{system.home}/vdso/vdso64.so.dbg"]


def test_scratch_left(system: System) -> None:
    left = system.root / "usr/lib/modules/.pkghook-0123456789abcdef-99999"
    left.mkdir()
    (left / "1").write_bytes(b"half a module")
    assert audit(system.root).findings == [("scratch-left", left.name)]
    assert left.exists()
    assert audit(system.root, "--fix").findings == [("scratch-left", left.name)]
    assert not left.exists()


def test_unreadable(system: System) -> None:
    path = system.root / system.home / f"kernel/{TUN}.ko"
    path.chmod(0)
    for directory in (system.root, *system.root.parents):
        if not directory.stat().st_mode & 0o077:  # pytest's own, which nobody else may enter
            directory.chmod(0o711)
    seen = as_ordinary_user(lambda: audit(system.root))
    assert seen.findings == [("unreadable", "tun.ko")]


@pytest.mark.parametrize("damage", ["database", "empty", "none"])
def test_package_database_unreadable(system: System, corpus: Path, damage: str) -> None:
    """Who owns what is not known then: nothing is taken for unowned, and nothing is changed."""
    system.put("extra/x.ko", unstripped(corpus))
    system.depmod()
    dpkg = system.root / "var/lib/dpkg"
    if damage == "database":
        (dpkg / "info").rename(dpkg / "lost")
        (dpkg / "info").write_text("")
    elif damage == "empty":
        (dpkg / "status").write_text("")
    else:
        (dpkg / "status").unlink()
    before = inprocess.digests(system.root)
    seen = audit(system.root, "--fix")
    assert [id for id, _ in seen.findings] == [
        "fix-left-alone",
        "package-database-unreadable",
        "signature-missing",
        "unstripped",
    ]
    assert "no package database" in str(seen.evidence("fix-left-alone")["why"])
    assert inprocess.digests(system.root) == before


# --- compression -----------------------------------------------------------------------------------------------------


def xz(data: bytes, check: int = lzma.CHECK_CRC32, dictionary: int = 1 << 20, *before: int) -> bytes:
    """By the kernel's recipe, or near it."""
    filters = [*({"id": id} for id in before), {"id": lzma.FILTER_LZMA2, "dict_size": dictionary}]
    return lzma.compress(data, lzma.FORMAT_XZ, check, filters=filters)


def named_gzip(data: bytes) -> bytes:
    """As `gzip` without -n."""
    packed = io.BytesIO()
    with gzip.GzipFile("tun.ko", "wb", fileobj=packed, mtime=0) as file:
        file.write(data)
    return packed.getvalue()


def gzip_with(flags: int, field: bytes) -> Callable[[bytes], bytes]:
    """With a field in the header that the kernel does not know."""

    def pack(data: bytes) -> bytes:
        packed = gzip.compress(data, mtime=0)
        return packed[:3] + bytes([flags]) + packed[4:10] + field + packed[10:]

    return pack


WRAPPINGS: dict[str, tuple[Compression, Callable[[bytes], bytes], list[str]]] = {
    "recipe xz": (Compression.XZ, xz, []),
    "recipe gzip": (Compression.GZIP, lambda data: gzip.compress(data, mtime=0), []),
    "recipe zstd": (Compression.ZSTD, zstandard.compress, []),
    "no check": (Compression.XZ, lambda data: xz(data, lzma.CHECK_NONE), []),
    "CRC64": (Compression.XZ, lambda data: xz(data, lzma.CHECK_CRC64), ["compression-refused"]),
    "SHA-256": (Compression.XZ, lambda data: xz(data, lzma.CHECK_SHA256), ["compression-refused"]),
    "xz without options": (Compression.XZ, lzma.compress, ["compression-dictionary", "compression-refused"]),
    "delta filter": (
        Compression.XZ,
        lambda data: xz(data, lzma.CHECK_CRC32, 1 << 20, lzma.FILTER_DELTA),
        ["compression-refused"],
    ),
    "branch filter": (Compression.XZ, lambda data: xz(data, lzma.CHECK_CRC32, 1 << 20, lzma.FILTER_X86), []),
    "dictionary": (
        Compression.XZ,
        lambda data: xz(data, lzma.CHECK_CRC32, 8 << 20),
        ["compression-dictionary"],
    ),
    "name": (Compression.GZIP, named_gzip, ["compression-name"]),
    "comment": (Compression.GZIP, gzip_with(16, b"a comment\0"), ["compression-refused"]),
    "extra field": (Compression.GZIP, gzip_with(4, b"\x02\0ab"), ["compression-refused"]),
    "zeros behind": (Compression.XZ, lambda data: xz(data) + bytes(8), ["compression-trailing"]),
    "bytes behind": (Compression.GZIP, lambda data: gzip.compress(data, mtime=0) + b"?", ["compression-trailing"]),
    "xz stream behind": (Compression.XZ, lambda data: xz(data) + xz(b""), ["compression-several"]),
    "gzip member behind": (
        Compression.GZIP,
        lambda data: gzip.compress(data, mtime=0) + gzip.compress(b"", mtime=0),
        ["compression-several"],
    ),
    "zstd frame behind": (
        Compression.ZSTD,
        lambda data: zstandard.compress(data) + zstandard.compress(b""),
        ["compression-several"],
    ),
    "in two streams": (
        Compression.XZ,
        lambda data: xz(data[:2000]) + xz(data[2000:]),
        ["compression-several", "section-outside-file"],  # the kernel sees the first alone
    ),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrappings(system: System, corpus: Path, name: str) -> None:
    how, pack, ids = WRAPPINGS[name]
    packed = pack(shipped(corpus, TUN).read_bytes())
    (system.root / system.home / f"kernel/{TUN}.ko").unlink()
    system.ship(f"kernel/{TUN}.ko{how.suffix}", packed)
    system.name_all()
    trees.put(
        system.root,
        f"boot/config-{system.version}",
        f"CONFIG_MODULE_COMPRESS_{how.name}=y\nCONFIG_MODULE_DECOMPRESS=y\n".encode(),
    )
    seen = audit(system.root)
    assert seen.ids(f"tun.ko{how.suffix}") == ids
    assert seen.findings == [(id, f"tun.ko{how.suffix}") for id in ids]


@pytest.mark.parametrize("own", ["GZIP", "NONE"])
def test_foreign_compression(system: System, corpus: Path, own: str) -> None:
    """A kernel reads one format at most; one that reads none itself does not care for the integrity check."""
    system.put("extra/x.ko.xz", lzma.compress(shipped(corpus, TUN).read_bytes()))
    system.depmod()
    config = f"CONFIG_MODULE_COMPRESS_{own}=y\n# CONFIG_MODULE_DECOMPRESS is not set\n"
    trees.put(system.root, f"boot/config-{system.version}", config.encode())
    seen = audit(system.root)
    assert seen.ids("x.ko.xz") == ["compression-dictionary", "compression-foreign"]
    assert seen.evidence("compression-foreign") == {
        "compression": "xz",
        "kernel": own.lower(),
        "by": "its configuration",
    }
    (system.root / f"boot/config-{system.version}").unlink()
    seen = audit(system.root)
    assert seen.ids("x.ko.xz") == ["compression-dictionary", "compression-foreign", "compression-refused"]
    assert seen.evidence("compression-foreign")["by"] == "4 of 5 modules"


# --- --fix -----------------------------------------------------------------------------------------------------------


def dkms(system: System, corpus: Path) -> Path:
    """A module as DKMS leaves it: built in its own tree, copied to updates/dkms."""
    data = unstripped(corpus)
    built = f"var/lib/dkms/crc/1.0/{system.version}/x86_64"
    trees.put(system.root, f"{built}/module/crc-new.ko", data)
    (system.root / f"var/lib/dkms/crc/kernel-{system.version}-x86_64").symlink_to(f"1.0/{system.version}/x86_64")
    path = system.put("updates/dkms/crc-new.ko", data)
    system.depmod()
    return path


def test_fix_strips_what_no_package_owns(system: System, corpus: Path) -> None:
    path = dkms(system, corpus)
    system.put("extra/mine.ko", unstripped(corpus))
    system.ship("kernel/lib/crc-itu-t.ko", unstripped(corpus))
    system.depmod()
    before = inprocess.digests(system.root)
    seen = audit(system.root)
    assert inprocess.digests(system.root) == before
    assert seen.entry("crc-new.ko")["owner"] == "dkms:crc/1.0"
    assert "owner" not in seen.entry("mine.ko")
    told = audit(system.root, "--fix", "--dry-run")
    assert inprocess.digests(system.root) == before
    seen = audit(system.root, "--fix")
    after = inprocess.digests(system.root)
    changed = {Path(name).name for name in before if before[name] != after[name]}
    assert changed == {"crc-new.ko", "mine.ko"}
    assert set(before) == set(after)
    assert path.read_bytes() == modules.image(shipped(corpus, "lib/crc-itu-t"))
    fixed = seen.document["fixed"]
    assert [(entry["state"], entry["proof"], bool(entry["sha256_before"])) for entry in fixed] == [
        ("stripped", "verified", True)
    ] * 2
    assert [entry["path"] for entry in told.document["fixed"]] == [entry["path"] for entry in fixed]
    assert seen.evidence("fix-left-alone") == {"why": f"dpkg:linux-image-{system.version} owns it"}
    assert [name for id, name in seen.findings if id == "unstripped"] == ["crc-itu-t.ko"]
    assert seen.status == 1


def test_fix_knows_further_names(system: System, corpus: Path) -> None:
    """An unowned name of an owned file is not to be stripped: both names are one file."""
    path = system.ship("kernel/lib/crc-itu-t.ko", unstripped(corpus))
    os.link(path, path.with_name("also.ko"))
    before = inprocess.digests(system.root)
    seen = audit(system.root, "--fix")
    assert seen.evidence("fix-left-alone")["why"] == f"dpkg:linux-image-{system.version} owns it"
    assert inprocess.digests(system.root) == before


def test_fix_follows_no_link(system: System, corpus: Path, tmp_path: Path) -> None:
    """DKMS's symlink_modules leaves links in lib/modules; what they lead to is not changed."""
    target = trees.put(tmp_path, "elsewhere.ko", unstripped(corpus))
    link = system.root / system.home / "updates/dkms/x.ko"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    system.depmod()
    before = target.read_bytes()
    assert audit(system.root, "--fix").document["fixed"] == []
    assert target.read_bytes() == before
    assert link.is_symlink()


def test_fix_leaves_signed_modules_to_policy(system: System, corpus: Path) -> None:
    path = dkms(system, corpus)
    signed = path.read_bytes() + shipped(corpus, TUN).read_bytes()[len(modules.image(shipped(corpus, TUN))) :]
    path.write_bytes(signed)
    seen = audit(system.root, "--fix")
    assert path.read_bytes() == signed
    assert seen.document["fixed"][0]["state"] == "failed"
    assert "signed-unstripped" in {each["id"] for each in seen.document["fixed"][0]["findings"]}
    assert audit(system.root, "--fix", "--signed", "keep").status == 0
    assert path.read_bytes() == signed
    assert audit(system.root, "--fix", "--signed", "strip").status == 0
    assert path.read_bytes() == modules.image(shipped(corpus, "lib/crc-itu-t"))


def test_fix_on_an_image_based_system(system: System, corpus: Path) -> None:
    dkms(system, corpus)
    trees.put(system.root, "run/ostree-booted", b"")
    before = inprocess.digests(system.root)
    seen = audit(system.root, "--fix")
    assert "image-based" in str(seen.evidence("fix-left-alone")["why"])
    assert inprocess.digests(system.root) == before


def test_report_groups_by_owner(system: System, corpus: Path) -> None:
    dkms(system, corpus)
    system.put("extra/mine.ko", unstripped(corpus))
    system.ship("kernel/lib/crc-itu-t.ko", unstripped(corpus))
    done = inprocess.call("audit", "--root", system.root, "--keep-dir", "")
    lines = done.out.splitlines()
    heads = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["dkms:crc/1.0:", f"dpkg:linux-image-{system.version} 1-1:", "nobody's:"]
    assert f"  report: reportbug linux-image-{system.version}" in lines
    again = f"-k {system.version}"
    assert any(line.endswith(f"dkms install --force crc/1.0 {again}") for line in lines)
    done = inprocess.call("audit", "--root", system.root, "--keep-dir", "", "--fix", "--dry-run")
    assert f"would strip      {system.home}/extra/mine.ko: " in done.out
    assert "initramfs" not in done.out
    done = inprocess.call("audit", "--root", system.root, "--keep-dir", "", "--fix")
    assert f"stripped         {system.home}/extra/mine.ko: " in done.out
    assert f"an initramfs of {system.version} may hold copies of what was stripped: make it again" in done.out
