"""Frozen values: `typing.NamedTuple`, made in a third of the time.

Every start makes some sixty classes of them.  Python's own way compiles each annotation to see whether it could be a
type, which mypy knows better: 10 ms of a run that strips a thousand modules in less than a second.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple  # noqa: PLC0414  for checkers it is what it stands for
else:
    from collections import namedtuple

    class _Maker(type):
        """Turns the body of a class into a `collections.namedtuple` with its methods."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            if not bases:  # NamedTuple itself
                return super().__new__(cls, name, bases, body)
            fields = body.get("__annotations__", {})
            defaults = [body[field] for field in fields if field in body]
            made = namedtuple(name, fields, defaults=defaults, module=body["__module__"])  # noqa: PYI024  see above
            made.__annotations__ = fields
            for key in body.keys() - fields.keys() - {"__module__", "__annotations__"}:
                setattr(made, key, body[key])
            return made

    NamedTuple = _Maker("NamedTuple", (), {})
