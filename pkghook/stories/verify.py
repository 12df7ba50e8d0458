"""`pkghook verify BEFORE AFTER`: whether two files, or trees, are the same modules to the kernel's loader.

The question is the loader's alone: debug information, a split-off debug file's .gnu_debuglink and the signature
trailer are no differences, and either side may be the stripped one.  Compressed and signed modules are unwrapped
first.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

from pkghook import __version__, report
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, InputError, MissingDependencyError, ModuleError, UsageError
from pkghook.findings import Finding, Severity, make
from pkghook.judge.policy import weighed
from pkghook.judge.verdict import Verdict
from pkghook.ko import codec, signature, symbols
from pkghook.ko.elf import parse
from pkghook.ko.file import load
from pkghook.ko.plan import Drop, plan
from pkghook.ko.prove import prove
from pkghook.model import Looked
from pkghook.report import as_json, text
from pkghook.sources.tree import Tree
from pkghook.stories.crowd import lost_module, through_workers
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from pkghook.judge.receipt import Override
    from pkghook.ko.elf import Elf
    from pkghook.ko.file import ModuleFile
    from pkghook.settings import Settings
    from pkghook.sources import Found, Walk

SIDES = ("before", "after")
MODULES = "/lib/modules/"
MAX_FAULTS = 8  # of one module; the first says enough
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FORMAT, VERSION = "pkghook comparison", 1


class Twins(NamedTuple):
    """Two modules that should be one. `name` is the path that both have below lib/modules."""

    name: str
    before: Found
    after: Found


class Answer(NamedTuple):
    """What was found about one pair. If it is not the same, the findings say why."""

    same: bool
    unstripped: tuple[bool, bool] = (False, False)
    signed_alike: bool = True
    findings: tuple[Finding, ...] = ()
    path: str = ""  # of the second


class Comparison(NamedTuple):
    """The whole result; numbers are (before, after)."""

    answers: tuple[Answer, ...]
    findings: tuple[Finding, ...]  # all there are, most severe first
    modules: tuple[int, int]
    left_out: tuple[int, int] = (0, 0)  # modules of debug trees that lie beside others

    @property
    def same(self) -> int:
        """How many pairs are the same."""
        return sum(answer.same for answer in self.answers)

    @property
    def unstripped(self) -> list[int]:
        """How many modules of the pairs have debug information."""
        return [sum(answer.unstripped[side] for answer in self.answers) for side in (0, 1)]

    @property
    def signatures_differ(self) -> int:
        """How many pairs are not signed alike."""
        return sum(not answer.signed_alike for answer in self.answers)


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Compare args[0] with args[1]. Exit status 0, or 1 if they are not the same modules.

    With --strip-symbols or --discard-labels the second may lack those symbols.
    """
    drop = Drop(symbols.load(settings.strip_symbols) if settings.strip_symbols else None, settings.discard_labels)
    trees = [path for path in args if os.path.isdir(path)]
    if len(trees) == 1:
        raise UsageError(f"{trees[0]} is a directory and the other is none", hint="compare two files, or two trees")
    found = compare_trees(args, drop, settings, err) if trees else compare_files(args, drop, settings)
    return _tell(args, found, settings, out)


# --- one pair --------------------------------------------------------------------------------------------------------


def judge(files: Sequence[tuple[int, str]], drop: Drop, limit: int) -> Answer:
    """Two open files (descriptor and path), before and after. What is wrong with one is in the answer, never raised."""
    loaded: list[tuple[ModuleFile, Elf, bool]] = []
    for side, (fd, path) in zip(SIDES, files, strict=True):
        try:
            loaded.append(_read(fd, os.path.basename(path), limit))
        except ModuleError as error:
            return _unsound(error.finding(path), side)
        except MissingDependencyError as error:
            return _unsound(make("missing-dependency", path, needs=error.message), side)
    (before, old, old_debug), (after, new, new_debug) = loaded
    subject = files[1][1]
    faults = prove(old, new, drop, debuglink=True, stripped=False)
    findings = [make(fault.id, subject, **dict(fault.evidence)) for fault in faults[:MAX_FAULTS]]
    alike = before.trailer == after.trailer
    if not alike:
        findings.append(make("signature-differs", subject, before=_signature(before), after=_signature(after)))
    return Answer(not faults, (old_debug, new_debug), alike, tuple(findings))


