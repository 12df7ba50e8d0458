"""The outside tools: which one strips modules of a machine, and how one attempt with it ends.

Exit status 0 proves nothing.  An attempt counts only if the tool also said nothing and wrote something;
whether what it wrote is the same module is for the verifier.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from pkghook import proc
from pkghook.chain.steps import IN, LIST, OUT
from pkghook.errors import SettingError
from pkghook.ko import machines
from pkghook.model import Attempt, Outcome
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pkghook.chain.steps import Step

DEV_FD = "/dev/fd"
VERSION_TIMEOUT = 10.0  # seconds for `--version` and `--info`
WHY_LENGTH = 200  # characters of a tool's message that are worth keeping
COPIED = 1 << 20  # bytes at a time
GROWTH = 1 << 20  # bytes that a result may be larger than the input before nobody looks at it

# GNU tools know the machines that they were built for; the others know any.
PER_MACHINE = frozenset({"objcopy", "strip"})
PACKAGES = {"objcopy": "binutils", "strip": "binutils", "eu-strip": "elfutils", "llvm-strip": "llvm"}


class Tool(NamedTuple):
    """An outside tool as found here. `version` has its name in it."""

    name: str
    path: str
    version: str


class Tools:
    """Finds tools in PATH, each once.

    `overrides` name, by tool, a path or another name to be used for all machines; SettingError if there is
    no such executable.  `host` is the machine of which the plain names are taken first.
    """

    def __init__(self, overrides: Mapping[str, str] | None = None, *, path: str = "", host: int | None = None) -> None:
        self._path = path or proc.search_path()
        self._host = machines.host() if host is None else host
        self._overrides = {tool: self._override(tool, given) for tool, given in (overrides or {}).items()}
        self._found: dict[tuple[str, int], Tool | None] = {}
        self._versions: dict[str, str] = {}

    def _override(self, tool: str, given: str) -> str:
        path = proc.which(given, self._path)
        if path:
            return path
        raise SettingError(f"{tool}: there is no executable {given!r}", hint="give the path of a program")

    def find(self, step: Step, machine: int) -> Tool | None:
        """The tool of a step for modules of `machine` (ELF e_machine), or None.

        On a foreign machine the plain name comes last: it may know that machine too, or will fail and say so.
        """
        key = (step.tool, machine if step.tool in PER_MACHINE else 0)
        if key not in self._found:
            self._found[key] = self._look_for(*key)
        return self._found[key]

    def candidates(self, tool: str, machine: int) -> list[str]:
        """The names to look for, best first."""
        crossed = [f"{prefix}{tool}" for prefix in machines.prefixes(machine)] if tool in PER_MACHINE else []
        return [tool, *crossed] if machine == self._host or not crossed else [*crossed, tool]

    def absent(self, step: Step, machine: int) -> Attempt:
        """The attempt with a step whose tool is not there."""
        names = self.candidates(step.tool, machine)
        wanted = names[0] if names[0] == step.tool else f"{names[0]} or {step.tool}"
        return Attempt(step.name, "", Outcome.ABSENT, f"no {wanted} here; package {PACKAGES[step.tool]}")

    def _look_for(self, tool: str, machine: int) -> Tool | None:
        path = self._overrides.get(tool) or self._plain_or_cross(tool, machine) or self._numbered(tool)
        return Tool(tool, path, self._version(path)) if path else None

    def _plain_or_cross(self, tool: str, machine: int) -> str:
        return next(filter(None, (proc.which(name, self._path) for name in self.candidates(tool, machine))), "")

    def _numbered(self, tool: str) -> str:
        """Distributions install LLVM's tools as `llvm-strip-19`: the newest of these, by number."""
        numbered = re.compile(re.escape(tool) + r"-(\d+)")
        names = {name for place in self._path.split(":") for name in _listing(place) if numbered.fullmatch(name)}
        for name in sorted(names, key=lambda name: -int(name.rpartition("-")[2])):
            if path := proc.which(name, self._path):
                return path
        return ""

    def _version(self, path: str) -> str:
        if path not in self._versions:
            self._versions[path] = version_of(path)
        return self._versions[path]


def _listing(place: str) -> list[str]:
    try:
        return os.listdir(place) if place else []
    except OSError:
        return []


def version_of(path: str) -> str:
    """The first line of `--version` with a number in it, the program's name in front where that does not stand there.

    So cross tools, which all call themselves `GNU objcopy`, can be told apart.
    """
    ended = proc.run([path, "--version"], timeout=VERSION_TIMEOUT)
    lines = (_printable(line) for line in ended.stdout.decode("utf-8", "replace").splitlines())
    line = next((line for line in lines if re.search(r"\d+\.\d+", line)), "")
    version = line[:WHY_LENGTH] if ended.status == 0 and line else "of unknown version"
    program = os.path.basename(path)
    return version if program in version else f"{program}: {version}"


