"""One module file as it is: sizes, what stripping would free, what was lost; nothing is changed.

Two depths.  The headers alone tell whether a module is stripped, signed, compressed, and whether another tool
took away what the kernel needs: six short reads of a plain file.  `Ask.tables` adds the symbol table and the
relocations, as stripping would read them.  The bytes to be had are always those of `plan`, the size that the
native step writes, so an unstripped module has its tables read at either depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.findings import make
from pkghook.ko import debugset, machines, second
from pkghook.ko.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_RELA_LIVEPATCH, SHT_NOBITS, SHT_SYMTAB, parse
from pkghook.ko.file import load, unwrap
from pkghook.ko.measure import build_id
from pkghook.ko.plan import Drop, plan
from pkghook.ko.symtab import symbol_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pkghook.findings import Finding
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import ModuleFile
    from pkghook.model import Looked

NAMED = 4  # sections of an unstripped module that its finding names
LABEL = b".L"
# What modpost puts into every module; the loader reads the one and maps the other (kernel/module/main.c).
INFO, THIS_MODULE = b".modinfo", b".gnu.linkonce.this_module"


class Ask(NamedTuple):
    """How deep a look goes."""

    tables: bool = True  # read symbol table and relocations of stripped modules too; labels are counted only so
    second: bool = False  # have the section table read by pyelftools as well
    limit: int = 4 << 30  # bytes of a module, decompressed


def look_at_fd(fd: int, name: str, blank: Looked, ask: Ask) -> Looked:
    """The module open as `fd`; `name` is its file name, `blank` has all that was known before.

    What is wrong with it is among the findings, never raised; what was seen before the damage stands.
    """
    return _look(lambda: load(fd, name, limit=ask.limit), blank, ask)


def look_at_bytes(data: bytes, name: str, blank: Looked, ask: Ask) -> Looked:
    """The module file whose contents are `data`, as a package gives them; else as `look_at_fd`."""
    return _look(lambda: unwrap(data, name, limit=ask.limit), blank, ask)


def _look(opened: Callable[[], ModuleFile], blank: Looked, ask: Ask) -> Looked:
    seen = blank
    try:
        for more in _stages(opened(), blank, ask):
            seen = more
    except ModuleError as error:
        return _with(seen, error.finding(blank.path))
    except MissingDependencyError as error:
        return _with(seen, make("missing-dependency", blank.path, needs=error.message, install=error.hint))
    return seen


def _with(seen: Looked, *findings: Finding) -> Looked:
    return seen._replace(findings=(*seen.findings, *findings))


def _stages(file: ModuleFile, blank: Looked, ask: Ask) -> Iterator[Looked]:
    """What is known of the module, more each time; ends with ModuleError where it cannot be read any further."""
    size = file.image.size
    seen = blank._replace(
        file_size=file.file_size,
        image_size=size,
        expected=size,
        compression=file.compression.value,
        signature="present" if file.signature else "",
    )
    yield seen
    elf = parse(file.image)
    unstripped = debugset.is_unstripped(elf)
    seen = seen._replace(
        unstripped=unstripped,
        machine=machines.name(elf.machine),
        btf=b".BTF" in elf.columns.name,
        livepatch=_says_livepatch(elf),
        build_id=build_id(elf),
    )
    lost = tuple(make(id, blank.path, **evidence) for id, evidence in what_is_lost(elf))
    seen = _with(seen, *lost)
    yield _with(seen, _unstripped(seen, elf)) if unstripped else seen
    if ask.second:
        second.check(elf)
    if not lost and (unstripped or ask.tables):
        seen = _measured(seen, elf, labels=ask.tables)
        yield _with(seen, _unstripped(seen, elf, seen.saving)) if unstripped else seen


def _measured(seen: Looked, elf: Elf, *, labels: bool) -> Looked:
    """The sizes by the plans: without debug information, and without labels besides."""
    planned = plan(elf)
    expected = planned.expected if planned.unstripped else elf.image.size
    seen = seen._replace(expected=expected, livepatch=planned.livepatch)
    if not labels or planned.livepatch or LABEL not in symbol_table(elf).strings:
        return seen
    without = plan(elf, Drop(labels=True))
    return seen._replace(label_bytes=max(0, expected - without.expected) if without.labels else 0)


def _unstripped(seen: Looked, elf: Elf, saving: int | None = None) -> Finding:
    """The finding: the bytes to be had, where they are known, and the first of the sections that would go."""
    sections = map(elf.section, sorted(debugset.debug_sections(elf)))
    own = [section for section in sections if section.size and debugset.is_debug(section, elf.machine)]
    going = [section.name.decode("utf-8", "backslashreplace") for section in own]
    shown = ", ".join(going[:NAMED]) + (f" and {len(going) - NAMED} more" if len(going) > NAMED else "")
    known = {} if saving is None else {"saving": saving}
    signed = {"signature": seen.signature} if seen.signature else {}
    return make("unstripped", seen.path, **known, of=seen.image_size, sections=shown, **signed)


def _says_livepatch(elf: Elf) -> bool:
    """What the headers and .modinfo tell of it; the kernel itself goes by modinfo (check_modinfo_livepatch())."""
    if any(flags & SHF_RELA_LIVEPATCH for flags in set(elf.columns.flags)):
        return True
    if INFO not in elf.columns.name:
        return False
    return b"\0livepatch=" in b"\0" + elf.read(elf.section(elf.columns.name.index(INFO)))


# --- stripped too far ------------------------------------------------------------------------------------------------


def what_is_lost(elf: Elf) -> Iterable[tuple[str, dict[str, str | int]]]:
    """Finding ids and evidence for what every module has and this one has not: a tool has stripped too far.

    Source: elf_validity_cache_index() in kernel/module/main.c ("module has no symbols (stripped?)", "No module
    found in object").
    """
    names, kinds, flags, sizes = elf.columns.name, elf.columns.type, elf.columns.flags, elf.columns.size
    if SHT_SYMTAB not in kinds:
        yield "no-symbol-table", {"sections": elf.count}
    if THIS_MODULE not in names:
        yield "no-this-module", {"sections": elf.count}
    elif kinds[names.index(THIS_MODULE)] == SHT_NOBITS or not sizes[names.index(THIS_MODULE)]:
        yield "no-this-module", {"section": THIS_MODULE.decode(), "contents": "none"}
    if INFO not in names:
        yield "no-modinfo", {"sections": elf.count}
    infos, count = elf.columns.info, elf.count
    if not any(flags[infos[i]] & SHF_ALLOC for i in elf.relocating if infos[i] < count):
        code = [i for i, flag in enumerate(flags) if flag & SHF_ALLOC and flag & SHF_EXECINSTR and sizes[i]]
        if code:  # that nothing refers to: not even the module's own entry points
            yield "no-relocations", {"code": sum(sizes[i] for i in code)}
