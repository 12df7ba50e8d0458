"""`pkghook verify` on whole kernels: the unstripped tree and the shipped one are the same modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkghook import cli
from pkghook.ko import codec
from pkghook.model import Compression
from tests import modules
from tests.support import need_kernel
from tests.surgery import Patient


def test_a_kernel_and_what_is_shipped_of_it(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trees = [str(need_kernel(corpus, "amd64", part)) for part in ("dbg", "shipped")]
    number = len(modules.unstripped(corpus, "amd64"))
    for args, debug in ((trees, f"{number} before, 0 after"), (trees[::-1], f"0 before, {number} after")):
        assert cli.main(["verify", *args]) == 0
        said = capsys.readouterr().out
        assert said == (
            f"{number} of {number} the same module to the loader; with debug information: {debug}; "
            f"signatures differ: {number}\n"
        )


@pytest.mark.parametrize("kernel", ["arm64", "s390x", "armel"])
def test_part_of_a_kernel(corpus: Path, capsys: pytest.CaptureFixture[str], kernel: str) -> None:
    """Only some unstripped modules are there: each has its shipped twin, and the others are told."""
    trees = [str(need_kernel(corpus, kernel, part)) for part in ("dbg", "shipped")]
    number = len(modules.unstripped(corpus, kernel))
    assert cli.main(["verify", *trees]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith(f"{number} of ")
    assert all("[only-after]" in line for line in said[:-2])


def test_damage_in_a_tree(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real modules, compressed in all ways, and one byte of one of them changed."""
    paths = modules.sample(corpus, "amd64", 9, limit=4 << 20)
    for path, how in zip(paths, list(Compression) * 3, strict=False):
        name = f"{modules.stem(path)}.ko"
        for side, data in (
            ("before", path.read_bytes()),
            ("after", modules.image(modules.shipped(corpus, "amd64", path))),
        ):
            suffix = how.suffix if side == "after" else ""
            place = tmp_path / side / "lib/modules" / (name + suffix)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(codec.compress(data, how) if suffix else data)
    args = ["verify", str(tmp_path / "before"), str(tmp_path / "after")]
    assert cli.main(args) == 0
    damaged = next((tmp_path / "after").rglob("*.ko"))
    patient = Patient(damaged.read_bytes())
    damaged.write_bytes(bytes(patient.flip(patient.section(".modinfo", "offset"))))
    capsys.readouterr()
    assert cli.main(args) == 1
    said = capsys.readouterr().out
    assert "[alloc-changed]" in said
    assert str(damaged.relative_to(tmp_path / "after")) in said
