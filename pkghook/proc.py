"""The only place where pkghook starts other programs.

A program gets a list of words (never a shell), nothing on stdin, an environment built from scratch, a
time limit, and no file handles but those it is given.  What it prints is kept up to a bound and read to
the end, so that a flood neither fills memory nor blocks it.

It stays in our process group on purpose: when pkghook dies, the kernel signals that whole group, and
nothing is left running.  At the time limit the program is found by its number and what it has started by
`/proc`; nobody waits for a grandchild which has made itself independent and still holds the pipes.
"""

from __future__ import annotations

import io
import os
import select
import signal
import stat
import time
from typing import TYPE_CHECKING

from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from subprocess import Popen
    from typing import Any

KEPT = 64 << 10  # bytes kept of stdout and of stderr, each
NO_BOUND = 1 << 62
CHUNK = 64 << 10  # bytes read at a time: what a pipe holds
TICK = 0.1  # seconds between looks at a program that prints nothing
PIPE = 1 << 20  # bytes that the pipe of a `stream` holds, where the system allows it
GRACE = 1.0  # seconds for the last output of a program that has ended, and for the end of one that was killed


class Ended(NamedTuple):
    """How a program ended: with an exit status, by a signal, at the time limit, or before it started."""

    status: int | None  # exit status; None in the three other cases
    signal: int | None  # number of the signal that ended it by itself
    timed_out: bool
    stdout: bytes  # at most KEPT bytes, unless all were asked for
    stderr: bytes  # at most KEPT bytes
    error: str = ""  # why it could not be started
    lingering: bool = False  # it has ended, but something that it started still holds its output open

    @property
    def clean(self) -> bool:
        """Exit status 0 without a word on stderr, and nothing left running."""
        return self.status == 0 and not self.stderr and not self.lingering


def search_path() -> str:
    """`PATH` without relative directories: root must not run what lies in the current one."""
    words = os.environ.get("PATH", "").split(":")
    return ":".join(word for word in words if word.startswith("/")) or os.defpath


def which(name: str, path: str = "") -> str:
    """The first executable regular file `name` in `path` (by default `search_path()`), or "".

    A `name` with a slash is looked at as it is.
    """
    if "/" in name:
        return name if _executable(name) else ""
    places = (f"{place}/{name}" for place in (path or search_path()).split(":") if place)
    return next(filter(_executable, places), "")


def _executable(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)
    except OSError:
        return False


def environment() -> dict[str, str]:
    """All that a program finds in its environment. The C locale, because what it prints is looked at."""
    kept = {"TMPDIR": os.environ["TMPDIR"]} if os.environ.get("TMPDIR") else {}
    return {"PATH": search_path(), "LC_ALL": "C", **kept}


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    keep_stdout: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Ended:
    """Run `argv` to its end, `timeout` seconds at most.

    `pass_fds` stay open in the program under the same numbers.  `keep_stdout` keeps all of stdout instead
    of the first `KEPT` bytes.  `environ` is for a program that was to be run by somebody else: what it would
    have found.  Nothing is raised for a program that cannot be started: see `Ended.error`.
    """
    import subprocess

    deadline = time.monotonic() + timeout
    try:
        child = subprocess.Popen(  # noqa: S603 a list of words, never a shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment() if environ is None else environ,
            cwd=cwd,
            pass_fds=pass_fds,
        )
    except OSError as error:
        return _not_started(error)
    try:
        return _collect(child, deadline, NO_BOUND if keep_stdout else KEPT)
    finally:  # also when a signal handler of ours raises
        _release(child)


def stream(
    argv: Sequence[str], *, stall: float, stdin: int | None = None, pass_fds: Sequence[int] = ()
) -> Stream | Ended:
    """Start `argv` and give what it prints on stdout as it comes; `Ended` for a program that cannot be started.

    `stdin` is a file handle for the program's stdin (by default there is nothing on it), read from where it
    stands.  The program is killed when it prints nothing for `stall` seconds while it is read from.
    """
    import subprocess

    try:
        child = subprocess.Popen(  # noqa: S603 a list of words, never a shell
            argv,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment(),
            pass_fds=pass_fds,
        )
    except OSError as error:
        return _not_started(error)
    return Stream(child, stall)


