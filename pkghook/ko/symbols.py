"""Lists of symbols that may go: one parser for all steps, and a clean file for a tool.

objcopy(1) takes a second word on a line for rubbish and goes on, fails without a word on an empty list,
and matches nothing, without a word, where the line ends are not as it likes them.  Here the first two are
errors, and what a tool is given is written by us.
"""

from __future__ import annotations

import re

from pkghook.errors import InputError, SettingError
from pkghook.ko import globs
from pkghook.values import NamedTuple

SHIPPED = ("symbols.safe", "symbols.2009")
SIZE_LIMIT = 16 << 20  # bytes: nobody has written such a list, somebody has named the wrong file

# Looked up by name by the loader or the kernel, or made by the linker for such a look-up.
PROTECTED = ("init_module", "cleanup_module", "__this_module", "__start_*", "__stop_*", "__cfi_check")

# What feeds modules.symbols and modules.alias, `modprobe --show-exports` and RPM's ksym() provides; the
# device tables of newer kernels have their common part in front.
DEPMOD = ("__crc_*", "__ksymtab_*", "__kstrtab_*", "__kstrtabns_*", "__mod_*_device_table", "__mod_device_table__*")

_FORM = "one symbol name or pattern a line: * ? [a-z] are wildcards, a leading ! makes an exception, # begins a comment"


class SymbolList(NamedTuple):
    """A list as read. A name is dropped if a pattern matches it and no pattern with `!` does, wherever it stands."""

    name: str  # as the user gave it
    patterns: tuple[str, ...]  # as written, with surrogateescape; each once
    exact: frozenset[bytes]  # the patterns without wildcards
    wild: re.Pattern[bytes]  # those with
    never: re.Pattern[bytes]  # those with `!`, and PROTECTED

    def matches(self, name: bytes) -> bool:
        """Whether a symbol of this name may go. Undefined and special symbols are the caller's to keep."""
        return (name in self.exact or self.wild.fullmatch(name) is not None) and not self.never.fullmatch(name)

    def file_text(self) -> bytes:
        """The list for `objcopy --wildcard --strip-symbols`: without comments, with PROTECTED excepted.

        Order means nothing to objcopy either: a `!` pattern that matches wins.
        """
        lines = (*self.patterns, *(f"!{name}" for name in PROTECTED))
        return b"".join(_bytes(line) + b"\n" for line in lines)


def load(name_or_path: str) -> SymbolList:
    """One of the SHIPPED lists by its name, else a file.

    Raises InputError when the file cannot be read, SettingError when it is no list.
    """
    if name_or_path in SHIPPED:
        from importlib.resources import files

        return parse(files("pkghook").joinpath("data", name_or_path).read_bytes(), name_or_path)
    try:
        with open(name_or_path, "rb") as file:
            text = file.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the symbol list {name_or_path}: {error.strerror}",
            hint=f"give the path of a file, or one of the lists that come with pkghook: {', '.join(SHIPPED)}",
        ) from error
    if len(text) > SIZE_LIMIT:
        raise SettingError(f"symbol list {name_or_path}: larger than {SIZE_LIMIT} bytes")
    return parse(text, name_or_path)


def parse(text: bytes, name: str) -> SymbolList:
    """A list: one pattern a line, `#` begins a comment, a leading `!` an exception, LF or CRLF.

    Raises SettingError with `name` and the line: a second word, a pattern that is none, nothing to drop.
    """
    parsed: dict[str, globs.Glob] = {}
    lines = text.removeprefix(b"\xef\xbb\xbf").splitlines()
    for number, line in enumerate(lines, 1):
        words = line.partition(b"#")[0].split()
        if words:
            try:
                parsed[words[0].decode("utf-8", "surrogateescape")] = _pattern(words)
            except ValueError as error:
                raise SettingError(f"symbol list {name}, line {number}: {error}", hint=_FORM) from error
    drops = [glob for pattern, glob in parsed.items() if not pattern.startswith("!")]
    if not drops:
        raise SettingError(f"symbol list {name}: names no symbol to drop", hint=_FORM)
    names = [globs.literal(glob) for glob in drops]
    return SymbolList(
        name=name,
        patterns=tuple(parsed),
        exact=frozenset(filter(None, names)),
        wild=globs.regex(glob for glob, literal in zip(drops, names, strict=True) if literal is None),
        never=globs.regex(_exceptions(parsed)),
    )


def _pattern(words: list[bytes]) -> globs.Glob:
    if len(words) > 1:
        raise ValueError(f"a second word, {_shown(words[1])}")
    pattern = words[0].removeprefix(b"!")
    if not pattern:
        raise ValueError("a ! with no pattern behind it")
    if re.search(rb"[\0-\x1f\x7f]", pattern):
        raise ValueError(f"a control character in {_shown(pattern)}")
    try:
        return globs.parse(pattern)
    except ValueError as error:
        raise ValueError(f"{_shown(pattern)} {error}") from error


def _exceptions(parsed: dict[str, globs.Glob]) -> list[globs.Glob]:
    return [glob for pattern, glob in parsed.items() if pattern.startswith("!")] + [_glob(p) for p in PROTECTED]


def changes_depmod(symbols: SymbolList) -> bool:
    """Whether the list could drop a symbol that feeds what depmod and modprobe report."""
    parsed = {pattern: _glob(pattern.removeprefix("!")) for pattern in symbols.patterns}
    drops = [glob for pattern, glob in parsed.items() if not pattern.startswith("!")]
    return globs.share_a_name([_glob(pattern) for pattern in DEPMOD], drops, _exceptions(parsed))


def _glob(pattern: str) -> globs.Glob:
    return globs.parse(_bytes(pattern))


def _bytes(pattern: str) -> bytes:
    return pattern.encode("utf-8", "surrogateescape")


def _shown(word: bytes) -> str:
    return repr(word.decode("utf-8", "backslashreplace"))
