"""Signatures of modules: the trailer's fields, and the tree of DER items in the message."""

from __future__ import annotations

import struct
from random import Random

from tests.fuzz.raw import FAILURES, number, rearrange, splice
from tests.fuzz.targets import joined, parts

MARKER = b"~Module signature appended~\n"
DESCRIPTOR = struct.Struct(">5B3xI")
BITS = (8, 8, 8, 8, 8, 32)
CONSTRUCTED = 0x20
DEPTH = 12

Tree = tuple[int, "list[Tree] | bytes"]


def change(data: bytes, random: Random) -> bytes:
    """Something in the message, in the descriptor, in the module or in the certificates."""
    certificates, module = parts(data)
    try:
        match random.randrange(8):
            case 0:
                return joined(splice(certificates, random), module)
            case 1:
                return joined(certificates, splice(module, random))
            case 2:
                return joined(certificates, fields_changed(module, random))
            case _:
                return joined(certificates, message_changed(module, random))
    except FAILURES:
        return splice(data, random)


def taken_apart(module: bytes) -> tuple[bytes, tuple[int, ...], bytes]:
    """The module before the message, the descriptor's fields, the message."""
    assert module.endswith(MARKER)
    end = len(module) - len(MARKER) - DESCRIPTOR.size
    fields = DESCRIPTOR.unpack_from(module, end)
    assert 0 < fields[5] <= end
    return module[: end - fields[5]], fields, module[end - fields[5] : end]


def fields_changed(module: bytes, random: Random) -> bytes:
    """One field of the descriptor."""
    before, fields, message = taken_apart(module)
    which = random.randrange(len(fields))
    new = list(fields)
    new[which] = number(fields[which], BITS[which], random)
    return before + message + DESCRIPTOR.pack(*new) + MARKER


def message_changed(module: bytes, random: Random) -> bytes:
    """One item of the message, with all lengths around it right; or plain bytes of it."""
    before, fields, message = taken_apart(module)
    if random.random() < 0.2:
        message = splice(message, random)
    else:
        tree = read(message)
        for _ in range(random.choice([1, 1, 2])):
            tree = item_changed(tree, random)
        message = b"".join(map(write, tree))
    return before + message + DESCRIPTOR.pack(*fields[:5], len(message)) + MARKER


def read(data: bytes, depth: int = 0) -> list[Tree]:
    """The items that `data` consists of; ValueError where it is none."""
    found: list[Tree] = []
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, at = int.from_bytes(data[at : at + count], "big"), at + count
        value = data[at : at + size]
        if len(value) < size:
            raise ValueError("cut short")
        deeper = tag & CONSTRUCTED and depth < DEPTH
        found.append((tag, read(value, depth + 1) if deeper else value))
        at += size
    return found


def write(tree: Tree) -> bytes:
    """An item with its length in the shortest form."""
    tag, value = tree
    data = value if isinstance(value, bytes) else b"".join(map(write, value))
    if len(data) < 0x80:
        return bytes([tag, len(data)]) + data
    size = len(data).to_bytes(-(-len(data).bit_length() // 8), "big")
    return bytes([tag, 0x80 | len(size)]) + size + data


def item_changed(items: list[Tree], random: Random) -> list[Tree]:
    """One item somewhere below: another tag, other bytes, gone, doubled, moved."""
    items = list(items)
    at = random.randrange(len(items))
    tag, value = items[at]
    if not isinstance(value, bytes) and value and random.random() < 0.85:
        items[at] = (tag, item_changed(value, random))
        return items
    match random.randrange(6):
        case 0:
            items[at] = (random.choice([tag ^ 0x20, 0x30, 0x31, 0x02, 0x04, 0x06, 0xA0, random.randrange(256)]), value)
        case 1 | 2 | 3:
            rearrange(items, at, random)
        case 4:
            items[at] = (tag, b"" if isinstance(value, bytes) else [])
        case _ if isinstance(value, bytes):
            items[at] = (tag, splice(value, random))
        case _:
            items[at] = (tag, b"".join(map(write, value))[: random.randrange(1, 20)])
    return items
