"""Packages of rpm's format 6, which only rpm 6 writes: made in a throw-away system of Debian's unstable.

    python -m tests.packages.rpm6 DIRECTORY

makes that system below DIRECTORY (about 300 MB, once; as root, with mmdebstrap) and packs a small tree there with
each payload; the packages stay in DIRECTORY/packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.packages.rpms import PAYLOADS, spec
from tests.setup import chroots
from tests.setup.apt import run

SUITE = "sid"
NEEDED = ("cpio", "rpm")


def make_system(place: Path) -> Path:
    """A system with rpm 6, unless it is there; raises SetupError where it cannot be made."""
    system = place / "system"
    if (system / "usr/bin/rpmbuild").exists():
        return system
    shutil.rmtree(system, ignore_errors=True)
    return chroots.unpack(chroots.image(SUITE, NEEDED), system).path


def build(system: Path, source: Path, files: tuple[str, ...], payload: str, place: Path) -> Path:
    """A package of format 6 with the tree `source`, packed in `system` and copied to `place`."""
    home = system / "root" / "build"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    subprocess.run(["cp", "-a", "--", str(source), str(home / "source")], check=True)
    (home / "demo.spec").write_text(spec(Path("/root/build/source"), files))
    wanted = ("_rpmformat 6", f"_binary_payload {payload}", "_topdir /root/build/top", "_rpmdir /root/build/rpms")
    defines = [word for define in wanted for word in ("--define", define)]
    run(["chroot", str(system), "rpmbuild", "-bb", *defines, "/root/build/demo.spec"])
    (package,) = (home / "rpms").rglob("*.rpm")
    place.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(package, place / f"{payload}.rpm"))


def main() -> int:
    """One package of each kind."""
    place = Path(sys.argv[1]).absolute()
    source = place / "source"
    (source / "lib/modules/6.1").mkdir(parents=True, exist_ok=True)
    (source / "lib/modules/6.1/README").write_text("a small tree\n")
    system = make_system(place)
    for payload in PAYLOADS:
        print(build(system, source, ("/lib/modules/6.1",), payload, place / "packages"))  # noqa: T201 for people
    return 0


if __name__ == "__main__":
    sys.exit(main())
