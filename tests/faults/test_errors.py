"""What the system refuses: fsync, rename, and EIO of every other call, one call at a time or from one on.

The shim stands in for a disk that fails.  A turn in which it intercepted nothing fails.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random

import pytest

from tests.conftest import Tell
from tests.faults.ground import Ground, Tally, settled
from tests.faults.shim import ALWAYS, Action, Rule

SEED = 4
REASONS = {
    "fsync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "rename": (errno.EIO, errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EACCES),
    "EIO": (errno.EIO,),
    "ENOSPC": (errno.ENOSPC, errno.EDQUOT),
}
CALLS = {
    "fsync": ("fsync",),
    "rename": ("rename",),
    "EIO": ("create", "open", "look", "pread", "write", "link", "unlink", "mkdir", "chmod", "lock"),
    "ENOSPC": ("create", "write", "link", "mkdir"),
    "short": ("pread", "write"),
}


def rule(ground: Ground, kind: str, turn: int, luck: Random) -> Rule:
    """A fault at one of the calls that an undisturbed run makes; each kind of call in its turn."""
    call = CALLS[kind][turn % len(CALLS[kind])]
    # Two workers do not always make quite as many calls.
    skip = luck.randrange(max(1, ground.calls[call] * 9 // 10))
    times = ALWAYS if luck.random() < 0.3 else 1
    if kind == "short":
        size = luck.choice((0, 1, 100)) if call == "pread" and times == 1 else luck.choice((1, 5000))
        return Rule(call, Action.SHORT, 5000 if times == ALWAYS else size, skip=skip, times=times)
    # Some disks, and NFS, say no and have done it.
    late = call in ("fsync", "rename", "write", "unlink") and luck.random() < 0.3
    return Rule(call, Action.FAIL, luck.choice(REASONS[kind]), skip=skip, times=times, after=late)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("number", [20, pytest.param(100, marks=pytest.mark.full)])
def test_refused(ground_for: Callable[[int], Ground], kind: str, number: int, tell: Tell) -> None:
    ground, luck = ground_for(number), Random(f"{SEED} {kind}")  # noqa: S311  the same each time
    tally = Tally(f"{kind} by the shim")
    for each in range(number):
        fault = rule(ground, kind, each, luck)
        with ground.turn(fault, options=("--fsync", "yes")) as turn:
            status = settled(turn.start())
            assert turn.board.hits, f"nothing was intercepted: {fault}"
            done = turn.judge(tally)
            tally.notes[status] += 1
            assert status != "status 0" or done == len(ground.modules), f"passed, and left something: {fault}"
            tally.notes["calls that failed"] += turn.board.hits
            turn.finish(tally)
    tell(str(tally))
