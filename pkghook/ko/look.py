"""One module file as it is: sizes, what stripping would free, what was lost; nothing is changed.

Two depths.  The headers alone tell whether a module is stripped, signed, compressed, and whether another tool
took away what the kernel needs: a few short reads of a plain file.  `Ask.tables` adds the symbol table and the
relocations, as stripping would read them.  The bytes to be had are always those of `plan`, the size that the
native step writes, so a module that is unstripped or has many labels has its tables read at either depth.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pkghook.errors import MissingDependencyError, ModuleError
from pkghook.findings import make
from pkghook.ko import debugset, machines, pkcs7, second, signature, wrapping
from pkghook.ko.buildid import build_id
from pkghook.ko.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_RELA_LIVEPATCH, SHT_NOBITS, SHT_SYMTAB, parse
from pkghook.ko.file import FdImage, load, unwrap
from pkghook.ko.plan import Drop, has_labels, plan
from pkghook.model import Compression
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pkghook.findings import Finding
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import BytesImage, Image, ModuleFile, Window
    from pkghook.ko.pkcs7 import Key
    from pkghook.ko.plan import Plan
    from pkghook.ko.record import Record
    from pkghook.model import Looked

STREAM = 1 << 22  # bytes hashed at a time
NAMED = 4  # sections of an unstripped module that its finding names
LABEL = b"\0.L"  # in a table of strings
MANY_LABELS = 64  # from which a look at the headers alone looks at the symbols too
# What modpost puts into every module; the loader reads the one and maps the other (kernel/module/main.c).
INFO, THIS_MODULE = b".modinfo", b".gnu.linkonce.this_module"


class Ask(NamedTuple):
    """How deep a look goes."""

    tables: bool = True  # read symbol table and relocations of every module, and find what is wrong with them
    second: bool = False  # have the section table read by pyelftools as well
    digests: bool = False  # SHA-256 of the file, and of the image inside
    interface: bool = False  # what users rely on, without the imports
    record: Record | None = None  # prove that it is the module that was recorded
    keys: tuple[Key, ...] = ()  # that signatures may be by: those can be held against the bytes
    limit: int = 4 << 30  # bytes of a module, decompressed


def look_at_fd(fd: int, name: str, blank: Looked, ask: Ask) -> Looked:
    """The module open as `fd`; `name` is its file name, `blank` has all that was known before.

    What is wrong with it is among the findings, never raised; what was seen before the damage stands.
    """
    return _look(
        lambda: load(fd, name, limit=ask.limit, look=True), lambda size: _digest(FdImage(fd, size)), blank, ask
    )


def look_at_image(whole: BytesImage | Window, name: str, blank: Looked, ask: Ask) -> Looked:
    """The module file whose contents are in memory, with all its wrappings; else as `look_at_fd`."""
    return _look(lambda: unwrap(whole, name, limit=ask.limit, look=True), lambda _: _digest(whole), blank, ask)


def _look(opened: Callable[[], ModuleFile], digest: Callable[[int], str], blank: Looked, ask: Ask) -> Looked:
    seen = blank
    try:
        file = opened()
        if ask.digests and not seen.sha256:
            seen = seen._replace(sha256=digest(file.file_size))
        for more in _stages(file, seen, ask):
            seen = more
    except ModuleError as error:
        return _with(seen, error.finding(blank.path))
    except MissingDependencyError as error:
        return _with(seen, make("missing-dependency", blank.path, needs=error.message, install=error.hint))
    return seen


def _with(seen: Looked, *findings: Finding) -> Looked:
    return seen._replace(findings=(*seen.findings, *findings)) if findings else seen


def _stages(file: ModuleFile, blank: Looked, ask: Ask) -> Iterator[Looked]:
    """What is known of the module, more each time; ends with ModuleError where it cannot be read any further."""
    size, whole = file.image.size, file.compression is Compression.NONE and not file.signature
    seen = blank._replace(
        file_size=file.file_size,
        image_size=size,
        expected=size,
        compression=file.compression.value,
        signature="present" if file.signature else "",
        image_sha256=_digest(file.image) if ask.digests and not whole else "",
    )
    seen = _with(seen, *_of_wrappings(file, seen, ask))
    yield seen
    elf = parse(file.image)
    seen = _headers(seen, elf)
    lost = [make(id, seen.path, **evidence) for id, evidence in what_is_lost(elf)]
    seen = _with(seen, *lost)
    going = _going(elf) if seen.unstripped else ""
    yield _with(seen, _unstripped(seen, going)) if seen.unstripped else seen
    if ask.second:
        second.check(elf)
    if not lost and (seen.unstripped or ask.tables or ask.record or _has_labels(elf)):
        planned = plan(elf)
        seen = _tables(seen, elf, planned, going)
        seen = _proven(seen, ask.record, elf, planned, file) if ask.record else seen
        yield seen
    if not lost and ask.interface:
        from pkghook.ko.interface import interface

        yield seen._replace(interface=interface(elf, with_imports=False))


def _of_wrappings(file: ModuleFile, seen: Looked, ask: Ask) -> Iterator[Finding]:
    """What there is to say of the compression and of the signature."""
    if file.wrapping:
        yield from wrapping.judge(file.wrapping, seen.path, seen.kernel)
    if file.signature and file.signature.id_type == signature.PKCS7:
        start = file.signature.signer_len + file.signature.key_id_len
        try:
            by = pkcs7.refuted(file.trailer[start : start + file.signature.sig_len], file.image, ask.keys)
        except ModuleError as error:
            yield error.finding(seen.path)
        else:
            if by:
                yield make("signature-invalid", seen.path, by=by)


def _headers(seen: Looked, elf: Elf) -> Looked:
    """What the section headers and .modinfo tell."""
    info = _info(elf)
    return seen._replace(
        unstripped=debugset.is_unstripped(elf),
        machine=machines.name(elf.machine),
        btf=b".BTF" in elf.columns.name,
        vermagic=_value(info, b"vermagic"),
        livepatch=b"\0livepatch=" in info or any(flags & SHF_RELA_LIVEPATCH for flags in set(elf.columns.flags)),
        build_id=build_id(elf),
    )


def _has_labels(elf: Elf) -> bool:
    """Whether the names of the symbols have many a label's among them: the few that most compilers leave are used."""
    strings = elf.columns.link[elf.columns.type.index(SHT_SYMTAB)]
    if strings >= elf.count or elf.columns.size[strings] < MANY_LABELS * len(LABEL):
        return False
    return elf.read(elf.section(strings)).count(LABEL) >= MANY_LABELS


