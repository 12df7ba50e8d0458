"""What is done with one input, reader by reader, and what must hold whatever the input is.

An input that a reader refuses raises one of the target's declared errors.  Everything else that is raised is a
finding, an AssertionError among them: that is what two ways to the same fact do not agree on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from mmap import mmap
from typing import NamedTuple
from zlib import crc32

from pkghook.chain import native
from pkghook.errors import InputError, ModuleError, ReceiptError
from pkghook.judge import receipt
from pkghook.ko import codec, interface, look, pkcs7, record, second, signature, symbols, wrapping
from pkghook.ko.compare import compare, judge_recorded
from pkghook.ko.elf import Elf, parse
from pkghook.ko.facts import facts
from pkghook.ko.file import BytesImage, Window, unwrap
from pkghook.ko.match import Fault
from pkghook.ko.plan import DEBUG_ONLY, Drop, Plan, plan
from pkghook.ko.prove import prove
from pkghook.ko.record import Record, Recorded
from pkghook.model import Compression, Looked
from pkghook.sources import packages
from pkghook.stories.belt import Answer, Belt, Stretch, Task, _answer
from pkghook.stories.passing import Pass
from tests import loader

NAME = "lib/modules/6.1.0/kernel/demo.ko"
LENGTH = struct.Struct("<I")  # before the first of two parts of an input
UNFOLDED = 1 << 20  # bytes that an input may unfold to, beside SHARE times its own size; as --max-module-size does
SHARE = 4
TRAILERS = ((b"", b""), (b"signature", b"signature"), (b"signature", b""), (b"signature", b"another"))
LISTED = symbols.parse(b"__UNIQUE_ID_*\n__crc_*\ncount*\n", "list")


class Target(NamedTuple):
    """One reader: its runs in full, what it is fed with, the errors it may raise, the modules whose branches count."""

    number: int
    run: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]
    readers: tuple[str, ...]
    longest: int = 1 << 15  # bytes of an input


def joined(first: bytes, second: bytes) -> bytes:
    """An input of two parts."""
    return LENGTH.pack(len(first)) + first + second


def parts(data: bytes) -> tuple[bytes, bytes]:
    """The two parts of an input; whatever it is."""
    if len(data) < LENGTH.size:
        return data, b""
    (length,) = LENGTH.unpack_from(data)
    return data[LENGTH.size : LENGTH.size + length], data[LENGTH.size + length :]


def limit_of(data: bytes) -> int:
    """Bytes that an input may unfold to."""
    return UNFOLDED + SHARE * len(data)


# --- modules ---------------------------------------------------------------------------------------------------------


def read_module(data: bytes) -> None:
    """All that is read of a module, by headers and by tables; what is planned is what would be written."""
    image = BytesImage(data)
    ask = look.Ask(
        tables=crc32(data) % 4 > 0, interface=True, second=crc32(data) % 8 > 0, digests=True, limit=limit_of(data)
    )
    seen = look.look_at_image(image, "demo.ko", Looked(NAME, "6.1.0"), ask)
    assert seen.image_size or seen.findings
    elf = parse(image)
    second.check(elf)
    drop = drop_for(data)
    planned = plan(elf, drop)
    interface.interface(elf)
    if planned.expected <= limit_of(data):
        pieces = [bytes(memoryview(piece).cast("B")) for piece in native.render(elf, planned)]
        assert sum(map(len, pieces)) == planned.expected, "planned and written sizes differ"


def drop_for(data: bytes) -> Drop:
    """What may go beyond debug information; the same for the same input."""
    which = crc32(data) % 8
    return {1: Drop(LISTED, labels=True), 2: Drop(labels=True)}.get(which, DEBUG_ONLY)


# --- the verifier ----------------------------------------------------------------------------------------------------


def verify(data: bytes) -> None:
    """A module and what it became: never an exception from `prove`, and two other judges agree where it accepts."""
    first, then = parts(data)
    before = parse(BytesImage(first))
    drop = drop_for(data)
    planned = plan(before, drop)
    after = parse(BytesImage(then))
    found = prove(before, after, drop)
    turn = crc32(data) >> 8  # what costs as much again is done with some of them, the same each time
    if turn % 8 == 0:
        itself = prove(before, parse(BytesImage(first)), stripped=False)
        assert not itself, ("a module is not itself", itself)
    if turn % 16 == 1:
        assert found == prove(parse(BytesImage(first)), parse(BytesImage(then)), drop), (
            "another verdict the second time"
        )
    if turn % 4 == 2:
        prove(before, after, drop, debuglink=True, stripped=False)
    if drop is DEBUG_ONLY:
        agreed(first, then, found)
    if not found or turn % 16 == 3:
        told = by_record(data, before, planned, after)
        assert found or drop is not DEBUG_ONLY or not told, ("the record differs", told)


def by_record(data: bytes, before: Elf, planned: Plan, after: Elf) -> tuple[Fault, ...]:
    """What the other verifier says, which has digests of the module before."""
    trailer, now = TRAILERS[crc32(data) % len(TRAILERS)]
    recorded = facts(before, planned, trailer)
    judge_recorded(Record([]), (NAME,), None, lambda: recorded)
    known = Record([Recorded(NAME, recorded)])
    judge_recorded(known, (NAME,), None, lambda: facts(after, plan(after), now))
    return compare(recorded, facts(after, plan(after)))


def agreed(first: bytes, then: bytes, found: tuple[Fault, ...]) -> None:
    """Where the verifier accepts, the second opinion does."""
    if not found:
        assert loader.Original(first).same(then), "accepted, but not by the second opinion"


# --- wrappings -------------------------------------------------------------------------------------------------------


def decompress(data: bytes) -> None:
    """A compressed module: what is accepted unfolds to the same by every way, within the limit."""
    how = codec.sniff(data[: codec.MAGIC_SIZE])
    limit = limit_of(data)
    first = codec.first_bytes(data, how)
    image, end = codec.unfold(data, how, limit)
    assert len(image) <= limit
    assert image.startswith(first)
    if how is not Compression.NONE:
        list(wrapping.judge(wrapping.read(data, how, end), NAME, "6.1.0"))
    if crc32(data) % 8 == 0:
        checked(data[:end], image, how)
    assert codec.decompress(data, how, limit) == image, "two images"
    unwrap(BytesImage(data), f"demo.ko{how.suffix}", limit=limit, look=True)
    if len(image) > 1:
        refused(lambda: codec.decompress(data, how, len(image) - 1), "too-large")
    unwrap(BytesImage(data), "demo" if crc32(data) % 2 else "demo.ko.xz", limit=limit)


def refused(call: Callable[[], object], id: str) -> None:
    """It must be, for this reason."""
    said = complaint(call)
    assert said.startswith(id), f"not refused as {id}: {said}"


def complaint(call: Callable[[], object]) -> str:
    """What a call is refused with, "" if it is not."""
    try:
        call()
    except ModuleError as error:
        return str(error)
    return ""


def checked(written: bytes, image: bytes, how: Compression) -> None:
    """The proof of what was written, on what somebody wrote; and on what we write."""
    codec.check(codec.compress(image, how), image, how)
    assert "differs" not in complaint(lambda: codec.check(written, image, how))
    refused(lambda: codec.check(written, image[:-1] + b"?!", how), "recompression-mismatch")


def read_signature(data: bytes) -> None:
    """A signed module and certificates that its signature may be by."""
    certificates, module = parts(data)
    known = pkcs7.keys(certificates)
    file = unwrap(BytesImage(module), "", limit=limit_of(data))
    if file.signature:
        found = file.signature
        signature.describe(found)
        assert found.offset + found.size == file.file_size == file.image.size + len(file.trailer)
        start = found.signer_len + found.key_id_len
        message = file.trailer[start : start + found.sig_len]
        ask = look.Ask(limit=limit_of(data), keys=known, tables=False)
        look.look_at_image(BytesImage(module), "", Looked(NAME, ""), ask)
        pkcs7.refuted(message, file.image, known)
        pkcs7.signers(message)


# --- files of our own ------------------------------------------------------------------------------------------------


def read_receipt(data: bytes) -> None:
    """A receipt or a record: what is read is written as it was read, and read again."""
    if b'"pkghook record"' in data[:200]:
        entries = record.load(data, "record").entries
        assert record.load(record.dump(entries), "again").entries == entries, "another record is read"
        known = Record(entries)
        assert all(known.find(entry.path) for entry in entries)
        known.unmatched([NAME])
        return
    found = receipt.load(data, "receipt")
    written = receipt.dump(found)
    assert receipt.load(written, "again") == found, "what was written is read as another receipt"
    assert receipt.dump(receipt.load(written, "again")) == written


# --- packages --------------------------------------------------------------------------------------------------------


class Here(Belt):
    """The belt that carries a package's modules, without processes: each is looked at when it comes."""

    def __init__(self, ask: look.Ask) -> None:
        self.ask = ask

    def put(
        self, task: Task | Stretch, size: int, fill: Callable[[memoryview], object], done: Callable[[Answer], None]
    ) -> None:
        """The room is as a worker has it."""
        assert isinstance(task, Task), "the package's own digests are made at once"
        pages = mmap(-1, size or 1)  # closed when nobody has a view of it any more
        fill(memoryview(pages)[:size])
        done(_answer(task, Window(pages, 0, size), [(0, size)], self.ask))

    def finish(self) -> None:
        """Nothing is waited for."""


