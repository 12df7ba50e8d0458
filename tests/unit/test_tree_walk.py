"""`sources.walk` and `sources.layout`: what is found in trees of every shape."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

from pkghook.sources import Found, Walk, walk
from pkghook.sources.dirs import Dirs
from pkghook.sources.layout import Layout
from pkghook.sources.tree import Tree
from tests.trees import OLD, VERSION, as_ordinary_user, deep, facts, mounted, paths, put

DEBUG = "usr/lib/debug"


def look(root: Path, *, include_debug: bool = False) -> Walk:
    """Walk a tree, twice: a walk leaves nothing behind that changes the next."""
    with Tree(str(root)) as tree:
        result = tree.walk(include_debug)
        assert tree.walk(include_debug) == result
        return result


# --- where modules are looked for -------------------------------------------------------------------------------------


def test_buildroot(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/kernel/fs/ext4/ext4.ko")
    put(tmp_path, f"{VERSION}/kernel/a.ko.xz")
    put(tmp_path, f"{VERSION}/extra/b.ko.gz")
    put(tmp_path, "lib/modules/6.2.0/updates/c.ko.zst")
    put(tmp_path, f"{VERSION}/modules.dep")
    put(tmp_path, f"{VERSION}/kernel/d.ko.bz2")
    put(tmp_path, f"{VERSION}/kernel/d.kox")
    put(tmp_path, "usr/src/e.ko")  # not where modules are
    assert look(tmp_path) == Walk(
        modules=(
            Found(f"{VERSION}/extra/b.ko.gz", "6.1.0", len(OLD)),
            Found(f"{VERSION}/kernel/a.ko.xz", "6.1.0", len(OLD)),
            Found(f"{VERSION}/kernel/fs/ext4/ext4.ko", "6.1.0", len(OLD)),
            Found("lib/modules/6.2.0/updates/c.ko.zst", "6.2.0", len(OLD)),
        ),
        kept=(),
        findings=(),
        links=0,
        others=(),
        leftovers=(),
    )


def test_both_places(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/a.ko")
    put(tmp_path, f"usr/{VERSION}/b.ko")
    assert paths(look(tmp_path).modules) == [f"{VERSION}/a.ko", f"usr/{VERSION}/b.ko"]


@pytest.mark.parametrize("target", ["usr/lib", "/usr/lib"])
def test_usr_merge(tmp_path: Path, target: str) -> None:
    put(tmp_path, f"usr/{VERSION}/a.ko")
    (tmp_path / "lib").symlink_to(target)
    result = look(tmp_path)
    assert result.modules == (Found(f"usr/{VERSION}/a.ko", "6.1.0", len(OLD)),)
    assert result.links == 1


def test_usr_merge_the_other_way_round(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/a.ko")
    (tmp_path / "usr").mkdir()
    (tmp_path / "usr/lib").symlink_to("../lib")
    assert paths(look(tmp_path).modules) == [f"{VERSION}/a.ko"]


def test_modules_directory_that_is_a_link(tmp_path: Path) -> None:
    put(tmp_path, f"usr/{VERSION}/a.ko")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/modules").symlink_to("../usr/lib/modules")
    assert paths(look(tmp_path).modules) == [f"usr/{VERSION}/a.ko"]


def test_no_link_leads_out(tmp_path: Path) -> None:
    put(tmp_path, "outside/modules/6.1.0/a.ko")
    root = tmp_path / "root"
    put(root, "usr/lib/modules/6.1.0/b.ko")
    (root / "lib").symlink_to("../outside")
    (root / "usr/lib/modules/6.1.0/build").symlink_to(tmp_path / "outside")
    result = look(root)
    assert paths(result.modules) == ["usr/lib/modules/6.1.0/b.ko"]
    assert result.links == 2


@pytest.mark.parametrize(
    ("below", "kernel"), [("lib/modules", "6.1.0"), (VERSION, "6.1.0"), (f"{VERSION}/kernel/fs", "6.1.0")]
)
def test_root_inside_lib_modules(tmp_path: Path, below: str, kernel: str) -> None:
    put(tmp_path, f"{VERSION}/kernel/fs/a.ko")
    (found,) = look(tmp_path / below).modules
    assert found == Found(f"{VERSION}/kernel/fs/a.ko".removeprefix(f"{below}/"), kernel, len(OLD))


def test_root_is_lib(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/kernel/a.ko")
    assert look(tmp_path / "lib").modules[0].kernel == "6.1.0"


def test_buildroot_whose_own_path_has_lib_modules(tmp_path: Path) -> None:
    root = tmp_path / "lib/modules/obj/root"
    put(root, f"{VERSION}/kernel/a.ko")
    assert look(root).modules == (Found(f"{VERSION}/kernel/a.ko", "6.1.0", len(OLD)),)


def test_plain_directory(tmp_path: Path) -> None:
    put(tmp_path, "a.ko")
    put(tmp_path, "deep/er/b.ko.xz")
    assert look(tmp_path).modules == (Found("a.ko", "", len(OLD)), Found("deep/er/b.ko.xz", "", len(OLD)))


def test_module_directly_in_lib_modules_has_no_kernel(tmp_path: Path) -> None:
    put(tmp_path, "lib/modules/a.ko")
    assert look(tmp_path).modules == (Found("lib/modules/a.ko", "", len(OLD)),)


def test_empty_directory(tmp_path: Path) -> None:
    assert look(tmp_path) == Walk((), (), (), 0, (), ())


def test_all_of_a_system_is_never_a_plain_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pkghook.sources.layout.PLACES", ("no-such-directory",))
    tree = Tree("/")
    assert tree.walk() == Walk((), (), (), 0, (), ())
    tree.close()


def test_installed_system_s_paths_have_no_leading_slash() -> None:
    layout = Layout("", ("lib/modules",), "lib/modules", 0)
    assert layout.kernel("lib/modules/6.1.0/kernel") == "6.1.0"
    assert layout.kernel("lib/modules") == ""
    assert layout.kernel("") == ""
    assert layout.in_debug_tree("usr/lib/debug/lib/modules/6.1.0")
    assert not layout.in_debug_tree("usr/lib/debugger/lib/modules")


def test_one_directory_mounted_in_both_places_is_walked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A bind mount, seen through stat(2) alone.
    put(tmp_path, f"{VERSION}/a.ko")
    monkeypatch.setattr("pkghook.sources.layout.PLACES", ("lib/modules", "lib/modules"))
    assert paths(look(tmp_path).modules) == [f"{VERSION}/a.ko"]


# --- debug trees ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [f"{DEBUG}/lib/modules", f"{DEBUG}/usr/lib/modules"])
@pytest.mark.parametrize("shipped", [True, False])
def test_debug_tree_is_kept_unless_asked_for(tmp_path: Path, place: str, shipped: bool) -> None:  # noqa: FBT001
    put(tmp_path, f"{place}/6.1.0/kernel/a.ko")
    modules = []
    if shipped:
        put(tmp_path, f"{VERSION}/kernel/a.ko")
        modules = [Found(f"{VERSION}/kernel/a.ko", "6.1.0", len(OLD))]
    debug = Found(f"{place}/6.1.0/kernel/a.ko", "6.1.0", len(OLD))
    result = look(tmp_path)
    assert (list(result.modules), result.kept) == (modules, (debug,))
    result = look(tmp_path, include_debug=True)
    assert (list(result.modules), result.kept) == ([*modules, debug], ())


@pytest.mark.parametrize("below", [DEBUG, f"{DEBUG}/lib", f"{DEBUG}/lib/modules", f"{DEBUG}/lib/modules/6.1.0"])
def test_root_inside_a_debug_tree(tmp_path: Path, below: str) -> None:
    put(tmp_path, f"{DEBUG}/lib/modules/6.1.0/kernel/a.ko")
    result = look(tmp_path / below)
    assert [found.kernel for found in result.modules] == ["6.1.0"]
    assert result.kept == ()


def test_debug_tree_in_a_plain_directory(tmp_path: Path) -> None:
    put(tmp_path, "pkg/a.ko")
    put(tmp_path, f"pkg-dbg/{DEBUG}/lib/modules/6.1.0/a.ko")
    result = look(tmp_path)
    assert (paths(result.modules), len(result.kept)) == (["pkg/a.ko"], 1)
    assert len(look(tmp_path, include_debug=True).modules) == 2


def test_root_half_way_to_the_debug_tree(tmp_path: Path) -> None:
    put(tmp_path, f"{DEBUG}/lib/modules/6.1.0/a.ko")
    assert look(tmp_path / "usr/lib").modules == ()


# --- what is named like a module --------------------------------------------------------------------------------------


def test_weak_updates_links_are_counted_and_not_followed(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/extra/a.ko")
    weak = tmp_path / "lib/modules/6.2.0/weak-updates"
    weak.mkdir(parents=True)
    (weak / "a.ko").symlink_to("../../6.1.0/extra/a.ko")
    (weak / "b.ko").symlink_to(f"/{VERSION}/extra/a.ko")  # good once the tree is installed
    result = look(tmp_path)
    assert paths(result.modules) == [f"{VERSION}/extra/a.ko"]
    assert (result.links, result.findings) == (2, ())


def test_dangling_links(tmp_path: Path) -> None:
    directory = tmp_path / VERSION
    directory.mkdir(parents=True)
    (directory / "a.ko").symlink_to("nowhere.ko")
    (directory / "b.ko").symlink_to("/no/such/place.ko")
    (directory / "loop.ko").symlink_to("loop.ko")
    (directory / "build").symlink_to("/no/such/place")  # not named like a module: not our business
    result = look(tmp_path)
    assert facts(result.findings) == [("dangling-link", f"{VERSION}/{name}") for name in ("a.ko", "b.ko", "loop.ko")]
    assert result.findings[0].evidence == (("target", "nowhere.ko"), ("error", "No such file or directory"))
    assert result.links == 4


def test_what_is_no_regular_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo.ko")
    put(tmp_path, "dir.ko.xz/inner.ko")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("sock.ko")
        result = look(tmp_path)
    assert [(f.id, f.subject, dict(f.evidence)["kind"], str(f.severity)) for f in result.findings] == [
        ("not-regular", "dir.ko.xz", "directory", "error"),
        ("not-regular", "fifo.ko", "FIFO", "error"),
        ("not-regular", "sock.ko", "socket", "error"),
    ]
    assert paths(result.modules) == ["dir.ko.xz/inner.ko"]


def test_hard_links(tmp_path: Path) -> None:
    file = put(tmp_path, f"{VERSION}/kernel/b.ko")
    put(tmp_path, f"{VERSION}/kernel/x.ko")
    for name in ("lib/modules/6.1.0/kernel/a.ko", "lib/modules/6.1.0/kernel/c.ko", "elsewhere", "other"):
        os.link(file, tmp_path / name)
    result = look(tmp_path)
    kernel = f"{VERSION}/kernel"
    assert result.modules == (
        Found(f"{kernel}/a.ko", "6.1.0", len(OLD), (f"{kernel}/b.ko", f"{kernel}/c.ko"), 2),
        Found(f"{kernel}/x.ko", "6.1.0", len(OLD)),
    )


def test_hard_link_between_tree_and_debug_tree(tmp_path: Path) -> None:
    file = put(tmp_path, f"{VERSION}/a.ko")
    debug = tmp_path / DEBUG / VERSION / "a.ko"
    debug.parent.mkdir(parents=True)
    os.link(file, debug)
    result = look(tmp_path)
    assert result.modules == (Found(f"{VERSION}/a.ko", "6.1.0", len(OLD), (), 1),)
    assert result.kept == (Found(f"{DEBUG}/{VERSION}/a.ko", "6.1.0", len(OLD), (), 1),)
    (found,) = look(tmp_path, include_debug=True).modules
    assert (found.names, found.outside) == ((f"{DEBUG}/{VERSION}/a.ko",), 0)


# --- what cannot be read ----------------------------------------------------------------------------------------------


def test_unreadable_directory(tmp_path: Path) -> None:
    put(tmp_path, "a.ko")
    put(tmp_path, "closed/b.ko")
    (tmp_path / "closed").chmod(0o000)
    tmp_path.chmod(0o755)
    tree = Tree(str(tmp_path))
    result = as_ordinary_user(tree.walk)
    tree.close()
    (tmp_path / "closed").chmod(0o755)
    assert paths(result.modules) == ["a.ko"]
    (finding,) = result.findings
    assert (finding.id, finding.subject, finding.evidence) == (
        "unreadable",
        "closed",
        (("error", "Permission denied"),),
    )


def test_unreadable_lib_modules() -> None:
    with TemporaryDirectory() as path:
        root = Path(path)
        put(root, f"{VERSION}/b.ko")
        (root / "lib/modules").chmod(0o000)
        root.chmod(0o755)
        result = as_ordinary_user(lambda: Tree(path).walk())
        (root / "lib/modules").chmod(0o755)
    assert facts(result.findings) == [("unreadable", "lib/modules")]


def test_directory_that_vanishes_or_turns_into_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "one/a.ko")
    put(tmp_path, "two/b.ko")
    put(tmp_path, "c.ko")
    real = os.scandir

    def scandir(fd: int) -> object:
        entries = list(real(fd))
        if os.path.samestat(os.fstat(fd), tmp_path.stat()):
            shutil.rmtree(tmp_path / "one")
            (tmp_path / "two").rename(tmp_path.parent / "two")
            (tmp_path / "two").symlink_to(tmp_path.parent / "two")
        return Entries(entries)

    monkeypatch.setattr(os, "scandir", scandir)
    with Tree(str(tmp_path)) as tree:
        result = tree.walk()
    assert paths(result.modules) == ["c.ko"]
    assert facts(result.findings) == [("vanished", "one"), ("vanished", "two")]


class Entries(list[os.DirEntry[str]]):
    """What scandir(3) gave, kept while somebody changes the directory."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_module_that_vanishes_while_the_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path, "a.ko")
    real = os.scandir

    def scandir(fd: int) -> object:
        entries = Entries(real(fd))
        file.unlink()
        return entries

    monkeypatch.setattr(os, "scandir", scandir)
    with Tree(str(tmp_path)) as tree:
        assert facts(tree.walk().findings) == [("vanished", "a.ko")]


