"""`pkghook audit`: every kernel of an installed system, who owns what, what is wasted or broken; --fix strips.

Nothing is changed without --fix, and with it only what no package owns, unless --owned strip asks for more, by the
same course as `strip`.
"""

from __future__ import annotations

import os
from functools import cache, partial
from typing import TYPE_CHECKING

from pkghook import report
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, InputError, ModuleError
from pkghook.findings import Finding, make
from pkghook.judge import policy as policies
from pkghook.judge import survey as surveys
from pkghook.judge import system as systems
from pkghook.judge.remedies import Remedy, remedy
from pkghook.judge.system import Place
from pkghook.ko import pkcs7
from pkghook.ko.debugset import debug_bytes
from pkghook.ko.elf import parse
from pkghook.ko.file import FdImage
from pkghook.ko.look import Ask, look_at_fd
from pkghook.model import Entry, Looked
from pkghook.sources import Found, Walk, installed
from pkghook.sources.tree import Tree
from pkghook.stories import ledger
from pkghook.stories.crowd import in_batches, lost_module
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TextIO

    from pkghook.judge.policy import Policy
    from pkghook.judge.receipt import Pairs
    from pkghook.judge.survey import Survey
    from pkghook.model import Kernel
    from pkghook.settings import Settings
    from pkghook.sources.installed import Installed, Site, System


class Audit(NamedTuple):
    """What an audit works on."""

    tree: Tree
    walk: Walk  # of the kernels asked for
    found: Installed
    kernels: tuple[Kernel, ...]
    policy: Policy
    ask: Ask
    settings: Settings
    err: TextIO


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Look at the system below `settings.root`. Exit status 0, or 1 if the gate is closed."""
    del args
    policy = policies.of(settings)
    site = installed.find(settings.root)
    receipt = ledger.wanted(settings, site.frozen)
    places = _chosen(site, settings.kernel)
    with Tree(settings.root) as tree:
        if settings.fix and not site.frozen:
            tree.lock()
        ask = _ask(settings, site, places)
        walk = _of(tree.walk(), places, site)
        databases = cache(partial(installed.look, site))  # read while the workers look
        seen = _look_all(tree, walk.modules, ask, settings, err, databases)
        found = databases()
        kernels = tuple(kernel for kernel in found.kernels if kernel.path in places)
        audit = Audit(tree, walk, found, kernels, policy, ask, settings, err)
        seen = _owned(found.system, seen)
        known = ledger.read(receipt, tree, walk.modules, found.system)
        fixed, findings = _fix(audit, seen) if settings.fix else ([], [])
        again = {entry.path for entry in fixed}
        if fixed:
            fresh = [found for found in tree.walk().modules if found.path in again]
            seen = [entry for entry in seen if entry.path not in again]
            seen += _owned(found.system, _look_all(tree, fresh, ask, settings, err))
        survey = _survey(audit, seen, [*known.findings, *findings])._replace(fixed=tuple(fixed))
        if receipt:
            ledger.write(receipt, known, fixed, policies.pairs(policy))
    return _tell(survey, policy, settings, out)


def _chosen(site: Site, version: str) -> tuple[str, ...]:
    """Where the kernels lie that are asked for."""
    versions = {place: place.rpartition("/")[2] for place in site.places}
    chosen = tuple(place for place, its in versions.items() if version in ("", its))
    if version and not chosen:
        raise InputError(f"no kernel {version}", hint=f"those in lib/modules: {', '.join(versions.values()) or 'none'}")
    return chosen


def _ask(settings: Settings, site: Site, places: Sequence[str]) -> Ask:
    deep = settings.second_reader is True
    known = tuple(key for data in installed.certificates(site.root, places) for key in pkcs7.keys(data))
    return Ask(tables=deep, second=deep, keys=known, limit=settings.max_module_size)


def _of(walk: Walk, chosen: Sequence[str], site: Site) -> Walk:
    """The part of a walk that concerns some kernels."""
    if len(chosen) == len(site.places):
        return walk
    versions = {place.rpartition("/")[2] for place in chosen}
    places = tuple(f"{place}/" for place in chosen)
    return walk._replace(
        modules=tuple(each for each in walk.modules if each.kernel in versions),
        kept=tuple(each for each in walk.kept if each.kernel in versions),
        findings=tuple(each for each in walk.findings if f"{each.subject}/".startswith(places)),
        others=tuple(each for each in walk.others if each[0].startswith(places)),
        leftovers=tuple(each for each in walk.leftovers if each.startswith(places)),
    )


# --- looking ---------------------------------------------------------------------------------------------------------


def _look_all(
    tree: Tree,
    modules: Sequence[Found],
    ask: Ask,
    settings: Settings,
    err: TextIO,
    meanwhile: Callable[[], object] = lambda: None,
) -> list[Looked]:
    """Every module through the workers, the largest first, so that no late one is waited for alone."""
    return in_batches(
        sorted(modules, key=lambda found: (-found.size, found.path)),
        lambda found: look_at(tree, ask, found),
        lambda found: found.size,
        lambda found, why: _blank(found)._replace(findings=(lost_module(found.path, why, settings, err),)),
        settings,
        err,
        in_child=tree.unlock_in_child,
        meanwhile=meanwhile,
    )


def look_at(tree: Tree, ask: Ask, found: Found) -> Looked:
    """One module, whoever owns it. What is wrong with it is among its findings, never raised."""
    blank = _blank(found)
    try:
        source = tree.open(found)
    except ModuleError as error:
        return blank._replace(findings=(error.finding(found.path),))
    try:
        return look_at_fd(source.fd, source.name, blank, ask)
    finally:
        os.close(source.fd)


def _blank(found: Found) -> Looked:
    return Looked(found.path, found.kernel, found.names, file_size=found.size)


def _owned(system: System, entries: Sequence[Looked]) -> list[Looked]:
    """The entries, each with the one who owns it."""
    owners = [_owner(system, entry) for entry in entries]
    return [entry._replace(owner=owner.key) if owner else entry for entry, owner in zip(entries, owners, strict=True)]


def _owner(system: System, entry: Looked) -> installed.Owner | None:
    """Who owns one of the file's names; a package goes before DKMS."""
    owners = [system.owner(path, entry.kernel) for path in (entry.path, *entry.names)]
    return max(filter(None, owners), key=lambda owner: owner.packaged, default=None)


