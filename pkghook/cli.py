"""The command line: verbs, options, the one error boundary, exit status.

`--version` imports nothing but `sys`, and a run builds the parser of its own verb alone: hooks start
pkghook often.  All errors of the package end here and nowhere else.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # without importing typing, see above
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping, Sequence
    from typing import NoReturn, TextIO

    from pkghook.errors import PkghookError
    from pkghook.settings import CommandLine, Row, Settings


class Verb:
    """One row of the table: what is typed, what it takes, and the story that does it (imported when it is used)."""

    def __init__(self, help: str, *, args: str = "", optional: bool = False, needs: str = "") -> None:
        self.help = help
        self.args = args.split()  # names of the positional arguments; with "..." behind the last, one or more of it
        self.optional = optional  # whether they may be left out
        self.needs = needs  # a setting without which the verb makes no sense


VERBS = {
    "strip": Verb("strip the modules below ROOT, prove each result, account for every byte", args="ROOT"),
    "check": Verb("judge packages, directories and modules; nothing is changed", args="PATH..."),
    "record": Verb("write down what each module below ROOT is before other tools touch it", args="ROOT", needs="out"),
    "verify": Verb("are these two files or trees the same modules to the kernel's loader?", args="BEFORE AFTER"),
    "audit": Verb("look at every kernel of an installed system: what is wasted or broken, and whose it is"),
    "dkms": Verb(
        "DKMS's modules: strip and prove them before they are signed, or where they are installed",
        args="HASH KEY CERTIFICATE MODULE",
        optional=True,
    ),
    "explain": Verb("the text behind a finding id; without one, the list", args="ID", optional=True),
    "tools": Verb("the steps of the chain found here, their versions, the machines they know"),
}

# Bytes of a piece of memory that is asked for and freed again, and never touched.  glibc gives what is freed back to
# the system, and asks for it anew page by page, until something of that size was freed: mallopt(3), M_MMAP_THRESHOLD.
_KEPT = 8 << 20

STATUS_HELP = """\
exit status: 0 clean; 1 at least one finding at or above --fail-on; 2 usage,
configuration, or input/output error; 130 and 143 after SIGINT and SIGTERM"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run pkghook with these arguments; the exit status, errors told on stderr.

    Without `argv` they are those of the process, which is expected to end with that status then.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if None in {sys.stdin, sys.stdout, sys.stderr}:
        _open_standard_streams()
    with_traceback = _wants_traceback(args)  # while there is memory to find out
    try:
        status = dispatch(args, last=argv is None)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _say("interrupted by SIGINT", 130)
    except Exception as error:  # noqa: BLE001  the boundary: what nobody foresaw must end in one line and status 2 too
        status = explain_error(error, with_traceback=with_traceback)
    else:
        return status
    _let_go()
    return status


def dispatch(args: Sequence[str], *, last: bool = False) -> int:
    """Find the verb and run its story; `last` says that the process ends after that."""
    if args[:1] == ["--version"]:
        from pkghook import __version__

        sys.stdout.write(f"pkghook {__version__}\n")
        return 0
    if not args:
        sys.stderr.write(overview())
        return 2
    verb, *rest = args
    if verb in {"help", "-h", "--help"}:
        verb, rest = (rest[0], ["--help"]) if rest else ("", [])
    if not verb:
        sys.stdout.write(overview())
        return 0
    if verb not in VERBS:
        raise _unknown_verb(verb)
    import gc
    from contextlib import suppress

    from pkghook import stopping, stuck

    if last:  # the process is ours
        stuck.end_when_stuck()
        gc.set_threshold(100_000)  # thousands of values without cycles are not worth looking through for them
        with suppress(MemoryError):
            bytes(_KEPT)
    with stopping.stoppable(last=last):
        status = run(verb, rest)
        sys.stdout.flush()  # while Ctrl-C still helps against a reader that does not read
        if last:
            gc.freeze()  # nor are they at the end
        return status


def run(verb: str, args: Sequence[str]) -> int:
    """Read the settings of `verb` and run its story; its exit status."""
    import os
    from importlib import import_module

    from pkghook import report, settings

    try:
        words, given = parse(verb, args)
    except SystemExit:  # argparse after --help; errors do not come this way
        return 0
    gathered = settings.gather(given, os.environ, verb=verb, formats=report.forms(verb))
    _check_needs(verb, gathered)
    out, err = _streams()
    for name in settings.strangers(os.environ):
        err.write(f"pkghook: warning: {report.printable(name)} is not a setting of pkghook, ignored\n")
    status: int = import_module(f"pkghook.stories.{verb}").run(words, gathered, out, err)
    return status


