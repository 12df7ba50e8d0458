"""`check --baseline` on real modules: this release against the last one, changed by hand, packed otherwise."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pkghook.model import Compression
from tests import inprocess, modules
from tests.inprocess import Told, call
from tests.support import need_kernel
from tests.surgery import Patient

OLD, NEW = "6.1.0-55-cloud-amd64", "6.1.0-56-cloud-amd64"
NAMES = ("sunrpc", "libata", "dummy", "nls_utf8", "cfg80211", "loop", "crc-itu-t", "ata_generic")


@cache
def chosen(corpus: Path) -> dict[str, Path]:
    """Some modules with exports, parameters, aliases, and some without, as Debian ships them."""
    paths = {path.stem: path for path in need_kernel(corpus, "amd64").rglob("*.ko")}
    return {name: paths[name] for name in NAMES if name in paths}


def release(corpus: Path, root: Path, version: str, how: Compression = Compression.NONE, usr: str = "") -> Path:
    """A tree with them."""
    for path in chosen(corpus).values():
        below = modules.stem(path).partition("/")[2]
        to = root / f"{usr}lib/modules/{version}/{below}.ko{how.suffix}"
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(inprocess.packed(path.read_bytes(), how))
    return root


def check(new: Path, *old: Path, **environ: str) -> Told:
    """The gate, in JSON."""
    baselines = [part for path in old for part in ("--baseline", path)]
    return call("check", new, *baselines, "--keep-dir", "", "--format", "json", **environ)


def found(told: Told) -> dict[str, list[Any]]:
    """The findings by id, but for those that have nothing to do with another release."""
    by_id: dict[str, list[Any]] = {}
    for finding in json.loads(told.out)["findings"]:
        by_id.setdefault(finding["id"], []).append(finding)
    by_id.pop("labels", None)
    return by_id


def test_a_release_against_itself_says_nothing(corpus: Path, tmp_path: Path) -> None:
    root = release(corpus, tmp_path / "r", OLD)
    told = check(root, root, PKGHOOK_MAX_GROWTH="0%")
    assert (told.status, found(told)) == (0, {})
    compared = json.loads(told.out)["baseline"]
    assert compared["before"] == compared["now"]
    assert (compared["compared"], compared["came"], compared["gone"], compared["changed"]) == (
        len(chosen(corpus)), [], [], [],
    )  # fmt: skip


@pytest.mark.parametrize("how", [Compression.XZ, Compression.ZSTD, Compression.GZIP])
def test_version_directory_and_compression_are_no_difference(corpus: Path, tmp_path: Path, how: Compression) -> None:
    """The ABI was bumped, lib became usr/lib, modules are compressed: no module came, went, grew or lost a thing.

    These are the same modules, so their vermagic has one version in both: what the directory says is not compared.
    """
    old = release(corpus, tmp_path / "old", OLD)
    new = release(corpus, tmp_path / "new", NEW, how, "usr/")
    for before, now in ((old, new), (new, old)):
        told = check(now, before, PKGHOOK_MAX_GROWTH="0")
        assert (told.status, found(told)) == (0, {}), told.out
        sizes = json.loads(told.out)["baseline"]
        assert sizes["before"]["image_size"] == sizes["now"]["image_size"]
        assert sizes["before"]["file_size"] != sizes["now"]["file_size"]


def edit(path: Path, change: Callable[[Patient], object]) -> None:
    patient = Patient(path.read_bytes())
    change(patient)
    path.write_bytes(bytes(patient))


def instead(section: str, old: bytes, new: bytes) -> Callable[[Patient], object]:
    """Bytes of a section for others of the same length, once."""
    assert len(old) == len(new)

    def change(patient: Patient) -> object:
        at = patient.contents(section).index(old)
        return patient.set_bytes(section, at, new)

    return change


TOSHIBA, INTEL = b"alias=pci:v00001179d00000105sv*", b"alias=pci:v00008086d*sv*sd*bc01sc01i*"
CHANGES = {
    "parameter-lost": ("ata_generic", instead(".modinfo", b"parmtype=all_", b"qarmtype=all_"), "all_generic_ide"),
    "alias-lost": ("ata_generic", instead(".modinfo", TOSHIBA, b"b" + TOSHIBA[1:]), "pci:v00001179d00000105sv*"),
    "export-lost": (
        "libata",
        instead("__ksymtab_strings", b"\0ata_link_next\0", b"\0ata_link_mext\0"),
        "ata_link_next",
    ),
    "dependency-changed": ("ata_generic", instead(".modinfo", b"depends=libata", b"depends=libbta"), "libata"),
    "license-changed": ("dummy", instead(".modinfo", b"license=GPL", b"license=MIT"), "GPL"),
    "vermagic-changed": ("dummy", instead(".modinfo", b" mod_unload ", b" mod_unlosd "), "mod_unload"),
}


@pytest.mark.parametrize("id", CHANGES)
def test_one_thing_lost_is_found(corpus: Path, tmp_path: Path, id: str) -> None:
    """And nothing else is said; with --fail-on warning the gate closes, with --severity it does for this alone."""
    name, change, shown = CHANGES[id]
    old = release(corpus, tmp_path / "old", OLD)
    new = release(corpus, tmp_path / "new", NEW)
    (path,) = new.rglob(f"{name}.ko")
    edit(path, change)
    told = check(new, old)
    assert told.status == 0
    (finding,) = found(told).pop(id)
    assert set(found(told)) == {id}
    assert (finding["severity"], finding["subject"]) == ("warning", str(path.relative_to(new)))
    assert shown in json.dumps(finding["evidence"])
    assert check(new, old, PKGHOOK_FAIL_ON="warning").status == 1
    assert check(new, old, PKGHOOK_SEVERITY=f"{id}=error").status == 1
    assert check(new, old, PKGHOOK_SEVERITY="module-gone=error").status == 0


def test_an_alias_that_a_wider_one_covers_is_not_lost(corpus: Path, tmp_path: Path) -> None:
    """ata_generic has pci:v*d*sv*sd*bc01sc01i* beside that of one maker."""
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    (path,) = new.rglob("ata_generic.ko")
    edit(path, instead(".modinfo", INTEL, b"b" + INTEL[1:]))
    assert found(check(new, old)) == {}


def test_another_crc_under_the_same_version(corpus: Path, tmp_path: Path) -> None:
    """Under one version the module is told; under another, one finding for the kernel."""
    old = release(corpus, tmp_path / "old", OLD)
    for version in (OLD, NEW):
        new = release(corpus, tmp_path / version, version)
        (path,) = new.rglob("sunrpc.ko")
        edit(path, lambda patient: patient.flip(patient.section("__kcrctab_gpl", "offset")))
        (finding,) = found(check(new, old))["export-changed"]
        assert finding["subject"] == (str(path.relative_to(new)) if version == OLD else NEW)
        assert finding["evidence"]["count"] == 1


def test_a_module_that_is_gone_and_one_that_came(corpus: Path, tmp_path: Path) -> None:
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    next(new.rglob("loop.ko")).unlink()
    next(old.rglob("crc-itu-t.ko")).unlink()
    told = check(new, old)
    assert {id: [each["subject"].rpartition("/")[2] for each in same] for id, same in found(told).items()} == {
        "module-gone": ["loop.ko"],
        "module-new": ["crc-itu-t.ko"],
    }
    assert check(new, old, PKGHOOK_SEVERITY="module-gone=error").status == 1


def test_a_module_that_was_built_in_is_not_gone(corpus: Path, tmp_path: Path) -> None:
    """modules.builtin says so, in a tree here; tests/packages has it in packages."""
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    next(new.rglob("loop.ko")).unlink()
    (new / f"lib/modules/{NEW}/modules.builtin").write_text(
        "kernel/fs/binfmt_script.ko\nkernel/drivers/block/loop.ko\n"
    )
    assert set(found(check(new, old))) == {"module-built-in"}


def test_growth_is_of_what_is_inside(corpus: Path, tmp_path: Path) -> None:
    """An unstripped module among stripped ones: the sum closes the gate, and the evidence says what stripping frees."""
    old = release(corpus, tmp_path / "old", OLD)
    new = release(corpus, tmp_path / "new", NEW)
    (path,) = new.rglob("libata.ko")
    shutil.copyfile(modules.named(corpus, "amd64", "libata"), path)
    told = check(new, old, PKGHOOK_MAX_GROWTH="10%")
    assert told.status == 1
    (grew,), (growth,) = found(told)["module-grew"], found(told)["growth"]
    assert grew["subject"] == str(path.relative_to(new))
    evidence = growth["evidence"]
    assert (growth["severity"], evidence["baseline"]) == ("error", "old")
    assert evidence["now"] - evidence["before"] == path.stat().st_size - grew["evidence"]["before"]
    assert evidence["strippable"] > 0 == evidence["strippable_before"]
    assert evidence["largest"].startswith(f"{path.relative_to(new)} +")
    assert not {"parameter-lost", "alias-lost", "export-lost"} & set(found(told))


def test_a_receipt_is_a_baseline_of_sizes(corpus: Path, tmp_path: Path) -> None:
    """Of the run that stripped the last release; what users would lose is not known, and that is said."""
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    receipt = tmp_path / "old.json"
    inprocess.strip(old, receipt=receipt)
    told = check(new, receipt, PKGHOOK_MAX_GROWTH="0")
    assert (told.status, {id: len(same) for id, same in found(told).items()}) == (0, {"baseline-sizes-only": 1})
    inprocess.strip(old, "--dry-run", receipt=receipt)
    assert "a dry run" in check(new, receipt).err


def test_max_size_is_of_the_files(corpus: Path, tmp_path: Path) -> None:
    root = release(corpus, tmp_path / "r", OLD)
    total = sum(path.stat().st_size for path in root.rglob("*.ko"))
    assert check(root, PKGHOOK_MAX_SIZE=str(total)).status == 0
    told = check(root, PKGHOOK_MAX_SIZE=str(total - 1))
    assert told.status == 1
    (finding,) = found(told)["too-much"]
    assert (finding["subject"], finding["evidence"]["bytes"]) == (str(root), total)


def test_what_cannot_be_compared_is_said(corpus: Path, tmp_path: Path) -> None:
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    (path,) = old.rglob("dummy.ko")
    path.write_bytes(b"\x7fELF" + bytes(60))
    told = check(new, old, PKGHOOK_MAX_GROWTH="0")
    (finding,) = found(told)["baseline-unreadable"]
    assert finding["subject"] == str(path.relative_to(old))
    other = tmp_path / "other/lib/modules/1/x.ko"
    other.parent.mkdir(parents=True)
    shutil.copyfile(chosen(corpus)["dummy"], other)
    told = check(tmp_path / "other", old)
    assert (told.status, "baseline-unrelated" in found(told)) == (1, True)
    for wrong in (tmp_path / "none", tmp_path / "text"):
        (tmp_path / "text").write_text("{")
        assert check(new, wrong).status == 2
    assert "--max-growth needs --baseline" in call("check", new, "--max-growth", "1").err


def test_damaged_tables_are_told_and_nothing_is_compared_by_them(corpus: Path, tmp_path: Path) -> None:
    """Here as an error of the module, in the baseline as what it keeps from being known."""
    good, bad = release(corpus, tmp_path / "good", OLD), release(corpus, tmp_path / "bad", NEW)
    (path,) = bad.rglob("sunrpc.ko")
    edit(path, lambda patient: patient.set_section(".rela__ksymtab_gpl", size=24))
    assert check(bad).status == 0  # the section header alone is sound, and nobody asked for more
    told = check(bad, good)
    assert (told.status, set(found(told))) == (1, {"bad-section"})
    told = check(good, bad)
    assert (told.status, set(found(told))) == (0, {"baseline-unreadable"})
    assert found(told)["baseline-unreadable"][0]["evidence"] == {"because": "bad-section"}


def test_a_keep_entry_leaves_a_loss_alone(corpus: Path, tmp_path: Path) -> None:
    """By finding, with a reason; one that matches nothing is a finding of its own."""
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    (path,) = new.rglob("ata_generic.ko")
    edit(path, instead(".modinfo", TOSHIBA, b"b" + TOSHIBA[1:]))
    config = tmp_path / "keep.toml"
    for finding, expected in (("alias-lost", set()), ("parameter-lost", {"alias-lost", "unused-keep"})):
        config.write_text(f"[[keep]]\nglob = 'ata_generic.ko'\nfinding = '{finding}'\nreason = 'no such device left'\n")
        assert set(found(check(new, old, PKGHOOK_CONFIG=str(config)))) == expected


def test_several_baselines_are_one_release(corpus: Path, tmp_path: Path) -> None:
    """As a kernel's modules come in several packages."""
    old, new = release(corpus, tmp_path / "old", OLD), release(corpus, tmp_path / "new", NEW)
    extra = tmp_path / "extra" / f"lib/modules/{OLD}/kernel"
    extra.mkdir(parents=True)
    shutil.move(next(old.rglob("sunrpc.ko")), extra)
    assert "module-new" in found(check(new, old))
    told = check(new, old, tmp_path / "extra")
    assert (found(told), json.loads(told.out)["baseline"]["name"]) == ({}, "old, extra")
    assert found(check(new, PKGHOOK_BASELINE=f"{old}\n{tmp_path / 'extra'}")) == {}


def test_a_new_upstream_version_is_told_in_a_screenful(corpus: Path) -> None:
    """6.12 against 6.1, whole: not every module is listed, and what is said agrees with the counts."""
    told = check(need_kernel(corpus, "amd64-6.12"), need_kernel(corpus, "amd64"))
    compared = json.loads(told.out)["baseline"]
    counts = Counter({id: len(same) for id, same in found(told).items()})
    assert compared["kernels"][0]["now"].startswith("6.12.")
    assert compared["compared"] > 1000
    assert (counts["module-gone"], counts["module-new"]) == (len(compared["gone"]), len(compared["came"]))
    assert counts["export-changed"] == 1
    assert 0 < counts.total() - counts["module-new"] < 200
    assert counts["alias-lost"] < 20 > counts["parameter-lost"]
