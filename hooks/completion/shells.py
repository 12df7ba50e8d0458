#!/usr/bin/env python3
"""hooks/completion/shells.py DIR: write completions for bash (DIR/pkghook) and zsh (DIR/_pkghook).

Verbs, options and their values come from the tables that pkghook itself runs by. Both packagings, hooks/deb and
hooks/rpm, call this while they build. Standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pkghook.chain.steps import NAMED, STEPS
from pkghook.cli import VERBS
from pkghook.findings import registry
from pkghook.report import REPORTS
from pkghook.settings import Row, rows

LISTS = ("symbols.safe", "symbols.2009")  # what --strip-symbols knows by name


def words(row: Row) -> tuple[str, ...]:
    """The values of an option that can be listed."""
    known = {"chain": (*STEPS, *NAMED), "strip_symbols": LISTS, "format": tuple(REPORTS)}
    choices = tuple(row.metavar.split("|")) if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", row.metavar) else ()
    return known.get(row.name, choices)


def flags(row: Row) -> tuple[str, ...]:
    """All spellings of an option; a switch can be turned off too."""
    return row.flags if row.metavar else (*row.flags, f"--no-{row.flags[-1].removeprefix('--')}")


def argument(verb: str) -> str:
    """What the positional arguments of a verb are: names that can be listed, "" for files, "-" for none."""
    if verb == "explain":
        return " ".join(registry())
    return "" if VERBS[verb].args else "-"


# --- bash ------------------------------------------------------------------------------------------------------------

BASH = """\
# bash completion for pkghook(1); made by hooks/completion/shells.py

_pkghook()
{{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} verb=${{COMP_WORDS[1]}}
    local options= arguments=
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        [[ $cur == -* ]] && options='--help --version' || options='{verbs}'
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $prev in
{values}    esac
    case $verb in
{cases}        *) return ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options --help" -- "$cur"))
    elif [[ $arguments == "" ]]; then
        compopt -o filenames
        local IFS=$'\\n'
        COMPREPLY=($(compgen -f -- "$cur"))
    elif [[ $arguments != - ]]; then
        COMPREPLY=($(compgen -W "$arguments" -- "$cur"))
    fi
}} &&
    complete -F _pkghook pkghook
"""
BASH_CHAIN = """\
            # steps with commas between them: what stands before the last one stays
            local done=
            [[ $cur == *,* ]] && done=${{cur%,*}},
            COMPREPLY=($(compgen -P "$done" -W "{words}" -- "${{cur##*,}}"))
            compopt -o nospace
"""


def bash() -> str:
    """The whole file."""
    cases = "".join(
        f"        {verb})\n            options='{' '.join(flag for row in rows(verb) for flag in flags(row))}'\n"
        f"            arguments='{argument(verb)}'\n            ;;\n"
        for verb in VERBS
    )
    values = "".join(map(bash_value, (row for row in rows() if row.metavar)))
    return BASH.format(verbs=" ".join(VERBS), values=values, cases=cases)


def bash_value(row: Row) -> str:
    """What may stand behind an option that takes a value."""
    listed = " ".join(words(row))
    body = f'            COMPREPLY=($(compgen -W "{listed}" -- "$cur"))\n' if listed else ""
    if row.name == "chain":
        body = BASH_CHAIN.format(words=listed)
    if row.metavar in {"FILE", "DIR"}:
        kind = "-d" if row.metavar == "DIR" else "-f"
        body += "            compopt -o filenames\n            local IFS=$'\\n'\n"
        body += f'            COMPREPLY+=($(compgen {kind} -- "$cur"))\n'
    return f"        {' | '.join(row.flags)})\n{body}            return\n            ;;\n"


# --- zsh -------------------------------------------------------------------------------------------------------------

ZSH = """\
#compdef pkghook
# zsh completion for pkghook(1); made by hooks/completion/shells.py

_pkghook() {{
    local context state state_descr line
    typeset -A opt_args
    _arguments -C '(- *)--help[list the verbs]' '(- *)--version[print the version]' '1:verb:->verb' '*::argument:->rest'
    case $state in
        verb)
            local -a verbs=(
{verbs}            )
            _describe verb verbs
            ;;
        rest)
            case $words[1] in
{cases}            esac
            ;;
    esac
}}

_pkghook "$@"
"""


def zsh() -> str:
    """The whole file."""
    verbs = "".join(f"                {quoted(f'{verb}:{row.help}')}\n" for verb, row in VERBS.items())
    return ZSH.format(verbs=verbs, cases="".join(map(zsh_verb, VERBS)))


def quoted(words: str) -> str:
    """One word of the shell."""
    return "'" + words.replace("'", "'\\''") + "'"


def zsh_verb(verb: str) -> str:
    """The options and arguments of a verb."""
    specs = [spec for row in rows(verb) for spec in zsh_option(row)]
    listed = argument(verb)
    if listed != "-":
        specs.append(quoted(f"*:argument:({listed})" if listed else "*:file:_files"))
    lines = " \\\n".join(f"                        {spec}" for spec in specs)
    return f"                {verb})\n                    _arguments \\\n{lines}\n                    ;;\n"


def zsh_option(row: Row) -> list[str]:
    """A spec for each spelling of an option."""
    help = re.sub(r"([\[\]:])", r"\\\1", row.help).replace("`", "")
    if not row.metavar:
        return [quoted(f"{flag}[{'do not: ' * flag.startswith('--no-')}{help}]") for flag in flags(row)]
    many = "*" if row.many else ""
    return [quoted(f"{many}{flag}[{help}]:{row.metavar.replace(':', '')}:{zsh_value(row)}") for flag in row.flags]


def zsh_value(row: Row) -> str:
    """The action that completes an option's value."""
    listed = " ".join(words(row))
    if row.name == "chain":
        return f"_sequence compadd - {listed}"
    if row.metavar == "FILE":
        return f"{{compadd - {listed}; _files}}" if listed else "_files"
    if row.metavar == "DIR":
        return "_files -/"
    return f"({listed})" if listed else " "


def main() -> int:
    """Write both files; exit status 2 for a wrong call."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: hooks/completion/shells.py DIR\n")
        return 2
    for name, make in (("pkghook", bash), ("_pkghook", zsh)):
        (Path(sys.argv[1]) / name).write_text(make(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
