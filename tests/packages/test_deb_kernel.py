"""A whole kernel as one Debian package: what the hook saves, and what it costs beside the tools it stands in for."""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.jobs import roomy, size_of
from tests.packages.debian import RULES, WORD, Builder, builder, control
from tests.support import need_kernel, need_tool

pytestmark = pytest.mark.full

FAST = {"DPKG_DEB_COMPRESSOR_TYPE": "zstd", "DPKG_DEB_COMPRESSOR_LEVEL": "1"}
INSTALL = (
    "\noverride_dh_auto_install:\n\tmkdir -p debian/demo-modules/lib\n\tcp -a {} debian/demo-modules/lib/modules\n"
)
HOOK = "\noverride_dh_pkghook:\n\tbash -c 'TIMEFORMAT=\"hook: %R %U %S\"; time dh_pkghook'\n"
DIRECTORIES = "find modules -type d -print0 | xargs -0 -I@ mkdir -p {0}/@"
KEEP = "find modules -name '*.ko' -print0 | xargs -0 -P2 -I@ objcopy --only-keep-debug @ {0}/@"
STANZA = "Package: x\nVersion: 1\nArchitecture: amd64\nMaintainer: A <a@example.org>\nDescription: x\n"


class Spent(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float


@contextmanager
def clock(into: list[Spent]) -> Iterator[None]:
    """What is spent in it goes to `into`."""
    start, before = time.monotonic(), children()
    yield
    into.append(Spent(time.monotonic() - start, children() - before))


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pack(root: Path, package: Path) -> None:
    """`dpkg-deb -b`, compressed as the packages above."""
    subprocess.run(["dpkg-deb", "-Zzstd", "-z1", "-b", root, package], check=True, stdout=subprocess.DEVNULL)


def rival(modules: Path, place: Path) -> list[Spent]:
    """`objcopy --only-keep-debug` of every module, and a package of that."""
    spent: list[Spent] = []
    out = place / "usr/lib/debug/lib"
    (place / "DEBIAN").mkdir(parents=True)
    (place / "DEBIAN/control").write_text(STANZA)
    command = f"{DIRECTORIES} && {KEEP}".format(out)
    with clock(spent):
        subprocess.run(["sh", "-c", command], cwd=modules.parent, check=True)
    with clock(spent):
        pack(place, place.with_suffix(".deb"))
    return spent


def build(bench: Builder, modules: Path, word: str) -> tuple[Path, str]:
    """The package of them all, and what the build said."""
    rules = RULES + INSTALL.format(modules) + (HOOK if word == WORD else "")
    done = bench.build(bench.source([], build_depends=word, rules=rules), **FAST)
    assert done.status == 0, done.output
    return done.deb("demo-modules"), done.output


def test_whole_kernel(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Within 1.5 times what the debug files alone cost by the usual tool, stripping and proofs included."""
    need_tool("objcopy")
    modules = next(need_kernel(corpus, "amd64", "dbg").rglob("lib/modules"))
    with roomy(6 * size_of(modules), tmp_path) as place:
        bench = builder(place / "build")
        without, _ = build(bench._replace(home=place / "without"), modules, "debhelper")
        before = int(control(without)["Installed-Size"])
        shutil.rmtree(place / "without")
        package, said = build(bench._replace(home=place / "with"), modules, WORD)
        after = int(control(package)["Installed-Size"])
        (times,) = re.findall(r"^hook: ([\d.]+) ([\d.]+) ([\d.]+)$", said, re.MULTILINE)
        wall, user, system = map(float, times)
        ours = [Spent(wall, user + system)]
        with clock(ours):
            pack(place / "with/source/debian/.debhelper/demo-modules/dbgsym-root", place / "ours.deb")
        theirs = rival(modules, place / "rival")
        with capsys.disabled():
            sys.stdout.write(
                f"\nInstalled-Size {before} -> {after} KiB; ours {ours}; objcopy --only-keep-debug {theirs}\n"
            )
        assert after < before / 10
        assert sum(spent.cpu for spent in ours) < 1.5 * sum(spent.cpu for spent in theirs)
        assert sum(spent.wall for spent in ours) < 1.5 * sum(spent.wall for spent in theirs)
