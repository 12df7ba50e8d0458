"""The parts that are run by hand: a full kernel, and what a module costs as the tree grows and as a module grows."""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench import peers, samples
from tests.bench.contest import Bench, Group, show
from tests.bench.samples import Modules
from tests.bench.table import Figures

GROWTH = (100, 300, 1000)  # modules; the full kernel has about 4,000
KIB = 1024
SIZES = tuple(KIB * 4**power for power in range(4, 11))  # bytes of modules that are alike: 256 KiB to 1 GiB
CLASSES = (*(f"modules up to {samples.binary(size)}" for size in SIZES), "the largest module")
ALIKE, ALIKE_BYTES = 200, 10**9  # no more of them than this


def full(bench: Bench) -> list[Figures]:
    """Debian's full kernel, and ever larger samples of it that have the same mean size."""
    modules = samples.unstripped(bench.home, "amd64-full")
    kernel = samples.kernel_of(modules)
    some = [(count, modules.like(count)) for count in GROWTH]
    groups = [
        Group(peers.named(peers.STRIPPERS[:2], f"{count} modules"), sample, samples.subject(sample, kernel))
        for count, sample in some
    ]
    groups.append(Group(peers.named(peers.STRIPPERS, "full kernel"), modules, samples.subject(modules, kernel)))
    found = bench.contests(groups)
    for line in (*costs(found), *growth(found)):
        show(line)
    return found


def costs(found: list[Figures]) -> Iterator[str]:
    """What one module costs."""
    for row in found:
        used = row.used
        time, cpu = (f"{1000 * spent / row.modules:.3f} ms" for spent in (used.seconds, used.cpu))
        yield f"{row.what}: {time} a module ({cpu} CPU)"


def growth(found: list[Figures]) -> Iterator[str]:
    """What a module costs in the largest tree, against the next smaller one; 1 is linear."""
    for rival in peers.STRIPPERS[:2]:
        trees = [row for row in found if row.what.startswith(f"{rival.what}, ")]
        if len(trees) < 2:
            continue
        few, many = trees[-2:]
        time = many.used.seconds / many.modules / (few.used.seconds / few.modules)
        cpu = many.used.cpu / many.modules / (few.used.cpu / few.modules)
        yield f"{rival.what}: a module of {many.modules} costs {time:.2f} x that of {few.modules} ({cpu:.2f} x CPU)"


def sizes(bench: Bench) -> list[Figures]:
    """Modules of one size, from the smallest to the largest, one process at a time."""
    modules = samples.unstripped(bench.home, "amd64-full")
    kernel = samples.kernel_of(modules)
    groups, low = [], 0
    for high, what in zip(SIZES, CLASSES, strict=False):
        some = modules.between(low, high, ALIKE, ALIKE_BYTES)
        field = peers.one_process(what)
        groups.append(Group(field, some, samples.subject(some, kernel)))
        low = high
    single = samples.largest(bench.home)
    one = Modules(single.parent, (single.name,))
    field = peers.one_process(CLASSES[-1], "riscv64-linux-gnu-")
    groups.append(Group(field, one, samples.subject(one, f"riscv64 ({single.name})")))
    found = bench.contests(groups)
    for line in costs(found):
        show(line)
    return found
