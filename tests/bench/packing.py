"""An RPM of a whole kernel: what the hook adds to `rpmbuild`, against brp-strip alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tests.bench import measure
from tests.bench.measure import BenchError, Used
from tests.packages.rpmbuild import PACKAGE, Built, bench, spec

PAYLOAD = "_binary_payload w.ufdio"  # else most of the time is the compressor's
COMMAND = f"rpmbuild -bb --define '{PAYLOAD}'"
BRP_STRIP = "%global __brp_strip %{_rpmconfigdir}/brp-strip %{__strip}"


class Packing(NamedTuple):
    """One way to strip what is packed. `line` is the first of the spec."""

    what: str
    line: str = ""
    macros: str = ""

    @property
    def command(self) -> str:
        """How it is told in the table."""
        return COMMAND

    def run(self, scratch: Path, source: Path) -> Used:
        """Build the package once; BenchError unless it holds all modules, stripped."""
        made = bench(scratch)
        install = f"mkdir -p %{{buildroot}}/lib; cp -a '{source}' %{{buildroot}}/lib/modules"
        text = spec({}, first=self.line, macros=self.macros, install=install).replace("/extra/*", "")
        top = scratch / "top"
        top.mkdir()
        path = top / "kernel.spec"
        path.write_text(text.replace("/lib/modules/6.1.0-test", "/lib/modules"))
        argv = ["rpmbuild", "-bb", "--define", f"_topdir {top}", "--define", PAYLOAD, str(path)]
        used = measure.run(argv, made.env)
        self._check(Built(top, 0, ""), source)
        return used

    def _check(self, built: Built, source: Path) -> None:
        sizes = built.sizes()
        before = {path.name: path.stat().st_size for path in source.rglob("*.ko")}
        if not before.keys() <= sizes.keys() or sum(sizes.values()) > sum(before.values()) / 2:
            raise BenchError(f"{self.what}: {PACKAGE} does not hold all modules, stripped")


PACKINGS = (
    Packing("rpmbuild of a kernel, brp-strip", macros=BRP_STRIP),
    Packing("rpmbuild of a kernel, the hook", "%{?pkghook_hook}"),
    Packing("rpmbuild of a kernel, the hook behind brp-strip", "%{?pkghook_hook}", BRP_STRIP),
)
