"""A tree of modules made ready for the guest: copied, ordered so that each comes after what it depends on."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import modules
from tests.setup.apt import SetupError
from tests.support import need_tool

MODULE = re.compile(r"(.*\.ko)(\.xz|\.gz|\.zst|)")

# What some init functions want from other modules without saying so in their dependencies; no module can come in by
# itself in the guest.  Found by loading all modules of Debian's 6.1 and 6.12 cloud kernels.
WANTS: Mapping[str, tuple[str, ...]] = {
    "jitterentropy_rng": ("sha3_generic",),
    "drbg": ("jitterentropy_rng",),
    "nls_koi8_ru": ("nls_koi8_u",),
    "nf_conntrack_amanda": ("ts_kmp",),
}


class Staged(NamedTuple):
    """The modules of one kernel below `top`, as the guest will see them."""

    top: Path
    version: str
    path: dict[str, str]  # module name: path in the guest
    needs: dict[str, list[str]]  # all that it depends on, each after its own dependencies
    after: dict[str, list[str]]  # what should come before it where it is there

    def file(self, name: str) -> Path:
        """The module on this side."""
        return self.top / self.path[name].lstrip("/")

    def order(self, wanted: Iterable[str]) -> list[str]:
        """The wanted modules and all they depend on, in the order to load them; libraries and ciphers first."""
        need = {each for name in wanted for each in (*self.needs[name], name)}
        done: dict[str, None] = {}
        for name in sorted(need, key=self._rank):
            self._add(name, need, done, set())
        return list(done)

    def _rank(self, name: str) -> tuple[bool, bool, str]:
        early = re.search(r"/kernel/(lib|crypto|arch/[^/]*/crypto)/", self.path[name])
        return name == "tcrypt", not early, name  # tcrypt tries every cipher that is there

    def _add(self, name: str, need: set[str], done: dict[str, None], open_: set[str]) -> None:
        if name in need and name not in done and name not in open_:
            open_.add(name)  # soft dependencies may go in a circle
            for other in (*self.needs[name], *self.after[name]):
                self._add(other, need, done, open_)
            done[name] = None


def module_name(path: Path) -> str:
    """As the kernel calls it."""
    return path.name.partition(".ko")[0].replace("-", "_")


def stage(source: Path, top: Path, *, decompress: bool = True) -> Staged:
    """Copy every module below `source` into a lib/modules below `top`, after depmod has read what is in them."""
    found = [path for path in sorted(source.rglob("*.ko*")) if MODULE.fullmatch(path.name) and path.is_file()]
    if not found:
        raise SetupError(f"no modules below {source}")
    version = _version(found)
    root = top / "lib" / "modules" / version
    origin = {}
    for module in found:
        to = root / module.relative_to(source).with_name(module.name.partition(".ko")[0] + ".ko")
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(modules.image(module) if to.suffix != module.suffix else module.read_bytes())
        origin[to] = module
    needs, after = _dependencies(top, version, [module_name(to) for to in origin])
    if not decompress:  # not every depmod can read what is in there
        origin = {_packed(to, module): module for to, module in origin.items()}
    path = {module_name(to): f"/{to.relative_to(top)}" for to in origin}
    return Staged(top, version, path, needs, after)


def _packed(plain: Path, module: Path) -> Path:
    """Put the module as it is in the place of its decompressed copy."""
    plain.unlink()
    return Path(shutil.copyfile(module, plain.with_name(module.name)))


def _version(found: Sequence[Path]) -> str:
    """What most of the first modules were built for."""
    said: Counter[bytes] = Counter()
    for path in found[:20]:
        said.update(re.findall(rb"vermagic=(\S+)", modules.image(path))[:1])
    return said.most_common(1)[0][0].decode()


def _dependencies(top: Path, version: str, names: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    root = top / "lib" / "modules" / version
    for name in ("modules.builtin", "modules.order", "modules.builtin.modinfo"):
        (root / name).touch()  # depmod complains without them
    done = subprocess.run([need_tool("depmod"), "-b", top, version], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"depmod failed: {done.stderr.strip()[-500:]}")
    needs: dict[str, list[str]] = {name: [] for name in names}
    for line in (root / "modules.dep").read_text().splitlines():
        one, _, rest = line.partition(":")
        # modules.dep(5): what is needed last stands first
        needs[module_name(Path(one))] = [module_name(Path(each)) for each in reversed(rest.split())]
    after = {name: list(WANTS.get(name, ())) for name in names}
    for line in (root / "modules.softdep").read_text().splitlines():
        rule = re.match(r"softdep (\S+).*\bpre: ([^:]*)(?: post:|$)", line.strip())
        if rule and rule[1].replace("-", "_") in after:
            after[rule[1].replace("-", "_")] += rule[2].replace("-", "_").split()
    return needs, after


def spread(staged: Staged, number: int) -> list[str]:
    """So many modules, evenly spread over the sizes, the smallest and the largest among them."""
    by_size = sorted(staged.path, key=lambda name: (staged.file(name).stat().st_size, name))
    if number >= len(by_size):
        return by_size
    return [by_size[round(at * (len(by_size) - 1) / (number - 1))] for at in range(number)]
