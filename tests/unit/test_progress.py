"""The progress bar: on a terminal only, late, and never in the way."""

from __future__ import annotations

import builtins
import io
import threading
from types import ModuleType
from typing import Any

import pytest

from pkghook.report import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def bar(stream: io.StringIO, *, verbose: bool = False) -> tuple[progress.Bar, Clock]:
    clock = Clock()
    return progress.Bar(stream, verbose=verbose, clock=clock), clock


def test_only_on_a_terminal_and_not_when_quiet() -> None:
    assert isinstance(progress.make(io.StringIO(), quiet=False), progress.Silence)
    assert isinstance(progress.make(Terminal(), quiet=True), progress.Silence)
    assert isinstance(progress.make(Terminal(), quiet=False), progress.Bar)


def test_silence_says_nothing() -> None:
    stream = io.StringIO()
    silence = progress.make(stream, quiet=False)
    silence.start(1, 1)
    silence.advance(1)
    silence.stop()
    assert stream.getvalue() == ""


def test_short_run_has_no_bar() -> None:
    stream = Terminal()
    shown, clock = bar(stream)
    shown.start(10, 1000)
    clock.now += progress.DELAY / 2
    shown.advance(1000, 10)
    shown.stop()
    assert stream.getvalue() == ""


def test_long_run_shows_rates_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "150")
    stream = Terminal()
    shown, clock = bar(stream)
    shown.start(40, 400_000_000)
    clock.now += 2
    threads = threading.active_count()
    shown.advance(100_000_000, 10)
    assert threading.active_count() == threads, "workers are forked from this process"
    clock.now += 2
    shown.advance(100_000_000)
    shown.stop()
    shown.stop()
    text = stream.getvalue()
    assert "10/40 modules, 5/s, 50.0 MB/s, 0:06 left" in text
    assert "11/40 modules, 3/s, 50.0 MB/s, 0:04 left" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"


def test_it_does_not_draw_for_every_module() -> None:
    pytest.importorskip("rich")
    stream = Terminal()
    shown, clock = bar(stream)
    shown.start(1000, 1000)
    clock.now += progress.DELAY
    shown.advance(1)
    drawn = len(stream.getvalue())
    for _ in range(100):
        shown.advance(1)
    assert len(stream.getvalue()) == drawn
    shown.stop()


def test_rates_of_nothing() -> None:
    shown, _ = bar(Terminal())
    shown.start(0, 0)
    assert shown.rates(2.0) == "0 modules, 0/s, 0.0 MB/s, 0:00 left"
    shown.start(4, 0)
    shown.advance(0)
    assert shown.rates(20.0).endswith("1:00 left"), "empty files are counted by number"


def test_stop_without_start() -> None:
    progress.make(Terminal(), quiet=False).stop()


@pytest.mark.parametrize("verbose", [False, True])
def test_without_rich(monkeypatch: pytest.MonkeyPatch, verbose: bool) -> None:  # noqa: FBT001
    really = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> ModuleType:  # noqa: ANN401
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    stream = Terminal()
    shown, clock = bar(stream, verbose=verbose)
    shown.start(3, 3)
    for _ in range(3):
        clock.now += 2
        shown.advance(1)
    shown.stop()
    told = "pkghook: no progress bar: the Python package rich is not installed\n"
    assert stream.getvalue() == (told if verbose else "")
