"""What a module says of itself in its .modinfo section: texts `key=value`, each ended by NUL.

Source: get_modinfo() in kernel/module/main.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.ko.match import text

if TYPE_CHECKING:
    from pkghook.ko.elf import Elf

_NAME = b".modinfo"


def value(elf: Elf, key: str) -> str:
    """The first value of `key`, "" where there is none."""
    if _NAME not in elf.columns.name:
        return ""
    start = key.encode() + b"="
    words = elf.read(elf.section(elf.columns.name.index(_NAME))).split(b"\0")
    return next((text(word.removeprefix(start)) for word in words if word.startswith(start)), "")


def kernel(elf: Elf) -> str:
    """The kernel release that the module was built for: the first word of its vermagic."""
    return value(elf, "vermagic").partition(" ")[0]
