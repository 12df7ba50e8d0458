"""`stories.belt`: modules of a stream, looked at by workers in memory that they share."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from mmap import PAGESIZE, mmap
from pathlib import Path
from random import Random

import pytest

from pkghook.errors import InputError
from pkghook.ko.file import Window
from pkghook.ko.look import Ask, look_at_image
from pkghook.model import Looked
from pkghook.settings import Settings
from pkghook.sources import sums
from pkghook.sources.sums import Sum
from pkghook.stories import belt
from pkghook.stories.belt import MAPPED, SPARE, STEP, Answer, Belt, Shelf, Task
from tests import shapes
from tests.processes import open_handles

MODULE, STRIPPED = shapes.module(), shapes.stripped()
Look = Callable[[Window, str, Looked, Ask], Looked]
MANY = {f"m{n}": MODULE for n in range(40)}


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    """No test leaves a child, an open pipe or shared memory."""
    handles = open_handles()
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert open_handles() == handles


def blank(name: str) -> Looked:
    return Looked(f"lib/modules/6.1/{name}.ko", "6.1")


def carried(modules: dict[str, bytes], jobs: int = 2, algorithm: str = "sha256") -> dict[str, Answer]:
    """What becomes of them, by name."""
    found: dict[str, Answer] = {}

    with Belt(Ask(), Settings(jobs=jobs), io.StringIO()) as carrier:
        for name, data in modules.items():
            done = lambda answer, name=name: found.__setitem__(name, answer)  # noqa: E731  one for each
            carrier.put(Task(blank(name), algorithm), len(data), io.BytesIO(data).readinto, done)
        carrier.finish()
    return found


def ids(answer: Answer) -> list[str]:
    assert answer.entry
    return [finding.id for finding in answer.entry.findings]


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_each_module_is_seen_as_it_is(jobs: int) -> None:
    """Sizes from nothing to more than all the room that there is at first."""
    random = Random(1)  # noqa: S311  the same each time
    sizes = [0, 1, PAGESIZE, 3 << 20, 20 << 20, 100, SPARE + 1, *(random.randrange(300_000) for _ in range(80))]
    modules = {f"m{n}": (MODULE, STRIPPED)[n % 2] + bytes(size) for n, size in enumerate(sizes)} | {"empty": b""}
    found = carried(modules, jobs)
    assert found.keys() == modules.keys()
    for name, data in modules.items():
        assert found[name].digest == hashlib.sha256(data).hexdigest()
        whole = look_at_image(Window(memory(data), 0, len(data)), f"{name}.ko", blank(name), Ask())
        assert found[name].entry == whole
    assert ids(found["empty"]) == ["empty-file"]


def memory(data: bytes) -> mmap:
    """The same bytes, as a mapping."""
    pages = mmap(-1, len(data) or 1)
    pages[: len(data)] = data
    return pages


def test_no_digest_unless_asked_for() -> None:
    assert [answer.digest for answer in carried({"a": MODULE}, algorithm="").values()] == [""]


def test_a_text_beside_lib_modules_is_no_module() -> None:
    found: list[Answer] = []
    with Belt(Ask(), Settings(), io.StringIO()) as carrier:
        data = b"Read me.\n"
        task = Task(Looked("usr/share/README.ko", ""), "md5")
        carrier.put(task, len(data), lambda room: room.__setitem__(slice(None), data), found.append)
        carrier.finish()
    assert found == [Answer(None, hashlib.md5(data, usedforsecurity=False).hexdigest())]


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_AS])
def test_less_room_where_a_limit_forbids_more(limit: int) -> None:
    before = resource.getrlimit(limit)
    here = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * PAGESIZE if limit == resource.RLIMIT_AS else 0
    resource.setrlimit(limit, (here + MAPPED // 2, before[1]))
    try:
        found = carried(MANY)
    finally:
        resource.setrlimit(limit, before)
    assert {name: ids(answer) for name, answer in found.items()} == {name: ["unstripped"] for name in MANY}


# --- a large module --------------------------------------------------------------------------------------------------

LARGE = MODULE + Random(3).randbytes(5 * STEP - len(MODULE) - 7)  # noqa: S311  the same each time


class Slow:
    """Fills the room with LARGE, once `ready`, a file, tells that a worker has the module in hand."""

    def __init__(self, ready: Path) -> None:
        self.ready, self.at, self.pieces = ready, 0, 0

    def __call__(self, room: memoryview) -> None:
        deadline = time.monotonic() + 60
        while self.pieces and not self.ready.exists():
            assert time.monotonic() < deadline, "no worker has begun"
            time.sleep(0.001)
        room[:] = LARGE[self.at : self.at + len(room)]
        self.at += len(room)
        self.pieces += 1


def large_one(ready: Path, algorithm: str, jobs: int = 2) -> Answer:
    """What becomes of LARGE, with small ones before and behind it."""
    found: list[Answer] = []
    slow = Slow(ready)
    with Belt(Ask(), Settings(jobs=jobs), io.StringIO()) as carrier:
        for turn in range(9):
            if turn == 4:
                carrier.put(Task(blank("large"), algorithm), len(LARGE), slow, found.append)
            carrier.put(Task(blank(f"m{turn}"), ""), 0, lambda _: None, lambda _: None)
        carrier.finish()
    assert (slow.at, slow.pieces) == (len(LARGE), 4)
    (answer,) = found
    return answer


def begun(monkeypatch: pytest.MonkeyPatch, and_then: Callable[[], None]) -> None:
    """Have `and_then` called in the worker when it has found the large module's first pieces."""
    pieces = Belt._arriving  # noqa: SLF001

    def arriving(self: Belt, begin: int, size: int, steps: int) -> Iterator[tuple[int, int]]:
        for piece in pieces(self, begin, size, steps):
            yield piece
            if steps > 1:
                and_then()

    monkeypatch.setattr(Belt, "_arriving", arriving)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("algorithm", ["sha256", "md5", ""])
