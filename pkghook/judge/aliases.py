"""Which device aliases a module lost: those that none of its new ones stands for, the same text or a wider glob.

An alias is a glob that modprobe holds against what the kernel asks for, by fnmatch() with `-` read as `_` outside
of brackets (alias_normalize() in kmod's shared/util.c).  The kernel's scripts/mod/file2alias.c writes `*`, `?` and
sets such as `[0-9A-F]`.  A new alias stands for an old one if every text that the old one matches it matches too;
that is worked out from the globs, piece by piece, and where it cannot be seen that way the alias counts as lost.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Token = str | frozenset[str]  # a character, "*", "?" under names of their own, or a set

ANY: Final = "any"  # `*`; no character is three long
ONE: Final = "one"  # `?`
BUDGET = 1 << 20  # pieces compared for one module; a real one needs a few thousand
_PIECES = re.compile(r"\[!?\]?[^\]]+\]|.", re.DOTALL)
_MEMBERS = re.compile(r"(.)(?:-(.))?", re.DOTALL)
_WILD = re.compile(r"[*?\[]")


def lost(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """The aliases of `old`, sorted, that nothing in `new` stands for."""
    now = {normal(alias) for alias in new}
    gone = sorted(alias for alias in set(old) if normal(alias) not in now)
    wide: dict[str, list[str]] = {}
    for alias in sorted(now) if gone else ():
        if _WILD.search(alias):
            wide.setdefault(_stem(alias), []).append(alias)
    left = [BUDGET]
    return [alias for alias in gone if not _stood_for(normal(alias), wide, left)]


def normal(alias: str) -> str:
    """`alias` with `-` as `_`, but within brackets, where it means a range."""
    return alias if "-" not in alias else "".join(p if p[0] == "[" else p.replace("-", "_") for p in _pieces(alias))


def _pieces(alias: str) -> list[str]:
    return _PIECES.findall(alias)


def _stem(alias: str) -> str:
    """What stands before the first wildcard."""
    found = _WILD.search(alias)
    return alias[: found.start()] if found else alias


def _stood_for(alias: str, wide: dict[str, list[str]], left: list[int]) -> bool:
    """Whether a glob matches all that `alias` does: only those whose stem `alias` begins with can."""
    stem = _stem(alias)
    mine = _tokens(alias)
    for end in range(len(stem) + 1):
        for glob in wide.get(stem[:end], ()):
            theirs = _tokens(glob)
            left[0] -= len(mine) + len(theirs)
            if left[0] < 0:
                return False
            if covers(theirs, mine, left):
                return True
    return False


def covers(wide: tuple[Token, ...], narrow: tuple[Token, ...], left: list[int]) -> bool:
    """Whether every text that `narrow` matches is matched by `wide`, as far as pieces in a row can show it.

    As a glob is matched against a text, going back to the last `*` alone; `left` is used up by one a step.
    """
    at = to = 0
    star, tried = -1, 0
    while to < len(narrow):
        left[0] -= 1
        if left[0] < 0:
            return False
        if at < len(wide) and wide[at] == ANY:
            star, tried = at, to
            at += 1
        elif at < len(wide) and _holds(wide[at], narrow[to]):
            at, to = at + 1, to + 1
        elif star >= 0:
            tried += 1
            at, to = star + 1, tried
        else:
            return False
    return all(token == ANY for token in wide[at:])


def _holds(wide: Token, narrow: Token) -> bool:
    """Whether one piece of a glob, no `*`, matches whatever another one matches."""
    if narrow == ANY:
        return False
    if wide == ONE:
        return True
    if narrow == ONE:
        return False
    one = narrow if isinstance(narrow, frozenset) else frozenset({narrow})
    return one <= wide if isinstance(wide, frozenset) else one == {wide}


@lru_cache(maxsize=4096)
def _tokens(alias: str) -> tuple[Token, ...]:
    return tuple(map(_token, _pieces(alias)))


def _token(piece: str) -> Token:
    if len(piece) == 1:
        return {"*": ANY, "?": ONE}.get(piece, piece)
    members = _MEMBERS.findall(piece[1:-1])
    if piece[1] == "!" or any(last and not 0 <= ord(last) - ord(first) < 256 for first, last in members):
        return piece  # too much to write down: it stands for itself alone
    return frozenset(chr(code) for first, last in members for code in range(ord(first), ord(last or first) + 1))
