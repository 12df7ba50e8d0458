"""What the running kernel knows about the modules that it has loaded."""

from __future__ import annotations

import gzip
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

Symbol = tuple[str, str]  # name, type letter as nm(1) has it


class Known(NamedTuple):
    """The kernel's view of one module."""

    symbols: Counter[Symbol]  # /proc/kallsyms
    sections: int  # /sys/module/NAME/sections
    btf: bool  # /sys/kernel/btf
    taint: str  # /proc/modules
    boot: int  # 1: as it is; 2: in the boot where others went without their init functions


class DumpError(Exception):
    """The guest's dump did not arrive whole."""


def read(path: Path, boot: int) -> dict[str, Known]:
    """The modules of one dump. DumpError if it is cut short."""
    parts = _parts(path)
    symbols: dict[str, Counter[Symbol]] = defaultdict(Counter)
    for line in parts["kallsyms"]:
        fields = line.split()  # address, type, name, [module]
        if len(fields) == 4:
            symbols[fields[3].strip("[]")][fields[2], fields[1]] += 1
    sections = dict(line.split() for line in parts["sections"])
    known = {}
    for fields in map(str.split, parts["modules"]):
        name, taint = fields[0], fields[6].strip("()") if len(fields) > 6 else ""
        known[name] = Known(symbols[name], int(sections.get(name, 0)), name in parts["btf"], taint, boot)
    return known


def _parts(path: Path) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = defaultdict(list)
    part = ""
    try:
        with gzip.open(path, "rt", errors="replace") as file:
            for line in file:
                if line.startswith("@"):
                    part = line[1:].strip()
                    parts[part] = []
                else:
                    parts[part].append(line.rstrip("\n"))
    except (OSError, EOFError) as error:
        raise DumpError(f"the dump cannot be read: {error}") from None
    if "end" not in parts:
        raise DumpError("the dump is cut short")
    return parts
