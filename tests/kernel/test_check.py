"""`pkghook check` on trees and single modules, all of them real: what is told, and what nothing may pass by."""

from __future__ import annotations

import bz2
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pkghook.model import Compression
from tests import inprocess, modules
from tests.inprocess import HOME, Told, call, digests, planted, put
from tests.support import need_kernel, need_tool
from tests.surgery import native_strip
from tests.trees import as_ordinary_user

NAMES = ("crc-itu-t", "crc7", "af_alg")


@cache
def unstripped(corpus: Path, name: str = "crc-itu-t") -> bytes:
    """A real module as it was built."""
    return modules.image(modules.named(corpus, "amd64", name))


@cache
def stripped(corpus: Path, name: str = "crc-itu-t") -> bytes:
    """The same without debug information, unsigned."""
    return native_strip(unstripped(corpus, name))


@cache
def shipped(corpus: Path, name: str = "crc-itu-t") -> bytes:
    """As Debian ships it: stripped and signed."""
    return modules.shipped(corpus, "amd64", modules.named(corpus, "amd64", name)).read_bytes()


@pytest.fixture
def root(corpus: Path, tmp_path: Path) -> Path:
    """A buildroot with three modules, unstripped."""
    for name in NAMES:
        put(tmp_path / "root", f"{name}.ko", unstripped(corpus, name))
    return tmp_path / "root"


def check(*args: str | Path, **environ: str) -> Told:
    """The command; nothing that it looks at may change."""
    trees = [Path(arg) for arg in args if isinstance(arg, Path) and arg.is_dir()]
    before = [digests(tree) for tree in trees]
    done = call("check", "--keep-dir", "", *args, **environ)
    assert [digests(tree) for tree in trees] == before
    return done


def report(*args: str | Path, **environ: str) -> Any:  # noqa: ANN401  JSON
    """Its report for programs; with `status`."""
    done = check("--format", "json", *args, **environ)
    assert done.status in (0, 1), done.err
    found = json.loads(done.out)
    assert found["passed"] == (done.status == 0)
    return found | {"status": done.status}


def ids(found: Any, path: str = "") -> list[str]:  # noqa: ANN401  JSON
    """Of the findings that count, about one thing or all."""
    return [each["id"] for each in found["findings"] if path in ("", each["subject"])]


# --- unstripped ------------------------------------------------------------------------------------------------------


def test_each_unstripped_module_is_named_with_the_bytes_to_be_had(corpus: Path, root: Path) -> None:
    found = report(root)
    assert (found["status"], ids(found)) == (1, ["unstripped"] * 3)
    for each in found["findings"]:
        name = Path(each["subject"]).stem
        saving = len(unstripped(corpus, name)) - len(stripped(corpus, name))
        assert each["evidence"]["saving"] == saving
        assert each["evidence"]["of"] == len(unstripped(corpus, name))
    assert found["totals"]["saving"] == sum(each["evidence"]["saving"] for each in found["findings"])


def test_after_strip_it_is_clean(root: Path) -> None:
    assert inprocess.strip(root).status == 0
    found = report(root)
    assert (found["status"], found["findings"], found["totals"]["unstripped"]) == (0, [], 0)


@pytest.mark.parametrize("kernel", ["amd64", "arm64", "s390x", "armel"])
def test_what_debian_ships_is_clean_and_its_debug_modules_are_not(corpus: Path, tmp_path: Path, kernel: str) -> None:
    """A few of each; Debian's own strip and ours agree on what was to be had."""
    some = modules.sample(corpus, kernel, 9, limit=2_000_000)
    debug = planted(tmp_path / "debug", some)
    clean = planted(tmp_path / "clean", [modules.shipped(corpus, kernel, path) for path in some])
    good, bad = report(clean), report(debug)
    assert (good["status"], good["findings"]) == (0, [])
    assert ids(bad) == ["unstripped"] * len(some)
    sizes = {Path(each["path"]).name: each["expected"] for each in bad["entries"]}
    images = {Path(each["path"]).name: each["image_size"] for each in good["entries"]}
    assert sizes == images


