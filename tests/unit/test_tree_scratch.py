"""`sources.private`: scratch files, whose they are, and who tidies up."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

from pkghook.errors import ModuleError
from pkghook.sources import private
from pkghook.sources.tree import Tree
from tests.trees import (
    NEW,
    NOBODY,
    OLD,
    VERSION,
    facts,
    in_child,
    listing,
    mounted,
    need_root,
    only,
    put,
    replaced,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pkghook.sources import Scratch

MODULE = f"{VERSION}/kernel/a.ko"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A buildroot with one module."""
    root = tmp_path / "root"
    put(root, MODULE)
    return root


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    """Its tree; it leaves nothing."""
    with Tree(str(root)) as tree:
        yield tree


def privates(root: Path) -> list[str]:
    """Scratch directories and what is in them."""
    return [name for name in listing(root) if ".pkghook" in name]


def new(tree: Tree) -> Scratch:
    """A scratch file for the one module."""
    source = tree.open(only(tree))
    scratch = tree.scratch(source)
    os.close(source.fd)
    return scratch


def leave(tree: Tree) -> None:
    """Be killed while scratch files are open."""
    pid = os.fork()
    if not pid:
        new(tree)
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


# --- scratch files ----------------------------------------------------------------------------------------------------


def test_scratch_file(tree: Tree, root: Path) -> None:
    scratch = new(tree)
    (directory, file) = privates(root)
    assert re.fullmatch(rf"lib/modules/\.pkghook-[0-9a-f]{{16}}-{os.getpid()}", directory)
    assert stat.S_IMODE((root / directory).stat().st_mode) == 0o700
    assert stat.S_IMODE((root / file).stat().st_mode) == 0o600
    assert os.path.samestat((root / file).stat(), os.fstat(scratch.fd))
    assert os.path.samestat((root / directory).stat(), os.fstat(scratch.dirfd))
    assert (root / file).name == scratch.name
    os.write(scratch.fd, NEW)
    assert os.pread(scratch.fd, 100, 0) == NEW
    tree.discard(scratch)
    assert privates(root) == [directory]
    tree.clean()
    assert privates(root) == []


