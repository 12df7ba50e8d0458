"""Wildcard patterns over symbol names, with the meaning that `objcopy --wildcard` gives them.

That meaning is fnmatch(3) without flags, in the C locale, over bytes: `*`, `?`, `[a-z]`, `[!a-z]`, and a
backslash takes the next character as it is (binutils, is_specified_symbol_predicate() in objcopy.c).
What fnmatch(3) would take literally, or in another way than meant, is an error here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Token = frozenset[int] | None  # the bytes that match here; None is `*`
Glob = tuple[Token, ...]
State = frozenset[int]  # where a walk stands in several patterns at once

ANY = frozenset(range(1, 256))  # names have no NUL
END: Token = frozenset({0})  # the NUL behind a name
NOTHING = rb"(?!)"
STATE_LIMIT = 20_000

_TOKEN = re.compile(rb"\*+|\?|\[([!^]?)(\]?+(?:\\.|[^\]\\])*)\]|\\(.)|([^\[\\])", re.DOTALL)
_ITEM = re.compile(rb"(\\.|[^\\])-(\\.|[^\\])|(\\.|[^\\])", re.DOTALL)


def parse(glob: bytes) -> Glob:
    """The tokens of a pattern; ValueError says what is wrong with it."""
    found: list[Token] = []
    at = 0
    while at < len(glob):
        match = _TOKEN.match(glob, at)
        if match is None:
            raise ValueError("ends with a backslash" if glob[at:] == b"\\" else "has a [ without its ]")
        found.append(_token(match))
        at = match.end()
    return tuple(found)


def _token(match: re.Match[bytes]) -> Token:
    negated, brackets, escaped, plain = match.groups()
    if brackets is not None:
        members = _members(brackets)
        return ANY - members if negated else members
    if match[0] == b"?":
        return ANY
    single = escaped or plain
    return None if match[0].startswith(b"*") else frozenset(single)


def _members(brackets: bytes) -> frozenset[int]:
    if re.search(rb"\[[:=.]", brackets):
        raise ValueError("has a character class like [[:alpha:]]; write the characters out")
    found: set[int] = set()
    for first, last, single in _ITEM.findall(brackets):
        low, high = (first or single)[-1], (last or single)[-1]
        if low > high:
            raise ValueError("has a range in [ ] whose ends are the wrong way round")
        found.update(range(low, high + 1))
    return frozenset(found)


def literal(glob: Glob) -> bytes | None:
    """The one name that the pattern matches, or None if it can match several or none."""
    if all(token is not None and len(token) == 1 for token in glob):
        return bytes(next(iter(token)) for token in glob if token)
    return None


def regex(globs: Iterable[Glob]) -> re.Pattern[bytes]:
    """Matches, as a whole, just the names that one of `globs` matches."""
    expressions = [b"".join(map(_expression, glob)) for glob in globs]
    return re.compile(b"|".join(expressions) if expressions else NOTHING)


def _expression(token: Token) -> bytes:
    if token is None:
        return rb"[^\0]*"
    if token == ANY:
        return rb"[^\0]"
    if not token:
        return NOTHING
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(token)) + b"]"


def share_a_name(some: Iterable[Glob], others: Iterable[Glob], without: Iterable[Glob]) -> bool:
    """Whether there can be a name that one of `some`, one of `others` and none of `without` matches.

    The three sets are walked together as automata, so the answer is exact, but for sets so contrived that
    the walk is given up: then it is True.
    """
    first, second, third = _Automaton(some), _Automaton(others), _Automaton(without)
    alphabet = _alphabet(first.cells + second.cells + third.cells)
    start = (first.start, second.start, third.start)
    seen, waiting = {start}, [start]
    while waiting and len(seen) < STATE_LIMIT:
        here = waiting.pop()
        if first.accepts(here[0]) and second.accepts(here[1]) and not third.accepts(here[2]):
            return True
        for byte in alphabet:
            one = first.after(here[0], byte)
            two = second.after(here[1], byte) if one else one
            there = (one, two, third.after(here[2], byte) if two else two)
            if two and there not in seen:
                seen.add(there)
                waiting.append(there)
    return bool(waiting)


def _alphabet(cells: Iterable[Token]) -> list[int]:
    """One byte for each group of bytes that no token tells apart."""
    tokens = list({token for token in cells if token is not None})
    return list({tuple(byte in token for token in tokens): byte for byte in sorted(ANY)}.values())


class _Automaton:
    """Several patterns behind each other in `cells`, each closed by END; a state is a set of cells."""

    def __init__(self, globs: Iterable[Glob]) -> None:
        self.cells: list[Token] = []
        starts = []
        for glob in globs:
            starts.append(len(self.cells))
            self.cells += (*glob, END)
        self.start = self._closure(starts)

    def after(self, state: State, byte: int) -> State:
        """The state when `byte` follows."""
        cells = ((at, self.cells[at]) for at in state)
        return self._closure(at + (token is not None) for at, token in cells if token is None or byte in token)

    def accepts(self, state: State) -> bool:
        """Whether one of the patterns may end here."""
        return any(self.cells[at] == END for at in state)

    def _closure(self, state: Iterable[int]) -> State:
        """With the cells behind each `*`, which may match nothing; two `*` in a row are one token."""
        found = set(state)
        found.update(at + 1 for at in tuple(found) if self.cells[at] is None)
        return frozenset(found)