def _streams() -> tuple[TextIO, TextIO]:
    """stdout and stderr, made so that no file name can fail to be printed."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)  # what tests and callers put in place may have none
        if reconfigure:
            reconfigure(errors="backslashreplace")
    return sys.stdout, sys.stderr


def _check_needs(verb: str, gathered: Settings) -> None:
    need = VERBS[verb].needs
    if need and not getattr(gathered, need):
        from pkghook.errors import UsageError

        raise UsageError(f"{verb} needs --{need}", hint=f"pkghook {verb} --help")


# --- options ---------------------------------------------------------------------------------------------------------


def parse(verb: str, args: Sequence[str]) -> tuple[tuple[str, ...], CommandLine]:
    """The positional arguments, and the settings given, as text by name. UsageError for anything else."""
    args = list(args)
    end = args.index("--") if "--" in args else len(args)  # argparse loses it between options and arguments
    found = vars(parser(verb).parse_intermixed_args(args[:end]))
    words = (*found.pop("words"), *args[end + 1 :])
    _check_words(verb, words)
    return words, found


def _check_words(verb: str, words: Sequence[str]) -> None:
    from pkghook.errors import UsageError

    names, hint = VERBS[verb].args, f"pkghook {verb} --help"
    if len(words) > len(names) and not (names and names[-1].endswith("...")):
        raise UsageError(f"one argument too many: {words[len(names)]}", hint=hint)
    if len(words) < len(names) and not VERBS[verb].optional:
        raise UsageError(f"{verb} needs {names[len(words)].removesuffix('...')}", hint=hint)


def parser(verb: str) -> ArgumentParser:
    """The parser of one verb, built from the rows of its settings."""
    import argparse

    from pkghook import settings

    class Parser(argparse.ArgumentParser):
        """Says what is wrong as an error of ours instead of ending the process."""

        def error(self, message: str) -> NoReturn:
            from pkghook.errors import UsageError

            raise UsageError(message, hint=f"pkghook {verb} --help")

    class Formatter(argparse.RawDescriptionHelpFormatter):
        """Of a fixed width: argparse makes one for every option, and would ask for the terminal's each time."""

        def __init__(self, prog: str) -> None:
            super().__init__(prog, width=80)

    built = Parser(
        prog=f"pkghook {verb}",
        usage=f"pkghook {synopsis(verb)} [OPTION...]",
        description=VERBS[verb].help,
        epilog=f"{_ORIGINS}\n\n{STATUS_HELP}",
        formatter_class=Formatter,
        allow_abbrev=False,  # an abbreviation in a hook would break with the next option
    )
    built.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    for row in settings.rows(verb):
        _add(built, _with_forms(row, verb), settings.default_text(row))
    return built


_ORIGINS = """\
--any-option can also be set as PKGHOOK_ANY_OPTION in the environment or as
any-option in pkghook.toml; the command line goes before the environment, that
before the file. --no-any-option turns a switch off."""


def _with_forms(row: Row, verb: str) -> Row:
    """The row of --format with the forms that the verb has; any other as it is."""
    if row.name != "format":
        return row
    from pkghook.report import forms

    return row._replace(metavar="|".join(forms(verb)))


def _add(built: ArgumentParser, row: Row, default: str) -> None:
    import argparse

    text = (row.help + (f" [default: {default}]" if default else "")).replace("%", "%%")
    if row.metavar:
        action = "append" if row.many else "store"
        built.add_argument(
            *row.flags, dest=row.name, action=action, metavar=row.metavar, help=text, default=argparse.SUPPRESS
        )
        return
    off = "--no-" + row.flags[-1].removeprefix("--")
    for flags, value, shown in ((row.flags, "yes", text), ((off,), "no", argparse.SUPPRESS)):
        built.add_argument(
            *flags, dest=row.name, action="store_const", const=value, help=shown, default=argparse.SUPPRESS
        )


