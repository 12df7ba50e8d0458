"""The steps that can strip a module, one row each, and the order in which they are tried."""

from __future__ import annotations

from pkghook.errors import SettingError
from pkghook.values import NamedTuple

# Words of a row which stand for files; everything else on a command line is taken as it is.
IN, OUT, LIST = "IN", "OUT", "LIST"


class Promise(NamedTuple):
    """What a step may drop beside debug information."""

    symbols: bool = False  # those of the symbol list, where one was given
    labels: bool = False  # local labels (`.L*`, no type)


class Step(NamedTuple):
    """One row. Every tool writes a file of its own (OUT): in place some break hard links or drop xattrs."""

    name: str
    tool: str = ""  # "" is done in process
    words: tuple[str, ...] = ()
    promise: Promise = Promise()

    def command(self, tool: str, infile: str, outfile: str, listfile: str = "") -> list[str]:
        """The words to run, `tool` (a path) first."""
        files = {IN: infile, OUT: outfile, LIST: listfile}
        return [tool, *(files.get(word, word) for word in self.words)]


_WITH_LIST = ("--strip-debug", "--wildcard", "--strip-symbols", LIST, IN, OUT)
_ROWS = (
    Step("native"),
    Step("native-symbols", promise=Promise(symbols=True)),
    Step("native-labels", promise=Promise(symbols=True, labels=True)),
    Step("objcopy-symbols", "objcopy", _WITH_LIST, Promise(symbols=True)),
    Step("objcopy", "objcopy", ("--strip-debug", IN, OUT)),
    Step("strip", "strip", ("--strip-debug", "-o", OUT, IN)),
    Step("eu-strip", "eu-strip", ("-g", "-o", OUT, IN)),  # without -g it eats .BTF and ruins m68k modules
    Step("llvm-strip", "llvm-strip", ("--strip-debug", "-o", OUT, IN)),
)
STEPS = {step.name: step for step in _ROWS}

# objcopy and strip share their code and fail together, so a stranger comes between.
DEFAULT_ORDER = ("native", "eu-strip", "objcopy", "llvm-strip", "strip")
NAMED = {"thread": ("objcopy-symbols", "objcopy", "strip")}  # as proposed in the thread of 2009, to the letter


def order(chain: str, *, symbols: bool, labels: bool) -> tuple[Step, ...]:
    """The steps to try, first to last.

    `chain` is "" for the default, a key of NAMED, or names of steps separated by commas, taken literally.
    `symbols` says that a symbol list was given, `labels` that local labels may go; in the default order the
    steps that drop those come first.  Raises SettingError for an unknown or repeated name, and where the
    chain and the other two settings contradict each other.
    """
    if not chain:
        return tuple(STEPS[name] for name in (*_first(symbols=symbols, labels=labels), *DEFAULT_ORDER))
    steps = tuple(_step(name.strip()) for name in NAMED.get(chain) or chain.split(","))
    repeated = [step.name for step in steps if steps.count(step) > 1]
    if repeated:
        raise SettingError(f"chain: {repeated[0]!r} stands in it more than once", hint="name each step once")
    _agree(steps, symbols=symbols, labels=labels)
    return steps


def _first(*, symbols: bool, labels: bool) -> tuple[str, ...]:
    return (
        *(("native-labels",) if labels else ()),
        *(("native-symbols", "objcopy-symbols") if symbols else ()),
    )


def _step(name: str) -> Step:
    try:
        return STEPS[name]
    except KeyError:
        hint = f"steps are {', '.join(STEPS)}; a chain by name is {', '.join(NAMED)}, which stands alone"
        raise SettingError(f"chain: there is no step {name!r}", hint=hint) from None


def _agree(steps: tuple[Step, ...], *, symbols: bool, labels: bool) -> None:
    """A step that lacks what it is to drop, or a wish that no step would fulfil, is a mistake to be told."""
    for step in steps:
        if step.promise.labels and not labels:
            raise SettingError(f"chain: {step.name} needs leave to drop labels", hint="add --discard-labels")
        if step.promise == Promise(symbols=True) and not symbols:
            hint = "add --strip-symbols FILE, or one of the lists symbols.safe and symbols.2009"
            raise SettingError(f"chain: {step.name} needs a symbol list", hint=hint)
    if symbols and not any(step.promise.symbols for step in steps):
        hint = "add native-symbols to the chain, or leave out --strip-symbols"
        raise SettingError("chain: no step in it drops the listed symbols", hint=hint)
    if labels and not any(step.promise.labels for step in steps):
        hint = "add native-labels to the chain, or leave out --discard-labels"
        raise SettingError("chain: no step in it drops labels", hint=hint)
