"""The machines that can be emulated: what runs them, and what a guest for them is made of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.setup.apt import SetupError, run
from tests.setup.kernels import cache_dir
from tests.support import need_tool


class Machine(NamedTuple):
    """One row: programs by name, as packages.txt has them."""

    qemu: tuple[str, ...]
    compiler: str
    busybox: str = ""  # Debian architecture of a static busybox; "" is this machine's own


# The second serial port carries the dump.  `max`: every feature of the emulated CPU, so that drivers for them load.
AMD64 = Machine(("qemu-system-x86_64", "-cpu", "max"), "gcc")
RISCV64 = Machine(("qemu-system-riscv64", "-machine", "virt", "-cpu", "rv64"), "riscv64-linux-gnu-gcc", "riscv64")


def finit(machine: Machine, into: Path) -> Path:
    """The guest's loader, compiled; see finit.c."""
    out = into / "finit"
    source = Path(__file__).with_name("finit.c")
    words = ["-Os", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-fno-pie", "-no-pie"]
    run([need_tool(machine.compiler), *words, "-o", str(out), str(source)])
    return out


def busybox(machine: Machine) -> Path:
    """A static busybox for the guest, fetched once where the machine is a foreign one."""
    if not machine.busybox:
        return Path(need_tool("busybox"))
    home = cache_dir() / "busybox" / machine.busybox
    program = home / "usr" / "bin" / "busybox"
    if not program.exists():
        _fetch_busybox(machine.busybox, home)
    return program


def _fetch_busybox(arch: str, home: Path) -> None:
    from tests.setup.apt import Apt, find_archive

    suite = "trixie"
    archive = find_archive(suite)
    if not archive:
        raise SetupError(f"no Debian archive for {suite} among this machine's apt sources")
    apt = Apt(cache_dir() / "apt", suite, arch, archive)
    apt.update()
    deb = apt.download(apt.packages("busybox-static")[-1], home)
    run(["dpkg-deb", "-x", str(deb), str(home)])
    deb.unlink()