@pytest.mark.parametrize("how", [Compression.GZIP, Compression.XZ, Compression.ZSTD])
def test_inside_compressed_modules(corpus: Path, tmp_path: Path, how: Compression) -> None:
    root = tmp_path / "root"
    put(root, f"bad.ko{how.suffix}", inprocess.packed(unstripped(corpus), how))
    put(root, f"good.ko{how.suffix}", inprocess.packed(shipped(corpus), how))
    found = report(root)
    assert ids(found) == ["unstripped"]
    (entry,) = [each for each in found["entries"] if "bad" in each["path"]]
    assert (entry["compression"], entry["image_size"]) == (how.value, len(unstripped(corpus)))
    assert (found["totals"]["compressed"], found["totals"]["signed"]) == (2, 1)


def test_unfolding_has_a_limit(tmp_path: Path) -> None:
    put(tmp_path / "root", "bomb.ko.xz", inprocess.packed(bytes(64 << 20), Compression.XZ))
    assert ids(report(tmp_path / "root", "--max-module-size", "1M")) == ["too-large"]


def test_labels_are_told_and_no_fault(corpus: Path, tmp_path: Path) -> None:
    paths = sorted(need_kernel(corpus, "riscv64").rglob("*.ko.xz"))[:5]
    found = report(planted(tmp_path / "root", paths))
    assert (found["status"], ids(found)) == (0, ["labels"])
    assert found["findings"][0]["severity"] == "info"
    assert found["findings"][0]["evidence"]["bytes"] == found["totals"]["label_bytes"] > 0
    inprocess.strip(tmp_path / "root", "--discard-labels", "--signed", "strip")
    assert report(tmp_path / "root")["findings"] == []


# --- stripped too far ------------------------------------------------------------------------------------------------


def test_plain_strip_is_too_far(corpus: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "root", "m.ko", unstripped(corpus))
    subprocess.run([need_tool("strip"), path], check=True)
    assert set(ids(report(tmp_path / "root"))) == {"no-symbol-table", "no-relocations"}


@pytest.mark.parametrize(
    ("section", "id"), [(".modinfo", "no-modinfo"), (".gnu.linkonce.this_module", "no-this-module")]
)
def test_sections_that_a_tool_took_away(corpus: Path, tmp_path: Path, section: str, id: str) -> None:
    path = put(tmp_path / "root", "m.ko", stripped(corpus))
    subprocess.run([need_tool("objcopy"), "-R", section, "-R", f".rela{section}", path], check=True)
    assert id in ids(report(tmp_path / "root"))


def test_relocations_that_a_tool_took_away(corpus: Path, tmp_path: Path) -> None:
    path = put(tmp_path / "root", "m.ko", stripped(corpus))
    subprocess.run([need_tool("objcopy"), "-R", ".rela*", path], check=True)
    assert ids(report(tmp_path / "root")) == ["no-relocations"]


# --- modules that the walk would pass by -----------------------------------------------------------------------------


def test_modules_under_other_names_and_in_other_places(corpus: Path, root: Path) -> None:
    assert inprocess.strip(root).status == 0
    hidden = {
        f"{HOME}/upper.KO": unstripped(corpus),
        f"{HOME}/old.ko.bak": unstripped(corpus),
        f"{HOME}/driver.bin": inprocess.packed(unstripped(corpus), Compression.ZSTD),
        f"{HOME}/signed": shipped(corpus),
        "opt/vendor/nic.ko": unstripped(corpus),
        "usr/share/blob.gz": inprocess.packed(unstripped(corpus), Compression.GZIP),
    }
    for path, data in hidden.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    put(root, "packed.ko.bz2", bz2.compress(unstripped(corpus)))
    found = report(root)
    told = {each["subject"] for each in found["findings"] if each["id"] == "unwalked-module"}
    assert told == {*hidden, f"{HOME}/packed.ko.bz2"}
    assert {each["subject"] for each in found["findings"] if each["id"] == "unstripped"} == {
        path for path in hidden if not path.endswith("signed")
    }


