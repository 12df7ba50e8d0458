"""The debug set: which sections stripping removes. One list, as data.

Definition: the loader contract, "Proof obligations".  Only sections without SHF_ALLOC; their
relocation sections and the groups that they leave empty go with them.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from pkghook.errors import ModuleError
from pkghook.ko.elf import EM_MIPS, SHF_ALLOC, SHT_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.ko.elf import Elf, Section

_NAMES = re.compile(
    rb"\.debug_.*|\.zdebug_.*|\.line|\.stab|\.stab\..*|\.stabstr|\.gdb_index"
    rb"|\.gnu\.linkonce\.wi\..*|\.gnu\.debuglto_\.debug_.*",
    re.DOTALL,
)
_SHT_MIPS_DWARF = 0x7000001E
_SHT_LLVM_ADDRSIG = 0x6FFF4C03
# Kernels before 4.9 unwind with .debug_frame on these (EM_ARC, EM_ARC_COMPACT, EM_ARC_COMPACT2).
_ARC = frozenset({45, 93, 195})


class _Known(dict[bytes, bool]):
    """Whether each name is one of the debug set's: a tree has the same few hundred names in every module."""

    def __missing__(self, name: bytes) -> bool:
        """Looked at when first met; a hostile tree must not fill the memory with names."""
        if len(self) >= _MOST_NAMES:
            self.clear()
        found = self[name] = _NAMES.fullmatch(name) is not None
        return found


_MOST_NAMES = 1 << 12
_KNOWN = _Known()


def is_debug(section: Section, machine: int) -> bool:
    """True if the section itself, by name or type, belongs to the debug set."""
    return _is_debug(section.name, section.type, section.flags, machine)


def _is_debug(name: bytes, kind: int, flags: int, machine: int) -> bool:
    if flags & SHF_ALLOC:
        return False
    if _KNOWN[name]:
        return not (machine in _ARC and name == b".debug_frame")
    return kind == _SHT_MIPS_DWARF and machine == EM_MIPS


def is_optional(section: Section) -> bool:
    """True for what may go or stay: .llvm_addrsig, whose symbol numbers any strip makes stale."""
    return section.type == _SHT_LLVM_ADDRSIG and not section.flags & SHF_ALLOC


def optional_sections(elf: Elf) -> list[int]:
    """Indices of what may go or stay."""
    if _SHT_LLVM_ADDRSIG not in elf.columns.type:
        return []
    return [s.index for s in elf.sections if is_optional(s)]


def debug_sections(elf: Elf) -> frozenset[int]:
    """Indices of the sections of the debug set, their relocation sections and emptied groups."""
    found = elf.cache.get("debug")
    if found is None:
        found = elf.cache["debug"] = _find(elf)
    return found  # type: ignore[return-value]


def is_unstripped(elf: Elf) -> bool:
    """True if at least one section of the debug set is not empty."""
    return any(with_contents(elf))  # the first will do


def with_contents(elf: Elf) -> Iterator[int]:
    """Indices, in no order, of the sections that are of the debug set themselves, and not empty. Never 0."""
    names, kinds, flags, sizes = elf.columns.name, elf.columns.type, elf.columns.flags, elf.columns.size
    return (i for i in debug_sections(elf) if sizes[i] and _is_debug(names[i], kinds[i], flags[i], elf.machine))


def debug_bytes(elf: Elf) -> int:
    """Bytes of the sections of the debug set, as they lie in the file."""
    return sum(elf.columns.size[i] for i in debug_sections(elf))


def _find(elf: Elf) -> frozenset[int]:
    names, kinds, flags = elf.columns[:3]
    # By name first, in one pass; is_debug knows the exceptions.
    going = {i for i, known in enumerate(map(_KNOWN.__getitem__, names)) if known and not flags[i] & SHF_ALLOC}
    if elf.machine in _ARC or elf.machine == EM_MIPS:
        going = {s.index for s in elf.sections if s.index and is_debug(s, elf.machine)}
    if not going and SHT_GROUP not in kinds:
        return frozenset()
    infos = elf.columns.info
    going.update([i for i in elf.relocating if infos[i] in going and not flags[i] & SHF_ALLOC])
    if SHT_GROUP in kinds:
        going.update(_emptied_groups(elf, going))
    return frozenset(going)


def _emptied_groups(elf: Elf, going: set[int]) -> list[int]:
    found = []
    groups = [section for section in elf.sections if section.type == SHT_GROUP]
    if sum(section.size for section in groups) > elf.image.size:  # they share their bytes
        raise ModuleError("bad-group", groups=len(groups), size=elf.image.size)
    for section in groups:
        if not section.flags & SHF_ALLOC:
            members = group_members(elf, section)
            if members and going.issuperset(members):
                found.append(section.index)
    return found


def group_members(elf: Elf, section: Section) -> array[int]:
    """Section indices in a SHT_GROUP section, without its flag word. Raises ModuleError bad-group."""
    data = elf.read(section)
    if len(data) < 4 or len(data) % 4:
        raise ModuleError("bad-group", section=section.index, bytes=len(data))
    words = array("I", data)
    if elf.shape.foreign:
        words.byteswap()
    members = words[1:]
    if members and not max(members) < len(elf.sections):
        raise ModuleError("bad-group", section=section.index, member=max(members), sections=len(elf.sections))
    return members
