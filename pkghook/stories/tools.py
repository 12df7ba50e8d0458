"""`pkghook tools`: the steps of the chain found here, their versions, the machines they know."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook import __version__
from pkghook.chain.steps import DEFAULT_ORDER, NAMED, STEPS
from pkghook.chain.tools import PACKAGES, PER_MACHINE, Tools, known_machines
from pkghook.errors import EXIT_CLEAN
from pkghook.ko import machines
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from pkghook.chain.steps import Step
    from pkghook.chain.tools import Tool
    from pkghook.settings import Settings

FORMAT_VERSION = 1


class StepRow(NamedTuple):
    """One step as it stands here. `path` is "" in process and where there is no such tool."""

    step: str
    drops: tuple[str, ...]  # "debug", and where they may go "symbols" (of a list) and "labels"
    tool: str
    path: str
    version: str  # "" where the tool is not there
    machines: tuple[str, ...] | None  # None: any
    package: str  # what to install for the tool


class CrossRow(NamedTuple):
    """A tool found for the modules of another machine, by its own name."""

    machine: str
    tool: str
    path: str
    version: str


class Survey(NamedTuple):
    """What this system has to strip modules with."""

    host: str
    chains: tuple[tuple[str, tuple[str, ...]], ...]
    steps: tuple[StepRow, ...]
    cross: tuple[CrossRow, ...]


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Print what this system has to strip modules with."""
    del args, err
    found = survey(Tools())
    out.write(as_json(found) if settings.format == "json" else as_text(found))
    return EXIT_CLEAN


def survey(tools: Tools) -> Survey:
    """Look for all tools, and ask each what it is."""
    host = machines.host()
    chains = (("default", DEFAULT_ORDER), *NAMED.items())
    steps = tuple(_row(step, tools, host) for step in STEPS.values())
    return Survey(machines.name(host), chains, steps, tuple(_crossed(tools, host)))


def _row(step: Step, tools: Tools, host: int) -> StepRow:
    drops = ("debug", *(kind for kind, may_go in step.promise._asdict().items() if may_go))
    if not step.tool:
        return StepRow(step.name, drops, "", "", f"pkghook {__version__}", None, "")
    tool = tools.find(step, host)
    package = PACKAGES[step.tool]
    if tool is None:
        return StepRow(step.name, drops, step.tool, "", "", (), package)
    return StepRow(step.name, drops, step.tool, tool.path, tool.version, known_machines(tool), package)


def _crossed(tools: Tools, host: int) -> list[CrossRow]:
    """For each foreign machine the tools that are not the ones for this machine."""
    found = []
    for number in machines.MACHINES.keys() - {host}:
        for step in (STEPS[name] for name in sorted(PER_MACHINE)):
            tool = tools.find(step, number)
            if tool and not _same(tool, tools.find(step, host)):
                found.append(CrossRow(machines.name(number), tool.name, tool.path, tool.version))
    return sorted(found)


def _same(tool: Tool, other: Tool | None) -> bool:
    """One program may go by several names."""
    return other is not None and os.path.realpath(tool.path) == os.path.realpath(other.path)


def as_json(found: Survey) -> str:
    """The survey as one JSON object; `machines` is null where a step works for any."""
    import json

    document = {
        "version": FORMAT_VERSION,
        "host": found.host,
        "chains": dict(found.chains),
        "steps": [row._asdict() for row in found.steps],
        "cross": [row._asdict() for row in found.cross],
    }
    return json.dumps(document, indent=2) + "\n"


def as_text(found: Survey) -> str:
    """The survey for people: steps, then what is missing and how to get it, then the cross tools."""
    steps = [(row.step, ", ".join(row.drops), row.version or "not here", row.path) for row in found.steps]
    cross = [(row.machine, row.tool, row.version, row.path) for row in found.cross]
    known = sorted({(row.tool or "native", _known(row)) for row in found.steps})
    blocks = [
        [f"this machine: {found.host}", *(f"chain {name}: {', '.join(names)}" for name, names in found.chains)],
        ["steps", *_columns(steps)],
        ["machines whose modules they know", *_columns(known)],
        ["tools for other machines", *_columns(cross)] if cross else [],
        _hints(found),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _known(row: StepRow) -> str:
    if row.machines is None:
        return "any"
    return ", ".join(row.machines) or ("not here" if not row.path else "it does not say")


def _hints(found: Survey) -> list[str]:
    return sorted({f"hint: {row.tool} comes with the package {row.package}" for row in found.steps if not row.version})


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