def test_modules_that_are_compressed_twice(corpus: Path, root: Path) -> None:
    """Or once as `lz4 -l` does it: neither kernel nor kmod would load them, and nothing says what is inside."""
    assert inprocess.strip(root).status == 0
    for inner, outer in (("gzip", "xz"), ("xz", "gzip"), ("xz", "xz"), ("gzip", "gzip"), ("zstd", "xz")):
        how = Compression(inner), Compression(outer)
        data = inprocess.packed(inprocess.packed(unstripped(corpus), how[0]), how[1])
        put(root, f"m.ko{how[0].suffix}{how[1].suffix}", data)
    put(root, "m.ko.bz2.gz", inprocess.packed(bz2.compress(unstripped(corpus)), Compression.GZIP))
    put(root, "m.ko.lz4", b"\x02\x21\x4c\x18" + bytes(99))
    found = report(root)
    assert (found["status"], ids(found)) == (1, ["unwalked-module"] * 7)
    why = {Path(each["subject"]).name: each["evidence"]["why"] for each in found["findings"]}
    assert why["m.ko.gz.xz"] == "gzip inside xz, which neither kernel nor kmod reads"
    assert why["m.ko.lz4"] == "lz4, which neither kernel nor kmod reads"


def test_what_cannot_be_read_beside_modules(corpus: Path) -> None:
    """Nothing passes because nobody could look at it, nor is it told twice."""
    with TemporaryDirectory() as path:
        root = Path(path)
        root.chmod(0o755)
        put(root, "m.ko", stripped(corpus))
        closed = [f"{HOME}/odd.bin", f"{HOME}/shut", "opt/drv.ko", "opt/blob", "shut"]
        for each in closed:
            (root / each).parent.mkdir(parents=True, exist_ok=True)
            (root / each).mkdir() if each.endswith("shut") else (root / each).write_bytes(unstripped(corpus))
        check(root)  # what is imported late may lie where only we can read
        for each in closed:
            (root / each).chmod(0o000)
        told = as_ordinary_user(lambda: call("check", "--keep-dir", "", "--format", "json", root))
    found = json.loads(told.out)
    assert (told.status, ids(found)) == (1, ["unreadable"] * len(closed))
    assert sorted(each["subject"] for each in found["findings"]) == sorted(closed)


def test_what_only_looks_like_a_module_is_left_alone(corpus: Path, root: Path) -> None:
    """Debug files, objects on the way to a module, texts, other compressed files."""
    assert inprocess.strip(root).status == 0
    module = put(root, "crc-itu-t.ko.debug", unstripped(corpus))
    subprocess.run([need_tool("objcopy"), "--only-keep-debug", module], check=True)
    put(root, "part.o", unstripped(corpus).replace(b".gnu.linkonce.this_module", b".gnu.linkonce.that_module"))
    put(root, ".crc7.ko.cmd", b"savedcmd := ld")
    put(root, "changelog.gz", inprocess.packed(b"text " * 9000, Compression.GZIP))
    put(root, "modules.dep.xz", inprocess.packed(b"text " * 9000, Compression.XZ)[:-7])
    put(root, "empty.bin", b"")
    found = report(root)
    assert (found["status"], found["findings"]) == (0, [])


def test_scratch_of_an_interrupted_run_is_told(corpus: Path, root: Path) -> None:
    """And what is in it, since it would be packed."""
    inprocess.strip(root)
    home = f"{HOME}/.pkghook-0123456789abcdef-1"
    (root / home).mkdir()
    found = report(root)
    assert (found["status"], ids(found)) == (0, ["scratch-left"])
    (root / home / "1").write_bytes(unstripped(corpus))
    assert ids(report(root), f"{home}/1") == ["unstripped", "unwalked-module"]


@pytest.mark.parametrize("beside", [False, True])
def test_korean_is_no_module(root: Path, tmp_path: Path, beside: bool) -> None:  # noqa: FBT001
    """In a tree with modules and in one without; what is neither text nor module is told in both."""
    inprocess.strip(root)
    tree = root if beside else tmp_path / "other"
    docs = tree / "usr/share/doc"
    docs.mkdir(parents=True)
    (docs / "README.ko").write_text("한국어")
    (docs / "README.ko.gz").write_bytes(inprocess.packed("한국어".encode("euc-kr"), Compression.GZIP))
    found = report(tree)
    assert (found["status"], found["findings"]) == (0, [])
    (docs / "zeros.ko").write_bytes(bytes(4096))
    (docs / "empty.ko").touch()
    found = report(tree)
    assert {"not-elf", "empty-file"} <= set(ids(found))
    assert ids(found).count("unwalked-module") == 2 * beside


