"""What is measured: each way to do a job, as a row, with what has to be there before and what must be true after."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.bench import measure
from tests.bench.measure import BenchError

# What a console script does; `python3 -m pkghook` would look for the module by a slower way.
START = "import sys; from pkghook.cli import main; sys.exit(main())"


class Place(NamedTuple):
    """Where one run happens: a fresh copy of the modules, and a directory for all else that it writes."""

    source: Path  # what the copy is made of; nobody writes there
    tree: Path
    out: Path
    environment: Mapping[str, str]  # has TREE, OUT and SOURCE

    def pkghook(self, *words: str) -> list[str]:
        """The command, from this checkout; words may have $TREE and $OUT in them."""
        names = {name: self.environment[name] for name in ("TREE", "OUT", "SOURCE")}
        for name, value in names.items():
            words = tuple(word.replace(f"${name}", value) for word in words)
        return [sys.executable, "-c", START, *words]

    def size(self) -> int:
        """Bytes of all modules in the tree."""
        return sum(path.stat().st_size for path in self.tree.rglob("*.ko"))


class Rival(NamedTuple):
    """One way. `command` is a line for the shell, or pkghook's, which is started without one."""

    what: str
    command: str
    needs: tuple[str, ...] = ()  # programs
    before: str = ""  # another command, not measured
    makes_room: bool = True  # whether the tree has to be much smaller afterwards
    own: dict[str, str] = {}  # noqa: RUF012 further environment, never changed

    def argv(self, place: Place, command: str = "") -> list[str]:
        """The words to start."""
        command = command or self.command
        if command.startswith("pkghook "):
            return place.pkghook(*command.split()[1:])
        return ["/bin/sh", "-c", command]

    def run(self, place: Place) -> measure.Used:
        """Measure it once, and see that the work was done."""
        environment = {**place.environment, **self.own}
        if self.before:
            for command in self.before.split(" && "):
                measure.run(self.argv(place, command), environment)
        size = place.size()
        used = measure.run(self.argv(place), environment)
        if self.makes_room and not 0 < place.size() < size / 2 and not (place.out / "installed").is_dir():
            raise BenchError(f"{self.what}: the modules are as large as before")
        receipt = place.out / "receipt.json"
        if receipt.exists():
            check_receipt(json.loads(receipt.read_text("utf-8")))
        return used

    def absent(self) -> list[str]:
        """The programs that it needs and that are not here."""
        return [name for name in self.needs if not shutil.which(name)]


def check_receipt(receipt: Mapping[str, Mapping[str, Mapping[str, int]]]) -> None:
    """Every module must have been proven."""
    totals = receipt["totals"]
    if totals["proofs"]["none"] or not totals["proofs"]["verified"] + totals["proofs"]["recorded"]:
        raise BenchError(f"not every module was proven: {dict(totals['proofs'])}")


BATCH = "find $TREE -name '*.ko' -print0 | xargs -0 -P$(nproc) -n32 strip -g"
STRIP = "pkghook strip $TREE --receipt $OUT/receipt.json"
RECORD = "pkghook record $TREE --out $OUT/record"
AFTER = "pkghook strip $TREE --before $OUT/record --require-proof --receipt $OUT/receipt.json"
# As scripts/Makefile.modinst of the kernel does for each module, with make's -j.
INSTALL = """find $TREE -name '*.ko' -printf '%P\\0' | xargs -0 -P$(nproc) -n1 \
sh -c 'cp "$TREE/$1" "$OUT/installed/$1" && strip --strip-debug "$OUT/installed/$1"' sh"""

# The first row of each is what the others are compared with.
TREE = (
    Rival("batch strip -g", BATCH, ("strip",)),
    Rival("pkghook strip", STRIP),
    Rival("brp-strip", "/usr/lib/rpm/brp-strip strip", ("/usr/lib/rpm/brp-strip", "strip", "file")),
    Rival("strip -g per file", "find $TREE -name '*.ko' -print0 | xargs -0 -P$(nproc) -n1 strip -g", ("strip",)),
    Rival("cp and strip per file", INSTALL, ("strip",), before="cd $TREE; find . -type d -exec mkdir -p $OUT/installed/{} +"),
    Rival("pkghook record", RECORD, makes_room=False),
    Rival("pkghook strip --before", AFTER, before=RECORD),
    Rival(
        "pkghook strip --before, after batch strip -g", AFTER, ("strip",), f"{RECORD} && {BATCH}", makes_room=False
    ),
)
LARGEST = (
    Rival("GNU strip, largest module", "exec riscv64-linux-gnu-strip -g $TREE/*.ko", ("riscv64-linux-gnu-strip",)),
    Rival("pkghook strip -j1, largest module", f"{STRIP} -j1"),
    Rival("eu-strip, largest module", "exec eu-strip -g $TREE/*.ko", ("eu-strip",)),
)


def copy(source: Path, tree: Path) -> None:
    """A fresh copy of a directory, or of one file into one, all of it in the page cache and none of it to be written."""
    shutil.rmtree(tree, ignore_errors=True)
    if source.is_dir():
        subprocess.run(["cp", "-a", "--reflink=never", source, tree], check=True)
    else:
        tree.mkdir()
        subprocess.run(["cp", "-a", "--reflink=never", source, tree], check=True)
    subprocess.run(["sync", "-f", tree], check=True)