def _tables(seen: Looked, elf: Elf, planned: Plan, going: str) -> Looked:
    """The sizes that the plan tells, which has read the symbol table and the relocations."""
    seen = seen._replace(
        expected=planned.expected if seen.unstripped else elf.image.size,
        livepatch=planned.livepatch,
    )
    if has_labels(elf, planned):
        without = plan(elf, Drop(labels=True))
        seen = seen._replace(label_bytes=max(0, seen.expected - without.expected))
    return _with(seen, _unstripped(seen, going, seen.saving)) if seen.unstripped else seen


def _proven(seen: Looked, record: Record, elf: Elf, planned: Plan, file: ModuleFile) -> Looked:
    from pkghook.ko.compare import judge_recorded  # what proofs need is much to load, and most looks need none
    from pkghook.ko.facts import facts

    now = partial(facts, elf, planned, file.trailer)
    proof, findings = judge_recorded(record, (seen.path, *seen.names), None, now)
    return _with(seen._replace(proof=proof), *findings)


def _digest(image: Image) -> str:
    from hashlib import sha256  # a look at the headers does without

    digest = sha256()
    for at in range(0, image.size, STREAM):
        digest.update(image.read(at, min(STREAM, image.size - at)))
    return digest.hexdigest()


def _going(elf: Elf) -> str:
    """The first of the sections that would go, and how many more."""
    own = sorted(debugset.with_contents(elf))
    names = map(elf.columns.name.__getitem__, own[:NAMED])
    shown = ", ".join([name.decode("utf-8", "backslashreplace") for name in names])
    return shown + (f" and {len(own) - NAMED} more" if len(own) > NAMED else "")


def _unstripped(seen: Looked, going: str, saving: int | None = None) -> Finding:
    """The finding: the bytes to be had, where they are known, and what would go."""
    known = {} if saving is None else {"saving": saving}
    signed = {"signature": seen.signature} if seen.signature else {}
    return make("unstripped", seen.path, **known, of=seen.image_size, sections=going, **signed)


def _info(elf: Elf) -> bytes:
    """What .modinfo has, a NUL before each `key=value`; the kernel itself goes by it (check_modinfo())."""
    if INFO not in elf.columns.name:
        return b""
    return b"\0" + elf.read(elf.section(elf.columns.name.index(INFO)))


def _value(info: bytes, key: bytes) -> str:
    """The first value of `key`, "" without one."""
    value = info.partition(b"\0%b=" % key)[2].partition(b"\0")[0]
    return value.decode("utf-8", "backslashreplace")


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