def read_package(data: bytes) -> None:
    """A whole package, and every module in it looked at as `pkghook check` does; mostly by our own readers alone."""
    before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = before if crc32(data) % 64 == 0 else "/nonexistent"  # decompressors take longer to start
    fd = os.memfd_create("package")
    try:
        os.write(fd, data)
        with packages.open_package(f"/proc/self/fd/{fd}") as package:
            ask = look.Ask(limit=limit_of(data), tables=False, digests=True)
            course = Pass("package", ask, Here(ask), include_debug=False)
            for member, reader in package.members():
                course.take(member, reader)
            course.finish()
            course.entries()
            course.findings()
            assert package.facts.members >= 0
            assert package.findings is not None
    finally:
        os.environ["PATH"] = before  # tests have others behind them
        os.close(fd)


_ELF = ("pkghook.ko.elf", "pkghook.ko.symtab", "pkghook.ko.reloc", "pkghook.ko.plan", "pkghook.ko.debugset")
_PACKAGE = ("pkghook.sources.payload", "pkghook.sources.inflate", "pkghook.sources.member", "pkghook.sources.ledger")

TARGETS = {
    "module": Target(
        500_000,
        read_module,
        (ModuleError,),
        (*_ELF, "pkghook.ko.interface", "pkghook.ko.exports", "pkghook.ko.look", "pkghook.ko.second"),
    ),
    "verifier": Target(
        500_000,
        verify,
        (ModuleError,),
        ("pkghook.ko.prove", "pkghook.ko.match", "pkghook.ko.facts", "pkghook.ko.compare"),
        longest=1 << 16,
    ),
    "compression": Target(200_000, decompress, (ModuleError,), ("pkghook.ko.codec", "pkghook.ko.wrapping")),
    "signature": Target(200_000, read_signature, (ModuleError,), ("pkghook.ko.signature", "pkghook.ko.pkcs7")),
    "receipt": Target(
        100_000,
        read_receipt,
        (ReceiptError,),
        ("pkghook.judge.receipt", "pkghook.judge.totals", "pkghook.fields", "pkghook.ko.record"),
    ),
    "rpm": Target(
        50_000,
        read_package,
        (InputError,),
        ("pkghook.sources.rpm", "pkghook.sources.rpmheader", "pkghook.sources.newc", *_PACKAGE),
    ),
    "deb": Target(
        50_000,
        read_package,
        (InputError,),
        ("pkghook.sources.deb", "pkghook.sources.ar", "pkghook.sources.tar", *_PACKAGE),
    ),
}
