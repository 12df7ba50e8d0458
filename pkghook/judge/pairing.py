"""Which module of the last release is which of this one.

A module's path differs from release to release in what says nothing about the module: the kernel's version, `usr/`
before `lib`, the suffix of a compression.  So kernels are paired first, then their modules by the path below
lib/modules/VERSION, and what is left by name, since modprobe finds a module wherever it lies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pkghook.model import SUFFIXES
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pkghook.model import Looked

Kernels = tuple[str, str]  # versions, of the last release and of this one
_SUFFIX = re.compile(f"\\.ko({'|'.join(re.escape(suffix) for suffix in SUFFIXES.values())})$")
_WORDS = re.compile("[a-z]+")
_NUMBERS = re.compile("[0-9]+")
ALIKE = 0.5  # of the words of two kernel versions, more than this part has to be common
MOST = 64  # kernels of each side that are compared in this way, the newest; nobody has so many


class Pair(NamedTuple):
    """One module in both releases."""

    old: Looked
    new: Looked


class Matched(NamedTuple):
    """What became of all modules, each list in the order of the paths."""

    pairs: tuple[Pair, ...] = ()
    gone: tuple[Looked, ...] = ()
    new: tuple[Looked, ...] = ()
    kernels: tuple[Kernels, ...] = ()


def match(old: Iterable[Looked], new: Iterable[Looked]) -> Matched:
    """Pair the modules of two releases."""
    before, now = _by_kernel(old), _by_kernel(new)
    kernels = pair_kernels(before, now)
    pairs: list[Pair] = []
    for was, is_ in kernels:
        for key in (place, name):
            found = _paired(before[was], now[is_], key)
            pairs += found
            taken = {id(each) for pair in found for each in pair}
            before[was] = [each for each in before[was] if id(each) not in taken]
            now[is_] = [each for each in now[is_] if id(each) not in taken]
    return Matched(
        tuple(sorted(pairs, key=lambda pair: pair.new.path)),
        _in_order(before.values()),
        _in_order(now.values()),
        kernels,
    )


def _by_kernel(modules: Iterable[Looked]) -> dict[str, list[Looked]]:
    found: dict[str, list[Looked]] = {}
    for each in modules:
        found.setdefault(each.kernel, []).append(each)
    return found


def _in_order(lists: Iterable[Sequence[Looked]]) -> tuple[Looked, ...]:
    return tuple(sorted((each for some in lists for each in some), key=lambda each: each.path))


def _paired(old: Sequence[Looked], new: Sequence[Looked], key: Callable[[Looked], str]) -> list[Pair]:
    """The modules whose key occurs just once on either side."""
    before, now = _unique(old, key), _unique(new, key)
    return [Pair(before[each], now[each]) for each in sorted(before.keys() & now.keys())]


def _unique(modules: Sequence[Looked], key: Callable[[Looked], str]) -> dict[str, Looked]:
    found: dict[str, list[Looked]] = {}
    for each in modules:
        found.setdefault(key(each), []).append(each)
    return {each: same[0] for each, same in found.items() if len(same) == 1}


def place(module: Looked) -> str:
    """The path below lib/modules/VERSION without a compression's suffix; a debug tree is a place of its own."""
    path = "/" + _SUFFIX.sub("", module.path)
    before, mark, below = path.partition(f"/lib/modules/{module.kernel}/") if module.kernel else ("", "", path)
    return f"{before.replace('/usr/lib/debug', 'debug').removesuffix('/usr')}:{below}" if mark else path.lstrip("/")


def name(module: Looked) -> str:
    """The name that modprobe knows; debug files have names of their own."""
    base = module.path.rpartition("/")[2]
    debug = "debug:" if "/usr/lib/debug/" in f"/{module.path}" else ""
    return debug + _SUFFIX.sub("", base).replace("-", "_")


# --- kernels ---------------------------------------------------------------------------------------------------------


def pair_kernels(old: Iterable[str], new: Iterable[str]) -> tuple[Kernels, ...]:
    """Which kernel of this release follows which of the last one, sorted by the new.

    One on each side belong together whatever they are called.  Of several those of one version do, then those
    whose versions differ least in their words: what stands for the flavour, like `cloud-amd64` or `rt`.
    """
    before, now = set(old), set(new)
    if len(before) == len(now) == 1:
        return ((before.pop(), now.pop()),)
    found = {version: version for version in before & now}
    rest = [sorted(some - found.keys(), key=_backwards)[:MOST] for some in (before, now)]
    for was, is_ in sorted(((was, is_) for was in rest[0] for is_ in rest[1]), key=_unlikeness):
        if is_ not in found and was not in found.values() and _likeness(was, is_) > ALIKE:
            found[is_] = was
    return tuple((found[is_], is_) for is_ in sorted(found))


def _unlikeness(kernels: Kernels) -> tuple[float, bool, list[int], list[int], Kernels]:
    """Sort key: the most alike first; among equals those of one form, and the newest with the newest."""
    was, is_ = kernels
    differ = _NUMBERS.sub("#", was) != _NUMBERS.sub("#", is_)
    return -_likeness(was, is_), differ, _backwards(is_), _backwards(was), kernels


def _likeness(was: str, is_: str) -> float:
    """0 to 1: the words that two versions have in common, of all."""
    mine, theirs = set(_WORDS.findall(was)), set(_WORDS.findall(is_))
    return len(mine & theirs) / len(mine | theirs) if mine | theirs else 1.0


def _backwards(version: str) -> list[int]:
    """Sort key: the higher version first. Numbers of more than 18 digits are nobody's version."""
    return [-int(number[:18]) for number in _NUMBERS.findall(version)]
