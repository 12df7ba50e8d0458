"""`kill -9` at random moments: of the parent, of a worker, of everything at once, in turn.

A moment is a number of calls on files of the tree, counted by all processes of the run, and up to two milliseconds
more; so it does not depend on how busy the machine is.  In every third turn the kill then waits until a worker has
written a scratch file.  Who was killed has left in the shared board how far it was.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pkghook.judge import receipt as receipts
from pkghook.model import State
from tests.conftest import Tell
from tests.faults.ground import CALLS, ENOUGH, LINKED, Ground, Tally, Turn
from tests.faults.shim import Action, Phase, Rule
from tests.inprocess import HOME
from tests.processes import alive, descendants, gone

SEED = 9
WHOM = ("parent", "worker", "all")
OPTIONS = ((), ("--fsync", "yes"), (), ("--chain", "eu-strip,native"))  # what is added to the command, in turn


AIMED = 3  # one of so many waits for a scratch file
PATIENCE = 1.0  # seconds


def wait_for_written(turn: Turn) -> None:
    """Until a worker has a scratch file that is whole, or nearly so. Without a pause: that takes a millisecond."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not any(place.phase is Phase.WRITTEN for place in turn.board.places):
        pass


def kill(turn: Turn, process: subprocess.Popen[str], whom: str, luck: Random) -> set[int]:
    """Kill; the result is who was meant, empty if nobody of that kind was there."""
    workers = [place.pid for place in turn.board.places[1:] if alive(place.pid)]
    try:
        if whom == "parent":
            process.kill()
            return {process.pid}
        if whom == "worker":
            victim = luck.choice(workers)
            os.kill(victim, signal.SIGKILL)
            return {victim}
        os.killpg(process.pid, signal.SIGKILL)
        for pid in workers:
            os.killpg(pid, signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return set() if whom == "worker" else {process.pid}
    return {process.pid, *workers}


def went_on(turn: Turn, status: int, err: str) -> None:
    """After the end of a worker the run goes on with another.

    Where it ended between the renames of one module's names, they have come apart, which fails that module; the next
    run finds two modules.
    """
    assert err == ""
    failed = [entry for entry in receipts.read(str(turn.receipt)).entries if entry.state is State.FAILED]
    assert status == bool(failed)
    for entry in failed:
        assert [finding.id for finding in entry.findings] == ["changed-during-run"]
        assert {Path(name).name for name in (entry.path, *entry.names)} > set(LINKED)


def one(ground: Ground, tally: Tally, whom: str, luck: Random, options: tuple[str, ...]) -> Counter[Phase]:
    """One turn; in which phases the kill met the processes, none if it came too early or too late."""
    with ground.turn(options=options) as turn:
        process = turn.start()
        there = turn.reached(luck.uniform(0, ground.total), process)
        time.sleep(luck.uniform(0, 0.002))
        if tally.faults // len(WHOM) % AIMED == 0:
            wait_for_written(turn)
        below = descendants(process.pid)
        killed = kill(turn, process, whom, luck) if there else set()
        if not killed:
            return Counter()
        start = time.monotonic()
        if whom == "worker":
            _, err = process.communicate(timeout=ENOUGH)
            went_on(turn, process.returncode, err)
        else:
            process.wait(ENOUGH)
            if process.returncode != -signal.SIGKILL:
                return Counter()  # it was over
        everyone = {process.pid, *(place.pid for place in turn.board.places), *below}
        assert gone(everyone, 1.0), "no process is left after a second"
        if whom != "worker":
            tally.notes["slowest end in ms"] = max(
                tally.notes["slowest end in ms"], round((time.monotonic() - start) * 1000)
            )
        met = Counter(p.phase for p in turn.board.places if whom != "worker" or p.pid in killed)
        turn.judge(tally)
        turn.finish(tally)
        return met


@pytest.mark.parametrize("number", [20, pytest.param(500, marks=pytest.mark.full)])
def test_killed_at_random_moments(ground_for: Callable[[int], Ground], number: int, tell: Tell) -> None:
    ground, luck = ground_for(number), Random(SEED)  # noqa: S311  the same each time
    tally = Tally("kill -9")
    met: dict[str, Counter[Phase]] = {whom: Counter() for whom in WHOM}
    between = 0
    while tally.faults < number:
        whom = WHOM[tally.faults % len(WHOM)]
        phases = one(ground, tally, whom, luck, OPTIONS[tally.faults // len(WHOM) % len(OPTIONS)])
        tally.notes["too early or too late"] += not phases
        assert tally.notes["too early or too late"] <= number, "most kills meet a run"
        met[whom] += phases
        between += Phase.WRITTEN in phases
    tally.notes["between scratch write and rename"] = between
    tell(f"{tally}; " + "; ".join(f"{whom} killed: {told(met[whom])}" for whom in WHOM))
    assert between >= number // 10


def told(phases: Counter[Phase]) -> str:
    """How many processes were met in each phase."""
    return ", ".join(f"{phase.name.lower()} {phases[phase]}" for phase in Phase if phases[phase])


# --- at a named call -------------------------------------------------------------------------------------------------


def at_call(ground: Ground, turn: int, luck: Random) -> tuple[str, Rule]:
    """A process kills itself right before or after a call: any of the tree, or one of those that write the receipt."""
    calls = [call for call in CALLS if ground.calls[call]]
    after = luck.random() < 0.5
    if turn % 4 == 3:
        call = RECEIPT_CALLS[turn // 4 % len(RECEIPT_CALLS)]
        name = "receipt.json" if call == "rename" else f"{ground.place}/turn/.pkghook-"
        return f"{call} of the receipt", Rule(call, Action.KILL, name=name, after=after)
    call = calls[(turn - turn // 4) % len(calls)]
    return call, Rule(call, Action.KILL, skip=luck.randrange(max(1, ground.calls[call] * 9 // 10)), after=after)


RECEIPT_CALLS = ("create", "write", "rename")


@pytest.mark.parametrize("number", [20, pytest.param(300, marks=pytest.mark.full)])
def test_killed_at_a_named_call(ground_for: Callable[[int], Ground], number: int, tell: Tell) -> None:
    ground, luck = ground_for(number), Random(SEED)  # noqa: S311  the same each time
    tally = Tally("kill -9 at a call")
    for each in range(number):
        what, rule = at_call(ground, each, luck)
        with ground.turn(rule, options=("--fsync", "yes")) as turn:
            process = turn.start()
            _, err = process.communicate(timeout=ENOUGH)
            assert turn.board.hits == 1, (what, rule)
            if process.returncode != -signal.SIGKILL:
                went_on(turn, process.returncode, err)
            assert gone([place.pid for place in turn.board.places], 1.0)
            tally.notes[f"{what} {'parent' if process.returncode < 0 else 'worker'}"] += 1
            turn.judge(tally)
            turn.finish(tally)
    tell(str(tally))


def test_killed_between_the_names_of_one_module(ground_for: Callable[[int], Ground]) -> None:
    """They come apart: each holds the original or the verified bytes. This run says so, the next one does the rest."""
    ground, tally = ground_for(20), Tally("kill -9 between two names")
    first = min((ground.tree / HOME).iterdir())
    with ground.turn(Rule("rename", Action.KILL, name=f"{HOME}/{first.name}", after=True)) as turn:
        process = turn.start()
        _, err = process.communicate(timeout=ENOUGH)
        assert process.returncode == 1
        went_on(turn, 1, err)
        assert turn.judge(tally) == len(ground.modules) - len(LINKED)
        turn.finish(tally)
