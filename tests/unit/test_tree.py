"""`sources.tree`: the root, opening modules while somebody changes the tree, the lock."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from pkghook.errors import InputError, ModuleError, TreeBusyError
from pkghook.sources import Found
from pkghook.sources.dirs import HANDLES
from pkghook.sources.tree import Tree
from tests.trees import NOBODY, OLD, VERSION, as_ordinary_user, facts, in_child, listing, need_root, only, put

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.findings import Finding

MODULE = f"{VERSION}/kernel/fs/a.ko"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A buildroot with one module."""
    root = tmp_path / "root"
    put(root, MODULE)
    return root


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user may come to, unlike pytest's."""
    with TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    """Its tree; nothing is left open or lying about afterwards."""
    before = len(os.listdir("/proc/self/fd"))
    with Tree(str(root)) as tree:
        yield tree
    assert len(os.listdir("/proc/self/fd")) == before


def refusal(tree: Tree, found: Found) -> ModuleError:
    """The error that opening `found` raises, no handle lost."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ModuleError) as caught:
        tree.open(found)
    assert len(os.listdir("/proc/self/fd")) <= before + 5  # directories on the way
    return caught.value


# --- the root ---------------------------------------------------------------------------------------------------------


def test_absent_root(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: No such file or directory"):
        Tree(str(tmp_path / "nowhere"))


def test_root_that_is_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a.ko: Not a directory") as caught:
        Tree(str(put(tmp_path, "a.ko")))
    assert "directory" in caught.value.hint


def test_empty_root_is_not_the_working_directory() -> None:
    with pytest.raises(InputError, match="ROOT is empty"):
        Tree("")


def test_root_given_through_a_link(tmp_path: Path, root: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    with Tree(str(tmp_path / "link")) as tree:
        assert only(tree).path == MODULE


def test_relative_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    with Tree("root") as tree:
        assert only(tree).path == MODULE


def test_unreadable_root(open_path: Path) -> None:
    root = open_path / "closed"
    root.mkdir(mode=0o000)

    def work() -> str:
        try:
            Tree(str(root))
        except InputError as error:
            return error.message
        return ""

    assert as_ordinary_user(work) == f"{root}: Permission denied"


# --- opening ----------------------------------------------------------------------------------------------------------


def test_open(tree: Tree, root: Path) -> None:
    source = tree.open(only(tree))
    assert os.read(source.fd, 1 << 20) == OLD
    assert source.stat == os.fstat(source.fd)
    assert source.name == "a.ko"
    assert os.path.samestat(os.fstat(source.dirfd), (root / MODULE).parent.stat())
    os.close(source.fd)


def test_module_vanished(tree: Tree, root: Path) -> None:
    found = only(tree)
    (root / MODULE).unlink()
    assert refusal(tree, found).id == "vanished"


def test_directory_vanished(tree: Tree, root: Path) -> None:
    found = only(tree)
    (root / "lib").rename(root / "gone")
    assert refusal(tree, found).id == "vanished"


def test_symlink_in_the_module_s_place(tree: Tree, root: Path) -> None:
    found = only(tree)
    secret = put(root.parent, "secret")
    (root / MODULE).unlink()
    (root / MODULE).symlink_to(secret)
    assert refusal(tree, found).id == "not-regular"


@pytest.mark.parametrize("component", ["lib", "lib/modules", VERSION, f"{VERSION}/kernel", f"{VERSION}/kernel/fs"])
def test_symlink_in_a_directory_s_place(tree: Tree, root: Path, component: str) -> None:
    found = only(tree)
    outside = root.parent / "outside"
    (root / component).rename(outside)
    (root / component).symlink_to(outside)
    assert refusal(tree, found).id == "vanished"


def test_directory_in_hand_stays_what_it_was(tree: Tree, root: Path) -> None:
    found = only(tree)
    os.close(tree.open(found).fd)
    outside = root.parent / "outside"
    (root / VERSION).rename(outside)
    put(root.parent, "evil/kernel/fs/a.ko", b"evil")
    (root / VERSION).symlink_to(root.parent / "evil")
    source = tree.open(found)
    assert os.read(source.fd, 4) == OLD[:4]
    os.close(source.fd)


def test_fifo_in_the_module_s_place_does_not_hang(tree: Tree, root: Path) -> None:
    found = only(tree)
    (root / MODULE).unlink()
    os.mkfifo(root / MODULE)
    error = refusal(tree, found)
    assert (error.id, error.evidence) == ("not-regular", {"kind": "FIFO"})


def test_socket_in_the_module_s_place(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = only(tree)
    (root / MODULE).unlink()
    monkeypatch.chdir((root / MODULE).parent)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("a.ko")
        assert refusal(tree, found).id == "not-regular"


def test_directory_in_the_module_s_place(tree: Tree, root: Path) -> None:
    found = only(tree)
    (root / MODULE).unlink()
    (root / MODULE).mkdir()
    error = refusal(tree, found)
    assert (error.id, error.evidence) == ("not-regular", {"kind": "directory"})


def test_device_in_the_module_s_place(tree: Tree, root: Path) -> None:
    need_root()
    found = only(tree)
    (root / MODULE).unlink()
    os.mknod(root / MODULE, 0o020666, os.makedev(1, 3))
    error = refusal(tree, found)
    assert (error.id, error.evidence) == ("not-regular", {"kind": "character device"})


def test_unreadable_module(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    root = tmp_path
    put(root, MODULE)
    (root / MODULE).chmod(0o000)
    tree = Tree(str(root))
    found = only(tree)

    def work() -> tuple[str, object]:
        try:
            tree.open(found)
        except ModuleError as error:
            return error.id, error.evidence
        return "", None

    assert as_ordinary_user(work) == ("unreadable", {"error": "Permission denied"})
    tree.close()


# --- what the walk passes by ------------------------------------------------------------------------------------------


def passed_by(root: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """What an ordinary user is given of it, and what is told."""
    with Tree(str(root)) as tree:
        told: list[Finding] = []
        return [path for path, _ in tree.strangers(tree.walk(), told.append)], facts(tuple(told))


def test_strangers_that_cannot_be_read(open_path: Path) -> None:
    """Wherever they lie and whatever their names; of modules and directories that the walk comes to it tells."""
    closed = (MODULE, f"{VERSION}/firmware.bin", "opt/drv.ko", "opt/drv.ko.gz", "opt/blob")
    for path in (*closed, "opt/open", f"{VERSION}/shut/a.ko", "shut/a.ko", "usr/lib/debug/a", "usr/lib/debug/shut/a"):
        put(open_path, path)
    for path in (*closed, f"{VERSION}/shut", "shut", "usr/lib/debug/a", "usr/lib/debug/shut"):
        (open_path / path).chmod(0o000)
    (open_path / "opt/link").symlink_to("blob")
    passed, told = as_ordinary_user(lambda: passed_by(open_path))
    for path in (f"{VERSION}/shut", "shut", "usr/lib/debug/shut"):
        (open_path / path).chmod(0o755)
    assert passed == ["opt/open"]
    assert sorted(told) == [("unreadable", path) for path in sorted({*closed, "shut"} - {MODULE})]


def test_strangers_of_a_tree_of_modules(open_path: Path) -> None:
    """There the walk comes to every directory."""
    put(open_path, "a.bin")
    put(open_path, "shut/a.bin")
    (open_path / "shut").chmod(0o000)
    passed = as_ordinary_user(lambda: passed_by(open_path))
    (open_path / "shut").chmod(0o755)
    assert passed == (["a.bin"], [])


def test_strangers_that_vanish_are_not_worth_a_word(root: Path, tree: Tree) -> None:
    for path in ("zzz/a", "zzz/b", "opt/c"):
        put(root, path)
    told: list[Finding] = []
    strangers = tree.strangers(tree.walk(), told.append)
    assert next(strangers)[0] == "zzz/a"
    (root / "zzz/b").unlink()
    shutil.rmtree(root / "opt")
    assert (list(strangers), told) == ([], [])


@pytest.mark.parametrize("other", ["removed", "replaced"])
def test_names_that_have_come_apart(tree: Tree, root: Path, other: str) -> None:
    """As a worker leaves them that is killed between two renames."""
    name = MODULE.replace("a.ko", "b.ko")
    (root / name).hardlink_to(root / MODULE)
    found = only(tree)
    assert found.names == (name,)
    (root / name).unlink()
    if other == "replaced":
        put(root, name)
    error = refusal(tree, found)
    assert (error.id, error.evidence) == ("changed-during-run", {"name": name, "what": "another file"})


@pytest.mark.parametrize("path", ["../a.ko", "lib/../../a.ko", "lib//a.ko", "./a.ko", "//a.ko"])
def test_no_path_leads_out(tree: Tree, root: Path, path: str) -> None:
    put(root.parent, "a.ko")
    put(root, "a.ko")
    assert refusal(tree, Found(path, "", 0)).id == "unreadable"


def test_many_directories_need_few_handles(root: Path) -> None:
    for number in range(3 * HANDLES):
        put(root, f"{VERSION}/extra/{number}/m.ko")
    before = len(os.listdir("/proc/self/fd"))
    with Tree(str(root)) as tree:
        for found in tree.walk().modules:
            os.close(tree.open(found).fd)
        assert len(os.listdir("/proc/self/fd")) <= before + HANDLES + 3
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_creates_nothing(root: Path) -> None:
    before = listing(root)
    with Tree(str(root)) as tree:
        os.close(tree.open(only(tree)).fd)
        assert listing(root) == before


# --- the lock ---------------------------------------------------------------------------------------------------------


def busy(root: Path) -> bool:
    """Is the tree locked, seen by another process."""

    def work() -> bool:
        try:
            Tree(str(root)).lock()
        except TreeBusyError:
            return True
        return False

    return in_child(work)


def test_lock_and_close(root: Path) -> None:
    assert not busy(root)
    tree = Tree(str(root))
    assert not busy(root)  # looking needs no lock
    tree.lock()
    assert busy(root)
    tree.close()
    assert not busy(root)


def test_second_run_in_the_same_process(root: Path, tree: Tree) -> None:
    tree.lock()
    with Tree(str(root)) as second:
        with pytest.raises(TreeBusyError, match="another pkghook") as caught:
            second.lock()
        assert caught.value.hint
        assert only(second).path == MODULE


def test_one_lock_for_all_ways_to_name_the_tree(root: Path, tree: Tree) -> None:
    tree.lock()
    assert busy(root / "lib/modules")
    assert busy(root / "lib/../lib/modules")


def test_locking_creates_nothing(root: Path, tree: Tree) -> None:
    before = listing(root)
    tree.lock()
    assert listing(root) == before


def test_child_drops_its_share_and_the_parent_s_stays(root: Path, tree: Tree) -> None:
    tree.lock()
    in_child(tree.unlock_in_child)
    assert busy(root)
    in_child(tree.close)
    assert busy(root)


@pytest.mark.parametrize("drops", [True, False])
def test_child_that_outlives_its_parent(root: Path, tree: Tree, drops: bool) -> None:  # noqa: FBT001
    tree.lock()
    ready, tell = os.pipe()
    end, wake = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(wake)
        if drops:
            tree.unlock_in_child()
        os.write(tell, b".")
        os.read(end, 1)  # end of file: the test is over
        os._exit(0)
    os.read(ready, 1)
    tree.unlock_in_child()  # all that ends with a killed parent
    assert busy(root) is not drops
    for fd in (ready, tell, end, wake):
        os.close(fd)
    os.waitpid(pid, 0)
    assert not busy(root)


def test_killed_run_gives_the_lock_back(root: Path) -> None:
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        Tree(str(root)).lock()
        os.write(tell, b".")
        signal.pause()
    os.read(ready, 1)
    os.close(ready)
    os.close(tell)
    assert busy(root)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not busy(root)


def test_file_system_that_cannot_lock(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.EBADF, f"{fd} {operation}")  # NFS, of a directory

    monkeypatch.setattr(fcntl, "flock", flock)
    tree.lock()


def test_unlock_without_lock(tree: Tree) -> None:
    tree.unlock_in_child()


def test_ordinary_user_can_lock_a_tree_that_he_may_only_read(root: Path) -> None:
    need_root()
    tree = Tree(str(root))

    def work() -> None:
        tree.lock()

    in_child(work, uid=NOBODY)
    tree.close()
