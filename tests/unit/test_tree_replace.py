"""`sources.place` and `sources.metadata`: new bytes in the old place, and every way that must not happen."""

from __future__ import annotations

import errno
import os
import signal
import stat
import struct
import time
from typing import TYPE_CHECKING

import pytest

from pkghook.errors import ModuleError
from pkghook.sources import Found, Scratch, Source
from pkghook.sources.tree import Tree, cannot_write
from tests.trees import (
    NEW,
    NOBODY,
    OLD,
    VERSION,
    deep,
    facts,
    in_child,
    listing,
    mounted,
    need_root,
    only,
    paths,
    put,
    remount,
    replaced,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pkghook.findings import Finding

MODULE = f"{VERSION}/kernel/a.ko"
MTIME = 1_234_567_890_123_456_789


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A buildroot with one module."""
    root = tmp_path / "root"
    os.utime(put(root, MODULE), ns=(MTIME, MTIME))
    return root


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    """Its tree; no handle stays open, no scratch file lies about."""
    before = len(os.listdir("/proc/self/fd"))
    with Tree(str(root)) as tree:
        yield tree
    assert len(os.listdir("/proc/self/fd")) == before
    assert not [name for name in listing(root) if ".pkghook" in name]


class Work:
    """One module half way: opened, and a scratch file written."""

    def __init__(self, tree: Tree, found: Found | None = None) -> None:
        self.tree = tree
        self.found = found or only(tree)
        self.source: Source = tree.open(self.found)
        self.scratch: Scratch = tree.scratch(self.source)
        os.write(self.scratch.fd, NEW)

    def refused(self, *, fsync: bool = False) -> ModuleError:
        """The error that replacing raises; ends the work."""
        with pytest.raises(ModuleError) as caught:
            self.tree.replace(self.found, self.source, self.scratch, fsync)
        self.end()
        return caught.value

    def end(self) -> None:
        """Tidy up."""
        self.tree.discard(self.scratch)
        os.close(self.source.fd)


def attributes(file: Path) -> dict[str, bytes]:
    """Extended attributes but the labels that a kernel gives of its own."""
    return {name: os.getxattr(file, name) for name in os.listxattr(file) if name != "security.selinux"}


def label(file: Path, name: str, value: bytes) -> None:
    """Set an extended attribute, where the file system has such."""
    try:
        os.setxattr(file, name, value)
    except OSError as error:
        pytest.skip(f"{name} cannot be set here: {error}")


# --- what replacing keeps ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", [False, True])
def test_replace(tree: Tree, root: Path, fsync: bool) -> None:  # noqa: FBT001
    before = (root / MODULE).stat()
    assert replaced(tree, only(tree), fsync=fsync) == ()
    after = (root / MODULE).stat()
    assert (root / MODULE).read_bytes() == NEW
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime_ns == MTIME
    assert after.st_nlink == 1


def test_old_bytes_stay_readable_through_the_old_handle(tree: Tree) -> None:
    work = Work(tree)
    tree.replace(work.found, work.source, work.scratch, False)
    assert os.pread(work.source.fd, 1 << 20, 0) == OLD
    assert os.pread(work.scratch.fd, 1 << 20, 0) == NEW
    work.end()


@pytest.mark.parametrize("mode", [0o644, 0o444, 0o755, 0o600, 0o4755, 0o2644, 0o1644])
def test_mode(tree: Tree, root: Path, mode: int) -> None:
    (root / MODULE).chmod(mode)
    assert replaced(tree, only(tree)) == ()
    assert stat.S_IMODE((root / MODULE).stat().st_mode) == mode


def test_owner(tree: Tree, root: Path) -> None:
    need_root()
    os.chown(root / MODULE, 1234, 5678)
    (root / MODULE).chmod(0o6755)
    assert replaced(tree, only(tree)) == ()
    after = (root / MODULE).stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (1234, 5678, 0o6755)


def test_extended_attributes(tree: Tree, root: Path) -> None:
    label(root / MODULE, "user.origin", b"\x00\xff")
    label(root / MODULE, "user.empty", b"")
    (root / MODULE).chmod(0o444)
    before = attributes(root / MODULE)
    assert replaced(tree, only(tree)) == ()
    assert attributes(root / MODULE) == before


def test_security_labels(tree: Tree, root: Path) -> None:
    need_root()
    label(root / MODULE, "security.selinux", b"system_u:object_r:modules_object_t:s0\0")
    label(root / MODULE, "trusted.overlay.x", b"y")
    assert replaced(tree, only(tree)) == ()
    assert os.getxattr(root / MODULE, "security.selinux") == b"system_u:object_r:modules_object_t:s0\0"
    assert os.getxattr(root / MODULE, "trusted.overlay.x") == b"y"


def test_vouchers_for_the_old_bytes_are_not_copied(tree: Tree, root: Path) -> None:
    need_root()
    label(root / MODULE, "security.ima", b"\x03\x02abc")
    label(root / MODULE, "security.evm", b"\x02abc")
    label(root / MODULE, "user.other", b"x")
    (finding,) = replaced(tree, only(tree))
    assert (finding.id, finding.subject) == ("ima-voided", MODULE)
    assert finding.evidence == (("attributes", "security.ima, security.evm"),)
    assert attributes(root / MODULE) == {"user.other": b"x"}


def test_access_list_of_the_base_directory_is_not_inherited(tree: Tree, root: Path) -> None:
    # user::rwx group::rwx other::rwx mask::rwx user:1234:rwx, as acl(5) stores it on Linux
    entries = [(1, 7, 0xFFFFFFFF), (2, 7, 1234), (4, 7, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 7, 0xFFFFFFFF)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    label(root / "lib/modules", "system.posix_acl_default", packed)
    before = (root / MODULE).stat()
    assert replaced(tree, only(tree)) == ()
    assert attributes(root / MODULE) == {}
    assert (root / MODULE).stat().st_mode == before.st_mode


@pytest.mark.parametrize(("number", "kept"), [(errno.ENOTSUP, True), (errno.EIO, False)])
def test_attributes_that_cannot_be_listed(
    tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, kept: bool
) -> None:
    def listxattr(fd: int) -> list[str]:
        raise OSError(number, os.strerror(number), fd)

    monkeypatch.setattr(os, "listxattr", listxattr)
    if kept:  # a file system without attributes has none to lose
        assert replaced(tree, only(tree)) == ()
    else:
        assert Work(tree).refused().evidence == {"error": "Input/output error"}
        assert (root / MODULE).read_bytes() == OLD


def test_file_system_that_has_no_modes(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def fchmod(fd: int, mode: int) -> None:
        assert (os.fstat(fd).st_size, mode) == (len(NEW), 0o644)

    monkeypatch.setattr(os, "fchmod", fchmod)
    (finding,) = replaced(tree, only(tree))
    assert (finding.id, finding.evidence) == ("metadata-not-kept", (("lost", "mode"), ("error", "no effect")))


def test_what_an_ordinary_user_cannot_keep(root: Path) -> None:
    need_root()
    label(root / MODULE, "security.other", b"x")
    (root / MODULE).chmod(0o6755)
    for directory in (root / "lib/modules", (root / MODULE).parent):
        directory.chmod(0o777)
    for directory in (root, root / "lib", root / VERSION):
        directory.chmod(0o755)
    tree = Tree(str(root))
    found = only(tree)

    def work() -> tuple[Finding, ...]:
        findings = replaced(tree, found)
        tree.clean()
        return findings

    (finding,) = in_child(work, uid=NOBODY)
    tree.close()
    assert (finding.id, finding.subject) == ("metadata-not-kept", MODULE)
    assert finding.evidence == (
        ("lost", "owner, group, mode, security.other"),
        ("error", "Operation not permitted"),
    )
    after = (root / MODULE).stat()
    assert (root / MODULE).read_bytes() == NEW
    # Set-ID bits are not for another owner.
    assert (after.st_uid, stat.S_IMODE(after.st_mode), after.st_mtime_ns) == (NOBODY, 0o755, MTIME)
    assert listing(root)[-1] == MODULE


# --- hard links -------------------------------------------------------------------------------------------------------


@pytest.fixture
def group(root: Path) -> list[Path]:
    """The module under three names, in two directories."""
    names = [root / MODULE, root / f"{VERSION}/extra/b.ko", root / f"{VERSION}/extra/c.ko"]
    names[1].parent.mkdir()
    for name in names[1:]:
        os.link(names[0], name)
    return names


@pytest.mark.parametrize("fsync", [False, True])
def test_group_stays_a_group(tree: Tree, group: list[Path], fsync: bool) -> None:  # noqa: FBT001
    assert replaced(tree, only(tree), fsync=fsync) == ()
    after = [name.stat() for name in group]
    assert {(s.st_ino, s.st_nlink, s.st_mtime_ns) for s in after} == {(after[0].st_ino, 3, MTIME)}
    assert {name.read_bytes() for name in group} == {NEW}


def test_name_outside_keeps_the_old_bytes(tree: Tree, root: Path, group: list[Path]) -> None:
    os.link(group[0], root.parent / "outside")
    (finding,) = replaced(tree, only(tree))
    assert (finding.id, finding.subject) == ("outside-link", f"{VERSION}/extra/b.ko")
    assert finding.evidence == (("names", 3), ("outside", 1))
    assert (root.parent / "outside").read_bytes() == OLD
    assert group[1].stat().st_nlink == 3


def test_group_over_more_directories_than_handles(tree: Tree, root: Path) -> None:
    names = [root / f"{VERSION}/extra/{number:03}/a.ko" for number in range(150)]
    for name in names:
        name.parent.mkdir(parents=True)
        os.link(root / MODULE, name)
    assert replaced(tree, only(tree)) == ()
    assert {name.stat().st_ino for name in names} == {(root / MODULE).stat().st_ino}
    assert (root / MODULE).stat().st_nlink == 151


def break_group(file: Path, how: str) -> None:
    """What another process may do to one name."""
    file.unlink()
    if how == "other":
        file.write_bytes(b"somebody else's")
    elif how == "link":
        file.symlink_to("b.ko")


BREAKS = ["gone", "other", "link"]


@pytest.mark.parametrize("how", BREAKS)
def test_name_that_changed_before(tree: Tree, group: list[Path], how: str) -> None:
    work = Work(tree)
    break_group(group[0], how)  # not the first in order: names are b, c, a
    before = os.readlink(group[0]) if how == "link" else group[0].read_bytes() if how == "other" else None
    error = work.refused()
    assert error.id == "changed-during-run"
    assert error.evidence["name"] == MODULE
    assert [group[1].read_bytes(), group[2].read_bytes()] == [OLD, OLD]
    after = os.readlink(group[0]) if how == "link" else group[0].read_bytes() if how == "other" else None
    assert after == before


@pytest.mark.parametrize("how", BREAKS)
def test_name_that_changes_half_way(tree: Tree, group: list[Path], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename
    calls: list[str] = []

    def rename(source: str, target: str, **where: int) -> None:
        real(source, target, **where)
        calls.append(target)
        if len(calls) == 1:
            break_group(group[2], how)

    monkeypatch.setattr(os, "rename", rename)
    (finding,) = replaced(tree, only(tree))
    assert (finding.id, finding.subject) == ("identity-changed", f"{VERSION}/extra/b.ko")
    assert dict(finding.evidence)["name"] == f"{VERSION}/extra/c.ko"
    assert [group[0].read_bytes(), group[1].read_bytes()] == [NEW, NEW]
    assert group[0].stat().st_nlink == 2
    if how == "other":
        assert group[2].read_bytes() == b"somebody else's"


def test_names_of_one_directory_mounted_twice(tree: Tree, group: list[Path]) -> None:
    # Both paths lead to one name: after the first rename the second has the new bytes.
    found = only(tree)
    work = Work(tree, found._replace(names=(found.path,)))
    assert tree.replace(work.found, work.source, work.scratch, False) == ()
    work.end()
    assert group[1].read_bytes() == NEW
    assert group[1].stat().st_nlink == 1


def test_signal_does_not_tear_a_group_apart(tree: Tree, group: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.rename

    def rename(source: str, target: str, **where: int) -> None:
        real(source, target, **where)
        os.kill(os.getpid(), signal.SIGINT)

    found = only(tree)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        replaced(tree, found)
    assert {name.read_bytes() for name in group} == {NEW}
    assert group[0].stat().st_nlink == 3
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


# --- a tree that changes meanwhile ------------------------------------------------------------------------------------


def rewrite(file: Path) -> None:
    file.write_bytes(b"x" * len(OLD))


def rewrite_and_hide_it(file: Path) -> None:
    file.write_bytes(b"x" * len(OLD))
    os.utime(file, ns=(MTIME, MTIME))


def append(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"x")


def another(file: Path) -> None:
    put(file.parent, "new", OLD).rename(file)


def vanish(file: Path) -> None:
    file.rename(file.with_suffix(".away"))


def link(file: Path) -> None:
    file.rename(file.with_suffix(".away"))
    file.symlink_to(file.with_suffix(".away"))


def chmod(file: Path) -> None:
    file.chmod(0o600)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("change", [rewrite, rewrite_and_hide_it, append, another, vanish, link, chmod, directory])
def test_module_that_changes_meanwhile(tree: Tree, root: Path, change: Callable[[Path], None]) -> None:
    work = Work(tree)
    time.sleep(0.02)  # a kernel's clock for files ticks every few milliseconds
    change(root / MODULE)
    before = {name: (root / name).read_bytes() for name in listing(root) if (root / name).is_file()}
    assert work.refused().id == "changed-during-run"
    after = {name: (root / name).read_bytes() for name in listing(root) if (root / name).is_file()}
    assert {k: v for k, v in after.items() if ".pkghook" not in k} == {
        k: v for k, v in before.items() if ".pkghook" not in k
    }


def test_evidence_of_a_change(tree: Tree, root: Path) -> None:
    work = Work(tree)
    append(root / MODULE)
    assert work.refused().evidence == {"what": "size", "before": len(OLD), "now": len(OLD) + 1}
    work = Work(tree)
    another(root / MODULE)
    assert work.refused().evidence == {"what": "another file"}
    work = Work(tree)
    time.sleep(0.02)
    (root / MODULE).chmod(0o600)
    assert work.refused().evidence == {"what": "contents or metadata"}


@pytest.mark.parametrize("component", ["lib", "lib/modules", VERSION, f"{VERSION}/kernel"])
def test_directory_swapped_for_a_link_to_outside(tree: Tree, root: Path, component: str) -> None:
    work = Work(tree)
    outside = put(root.parent, f"outside/{MODULE}", b"not ours")
    (root / component).rename(root.parent / "moved")
    (root / component).symlink_to(root.parent / "outside" / component)
    error = work.refused()
    assert (error.id, error.evidence) == ("changed-during-run", {"what": "a directory of the path"})
    assert outside.read_bytes() == b"not ours"
    assert not [name for name in listing(root.parent / "outside") if ".pkghook" in name]
    assert (root.parent / "moved" / MODULE.removeprefix(component + "/")).read_bytes() == OLD
    (root / component).unlink()
    (root.parent / "moved").rename(root / component)


def test_directory_that_is_gone(tree: Tree, root: Path) -> None:
    work = Work(tree)
    (root / VERSION).rename(root.parent / "moved")
    error = work.refused()
    assert (error.id, error.evidence) == ("changed-during-run", {"error": "No such file or directory"})


def test_scratch_that_a_tool_replaced_is_not_what_was_verified(tree: Tree, root: Path) -> None:
    work = Work(tree)
    evil = put(root.parent, "evil")
    evil.rename(work.scratch.path)
    assert work.refused().id == "cannot-write"
    assert (root / MODULE).read_bytes() == OLD


def test_deeper_than_any_path(tree: Tree, root: Path) -> None:
    with deep(root, VERSION, "d" * 200, 30) as fd:
        os.link(root / MODULE, "b.ko", dst_dir_fd=fd)
        (root / MODULE).unlink()
        found = only(tree)
        assert len(found.path) > 4096
        assert replaced(tree, found) == ()
        file = os.open("b.ko", os.O_RDONLY, dir_fd=fd)
        assert os.pread(file, 1000, 0) == NEW
        os.close(file)


# --- no space, no rights ----------------------------------------------------------------------------------------------


def test_no_space_left(tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=64k") as root:
        put(root, "a.ko")
        with Tree(str(root)) as tree:
            work = Work(tree)
            assert os.write(work.scratch.fd, bytes(128 << 10)) < 128 << 10  # what there was
            with pytest.raises(OSError, match="No space") as caught:
                os.write(work.scratch.fd, bytes(4096))
            refusal = cannot_write(caught.value)
            assert (refusal.id, refusal.evidence) == ("cannot-write", {"error": "No space left on device"})
            work.end()
            assert (root / "a.ko").read_bytes() == OLD
        assert listing(root) == ["a.ko"]


def test_no_inode_left(tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=64k,nr_inodes=3") as root:
        put(root, "a.ko")
        with Tree(str(root)) as tree:
            source = tree.open(only(tree))
            with pytest.raises(ModuleError) as caught:
                tree.scratch(source)  # its directory takes the last inode
            os.close(source.fd)
            assert (caught.value.id, caught.value.evidence) == ("cannot-write", {"error": "No space left on device"})
        assert listing(root) == ["a.ko"]


def test_no_room_for_a_further_link(tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=64k,nr_inodes=6") as root:
        os.link(put(root, "a.ko"), root / "b.ko")  # a link takes an inode of tmpfs's account
        with Tree(str(root)) as tree:
            work = Work(tree)
            put(root, "filler")
            assert work.refused().evidence == {"error": "No space left on device"}
            assert [(root / name).read_bytes() for name in ("a.ko", "b.ko")] == [OLD, OLD]
            assert (root / "a.ko").stat().st_nlink == 2


def test_read_only_tree(tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "size=64k") as root:
        put(root, "a.ko")
        remount(root, "ro")
        with Tree(str(root)) as tree:
            tree.lock()
            source = tree.open(only(tree))
            with pytest.raises(ModuleError) as caught:
                tree.scratch(source)
            os.close(source.fd)
            assert caught.value.evidence == {"error": "Read-only file system"}


def test_tree_that_becomes_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "size=64k") as root:
        put(root, "a.ko")
        with Tree(str(root)) as tree:
            work = Work(tree)
            os.close(work.scratch.fd)  # or the kernel would not remount
            work.scratch = work.scratch._replace(fd=os.open(work.scratch.path, os.O_RDONLY))
            remount(root, "ro")
            error = work.refused()
            assert (error.id, error.evidence) == ("cannot-write", {"error": "Read-only file system"})
            assert (root / "a.ko").read_bytes() == OLD
            remount(root, "rw")


def test_directory_that_the_user_may_not_write(root: Path) -> None:
    need_root()
    (root / "lib/modules").chmod(0o777)
    for part in (root, root / "lib", root / VERSION, (root / MODULE).parent):
        part.chmod(0o755)
    tree = Tree(str(root))
    found = only(tree)

    def work() -> tuple[str, object]:
        try:
            replaced(tree, found)
        except ModuleError as error:
            return error.id, error.evidence
        finally:
            tree.clean()
        return "", None

    assert in_child(work, uid=NOBODY) == ("cannot-write", {"error": "Permission denied"})
    tree.close()
    assert (root / MODULE).read_bytes() == OLD


# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("group")
def test_order_of_syncs(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        order.append(f"sync {os.path.relpath(os.readlink(f'/proc/self/fd/{fd}'), root)}")
        sync(fd)

    def renamed(source: str, target: str, **where: int) -> None:
        order.append(f"rename {target}")
        rename(source, target, **where)

    found = only(tree)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", renamed)
    replaced(tree, found, fsync=True)
    assert order[0].startswith("sync lib/modules/.pkghook-")
    extra, kernel = f"sync {VERSION}/extra", f"sync {VERSION}/kernel"
    assert order[1:] == ["rename b.ko", "rename c.ko", extra, "rename a.ko", kernel, extra]


def failing_sync(number: int, kind: Callable[[int], bool]) -> Callable[[int], None]:
    """An fsync(2) as of a disk that fails, for files or for directories."""

    def fsync(fd: int) -> None:
        if kind(os.fstat(fd).st_mode):
            raise OSError(number, os.strerror(number))

    return fsync


def test_directory_that_cannot_be_synced(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing_sync(errno.EIO, stat.S_ISDIR))
    (finding,) = replaced(tree, only(tree), fsync=True)
    assert (finding.id, finding.evidence) == ("not-durable", (("error", "Input/output error"),))
    assert (root / MODULE).read_bytes() == NEW


def test_file_system_that_syncs_no_directories(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing_sync(errno.EINVAL, stat.S_ISDIR))
    assert replaced(tree, only(tree), fsync=True) == ()


def test_file_that_cannot_be_synced(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", failing_sync(errno.EIO, stat.S_ISREG))
    assert Work(tree).refused(fsync=True).evidence == {"error": "Input/output error"}
    assert (root / MODULE).read_bytes() == OLD


def test_killed_at_any_instant(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(40):
        file = put(root, f"{VERSION}/kernel/{number}.ko")
        os.link(file, root / VERSION / f"{number}.ko")
    for delay in (0, 1, 2, 3, 5, 8, 13):
        pid = os.fork()
        if not pid:
            with Tree(str(root)) as tree:
                for number in range(1000):
                    for found in tree.walk().modules:
                        replaced(tree, found, NEW + b"%d" % number)
            os._exit(0)
        time.sleep(0.03 + delay / 1000)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with Tree(str(root)) as tree:
            walk = tree.walk()
            names = [name for found in walk.modules for name in (found.path, *found.names)]
            assert len(names) == 80
            assert all((root / name).read_bytes()[: len(NEW)] in (NEW, OLD[: len(NEW)]) for name in names)
            assert facts(tree.sweep(walk.leftovers)) == [("scratch-left", left) for left in walk.leftovers]
        assert not [name for name in listing(root) if ".pkghook" in name]


def test_two_runs_without_a_lock_lose_nothing(root: Path) -> None:
    with Tree(str(root)) as one, Tree(str(root)) as two:
        first, second = Work(one), Work(two)
        one.replace(first.found, first.source, first.scratch, False)
        assert second.refused().id == "changed-during-run"
        first.end()
        assert paths(one.walk().modules) == [MODULE]
    assert (root / MODULE).read_bytes() == NEW
