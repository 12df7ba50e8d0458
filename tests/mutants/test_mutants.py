"""Damages to real modules, the same each time: each is rejected, or the loader cannot see it and we know why.

And the other way round: what is only laid out otherwise is the same.  `tests/run` tries a thousand damages,
`tests/run --full mutants` twenty thousand and five thousand harmless changes.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from pkghook.errors import ModuleError
from pkghook.ko.elf import Elf
from pkghook.ko.prove import prove
from tests import loader, modules, shapes
from tests.conftest import Tell
from tests.modules import WITH_DEBUG
from tests.mutants.damages import mutant, one
from tests.mutants.harmless import Module, relaid
from tests.surgery import elf, native_strip

SEED = 2009
NUMBER = 250  # for each kernel
MODULES = ("tun", "af_alg", "crc-itu-t", "crc7")
FULL, HARMLESS = 20_000, 5_000
EACH = 12  # modules of each kernel, in full
LIMIT = 3 << 20  # bytes of an unstripped module: the second opinion is slow

# Damages that are accepted, by the verifier and by the second opinion alike, and why that is right.
HARMLESS_DAMAGES = {
    r"(bit of )?header (phoff|shoff|phentsize|phnum|ehsize)": "no program headers are read, nor the header's own size",
    r"(bit of )?section \d+ .* (addr|offset) =": "the loader sets addresses; an empty section may lie anywhere",
    r"(bit of )?section 0  (link|info|align|entsize) =": "of section 0 only type, size and address must be 0",
    r"(bit of )?section \d+ \.(symtab|strtab|shstrtab) (name|flags|align|info|entsize|link|size) =": "the tables are "
    "found by number; what is not read of them, a name table that ends later",
    r"(bit of )?section \d+ \.rela?\S* flags =": "INFO_LINK, which tools set and clear as they like",
    r"(bit of )?section \d+ (?!\.rela?|\.klp|\.symtab|\.group)\S+ info =": "sh_info means nothing here",
    r"sections \d+ \S+ and \d+ \S+ swapped": "no two loaded sections changed their order, nor two for one target",
    r"section \.(debug_info|stab) added, 0 bytes": "an empty one: there is nothing to read in it",
    r"bit of padding": "between the sections",
    r"bit of (contents of )?\.(shstrtab|strtab)": "a name that nothing uses, or that of the name table itself",
}


class Subject:
    """A module before and after stripping, and both judges of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.before: Elf = elf(data)
        self.out = native_strip(data)
        self.original = loader.Original(data)

    def accepts(self, after: bytes) -> bool:
        """What the verifier says."""
        try:
            return not prove(self.before, elf(after))
        except ModuleError:
            return False

    def agreed(self, after: bytes, told: str) -> bool:
        """What both say."""
        accepted = self.accepts(after)
        assert accepted == self.original.same(after), told
        return accepted


@pytest.mark.parametrize("kernel", WITH_DEBUG)
def test_every_damage_is_judged_as_the_loader_would(corpus: Path, kernel: str) -> None:
    random = Random(f"{SEED} {kernel}")  # noqa: S311  not a secret, but the same each time
    survivors, killed = [], 0
    for name in MODULES:
        subject = Subject(modules.image(modules.named(corpus, kernel, name)))
        for _ in range(NUMBER // len(MODULES)):
            damaged, told = mutant(subject.out, random)
            if subject.agreed(damaged, f"{name}: {told}"):
                survivors.append(told)
            else:
                killed += 1
    assert killed > 0.9 * (killed + len(survivors)), survivors


@pytest.mark.parametrize("kernel", WITH_DEBUG)
def test_another_layout_is_the_same(corpus: Path, kernel: str) -> None:
    random = Random(f"{SEED} {kernel}")  # noqa: S311  as above
    for name in MODULES:
        subject = Subject(modules.image(modules.named(corpus, kernel, name)))
        for _ in range(20):
            after, told = relaid(subject.out, random)
            assert after != subject.out
            assert subject.agreed(after, f"{name}: {told}"), (name, told)


# --- tests/run --full mutants ----------------------------------------------------------------------------------------


def grown() -> dict[str, bytes]:
    """Shapes that the corpus has not: livepatch relocations, groups that stay."""
    group = shapes.Sec(
        ".group", type=shapes.GROUP, align=4, entsize=4, info="helper", members=(".text.once", ".data.once")
    )
    more = (
        group,
        shapes.Sec(".text.once", b"\xc3" * 8, shapes.ALLOC | shapes.EXEC | shapes.IN_GROUP, align=16),
        shapes.Sec(".data.once", bytes(8), shapes.ALLOC | shapes.WRITE | shapes.IN_GROUP, align=8),
    )
    found = {f"livepatch {shape}": shapes.livepatch(shape) for shape in ("a", "b", "c")}
    return found | {f"group {name}": shapes.module(kind, *more) for name, kind in shapes.KINDS.items() if name != "arc"}


def subjects(corpus: Path) -> dict[str, Subject]:
    """At least 40 real modules of four machines, and the grown ones."""
    found = {
        f"{kernel} {path.stem}": Subject(modules.image(path))
        for kernel in WITH_DEBUG
        for path in modules.sample(corpus, kernel, EACH, limit=LIMIT)
    }
    assert len(found) >= 40
    return found | {name: Subject(data) for name, data in grown().items()}


def why(told: str) -> str:
    """Why a damage that was accepted does not matter; "" if nobody knows."""
    return next((reason for pattern, reason in HARMLESS_DAMAGES.items() if re.match(pattern, told)), "")


@pytest.mark.full
def test_every_damage_the_loader_could_see_is_rejected(corpus: Path, tell: Tell) -> None:
    random = Random(SEED)  # noqa: S311  as above
    chosen = subjects(corpus)
    killed, explained, unexplained = 0, Counter[str](), []
    each = -(-FULL // len(chosen))
    for name, subject in chosen.items():
        for _ in range(each):
            damaged, told = one(subject.out, random)
            if not subject.agreed(damaged, f"{name}: {told}"):
                killed += 1
            elif reason := why(told):
                explained[reason] += 1
            else:
                unexplained.append(f"{name}: {told}")
    tell(
        f"{each * len(chosen)} damages of {len(chosen)} modules: {killed} rejected, {explained.total()} accepted and "
        f"explained, {len(unexplained)} accepted and not; {dict(explained)}"
    )
    assert not unexplained


@pytest.mark.full
def test_nothing_harmless_is_rejected(corpus: Path, tell: Tell) -> None:
    random = Random(SEED)  # noqa: S311  as above
    # Of MIPS64 relocations this little writer knows nothing.
    chosen = {name: subject for name, subject in subjects(corpus).items() if "mips64" not in name}
    each = -(-HARMLESS // len(chosen))
    rejected = []
    for name, subject in chosen.items():
        assert subject.agreed(Module(subject.out).render(), name)
        for _ in range(each):
            after, told = relaid(subject.out, random)
            if not subject.agreed(after, f"{name}: {told}"):
                rejected.append(f"{name}: {told}")
    tell(f"{each * len(chosen)} harmless changes of {len(chosen)} modules: {len(rejected)} rejected")
    assert not rejected