def test_a_large_module_is_in_hand_while_it_is_filled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, algorithm: str, jobs: int
) -> None:
    begun(monkeypatch, (tmp_path / "begun").touch)
    answer = large_one(tmp_path / "begun", algorithm, jobs)
    assert answer.entry == look_at_image(Window(memory(LARGE), 0, len(LARGE)), "large.ko", blank("large"), Ask())
    assert answer.digest == (hashlib.new(algorithm, LARGE).hexdigest() if algorithm else "")


def test_a_worker_killed_with_a_large_module_half_filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The next one finds all of it there."""

    def die_once() -> None:
        if not (tmp_path / "begun").exists():
            (tmp_path / "begun").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    begun(monkeypatch, die_once)
    answer = large_one(tmp_path / "begun", "sha256")
    assert answer.digest == hashlib.sha256(LARGE).hexdigest()
    assert ids(answer) == ["unstripped"]


def test_a_package_cut_short_in_a_large_module(tmp_path: Path) -> None:
    """The worker that waits for the rest is ended; `_tidy` looks."""

    def carry() -> None:
        slow = Slow(tmp_path)

        def fill(room: memoryview) -> None:
            if slow.pieces == 2:
                raise InputError("cut short")
            slow(room)

        with Belt(Ask(), Settings(jobs=2), io.StringIO()) as carrier:
            carrier.put(Task(blank("large"), ""), len(LARGE), fill, lambda _: None)

    with pytest.raises(InputError, match="cut short"):
        carry()


# --- digests of the package itself -----------------------------------------------------------------------------------


def stretch(size: int) -> Sum:
    return Sum("payload", "sha256", "", 5, size)


def digest_on_belt(file: Path, jobs: int = 2) -> list[str]:
    """What becomes of the stretch of a file from byte 5 on, with modules before and behind it."""
    found: list[str] = []
    with file.open("rb") as opened, Belt(Ask(), Settings(jobs=jobs), io.StringIO()) as carrier:
        for turn in range(20):
            carrier.put(Task(blank(f"m{turn}"), ""), 0, lambda _: None, lambda _: None)
            if turn == 9:
                carrier.digest(opened.fileno(), stretch(file.stat().st_size), found.append)
        carrier.finish()
        assert os.lseek(opened.fileno(), 0, os.SEEK_CUR) == 0
    return found


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stretch_of_the_package_is_digested(tmp_path: Path, jobs: int) -> None:
    data = Random(2).randbytes(3_000_001)  # noqa: S311  the same each time
    (tmp_path / "package").write_bytes(data)
    assert digest_on_belt(tmp_path / "package", jobs) == [hashlib.sha256(data[5:]).hexdigest()]


def test_a_stretch_whose_worker_is_killed_is_digested_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No package passes because a process was killed, and none fails."""
    (tmp_path / "package").write_bytes(MODULE)
    parent = os.getpid()

    def lethal(fd: int, wanted: Sum) -> str:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return sums.digest(fd, wanted)

    monkeypatch.setattr(belt, "digest", lethal)
    assert digest_on_belt(tmp_path / "package") == [hashlib.sha256(MODULE[5:]).hexdigest()]


