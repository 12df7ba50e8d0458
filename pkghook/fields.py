r"""pkghook's own JSON files (receipts, records): laid out by line, and read back field by field.

Layout: one member of the top-level object a line, and a list there one item a line, so that two files can
be compared with `diff`.  Pure ASCII: a file name that is not UTF-8 stands as the lone surrogates of
`surrogateescape`, written as `\udcXX`.

Reading trusts nothing: each wrong field is noted with its path (`entries[3].sizes.file_after`), and all of
them become one error at the end.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pkghook.errors import InputError, ReceiptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

T = TypeVar("T")

SIZE_LIMIT = 1 << 28  # bytes of a file that `read` takes; a receipt has some 600 a module
NUMBER_LIMIT = (1 << 63) - 1  # of a count or size: what the kernel's file offsets reach
SHOWN_LIMIT = 20  # wrong fields in one message
WRONG_LIMIT = 10_000  # wrong fields after which nobody wants to know about more

_MISSING = object()
_HEX = re.compile("(?:[0-9a-f]{2})*")
_KINDS = {
    str: "text",
    int: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    float: "a fraction",
    type(None): "null",
}

encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
encode_text: Callable[[str], str] = json.encoder.encode_basestring_ascii  # what `encode` does with a str


class Written(str):
    """JSON text, to be laid out as it is."""

    __slots__ = ()


# --- writing ---------------------------------------------------------------------------------------------------------


def layout(members: Mapping[str, object]) -> bytes:
    """A JSON object as text, by line as above; the same values in the same order give the same bytes."""
    lines = ",\n".join(f"  {encode(name)}: {_lines(value)}" for name, value in members.items())
    return f"{{\n{lines}\n}}\n".encode("ascii")


def _lines(value: object) -> str:
    if not isinstance(value, list | tuple) or not value:
        return encode(value)
    lines = [item if type(item) is Written else encode(item) for item in value]
    return "[\n    " + ",\n    ".join(lines) + "\n  ]"


# --- reading ---------------------------------------------------------------------------------------------------------


def read(path: str) -> bytes:
    """The bytes of a receipt or record. InputError when it cannot be read, ReceiptError when it is far too large."""
    try:
        with open(path, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > SIZE_LIMIT:
        raise ReceiptError(f"{path}: larger than {SIZE_LIMIT} bytes, so no file that pkghook wrote")
    return data


def parse(data: bytes, name: str, format: str, version: int) -> Fields:
    """The top-level object of a file whose members `format` and `version` say that it is what is wanted.

    ReceiptError when `data` is not JSON, repeats a member, is of another format, or of another version.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise ReceiptError(f"{name}: nested too deep, so no file that pkghook wrote") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are among them
        raise ReceiptError(f"{name}: not JSON: {error}") from None
    if not isinstance(value, dict) or value.get("format") != format:
        raise ReceiptError(f"{name}: not a {format}", hint=f'a {format} has a member "format": "{format}"')
    said = value.get("version")
    if type(said) is not int or said != version:
        hint = f"this pkghook reads version {version}; use the one that wrote the file, or a newer one"
        raise ReceiptError(f"{name}: a {format} of unknown version {shown(said)}", hint=hint)
    fields = Fields(value, "", Problems(name))
    fields.number("version")
    fields.text("format")
    return fields


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the member {shown(twice)} twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def shown(value: object) -> str:
    """A value from a file as a message shows it: short, and without control characters."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return _KINDS[type(value)]
    text = ascii(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


class Problems:
    """What is wrong with a file: the first ones in words, the others counted."""

    def __init__(self, name: str = "") -> None:
        """`name` is the file's, for a message."""
        self.name = name
        self.first: list[str] = []
        self.count = 0

    def note(self, path: str, what: str) -> None:
        """Say that the field at `path` is wrong. ReceiptError for one too many: the file is not read to its end."""
        self.count += 1
        if len(self.first) < SHOWN_LIMIT:
            self.first.append(f"{path}: {what}")
        if self.count > WRONG_LIMIT:
            raise ReceiptError("\n  ".join([f"{self.name}: more than {WRONG_LIMIT} fields are wrong", *self.first]))

    def raise_any(self, name: str) -> None:
        """ReceiptError with all problems of the file `name`, if there is any."""
        if not self.count:
            return
        if self.count == 1:
            raise ReceiptError(f"{name}: {self.first[0]}")
        more = [f"and {self.count - len(self.first)} more"] if self.count > len(self.first) else []
        raise ReceiptError("\n  ".join([f"{name}: {self.count} fields are wrong", *self.first, *more]))