# --- debug trees -----------------------------------------------------------------------------------------------------


def test_debug_trees_are_kept_unless_they_are_asked_for(corpus: Path, root: Path) -> None:
    assert inprocess.strip(root).status == 0
    debug = root / "usr/lib/debug" / HOME / "crc7.ko"
    debug.parent.mkdir(parents=True)
    debug.write_bytes(unstripped(corpus, "crc7"))
    shutil.copyfile(debug, debug.with_name("crc7.KO"))
    found = report(root)
    assert (found["status"], found["totals"]["kept"]) == (0, 1)
    assert [each["kept"] for each in found["entries"] if "kept" in each] == ["debug tree"]
    found = report(root, "--include-debug")
    assert ids(found) == ["unstripped", "unwalked-module", "unstripped"]


# --- policy ----------------------------------------------------------------------------------------------------------


def test_keep_entries(root: Path) -> None:
    found = report(root, "--keep", "crc*.ko=the vendor's own", "--keep", "nothing*=of the kind")
    assert ids(found) == ["unstripped", "unused-keep"]
    assert len(found["silenced"]) == 2
    assert found["totals"]["kept"] == 2
    assert {each["origin"] for each in found["overrides"]} == {"--keep"}


def test_keep_entries_for_one_finding(root: Path, tmp_path: Path) -> None:
    config = tmp_path / "pkghook.toml"
    config.write_text('[[keep]]\nglob = "**"\nfinding = "unstripped"\nreason = "a debug kernel"\n')
    found = report(root, "--config", config)
    assert (found["status"], len(found["silenced"])) == (0, 3)
    assert found["totals"]["unstripped"] == 3


def test_signed_modules_may_be_kept(corpus: Path, tmp_path: Path) -> None:
    put(tmp_path / "root", "m.ko", unstripped(corpus) + inprocess.trailer(shipped(corpus)))
    assert ids(report(tmp_path / "root")) == ["unstripped"]
    found = report(tmp_path / "root", PKGHOOK_SIGNED="keep")
    assert (found["status"], found["entries"][0]["kept"]) == (0, "signed")


def test_fail_on(corpus: Path, tmp_path: Path) -> None:
    put(tmp_path / "root", "m.ko", stripped(corpus))
    (tmp_path / "root" / HOME / "gone.ko").symlink_to("nowhere.ko")
    assert report(tmp_path / "root")["status"] == 0
    assert report(tmp_path / "root", "--fail-on", "warning")["status"] == 1


def test_require_modules(tmp_path: Path) -> None:
    (tmp_path / "root/lib/modules/6.1").mkdir(parents=True)
    assert report(tmp_path / "root")["status"] == 0
    assert ids(report(tmp_path / "root", "--require-modules")) == ["no-modules"]
    done = check(tmp_path / "root")
    assert "no modules found" in done.out


# --- the receipt -----------------------------------------------------------------------------------------------------


@pytest.fixture
def receipt(root: Path, tmp_path: Path) -> Path:
    """Of the run that stripped the tree."""
    where = tmp_path / "receipt.json"
    inprocess.strip(root, receipt=where)
    return where


def test_modules_agree_with_their_receipt(root: Path, receipt: Path) -> None:
    found = report(root, "--receipt", receipt)
    assert (found["status"], found["findings"]) == (0, [])
    assert all(len(each["sha256"]) == 64 for each in found["entries"])


def test_moved_signed_and_compressed_after_strip_is_still_agreement(corpus: Path, root: Path, receipt: Path) -> None:
    home = root / HOME
    (root / "usr").mkdir()
    (root / "lib").rename(root / "usr/lib")
    home = root / "usr" / HOME
    signed = (home / "crc7.ko").read_bytes() + inprocess.trailer(shipped(corpus))
    (home / "crc7.ko").write_bytes(signed)
    (home / "af_alg.ko.xz").write_bytes(inprocess.packed((home / "af_alg.ko").read_bytes(), Compression.XZ))
    (home / "af_alg.ko").unlink()
    found = report(root, "--receipt", receipt)
    assert (found["status"], found["findings"]) == (0, [])