def _read(fd: int, name: str, limit: int) -> tuple[ModuleFile, Elf, bool]:
    """The file, the module in it, and whether it has debug information. ModuleError unless all of it is sound."""
    file = load(fd, name, limit=limit)
    elf = parse(file.image)
    try:
        return file, elf, plan(elf).unstripped
    except ModuleError as error:
        if error.id != "proof-impossible":  # it cannot be stripped, but the loader can read it
            raise
    return file, elf, True


def _signature(file: ModuleFile) -> str:
    return signature.describe(file.signature) if file.signature else "none"


def _unsound(finding: Finding, side: str) -> Answer:
    return Answer(same=False, findings=(_of(side, finding),))


def _weighed(answer: Answer, settings: Settings) -> list[Finding]:
    """The findings as the user weighs them; what tells two modules apart is not lowered."""
    return [weighed(settings.severity, finding, lower=answer.same) for finding in answer.findings]


def _of(side: str, finding: Finding) -> Finding:
    """The finding with the side that it is about in front of its evidence."""
    return finding._replace(evidence=(("of", side), *finding.evidence))


# --- two files -------------------------------------------------------------------------------------------------------


def compare_files(args: tuple[str, ...], drop: Drop, settings: Settings) -> Comparison:
    """Two module files. Raises InputError for one that cannot be opened."""
    with ExitStack() as stack:
        answer = judge([(_open(path, stack), path) for path in args], drop, settings.max_module_size)
    answer = answer._replace(path=args[1])
    return Comparison((answer,), _in_order(_weighed(answer, settings)), (1, 1))


def _open(path: str, stack: ExitStack) -> int:
    try:
        fd = os.open(path, OPEN)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    stack.callback(os.close, fd)
    return fd


# --- two trees -------------------------------------------------------------------------------------------------------


def compare_trees(args: tuple[str, ...], drop: Drop, settings: Settings, err: TextIO) -> Comparison:
    """All modules of two trees, each with the one that has the same path below lib/modules.

    Modules of a debug tree count where there are no others.  Raises InputError for a tree that cannot be
    opened, and where neither has a module.
    """
    with Tree(args[0]) as before, Tree(args[1]) as after:
        walks = before.walk(), after.walk()
        sides = [_by_name(root, walk) for root, walk in zip(args, walks, strict=True)]
        if not any(sides):
            raise InputError(f"no modules below {args[0]} and {args[1]}", hint="give the directories that hold them")
        pairs, findings = pair(*sides)
        answers = _judge_all((before, after), pairs, drop, settings, err)
    findings += [_of(side, finding) for side, walk in zip(SIDES, walks, strict=True) for finding in walk.findings]
    findings = [weighed(settings.severity, finding) for finding in findings]
    findings += [finding for answer in answers for finding in _weighed(answer, settings)]
    kept = [len(walk.kept) if walk.modules else 0 for walk in walks]
    return Comparison(tuple(answers), _in_order(findings), (len(sides[0]), len(sides[1])), (kept[0], kept[1]))


Names = dict[tuple[str, str], "Found"]  # by path below lib/modules ("" if it lies in none), and below the root


def _by_name(root: str, walk: Walk) -> Names:
    """Every module of a tree under each of its names."""
    place = os.path.realpath(root).rstrip("/")
    found: Names = {}
    for module in walk.modules or walk.kept:
        for path in (module.path, *module.names):
            found[_below_modules(place, path), path] = module._replace(path=path)
    return found


def _below_modules(root: str, path: str) -> str:
    if MODULES in f"/{path}":
        return f"/{path}".partition(MODULES)[2]
    return f"{root}/{path}".rpartition(MODULES)[2] if MODULES in f"{root}/" else ""


def pair(before: Names, after: Names) -> tuple[list[Twins], list[Finding]]:
    """The modules of two trees by name, and a finding for each that is alone.

    The name is the path below lib/modules, wherever that lies in the tree; where no name of that kind is common
    to both, the path below the root.  A compression's suffix is no part of it.
    """
    named = _named(before, 0), _named(after, 0)
    if named[0].keys().isdisjoint(named[1]):
        named = _named(before, 1), _named(after, 1)
    old, new = named
    twins = [Twins(name, old[name], new[name]) for name in sorted(old.keys() & new.keys())]
    alone = [make("only-before", old[name].path) for name in sorted(old.keys() - new.keys())]
    return twins, alone + [make("only-after", new[name].path) for name in sorted(new.keys() - old.keys())]


def _named(names: Names, kind: int) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for key, module in sorted(names.items()):
        name = key[kind] or key[1]
        plain = name.removesuffix(codec_suffix(name))
        # x.ko and x.ko.xz in one directory are two modules
        found[name if plain in found else plain] = module
    return found