# --- a worker that fails ---------------------------------------------------------------------------------------------


def looks_by(monkeypatch: pytest.MonkeyPatch, look: Callable[[str], None]) -> None:
    """Have `look` called with the name of each module, in the worker."""

    def instead(whole: Window, name: str, seen: Looked, ask: Ask) -> Looked:
        look(name.removesuffix(".ko"))
        return look_at_image(whole, name, seen, ask)

    monkeypatch.setattr(belt, "look_at_image", instead)


def test_killed_once_is_done_by_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def look(name: str) -> None:
        if name in ("m0", "m7", "m39") and not (tmp_path / name).exists():
            (tmp_path / name).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    looks_by(monkeypatch, look)
    found = carried(MANY)
    assert len(list(tmp_path.iterdir())) == 3
    assert {name: ids(answer) for name, answer in found.items()} == {name: ["unstripped"] for name in MANY}


@pytest.mark.parametrize("victims", [{"m0"}, {"m5", "m39"}, set(MANY)])
def test_killed_twice_is_told_and_the_others_are_unharmed(monkeypatch: pytest.MonkeyPatch, victims: set[str]) -> None:
    looks_by(monkeypatch, lambda name: os.kill(os.getpid(), signal.SIGKILL) if name in victims else None)
    found = carried(MANY)
    assert {name for name, answer in found.items() if ids(answer) == ["worker-killed"]} == victims
    assert {name for name, answer in found.items() if ids(answer) == ["unstripped"]} == MANY.keys() - victims


def test_a_fault_of_our_own_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    looks_by(monkeypatch, lambda name: print(1 // (name != "m3"), file=io.StringIO()))
    found = carried(MANY)
    assert ids(found["m3"]) == ["internal-error"]
    assert sum(ids(answer) == ["unstripped"] for answer in found.values()) == len(MANY) - 1


@pytest.mark.parametrize("where", ["fill", "done"])
def test_what_the_caller_raises_ends_the_workers(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Whatever they are at; `_tidy` looks."""
    looks_by(monkeypatch, lambda name: time.sleep(0.0 if name == "m0" else 60.0))

    def fail(_: object) -> None:
        raise InputError("cut short")

    def carry() -> None:
        with Belt(Ask(), Settings(jobs=2), io.StringIO()) as carrier:
            for name in ("m0", "m1", "m2"):
                filled = fail if (where, name) == ("fill", "m2") else lambda room: room.__setitem__(slice(None), MODULE)
                carrier.put(Task(blank(name), ""), len(MODULE), filled, fail if where == "done" else lambda _: None)
            carrier.finish()

    with pytest.raises(InputError, match="cut short"):
        carry()


# --- memory ----------------------------------------------------------------------------------------------------------


def test_places_never_overlap_and_the_room_is_bounded() -> None:
    random = Random(7)  # noqa: S311  the same each time
    shelf, taken, largest = Shelf(), dict[int, int](), 0
    for _ in range(3000):
        size = random.randrange(1, 2000) * PAGESIZE
        begin = shelf.take(size)
        if begin is None:
            gone = random.choice(list(taken))
            del taken[gone]
            shelf.give_back(gone)
            continue
        largest = max(largest, size)
        assert begin % PAGESIZE == 0
        assert begin + size <= largest + SPARE
        assert all(begin + size <= other or begin >= other + taken[other] for other in taken)
        taken[begin] = size
    shelf.close()


def test_there_is_always_room_for_the_only_one() -> None:
    shelf = Shelf()
    for size in (PAGESIZE, 64 << 20, PAGESIZE, 128 << 20):
        assert shelf.take(size) == 0
        with shelf.room(0) as room:
            assert len(room) == size
        shelf.give_back(0)
    shelf.close()
