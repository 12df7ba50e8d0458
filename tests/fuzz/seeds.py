"""What fuzzing begins with, made anew each time: real modules cut down to some thousand bytes, and all made of them.

Debug information is cut to a few bytes a section, since no reader looks into it.  Shapes that no kernel at hand has
(livepatch, groups, MIPS, odd export tables) are grown.  Packages are built by the packagers' own tools where these
are there, and by hand in the forms that the tools do not write any more.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from pkghook.judge import receipt
from pkghook.ko.plan import Drop
from tests import exporting, modules, receipts, shapes
from tests import packages_by_hand as hand
from tests.fuzz import wrapped
from tests.fuzz.targets import joined
from tests.messages import SHA256, attribute, item, message
from tests.modules import MARKER, WITH_DEBUG
from tests.mutants.harmless import Module
from tests.packages.rpms import PAYLOADS, rpmbuild
from tests.support import need_kernel
from tests.surgery import native_strip

MODULES = 3  # of each kernel, the smallest
DEBUG_BYTES, DEBUG_RELOCATIONS = 24, 2  # what is left of a debug section
LARGE = 200_000  # bytes of zeros, which take little room when they are compressed
PLACE = "lib/modules/6.1.0/kernel"


def make(name: str, corpus: Path, home: Path) -> None:
    """The seeds of a target, as files in the directory `home`."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as work:
        for data in _MAKERS[name](corpus, Path(work)):
            (home / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


# --- modules ---------------------------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    """An unstripped module with next to nothing in its debug sections."""
    module = Module(data)
    for part in module.parts:
        if part.name.startswith(b".debug_") and not part.is_relocation:
            part.data = part.data[:DEBUG_BYTES]
        elif part.is_relocation and part.target and part.target.name.startswith(b".debug_"):
            part.entries = part.entries[:DEBUG_RELOCATIONS]
    held = {id(entry.symbol) for part in module.parts for entry in part.entries}
    module.symbols = [each for each in module.symbols if each.name or id(each) in held or each is module.symbols[0]]
    return module.render()


def real(corpus: Path) -> list[bytes]:
    """Unstripped modules of four kernels, cut."""
    paths = [path for kernel in WITH_DEBUG for path in modules.unstripped(corpus, kernel)[:MODULES]]
    found = [cut(modules.image(path)) for path in paths]
    exporter = next(path for path in modules.unstripped(corpus, "amd64") if path.name == "crc-itu-t.ko")
    return [*found, cut(modules.image(exporter))]


def grown() -> list[bytes]:
    """Shapes that the kernels at hand have not."""
    found = [shapes.module(kind) for kind in shapes.KINDS.values()]
    found += [shapes.livepatch(shape) for shape in shapes.LIVEPATCH_SHAPES]
    group = shapes.Sec(".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".text.once",))
    gone = shapes.Sec(
        ".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".debug_macro",), key="other"
    )
    once = shapes.Sec(".text.once", b"\xc3" * 8, shapes.ALLOC | shapes.EXEC | shapes.IN_GROUP, align=16)
    macro = shapes.Sec(".debug_macro", bytes(8), shapes.IN_GROUP)
    signs = shapes.Sec(".llvm_addrsig", b"\1\2", type=shapes.ADDRSIG, link=".text")
    label = shapes.Sym(".L1", ".text", bind=shapes.LOCAL)
    many = tuple(shapes.Sym(f"s{number}", ".text", number, bind=shapes.LOCAL) for number in range(260))
    many += tuple(shapes.Sym(f".L{number}", ".text", number, bind=shapes.LOCAL) for number in range(70))
    for name in ("amd64", "armel", "mips64"):
        kind = shapes.KINDS[name]
        found.append(
            shapes.module(kind, group, gone, once, macro, signs, also=(label,), one_string_table=name == "amd64")
        )
    found += [exporting.exporting(shapes.AMD64, layout) for layout in exporting.LAYOUTS.values()]
    found.append(exporting.without_crc(shapes.AMD64))
    found += [shapes.module(kind, also=many) for kind in (shapes.AMD64, shapes.KINDS["s390x"], shapes.KINDS["armel"])]
    long = tuple(shapes.Sym(f"{number:0120}", ".text", bind=shapes.LOCAL) for number in range(40))
    found.append(shapes.module(also=long))
    found += [talkative(name) for name in ("amd64", "s390x", "m68k")]
    return [*found, shapes.many_sections(340)]


def talkative(name: str) -> bytes:
    """A module that says all that one may say of itself, with both tables of imports."""
    kind = shapes.KINDS[name]
    words = [
        "name=grown", "license=GPL", "alias=pci:v1", "depends=a,b", "softdep=pre: a b post: c", "weakdep=d",
        "parm=x:why", "parmtype=x:int", "vermagic=6.1.0 SMP", "intree=Y", "",
    ]  # fmt: skip
    info = shapes.Sec(".modinfo", "\0".join(words).encode(), shapes.ALLOC)
    long = kind.order + ("Q" if kind.is64 else "I")
    row = struct.pack(long, 0x1234ABCD) + b"printk".ljust(64 - kind.word, b"\0")
    more = (
        shapes.Sec("__versions", row, shapes.ALLOC),
        shapes.Sec("__version_ext_crcs", struct.pack(kind.order + "I", 7), shapes.ALLOC, align=4),
        shapes.Sec("__version_ext_names", b"printk\0", shapes.ALLOC),
    )
    sections = [info if each.name == info.name else each for each in shapes.basis()]
    return shapes.grow([*sections, *shapes.debug_sections(), *more], shapes.symbols(), kind)


def of_modules(corpus: Path, _: Path) -> Iterator[bytes]:
    """Unstripped and stripped."""
    for data in (*real(corpus), *grown()):
        yield data
        yield native_strip(data)


def of_verifier(corpus: Path, _: Path) -> Iterator[bytes]:
    """Before and after; the same twice; stripped already."""
    for data in (*real(corpus), *grown()):
        after = native_strip(data)
        yield joined(data, after)
        yield joined(after, after)
        yield joined(data, native_strip(data, Drop(labels=True)))


# --- wrappings -------------------------------------------------------------------------------------------------------


def of_compression(corpus: Path, _: Path) -> Iterator[bytes]:
    """By the kernel's recipe and in the other ways that there are."""
    random = Random(6)  # noqa: S311  the same each time
    images = [native_strip(real(corpus)[0]), b"\x7fELF" + bytes(300), b""]
    for make in (wrapped.gzip, wrapped.xz, wrapped.xz_blocks, wrapped.zstd, wrapped.zstd_by_hand):
        for image in images:
            for _again in range(6):
                data = make(image, random)
                yield data
    yield images[0]
    yield wrapped.gzip(images[1], random) + bytes(5)


def of_signatures(corpus: Path, work: Path) -> Iterator[bytes]:
    """Debian's own, by the system's openssl with and without attributes, by hand."""
    image = b"\x7fELF" + bytes(60)
    for path in sorted(need_kernel(corpus, "amd64").rglob("*.ko"), key=lambda path: path.stat().st_size)[:3]:
        data = path.read_bytes()
        yield joined(b"", image + data[len(modules.unsigned(data)) :])
    if shutil.which("openssl"):
        for options in ((), ("-noattr",), ("-noattr", "-md", "sha512"), ("-md", "sha1")):
            yield by_openssl(image, work, *options)
    digest = hashlib.sha256(image).digest()
    for blob in (
        message(b"s" * 64),
        message(b"s", attribute(digest)),
        message(b"s", item(0x30, item(6, b"\x2a"), item(0x31))),
    ):
        yield joined(b"", image + trailer(blob))
    yield joined(b"", image + trailer(message(b"s", attribute(b"x"), SHA256), id_type=1, signer=1))


def trailer(blob: bytes, *, id_type: int = 2, signer: int = 0) -> bytes:
    """What lies behind a module."""
    return blob + bytes([0, 0, id_type, signer, 0, 0, 0, 0]) + len(blob).to_bytes(4, "big") + MARKER


def by_openssl(image: bytes, work: Path, *options: str) -> bytes:
    """As scripts/sign-file does it, beside the certificate."""
    key, pem, der, plain = (str(work / name) for name in ("key", "pem", "der", "plain"))
    if not os.path.exists(key):
        words = ["req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=test", "-keyout", key, "-out", pem]
        subprocess.run(["openssl", *words], check=True, capture_output=True)
        subprocess.run(["openssl", "x509", "-in", pem, "-outform", "DER", "-out", der], check=True)
    Path(plain).write_bytes(image)
    words = ["cms", "-sign", "-binary", "-nocerts", "-outform", "DER", "-signer", pem, "-inkey", key, "-in", plain]
    blob = subprocess.run(["openssl", *words, *options], check=True, capture_output=True).stdout
    return joined(Path(der).read_bytes(), image + trailer(blob))


# --- files of our own ------------------------------------------------------------------------------------------------


def of_receipts(corpus: Path, work: Path) -> Iterator[bytes]:
    """Of a real run over real modules; one with something of everything."""
    yield receipt.dump(receipts.sample())
    tree = work / PLACE
    tree.mkdir(parents=True)
    for path in modules.unstripped(corpus, "amd64")[:MODULES]:
        shutil.copy(path, tree)
    (tree / "bad.ko").write_bytes(b"no module")
    pkghook = [sys.executable, "-m", "pkghook"]
    for argv in (
        ["record", work, "--out", work / "record"],
        ["strip", work, "--before", work / "record", "--receipt", work / "receipt"],
        ["strip", work, "--digest-before", "--dry-run", "--keep", "*/bad.ko=why", "--receipt", work / "dry"],
    ):
        subprocess.run([*pkghook, *map(str, argv)], check=False, capture_output=True)
    for name in ("record", "receipt", "dry"):
        yield (work / name).read_bytes()
        yield json.dumps(json.loads((work / name).read_bytes())).encode()


# --- packages --------------------------------------------------------------------------------------------------------


def small_tree(corpus: Path, work: Path) -> Path:
    """What a package of modules holds: modules, a link, a hard link, a text."""
    tree = work / "tree"
    place = tree / PLACE
    place.mkdir(parents=True)
    image = native_strip(modules.image(modules.unstripped(corpus, "amd64")[0]))
    (place / "a.ko").write_bytes(image)
    (place / "b.ko.xz").write_bytes(lzma.compress(image))
    os.link(place / "a.ko", place / "c.ko")
    (place / "d.ko").symlink_to("a.ko")
    (tree / "usr").mkdir()
    (tree / "usr" / "README").write_text("text\n")
    return tree


def of_rpms(corpus: Path, work: Path) -> Iterator[bytes]:
    """Built by rpmbuild with each compression; by hand in both forms of cpio."""
    tree = small_tree(corpus, work)
    if shutil.which("rpmbuild"):
        for number, payload in enumerate(PAYLOADS):
            yield rpmbuild(work / str(number), tree, ("/lib", "/usr"), payload).read_bytes()
    image = (tree / PLACE / "a.ko").read_bytes()
    files = [
        hand.File("/lib/modules", b"", hand.DIRECTORY),
        hand.File(f"/{PLACE}/a.ko", image),
        hand.File(f"/{PLACE}/b.ko", b"other", inode=77),
        hand.File(f"/{PLACE}/c.ko", b"other", inode=77),
        hand.File(f"/{PLACE}/gone", b"12345", flags=hand.GHOST),
        hand.File(f"/{PLACE}/link", b"a.ko", hand.SYMLINK),
    ]
    yield hand.rpm_of(files)
    yield hand.rpm(hand.rpm_tags(files, long=True), hand.stripped(files))
    yield hand.rpm(hand.rpm_tags([]), hand.newc([]))
    more: dict[int, hand.Tag] = {
        1003: (hand.INT32, [1]),
        1125: (hand.STRING, [b"none"]),
        5112: (hand.INT64, [len(hand.newc(files))]),
    }
    yield hand.rpm(hand.rpm_tags(files) | more, hand.newc(files))
    large = [hand.File(f"/{PLACE}/large.ko", image + bytes(LARGE)), hand.File("/boot/x", b"\x7fELF" + bytes(LARGE))]
    archive = hand.newc(large)
    for packed in (
        gzip.compress(archive, mtime=0),
        gzip.compress(archive[:999], mtime=0) + gzip.compress(archive[999:], mtime=0) + bytes(9),
    ):
        yield hand.rpm(hand.rpm_tags(large) | {1125: (hand.STRING, [b"gzip"])}, archive, payload=packed)
    yield hand.rpm(hand.rpm_tags([]) | {1125: (hand.STRING, [b"xz"])}, b"", payload=b"")
    old: dict[int, hand.Tag] = {269: (hand.STRING, [b"0" * 40]), 1004: (hand.BIN, bytes(16)), 1000: (hand.INT32, [10])}
    yield hand.rpm(hand.rpm_tags(files), hand.newc(files), signature=old)
    yield hand.rpm_of(files) + b"behind"
    yield hand.rpm(hand.rpm_tags(files), hand.newc([*files[:5], hand.File("/long", b"x" * 5000, hand.SYMLINK)]))
    yield hand.rpm(hand.rpm_tags(files), hand.stripped_member(99) + hand.TRAILER)
    yield hand.rpm(hand.rpm_tags(files) | {1027: (hand.ARRAY, [b"/a"])}, hand.newc(files))


def of_debs(corpus: Path, work: Path) -> Iterator[bytes]:
    """Built by dpkg-deb with each compression; by hand."""
    tree = small_tree(corpus, work)
    if shutil.which("dpkg-deb"):
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN" / "control").write_bytes(
            hand.CONTROL.replace(b"Description", b"Maintainer: demo <demo@example.org>\nDescription")
        )
        sums = hashlib.md5((tree / PLACE / "a.ko").read_bytes(), usedforsecurity=False).hexdigest()
        (tree / "DEBIAN" / "md5sums").write_text(f"{sums}  {PLACE}/a.ko\n")
        for how in ("none", "gzip", "xz", "zstd"):
            argv = ["dpkg-deb", "--root-owner-group", f"-Z{how}", "--build", str(tree), str(work / "deb")]
            if subprocess.run(argv, check=False, capture_output=True).returncode == 0:
                yield (work / "deb").read_bytes()
    image = (tree / PLACE / "a.ko").read_bytes()
    yield hand.deb_of({f"{PLACE}/a.ko": image, f"{PLACE}/b.ko": image[:200], "usr/share/doc/\\x": b"x"})
    kinds = [(b"5", ""), (b"1", f"{PLACE}/a.ko"), (b"2", "a.ko"), (b"3", ""), (b"6", "")]
    odd = [(hand.tar_info(f"./{PLACE}/a.ko"), image), (hand.tar_info("x/" * 80 + "long"), b"1")]
    odd += [(hand.tar_info(f"./n{number}", type, target), b"") for number, (type, target) in enumerate(kinds)]
    yield hand.deb(hand.tar(odd))
    yield hand.deb(hand.tar(odd[:1], tarfile.USTAR_FORMAT))
    large = hand.tar([(hand.tar_info(f"./{PLACE}/a.ko"), image + bytes(LARGE)), (hand.tar_info("x"), bytes(LARGE))])
    summed = hand.control(sums={f"{PLACE}/a.ko": image + bytes(LARGE), "\\x": b"", "gone": b""})
    yield hand.deb(gzip.compress(large, mtime=0), name=b"data.tar.gz", control_tar=summed)
    yield hand.deb(large[: 3 * 512] + b"behind" * 99)
    yield hand.deb(gzip.compress(large[:999], mtime=0) + gzip.compress(large[999:], mtime=0), name=b"data.tar.gz")
    yield hand.deb(b"", name=b"data.tar.xz")
    data = hand.tar(odd)
    yield hand.deb(wrapped.xz(data, Random(1)), name=b"data.tar.xz")  # noqa: S311  as above
    yield hand.deb(bz2.compress(data), name=b"data.tar.bz2")
    yield hand.deb(lzma.compress(data, lzma.FORMAT_ALONE), name=b"data.tar.lzma")
    yield hand.deb(data) + hand.ar_header(b"_gpg", b"4") + b"sign"
    yield hand.deb(data) + hand.ar_header(b"more", b"4") + b"more"
    much = lzma.compress(hand.control(control=hand.CONTROL + b"X: y\n" * 500_000))
    yield hand.ar([(b"debian-binary", b"2.0\n"), (b"control.tar.xz", much), (b"data.tar", data)])
    yield hand.deb(data, control_tar=hand.tar([(hand.tar_info("./other"), b"x")]))


_MAKERS: dict[str, Callable[[Path, Path], Iterator[bytes]]] = {
    "module": of_modules,
    "verifier": of_verifier,
    "compression": of_compression,
    "signature": of_signatures,
    "receipt": of_receipts,
    "rpm": of_rpms,
    "deb": of_debs,
}
