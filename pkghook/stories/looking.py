"""What lies at a PATH: a package, a tree or a single module; every module in it looked at, nothing changed."""

from __future__ import annotations

import os
import re
import stat
from functools import partial
from typing import TYPE_CHECKING

from pkghook.errors import InputError, ModuleError
from pkghook.findings import Finding, make
from pkghook.ko.file import FdImage
from pkghook.ko.look import look_at_fd, look_at_image
from pkghook.ko.stranger import Stranger, is_text
from pkghook.model import MODULES, Looked, PackageFacts
from pkghook.report import progress
from pkghook.sources import builtin, packages
from pkghook.sources.dirs import split
from pkghook.sources.refusals import kind
from pkghook.sources.tree import Tree
from pkghook.stories.belt import Belt
from pkghook.stories.crowd import lost_module, through_workers
from pkghook.stories.passing import DEBUG_TREE, Pass, closed, hidden, kernel_of
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

    from pkghook.ko.look import Ask
    from pkghook.settings import Settings
    from pkghook.sources import Found, Walk

DEBUG_PACKAGE = re.compile(r"-(dbg|dbgsym|debuginfo)(-|$)")
OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
HEAD = 8  # bytes of a file that tell the form of a package
PACKAGES = (".rpm", ".deb", ".ddeb", ".udeb")  # names; only of an empty file do they count
HINT = "give a package (.rpm, .deb, .ddeb, .udeb), a directory or a module"


class Sight(NamedTuple):
    """One PATH as it was seen."""

    facts: PackageFacts
    entries: tuple[Looked, ...]
    findings: tuple[Finding, ...] = ()  # about all of it; those about one module are in its entry
    others: tuple[tuple[str, int], ...] = ()  # ELF files that are no modules: path and size
    builtin: Mapping[str, frozenset[str]] = {}  # names of modules that the kernel image contains, by kernel


def look_at(path: str, ask: Ask, settings: Settings, err: TextIO) -> Sight:
    """All there is at `path`. Raises InputError for what is none of the three, or cannot be read to its end."""
    if os.path.isdir(path):
        return _tree(path, ask, settings, err)
    try:
        fd = os.open(path, OPEN)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint=HINT) from error
    try:
        _must_be_file(path, os.fstat(fd))
        is_package = packages.form_of(os.pread(fd, HEAD, 0))
        return _package(path, ask, settings, err) if is_package else _module(fd, path, ask)
    finally:
        os.close(fd)


def _must_be_file(path: str, status: os.stat_result) -> None:
    """Raises InputError for what has nothing to be looked at: a package that is empty is no stripped module."""
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: a {kind(status.st_mode)} is neither a package nor a module", hint=HINT)
    if not status.st_size and path.endswith(PACKAGES):
        raise InputError(f"{path}: the file is empty, which no package is", hint="build or copy the package again")


# --- a package -------------------------------------------------------------------------------------------------------


def _package(path: str, ask: Ask, settings: Settings, err: TextIO) -> Sight:
    with packages.open_package(path) as package, Belt(ask, settings, err) as belt:
        is_debug = DEBUG_PACKAGE.search(package.facts.name) is not None
        course = Pass(path, ask, belt, include_debug=settings.include_debug, debug_package=is_debug)
        bar = progress.make(err, settings.quiet, verbose=settings.verbose)
        bar.start(0, package.facts.installed_size or package.facts.file_size)  # how many there are shows at the end
        try:
            for member, reader in package.members(belt.digest):
                course.take(member, reader)
                bar.advance(member.size, modules=member.kind == "file" and member.path.endswith(MODULES))
            course.finish()
        finally:
            bar.stop()
        facts = package.facts
        entries = course.entries()
        findings = (*package.findings, *course.findings(), *_sizes_differ(facts))
    return Sight(facts, entries, findings, tuple(course.others), course.builtin)


