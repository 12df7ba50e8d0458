"""A progress bar with rates and time left, on a terminal only.

Importing rich takes longer than stripping a small tree, so the bar comes up after a moment, when the run
turns out to be long.  rich's own refreshing thread stays off: workers are forked from this process, and
that is only safe with a single thread.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

DELAY = 1.0  # seconds until the bar appears
INTERVAL = 0.1  # seconds between two drawings


class Progress(Protocol):
    """What a run tells about its course. Byte counts are of module files before."""

    def start(self, total_modules: int, total_bytes: int) -> None:
        """The work begins: so much is to be done."""

    def advance(self, done_bytes: int, modules: int = 1) -> None:
        """So many more modules are done."""

    def stop(self) -> None:
        """The work is over or given up; the terminal is as it was. May be called twice, and without a start."""


def make(stream: TextIO, quiet: bool, *, verbose: bool = False) -> Progress:  # noqa: FBT001  see `Settings.quiet`
    """A bar if `stream` is a terminal and the user wants to hear anything; else something that keeps silent.

    `verbose` makes it say when there is no bar because rich is not installed.
    """
    return Bar(stream, verbose=verbose) if not quiet and stream.isatty() else Silence()


class Silence:
    """No bar."""

    def start(self, total_modules: int, total_bytes: int) -> None:
        """Say nothing."""

    def advance(self, done_bytes: int, modules: int = 1) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


class Bar:
    """A bar drawn by rich, if it is installed and the run takes longer than `DELAY`."""

    def __init__(self, stream: TextIO, *, verbose: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._verbose = verbose
        self._clock = clock
        self._begun = self._drawn = 0.0
        self._total_modules = self._total_bytes = self._modules = self._bytes = 0
        self._rich: tuple[RichProgress, TaskID] | None = None
        self._missing = False

    def start(self, total_modules: int, total_bytes: int) -> None:
        """Note the time and what is to be done; nothing is drawn yet."""
        self._begun = self._drawn = self._clock()
        self._total_modules, self._total_bytes = total_modules, total_bytes
        self._modules = self._bytes = 0

    def advance(self, done_bytes: int, modules: int = 1) -> None:
        """Count, and draw if it is time to."""
        self._modules += modules
        self._bytes += done_bytes
        now = self._clock()
        if self._missing or now - self._begun < DELAY or now - self._drawn < INTERVAL:
            return
        self._drawn = now
        if self._rich is None:
            self._rich = self._open()
        if self._rich is not None:
            bar, task = self._rich
            bar.update(task, completed=self._done(), rates=self.rates(now - self._begun))
            bar.refresh()

    def stop(self) -> None:
        """Remove the bar and show the cursor again."""
        if self._rich is not None:
            bar, _ = self._rich
            self._rich = None
            bar.stop()

    def rates(self, elapsed: float) -> str:
        """Modules done, modules and megabytes (10^6 bytes) a second, and the time left, judged by bytes."""
        left = elapsed * (1 - self._done()) / self._done() if self._done() else 0.0
        of_all = f"/{self._total_modules}" if self._total_modules else ""  # in a package only its end tells
        return (
            f"{self._modules}{of_all} modules, {self._modules / elapsed:.0f}/s, "
            f"{self._bytes / elapsed / 1e6:.1f} MB/s, {_minutes(left)} left"
        )

    def _done(self) -> float:
        """The part that is done, 0 to 1; by bytes, or by modules where all are empty."""
        if self._total_bytes:
            return min(1.0, self._bytes / self._total_bytes)
        return min(1.0, self._modules / max(1, self._total_modules))

    def _open(self) -> tuple[RichProgress, TaskID] | None:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn
            from rich.progress import Progress as RichProgress
        except ImportError:
            self._missing = True
            if self._verbose:
                self._stream.write("pkghook: no progress bar: the Python package rich is not installed\n")
            return None
        bar = RichProgress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rates]}"),
            console=Console(file=self._stream),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        task = bar.add_task("", total=1.0, rates="")
        bar.start()
        return bar, task


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02}"
