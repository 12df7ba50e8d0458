"""`proc`: programs that end, hang, flood, leave children behind or are not there at all."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkghook import proc
from tests.processes import gone, kill


def sh(script: str, timeout: float = 20.0, *, fds: tuple[int, ...] = (), keep_stdout: bool = False) -> proc.Ended:
    """Run a shell script."""
    return proc.run(["/bin/sh", "-c", script], timeout=timeout, pass_fds=fds, keep_stdout=keep_stdout)


def python(script: str, timeout: float = 20.0) -> proc.Ended:
    """Run a Python script."""
    return proc.run([sys.executable, "-c", script], timeout=timeout)


@pytest.fixture
def pidfile(tmp_path: Path) -> Iterator[Path]:
    """Where scripts write the numbers of what they start; what is left of those is ended afterwards."""
    path = tmp_path / "pids"
    yield path
    kill(map(int, path.read_text("ascii").split()))


# --- how a program ends ----------------------------------------------------------------------------------------------


def test_a_program_that_does_its_work() -> None:
    ended = sh("echo out; exit 0")
    assert ended == proc.Ended(0, None, timed_out=False, stdout=b"out\n", stderr=b"")
    assert ended.clean


def test_exit_status_and_stderr() -> None:
    ended = sh("echo oops >&2; exit 3")
    assert (ended.status, ended.signal, ended.timed_out, ended.stderr) == (3, None, False, b"oops\n")
    assert not ended.clean
    assert not sh("echo oops >&2").clean


def test_killed_by_a_signal() -> None:
    ended = sh("echo before; kill -SEGV $$")
    assert (ended.status, ended.signal, ended.timed_out, ended.stdout) == (None, signal.SIGSEGV, False, b"before\n")


@pytest.mark.parametrize("content", [None, b"#!/no/such/interpreter\n", b"\x7fELF junk"])
def test_a_program_that_cannot_be_started(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "program"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o755)
    ended = proc.run([str(path)], timeout=5)
    assert ended.error in {"No such file or directory", "Exec format error"}
    assert (ended.status, ended.signal, ended.timed_out) == (None, None, False)
    assert not ended.clean


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    assert proc.run([str(tmp_path)], timeout=5).error == "Permission denied"


# --- what it is given ------------------------------------------------------------------------------------------------


def test_environment_is_built_from_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("PATH", "relative:/usr/bin::.:/bin")
    monkeypatch.setenv("TMPDIR", "/somewhere")
    monkeypatch.setenv("SECRET", "x")
    ended = proc.run(["env"], timeout=5)
    assert set(ended.stdout.split()) == {b"PATH=/usr/bin:/bin", b"LC_ALL=C", b"TMPDIR=/somewhere"}


def test_no_path_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    monkeypatch.delenv("TMPDIR", raising=False)
    assert proc.environment() == {"PATH": os.defpath, "LC_ALL": "C"}


def test_stdin_is_empty() -> None:
    assert sh("cat; readlink /proc/self/fd/0").stdout == b"/dev/null\n"


def test_words_are_never_split_nor_expanded() -> None:
    assert proc.run(["printf", "%s|", "a b", "$HOME", "*"], timeout=5).stdout == b"a b|$HOME|*|"


def test_handles_are_closed_but_those_given(tmp_path: Path) -> None:
    with (tmp_path / "given").open("wb+") as given, (tmp_path / "other").open("wb+") as other:
        given.write(b"contents")
        given.flush()
        os.set_inheritable(other.fileno(), True)
        ended = sh(f"cat /dev/fd/{given.fileno()}; ls /proc/self/fd/{other.fileno()}", fds=(given.fileno(),))
    assert ended.stdout == b"contents"
    assert ended.status != 0


def test_directory_to_run_in(tmp_path: Path) -> None:
    assert proc.run(["pwd"], timeout=5, cwd=str(tmp_path)).stdout.rstrip() == str(tmp_path.resolve()).encode()


def test_it_stays_in_our_process_group() -> None:
    """When pkghook dies, the kernel signals that group: nothing may be left running."""
    assert python("import os; print(os.getpgrp())").stdout.strip() == str(os.getpgrp()).encode()


# --- what it prints --------------------------------------------------------------------------------------------------


def test_a_flood_is_read_to_the_end_and_thrown_away() -> None:
    flood = "head -c 3000000 /dev/zero | tr '\\0' x"
    ended = sh(f"({flood}) >&2; {flood}; echo end")
    assert ended.status == 0
    assert ended.stderr == ended.stdout == b"x" * proc.KEPT


def test_all_of_stdout_where_it_is_wanted() -> None:
    ended = sh("head -c 3000000 /dev/zero", keep_stdout=True)
    assert ended.stdout == bytes(3_000_000)


def test_a_program_that_closes_its_output_and_works_on() -> None:
    start = time.monotonic()
    ended = sh("exec >&- 2>&-; sleep 0.3; exit 7")
    assert ended.status == 7
    assert time.monotonic() - start >= 0.3


# --- the time limit --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["", "exec >&- 2>&-; ", "trap '' TERM INT HUP; "])
def test_a_program_that_hangs(how: str) -> None:
    start = time.monotonic()
    ended = sh(f"echo begun; {how}exec sleep 600", timeout=1.0)
    assert (ended.status, ended.signal, ended.timed_out) == (None, None, True)
    assert ended.stdout == b"begun\n"
    assert time.monotonic() - start < 5


def test_a_program_that_floods_for_ever() -> None:
    ended = sh("yes", timeout=0.3)
    assert ended.timed_out
    assert len(ended.stdout) == proc.KEPT


def test_what_it_has_started_is_ended_with_it(pidfile: Path) -> None:
    """A wrapper script: the tool proper is its grandchild and holds the pipes."""
    nested = f"sleep 600 & echo $! >> {pidfile}; sh -c 'sleep 600 & echo $! >> {pidfile}; wait' & echo $! >> {pidfile}"
    ended = sh(f"{nested}; wait", timeout=2.0)
    assert ended.timed_out
    pids = [int(word) for word in pidfile.read_text("ascii").split()]
    assert len(pids) == 3
    assert gone(pids, 5)


def test_nobody_waits_for_an_independent_grandchild(pidfile: Path) -> None:
    """It has left its parent and cannot be found any more, but it holds both pipes."""
    daemon = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
    daemon += f"open({str(pidfile)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)"
    start = time.monotonic()
    ended = python(daemon)
    assert ended.status == 0
    assert ended.lingering
    assert not ended.clean
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("noise", ["sleep 600", "yes"])
def test_output_of_a_program_that_leaves_a_child_behind(pidfile: Path, noise: str) -> None:
    ended = sh(f"echo before; {noise} >&2 & echo $! > {pidfile}; echo after")
    assert (ended.status, ended.lingering, ended.stdout) == (0, True, b"before\nafter\n")


def test_nothing_is_left_when_we_are_interrupted(pidfile: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            sh(f"echo $$ > {pidfile}; exec sleep 600")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert gone([int(pidfile.read_text("ascii"))], 5)


def test_no_handle_leaks() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for script in ("exit 0", "exec sleep 600", "kill -KILL $$"):
        sh(script, timeout=0.2)
    proc.run(["/no/such/program"], timeout=1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_a_list_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is missing, the program itself is still killed."""
    listdir = os.listdir

    def without_proc(path: str) -> list[str]:
        if path.startswith("/proc/"):
            raise FileNotFoundError(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", without_proc)
    assert sh("exec sleep 600", timeout=0.2).timed_out


# --- where it lies ---------------------------------------------------------------------------------------------------


def test_which_wants_an_executable_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("directory", "plain", "fifo", "dangling", "program", "later"):
        (tmp_path / place).mkdir()
    (tmp_path / "directory/tool").mkdir()
    (tmp_path / "plain/tool").write_text("#!/bin/sh\n")
    os.mkfifo(tmp_path / "fifo/tool", 0o755)
    (tmp_path / "dangling/tool").symlink_to("nothing")
    for place in ("program", "later"):
        (tmp_path / place / "tool").write_text("#!/bin/sh\n")
        (tmp_path / place / "tool").chmod(0o755)
    places = ["none", "directory", "plain", "fifo", "dangling"]
    path = ":".join(str(tmp_path / place) for place in places)
    assert proc.which("tool", path) == ""
    path += f"::{tmp_path}/program:{tmp_path}/later"
    assert proc.which("tool", path) == f"{tmp_path}/program/tool"
    monkeypatch.setenv("PATH", path)
    assert proc.which("tool") == f"{tmp_path}/program/tool"
    assert proc.which(f"{tmp_path}/later/tool") == f"{tmp_path}/later/tool"
    assert proc.which(f"{tmp_path}/plain/tool") == ""


def test_which_never_looks_into_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ":.:")
    assert proc.which("tool") == ""