class Fields:
    """One JSON object, read member by member.

    A member that is missing, of another type or out of range is noted in `problems`, which all objects of
    a file share, and a harmless value of the right type is given in its place.  A default makes a member
    optional.  `finish` notes the members that nobody asked for.
    """

    def __init__(self, value: object, path: str, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        self._members: dict[str, object] = value if isinstance(value, dict) else {}
        self._asked: set[str] = set()
        self._broken = not isinstance(value, dict)
        if self._broken:
            self.problems.note(path, f"{shown(value)} where an object is needed")

    def wrong(self, name: str, what: str) -> None:
        """Note that the member `name` is wrong. Of a value that is no object, that alone is said."""
        if not self._broken:
            self.problems.note(self.at(name), what)

    def at(self, name: str) -> str:
        """The path of a member."""
        return f"{self.path}.{name}" if self.path else name

    def text(self, name: str, default: str | None = None) -> str:
        """A text."""
        return self._take(name, str, default)

    def flag(self, name: str, default: bool | None = None) -> bool:  # noqa: FBT001  the default is a value here
        """True or false."""
        return self._take(name, bool, default)

    def number(self, name: str, default: int | None = None, *, most: int = NUMBER_LIMIT) -> int:
        """A whole number from 0 to `most`."""
        value = self._take(name, int, default)
        if not 0 <= value <= most:
            self.wrong(name, f"{shown(value)} is not between 0 and {most}")
        return value

    def hex(self, name: str, default: str | None = None, *, size: int | None = None) -> str:
        """Bytes as small hexadecimal digits, `size` of them if it is given (or none where the default is "")."""
        value = self._take(name, str, default)
        right = _HEX.fullmatch(value) and (size is None or len(value) == 2 * size or value == default)
        if not right:
            self.wrong(name, f"{shown(value)} is not {f'{size} ' if size else ''}bytes as hexadecimal digits")
        return value

    def place(self, name: str) -> str:
        """A path below ROOT."""
        value = self.text(name)
        return self._checked_place(name, value)

    def places(self, name: str) -> tuple[str, ...]:
        """A list of paths below ROOT; none if it is missing."""
        values = self.texts(name)
        return tuple(self._checked_place(f"{name}[{at}]", value) for at, value in enumerate(values))

    def choice(self, name: str, table: Mapping[str, T], default: T | None = None) -> T:
        """What `table` has under the member's text."""
        if default is not None and name not in self._members:
            self._asked.add(name)
            return default
        value = self.text(name)
        if value in table:
            return table[value]
        if type(self._members.get(name)) is str:
            self.wrong(name, f"{shown(value)} is not one of {', '.join(table)}")
        return next(iter(table.values()))

    def inner(self, name: str) -> Fields:
        """An object."""
        self._asked.add(name)
        if name not in self._members:
            self.wrong(name, "missing")
            return Fields({}, self.at(name), Problems())
        return Fields(self._members[name], self.at(name), self.problems)

    def objects(self, name: str, default: list[object] | None = None) -> Iterator[Fields]:
        """A list of objects."""
        values = self._take(name, list, default)
        return (Fields(value, f"{self.at(name)}[{at}]", self.problems) for at, value in enumerate(values))

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; none if it is missing."""
        values = self._take(name, list, [])
        return tuple(self._typed(f"{name}[{at}]", value, str) for at, value in enumerate(values))

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """A list of lists of two texts."""
        found = []
        for at, item in enumerate(self._take(name, list, None)):
            here = f"{name}[{at}]"
            if isinstance(item, list) and len(item) == 2:
                found.append((self._typed(f"{here}[0]", item[0], str), self._typed(f"{here}[1]", item[1], str)))
            else:
                self.wrong(here, "not a list of two texts")
        return tuple(found)

    def members(self) -> Iterable[tuple[str, object]]:
        """All members as they are, for objects whose member names are data."""
        self._asked.update(self._members)
        return self._members.items()

    def same(self, name: str, right: str | int) -> None:
        """Note the member if it is not `right`, which is what other fields make of it."""
        kind = str if isinstance(right, str) else int
        value = self._take(name, kind, None)
        if type(self._members.get(name)) is kind and value != right:
            self.wrong(name, f"{shown(value)}, but other fields make it {shown(right)}")

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return name in self._members

    def finish(self) -> None:
        """Note the members that nobody asked for: a file of this version has none."""
        for name in self._members.keys() - self._asked:
            self.wrong(name if name.isidentifier() else shown(name), "no such field in this version")

    def _take(self, name: str, kind: type[T], default: T | None) -> T:
        self._asked.add(name)
        value = self._members.get(name, _MISSING)
        if value is not _MISSING:
            return self._typed(name, value, kind)
        if default is not None:
            return default
        self.wrong(name, "missing")
        return kind()

    def _typed(self, name: str, value: object, kind: type[T]) -> T:
        # Not isinstance: true and false are no numbers here.
        if type(value) is not kind:
            self.wrong(name, f"{shown(value)} where {_KINDS[kind]} is needed")
            return kind()
        if isinstance(value, str) and not value.isascii() and not is_text(value):
            self.wrong(name, f"{shown(value)} is not Unicode text")
            return kind()
        return value

    def _checked_place(self, name: str, value: str) -> str:
        parts = value.split("/")
        if "\0" in value or not {"", ".", ".."}.isdisjoint(parts):
            self.wrong(name, f"{shown(value)} is not a path below ROOT")
        return value


def is_text(value: str) -> bool:
    """Whether `value` can be printed and be a file name: it has no surrogates but those of `surrogateescape`."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
