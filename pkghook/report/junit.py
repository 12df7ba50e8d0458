"""The report as JUnit XML, which continuous integration shows as tests: one case a module.

A finding that closes the gate is a failure of its module, a module that is kept as it is on purpose is skipped, all
else that was found stands in `system-out`.  What is not about one module has a case of its own, in the suite `pkghook`.
There are no times in it: they would differ from run to run.  Every name is made printable, which leaves no character
that XML 1.0 has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.findings import registry
from pkghook.model import Entry, State
from pkghook.report import base_name, placeless, printable, sentence
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.findings import Finding
    from pkghook.model import Looked
    from pkghook.report import Style
    from pkghook.report.facts import Run, Verdict

_MARKS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class Case(NamedTuple):
    """One test case."""

    suite: str
    name: str
    failures: Sequence[Finding] = ()
    notes: Sequence[Finding] = ()
    skipped: str = ""  # why


def render(run: Run, verdict: Verdict, style: Style) -> str:
    """The document, ending with a newline."""
    suites: dict[str, list[Case]] = {}
    for case in _cases(run, verdict, style):
        suites.setdefault(case.suite, []).append(case)
    every = [case for cases in suites.values() for case in cases]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f"<testsuites{_attributes(name='pkghook', **_counts(every))}>"]
    for name, cases in suites.items():
        lines.append(f"  <testsuite{_attributes(name=name, **_counts(cases))}>")
        lines += [line for case in cases for line in _lines(case)]
        lines.append("  </testsuite>")
    return "\n".join([*lines, "</testsuites>", ""])


def _cases(run: Run, verdict: Verdict, style: Style) -> Iterator[Case]:
    """What is not about a module first, then the modules in their order."""
    by_subject: dict[str, list[Finding]] = {}
    for found in verdict.findings:
        by_subject.setdefault(found.subject, []).append(found)
    modules = {name for entry in run.entries for name in (entry.path, *entry.names)}
    for subject, findings in by_subject.items():
        if subject not in modules:
            yield _case("pkghook", base_name(subject) or run.mode, findings, "", style)
    for entry in run.entries:
        named = (found for name in (entry.path, *entry.names) for found in by_subject.get(name, ()))
        findings = [found for found in named if _seen_in(found, entry)]
        yield _case(_suite(entry), base_name(entry.path), findings, _kept(entry), style)


def _seen_in(found: Finding, entry: Entry | Looked) -> bool:
    """Whether a finding is about this module and not one of the same path in another package."""
    places = [place for key, place in found.evidence if key == "in"]
    return isinstance(entry, Entry) or not places or entry.source in places


def _suite(entry: Entry | Looked) -> str:
    """The package or directory and the kernel."""
    source = "" if isinstance(entry, Entry) else entry.source
    return " ".join(filter(None, (base_name(source), entry.kernel))) or "modules"


def _kept(entry: Entry | Looked) -> str:
    if isinstance(entry, Entry):
        return entry.reason if entry.state is State.KEPT else ""
    return entry.kept


def _case(suite: str, name: str, findings: Iterable[Finding], kept: str, style: Style) -> Case:
    told = [placeless(found) for found in findings]
    failures = [found for found in told if found.severity >= style.fail_on]
    return Case(suite, name, failures, [found for found in told if found.severity < style.fail_on], kept)


def _counts(cases: Sequence[Case]) -> dict[str, str]:
    failed = sum(bool(case.failures) for case in cases)
    skipped = sum(bool(case.skipped and not case.failures) for case in cases)
    return {"tests": str(len(cases)), "failures": str(failed), "errors": "0", "skipped": str(skipped)}


def _lines(case: Case) -> Iterator[str]:
    opened = f"    <testcase{_attributes(classname=case.suite, name=case.name)}"
    if not (case.failures or case.notes or case.skipped):
        yield f"{opened}/>"
        return
    yield f"{opened}>"
    if case.skipped and not case.failures:
        yield f"      <skipped{_attributes(message=case.skipped)}/>"
    for found in case.failures:
        told = _attributes(type=found.id, message=sentence(found))
        yield f"      <failure{told}>{_text(_explained(found))}</failure>"
    if case.notes:
        notes = "\n".join(f"{found.severity}: {sentence(found)} [{printable(found.id)}]" for found in case.notes)
        yield f"      <system-out>{_text(notes)}</system-out>"
    yield "    </testcase>"


def _explained(found: Finding) -> str:
    """What a person needs to read, in lines that are printable each."""
    hint = f"\nhint: {registry()[found.id].hint}" if found.id in registry() else ""
    return f"{found.severity}: {printable(found.subject)}: {sentence(found)} [{printable(found.id)}]{hint}"


def _attributes(**values: str) -> str:
    return "".join(f' {name}="{_text(printable(value))}"' for name, value in values.items())


def _text(text: str) -> str:
    for mark, escaped in _MARKS.items():
        text = text.replace(mark, escaped)
    return text
