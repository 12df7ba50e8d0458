"""A thousand damages to real modules, the same each time: each is judged different, or the loader cannot see it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from pkghook.errors import ModuleError
from pkghook.ko.elf import Elf
from pkghook.ko.prove import prove
from tests import loader, modules
from tests.modules import WITH_DEBUG
from tests.mutants import mutant
from tests.surgery import elf, native_strip

SEED = 2009
NUMBER = 250  # for each kernel
MODULES = ("tun", "af_alg", "crc-itu-t", "crc7")


@pytest.mark.parametrize("kernel", WITH_DEBUG)
def test_every_damage_is_judged_as_the_loader_would(corpus: Path, kernel: str) -> None:
    random = Random(f"{SEED} {kernel}")  # noqa: S311  not a secret, but the same each time
    survivors, killed = [], 0
    for name in MODULES:
        data = modules.image(modules.named(corpus, kernel, name))
        before, out, original = elf(data), native_strip(data), loader.Original(data)
        for _ in range(NUMBER // len(MODULES)):
            damaged, told = mutant(out, random)
            accepted = passes(before, damaged)
            assert accepted == original.same(damaged), (name, told)
            if accepted:
                survivors.append(told)
            killed += not accepted
    assert killed > 0.9 * (killed + len(survivors)), survivors


def passes(before: Elf, damaged: bytes) -> bool:
    """What the verifier says."""
    try:
        return not prove(before, elf(damaged))
    except ModuleError:
        return False
