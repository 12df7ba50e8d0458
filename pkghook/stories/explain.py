"""`pkghook explain [ID]`: the text behind a finding id; without one, the list of ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.errors import EXIT_CLEAN, UsageError
from pkghook.findings import registry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from pkghook.findings import Kind
    from pkghook.settings import Settings


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Print the list of finding ids, or all that is known about the one named. UsageError for an unknown id."""
    del err
    kinds = [known(id) for id in args] or list(registry().values())
    if settings.format == "json":
        out.write(as_json(kinds))
    elif args:
        out.write("\n".join(as_text(kind) for kind in kinds))
    else:
        out.write(as_list(kinds))
    return EXIT_CLEAN


def known(id: str) -> Kind:
    """The registered kind of this id; UsageError with the nearest ids if there is none."""
    if id in registry():
        return registry()[id]
    import difflib

    near = difflib.get_close_matches(id, registry(), 3, 0.5)
    raise UsageError(
        f"there is no finding {id!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else "`pkghook explain` lists them all",
    )


def as_list(kinds: Iterable[Kind]) -> str:
    """One line per id: id, severity, title."""
    rows = list(kinds)
    width = max(len(kind.id) for kind in rows)
    return "".join(f"{kind.id:{width}}  {kind.severity!s:7}  {kind.title}\n" for kind in rows)


def as_text(kind: Kind) -> str:
    """Title, severity, obligation, explanation and hint of one id."""
    obligation = f" (proof obligation {kind.obligation})" if kind.obligation else ""
    return f"{kind.id}: {kind.title}\nseverity: {kind.severity}{obligation}\n\n{kind.text}\n\nhint: {kind.hint}\n"


def as_json(kinds: Iterable[Kind]) -> str:
    """An object by id, in the order of the registry; keys are those of `findings.Kind`, severity as its name."""
    import json

    rows = {kind.id: kind._asdict() | {"severity": str(kind.severity)} for kind in kinds}
    return json.dumps(rows, indent=2) + "\n"