def _sizes_differ(facts: PackageFacts) -> Iterator[Finding]:
    declared = facts.installed_size
    if declared is not None and not 0 <= declared - facts.counted_size <= facts.uncertain_size:
        yield make("installed-size", facts.path, declared=declared, counted=facts.counted_size)


# --- a tree ----------------------------------------------------------------------------------------------------------


def _tree(path: str, ask: Ask, settings: Settings, err: TextIO) -> Sight:
    with Tree(path) as tree:
        walk = tree.walk(settings.include_debug)
        entries = [
            *_look_at_all(tree, walk, ask, settings, err),
            *(_blank(found)._replace(kept=DEBUG_TREE) for found in walk.kept),
        ]
        findings = list(walk.findings)
        findings += [make("scratch-left", leftover) for leftover in walk.leftovers]
        others = dict(walk.others)
        inside: dict[str, frozenset[str]] = {}
        for where, fd in tree.strangers(walk, findings.append, include_debug=settings.include_debug):
            if ask.interface and split(where)[1] == builtin.NAME:
                inside[kernel_of(where)] = builtin.names(os.pread(fd, builtin.MAX_BYTES, 0))
            entry, finding = _stranger(where, fd, ask)
            entries += [entry] if entry else []
            findings += [finding] if finding else []
    size = sum(entry.file_size for entry in entries)
    facts = PackageFacts(path, "tree", counted_size=size, members=len(entries))
    return Sight(facts, tuple(entries), tuple(findings), tuple(others.items()), inside)


def _look_at_all(tree: Tree, walk: Walk, ask: Ask, settings: Settings, err: TextIO) -> list[Looked]:
    """Every module through the workers, the largest first, so that no late one is waited for alone."""
    tasks = sorted(walk.modules, key=lambda found: (-found.size, found.path))
    every: list[Looked | None] = through_workers(
        tasks,
        partial(_look_in, tree, ask),
        lambda found: found.size,
        lambda found, why: _blank(found)._replace(findings=(lost_module(found.path, why, settings, err),)),
        settings,
        err,
    )
    return [entry for entry in every if entry]


def _look_in(tree: Tree, ask: Ask, found: Found) -> Looked | None:
    """None for what is named like a module, lies beside lib/modules and is a text."""
    try:
        source = tree.open(found)
    except ModuleError as error:
        return _blank(found)._replace(findings=(error.finding(found.path),))
    try:
        if not found.kernel and is_text(FdImage(source.fd, found.size)):
            return None  # README.ko
        return look_at_fd(source.fd, source.name, _blank(found), ask)
    finally:
        os.close(source.fd)


def _blank(found: Found) -> Looked:
    return Looked(found.path, found.kernel, found.names, file_size=found.size)


def _stranger(path: str, fd: int, ask: Ask) -> tuple[Looked | None, Finding | None]:
    """What a file is that the walk passed by: a module all the same, or something to be said of it."""
    size = os.fstat(fd).st_size
    blank = Looked(path, kernel_of(path), file_size=size)
    if path.endswith(MODULES):
        if not blank.kernel and is_text(FdImage(fd, size)):
            return None, None  # README.ko
        return _and(look_at_fd(fd, split(path)[1], blank, ask), hidden(path)), None
    with open(os.dup(fd), "rb", buffering=0) as file:
        found = Stranger(file, size, split(path)[1], ask.limit)
    if found.module:
        return _and(look_at_image(found.module, "", blank, ask), hidden(path)), None
    return None, closed(path, found, size, ask.limit)


def _and(entry: Looked, finding: Finding) -> Looked:
    return entry._replace(findings=(*entry.findings, finding))


# --- a single module -------------------------------------------------------------------------------------------------


def _module(fd: int, path: str, ask: Ask) -> Sight:
    entry = look_at_fd(fd, split(path)[1], Looked(path, "", file_size=os.fstat(fd).st_size), ask)
    if not entry.image_size and "not-elf" in {finding.id for finding in entry.findings}:
        raise InputError(f"{path}: neither a package nor a module", hint=HINT)
    return Sight(PackageFacts(path, "module"), (entry,))
