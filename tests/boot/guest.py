"""A guest: its initramfs, QEMU around it, and the console followed until it ends or stands still."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from tests.boot import dump, machines
from tests.boot.dump import Known
from tests.boot.machines import Machine
from tests.boot.messages import Kind, Result, detail, judge
from tests.setup.apt import SetupError, run
from tests.support import need_tool

APPLETS = ("sh", "mount", "stty", "cat", "ls", "grep", "gzip", "uname", "poweroff")
KERNEL_LINE = (
    "console=ttyS0,115200 rdinit=/init panic=-1 loglevel=8 initcall_debug printk.devkmsg=on log_buf_len=16M "
    "nowatchdog mitigations=off nokaslr random.trust_cpu=on apparmor=0"
)
COMPRESSED = 4  # MODULE_INIT_COMPRESSED_FILE, include/uapi/linux/module.h
MARK = re.compile(r"@@(\w+) ?(\S*) ?(\d*)")
CLOCK = re.compile(r"^\[ *[0-9.]+\] ")


class Step(NamedTuple):
    """One module to load: a line of /order."""

    name: str
    path: str  # in the guest
    flags: int = 0
    verb: str = "load"

    def __str__(self) -> str:
        return f"{self.verb} {self.name} {self.path} {self.flags}\n"


class Stopped(NamedTuple):
    """What the guest was at when it ended before its time."""

    name: str
    result: Result


class Boot(NamedTuple):
    """One boot's outcome."""

    results: dict[str, Result]
    known: dict[str, Known]  # of the dump
    stopped: Stopped | None
    seconds: float