def known_machines(tool: Tool) -> tuple[str, ...] | None:
    """Names of the machines that a tool strips modules of; None where it makes no difference."""
    if tool.name not in PER_MACHINE:
        return None
    ended = proc.run([tool.path, "--info"], timeout=VERSION_TIMEOUT, keep_stdout=True)
    targets = set(ended.stdout.decode("ascii", "replace").split("\n"))
    return tuple(row.name for row in machines.MACHINES.values() if targets.intersection(row.bfd))


def run_step(
    step: Step, tool: Tool, infd: int, outdir: str, listfile: str = "", *, timeout: float
) -> tuple[str, Attempt | None]:
    """Let a tool strip the image behind `infd` (from offset 0, wherever it stands) into a file in `outdir`.

    Returns the path of what it wrote, to be judged and then removed by the caller, and None; or "" and how
    it failed.  `timeout` is in seconds.  Raises OSError where not even the scratch files can be written.
    """
    outfile = f"{outdir}/{step.name}.out"
    _sweep(outfile)
    infile, copied = _input(infd, outdir)
    try:
        argv = step.command(tool.path, infile, outfile, listfile)
        ended = proc.run(argv, timeout=timeout, pass_fds=(infd,), cwd=outdir)
    finally:
        if copied:
            discard(infile)
    names = {infile: IN, outfile: OUT, tool.path: tool.name, **({listfile: LIST} if listfile else {})}
    why = _complaint(ended, names, timeout) or _lack(outfile, os.fstat(infd).st_size)
    if not why:
        return outfile, None
    _sweep(outfile)
    outcome = Outcome.TIMED_OUT if ended.timed_out else Outcome.FAILED
    return "", Attempt(step.name, tool.version, outcome, why)


def discard(path: str) -> None:
    """Remove a scratch file, or whatever a tool has left under its name."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        import shutil

        shutil.rmtree(path)


def _sweep(outfile: str) -> None:
    """Remove what a tool has written, and what it writes beside (`OUT.tmp1234`) when it is killed at it."""
    place, name = os.path.split(outfile)
    for entry in os.listdir(place):
        if entry.startswith(name):
            discard(f"{place}/{entry}")


def _input(fd: int, outdir: str) -> tuple[str, bool]:
    """A path under which a tool can open what is behind `fd`; and whether it is a copy, made where /proc is missing."""
    path = f"{DEV_FD}/{fd}"
    try:
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return path, False
    except OSError:
        pass
    path = f"{outdir}/in"
    discard(path)
    with open(path, "xb") as file:
        at = 0
        while piece := os.pread(fd, COPIED, at):
            at += file.write(piece)
    return path, True


def _complaint(ended: proc.Ended, names: Mapping[str, str], timeout: float) -> str:
    """What the end of the process has against it, "" for nothing."""
    said = summary(ended.stderr, names)
    if ended.error:
        return f"cannot be started: {ended.error}"
    if ended.timed_out:
        return f"not done within {timeout:g} s"
    if ended.signal is not None:
        return _joined(f"killed by {_signal_name(ended.signal)}", said)
    if ended.status:
        return said or f"exit status {ended.status} without a message"
    if ended.lingering:
        return "exit status 0, but something that it started still runs"
    return _joined("exit status 0", said) if said else ""


def _joined(end: str, said: str) -> str:
    return f"{end}: {said}" if said else end


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _lack(outfile: str, given: int) -> str:
    """What is wrong with a result that need not be read for that, "" for nothing; `given` is the input's size."""
    try:
        status = os.lstat(outfile)
    except FileNotFoundError:
        return "exit status 0, but wrote nothing"
    if not stat.S_ISREG(status.st_mode):
        return "exit status 0, but wrote something that is no regular file"
    if status.st_size > given + GROWTH:
        return f"exit status 0, but wrote {status.st_size} bytes of the {given} that it was given"
    return "" if status.st_size else "exit status 0, but wrote an empty file"


def summary(stderr: bytes, names: Mapping[str, str]) -> str:
    """The first line of a tool's message and how many follow, the same in any directory.

    `names` are file names and what stands for them instead.
    """
    lines = [line for raw in stderr.decode("utf-8", "replace").splitlines() if (line := _printable(raw))]
    if not lines:
        return ""
    first = lines[0]
    for name in sorted(names, key=len, reverse=True):  # the longest first: one may begin like another
        first = first.replace(name, names[name])
    if len(first) > WHY_LENGTH:
        first = first[: WHY_LENGTH - 3] + "..."
    more = len(lines) - 1
    at_least = "at least " if len(stderr) >= proc.KEPT else ""
    return f"{first} ({at_least}{more} more line{'s' * (more > 1)})" if more else first


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in line).strip()
