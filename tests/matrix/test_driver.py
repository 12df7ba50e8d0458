"""The driver of the matrix: what was not run is never passed, and what failed is told by the exit status."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.matrix import __main__ as driver
from tests.matrix.cells import Cell
from tests.matrix.systems import SUITES, Suite, System
from tests.setup.apt import SetupError
from tests.setup.chroots import Chroot


class Fake(System):
    """A system that is not there."""

    def versions(self) -> dict[str, str]:
        return {"rpm": "4.20.1" if self.suite.name == "trixie" else "6.1.0", "dkms": "3.2"}


def good(_: System) -> str:
    return "all is well"


def bad(_: System) -> str:
    raise AssertionError("17 modules lost")


def unfetched(_: System) -> str:
    raise SetupError("no network")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Exit status and output of the driver with these cells; there is no `bookworm` to be had."""

    @contextmanager
    def opened(suite: Suite, place: Path) -> Iterator[System]:
        if suite.name == "bookworm":
            raise SetupError("mmdebstrap bookworm failed")
        yield Fake(Chroot(place), suite)

    def ran(*cells: Cell, suites: tuple[str, ...] = ("bookworm", "trixie", "sid")) -> tuple[int, str]:
        monkeypatch.setattr(driver, "CELLS", cells)
        monkeypatch.setattr("sys.argv", ["tests.matrix", *suites])
        status = driver.main()
        return status, capsys.readouterr().out

    monkeypatch.setattr(driver, "opened", opened)
    monkeypatch.delenv("PKGHOOK_REQUIRE_TOOLS", raising=False)
    return ran


def test_what_is_there_is_run(run: Callable[..., tuple[int, str]]) -> None:
    status, said = run(Cell("one", good), Cell("six", good, rpm=6), suites=("trixie", "sid"))
    assert status == 0
    assert "3 ok, 0 FAILED, 0 not run\n" in said
    assert "sid       six        ok       all is well" in said
    assert "trixie    six" not in said
    assert "  rpm   4.20.1  6.1.0\n" in said


def test_a_suite_that_cannot_be_fetched(run: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    status, said = run(Cell("one", good))
    assert status == 0
    assert "bookworm  all        not run  mmdebstrap bookworm failed\n" in said
    assert "2 ok, 0 FAILED, 1 not run\nnot run: bookworm all\n" in said
    monkeypatch.setenv("PKGHOOK_REQUIRE_TOOLS", "1")
    assert run(Cell("one", good))[0] == 2


def test_nothing_ran_is_not_passed(run: Callable[..., tuple[int, str]]) -> None:
    assert run(Cell("one", good), suites=("bookworm",))[0] == 2
    assert run(Cell("one", unfetched))[0] == 2


def test_a_failure_does_not_stop_the_others(run: Callable[..., tuple[int, str]]) -> None:
    status, said = run(Cell("one", bad), Cell("two", good), Cell("three", unfetched), suites=("sid",))
    assert status == 1
    assert "sid       one        FAILED   AssertionError: 17 modules lost" in said
    assert "sid       three      not run  no network" in said
    assert "1 ok, 1 FAILED, 1 not run\nFAILED: sid one\nnot run: sid three\n" in said


def test_unknown_suite(run: Callable[..., tuple[int, str]]) -> None:
    assert set(SUITES) == {"bookworm", "trixie", "sid", "rpm-4.16"}
    assert run(suites=("potato",))[0] == 2
