"""What the modules of an installed system say of each other and of the system: rules over many of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pkghook.findings import Finding, make
from pkghook.model import Compression, Kernel, Looked
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

REFUSED = "compression-refused"
# The order of depmod without a configuration: updates before all that is not in it (depmod.d(5)).
FIRST = "updates"


class Place(NamedTuple):
    """One kernel's directory, and what is said of its modules outside of them. Paths are relative to the root."""

    kernel: Kernel
    named: frozenset[str] | None  # that modules.dep has; None without one, or where it cannot be read
    gone: tuple[str, ...] = ()  # of these, what is not there
    unread: str = ""  # why modules.dep cannot be read


def judge(places: Sequence[Place], entries: Sequence[Looked], *, known: bool) -> tuple[list[Looked], list[Finding]]:
    """The entries, each with the findings that follow from the others added, and the findings about the system.

    `known` says that it is certain which files a package owns.
    """
    added: dict[str, list[Finding]] = {}
    findings: list[Finding] = []
    by_kernel: dict[str, list[Looked]] = {}
    for entry in entries:
        by_kernel.setdefault(entry.kernel, []).append(entry)
    for place in places:
        below = f"{place.kernel.path}/"
        modules = [entry for entry in by_kernel.get(place.kernel.version, []) if entry.path.startswith(below)]
        for finding in _among(place, modules):
            added.setdefault(finding.subject, []).append(finding)
        findings += _about(place, modules, known=known)
    reads = {place.kernel.version: place.kernel.decompresses for place in places}
    return [_with(entry, added.get(entry.path, ()), reads) for entry in entries], findings


def _with(entry: Looked, more: Sequence[Finding], reads: Mapping[str, bool | None]) -> Looked:
    """The entry with further findings, and without one that its kernel's configuration refutes."""
    if not (entry.findings or more):
        return entry
    findings = (*entry.findings, *more)
    if reads.get(entry.kernel) is False:
        findings = tuple(each for each in findings if each.id != REFUSED)
    return entry if findings == entry.findings else entry._replace(findings=findings)


# --- modules among their siblings ------------------------------------------------------------------------------------


def _among(place: Place, modules: Sequence[Looked]) -> Iterator[Finding]:
    """What is odd about a module beside the others of its kernel."""
    read = [entry for entry in modules if entry.machine]  # what could not be read has neither BTF nor signature
    yield from _without_signature(read)
    yield from _without_btf(read)
    yield from _for_another_kernel(read)
    yield from _foreign(place.kernel, modules)
    by_name = _by_name(modules)
    yield from _unnamed(place, by_name)
    yield from _duplicates(place, by_name)


def _most(having: int, modules: Sequence[Looked]) -> bool:
    return 2 * having > len(modules)


def _without_signature(modules: Sequence[Looked]) -> Iterator[Finding]:
    signed = sum(bool(entry.signature) for entry in modules)
    if _most(signed, modules):
        for entry in modules:
            if not entry.signature:
                yield make("signature-missing", entry.path, signed=signed, modules=len(modules))


def _without_btf(modules: Sequence[Looked]) -> Iterator[Finding]:
    """Held against modules of the same owner: those come from one build."""
    builds: dict[str, list[Looked]] = {}
    for entry in modules:
        builds.setdefault(entry.owner, []).append(entry)
    for same in builds.values():
        having = sum(entry.btf for entry in same)
        if _most(having, same):
            for entry in same:
                if not entry.btf:
                    yield make("btf-missing", entry.path, having=having, modules=len(same))


def _for_another_kernel(modules: Iterable[Looked]) -> Iterator[Finding]:
    for entry in modules:
        release = entry.vermagic.partition(" ")[0]
        if release and release != entry.kernel:
            yield make("vermagic-differs", entry.path, vermagic=entry.vermagic.strip(), directory=entry.kernel)


def _foreign(kernel: Kernel, modules: Sequence[Looked]) -> Iterator[Finding]:
    counts = Counter(entry.compression for entry in modules)
    own, by = kernel.compression, "its configuration"
    if not own and counts:
        (own, number), by = counts.most_common(1)[0], ""
        by = f"{number} of {len(modules)} modules"
    for entry in modules:
        if entry.compression not in (own, Compression.NONE.value):
            yield make("compression-foreign", entry.path, compression=entry.compression, kernel=own, by=by)


# --- modules.dep -----------------------------------------------------------------------------------------------------


def name(path: str) -> str:
    """The name by which the kernel knows the module at `path`."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _by_name(modules: Iterable[Looked]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in modules:
        for path in (entry.path, *entry.names):
            found.setdefault(name(path), []).append(path)
    return found


def _unnamed(place: Place, by_name: Mapping[str, list[str]]) -> Iterator[Finding]:
    if place.named is None:
        return
    for paths in by_name.values():
        if place.named.isdisjoint(paths):
            yield make("module-unnamed", paths[0])


def _duplicates(place: Place, by_name: Mapping[str, list[str]]) -> Iterator[Finding]:
    for paths in by_name.values():
        if len(paths) > 1:
            found = [path for path in paths if place.named and path in place.named]
            first = sorted(paths, key=lambda path: (path not in found, not _in_updates(place, path), path))
            others = ", ".join(first[1:])
            yield make("duplicate-module", first[0], hides=others, named="yes" if found else "none of them")


def _in_updates(place: Place, path: str) -> bool:
    return path.startswith(f"{place.kernel.path}/{FIRST}/")


# --- the kernel's directory ------------------------------------------------------------------------------------------


def _about(place: Place, modules: Sequence[Looked], *, known: bool) -> Iterator[Finding]:
    kernel = place.kernel
    left_behind = known and not kernel.owners
    if left_behind:
        about: dict[str, str | int] = {"modules": len(modules), "bytes": kernel.size, "image": kernel.image or "none"}
        if kernel.running:
            about["running"] = "yes"
        yield make("kernel-unowned", kernel.path, **about)
    if place.unread:
        yield make("unreadable", f"{kernel.path}/modules.dep", error=place.unread)
    elif modules and place.named is None:
        yield make("no-modules-dep", kernel.path, modules=len(modules))
    if left_behind and not kernel.image:
        return  # what a removed kernel's modules.dep names is gone with it
    for path in place.gone:
        yield make("module-missing", path)