def test_umask_does_not_matter(tree: Tree, root: Path) -> None:
    before = os.umask(0)
    try:
        tree.discard(new(tree))
        assert stat.S_IMODE((root / privates(root)[0]).stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_several_at_once(tree: Tree, root: Path) -> None:
    one, two = new(tree), new(tree)
    assert one.name != two.name
    assert one.dirfd == two.dirfd
    assert len(privates(root)) == 3
    tree.discard(one)
    tree.discard(two)


def test_path_for_an_outside_tool(tree: Tree) -> None:
    scratch = new(tree)
    subprocess.run(["cp", "/dev/stdin", scratch.path], input=NEW, check=True)
    assert os.pread(scratch.fd, 100, 0) == NEW
    tree.discard(scratch)


def test_tool_cannot_be_led_away(tree: Tree, root: Path) -> None:
    scratch = new(tree)
    (directory, _) = privates(root)
    outside = put(root.parent, f"outside/{scratch.name}", b"precious")
    (root / directory).rename(root.parent / "moved")
    (root / directory).symlink_to(outside.parent)
    subprocess.run(["cp", "/dev/stdin", scratch.path], input=NEW, check=True)
    assert outside.read_bytes() == b"precious"
    assert os.pread(scratch.fd, 100, 0) == NEW
    tree.discard(scratch)
    (root / directory).unlink()


def test_path_without_proc(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_proc(path: str) -> os.stat_result:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "stat", no_proc)
    source = tree.open(only(tree))
    scratch = tree.scratch(source)
    monkeypatch.undo()
    assert scratch.path == str(root / privates(root)[1])
    os.close(source.fd)
    tree.discard(scratch)


def test_tool_that_puts_a_new_file_there(tree: Tree, root: Path) -> None:
    found = only(tree)
    source = tree.open(found)
    scratch = tree.scratch(source)
    candidate = put(root, "lib/candidate", NEW)
    candidate.chmod(0o444)
    candidate.rename(scratch.path)
    again = tree.reopen(scratch)
    assert os.pread(again.fd, 100, 0) == NEW
    assert tree.replace(found, source, again, False) == ()
    tree.discard(again)
    os.close(source.fd)
    assert (root / MODULE).read_bytes() == NEW


def test_tool_that_leaves_a_file_which_its_user_may_not_write(root: Path) -> None:
    need_root()
    (root / "lib/modules").chmod(0o777)
    for part in (root, root / "lib", root / VERSION, root / f"{VERSION}/kernel"):
        part.chmod(0o755)
    tree = Tree(str(root))
    found = only(tree)

    def work() -> bytes:
        source = tree.open(found)
        scratch = tree.scratch(source)
        os.unlink(scratch.name, dir_fd=scratch.dirfd)
        fd = os.open(scratch.name, os.O_CREAT | os.O_WRONLY, 0o444, dir_fd=scratch.dirfd)
        os.write(fd, NEW)
        data = os.pread(tree.reopen(scratch).fd, 100, 0)
        tree.clean()
        return data

    assert in_child(work, uid=NOBODY) == NEW
    tree.close()


@pytest.mark.parametrize("what", ["nothing", "link", "fifo"])
def test_tool_that_leaves_no_file(tree: Tree, root: Path, what: str) -> None:
    scratch = new(tree)
    os.unlink(scratch.path)
    if what == "link":
        os.symlink(put(root.parent, "secret"), scratch.path)
    elif what == "fifo":
        os.mkfifo(scratch.path)
    with pytest.raises(ModuleError) as caught:
        tree.reopen(scratch)
    assert caught.value.id == "cannot-write"
    tree.discard(scratch)


def test_base_is_where_modules_are(tmp_path: Path) -> None:
    put(tmp_path / "merged", f"usr/{MODULE}")
    (tmp_path / "merged/lib").symlink_to("usr/lib")
    put(tmp_path / "dbg", f"usr/lib/debug/{MODULE}")
    put(tmp_path / "plain", "deep/a.ko")
    for name, base in (
        ("merged", "usr/lib/modules/"),
        ("merged/lib/modules", ""),
        ("dbg", "usr/lib/debug/lib/modules/"),
        ("plain", ""),
    ):
        with Tree(str(tmp_path / name)) as tree:
            (found,) = tree.walk(True).modules
            source = tree.open(found)
            tree.discard(tree.scratch(source))
            os.close(source.fd)
            (directory,) = privates(tmp_path / name)
            assert directory.startswith(f"{base}.pkghook-")
        assert privates(tmp_path) == []


def test_module_on_another_file_system(root: Path) -> None:
    with mounted(root / VERSION / "extra", "size=256k") as place, Tree(str(root)) as tree:
        put(place, "sub/b.ko")
        for found in tree.walk().modules:
            assert replaced(tree, found) == ()
        assert (place / "sub/b.ko").read_bytes() == NEW
        assert len(privates(root)) == 2
        assert any(name.startswith(f"{VERSION}/extra/sub/.pkghook-") for name in privates(root))
        tree.clean()
        assert privates(root) == []
        pid = os.fork()
        if not pid:
            for found in tree.walk().modules:
                replaced(tree, found)
            os._exit(9)
        os.waitpid(pid, 0)
        assert len(privates(root)) == 2
        tree.clean()  # the parent finds them there too
        assert privates(root) == []


# --- processes --------------------------------------------------------------------------------------------------------


def test_each_process_has_its_own(tree: Tree, root: Path) -> None:
    scratch = new(tree)
    ours = privates(root)

    def work() -> list[str]:
        theirs = new(tree)
        names = privates(root)
        tree.discard(theirs)
        tree.clean()
        return names

    names = in_child(work)
    assert len(names) == 4
    assert privates(root) == ours  # a child removes its own and no other
    tree.discard(scratch)


def test_parent_tidies_up_after_killed_workers(tree: Tree, root: Path) -> None:
    leave(tree)
    leave(tree)
    assert len(privates(root)) == 4
    assert tree.walk().leftovers == ()  # of this very run
    tree.clean()
    assert privates(root) == []


def test_parent_leaves_living_workers_alone(tree: Tree, root: Path) -> None:
    ready, tell = os.pipe()
    end, wake = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(wake)
        new(tree)
        os.write(tell, b".")
        os.read(end, 1)
        os._exit(0)
    os.read(ready, 1)
    tree.clean()
    assert len(privates(root)) == 2
    for fd in (ready, tell, end, wake):
        os.close(fd)
    os.waitpid(pid, 0)
    tree.clean()
    assert privates(root) == []


def test_process_id_that_came_round_again(tree: Tree, root: Path) -> None:
    tree.discard(new(tree))
    (name,) = privates(root)
    tree.clean()
    (root / name).mkdir()
    scratch = new(tree)
    assert f"{name}-1" in privates(root)
    tree.discard(scratch)
    tree.clean()
    assert privates(root) == []


def test_no_name_is_free(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "TRIES", 1)
    tree.discard(new(tree))
    (name,) = privates(root)
    tree.clean()
    (root / name).mkdir()
    with pytest.raises(ModuleError) as caught:
        new(tree)
    assert caught.value.evidence == {"error": "File exists"}


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_private_directory_that_is_swapped_at_once(
    tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    real = os.mkdir

    def mkdir(name: str, mode: int, *, dir_fd: int) -> None:
        real(name, 0o777 if how == "mode" else mode, dir_fd=dir_fd)
        if how == "mode":
            os.chmod(name, 0o777, dir_fd=dir_fd)  # noqa: S103 - what it must notice
        else:
            need_root()
            os.chown(name, NOBODY, NOBODY, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(ModuleError) as caught:
        new(tree)
    assert caught.value.id == "cannot-write"
    assert not any("/1" in name for name in privates(root))


def test_private_directory_swapped_for_a_link(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mkdir(name: str, mode: int, *, dir_fd: int) -> None:
        assert mode == 0o700
        os.symlink(root.parent, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(ModuleError) as caught:
        new(tree)
    assert caught.value.evidence == {"error": "Not a directory"}
    assert listing(root.parent)[0] == "root"
    (root / privates(root)[0]).unlink()


# --- leftovers --------------------------------------------------------------------------------------------------------


def test_leftovers_of_a_killed_run_are_swept(root: Path) -> None:
    with Tree(str(root)) as dead:
        leave(dead)
        dead.clean = lambda: None  # type: ignore[method-assign]
    with Tree(str(root)) as tree:
        walk = tree.walk()
        (leftover,) = walk.leftovers
        (finding,) = tree.sweep(walk.leftovers)
        assert (finding.id, finding.subject, finding.evidence) == ("scratch-left", leftover, (("files", 1),))
        assert privates(root) == []
    assert (root / MODULE).read_bytes() == OLD


def test_what_a_living_run_holds_is_not_swept(root: Path, tree: Tree) -> None:
    # By another root, so that the lock does not keep them apart.
    with Tree(str(root / VERSION)) as other:
        scratch = new(other)
        walk = tree.walk()
        assert len(walk.leftovers) == 1
        assert tree.sweep(walk.leftovers) == ()
        os.write(scratch.fd, NEW)
        assert privates(root)
        other.discard(scratch)


def test_sweep_follows_no_link(root: Path, tree: Tree) -> None:
    precious = put(root.parent, "outside/precious")
    name = "lib/modules/.pkghook-0123456789abcdef-7"
    directory = root / name
    put(root, f"{name}/inner/deeper/1")
    (directory / "link").symlink_to(precious)
    (directory / "linked").symlink_to(precious.parent)
    os.link(precious, directory / "hard")
    os.mkfifo(directory / "fifo")
    (finding,) = tree.sweep([name])
    assert finding.evidence == (("files", 5),)
    assert not directory.exists()
    assert precious.read_bytes() == OLD


@pytest.mark.parametrize("kind", ["link", "file", "gone", "deep"])
def test_sweep_says_what_it_could_not_remove(root: Path, tree: Tree, kind: str) -> None:
    name = "lib/modules/.pkghook-0123456789abcdef-7"
    if kind == "link":
        put(root.parent, "outside/precious")
        (root / name).symlink_to(root.parent / "outside")
    elif kind == "file":
        put(root, name)
    elif kind == "deep":
        put(root, name + "/d" * 20 + "/file")
    (finding,) = tree.sweep([name])
    assert finding.id == "scratch-left"
    assert finding.evidence[0][0] == "error"
    assert listing(root.parent / "outside") == (["precious"] if kind == "link" else [])


def test_cleaning_gives_up_quietly(root: Path) -> None:
    tree = Tree(str(root))
    scratch = new(tree)
    tree.discard(scratch)
    put(root, privates(root)[0] + "/d" * 20 + "/file")
    tree.clean()
    assert privates(root)
    tree.close()
    with Tree(str(root)) as again:
        assert facts(again.sweep(again.walk().leftovers))[0][0] == "scratch-left"
