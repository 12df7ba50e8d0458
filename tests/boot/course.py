"""All modules of a tree, in as few boots as it takes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests import modules
from tests.boot.dump import Known
from tests.boot.guest import COMPRESSED, Boot, Guest, Step
from tests.boot.machines import Machine
from tests.boot.messages import Kind, Result
from tests.boot.staged import Staged, spread, stage
from tests.setup.apt import SetupError
from tests.surgery import Patient

MOST_APART = 25  # modules that stop the guest before the whole is given up


class Load(NamedTuple):
    """What became of each module, and what the kernel knew of it."""

    results: dict[str, Result]
    known: dict[str, Known]
    seconds: tuple[float, ...]  # of each boot

    def of(self, *kinds: Kind) -> list[str]:
        """The modules that ended so."""
        return [name for name, result in self.results.items() if result.kind in kinds]


class Wanted(NamedTuple):
    """How a tree is to be loaded."""

    names: tuple[str, ...] = ()  # only these and what they need; () for all
    number: int = 0  # only so many, spread over the sizes; 0 for all
    packed: str = ""  # how to load compressed modules as they are: a verb of init.sh; "" decompresses them before
    append: str = ""  # more for the kernel's command line
    one_boot: bool = False  # leave those alone which need a module that refused
    patience: float = 180.0  # seconds without a module that is done, after which the guest has hung


EVERYTHING = Wanted()


def load(machine: Machine, kernel: Path, tree: Path, wanted: Wanted = EVERYTHING, *, log: Path | None = None) -> Load:
    """Load the modules below `tree`, which is only read. `log` gets the consoles."""
    with tempfile.TemporaryDirectory(prefix="pkghook-boot-") as work:
        staged = stage(tree, Path(work, "root"), decompress=not wanted.packed)
        names = wanted.names or (spread(staged, wanted.number) if wanted.number else staged.path)
        order = staged.order(names)
        for name in staged.path.keys() - order:
            staged.file(name).unlink()
        guest = Guest(machine, kernel, Path(work), append=wanted.append, patience=wanted.patience)
        guest.pack(staged.top)
        try:
            return Course(guest, staged, order, wanted).run()
        finally:
            guest.log.close()
            if log:
                log.write_bytes(Path(work, "console.log").read_bytes())


class Course:
    """The boots of one tree."""

    def __init__(self, guest: Guest, staged: Staged, order: Sequence[str], wanted: Wanted) -> None:
        """`order` are the modules to load, each after what it needs."""
        self.guest, self.staged, self.order, self.wanted = guest, staged, order, wanted
        self.apart: dict[str, Result] = {}  # modules that stopped the guest
        self.seconds: list[float] = []

    def run(self) -> Load:
        """All of them; then those once more that could not be loaded because another one found no hardware."""
        first = self._first()
        results = {**first.results, **self._alone()}
        for name in self.order:
            if name not in results:
                results[name] = Result(Kind.SKIP, "SKIPPED", f"needs {self._blame(name)}")
        known = dict(first.known)
        if not self.wanted.one_boot:
            self._again(results, known)
        return Load({name: results[name] for name in self.order}, known, tuple(self.seconds))

    def _step(self, name: str) -> Step:
        verb = self.wanted.packed or "load"
        return Step(name, self.staged.path[name], COMPRESSED if self.wanted.packed == "load" else 0, verb)

    def _boot(self, steps: Sequence[Step], files: dict[str, bytes] | None = None) -> Boot:
        boot = self.guest.boot(steps, files)
        self.seconds.append(boot.seconds)
        return boot

    def _blame(self, name: str) -> str:
        """The module apart that this one is, or needs."""
        return next((apart for apart in self.apart if apart in (name, *self.staged.needs[name])), "")

    def _first(self) -> Boot:
        """What stops the guest is put apart, and the guest boots again, until one boot gets to its end."""
        while True:
            boot = self._boot([self._step(name) for name in self.order if not self._blame(name)])
            if boot.stopped is None:
                return boot
            name, result = boot.stopped
            if name not in self.staged.path or len(self.apart) == MOST_APART:
                raise SetupError(f"the guest did not come through: {result.word} at {name}: {result.detail}")
            self.apart[name] = result

    def _alone(self) -> dict[str, Result]:
        """Each that stopped the guest, once more with no more than it needs: it may not be to blame."""
        results = {}
        for name in list(self.apart):
            boot = self._boot([self._step(each) for each in self.staged.order([name])])
            results[name] = boot.stopped.result if boot.stopped else boot.results[name]
        return results

    def _again(self, results: dict[str, Result], known: dict[str, Known]) -> None:
        """Modules that refused for want of hardware export nothing, so those which need them found symbols unknown.

        More boots: the former without their init functions, the latter as they are, until the kernel has shown its
        view of every module.
        """
        muted: set[str] = set()
        while True:
            refused = {n for n in self.order if n not in known and results[n].kind in (Kind.INIT, Kind.CRASH)}
            muted |= refused
            blocked = {n for n in self.order if n not in known and n not in muted and muted & set(self.staged.needs[n])}
            if not refused:
                return
            boot = self._boot_muted(muted, refused | blocked)
            for name in refused | blocked:
                again = boot.results[name]
                # Without its init function there is nothing but the loader to refuse it.
                if name in blocked or again.kind is not Kind.OK:
                    results[name] = again if name in blocked else again._replace(kind=Kind.FAIL)
            known.update({name: view for name, view in boot.known.items() if name not in known})

    def _boot_muted(self, muted: set[str], wanted: set[str]) -> Boot:
        """Load the wanted modules and what they need, the muted ones without their init functions."""
        steps = [
            Step(name, f"/muted/{name}.ko") if name in muted else self._step(name) for name in self.staged.order(wanted)
        ]
        files = {
            step.path: without_init(self.staged.file(step.name).read_bytes()) for step in steps if step.name in muted
        }
        boot = self._boot(steps, files)
        if boot.stopped:
            raise SetupError(f"boot {len(self.seconds)} ended at {boot.stopped.name}: {boot.stopped.result.detail}")
        return boot


def without_init(image: bytes) -> bytes:
    """The module without an init function: the relocation that sets `__this_module.init` becomes R_*_NONE (0)."""
    patient = Patient(modules.unsigned(image))
    section = ".rela.gnu.linkonce.this_module"
    for entry in range(patient.section(section, "size") // 24):
        if patient.symbol_name(patient.target(section, entry)) == "init_module":
            patient.set_relocation(section, entry, info=0)
            return bytes(patient)
    raise SetupError("a module without init_module said that its init function failed")