def test_modules_that_do_not_agree(corpus: Path, root: Path, receipt: Path) -> None:
    home = root / HOME
    (home / "crc7.ko").write_bytes(stripped(corpus, "crc-itu-t"))  # another module
    changed = bytearray((home / "crc-itu-t.ko").read_bytes())
    changed[changed.index(b"license=")] ^= 1  # of the same size
    (home / "crc-itu-t.ko").write_bytes(changed)
    (home / "af_alg.ko").unlink()
    put(root, "new.ko", stripped(corpus, "af_alg"))
    found = report(root, "--receipt", receipt)
    assert {(each["id"], Path(each["subject"]).name) for each in found["findings"]} == {
        ("receipt-mismatch", "crc7.ko"),
        ("receipt-mismatch", "crc-itu-t.ko"),
        ("receipt-missing", "new.ko"),
        ("receipt-unmatched", "af_alg.ko"),
    }


def test_modules_that_the_run_left_alone_are_compared_by_size_and_id(corpus: Path, tmp_path: Path) -> None:
    root, where = tmp_path / "root", tmp_path / "receipt.json"
    path = put(root, "crc7.ko", shipped(corpus, "crc7"))
    inprocess.strip(root, receipt=where)
    assert report(root, "--receipt", where)["findings"] == []
    path.write_bytes(shipped(corpus, "crc-itu-t"))
    found = report(root, "--receipt", where)
    assert ids(found) == ["receipt-mismatch"]
    assert {"size", "build_id"} <= found["findings"][0]["evidence"].keys()


def test_a_module_that_failed_is_vouched_for_by_no_receipt(corpus: Path, tmp_path: Path) -> None:
    root, where = tmp_path / "root", tmp_path / "receipt.json"
    put(root, "m.ko", unstripped(corpus) + inprocess.trailer(shipped(corpus)))
    assert inprocess.strip(root, receipt=where).status == 1
    assert "receipt-mismatch" in ids(report(root, "--receipt", where))


def test_receipt_of_a_dry_run_is_none(root: Path, tmp_path: Path) -> None:
    where = tmp_path / "receipt.json"
    inprocess.strip(root, "--dry-run", receipt=where)
    done = check(root, "--receipt", where)
    assert (done.status, "dry run" in done.err) == (2, True)


@pytest.mark.parametrize("option", ["--receipt", "--before"])
def test_min_shrink(root: Path, tmp_path: Path, option: str) -> None:
    receipt, record = tmp_path / "receipt.json", tmp_path / "record.json"
    assert call("record", root, "--out", record, "-q").status == 0
    job = inprocess.strip(root, receipt=receipt)
    against = receipt if option == "--receipt" else record
    sums = job.receipt.totals
    gone = sums.image_before - sums.image_after
    enough, too_much = f"{100 * gone / sums.image_before - 0.1:.3f}%", f"{100 * gone / sums.image_before + 0.1:.3f}%"
    for asked, status in ((str(gone), 0), (str(gone + 1), 1), (enough, 0), (too_much, 1)):
        found = report(root, option, against, "--min-shrink", asked)
        assert (found["status"], ids(found)) == (status, ["shrank-too-little"] * status)


def test_min_shrink_needs_something_to_compare_with(root: Path) -> None:
    done = check(root, "--min-shrink", "10%")
    assert (done.status, "--receipt" in done.err) == (2, True)


# --- the record ------------------------------------------------------------------------------------------------------


