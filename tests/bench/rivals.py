"""What is measured: each way to do a job as a row, what comes before it, and where to see that the work was done."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import measure
from tests.bench.measure import BenchError, Used

CHECKOUT = Path(__file__).resolve().parents[2]
# What a console script does; `python3 -m pkghook` would look for the module by a longer way.
START = "import sys; from pkghook.cli import main; sys.exit(main())"


class Place(NamedTuple):
    """Where one run happens: a copy of the modules, and a directory for all else that is written."""

    tree: Path
    out: Path

    @property
    def environment(self) -> dict[str, str]:
        """That of every command: the machine's, without settings of pkghook, and TREE and OUT."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PKGHOOK_", "PYTHON"))}
        return {**kept, "LC_ALL": "C", "PYTHONPATH": str(CHECKOUT), "TREE": str(self.tree), "OUT": str(self.out)}

    def argv(self, command: str) -> list[str]:
        """The words of a command: pkghook's are started without a shell."""
        if not command.startswith("pkghook "):
            return ["/bin/sh", "-c", command]
        words = [word.replace("$TREE", str(self.tree)).replace("$OUT", str(self.out)) for word in command.split()[1:]]
        return [sys.executable, "-c", START, *words]

    def fill(self, source: Path, names: Sequence[str] = ()) -> None:
        """A fresh copy of a directory or of the files `names` in it: in the page cache, and on its way to no disk."""
        for directory in self:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        copy = ["cp", "-a", "--reflink=never"]
        if names:
            listed = "".join(f"{name}\0" for name in names).encode()
            argv = ["xargs", "-0", *copy, "--parents", "-t", str(self.tree)]
            subprocess.run(argv, input=listed, cwd=source, check=True)
        else:
            subprocess.run([*copy, f"{source}/.", self.tree], check=True)
        subprocess.run(["sync", "-f", self.tree], check=True)
        reading = ["find", str(self.tree), "-type", "f", "-exec", "cat", "{}", "+"]
        subprocess.run(reading, stdout=subprocess.DEVNULL, check=True)


class Rival(NamedTuple):
    """One way to do a job. `command` is a line for the shell."""

    what: str
    command: str
    needs: tuple[str, ...] = ()  # programs
    before: tuple[str, ...] = ()  # commands that come first and are not measured
    result: str = "tree"  # directory of the `Place` that has stripped modules in the end; "" if none has
    idle: bool = False  # it exits 0 and changes nothing, and is measured because people rely on it

    def absent(self) -> list[str]:
        """The programs that it needs and that are not here."""
        return [name for name in self.needs if not shutil.which(name)]

    def run(self, place: Place, source: Path, names: Sequence[str] = ()) -> Used:
        """Measure it once on a fresh copy of the source (see `Place.fill`); BenchError if the work was not done."""
        place.fill(source, names)
        size = size_of(place.tree)
        for command in self.before:
            measure.run(place.argv(command), place.environment)
        used = measure.run(place.argv(self.command), place.environment)
        left = size_of(getattr(place, self.result)) if self.result else 0
        if self.result and not self.idle and not 0 < left < size / 2:
            raise BenchError(f"{self.what}: the modules are as large as before")
        if self.idle and left != size:
            raise BenchError(f"{self.what}: did something")
        receipt = place.out / "receipt.json"
        if receipt.exists():
            check_receipt(json.loads(receipt.read_text("utf-8"))["totals"]["proofs"])
        return used._replace(left=left)


MODULE = re.compile(r"\.ko(\.(gz|xz|zst))?$")


def size_of(directory: Path) -> int:
    """Bytes of all modules below, as they lie there."""
    return sum(path.stat().st_size for path in directory.rglob("*.ko*") if MODULE.search(path.name))


def check_receipt(proofs: Mapping[str, int]) -> None:
    """Every module must have been proven."""
    if proofs["none"] or not proofs["verified"] + proofs["recorded"]:
        raise BenchError(f"not every module was proven: {dict(proofs)}")


STRIP = "pkghook strip $TREE --receipt $OUT/receipt.json"
LOOK = "pkghook audit --root $TREE"
# The machine's own packages, so that there is a database to read.
DATABASE = 'mkdir -p "$TREE/var/lib/dpkg" && cp -a /var/lib/dpkg/status /var/lib/dpkg/info "$TREE/var/lib/dpkg/"'
ALL = """find "$TREE" -name '*.ko' -print0 | xargs -0"""
INSTALLED = (
    Rival("file, on all modules", f"{ALL} file", ("file",), result=""),
    Rival("readelf -S, on all modules", f"{ALL} readelf -SW", ("readelf",), result=""),
    Rival("modinfo, on all modules", f"{ALL} modinfo", ("modinfo",), result=""),
    Rival("pkghook audit", LOOK, before=(DATABASE,), result=""),
    Rival("pkghook audit --second-reader", f"{LOOK} --second-reader", before=(DATABASE,), result=""),
)
UNXZ = """find "$TREE" -name '*.ko.xz' -print0 | xargs -0 -P$(nproc) -n32 xz -dc >/dev/null"""
INSTALLED_XZ = (
    Rival("xz -dc, on all modules", UNXZ, ("xz",), result=""),
    Rival("modinfo, .ko.xz", f"{ALL.replace('*.ko', '*.ko.xz')} modinfo", ("modinfo",), result=""),
    Rival("pkghook audit, .ko.xz", LOOK, before=(DATABASE,), result=""),
)
# All modules are unstripped, which is to be told and no failure here.
GATE = "--include-debug --severity unstripped=info --quiet"


def packages(kind: str) -> tuple[Rival, Rival]:
    """What only unpacks a package, and what judges all modules in it."""
    name = f"modules.{'deb' if kind == 'deb' else 'rpm'}"
    tool = "dpkg-deb --fsys-tarfile" if kind == "deb" else "rpm2cpio"
    what = f"{tool.partition(' ')[0]}, {kind}"
    return (
        Rival(what, f'exec {tool} "$TREE/{name}" >/dev/null', (tool.partition(" ")[0],), result=""),
        Rival(f"pkghook check, {kind}", f"pkghook check $TREE/{name} {GATE}", result=""),
    )


LARGEST = (
    Rival("GNU strip, largest module", 'exec riscv64-linux-gnu-strip -g "$TREE"/*.ko', ("riscv64-linux-gnu-strip",)),
    Rival("pkghook strip -j1, largest module", f"{STRIP} -j1"),
    Rival("eu-strip, largest module", 'exec eu-strip -g "$TREE"/*.ko', ("eu-strip",)),
)
