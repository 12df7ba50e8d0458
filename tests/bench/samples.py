"""Which modules are stripped: whole trees, samples of a tree that are like it, their compressed twins."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.bench.measure import BenchError
from tests.setup import kernels
from tests.setup.apt import SetupError

AT_ONCE = 32  # files for one xz


class Modules(NamedTuple):
    """Modules below a directory; `names` are paths relative to it, none for all that there is."""

    root: Path
    names: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """Every module."""
        return [self.root / name for name in self.names] or [
            path for path in sorted(self.root.rglob("*.ko*")) if path.is_file()
        ]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each module, by relative path."""
        return {str(path.relative_to(self.root)): path.stat().st_size for path in self.paths}

    def like(self, count: int) -> Modules:
        """As many of them, with the mean size of all."""
        return Modules(self.root, spread(self.sizes, count))

    def between(self, low: int, high: int, count: int, room: int) -> Modules:
        """Those of more than `low` and up to `high` bytes: `count` of them, or what fits into `room` bytes."""
        sizes = {name: size for name, size in self.sizes.items() if low < size <= high}
        if not sizes:
            raise BenchError(f"no module of {low} to {high} bytes in {self.root}")
        fitting = max(1, room * len(sizes) // sum(sizes.values()))
        return Modules(self.root, spread(sizes, min(count, fitting)))


def spread(sizes: dict[str, int], count: int) -> tuple[str, ...]:
    """`count` names from end to end of the sizes, whose mean is that of all as nearly as can be.

    The names in the order of their sizes are cut into `count` lots.  The middle one of each is taken; then one after
    the other is exchanged for another of its lot or of the next one, each time for what brings the sum closest.
    """
    ordered = sorted(sizes, key=lambda name: (sizes[name], name))
    count = min(count, len(ordered))
    lots = [ordered[i * len(ordered) // count : (i + 1) * len(ordered) // count] for i in range(count)]
    chosen = [lot[len(lot) // 2] for lot in lots]
    excess = sum(sizes[name] for name in chosen) - sum(sizes.values()) * count / len(ordered)
    while True:
        free = [[name for name in lot if name not in chosen[max(0, i - 1) : i + 2]] for i, lot in enumerate(lots)]
        near = (lot + larger for lot, larger in zip(free, [*free[1:], []], strict=True))
        gains = ((sizes[chosen[i]] - sizes[name], i, name) for i, names in enumerate(near) for name in names)
        gain, i, name = min(gains, key=lambda found: abs(excess - found[0]), default=(0, 0, ""))
        if not abs(excess - gain) < abs(excess):
            return tuple(chosen)
        chosen[i], excess = name, excess - gain


def unstripped(home: Path, name: str) -> Modules:
    """The `lib/modules` of an unstripped kernel."""
    source = next((home / name / "dbg").glob("**/lib/modules"), None)
    if source is None:
        raise SetupError(f"no unstripped modules of {name}; `tests/corpus {name}` fetches them")
    return Modules(source)


def largest(home: Path) -> Path:
    """The largest module that there is: amdgpu of Debian's riscv64 kernel, 858 MB."""
    source = next(home.glob("riscv64/dbg/**/amdgpu.ko"), None)
    if source is None:
        raise SetupError("no unstripped amdgpu of riscv64; `tests/corpus riscv64` fetches it")
    return source


def compressed(modules: Modules, twin: Path) -> Modules:
    """The same as .ko.xz by the kernel's own recipe, made once, below `twin`; whole as soon as it has that name."""
    if not twin.is_dir():
        partial = twin.with_name(f"{twin.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(modules.root, partial)
        names = b"\0".join(os.fsencode(path) for path in partial.rglob("*.ko"))
        xz = ["xz", "--check=crc32", "--lzma2=dict=1MiB"]
        argv = ["xargs", "-0", f"-P{len(os.sched_getaffinity(0))}", f"-n{AT_ONCE}", *xz]
        if subprocess.run(argv, input=names, check=False).returncode:
            raise SetupError(f"xz could not compress the modules in {partial}")
        partial.rename(twin)
    return Modules(twin)


def kernel_of(modules: Modules) -> str:
    """The version, as the directory in lib/modules is called."""
    (kernel,) = (path.name for path in modules.root.iterdir() if path.is_dir())
    return kernel


def subject(modules: Modules, kernel: str = "") -> str:
    """How many modules of which kernel, and their bytes."""
    sizes = modules.sizes.values()
    plural = "s" * (len(sizes) > 1)
    return f"{len(sizes)} module{plural} of {kernel or kernel_of(modules)}, {kernels.size_text(sum(sizes))}"


def binary(count: int) -> str:
    """A power of two of bytes."""
    return next(f"{count >> shift} {unit}" for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")) if count >> shift)