def codec_suffix(name: str) -> str:
    """The suffix of a compression behind `.ko`, "" without one."""
    how = codec.by_name(name)
    return how.suffix if how else ""


def _judge_all(
    trees: tuple[Tree, Tree], pairs: list[Twins], drop: Drop, settings: Settings, err: TextIO
) -> list[Answer]:
    """Every pair through the workers, the largest first, so that no late one is waited for alone."""
    tasks = sorted(pairs, key=lambda twins: (-twins.before.size - twins.after.size, twins.name))
    return through_workers(
        tasks,
        lambda twins: judge_twins(trees, twins, drop, settings.max_module_size)._replace(path=twins.after.path),
        lambda twins: twins.before.size,
        lambda twins, why: Answer(
            same=False, findings=(lost_module(twins.after.path, why, settings, err),), path=twins.after.path
        ),
        settings,
        err,
    )


def judge_twins(trees: tuple[Tree, Tree], twins: Twins, drop: Drop, limit: int) -> Answer:
    """The two modules of one name. What is wrong with one is in the answer, never raised."""
    with ExitStack() as stack:
        files = []
        for side, tree, found in zip(SIDES, trees, (twins.before, twins.after), strict=True):
            try:
                fd = tree.open(found).fd
            except ModuleError as error:
                return _unsound(error.finding(found.path), side)
            stack.callback(os.close, fd)
            files.append((fd, found.path))
        return judge(files, drop, limit)


# --- the report ------------------------------------------------------------------------------------------------------


def _in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda finding: (-finding.severity, finding.subject)))


def _tell(args: tuple[str, ...], found: Comparison, settings: Settings, out: TextIO) -> int:
    passed = all(finding.severity < settings.fail_on for finding in found.findings)
    if settings.format == "json":
        out.write(render_json(args, found, passed=passed))
    elif settings.format != "text":
        style = report.style_for(settings, out, os.environ)
        out.write(report.REPORTS[settings.format](_as_run(found), Verdict(passed, found.findings), style))
    else:
        out.writelines(f"{line}\n" for line in render(found, settings, out))
    return EXIT_CLEAN if passed else EXIT_FINDINGS


class Told(NamedTuple):
    """The comparison as the reports take it: `report.facts.Run`."""

    entries: tuple[Looked, ...]
    pkghook: str = __version__
    mode: str = "verify"
    settings: tuple[tuple[str, str], ...] = ()
    overrides: tuple[Override, ...] = ()


def _as_run(found: Comparison) -> Told:
    return Told(tuple(Looked(path, "") for path in sorted(answer.path for answer in found.answers)))


def render(found: Comparison, settings: Settings, out: TextIO) -> Iterator[str]:
    """The lines for people: findings, and one line that sums up. What is normal is told with -v only."""
    lowest = settings.fail_on if settings.quiet else None
    if not settings.quiet and not settings.verbose and len(found.answers) > 1:
        lowest = min(settings.fail_on, Severity.WARNING)
    shown = [finding for finding in found.findings if lowest is None or finding.severity >= lowest]
    yield from text.finding_lines(shown, report.style_for(settings, out, os.environ))
    if not settings.quiet:
        yield _summary(found)


def _summary(found: Comparison) -> str:
    total = max(found.modules)
    parts = [f"{found.same} of {total} the same module to the loader"]
    if any(found.unstripped):
        parts.append("with debug information: {} before, {} after".format(*found.unstripped))
    if found.signatures_differ:
        parts.append(f"signatures differ: {found.signatures_differ}")
    if any(found.left_out):
        parts.append("of debug trees, left out: {} before, {} after".format(*found.left_out))
    return "; ".join(parts)


def render_json(args: tuple[str, ...], found: Comparison, *, passed: bool) -> str:
    """The comparison for programs, as one JSON document of pure ASCII."""
    from pkghook import fields

    members = {
        "format": FORMAT,
        "version": VERSION,
        "passed": passed,
        **dict(zip(SIDES, args, strict=True)),
        "modules": dict(zip(SIDES, found.modules, strict=True)),
        "pairs": len(found.answers),
        "same": found.same,
        "unstripped": dict(zip(SIDES, found.unstripped, strict=True)),
        "signatures_differ": found.signatures_differ,
        "left_out": dict(zip(SIDES, found.left_out, strict=True)),
        "findings": [as_json.explained(finding) for finding in found.findings],
    }
    return fields.layout(members).decode("ascii")
