"""Many modules through the worker processes, with a bar on a terminal: the part that stories share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pkghook import pool
from pkghook.findings import make
from pkghook.report import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from pkghook.findings import Finding
    from pkghook.pool import Lost, Parcel
    from pkghook.settings import Settings

T = TypeVar("T")
R = TypeVar("R")
BATCHES = 32  # for each worker: the last one of all is not long to wait for


def through_workers(  # noqa: PLR0913  what the pool takes, and what the bar and the loss of a worker need
    tasks: Sequence[T],
    work: Callable[[T], R],
    size: Callable[[T], int],
    lost: Callable[[T, Lost], R],
    settings: Settings,
    err: TextIO,
    *,
    in_child: Callable[[], object] = lambda: None,
    meanwhile: Callable[[], object] = lambda: None,
    parcel: Parcel[R] = pool.PICKLED,
    count: Callable[[T], int] = lambda _: 1,
    eager: bool = False,
) -> list[R]:
    """`work` on each task, in order, as `pool.run` has it; the bar counts `size` (bytes) and `count` modules a task."""
    bar = progress.make(err, settings.quiet, verbose=settings.verbose)
    bar.start(sum(map(count, tasks)), sum(map(size, tasks)))
    try:
        return pool.run(
            tasks,
            work,
            settings.jobs,
            done=lambda task, _: bar.advance(size(task), count(task)),
            lost=lost,
            in_child=in_child,
            meanwhile=meanwhile,
            parcel=parcel,
            eager=eager,
        )
    finally:
        bar.stop()


def in_batches(  # noqa: PLR0913  as above
    tasks: Sequence[T],
    work: Callable[[T], R],
    size: Callable[[T], int],
    lost: Callable[[T, Lost], R],
    settings: Settings,
    err: TextIO,
    *,
    in_child: Callable[[], object],
    meanwhile: Callable[[], object],
) -> list[R]:
    """As `through_workers`, for work that takes less time than to hand it over: many tasks at once.

    The first tasks are spread over all batches.  Those of a batch that was lost are done once more, one by one.
    `meanwhile` may take its time: most of the work has been given out before.
    """
    number = min(len(tasks), BATCHES * max(1, settings.jobs))
    batches = [tasks[at::number] for at in range(number)]
    done = through_workers(
        batches,
        lambda batch: list(map(work, batch)),
        lambda batch: sum(map(size, batch)),
        lambda *_: None,
        settings,
        err,
        in_child=in_child,
        meanwhile=meanwhile,
        count=len,
        eager=True,
    )
    results: dict[int, R] = {}
    for at, answers in enumerate(done):
        results.update(zip(range(at, len(tasks), number), answers or (), strict=False))
    again = [index for index in range(len(tasks)) if index not in results]
    alone = through_workers([tasks[index] for index in again], work, size, lost, settings, err, in_child=in_child)
    results.update(zip(again, alone, strict=True))
    return [results[index] for index in range(len(tasks))]


def lost_module(path: str, lost: Lost, settings: Settings, err: TextIO) -> Finding:
    """The finding for a module whose worker gave no answer; with --debug its traceback goes to `err`."""
    if lost.trace and settings.debug:
        err.write(lost.trace)
    return make("internal-error" if lost.trace else "worker-killed", path, why=lost.why)
