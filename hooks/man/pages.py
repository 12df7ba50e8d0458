#!/usr/bin/env python3
"""hooks/man/pages.py DIR: write the manual pages pkghook(1), pkghook.toml(5) and pkghook-findings(7) into DIR.

Verbs, options, settings, steps, globs and findings come from the tables that pkghook itself runs by, so a page cannot
say what is not so. Both packagings, hooks/deb and hooks/rpm, call this while they build. Standard library only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pkghook import __version__
from pkghook.chain.steps import DEFAULT_ORDER, NAMED, STEPS
from pkghook.cli import STATUS_HELP, VERBS, synopsis
from pkghook.findings import registry
from pkghook.judge import policy
from pkghook.report import REPORTS
from pkghook.settings import ROWS, Row, default_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SEE_ALSO = ("pkghook(1)", "pkghook.toml(5)", "pkghook-findings(7)", "dh_pkghook(1)", "depmod(8)", "modinfo(8)")


# --- man(7), as roff -------------------------------------------------------------------------------------------------


def text(words: str) -> str:
    """Text as roff shows it: what stands in backticks is bold, nothing in it is a request or an escape."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    lines = (re.sub(r"`([^`]*)`", r"\\fB\1\\fR", line.strip()) for line in escaped.splitlines())
    return "\n".join(f"\\&{line}" if line[:1] in {".", "'"} else line for line in lines)


def bold(words: str) -> str:
    """One or several words as they are typed."""
    return f"\\fB{text(words)}\\fR"


def item(head: str, body: str) -> str:
    """A paragraph with a tag; `head` is roff."""
    return f".TP\n{head}\n{text(body)}\n"


def prose(words: str) -> str:
    """Paragraphs, and lists of lines that begin with `* `."""
    return "".join(map(_paragraph, re.split(r"\n\s*\n", words.strip())))


def _paragraph(words: str) -> str:
    if not words.startswith("* "):
        return f".PP\n{text(words)}\n"
    return "".join(f".IP \\(bu 2\n{text(point)}\n" for point in re.split(r"(?m)^\* ", words)[1:])


def example(*lines: str) -> str:
    """Lines as they stand."""
    return "\n".join((".PP", ".RS 4", ".nf", *map(text, lines), ".fi", ".RE", ""))


def page(name: str, section: int, what: str, parts: Iterable[tuple[str, str]]) -> str:
    """A whole page; `parts` are heading and roff."""
    others = [other for other in SEE_ALSO if other != f"{name}({section})"]
    see = ",\n".join(f".BR {text(other.partition('(')[0])} ({other.partition('(')[2]}" for other in others)
    see = see.replace(",\n", " ,\n")
    head = (
        f'.TH {name.upper()} {section} "" "pkghook {__version__}" "pkghook"\n.SH NAME\n{text(name)} \\- {text(what)}\n'
    )
    return head + "".join(f".SH {title}\n{body}" for title, body in (*parts, ("SEE ALSO", f"{see}\n")))


# --- pkghook(1) ------------------------------------------------------------------------------------------------------

DESCRIPTION = """\
pkghook strips kernel modules while they are packaged, proves that each result is still the same module to the
kernel's loader, and accounts for every byte. A module is replaced only after that proof, whichever tool wrote the
bytes; at any instant its path holds the original bytes or verified ones.

Every module ends a run in exactly one state: `stripped`, `already-stripped`, `kept` (policy said so, with the reason)
or `failed`, and one that failed fails the run. Modules are `.ko`, `.ko.gz`, `.ko.xz` and `.ko.zst` files below
`lib/modules` and `usr/lib/modules` of ROOT, or anywhere below a ROOT that has neither.
"""
CHAIN = """\
Each step of the chain is tried until the result of one is proven; a fall to a later step is recorded with its
reason. `native` works in process: no tool is needed, for modules of any machine. The others run the tool of that name
for the module's own machine (`aarch64-linux-gnu-objcopy`).
"""


def pkghook_1() -> str:
    """The command."""
    return page(
        "pkghook",
        1,
        "strip, verify and account for kernel modules",
        (
            ("SYNOPSIS", "".join(f".B pkghook {text(synopsis(verb))}\n.RI [ OPTION ...]\n.br\n" for verb in VERBS)),
            ("DESCRIPTION", prose(DESCRIPTION)),
            ("COMMANDS", "".join(item(bold(synopsis(verb)), row.help) for verb, row in VERBS.items())),
            ("OPTIONS", "".join(map(option, ROWS)) + prose(SWITCHES)),
            ("THE CHAIN", prose(CHAIN) + "".join(steps())),
            ("EXIT STATUS", prose(STATUS_HELP.removeprefix("exit status: "))),
            ("ENVIRONMENT", prose(ENVIRONMENT)),
            ("FILES", "".join(item(bold(path), what) for path, what in FILES.items())),
            ("EXAMPLES", EXAMPLES),
        ),
    )


SWITCHES = """\
`--no-NAME` turns a switch off. Options may stand before and behind the arguments; `--` ends them.

`pkghook` `VERB` `--help` has the options of one verb, `pkghook --version` the version.
"""
ENVIRONMENT = """\
Every option is also a variable, `PKGHOOK_` and its name in capitals: `PKGHOOK_DRY_RUN=1`, `PKGHOOK_JOBS=2`. The command
line goes before the environment, the environment before `pkghook.toml`. `PKGHOOK_KEEP` takes several entries, one a
line or with `;` between them.

`NO_COLOR` and `TERM` are honoured as usual.
"""
FILES = {
    "./pkghook.toml": "Settings of the directory that pkghook is run in, see `pkghook.toml`(5).",
    "/usr/share/pkghook/keep.d/*.toml": "Keep entries that vendors install, see `pkghook.toml`(5).",
    "/var/lib/pkghook": "What the hooks of an installed system have done.",
}
EXAMPLES = (
    example("pkghook strip debian/foo-modules --receipt foo.json")
    + prose("strips what lies in a package's build directory and writes down what was done.")
    + example("pkghook explain signed-unstripped")
    + prose("tells more of a finding whose id stood in brackets.")
)


def option(row: Row) -> str:
    """One option, with the verbs that know it."""
    value = f" \\fI{text(metavar(row))}\\fR" if metavar(row) else ""
    head = ", ".join(f"{bold(flag)}{value}" for flag in row.flags)
    default = f" Default: `{default_text(row)}`." if default_text(row) else ""
    verbs = f" ({', '.join(row.verbs)})" if row.verbs else ""
    return item(head, f"{sentence(row)}{verbs}{default}")


def metavar(row: Row) -> str:
    """What stands for the value, "" for a switch."""
    return "|".join(REPORTS) if row.name == "format" else row.metavar


def sentence(row: Row) -> str:
    """The help of a row as a sentence."""
    help = re.sub(r"\s*\[default: (.*)\]", r"; by default \1", row.help)
    return f"{help[0].upper()}{help[1:]}."


def steps() -> Iterator[str]:
    """The steps and the chains that have a name."""
    for step in STEPS.values():
        words = " ".join((step.tool, *step.words)) if step.tool else "in process"
        drops = [kind for kind, may_go in step.promise._asdict().items() if may_go]
        also = f"; besides debug information it drops {' and '.join(drops)} that were asked for" if drops else ""
        yield item(bold(step.name), f"{words}{also}.")
    yield prose(f"By default: `{','.join(DEFAULT_ORDER)}`.")
    for name, chain in NAMED.items():
        yield prose(f"`--chain {name}`: `{','.join(chain)}`.")


# --- pkghook.toml(5) -------------------------------------------------------------------------------------------------

TOML = """\
A TOML file with the settings of one project or system. pkghook reads `./pkghook.toml`, if there is one, or the file
that `--config` or `PKGHOOK_CONFIG` names. A setting has the name of its option, `dry-run` for `--dry-run`. The command
line and the environment go before it. An unknown name is an error.
"""
KEEPS = """\
A `[[keep]]` table leaves modules, or one finding about them, alone on purpose. It has the keys `glob`, `reason` (both
needed) and `finding`, an id of `pkghook-findings`(7). Without `finding` the module is left as it is. Each entry that
was used stands in the receipt with its reason; one that matches nothing is a finding. Entries of `--keep`,
`PKGHOOK_KEEP`, this file and the files in `/usr/share/pkghook/keep.d` (or `keep-dir`) all hold together; those files
may have nothing else in them.
"""


def pkghook_toml_5() -> str:
    """The settings file."""
    return page(
        "pkghook.toml",
        5,
        "settings of pkghook",
        (
            ("DESCRIPTION", prose(TOML)),
            ("SETTINGS", "".join(setting(row) for row in ROWS if row.name not in {"config", "keep"})),
            ("KEEP ENTRIES", prose(KEEPS) + prose(globs())),
            ("EXAMPLE", example(*EXAMPLE.splitlines())),
        ),
    )


EXAMPLE = """\
chain = ["native", "objcopy"]
jobs = 4
signed = "keep"

[[keep]]
glob = "lib/modules/*/extra/vendor.ko"
reason = "the vendor's support wants its debug information"

[[keep]]
glob = "old.ko*"
finding = "signed-unstripped"
reason = "signed by the vendor, cannot be built again"
"""


def setting(row: Row) -> str:
    """One setting: its value, what it does, its default and its variable."""
    value = f"\\fI{text(metavar(row))}\\fR" if metavar(row) else "\\fItrue\\fR|\\fIfalse\\fR"
    default = f" Default: `{default_text(row)}`." if default_text(row) else ""
    verbs = f" Of: {', '.join(row.verbs)}." if row.verbs else ""
    return item(f"{bold(row.name.replace('_', '-'))} = {value}", f"{sentence(row)}{default}{verbs} `{row.env}`.")


def globs() -> str:
    """What a glob means, as the code that matches it says."""
    words = (policy.__doc__ or "").partition("\n\n")[2]
    return words.replace("ROOT:\n", "ROOT:\n\n", 1)


# --- pkghook-findings(7) ---------------------------------------------------------------------------------------------

FINDINGS = """\
What pkghook can find, by the id that its messages have in brackets. An id never changes its meaning. A finding whose
severity is `error` fails a run; `--fail-on` sets another bound. `pkghook explain` shows the same texts.
"""


def pkghook_findings_7() -> str:
    """The registry."""
    kinds = registry().values()
    body = "".join(
        f".SS {text(kind.id)}\n"
        + "".join(map(prose, (f"{kind.title} ({kind.severity})", kind.text, f"Hint: {kind.hint}")))
        for kind in kinds
    )
    return page(
        "pkghook-findings",
        7,
        "what pkghook finds in modules and packages",
        (("DESCRIPTION", prose(FINDINGS)), ("FINDINGS", body)),
    )


PAGES = {"pkghook.1": pkghook_1, "pkghook.toml.5": pkghook_toml_5, "pkghook-findings.7": pkghook_findings_7}


def main() -> int:
    """Write all pages; exit status 2 for a wrong call."""
    if len(sys.argv) != 2:
        sys.stderr.write("usage: hooks/man/pages.py DIR\n")
        return 2
    for name, make in PAGES.items():
        (Path(sys.argv[1]) / name).write_text(make(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
