"""What a guest's console says about one module: loaded, refused by the driver, refused by the loader, crashed."""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """How loading a module ended."""

    OK = "ok"  # loaded, its init function content
    INIT = "init"  # loaded and relocated; its init function returned an error
    FAIL = "fail"  # the module loader refused it
    CRASH = "crash"  # oops, panic or hang
    NEED = "need"  # refused because a module it needs is of kind `init`
    SKIP = "skip"  # not tried: what it needs stops the guest


class Result(NamedTuple):
    """What became of one module."""

    kind: Kind
    word: str  # OK, the errno's name, OOPS, PANIC, HANG
    detail: str = ""  # the kernel's messages that matter


# Messages of kernel/module/*.c, arch/*/kernel/module.c, kernel/bpf/btf.c and of what goes wrong at large.
MATTERS = re.compile(
    r"Invalid module format|[Uu]nknown symbol|disagrees about version|version magic"
    r"|module verification failed|is rejected|[Oo]verflow in relocation|BTF"
    r"|Invalid relocation|Skipping invalid reloc|[Uu]nknown rela|x86/modules|livepatch"
    r"|no symbols \(stripped|has no symbols|has no this_module|missing its ?signature"
    r"|No module found|doesn't have|ELF|decompress"
    r"|BUG|Oops|general protection|unable to handle|Kernel panic|WARNING:"
    r"|invalid opcode|failed to validate|has (invalid|too)|missing from ORC"
)
OOPS = re.compile(r"Oops:|^BUG: |kernel BUG at|general protection fault|^invalid opcode:")
NOISE = re.compile(r" |calling |initcall |RIP:")
SHOWN = 8


def detail(lines: Sequence[str]) -> str:
    """The messages that matter, each once with its number, in one line."""
    seen = Counter(line for line in lines if MATTERS.search(line) and not NOISE.match(line))
    short = [line + (f" (x{number})" if number > 1 else "") for line, number in seen.items()]
    more = [f"... {len(short) - SHOWN} more"] if len(short) > SHOWN else []
    return " | ".join([*short[:SHOWN], *more]).replace("\t", " ")


def judge(name: str, status: int, lines: Sequence[str]) -> Result:
    """One module's result from the loader program's exit status and the messages in between."""
    called = [line for line in lines if re.match(rf"(calling|initcall) .*\[{re.escape(name)}\]", line)]
    returned = re.search(r" returned -(\d+) after", called[-1]) if called else None
    # An exit status has eight bits, an errno may have more: the kernel's own words go first.
    number = int(returned[1]) if status and returned else status
    said = detail(lines)
    if (status > 128 + 4 and not returned) or any(OOPS.search(line) for line in lines):
        return Result(Kind.CRASH, "OOPS", said)
    if status == 0:
        return Result(Kind.OK, "OK", said)
    return Result(Kind.INIT if called else Kind.FAIL, errno.errorcode.get(number, f"E{number}"), said)