def synopsis(verb: str) -> str:
    """The verb with its arguments: `verify BEFORE AFTER`."""
    words = (f"[{word}]" if VERBS[verb].optional else word for word in VERBS[verb].args)
    return " ".join((verb, *words))


def overview() -> str:
    """The help of `pkghook` without a verb."""
    lines = "".join(f"  {synopsis(name):22} {verb.help}\n" for name, verb in VERBS.items())
    return (
        f"usage: pkghook VERB [ARGUMENT...] [OPTION...]\n\n{lines}\n"
        f"pkghook VERB --help has the options of a verb; pkghook --version the version\n\n{STATUS_HELP}\n"
    )


def _unknown_verb(verb: str) -> PkghookError:
    import difflib

    from pkghook.errors import UsageError

    near = difflib.get_close_matches(verb, VERBS, 1)
    if verb.startswith("-"):
        return UsageError(
            f"{verb} stands before the verb", hint="options come behind it: pkghook VERB [ARGUMENT...] [OPTION...]"
        )
    return UsageError(
        f"there is no verb {verb!r}",
        hint=f"did you mean `pkghook {near[0]}`?" if near else "`pkghook --help` lists them",
    )


# --- the error boundary ----------------------------------------------------------------------------------------------


def explain_error(error: Exception, *, with_traceback: bool) -> int:
    """Say on stderr what an exception means and what can be done; its exit status."""
    if isinstance(error, MemoryError):  # before anything is imported, which takes memory
        return _no_memory(error, with_traceback=with_traceback)
    from pkghook.errors import Interrupted, PkghookError

    if isinstance(error, Interrupted):
        return _say(error.message, error.exit_status)
    if isinstance(error, PkghookError):
        return _say(f"error: {error.message}", error.exit_status, hint=error.hint)
    if isinstance(error, BrokenPipeError) and _reader_gone():
        return 2
    if with_traceback:
        _print_traceback(error)
    if isinstance(error, OSError) and error.strerror:
        name = error.filename if isinstance(error.filename, str) else ""
        return _say(f"error: {name}{': ' if name else ''}{error.strerror}", 2)
    what = f"{type(error).__name__}: {error}".rstrip(": ")
    hint = "please report it; " + ("the traceback is above" if with_traceback else "--debug shows the traceback")
    return _say(f"error: a bug of pkghook itself ({what})", 2, hint=hint)


def _no_memory(error: MemoryError, *, with_traceback: bool) -> int:
    if with_traceback:
        _print_traceback(error)
    error.__traceback__ = error.__context__ = None  # nor what the functions on the way held: a word takes memory too
    _write_err("pkghook: error: out of memory\nhint: fewer modules at a time: -j 1\n")
    return 2


def _say(message: str, status: int, *, hint: str = "") -> int:
    """Message and hint on stderr, safe for a terminal, further lines of a message indented by their writer."""
    from pkghook.report import printable

    lines = [f"pkghook: {message}"] + ([f"hint: {hint}"] if hint else [])
    safe = "\n".join(printable(line) for text in lines for line in text.split("\n"))
    _write_err(safe + "\n")
    return status


def _write_err(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, AttributeError):  # stderr is closed, or there is none: the exit status must say it all
        return


def _print_traceback(error: Exception) -> None:
    import traceback

    _write_err("".join(traceback.format_exception(error)))


def _reader_gone() -> bool:
    """Whether whoever read our output has gone, so that not a word more is wanted.

    The status is still not 0: what we found was told to nobody.
    """
    import select

    poll = select.poll()
    for fd in (1, 2):
        poll.register(fd, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _let_go() -> None:
    """Drop output that cannot be written: the interpreter would try again at its end and change the status."""
    import os

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), stream.fileno())


def _open_standard_streams() -> None:
    """Give a process that was started with stdin, stdout or stderr closed /dev/null in their place.

    Else the next file opened would get that number, and a message or a tool's output would go into it.
    """
    import os

    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number: that of this stream
            setattr(sys, name, os.fdopen(opened, mode, encoding="utf-8"))


def _wants_traceback(args: Sequence[str]) -> bool:
    """Whether --debug or PKGHOOK_DEBUG asks for it; looked up by hand, since settings may be what failed."""
    import os

    environ: Mapping[str, str] = os.environ
    return "--debug" in args or environ.get("PKGHOOK_DEBUG", "").lower() in {"1", "yes", "true", "on"}