# --- a stream --------------------------------------------------------------------------------------------------------


def streamed(script: str, stall: float = 20.0, *, stdin: int | None = None) -> proc.Stream:
    """A running shell script."""
    stream = proc.stream(["/bin/sh", "-c", script], stall=stall, stdin=stdin)
    assert isinstance(stream, proc.Stream)
    return stream


def test_a_stream_is_read_while_the_program_runs() -> None:
    with streamed("echo one; sleep 0.3; echo two; echo oops >&2; exit 3") as stream:
        assert stream.read(100) == b"one\n"
        assert stream.readall() == b"two\n"
        assert stream.ended() == proc.Ended(3, None, timed_out=False, stdout=b"", stderr=b"oops\n")


def test_a_stream_of_more_than_a_pipe_holds() -> None:
    with streamed("head -c 5000000 /dev/zero; kill -SEGV $$") as stream:
        assert stream.readall() == bytes(5_000_000)
        assert stream.ended().signal == signal.SIGSEGV


def test_a_stream_with_a_flood_on_stderr() -> None:
    flood = "head -c 3000000 /dev/zero | tr '\\0' x >&2"
    with streamed(f"{flood}; echo out; {flood}") as stream:
        assert stream.readall() == b"out\n"
        ended = stream.ended()
    assert (ended.status, ended.stderr) == (0, b"x" * proc.KEPT)


