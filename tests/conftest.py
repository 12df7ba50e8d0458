"""What all tests share: the corpus of real modules, and a closing table of minutes per part."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import settings

from tests.setup import kernels
from tests.support import lacking

MINUTES: pytest.StashKey[dict[str, float]] = pytest.StashKey()


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Directory of real kernels, `NAME/shipped` and `NAME/dbg` (see tests/setup/kernels.py). Never write below it."""
    home = kernels.corpus_dir()
    if not home.is_dir():
        lacking(f"no kernels in {home}; tests/run fetches them")
    return home


Tell = Callable[[str], None]


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Writes a line with figures for tests/RESULTS.md to the terminal, past pytest's capture of a test's output."""
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")

    def told(line: str) -> None:
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            if reporter:
                reporter.write_line(f"\n{line}")

    return told


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the sums, and have Ctrl-C work in what tests start: shells ignore it for background jobs.

    No example of hypothesis has to be quick: a busy machine is no failure.
    """
    settings.register_profile("patient", settings(), deadline=None)
    settings.load_profile("patient")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.stash[MINUTES] = defaultdict(float)


def part_of(nodeid: str) -> str:
    """`unit` for `tests/unit/test_elf.py::test_x`."""
    pieces = nodeid.split("/")
    return pieces[1] if len(pieces) > 2 else "other"


class Clock:
    """Adds up what each part took."""

    def __init__(self, minutes: dict[str, float]) -> None:
        self.minutes = minutes

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Setup, call and teardown of each test."""
        self.minutes[part_of(report.nodeid)] += report.duration / 60


def pytest_sessionstart(session: pytest.Session) -> None:
    """Start the clock."""
    session.config.pluginmanager.register(Clock(session.config.stash[MINUTES]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Minutes per part, what `tests/run` did before included, and what was not run."""
    before = dict(pair.split("=") for pair in os.environ.get("TESTS_RUN_MINUTES", "").split())
    rows = [(f"{part} (set up)", float(spent)) for part, spent in before.items()]
    rows += sorted(config.stash[MINUTES].items())
    terminalreporter.section("minutes per part")
    for part, spent in rows:
        terminalreporter.line(f"{part:20} {spent:6.2f}")
    left_out = len(terminalreporter.stats.get("deselected", []))
    skipped = len(terminalreporter.stats.get("skipped", []))
    terminalreporter.line(f"not run: {skipped} skipped (reasons above), {left_out} deselected")
    if names := os.environ.get("TESTS_RUN_FULL"):
        terminalreporter.line(f"not run: the long proofs, tests/run --full {{{','.join(names.split())}}}")