def test_proven_against_the_record(root: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    assert call("record", root, "--out", record, "-q").status == 0
    paths = sorted(root.rglob("*.ko"))
    subprocess.run([need_tool("strip"), "-g", *paths], check=True)
    (root / "usr").mkdir()
    (root / "lib").rename(root / "usr/lib")
    found = report(root, "--before", record)
    assert (found["status"], found["findings"]) == (0, [])
    assert {each["proof"] for each in found["entries"]} == {"recorded"}


def test_damage_since_the_record_is_told(corpus: Path, root: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    assert call("record", root, "--out", record, "-q").status == 0
    home = root / HOME
    subprocess.run([need_tool("strip"), "--strip-unneeded", home / "af_alg.ko"], check=True)
    (home / "crc7.ko").unlink()
    put(root, "crc-itu-t.ko", stripped(corpus))
    put(root, "new.ko", stripped(corpus))
    found = report(root, "--before", record)
    assert ids(found, f"{HOME}/af_alg.ko") == ["symbol-changed"]
    assert ids(found, f"{HOME}/crc7.ko") == ["record-unmatched"]
    assert ids(found, f"{HOME}/new.ko") == ["record-missing"]
    assert ids(found, f"{HOME}/crc-itu-t.ko") == []


# --- what is told, and how -------------------------------------------------------------------------------------------


def test_single_modules_and_several_paths(corpus: Path, root: Path, tmp_path: Path) -> None:
    lone, packed = tmp_path / "lone.ko", tmp_path / "packed.ko.xz"
    lone.write_bytes(unstripped(corpus))
    packed.write_bytes(inprocess.packed(shipped(corpus), Compression.XZ))
    found = report(root, lone, packed)
    assert [each["form"] for each in found["packages"]] == ["tree", "module", "module"]
    assert {each["source"] for each in found["entries"]} == {str(root), str(lone), str(packed)}
    assert ids(found) == ["unstripped"] * 4
    inside = [each["evidence"].get("in") for each in found["findings"]]
    assert inside.count(str(root)) == 3
    text = check(root, lone, packed).out
    assert "5 modules: 1 stripped, 4 unstripped" in text


def test_quiet_says_what_fails_and_no_more(corpus: Path, tmp_path: Path) -> None:
    put(tmp_path / "good", "m.ko", stripped(corpus))
    (tmp_path / "good" / HOME / "gone.ko").symlink_to("nowhere.ko")
    put(tmp_path / "bad", "m.ko", unstripped(corpus))
    assert check("-q", tmp_path / "good") == Told(0, "", "")
    done = check("-q", tmp_path / "bad")
    assert (done.status, done.err) == (1, "")
    assert done.out.startswith(f"error: {HOME}/m.ko: ")
    assert len(done.out.splitlines()) == 2  # and the hint


def test_verbose_has_a_line_for_each_module(root: Path) -> None:
    inprocess.strip(root)
    done = check("-v", root)
    assert sum(line.startswith("stripped ") for line in done.out.splitlines()) == 3


def test_jobs_change_nothing(root: Path) -> None:
    assert check("-j", "1", "--format", "json", root) == check("-j", "4", "--format", "json", root)


def test_what_is_no_package_and_no_module(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    for path in (text, tmp_path / "nowhere"):
        done = check(path)
        assert (done.status, done.out) == (2, "")
        assert str(path) in done.err
    assert check().status == 2


@pytest.mark.parametrize("name", ["e.deb", "e.ddeb", "e.udeb", "e.rpm"])
def test_empty_packages_are_no_stripped_modules(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    told = check(tmp_path / name)
    assert told.status == 2
    assert f"{name}: the file is empty" in told.err
    (tmp_path / "e.ko").touch()
    assert ids(report(tmp_path / "e.ko")) == ["empty-file"]


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.ko")  # must not hang
    for path, kind in ((Path("/dev/null"), "character device"), (tmp_path / "fifo.ko", "FIFO")):
        told = check(path)
        assert told.status == 2
        assert f"{path}: a {kind} is neither a package nor a module" in told.err


def test_without_the_second_reader(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    inprocess.strip(root)
    monkeypatch.setitem(sys.modules, "elftools", None)
    done = check("-j", "1", root)
    assert (done.status, "python3-pyelftools" in done.err) == (2, True)
    assert check("-j", "1", "--no-second-reader", root).status == 0


def test_both_readers_look_at_each_module(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pkghook.ko import second

    inprocess.strip(root)
    right = second.ours
    monkeypatch.setattr(second, "ours", lambda parsed: right(parsed)._replace(machine=3))
    assert ids(report("-j", "1", root)) == ["readers-disagree"] * 3
    assert ids(report("-j", "1", "--no-second-reader", root)) == []


def test_a_path_that_cannot_be_read_hides_no_other(root: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no module\n")
    (tmp_path / "cut.rpm").write_bytes(b"\xed\xab\xee\xdb" + bytes(92))
    told = check(tmp_path / "notes.txt", root, tmp_path / "cut.rpm")
    assert told.status == 2
    assert all(f"{name}.ko" in told.out for name in NAMES)
    assert "notes.txt: neither a package nor a module" in told.err
    assert "cut.rpm: " in told.err