# --- names and depth --------------------------------------------------------------------------------------------------


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path) + b"/lib/modules/6.1-\xff"
    os.makedirs(directory)
    with open(directory + b"/m\xe9\n\x80.ko", "wb") as file:
        file.write(OLD)
    with Tree(str(tmp_path)) as tree:
        (found,) = tree.walk().modules
        assert os.fsencode(found.path) == b"lib/modules/6.1-\xff/m\xe9\n\x80.ko"
        assert os.fsencode(found.kernel) == b"6.1-\xff"
        source = tree.open(found)
        os.close(source.fd)


@pytest.mark.parametrize(("name", "depth"), [("d", 2000), ("d" * 200, 300)])
def test_very_deep_directories(tmp_path: Path, name: str, depth: int) -> None:
    with deep(tmp_path, "", name, depth) as fd:
        os.close(os.open("a.ko", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
        before = len(os.listdir("/proc/self/fd"))
        with Tree(str(tmp_path)) as tree:
            (found,) = tree.walk().modules
            assert len(os.listdir("/proc/self/fd")) <= before + 3
            assert found.path == f"{name}/" * depth + "a.ko"
            source = tree.open(found)
            os.close(source.fd)


def test_order_depends_on_names_alone(tmp_path: Path) -> None:
    names = [f"{VERSION}/{a}/{b}.ko" for a in "zay" for b in "qbx"]
    for name in names:
        put(tmp_path / "one", name)
    for name in reversed(names):
        put(tmp_path / "two", name)
    assert look(tmp_path / "one") == look(tmp_path / "two")
    assert paths(look(tmp_path / "one").modules) == sorted(names)


# --- other files ------------------------------------------------------------------------------------------------------


def test_other_elf_files_are_shown(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/vmlinux", b"\x7fELF" + bytes(96))
    put(tmp_path, f"{VERSION}/vmlinuz", b"MZ")
    put(tmp_path, f"{VERSION}/vdso/vdso64.so.dbg", b"\x7fELF")
    put(tmp_path, f"{VERSION}/vdso/vdso32", b"\x7fELF1")
    put(tmp_path, f"{VERSION}/vdso/notes", b"")
    put(tmp_path, f"{VERSION}/modules.dep", b"\x7fELF not looked at")
    os.mkfifo(tmp_path / VERSION / "vdso/fifo.so")
    (tmp_path / VERSION / "vdso/link.so").symlink_to("vdso64.so.dbg")
    assert look(tmp_path).others == (
        (f"{VERSION}/vdso/vdso32", 5),
        (f"{VERSION}/vdso/vdso64.so.dbg", 4),
        (f"{VERSION}/vmlinux", 100),
    )


def test_other_files_of_a_plain_directory_are_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path, "vmlinux")
    assert look(tmp_path).others == ()


def test_so_many_other_files_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "LOOKED_AT", 2)
    for number in range(5):
        put(tmp_path, f"{VERSION}/{number}.debug")
    assert len(look(tmp_path).others) == 2


def test_other_file_that_cannot_be_opened(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/vmlinux").chmod(0)
    tmp_path.chmod(0o755)
    tree = Tree(str(tmp_path))
    assert as_ordinary_user(tree.walk) == Walk((), (), (), 0, (), ())
    tree.close()


def test_scratch_directories_are_leftovers(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/a.ko")
    put(tmp_path, "lib/modules/.pkghook-0123456789abcdef-77/1.ko")
    put(tmp_path, f"{VERSION}/.pkghook-0123456789abcdef-78-1/1")
    put(tmp_path, f"{VERSION}/.pkghook-notes/b.ko")  # somebody else's
    result = look(tmp_path)
    assert result.leftovers == (
        "lib/modules/.pkghook-0123456789abcdef-77",
        f"{VERSION}/.pkghook-0123456789abcdef-78-1",
    )
    assert paths(result.modules) == [f"{VERSION}/.pkghook-notes/b.ko", f"{VERSION}/a.ko"]


def test_module_on_another_file_system(tmp_path: Path) -> None:
    put(tmp_path, f"{VERSION}/a.ko")
    with mounted(tmp_path / VERSION / "extra", "size=64k") as place:
        put(place, "b.ko")
        assert paths(look(tmp_path).modules) == [f"{VERSION}/a.ko", f"{VERSION}/extra/b.ko"]


def test_handles_of_a_deep_path_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a/b/c/d/e/f/g/h").mkdir(parents=True)
    root = os.open(tmp_path, os.O_RDONLY)
    dirs = Dirs(root, limit=3)
    before = len(os.listdir("/proc/self/fd"))
    deepest = dirs.get("a/b/c/d/e/f/g/h")
    assert len(os.listdir("/proc/self/fd")) == before + 3
    assert dirs.get("a/b/c/d/e/f/g/h") == deepest
    assert dirs.path_of(deepest) == "a/b/c/d/e/f/g/h"
    assert dirs.get("") == root
    dirs.close()
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(root)
