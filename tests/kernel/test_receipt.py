"""The receipt of a run over real modules: the same bytes whoever runs it, where, when, and with how many workers."""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pkghook.model import Compression, State
from tests import inprocess, jobs, modules
from tests.inprocess import HOME
from tests.liars.tools import liar
from tests.support import need_tool
from tests.trees import NOBODY, in_child, need_root

LIST = "__UNIQUE_ID_*\n"


@pytest.fixture(scope="module")
def original(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with something of everything: plain, compressed, signed, damaged, linked modules, and what is none."""
    root = tmp_path_factory.mktemp("receipt") / "original"
    inprocess.planted(root, modules.sample(corpus, "amd64", 40, limit=2 << 20))
    small = modules.image(modules.named(corpus, "amd64", "crc7"))
    for how in Compression:
        inprocess.put(root, f"wrapped.ko{how.suffix}", inprocess.packed(small, how))
    shipped = modules.shipped(corpus, "amd64", modules.named(corpus, "amd64", "crc-itu-t")).read_bytes()
    inprocess.put(root, "shipped.ko", shipped)
    inprocess.put(root, "signed.ko", small + inprocess.trailer(shipped))
    inprocess.put(root, "broken.ko", small[:5000])
    inprocess.put(root, "café \udcff.ko", small)
    os.link(inprocess.put(root, "linked-1.ko", small), root / HOME / "linked-0.ko")
    os.mkfifo(root / HOME / "fifo.ko")
    (root / HOME / "dangling.ko").symlink_to("nowhere.ko")
    inprocess.put(root, "vmlinux.debug", small)
    return root


class Lab:
    """Runs over copies of the tree, each with a receipt."""

    def __init__(self, original: Path, place: Path) -> None:
        self.original = original
        self.place = place
        self.list = place / "my.list"
        self.list.write_text(LIST)

    def copy(self, name: str) -> Path:
        """A copy of the tree."""
        root = self.place / name / "root"
        shutil.copytree(self.original, root, symlinks=True, copy_function=self.like)
        (root / HOME / "linked-0.ko").unlink()
        (root / HOME / "linked-0.ko").hardlink_to(root / HOME / "linked-1.ko")
        return root

    @staticmethod
    def like(source: str, target: str) -> str:
        """The copy of one file; there is a FIFO among them."""
        if Path(source).is_fifo():
            os.mkfifo(target)
            return target
        return str(shutil.copy2(source, target))

    def receipt(self, name: str, *options: str | Path, path: str = "") -> bytes:
        """The bytes of the receipt of a run over a copy."""
        root = self.copy(name)
        job = inprocess.strip(root, *options, PATH=path or os.environ["PATH"])
        assert job.status == 1
        return root.with_name("root.receipt.json").read_bytes()


@pytest.fixture
def lab(original: Path, tmp_path: Path) -> Lab:
    """A place for runs."""
    return Lab(original, tmp_path)


CHAINS = {
    "native": (),
    "all": ("--strip-symbols", "symbols.safe", "--discard-labels", "--signed", "strip"),
    "outside": ("--chain", "objcopy,eu-strip,strip,native", "--keep", "crc*.ko=for the tests"),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_same_bytes_with_any_number_of_workers(lab: Lab, chain: str) -> None:
    if chain == "outside":
        for tool in ("objcopy", "eu-strip", "strip"):
            need_tool(tool)
    first = lab.receipt("j1", "-j1", *CHAINS[chain])
    assert lab.receipt("j2", "-j2", *CHAINS[chain]) == first
    assert lab.receipt("j4", "-j4", *CHAINS[chain]) == first
    assert len(first) > 20_000


def test_same_bytes_in_another_directory_and_at_another_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also with relative paths, another working directory, another umask, and files that are older."""
    options = ("--strip-symbols", lab.list, "--digest-before")
    first = lab.receipt("here", *options)
    deep = tmp_path / "a b" / "deeper" / ("x" * 200)
    deep.mkdir(parents=True)
    root = deep / "else where"
    lab.copy("there").rename(root)
    for path in root.rglob("*.ko*"):
        if path.is_file():
            os.utime(path, (1, 1))
    shutil.copy(lab.list, deep / lab.list.name)
    monkeypatch.chdir(deep)
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    before = os.umask(0o077)
    try:
        told = inprocess.call(
            *("strip", "else where/", "--keep-dir", "", "--receipt", "r.json", "--strip-symbols", lab.list.name),
            PKGHOOK_DIGEST_BEFORE="1",
            PKGHOOK_JOBS="3",
        )
    finally:
        os.umask(before)
    assert told.status == 1
    assert (deep / "r.json").read_bytes() == first


def test_same_bytes_where_tools_tell_their_files(lab: Lab, tmp_path: Path) -> None:
    """What a tool says of its files is in the receipt, without where they lay."""
    receipts = []
    for name in ("one", "another, with a longer name"):
        path = tmp_path / name / "bin"
        liar(path, "objcopy", "warns about its files")
        for tool in ("cat", "sleep"):
            (path / tool).symlink_to(need_tool(tool))
        receipts.append(lab.receipt(name, "--chain", "objcopy,native", path=str(path)))
    assert receipts[0] == receipts[1]
    assert b"objcopy: warning: IN: odd; see OUT" in receipts[0]


@pytest.fixture
def public(original: Path) -> Iterator[Lab]:
    """A place that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="pkghook-test.") as place:
        os.chmod(place, 0o755)  # noqa: S103
        yield Lab(original, Path(place))


def test_same_bytes_for_another_user(public: Lab) -> None:
    """Who owns the tree."""
    need_root()
    first = public.receipt("root")
    root = public.copy("nobody")
    for path in (root.parent, *root.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    again = in_child(lambda: inprocess.strip(root).status, uid=NOBODY)
    assert again == 1
    assert root.with_name("root.receipt.json").read_bytes() == first
    assert root.with_name("root.receipt.json").stat().st_uid == NOBODY


def test_nothing_of_this_machine_is_in_it(lab: Lab, tmp_path: Path) -> None:
    liar(tmp_path / "bin", "objcopy", "warns about its files")
    for tool in ("cat", "sleep"):
        (tmp_path / "bin" / tool).symlink_to(need_tool(tool))
    options = ("--chain", "objcopy,native", "--discard-labels", "--chain", "objcopy,native-labels,native")
    text = lab.receipt("root", *options, path=str(tmp_path / "bin")).decode("ascii")
    for what in (str(lab.place), str(Path.cwd()), "/proc/", "/dev/fd", "/tmp/", ".pkghook-"):  # noqa: S108
        assert what not in text, what
    for name in (socket.gethostname(), getpass.getuser()):
        assert not re.search(rf"\b{re.escape(name)}\b", text), name
    assert not re.search(r'"/', text), "an absolute path"
    assert not re.search(r"\b(19|20)\d\d-\d\d", text), "a date"


def test_every_file_is_accounted_for(lab: Lab) -> None:
    """Each module in exactly one entry, each further name in one, what is none in none."""
    root = lab.copy("root")
    job = inprocess.strip(root, "--signed", "keep")
    named = [name for entry in job.receipt.entries for name in (entry.path, *entry.names)]
    files = [str(path.relative_to(root)) for path in jobs.modules_of(root)]
    assert sorted(named) == sorted(files)
    states = {Path(entry.path).name: entry.state for entry in job.receipt.entries}
    assert states["broken.ko"] is State.FAILED
    assert states["signed.ko"] is State.KEPT
    assert states["shipped.ko"] is State.ALREADY_STRIPPED
    assert states["linked-0.ko"] is states["café \udcff.ko"] is State.STRIPPED
    assert [finding.subject for finding in job.receipt.findings] == [f"{HOME}/fifo.ko", f"{HOME}/dangling.ko"]
    assert [path for path, _ in job.receipt.walk.others] == [f"{HOME}/vmlinux.debug"]
    total = sum((root / path).stat().st_size for path in files if not path.endswith("linked-1.ko"))
    assert job.receipt.totals.file_after == total
