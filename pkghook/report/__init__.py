"""Reports: pure functions from what a run did or saw (a receipt or a survey) and the verdict on it to text.

To add a form, add a module with `render(run, verdict, style) -> str` and a row to `REPORTS`.
What a report needs of its two values is said in `facts`, since `judge` is another wing; what receipt and survey
have in common is `facts.Run`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from pkghook.findings import Severity, registry
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from pkghook.findings import Finding
    from pkghook.report.facts import Run, Verdict
    from pkghook.settings import Settings


class Style(NamedTuple):
    """How a report for people looks."""

    colour: bool = False
    quiet: bool = False
    verbose: bool = False
    fail_on: Severity = Severity.ERROR


class Report(NamedTuple):
    """One row of the table: the module that renders, imported when it is used."""

    module: str

    def __call__(self, run: Run, verdict: Verdict, style: Style) -> str:
        """The report; ends with a newline unless it is empty."""
        text: str = import_module(self.module).render(run, verdict, style)
        return text


REPORTS: Final = {
    "text": Report("pkghook.report.text"),
    "json": Report("pkghook.report.as_json"),
    "junit": Report("pkghook.report.junit"),
    "sarif": Report("pkghook.report.sarif"),
}
PLACES: Final = frozenset({"in", "package"})  # evidence that is a PATH as the user named it
TABLES: Final = ("explain", "tools")  # verbs that tell what there is and judge nothing: as text or JSON


def forms(verb: str) -> tuple[str, ...]:
    """The forms in which a verb can tell what it has to say."""
    return ("text", "json") if verb in TABLES else tuple(REPORTS)


def style_for(settings: Settings, stream: TextIO, environ: Mapping[str, str]) -> Style:
    """The style for a stream: colour on a terminal only, and never where NO_COLOR is set and not empty."""
    colour = stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Style(colour, settings.quiet, settings.verbose, settings.fail_on)


def sentence(found: Finding) -> str:
    """What a finding says, but for its subject: `title (key: value; key: value)`, printable."""
    title = registry()[found.id].title if found.id in registry() else printable(found.id)
    evidence = "; ".join(f"{key}: {printable(str(value))}" for key, value in found.evidence)
    return f"{title} ({evidence})" if evidence else title


def placeless(found: Finding) -> Finding:
    """The finding without directories of this machine: its subject, and what it has seen the subject in."""
    evidence = tuple((key, base_name(str(value)) if key in PLACES else value) for key, value in found.evidence)
    return found._replace(subject=base_name(found.subject), evidence=evidence)


def base_name(path: str) -> str:
    """A relative path as it is, of an absolute one the last part: where things lie on this machine tells nothing."""
    return path.rstrip("/").rpartition("/")[2] if path.startswith("/") else path


def printable(text: str) -> str:
    """`text` without anything that a terminal would act on, or that cannot be encoded.

    Names in a tree are chosen by others.  What is not printable (controls, escape sequences, direction
    marks, lone surrogates) becomes a backslash escape; a byte that was no UTF-8 is shown as that byte.
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(char: str) -> str:
    if char.isprintable():
        return char
    if "\udc80" <= char <= "\udcff":  # surrogateescape: the byte behind it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