class Stream(io.RawIOBase):
    """What a running program prints on stdout; made by `stream`.

    Whoever reads to the end asks `ended()` how the program fared: to a reader a program that dies half way, or
    is killed because it prints nothing, looks like one that has done its work.  `close()` kills one that still runs.
    """

    def __init__(self, child: Popen[bytes], stall: float) -> None:
        self._child = child
        self._stall = stall
        self._stderr = _Output(KEPT)
        self._timed_out = False
        self._open = [pipe.fileno() for pipe in (child.stdout, child.stderr) if pipe]
        self._out, self._err = self._open
        self._waiting = select.poll()
        for fd in self._open:
            self._waiting.register(fd, select.POLLIN)
        _widen(self._out)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 typeshed's Buffer has no name at run time before 3.12
        """Bytes of stdout put into `buffer`; 0 at the end, and when the program was killed at the time limit."""
        deadline = time.monotonic() + self._stall
        while self._out in self._open and not self._timed_out:
            if self._look(deadline - time.monotonic()):
                if got := os.readv(self._out, [buffer]):
                    return got
                self._forget(self._out)
            elif time.monotonic() >= deadline:
                self._timed_out = True
                _kill_tree(self._child.pid)
        return 0

    def ended(self) -> Ended:
        """How the program ended, once stdout has been read to its end; if it does not end, it counts as timed out."""
        deadline = time.monotonic() + self._stall
        while self._err in self._open and self._child.poll() is None and time.monotonic() < deadline:
            self._look(TICK)
        code = _wait(self._child, deadline - time.monotonic())
        for _ in range(1 + PIPE // CHUNK):  # what is left in the pipe, should others still write into it
            if self._err in self._open:
                self._look(0)
        return _how(None if self._timed_out else code, b"", bytes(self._stderr.kept))

    def close(self) -> None:
        """Kill the program if it still runs, and reap it."""
        if not self.closed:
            _release(self._child)
        super().close()

    def _look(self, seconds: float) -> bool:
        """Whether stdout has something to read, or its end, within `seconds`; what stderr has is taken."""
        ready = [fd for fd, _ in self._waiting.poll(max(seconds, 0) * 1000)]
        if self._err in ready:
            chunk = os.read(self._err, CHUNK)
            self._stderr.take(chunk)
            if not chunk:
                self._forget(self._err)
        return self._out in ready

    def _forget(self, fd: int) -> None:
        self._waiting.unregister(fd)
        self._open.remove(fd)


def _widen(fd: int) -> None:
    """Fewer turns with a wider pipe. Not everybody may have one: pipe(7), pipe-user-pages-soft."""
    import fcntl

    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE)
    except OSError:
        return


def _not_started(error: OSError) -> Ended:
    return Ended(None, None, timed_out=False, stdout=b"", stderr=b"", error=error.strerror or str(error))


def _how(code: int | None, stdout: bytes, stderr: bytes, *, lingering: bool = False) -> Ended:
    """`code` as subprocess has it: negative for a signal, None for a program that did not end in time."""
    return Ended(
        status=code if code is not None and code >= 0 else None,
        signal=-code if code is not None and code < 0 else None,
        timed_out=code is None,
        stdout=stdout,
        stderr=stderr,
        lingering=lingering,
    )


def _collect(child: Popen[bytes], deadline: float, bound: int) -> Ended:
    out, err = _Output(bound), _Output(KEPT)
    pipes = {pipe.fileno(): output for pipe, output in ((child.stdout, out), (child.stderr, err)) if pipe}
    lingering = not _read_all(child, pipes, deadline) and child.poll() is not None
    code = _wait(child, deadline - time.monotonic())
    return _how(code, bytes(out.kept), bytes(err.kept), lingering=lingering)


class _Output:
    """What a program printed on one pipe, up to a bound."""

    def __init__(self, bound: int) -> None:
        self.kept = bytearray()
        self.bound = bound

    def take(self, chunk: bytes) -> None:
        self.kept += chunk[: self.bound - len(self.kept)]


def _read_all(child: Popen[bytes], pipes: dict[int, _Output], deadline: float) -> bool:
    """Read the pipes to their ends; False if a pipe was still open at the deadline or after the program's end."""
    waiting = select.poll()
    for fd in pipes:
        waiting.register(fd, select.POLLIN)
    still_open, ended = set(pipes), False
    while still_open:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        events = waiting.poll(min(left, TICK) * 1000)
        for fd, _ in events:
            chunk = os.read(fd, CHUNK)
            pipes[fd].take(chunk)
            if not chunk:
                waiting.unregister(fd)
                still_open.discard(fd)
        if ended and not events:
            return False
        if not ended and child.poll() is not None:
            # Its own ends of the pipes are closed; what is in them is read, then only others can hold them.
            ended, deadline = True, min(deadline, time.monotonic() + GRACE)
    return True


def _wait(child: Popen[bytes], seconds: float) -> int | None:
    """The exit status, negative for a signal, or None if it does not end within `seconds`."""
    import subprocess

    try:
        return child.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        return None


def _release(child: Popen[bytes]) -> None:
    if child.poll() is None:
        _kill_tree(child.pid)
        _wait(child, GRACE)  # not for ever: a process in a dead network file system cannot be killed
    for pipe in (child.stdout, child.stderr):
        if pipe:
            pipe.close()


def _kill_tree(pid: int) -> None:
    """Kill `pid`, a child of ours that was not waited for, and what it has started."""
    tree = [pid]
    for member in tree:  # grows while it is walked
        # A stopped parent starts no more children and reaps none, so their numbers stay theirs until the kill.
        _send(member, signal.SIGSTOP)
        tree += _children(member)
    for member in reversed(tree):
        _send(member, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return  # gone already, or another user's: nothing that we could do


def _children(pid: int) -> list[int]:
    """Children of all threads of `pid`, as `/proc` has it; none where there is no such file."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass
    return found
