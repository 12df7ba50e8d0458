"""`modules.builtin`: what would be modules if the kernel image did not contain it.

One path a line, as below lib/modules/VERSION, written by the kernel's `make modules_install`; kmod's modprobe takes
such a name for loaded.  Source: Documentation/kbuild/kbuild.rst of the kernel.
"""

from __future__ import annotations

NAME = "modules.builtin"
MAX_BYTES = 1 << 20  # of the file; Debian's have 10 to 20 KiB


def names(data: bytes) -> frozenset[str]:
    """The modules' names as modprobe knows them, without `.ko` and with `_` for `-`."""
    paths = data[:MAX_BYTES].decode("utf-8", "surrogateescape").split("\n")
    return frozenset(path.rpartition("/")[2].removesuffix(".ko").replace("-", "_") for path in paths if path)
