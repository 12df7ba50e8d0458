"""What users of the modules would lose with this release: parameters, aliases, exports, and what else they rely on.

A symbol that another module of the kernel exports now is not lost, since depmod finds it there, and neither is an
alias that another module has now to the letter.  A wider alias of another module does not count: it is a generic
driver's.  A kernel of another version has other CRCs in nearly every export, which is what its version says; that is
one finding for the kernel, while under the same version each module is told.  So is what changed in the vermagic of
many in the same way.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from pkghook.findings import make
from pkghook.judge import aliases
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pkghook.findings import Evidence, Finding
    from pkghook.judge.pairing import Matched, Pair
    from pkghook.model import Interface, Looked

SHOWN = 6  # names that a finding lists


class World(NamedTuple):
    """What all modules of one kernel of this release offer together."""

    exports: Mapping[str, str]  # symbol, CRC
    aliases: frozenset[str]


class Changed(NamedTuple):
    """One module whose vermagic or CRCs are others now."""

    subject: str
    what: tuple[str, ...]


def losses(matched: Matched, modules: Iterable[Looked], builtin: Mapping[str, frozenset[str]]) -> Iterator[Finding]:
    """The findings on all pairs; `modules` are those of this release. Where an interface is not known there is none.

    `builtin` are the names of modules that the kernel image contains now, by kernel: nobody has to load those.
    """
    known = [each for each in modules if each.interface]
    worlds = {kernel: _world(same) for kernel, same in _by_kernel(known)}
    for (was, is_), pairs in _pairs_by_kernel(matched.pairs):
        world = worlds[is_]
        for pair in pairs:
            yield from _of_pair(pair, world)
            yield from _depends(pair, builtin.get(is_, frozenset()))
        yield from _crcs(pairs, world, of_kernel="" if was == is_ else is_)
        yield from _vermagics(pairs, same=was == is_)


def names(some: Iterable[str]) -> dict[str, Evidence]:
    """The first of them, and how many there are, as evidence."""
    every = sorted(some)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return {"count": len(every), "names": ", ".join(every[:SHOWN]) + more}


def _by_kernel(modules: Iterable[Looked]) -> Iterator[tuple[str, list[Interface]]]:
    for kernel, same in groupby(sorted(modules, key=_kernel), key=_kernel):
        yield kernel, [each.interface for each in same if each.interface]


def _kernel(module: Looked) -> str:
    return module.kernel


def _world(interfaces: Sequence[Interface]) -> World:
    return World(
        {symbol: crc for each in interfaces for symbol, crc in each.exports},
        frozenset(aliases.normal(alias) for each in interfaces for alias in each.aliases),
    )


def _pairs_by_kernel(pairs: Iterable[Pair]) -> Iterator[tuple[tuple[str, str], list[Pair]]]:
    known = [pair for pair in pairs if pair.old.interface and pair.new.interface]
    for kernels, same in groupby(sorted(known, key=_kernels), key=_kernels):
        yield kernels, list(same)


def _kernels(pair: Pair) -> tuple[str, str]:
    return pair.old.kernel, pair.new.kernel


def _of_pair(pair: Pair, world: World) -> Iterator[Finding]:
    """What one module lost."""
    old, new, path = pair.old.interface, pair.new.interface, pair.new.path
    if old is None or new is None:
        return
    parameters = dict(old.parameters).keys() - dict(new.parameters).keys()
    if parameters:
        yield make("parameter-lost", path, **names(parameters))
    unmet = [alias for alias in aliases.lost(old.aliases, new.aliases) if aliases.normal(alias) not in world.aliases]
    if unmet:
        yield make("alias-lost", path, **names(unmet), of=len(old.aliases))
    exports = dict(old.exports).keys() - world.exports.keys()
    if exports:
        yield make("export-lost", path, **names(exports), of=len(old.exports))
    if old.license != new.license:
        yield make("license-changed", path, before="; ".join(old.license), now="; ".join(new.license))


def _depends(pair: Pair, inside: frozenset[str]) -> Iterator[Finding]:
    """Other modules than before, but for those that went into the kernel image."""
    old, new = ({*each.interface.depends, *each.interface.softdeps} if each.interface else set() for each in pair)
    gone = sorted(name for name in old - new if name.rpartition(" ")[2].replace("-", "_") not in inside)
    if gone or new - old:
        came = ", ".join(sorted(new - old)) or "none"
        yield make("dependency-changed", pair.new.path, no_longer=", ".join(gone) or "none", now_also=came)


# --- what a new version changes in all modules alike -----------------------------------------------------------------


def _crcs(pairs: Iterable[Pair], world: World, *, of_kernel: str) -> Iterator[Finding]:
    """Exports that are there with another CRC, by module; with `of_kernel`, its version, all in one finding."""
    found: list[Changed] = []
    total = 0
    for pair in pairs:
        exports = pair.old.interface.exports if pair.old.interface else ()
        total += len(exports)
        other = tuple(symbol for symbol, crc in exports if world.exports.get(symbol, crc) != crc)
        if other:
            found.append(Changed(pair.new.path, other))
    if not of_kernel:
        for path, symbols in found:
            yield make("export-changed", path, **names(symbols))
    elif found:
        every = [symbol for each in found for symbol in each.what]
        yield make("export-changed", of_kernel, **names(every), of=total, modules=len(found))


def _vermagics(pairs: Iterable[Pair], *, same: bool) -> Iterator[Finding]:
    """Modules whose vermagic changed, those with the same change in one finding; the version is one if it is `same`."""
    found: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        old, new = (_flags(each.interface, same=same) for each in pair)
        if old != new:
            found.setdefault((old, new), []).append(pair)
    for (old, new), changed in sorted(found.items()):
        first = changed[0].new
        subject = first.path if len(changed) == 1 else first.kernel or first.path
        yield make("vermagic-changed", subject, before=old, now=new, modules=len(changed))


def _flags(interface: Interface | None, *, same: bool) -> str:
    vermagic = interface.vermagic if interface else ""
    return vermagic if same else vermagic.partition(" ")[2]