def test_a_stream_begins_where_the_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before, behind")
    with path.open("rb", buffering=0) as file:
        file.seek(8)
        with streamed("cat", stdin=file.fileno()) as stream:
            assert stream.readall() == b"behind"


@pytest.mark.parametrize("noise", ["", "yes >&2 & "])
def test_a_stream_that_stalls(pidfile: Path, noise: str) -> None:
    start = time.monotonic()
    with streamed(f"echo $$ >> {pidfile}; {noise}echo begun; sleep 600 & echo $! >> {pidfile}; wait", 1.5) as stream:
        assert stream.read(100) == b"begun\n"
        assert stream.read(100) == b""
        assert stream.ended().timed_out
    assert time.monotonic() - start < 20
    assert gone(map(int, pidfile.read_text("ascii").split()), 5)


def test_a_slow_reader_is_no_stall() -> None:
    with streamed("yes | head -c 3000000", 1.5) as stream:
        assert len(stream.read(1000) or b"") == 1000
        time.sleep(2)
        assert len(stream.readall()) == 2_999_000
        assert stream.ended().clean


def test_a_stream_left_early_is_ended(pidfile: Path) -> None:
    with streamed(f"echo $$ > {pidfile}; exec yes") as stream:
        assert stream.read(2) == b"y\n"
    assert stream.closed
    assert gone([int(pidfile.read_text("ascii"))], 5)


def test_a_stream_that_closes_its_output_and_stays() -> None:
    with streamed("echo out; exec >&- 2>&-; sleep 600", 1.5) as stream:
        assert stream.readall() == b"out\n"
        assert stream.ended().timed_out


def test_a_stream_that_cannot_be_started() -> None:
    assert proc.stream(["/no/such/program"], stall=1) == proc.Ended(
        None, None, timed_out=False, stdout=b"", stderr=b"", error="No such file or directory"
    )


def test_no_handle_leaks_from_streams() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for script in ("exit 0", "yes", "kill -KILL $$"):
        with streamed(script) as stream:
            stream.read(1)
    assert len(os.listdir("/proc/self/fd")) == before
