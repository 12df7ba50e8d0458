"""`sources.inside`: links are followed as inside the root, and nothing but regular files is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pkghook.sources import inside
from tests.trees import put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """With a file beside it that is not to be seen."""
    put(tmp_path, "outside/secret", b"outside")
    put(tmp_path, "root/real/secret", b"inside")
    return tmp_path / "root"


@pytest.mark.parametrize(
    "target", ["real", "/real", "../real", "../../../real", "./real/../real", "/../real", "/real/", "link2"]
)
def test_links_stay_inside(root: Path, target: str) -> None:
    (root / "link2").symlink_to("/real")
    (root / "link").symlink_to(target)
    assert inside.resolve(str(root), "link/secret") == str(root / "real/secret")
    assert inside.read(str(root), "link/secret") == b"inside"


def test_a_link_that_would_lead_outside(root: Path) -> None:
    (root / "link").symlink_to("../outside")
    with pytest.raises(FileNotFoundError):
        inside.read(str(root), "link/secret")
    assert inside.find(str(root), "link/secret") is None
    assert inside.names(str(root), "link") == []
    assert not inside.exists(str(root), "link/secret")


def test_the_last_component_may_be_a_link(root: Path) -> None:
    (root / "file").symlink_to("/real/secret")
    assert inside.find(str(root), "file") == b"inside"


def test_loops_end(root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        inside.resolve(str(root), "a/x")


def test_only_regular_files_of_a_reasonable_size(root: Path) -> None:
    os.mkfifo(root / "fifo")  # must not hang
    with pytest.raises(OSError, match="not a regular file"):
        inside.read(str(root), "fifo")
    with pytest.raises(OSError, match="too large"):
        inside.read(str(root), "real/secret", limit=3)
    assert inside.read(str(root), "real/secret", limit=6) == b"inside"


def test_the_running_system() -> None:
    assert inside.resolve("", "") == "/"
    assert inside.resolve("", "/..//.") == "/"
    assert os.path.samefile(inside.resolve("", "proc"), "/proc")