def _others(audit: Audit) -> Iterator[Finding]:
    """ELF files beside the modules that hold debug information."""
    for path, size in audit.walk.others:
        try:
            source = audit.tree.open(Found(path, "", size))
        except ModuleError as error:
            yield error.finding(path)
            continue
        try:
            found = debug_bytes(parse(FdImage(source.fd, source.stat.st_size), module=False))
        except ModuleError:
            continue  # no module, so whether the kernel would take it is no matter
        finally:
            os.close(source.fd)
        if found:
            yield make("debug-elf", path, bytes=found, of=source.stat.st_size)


def _places(audit: Audit) -> Iterator[Place]:
    system, seen = audit.found.system, {path for found in audit.walk.modules for path in (found.path, *found.names)}
    for kernel in audit.kernels:
        try:
            named = installed.named(system, kernel)
        except OSError as error:
            yield Place(kernel, None, unread=error.strerror or str(error))
            continue
        gone = installed.absent(system, named - seen) if named else []
        yield Place(kernel, named, tuple(gone))


def _leftovers(audit: Audit) -> list[Finding]:
    if audit.settings.fix and not audit.found.frozen and not audit.settings.dry_run:
        return list(audit.tree.sweep(audit.walk.leftovers))
    left = audit.tree.abandoned(audit.walk.leftovers)
    return [make("scratch-left", path, removed="no: an audit changes nothing") for path in left]


# --- --fix -----------------------------------------------------------------------------------------------------------


def _fix(audit: Audit, seen: Sequence[Looked]) -> tuple[list[Entry], list[Finding]]:
    """Strip what may be stripped, and say why the rest is left alone."""
    from pkghook.stories import mend

    unstripped = [entry for entry in (surveys.kept(audit.policy, each) for each in seen) if entry.unstripped]
    owned = audit.settings.owned == "strip"
    chosen, left = mend.choose(audit.found, [entry for entry in unstripped if not entry.kept], owned=owned)
    founds = [found for found in audit.walk.modules if found.path in chosen]
    fixed = mend.strip(audit.tree, founds, audit.policy, audit.settings, audit.err)
    return list(ledger.marked(fixed, audit.found.system)), left


# --- the survey ------------------------------------------------------------------------------------------------------


def _survey(audit: Audit, seen: Sequence[Looked], more: Sequence[Finding]) -> Survey:
    system = audit.found.system
    entries, across = systems.judge(list(_places(audit)), seen, known=system.known)
    findings = [*audit.walk.findings, *system.findings, *_others(audit), *_leftovers(audit), *across, *more]
    kept = (
        Looked(each.path, each.kernel, each.names, file_size=each.size, kept=surveys.DEBUG_TREE)
        for each in audit.walk.kept
    )
    survey = surveys.make(
        "audit",
        [*entries, *kept],
        audit.policy,
        settings=_settings(audit),
        running=next((kernel.version for kernel in audit.kernels if kernel.running), ""),
        others=audit.walk.others,
        findings=findings,
    )
    survey = survey._replace(kernels=audit.kernels)
    return survey._replace(owners=tuple(_remedies(audit, survey)))


def _settings(audit: Audit) -> Pairs:
    """The settings that shape the result."""
    fix = "no" if not audit.settings.fix else "dry-run" if audit.settings.dry_run else "yes"
    return (
        *([("kernel", audit.settings.kernel)] if audit.settings.kernel else []),
        ("fix", fix),
        ("second-reader", "yes" if audit.ask.second else "no"),
        *policies.pairs(audit.policy),
    )


def _remedies(audit: Audit, survey: Survey) -> Iterator[Remedy]:
    """Each owner of something that there is a finding about."""
    system = audit.found.system
    kernels: dict[installed.Owner, set[str]] = {}
    subjects: dict[installed.Owner, set[str]] = {}
    for path, kernel, is_module in _subjects(survey):
        owner = system.owner(path, kernel)
        if owner:
            kernels.setdefault(owner, set()).add(kernel)
            if not is_module:
                subjects.setdefault(owner, set()).add(path)
    for owner in sorted(kernels):
        found = remedy(
            owner.key,
            owner.version,
            sorted(filter(None, kernels[owner])),
            manager=installed.manager(system),
            root=system.root,
        )
        yield found._replace(subjects=tuple(sorted(subjects.get(owner, ()))))


def _subjects(survey: Survey) -> Iterator[tuple[str, str, bool]]:
    """Path and kernel of each thing that there is a finding about, and whether it is a module that is there."""
    for entry in survey.entries:
        if entry.findings and not entry.kept:
            yield entry.path, entry.kernel, True
    for finding in survey.findings:
        for kernel in survey.kernels:
            if finding.subject.startswith(f"{kernel.path}/"):
                yield finding.subject, kernel.version, False


def _tell(survey: Survey, policy: Policy, settings: Settings, out: TextIO) -> int:
    verdict = surveys.judge(survey, policy)
    style = report.style_for(settings, out, os.environ)
    out.write(report.REPORTS[settings.format](survey, verdict, style))
    return EXIT_CLEAN if verdict.passed else EXIT_FINDINGS
