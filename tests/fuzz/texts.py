"""Receipts and records: JSON of which a value somewhere is another."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from tests.fuzz.raw import FAILURES, splice

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**63 - 1, 10**30, 0.5, "", "a", "..", "/", "a/../b", "a\0b", "\ud800",
    "\udcff", "é", "00ff", "stripped", "failed", "kept", "error", [], [1], ["a", "b"], [["a", "b"]], {}, {"a": 1},
)  # fmt: skip
RAW = ("NaN", "Infinity", "-0", "1e999", "1" * 5000, "[" * 2000, '{"a":1,"a":2}', '"\\ud800"', '"\\x"', "\ufeff")
HOLE = "\x02hole\x02"


def change(data: bytes, random: Random) -> bytes:
    """A value replaced, moved, doubled or lost; or plain bytes."""
    if random.random() < 0.15:
        return splice(data, random)
    try:
        whole = json.loads(data)
        raw = ""
        for _ in range(random.choice([1, 1, 1, 2, 3])):
            if random.random() < 0.05:
                raw = random.choice(RAW)
                edit(whole, random, HOLE)
            else:
                edit(whole, random, random.choice(VALUES))
        text = json.dumps(whole, separators=(",", ":"), ensure_ascii=random.random() < 0.9)
        return text.replace(json.dumps(HOLE), raw).encode("utf-8", "surrogatepass")
    except (*FAILURES, RecursionError):
        return splice(data, random)


def edit(whole: Any, random: Random, value: Any) -> None:  # noqa: ANN401  any JSON
    """One change in place, anywhere in the tree."""
    holder = whole
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = random.choice(keys)
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.15:
            break
        holder = inner
    match random.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, inner)
        case 1 | 2 if isinstance(holder, dict):
            holder[random.choice(["path", "names", "findings", "x", "sizes", "debug_file", "reason"])] = value
        case 3:
            other = random.choice(keys)
            holder[key], holder[other] = holder[other], inner
        case 4 if isinstance(inner, int):
            holder[key] = inner + random.choice([-1, 1, 2**32])
        case 5 if isinstance(inner, str) and inner:
            at = random.randrange(len(inner))
            holder[key] = inner[:at] + random.choice(["", "/", "\0", "é", "\udc80", "zz"]) + inner[at + 1 :]
        case _:
            holder[key] = value
