"""Inputs beyond a fuzzer's reach: one dimension grown until what is not linear, or not bounded, shows.

The limits are those of fuzzing: 5 seconds, 4 times the input and 64 MiB.  Each of the first ones went far beyond.
"""

from __future__ import annotations

import gzip
import json
import lzma
import resource
import struct
from collections.abc import Callable, Iterator

import pytest
import zstandard

from pkghook.judge import receipt
from pkghook.ko.elf import KEPT, _many
from pkghook.ko.facts import facts
from pkghook.ko.plan import Drop, plan
from pkghook.ko.prove import prove
from tests import packages_by_hand as hand
from tests import receipts, shapes
from tests.fuzz.oracle import Cost, Meter, check
from tests.fuzz.packaged import summed
from tests.fuzz.seeds import trailer
from tests.fuzz.targets import TARGETS, joined
from tests.messages import attribute, item, message
from tests.packages_by_hand import CONTROL
from tests.shapes import ALLOC, AMD64, GROUP, LOCAL, WRITE, Rel, Sec, Sym
from tests.surgery import Patient, elf, native_strip

ADDRESSES = 4 << 30  # bytes: an input that takes all memory must not take the machine with it
RSA = bytes.fromhex("06092a864886f70d010101050003")  # how a key begins
IMAGE = b"\x7fELF" + bytes(60)


@pytest.fixture(autouse=True)
def _not_all_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def cost(name: str, data: bytes) -> Cost:
    """Of one input, accepted or refused."""
    target = TARGETS[name]

    def run() -> None:
        try:
            target.run(data)
        except target.errors as error:
            str(error)

    return Meter().cost(run)


def section_names(count: int, length: int) -> bytes:
    """Sections whose names are ends of one long string."""
    patient = Patient(shapes.many_sections(count))
    which = patient.header("shstrndx")
    old = patient.contents(which)
    names, place = patient.names, len(patient.data)
    patient.data += old + b"n" * length + b"\0"
    patient.set_section(which, offset=place, size=len(old) + length + 1)
    for index, name in enumerate(names):
        if name.startswith(".text.f"):
            patient.set_section(index, name=len(old) + index % length)
    return bytes(patient)


def symbol_names(count: int, length: int, place: str, *, livepatch: bool = False) -> bytes:
    """Symbols whose names are ends of long strings, with one NUL in each so many bytes."""
    long = tuple(Sym(f"{number:03}" + "x" * (length - 3), place, bind=LOCAL) for number in range(20))
    short = tuple(Sym(f"s{number}", shapes.LIVEPATCH if livepatch else place, bind=LOCAL) for number in range(count))
    patient = Patient(shapes.module(AMD64, also=(*long, *short)))
    begin, first = patient.symbol(patient.row(long[0].name), "name"), patient.row("s0")
    for number in range(count):
        patient.set_symbol(first + number, name=begin + number % length)
    return bytes(patient)


def groups(count: int, members: int) -> bytes:
    """Groups that all lie in the same bytes."""
    body = Sec(".body", struct.pack(f"<{members + 1}I", *[1] * (members + 1)))
    every = [Sec(".group", type=GROUP, align=4, entsize=4, info="helper", key=f"g{number}") for number in range(count)]
    patient = Patient(shapes.module(AMD64, body, *every))
    where = {field: patient.section(".body", field) for field in ("offset", "size")}
    for index in range(patient.header("shnum")):
        if patient.section(index, "type") == GROUP:
            patient.set_section(index, **where)
    return bytes(patient)


def exports(count: int, length: int) -> bytes:
    """Exports that all have one long name."""
    rels = tuple(
        Rel(12 * number + 4 * field, name) for number in range(count) for field, name in enumerate(("helper", "n"))
    )
    table = Sec("__ksymtab", bytes(12 * count), ALLOC | WRITE, align=4, relocations=rels)
    strings = Sec("__ksymtab_strings", b"n" * length + b"\0", ALLOC)
    return shapes.stripped(AMD64, strings, table, also=(Sym("n", "__ksymtab_strings", bind=LOCAL),))


def told(**members: object) -> bytes:
    """A receipt with other members."""
    return json.dumps(json.loads(receipt.dump(receipts.sample())) | members, separators=(",", ":")).encode()


def nested(depth: int) -> bytes:
    """A message of sequences in sequences."""
    data = b"\5\0"
    for _ in range(depth):
        data = b"\x30\x84" + len(data).to_bytes(4, "big") + data
    return data


