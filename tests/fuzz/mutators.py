"""Changes that know the format: what a damaged checksum would hide from the readers behind it is reached by these."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.fuzz import packaged, signed, texts, wrapped
from tests.fuzz.raw import FAILURES, splice
from tests.fuzz.targets import joined, parts
from tests.mutants.damages import one
from tests.mutants.harmless import relaid
from tests.surgery import Patient, native_strip

Mutator = Callable[[bytes, Random], bytes]
HEAD = 64
MOST = 1 << 12  # bytes of alignment


def module(data: bytes, random: Random) -> bytes:
    """Damages of an ELF file; now and then it is laid out otherwise, or stripped."""
    if not data.startswith(b"\x7fELF") or len(data) < HEAD or random.random() < 0.1:
        return splice(data, random)
    try:
        choice = random.random()
        if choice < 0.03 and is_compact(data):
            return relaid(data, random)[0]
        if choice < 0.05:
            return native_strip(data)
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            data = one(data, random)[0]
            if len(data) < HEAD:
                break
    except FAILURES:
        return splice(data, random)
    return data


def is_compact(data: bytes) -> bool:
    """Whether no section asks for so much room before it that putting the module together again takes all memory."""
    patient = Patient(data)
    return all(patient.section(index, "align") <= MOST for index in range(patient.header("shnum")))


def pair(data: bytes, random: Random) -> bytes:
    """What a module became is changed, seldom the module itself; or it becomes what we make of it."""
    before, after = parts(data)
    choice = random.random()
    if choice < 0.75:
        return joined(before, module(after, random))
    if choice < 0.85:
        before = module(before, random)
        return joined(before, after)
    if choice < 0.9:
        return joined(before, before)
    try:
        if choice < 0.97:
            before = module(before, random)
        return joined(before, native_strip(before))
    except FAILURES:
        return joined(before, after)


MUTATORS: dict[str, Mutator] = {
    "module": module,
    "verifier": pair,
    "compression": wrapped.change,
    "signature": signed.change,
    "receipt": texts.change,
    "rpm": packaged.change_rpm,
    "deb": packaged.change_deb,
}