class Guest:
    """One kernel and the modules it may load; booted as often as needed."""

    def __init__(
        self, machine: Machine, kernel: Path, work: Path, *, append: str = "", patience: float = 180.0
    ) -> None:
        """`work` is scratch space, for the consoles too; after `patience` seconds without a marker it has hung."""
        self.machine, self.kernel, self.work, self.append, self.patience = machine, kernel, work, append, patience
        self.boots = 0
        self.base = work / "base.cpio"
        self.log: IO[str] = (work / "console.log").open("w")

    def pack(self, top: Path) -> None:
        """Make the initramfs of the modules in `top`: with busybox, the loader, /init."""
        for directory in ("bin", "proc", "sys", "dev"):
            (top / directory).mkdir(exist_ok=True)
        shutil.copyfile(machines.busybox(self.machine), top / "bin" / "busybox")
        (top / "bin" / "busybox").chmod(0o755)
        for applet in APPLETS:
            (top / "bin" / applet).symlink_to("busybox")
        machines.finit(self.machine, top / "bin").chmod(0o755)
        shutil.copyfile(Path(__file__).with_name("init.sh"), top / "init")
        (top / "init").chmod(0o755)
        _insmod(top, "busybox")
        if not self.machine.busybox:
            _kmod(top)
            _insmod(top, "kmod")
        _cpio(top, self.base)

    def boot(self, steps: Sequence[Step], files: Mapping[str, bytes] | None = None) -> Boot:
        """Load these and dump; `files` are more files for the guest, by path. Each module is loaded once."""
        self.boots += 1
        initrd, dumped = self.work / "initrd", self.work / "dump"
        shutil.copyfile(self.base, initrd)
        self._add(initrd, {**(files or {}), "/order": "".join([*map(str, steps), "dump - - 0\n"]).encode()})
        began = time.monotonic()
        with subprocess.Popen(
            self._argv(initrd, dumped), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as qemu:
            try:
                console = Console(qemu, self.log, dumped, self.patience)
                console.follow()
            finally:
                qemu.kill()
        self.log.flush()
        known = dump.read(dumped, self.boots) if console.dumped else {}
        return Boot(console.results, known, console.stopped(), time.monotonic() - began)

    def _add(self, initrd: Path, files: Mapping[str, bytes]) -> None:
        """A second archive behind the first: the kernel takes several in a row."""
        extra = self.work / "extra"
        shutil.rmtree(extra, ignore_errors=True)
        for name, data in files.items():
            path = extra / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        with initrd.open("ab") as out:
            out.write(bytes(-out.tell() % 512))
        _cpio(extra, initrd)

    def _argv(self, initrd: Path, dumped: Path) -> list[str]:
        program, *words = self.machine.qemu
        memory = 1024 + 3 * (initrd.stat().st_size >> 20)  # the archive, what is unpacked from it, what is loaded
        second = ["-serial", f"file:{dumped}"]
        if "riscv" in program:  # its board has one port
            second = ["-chardev", f"file,id=dump,path={dumped}", "-device", "pci-serial,chardev=dump"]
        return [
            need_tool(program), *words, "-accel", "tcg", "-smp", "1", "-m", str(memory), "-nographic", "-nodefaults",
            "-no-reboot", "-kernel", str(self.kernel), "-initrd", str(initrd), "-serial", "stdio", *second,
            "-append", f"{KERNEL_LINE} {self.append}",
        ]  # fmt: skip


def _insmod(top: Path, by: str) -> None:
    """The program under this name: that is how both know what is wanted."""
    (top / "by" / by).mkdir(parents=True)
    (top / "by" / by / "insmod").symlink_to(f"/bin/{by}")


def _kmod(top: Path) -> None:
    """This machine's kmod with the libraries it is linked to."""
    kmod = need_tool("kmod")
    shutil.copyfile(kmod, top / "bin" / "kmod")
    (top / "bin" / "kmod").chmod(0o755)
    for library in re.findall(r"(/\S+) \(0x", run(["ldd", kmod])):
        to = top / library.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(library, to)
        to.chmod(0o755)


def _cpio(top: Path, to: Path) -> None:
    """Append an archive of everything below `top`, owned by root."""
    names = sorted(str(path.relative_to(top)) for path in top.rglob("*"))
    with to.open("ab") as out:
        done = subprocess.run(
            [need_tool("cpio"), "-0oH", "newc", "-R", "0:0", "--quiet"],
            cwd=top,
            input="\0".join(names).encode(),
            stdout=out,
            check=False,
        )
    if done.returncode:
        raise SetupError("cpio failed")


class Console:
    """The guest's console: results as they come."""

    def __init__(self, qemu: subprocess.Popen[bytes], log: IO[str], dump: Path, patience: float) -> None:
        """Follows `qemu`, writing all it says to `log`; `dump` grows on its own while the guest dumps."""
        self.qemu, self.log, self.dump, self.patience = qemu, log, dump, patience
        self.results: dict[str, Result] = {}
        self.current, self.lines = "-boot-", [""]
        self.dumped = self.ended = self.hung = False

    def follow(self) -> None:
        """Read until the guest ends or stands still.

        It may well go on talking: only a marker is progress, or a dump that grows (millions of names take minutes).
        """
        pipe = self.qemu.stdout
        assert pipe
        os.set_blocking(pipe.fileno(), False)
        tail, event, size = b"", time.monotonic(), 0
        with selectors.DefaultSelector() as select:
            select.register(pipe, selectors.EVENT_READ)
            while not self.ended:
                if time.monotonic() - event > self.patience:
                    self.hung = True
                    return
                data = pipe.read() if select.select(1) else None
                if data == b"":
                    return
                *full, tail = (tail + (data or b"")).split(b"\n")
                marks = [self._line(line.decode("utf-8", "replace").rstrip("\r")) for line in full]
                grown = self.dump.stat().st_size if self.dump.exists() else 0
                if any(marks) or grown != size:
                    event, size = time.monotonic(), grown

    def _line(self, line: str) -> bool:
        """Take in one line; whether it was a marker."""
        self.log.write(line + "\n")
        mark = MARK.search(line)
        if not mark:
            self.lines.append(CLOCK.sub("", line))
            return False
        word, name, status = mark.groups()
        if word == "START":
            self.current, self.lines = name, []
        elif word == "DONE" and name == "-dump-":
            self.dumped = status == "0"
        elif word == "DONE":
            self.results[name] = judge(name, int(status), self.lines)
        elif word == "END":
            self.ended = True
        return True

    def stopped(self) -> Stopped | None:
        """What it was at, unless it came to its end."""
        if self.ended:
            return None
        return Stopped(self.current, Result(Kind.CRASH, "HANG" if self.hung else "PANIC", detail(self.lines)))
