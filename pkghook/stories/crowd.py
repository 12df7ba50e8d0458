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


def through_workers(  # noqa: PLR0913  what the pool takes, and what the bar and the loss of a worker need
    tasks: Sequence[T],
    work: Callable[[T], R],
    size: Callable[[T], int],
    lost: Callable[[T, Lost], R],
    settings: Settings,
    err: TextIO,
    *,
    in_child: Callable[[], None] = lambda: None,
    meanwhile: Callable[[], None] = lambda: None,
    parcel: Parcel[R] = pool.PICKLED,
) -> list[R]:
    """`work` on each task, in order, as `pool.run` has it; `size` is what the bar counts for a task, in bytes."""
    bar = progress.make(err, settings.quiet, verbose=settings.verbose)
    bar.start(len(tasks), sum(map(size, tasks)))
    try:
        return pool.run(
            tasks,
            work,
            settings.jobs,
            done=lambda task, _: bar.advance(size(task)),
            lost=lost,
            in_child=in_child,
            meanwhile=meanwhile,
            parcel=parcel,
        )
    finally:
        bar.stop()


def lost_module(path: str, lost: Lost, settings: Settings, err: TextIO) -> Finding:
    """The finding for a module whose worker gave no answer; with --debug its traceback goes to `err`."""
    if lost.trace and settings.debug:
        err.write(lost.trace)
    return make("internal-error" if lost.trace else "worker-killed", path, why=lost.why)
