"""`pkghook check` on packages by real rpmbuild and dpkg-deb, of real modules: whole, broken, with something hidden."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pkghook.model import Compression
from tests import inprocess, modules
from tests.inprocess import call
from tests.packages.rpms import rpmbuild
from tests.support import need_tool
from tests.surgery import native_strip

VERSION = "lib/modules/6.1.0"
NAMES = ("crc-itu-t", "crc7", "af_alg")
FORMS = ("rpm", "deb")


def check(*args: str | Path) -> Any:  # noqa: ANN401  JSON
    """The report for programs, with `status`."""
    done = call("check", "--keep-dir", "", "--format", "json", *args)
    assert done.status in (0, 1), done.err
    return json.loads(done.out) | {"status": done.status}


def facts(found: Any) -> set[tuple[str, str]]:  # noqa: ANN401  JSON
    """Id and subject of the findings that count."""
    return {(each["id"], each["subject"]) for each in found["findings"]}


@pytest.fixture
def tree(corpus: Path, tmp_path: Path) -> Path:
    """Three unstripped modules, one of them compressed, one with three names."""
    root = tmp_path / "tree"
    home = root / VERSION / "kernel"
    home.mkdir(parents=True)
    for name in NAMES:
        (home / f"{name}.ko").write_bytes(modules.image(modules.named(corpus, "amd64", name)))
    subprocess.run([need_tool("zstd"), "-q", "--rm", home / "af_alg.ko"], check=True)
    for other in ("aaa", "zzz"):
        (home / f"{other}.ko").hardlink_to(home / "crc7.ko")
    (home / "link.ko").symlink_to("crc7.ko")
    return root


def packed(form: str, tree: Path, name: str = "demo") -> Path:
    """The tree as a package."""
    if form == "rpm":
        need_tool("rpmbuild")
        return rpmbuild(tree.parent / f"{name}.home", tree, tuple(f"/{top}" for top in os.listdir(tree)), "w1.gzdio")
    control = tree / "DEBIAN"
    control.mkdir()
    lines = (f"Package: {name}", "Version: 1-2", "Architecture: all", "Maintainer: A <a@example.org>", "Description: x")
    (control / "control").write_text("".join(f"{line}\n" for line in lines))
    package = tree.parent / f"{name}.deb"
    argv = [need_tool("dpkg-deb"), "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(package)]
    subprocess.run(argv, check=True, capture_output=True)
    shutil.rmtree(control)
    return package


@pytest.mark.parametrize("form", FORMS)
def test_unstripped_modules_are_named_with_the_bytes_to_be_had(tree: Path, form: str) -> None:
    wanted = check(tree)
    found = check(packed(form, tree))
    assert found["status"] == 1
    assert facts(found) == facts(wanted)
    assert [each["id"] for each in found["findings"]] == ["unstripped"] * 3
    assert found["totals"]["saving"] == wanted["totals"]["saving"] > 0
    assert found["totals"]["image_size"] == wanted["totals"]["image_size"]
    names = [name for each in found["entries"] for name in (each["path"], *each.get("names", ()))]
    assert sorted(names) == sorted(str(path.relative_to(tree)) for path in tree.rglob("*.ko*") if not path.is_symlink())


@pytest.mark.parametrize("form", FORMS)
def test_stripped_then_packed_agrees_with_receipt_and_record(tree: Path, form: str) -> None:
    receipt, record = tree.with_name("receipt.json"), tree.with_name("record.json")
    assert call("record", tree, "--out", record, "-q").status == 0
    assert inprocess.strip(tree, receipt=receipt).status == 0
    package = packed(form, tree)
    found = check("--receipt", receipt, "--before", record, "--min-shrink", "50%", "--require-modules", package)
    assert (found["status"], found["findings"]) == (0, [])
    assert {each["proof"] for each in found["entries"]} == {"recorded"}
    (facts,) = found["packages"]
    assert (facts["form"], facts["version"]) == (form, "1-2")
    if form == "rpm":
        assert facts["installed_size"] == facts["counted_size"]


@pytest.mark.parametrize("form", FORMS)
def test_what_was_changed_between_receipt_and_package(corpus: Path, tree: Path, form: str) -> None:
    receipt = tree.with_name("receipt.json")
    assert inprocess.strip(tree, receipt=receipt).status == 0
    home = tree / VERSION / "kernel"
    (home / "crc-itu-t.ko").write_bytes(native_strip(modules.image(modules.named(corpus, "amd64", "crc7"))))
    (home / "af_alg.ko.zst").unlink()
    assert facts(check("--receipt", receipt, packed(form, tree))) == {
        ("receipt-mismatch", f"{VERSION}/kernel/crc-itu-t.ko"),
        ("receipt-unmatched", f"{VERSION}/kernel/af_alg.ko.zst"),
    }


@pytest.mark.parametrize("form", FORMS)
def test_modules_that_the_walk_would_pass_by(corpus: Path, tree: Path, form: str) -> None:
    assert inprocess.strip(tree).status == 0
    data = modules.image(modules.named(corpus, "amd64", "crc7"))
    hidden = (f"{VERSION}/kernel/upper.KO", f"{VERSION}/kernel/driver.bin", "opt/nic.ko", f"{VERSION}/.pkghook-1/a.bin")
    for path in hidden:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    (tree / "opt/blob").write_bytes(inprocess.packed(data, Compression.XZ))
    (tree / VERSION / "old.ko.lz4").write_bytes(b"\x04\x22\x4d\x18" + bytes(99))
    (tree / VERSION / "old.ko.gz.xz").write_bytes(
        inprocess.packed(inprocess.packed(data, Compression.GZIP), Compression.XZ)
    )
    (tree / VERSION / "vmlinux").write_bytes(data[:16] + b"\2\0" + data[18:])
    found = check(packed(form, tree))
    told = {subject for id, subject in facts(found) if id == "unwalked-module"}
    assert told == {*hidden, "opt/blob", f"{VERSION}/old.ko.lz4", f"{VERSION}/old.ko.gz.xz"}
    assert {subject for id, subject in facts(found) if id == "unstripped"} == {*hidden, "opt/blob"}
    assert [each["path"] for each in found["others"]] == [f"{VERSION}/vmlinux"]


@pytest.mark.parametrize("form", FORMS)
def test_bytes_of_a_module_in_a_debug_tree(tree: Path, form: str) -> None:
    """Another name of them lies among the modules; an RPM has the bytes under the last name, Debian under the first."""
    assert inprocess.strip(tree).status == 0
    debug = tree / "usr/lib/debug" / VERSION
    debug.mkdir(parents=True)
    (debug / "af_alg.ko.zst").hardlink_to(tree / VERSION / "kernel/af_alg.ko.zst")
    package = packed(form, tree)
    told = {("unwalked-module", f"{VERSION}/kernel/af_alg.ko.zst")}
    assert facts(check(package)) == (told if form == "rpm" else set())
    assert facts(check("--include-debug", package)) == set()


@pytest.mark.parametrize("form", FORMS)
def test_korean_is_no_module(tree: Path, form: str) -> None:
    assert inprocess.strip(tree).status == 0
    docs = tree / "usr/share/doc/demo"
    docs.mkdir(parents=True)
    (docs / "README.ko").write_text("한국어")
    (docs / "README.ko.gz").write_bytes(inprocess.packed("한국어".encode("euc-kr"), Compression.GZIP))
    found = check(packed(form, tree))
    assert (found["status"], found["findings"]) == (0, [])
    (docs / "zeros.ko").write_bytes(bytes(4096))
    assert facts(check(packed(form, tree, "other"))) == {
        ("not-elf", "usr/share/doc/demo/zeros.ko"),
        ("unwalked-module", "usr/share/doc/demo/zeros.ko"),
    }


def test_hard_link_whose_file_is_no_module(tree: Path) -> None:
    assert inprocess.strip(tree).status == 0
    (tree / VERSION / "a.txt").write_text("hello")
    (tree / VERSION / "b.ko").hardlink_to(tree / VERSION / "a.txt")
    assert facts(check(packed("deb", tree))) == {("not-elf", f"{VERSION}/b.ko")}


@pytest.mark.parametrize("form", FORMS)
def test_debug_packages_and_trees_are_kept(tree: Path, form: str) -> None:
    debug = tree / "usr/lib/debug"
    debug.mkdir(parents=True)
    shutil.move(tree / "lib", debug / "lib")
    package = packed(form, tree)
    found = check(package)
    assert (found["status"], found["totals"]["kept"], found["totals"]["unstripped"]) == (0, 3, 0)
    assert {each["kept"] for each in found["entries"]} == {"debug tree"}
    found = check("--include-debug", package)
    assert (found["status"], found["totals"]["kept"], found["totals"]["unstripped"]) == (1, 0, 3)
    assert [each["id"] for each in check("--require-modules", package)["findings"]] == ["no-modules"]


@pytest.mark.parametrize("name", ["demo-dbg", "demo-dbgsym", "demo-debuginfo-x"])
def test_debug_packages_go_by_name(tree: Path, name: str) -> None:
    package = packed("deb", tree, name)
    assert check(package)["totals"]["kept"] == 3
    assert check("--include-debug", package)["totals"]["unstripped"] == 3
    assert check(packed("deb", tree, "demo-debug"))["totals"]["unstripped"] == 3


def test_several_packages_at_once(tree: Path) -> None:
    deb, rpm = packed("deb", tree), packed("rpm", tree)
    assert inprocess.strip(tree).status == 0
    found = check(deb, rpm, tree)
    assert [each["form"] for each in found["packages"]] == ["deb", "rpm", "tree"]
    assert [(row["source"], row["unstripped"]) for row in found["rows"]] == sorted(
        [(str(deb), 3), (str(rpm), 3), (str(tree), 0)]
    )
    text = call("check", deb, rpm, tree).out
    assert text.count("[unstripped]") == 6
    assert f"in: {deb}" in text


def test_installed_size_that_is_not_true(tree: Path) -> None:
    assert inprocess.strip(tree).status == 0
    control = tree / "DEBIAN"
    for size, ids in ((1, ["installed-size"]), (99999, ["installed-size"])):
        package = packed("deb", tree)
        subprocess.run([need_tool("dpkg-deb"), "-e", package, control], check=True)
        with (control / "control").open("a") as file:
            file.write(f"Installed-Size: {size}\n")
        subprocess.run([need_tool("dpkg-deb"), "--build", tree, package], check=True, capture_output=True)
        shutil.rmtree(control)
        found = check(package)
        assert (found["status"], [each["id"] for each in found["findings"]]) == (0, ids)
        assert check("--fail-on", "warning", package)["status"] == 1


@pytest.mark.parametrize("form", FORMS)
def test_nothing_passes_by_being_unreadable(tree: Path, form: str) -> None:
    """Cut short anywhere, a package is an error, never one without modules."""
    assert inprocess.strip(tree).status == 0
    package = packed(form, tree)
    data = package.read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        package.write_bytes(data[: int(len(data) * part)])
        done = call("check", package)
        assert (done.status, done.out) == (2, "")
        assert str(package) in done.err


@pytest.mark.parametrize("form", ["text", "json", "junit", "sarif"])
def test_no_report_passes_what_could_not_be_read(tree: Path, tmp_path: Path, form: str) -> None:
    """Of several: the others are judged, and whoever reads the report alone sees that one was not."""
    assert inprocess.strip(tree).status == 0
    done = call("check", tree, tmp_path / "gone.deb", "--format", form, "--severity", "unreadable=info")
    assert done.status == 2
    assert "gone.deb" in done.out
    wanted = {"text": "failed", "json": '"passed": false', "junit": "gone.deb", "sarif": '"exitCode": 1'}
    assert wanted[form].replace(" ", "") in done.out.replace(" ", ""), done.out


@pytest.mark.parametrize("form", FORMS)
def test_udeb_and_other_names_are_packages_by_their_contents(tree: Path, form: str) -> None:
    package = packed(form, tree)
    for suffix in (".udeb", ".ddeb", ".zip", ".ko"):
        other = package.rename(package.with_suffix(suffix))
        assert check(other)["totals"]["unstripped"] == 3
        package = other
