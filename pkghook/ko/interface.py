"""What users of a module rely on: its `.modinfo`, what it exports and what it imports.

Only the sections that say so are read.  Sources: include/linux/moduleinfo.h, moduleparam.h and module.h for the
keys; struct modversion_info and check_version() in kernel/module/version.c for the imports; `exports` for the rest.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko.exports import bounded, exports, whole
from pkghook.model import Interface

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pkghook.ko.elf import Elf

OVERHEAD = 64  # bytes that Python needs for a text beside its characters
_ENTRY = 64  # bytes of a struct modversion_info: a long with the CRC, the rest for the name
_CRC = 0xFFFFFFFF


def interface(elf: Elf, *, with_imports: bool = True) -> Interface:
    """The interface of a module; `name` is "" where the module does not say it (kernels before 4.13).

    Raises ModuleError: bad-section (too large, or of a size that its entries do not make), and what `exports` raises.
    """
    known = _modinfo(elf)
    types = dict(_split(known.get(b"parmtype", ())))
    names = {*types, *(name for name, _ in _split(known.get(b"parm", ())))}
    return Interface(
        name=_first(known, b"name"),
        vermagic=_first(known, b"vermagic").strip(),
        license=_texts(known.get(b"license", ())),
        parameters=tuple((whole(name), whole(types.get(name, b""))) for name in sorted(names)),
        aliases=_texts(known.get(b"alias", ())),
        depends=_texts(name for each in known.get(b"depends", ()) for name in each.split(b",") if name),
        exports=exports(elf),
        imports=_imports(elf) if with_imports else (),
        softdeps=_texts(_soft(known)),
    )


def contents(elf: Elf, name: bytes) -> bytes:
    """The bytes of the first section of this name, b"" if there is none. Raises ModuleError bad-section, truncated."""
    return bounded(elf, elf.columns.name.index(name)) if name in elf.columns.name else b""


def weight(interface: Interface) -> int:
    """About how many bytes of memory an interface takes."""
    texts = [
        *interface.aliases,
        *interface.depends,
        *interface.softdeps,
        *interface.license,
        interface.name,
        interface.vermagic,
    ]
    for pairs in (interface.parameters, interface.exports, interface.imports):
        texts += [text for pair in pairs for text in pair]
    return sum([OVERHEAD + len(text) for text in texts])


def _modinfo(elf: Elf) -> dict[bytes, list[bytes]]:
    """The values of each key in their order; what has no `=` is not for us, as for the kernel's get_modinfo()."""
    known: dict[bytes, list[bytes]] = {}
    for each in contents(elf, b".modinfo").split(b"\0"):
        key, equals, value = each.partition(b"=")
        if equals:
            known.setdefault(key, []).append(value)
    return known


def _soft(known: dict[bytes, list[bytes]]) -> Iterator[bytes]:
    """The names of `softdep` (MODULE_SOFTDEP("pre: a b post: c")) and `weakdep`, each with its kind before it."""
    for value in known.get(b"softdep", ()):
        kind = b""
        for word in value.split():
            if word in (b"pre:", b"post:"):
                kind = word
            elif kind:
                yield kind + b" " + word
    for value in known.get(b"weakdep", ()):
        yield from (b"weak: " + word for word in value.split())


def _first(known: dict[bytes, list[bytes]], key: bytes) -> str:
    """The value that the kernel takes: the first."""
    return whole(known[key][0]) if key in known else ""


def _texts(values: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(map(whole, sorted(set(values))))


def _split(values: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """`NAME:REST` of each."""
    return [(name, rest) for name, _, rest in (value.partition(b":") for value in values)]


def _imports(elf: Elf) -> tuple[tuple[str, str], ...]:
    """The symbols a module was built against, with their CRCs, from both tables where both are there.

    A name that does not fit into the old table stands in the new one alone (kernel 6.14 on).
    """
    found = {**_versions(elf), **_extended(elf)}
    return tuple((whole(name), f"{crc & _CRC:08x}") for name, crc in sorted(found.items()))


def _versions(elf: Elf) -> dict[bytes, int]:
    data = contents(elf, b"__versions")
    if len(data) % _ENTRY:
        raise ModuleError("bad-section", section="__versions", bytes=len(data), entry_size=_ENTRY)
    long = "Q" if elf.is64 else "I"
    rows = Struct(f"{elf.shape.order}{long}{_ENTRY - elf.shape.word}s").iter_unpack(data)
    return {name.partition(b"\0")[0]: crc for crc, name in rows}


def _extended(elf: Elf) -> dict[bytes, int]:
    crcs, names = contents(elf, b"__version_ext_crcs"), contents(elf, b"__version_ext_names").split(b"\0")
    if len(crcs) % 4 or len(crcs) // 4 > len(names):
        raise ModuleError("bad-section", section="__version_ext_crcs", bytes=len(crcs), names=len(names))
    values = [crc for (crc,) in Struct(f"{elf.shape.order}I").iter_unpack(crcs)]
    return dict(zip(names, values, strict=False))