def deb(control: dict[str, bytes]) -> bytes:
    """A package with this control data."""
    data = hand.tar((hand.tar_info(name), content) for name, content in control.items())
    packed = lzma.compress(data, preset=0)
    return hand.ar([(b"debian-binary", b"2.0\n"), (b"control.tar.xz", packed), (b"data.tar", hand.tar([]))])


def sums(count: int) -> bytes:
    """A list of so many."""
    return b"".join(b"d41d8cd98f00b204e9800998ecf8427e  a%07d\n" % number for number in range(count))


def members(count: int) -> bytes:
    """A tar archive of empty files."""
    blocks: list[bytes] = []
    for number in range(count):
        block = bytearray(hand.tar([(hand.tar_info("m0000000"), b"")])[:512]) if not number else bytearray(blocks[0])
        block[:8] = b"m%07d" % number
        blocks.append(summed(block))
    return b"".join(blocks) + bytes(1024)


def both(data: bytes) -> bytes:
    """A module and what it becomes; where it is refused, itself."""
    return joined(data, data)


LARGE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "section names": ("module", lambda: section_names(4000, 500_000)),
    "section names, verified": ("verifier", lambda: both(section_names(4000, 500_000))),
    "symbol names, of all bytes": ("verifier", lambda: both(symbol_names(20_000, 500_000, ".text"))),
    "symbol names that go": ("module", lambda: symbol_names(20_000, 4000, ".debug_info")),
    "livepatch symbols": ("verifier", lambda: both(symbol_names(40_000, 4000, ".text", livepatch=True))),
    "groups": ("module", lambda: groups(10_000, 100_000)),
    "groups, verified": ("verifier", lambda: joined(shapes.module(), groups(10_000, 100_000))),
    "exports": ("module", lambda: exports(5000, 1_000_000)),
    "fields that are wrong": ("receipt", lambda: told(entries=[[]] * 500_000)),
    "entries that are wrong": ("receipt", lambda: told(entries=[{"a": 1}] * 100_000)),
    "certificates": ("signature", lambda: joined(RSA * 200_000, IMAGE + trailer(message(b"s", attribute(b"d"))))),
    "a deep message": ("signature", lambda: joined(b"", IMAGE + trailer(nested(20_000)))),
    "a broad message": ("signature", lambda: joined(b"", IMAGE + trailer(item(0x30) * 100_000))),
    "a bomb of gzip": ("compression", lambda: gzip.compress(bytes(50 << 20))),
    "a bomb of xz": ("compression", lambda: lzma.compress(bytes(50 << 20), preset=0)),
    "a bomb of zstd": ("compression", lambda: zstandard.ZstdCompressor().compress(bytes(200 << 20))),
    "control data": ("deb", lambda: deb({"./control": CONTROL + b"X: y\n" * 5_000_000})),
    "control data that is read": ("deb", lambda: deb({"./control": CONTROL + b"X: y\n" * 400_000})),
    "sums": ("deb", lambda: deb({"./control": CONTROL, "./md5sums": sums(1_000_000)})),
    "sums that are read": ("deb", lambda: deb({"./control": CONTROL, "./md5sums": sums(190_000)})),
    "members": ("deb", lambda: hand.deb(gzip.compress(members(200_000), 1), name=b"data.tar.gz")),
    "many sections": ("module", lambda: shapes.many_sections(20_000)),
}


@pytest.mark.parametrize("what", LARGE)
def test_no_hang_and_no_bounds_broken(what: str) -> None:
    name, make = LARGE[what]
    data = make()
    check(cost(name, data), len(data))


def test_nothing_is_remembered_of_large_tables() -> None:
    """The layout of 20,000 rows takes 7 MB, and each module could have another number of them."""
    data = shapes.many_sections(KEPT + 1)
    before = _many.cache_info().currsize
    assert elf(data).count == KEPT + 1
    assert _many.cache_info().currsize == before


def test_symbols_that_share_long_names() -> None:
    data, less = symbol_names(40_000, 4000, ".text"), symbol_names(39_990, 4000, ".text")
    before, after = elf(data), elf(less)
    check(Meter().cost(lambda: prove(before, after, Drop(labels=True))), len(data) + len(less))
    check(Meter().cost(lambda: facts(before, plan(before))), len(data))


def test_honest_modules_of_that_size_are_read() -> None:
    """What is refused above is names that are shared, not how many there are."""
    symbols = tuple(Sym(f"a_name_as_long_as_they_are_{number}", ".text", bind=LOCAL) for number in range(20_000))
    for data in (shapes.module(AMD64, also=symbols), shapes.many_sections(5000)):
        TARGETS["verifier"].run(joined(data, native_strip(data)))
        TARGETS["module"].run(data)
