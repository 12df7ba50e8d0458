"""Two releases of a package, as looks at their modules, for the tests of the comparison."""

from __future__ import annotations

from pkghook.model import Interface, Looked


def at(kernel: str, below: str, prefix: str = "", size: int = 1000, **more: object) -> Looked:
    """A module below lib/modules/KERNEL; `more` are further fields."""
    path = f"{prefix}lib/modules/{kernel}/{below}"
    seen = Looked(path, kernel, file_size=size, image_size=size, expected=size)
    return seen._replace(**more)  # type: ignore[arg-type]


def offering(kernel: str, below: str = "kernel/x.ko", **fields: object) -> Looked:
    """One with an interface of these fields, and of nothing else."""
    plain = Interface("x", f"{kernel} SMP mod_unload", ("GPL",))
    return at(kernel, below, interface=plain._replace(**fields))  # type: ignore[arg-type]
