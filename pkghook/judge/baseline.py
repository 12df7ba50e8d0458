"""This release against the last one: what came, went and grew, and what users of the modules would lose.

Modules are compared by the ELF files inside them, since a compressor moves the size of a file by a tenth from one
version to the next; the files as they lie on disk are told beside it.  What is asked of a release is asked of the sum
over its modules: of one module a large part may come and go with a feature, of all together it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.findings import make
from pkghook.judge.losses import losses
from pkghook.judge.pairing import Kernels, Matched, Pair, match, name
from pkghook.model import Entry, Looked
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pkghook.findings import Finding
    from pkghook.judge.receipt import Receipt

NOTHING: Mapping[str, frozenset[str]] = {}
DEBUG_TREE = "debug tree"
LARGEST = 5  # modules that the finding on the sum names
NOTICEABLE = 1 << 16  # bytes that a single module has to grow by before it gets a finding of its own


class Sizes(NamedTuple):
    """Sums over the modules of one release; bytes."""

    modules: int = 0
    file_size: int = 0  # as they lie on disk or in the package
    image_size: int = 0  # the ELF files inside
    expected: int = 0  # what stripping would leave of those


class Grown(NamedTuple):
    """A module whose image is of another size now; `before` is 0 for a new one."""

    path: str
    before: int
    now: int

    @property
    def by(self) -> int:
        """Bytes; negative for one that shrank."""
        return self.now - self.before


class Baseline(NamedTuple):
    """The comparison. Paths are those of this release, but for `gone`."""

    name: str  # of what it was compared with
    before: Sizes
    now: Sizes
    kernels: tuple[Kernels, ...] = ()  # versions that belong together
    gone: tuple[str, ...] = ()
    came: tuple[str, ...] = ()
    changed: tuple[Grown, ...] = ()  # size of the image, the largest growth first; new modules are not among them
    compared: int = 0  # modules of which all that users rely on is known on both sides

    @property
    def growth(self) -> float:
        """Of the images together, in percent."""
        return _percent(self.before.image_size, self.now.image_size)


def compare(
    name: str,
    old: Iterable[Looked],
    new: Iterable[Looked],
    max_growth: float | None = None,
    *,
    here: str = "",
    builtin: Mapping[str, frozenset[str]] = NOTHING,
) -> tuple[Baseline, tuple[Finding, ...]]:
    """The comparison with the last release, and what is to be said about it.

    Modules of debug trees that were left out of the looks are left out here.  `max_growth` is in percent, None for any;
    `here` is what a finding on all modules together is about; `builtin` are the names of modules that the kernel image
    contains now, by kernel.
    """
    before, now = ([each for each in some if each.kept != DEBUG_TREE] for some in (old, new))
    matched = match(before, now)
    grown = [Grown(pair.new.path, pair.old.image_size, pair.new.image_size) for pair in matched.pairs if _read(pair)]
    unread = {id(each) for pair in matched.pairs if not _read(pair) for each in pair}
    found = Baseline(
        name,
        _sizes(each for each in before if id(each) not in unread),
        _sizes(each for each in now if id(each) not in unread),
        matched.kernels,
        tuple(each.path for each in matched.gone),
        tuple(each.path for each in matched.new),
        tuple(sorted((each for each in grown if each.by), key=lambda each: (-each.by, each.path))),
        sum(bool(pair.old.interface and pair.new.interface) for pair in matched.pairs),
    )
    findings = (
        *_about(found, matched, before, now, builtin),
        *losses(matched, now, builtin),
        *_growth(found, matched, max_growth, here),
    )
    return found, findings


def of_receipt(receipt: Receipt) -> list[Looked]:
    """The modules of a receipt as far as it knows them: their sizes after the run."""
    return [_looked(entry) for entry in receipt.entries]


def _looked(entry: Entry) -> Looked:
    sizes = entry.sizes
    return Looked(
        entry.path,
        entry.kernel,
        entry.names,
        file_size=sizes.file_after,
        image_size=sizes.image_after,
        expected=min(sizes.expected, sizes.image_after),
        compression=entry.compression,
    )


def _read(pair: Pair) -> bool:
    """Whether both images could be read; else their sizes say nothing about growth."""
    return bool(pair.old.image_size and pair.new.image_size)


def _sizes(modules: Iterable[Looked]) -> Sizes:
    rows = [(1, each.file_size, each.image_size, each.expected) for each in modules]
    return Sizes(*map(sum, zip(*rows, strict=True)))


def _percent(before: int, now: int) -> float:
    return 100 * (now - before) / before if before else 0.0


# --- findings --------------------------------------------------------------------------------------------------------


def _about(
    found: Baseline,
    matched: Matched,
    old: Sequence[Looked],
    new: Sequence[Looked],
    builtin: Mapping[str, frozenset[str]],
) -> Iterator[Finding]:
    """What came and went, and what could not be compared."""
    if (old or new) and not any(map(_read, matched.pairs)):
        yield make("baseline-unrelated", found.name, modules=len(old), here=len(new), pairs=len(matched.pairs))
    if not matched.pairs:
        return
    now = dict(matched.kernels)
    for each in matched.gone:
        inside = name(each) in builtin.get(now.get(each.kernel, ""), ())
        yield make("module-built-in" if inside else "module-gone", each.path, size=each.image_size)
    for each in matched.new:
        yield make("module-new", each.path, size=each.image_size)
    damaged = [pair.old for pair in matched.pairs if not pair.old.interface and pair.old.findings]
    for each in damaged:
        yield make("baseline-unreadable", each.path, because=", ".join(dict.fromkeys(f.id for f in each.findings)))
    if not found.compared and len(damaged) < len(matched.pairs):
        yield make("baseline-sizes-only", found.name, modules=len(matched.pairs))


def _growth(found: Baseline, matched: Matched, limit: float | None, here: str) -> Iterator[Finding]:
    """--max-growth: on the sum, and on single modules that grew by more than that and noticeably."""
    if limit is None:
        return
    for each in found.changed:
        if each.by >= NOTICEABLE and _percent(each.before, each.now) > limit:
            share = f"{_percent(each.before, each.now):.1f} %"
            yield make("module-grew", each.path, before=each.before, now=each.now, growth=share, limit=f"{limit:g} %")
    if found.growth > limit:
        yield make(
            "growth",
            here,
            baseline=found.name,
            before=found.before.image_size,
            now=found.now.image_size,
            growth=f"{found.growth:.1f} %",
            limit=f"{limit:g} %",
            strippable=found.now.image_size - found.now.expected,
            strippable_before=found.before.image_size - found.before.expected,
            largest=_largest(found, matched),
        )


def _largest(found: Baseline, matched: Matched) -> str:
    """The modules that the growth is made of: those that grew most, new ones among them."""
    every = [*found.changed, *(Grown(each.path, 0, each.image_size) for each in matched.new)]
    top = sorted((each for each in every if each.by > 0), key=lambda each: (-each.by, each.path))[:LARGEST]
    return ", ".join(f"{each.path} {'' if each.before else 'new '}+{each.by}" for each in top) or "none"


def too_large(modules: Iterable[Looked], limit: int, *, here: str = "") -> Iterator[Finding]:
    """--max-size: the modules of each package or directory together, as they lie on disk; `limit` is in bytes.

    `here` is what a finding is about where there is one package only.
    """
    sums: dict[str, list[Looked]] = {}
    for each in modules:
        sums.setdefault(each.source, []).append(each)
    for source, some in sorted(sums.items()):
        total = sum(each.file_size for each in some)
        if total > limit:
            top = sorted(some, key=lambda each: (-each.file_size, each.path))[:LARGEST]
            largest = ", ".join(f"{each.path} {each.file_size}" for each in top)
            yield make("too-much", source or here, bytes=total, limit=limit, modules=len(some), largest=largest)
