"""`check --baseline` on packages made by rpmbuild and dpkg-deb from the same real modules: no form differs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pkghook.model import Compression
from pkghook.stories import passing
from tests import inprocess, modules
from tests.inprocess import call
from tests.support import need_kernel, need_tool

OLD, NEW = "6.1.0-55-test", "6.1.0-56-test"
NAMES = ("sunrpc", "libata", "dummy", "ata_generic", "crc-itu-t")
SPEC = """\
%global debug_package %{{nil}}
%define __os_install_post %{{nil}}
%define _binary_payload w3.zstdio
Name: demo-modules
Version: 1
Release: {release}
Summary: demo
License: GPL
%description
%install
mkdir -p %{{buildroot}}
cp -a {root}/. %{{buildroot}}
%files
/*
"""


def tree(corpus: Path, root: Path, version: str, how: Compression = Compression.NONE) -> Path:
    """The modules as a package installs them."""
    found = {path.stem: path for path in need_kernel(corpus, "amd64").rglob("*.ko")}
    for name in NAMES:
        to = root / f"usr/lib/modules/{version}" / f"{modules.stem(found[name]).partition('/')[2]}.ko{how.suffix}"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(inprocess.packed(found[name].read_bytes(), how))
    return root


def deb(root: Path, to: Path) -> Path:
    """By dpkg-deb."""
    control = root / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        "Package: demo-modules\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\n"
        "Description: demo\n"
    )
    subprocess.run([need_tool("dpkg-deb"), "--build", "--root-owner-group", root, to], check=True, capture_output=True)
    shutil.rmtree(control.parent)
    return to


def rpm(root: Path, top: Path) -> Path:
    """By rpmbuild."""
    top.mkdir()
    (top / "demo.spec").write_text(SPEC.format(release=1, root=root))
    defines = ("--define", f"_topdir {top}", "--target", "x86_64", "--nodeps")
    env = {key: value for key, value in os.environ.items() if not key.startswith("PKGHOOK_")}
    done = subprocess.run(
        [need_tool("rpmbuild"), "-bb", *defines, top / "demo.spec"],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    (path,) = (top / "RPMS").rglob("*.rpm")
    return path


def report(new: Path, old: Path, *options: str) -> Any:  # noqa: ANN401  JSON
    """What the gate says."""
    told = call("check", new, "--baseline", old, "--keep-dir", "", "--format", "json", *options)
    assert told.status in (0, 1), told.err
    return json.loads(told.out)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> dict[str, Path]:
    """One release in every form, of two ABIs, plain and compressed."""
    home = tmp_path_factory.mktemp("forms")
    plain = tree(corpus, home / "plain", OLD)
    packed = tree(corpus, home / "packed", NEW, Compression.XZ)
    return {
        "tree": plain,
        "deb": deb(plain, home / "plain.deb"),
        "rpm": rpm(plain, home / "plain-rpm"),
        "packed deb": deb(packed, home / "packed.deb"),
        "packed rpm": rpm(packed, home / "packed-rpm"),
    }


def test_the_form_of_a_package_makes_no_difference(forms: dict[str, Path]) -> None:
    """Each against the one before and the one after."""
    order = [*forms.values(), next(iter(forms.values()))]
    for new, old in (*pairwise(order), *pairwise(reversed(order))):
        found = report(new, old, "--max-growth", "0")
        assert [each["id"] for each in found["findings"]] == [], (new, old)
        assert found["baseline"]["compared"] == len(NAMES)
        assert found["baseline"]["before"]["image_size"] == found["baseline"]["now"]["image_size"]


def test_a_loss_shows_through_packages(corpus: Path, forms: dict[str, Path], tmp_path: Path) -> None:
    """A module less, one built in, and one without its parameter, in an RPM against a Debian package."""
    root = tree(corpus, tmp_path / "root", NEW)
    next(root.rglob("dummy.ko")).unlink()
    next(root.rglob("crc-itu-t.ko")).unlink()
    (root / f"usr/lib/modules/{NEW}/modules.builtin").write_text("kernel/lib/crc-itu-t.ko\n")
    (path,) = root.rglob("ata_generic.ko")
    path.write_bytes(path.read_bytes().replace(b"parmtype=all_generic_ide", b"qarmtype=all_generic_ide"))
    found = report(rpm(root, tmp_path / "rpm"), forms["deb"])
    assert {each["id"]: each["subject"].rpartition("/")[2] for each in found["findings"]} == {
        "module-gone": "dummy.ko",
        "module-built-in": "crc-itu-t.ko",
        "parameter-lost": "ata_generic.ko",
    }


def test_reports_for_others_are_the_same_wherever_the_packages_lie(forms: dict[str, Path], tmp_path: Path) -> None:
    """JUnit and SARIF tell no directory of this machine."""
    for form in ("junit", "sarif"):
        texts = []
        for place in ("a", "b"):
            (tmp_path / place).mkdir(exist_ok=True)
            old, new = (shutil.copy(forms[name], tmp_path / place) for name in ("deb", "packed rpm"))
            texts.append(call("check", new, "--baseline", old, "--max-size", "1", "--format", form).out)
        assert texts[0] == texts[1]
        assert "too-much" in texts[0]
        assert str(tmp_path) not in texts[0]


def test_what_is_kept_of_a_package_is_bounded(forms: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Crafted modules may have megabytes of aliases each; that is an error naming the package, and not a comparison."""
    monkeypatch.setattr(passing, "INTERFACES", 20_000)
    told = call("check", forms["tree"], "--baseline", forms["rpm"], "--keep-dir", "")
    assert told.status == 2
    assert f"{forms['rpm']}: parameters, aliases and exports of more than" in told.err
