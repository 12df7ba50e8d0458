"""`pkghook strip ROOT`: walk, strip by the chain, verify, replace, account, write a receipt, judge."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pkghook import atomic, parcel, report
from pkghook.chain import steps
from pkghook.chain.tools import Tools
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, SettingError, UsageError
from pkghook.findings import registry
from pkghook.judge import policy as policies
from pkghook.ko.plan import Drop
from pkghook.model import Entry, Sizes, State
from pkghook.sources.tree import Tree
from pkghook.stories import splitting
from pkghook.stories.crowd import lost_module, through_workers
from pkghook.work import Order, strip_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TextIO

    from pkghook.findings import Finding
    from pkghook.judge.policy import Policy
    from pkghook.judge.receipt import Pairs, Receipt
    from pkghook.ko.record import Record
    from pkghook.ko.symbols import SymbolList
    from pkghook.pool import Lost
    from pkghook.settings import Settings
    from pkghook.sources import Found, Walk


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Strip the modules below args[0]. Exit status 0, or 1 if the gate is closed."""
    (root,) = args
    wanted = _symbol_list(settings)
    chain = steps.order(settings.chain, symbols=wanted is not None, labels=settings.discard_labels)
    policy = policies.of(settings)
    record = _record(settings.before) if settings.before else None
    splitting.check(settings)
    if settings.receipt:
        if settings.before and os.path.realpath(settings.receipt) == os.path.realpath(settings.before):
            raise UsageError(f"{settings.receipt}: the receipt would replace the record")
        atomic.check(settings.receipt)
    with Tree(root) as tree:
        if not settings.dry_run:
            tree.lock()
        walk = splitting.without(tree.walk(settings.include_debug), root, settings.debug_dir)
        swept = () if settings.dry_run else tree.sweep(walk.leftovers)
        fsync = settings.fsync_wanted(root)
        try:
            with _list_file(wanted, chain) as list_file, splitting.wanted(settings, walk, fsync=fsync) as debug:
                order = _order(tree, walk, settings, policy, chain, wanted)._replace(
                    fsync=fsync,
                    list_file=list_file,
                    digest_before=settings.digest_before or fsync,
                    record=record,
                    splitting=debug,
                )
                entries = _strip_all(order, walk, settings, err)
        finally:
            tree.clean()
    from pkghook.judge.rules import excuse

    entries = [excuse(policy, entry) for entry in splitting.settled(entries, order.splitting)]
    names = (name for found in walk.modules for name in (found.path, *found.names))
    unmatched = record.unmatched(names) if record else ()
    receipt = _receipt(order, walk, entries, (*walk.findings, *swept, *unmatched), wanted)
    return _tell(receipt, policy, settings, out)


def _record(path: str) -> Record:
    from pkghook.ko import record

    return record.read(path)


def _symbol_list(settings: Settings) -> SymbolList | None:
    """The list asked for. SettingError for one that would change depmod's output unasked."""
    if not settings.strip_symbols:
        return None
    from pkghook.ko import symbols

    wanted = symbols.load(settings.strip_symbols)
    if symbols.changes_depmod(wanted) and not settings.allow_depmod_change:
        kind = registry()["depmod-change"]
        raise SettingError(f"{settings.strip_symbols}: {kind.title} [{kind.id}]", hint=kind.hint)
    return wanted


@contextmanager
def _list_file(wanted: SymbolList | None, chain: tuple[steps.Step, ...]) -> Iterator[str]:
    """The path of the symbol list as outside tools take it, while they may need it; "" where none does."""
    if wanted is None or not any(step.tool and step.promise.symbols for step in chain):
        yield ""
        return
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="pkghook-") as file:
        file.write(wanted.file_text())
        file.flush()
        yield file.name


def _order(
    tree: Tree,
    walk: Walk,
    settings: Settings,
    policy: Policy,
    chain: tuple[steps.Step, ...],
    wanted: SymbolList | None,
) -> Order:
    keeps = {found.path: policies.kept_by(policy, found.path, *found.names) for found in walk.modules if policy.keeps}
    return Order(
        tree,
        chain,
        Drop(wanted, settings.discard_labels),
        Tools(),
        policy,
        {path: keep for path, keep in keeps.items() if keep},
        limit=settings.max_module_size,
        timeout=settings.tool_timeout,
        dry_run=settings.dry_run,
        digest_before=settings.digest_before,
    )


def _strip_all(order: Order, walk: Walk, settings: Settings, err: TextIO) -> list[Entry]:
    """Every module through the workers, the largest first, so that no late one is waited for alone."""
    tasks = sorted(walk.modules, key=lambda found: (-found.size, found.path))
    return through_workers(
        tasks,
        lambda found: strip_module(order, found),
        lambda found: found.size,
        lambda found, why: _lost(found, why, settings, err),
        settings,
        err,
        in_child=order.tree.unlock_in_child,
        meanwhile=_get_ready_to_judge,
        parcel=(parcel.pack, parcel.unpack),
    )


def _get_ready_to_judge() -> None:
    """Load what only the end of a run needs while the workers are at it: start-up is a tenth of a run."""
    from pkghook.judge import receipt, rules, verdict

    del receipt, rules, verdict


def _lost(found: Found, lost: Lost, settings: Settings, err: TextIO) -> Entry:
    """The entry of a module whose worker could not tell what became of it; its path holds whole bytes all the same."""
    finding = lost_module(found.path, lost, settings, err)
    sizes = Sizes(found.size, found.size)
    return Entry(found.path, found.kernel, State.FAILED, names=found.names, sizes=sizes, findings=(finding,))


def _receipt(
    order: Order, walk: Walk, entries: Sequence[Entry], findings: Iterable[Finding], wanted: SymbolList | None
) -> Receipt:
    from pkghook.judge import receipt as receipts
    from pkghook.judge.rules import conclude

    matched = sum(entry.matched_symbols for entry in entries)
    name = wanted.name if wanted else ""
    known, overrides = conclude(order.policy, entries, findings, list_name=name, matched=matched)
    return receipts.make(
        "dry-run" if order.dry_run else "strip",
        entries,
        settings=_settings(order, wanted),
        tools=tuple((a.step, a.version) for entry in entries for a in entry.attempts if a.version),
        walk=receipts.Walked(
            links=walk.links,
            debug_modules=len(walk.kept),
            debug_bytes=sum(found.size for found in walk.kept),
            others=walk.others,
        ),
        findings=known,
        overrides=overrides,
    )


def _settings(order: Order, wanted: SymbolList | None) -> Pairs:
    """The settings that shape the result."""
    from pkghook.judge import receipt as receipts

    chosen = receipts.symbol_list(wanted.name, wanted.patterns) if wanted else ()
    return (
        ("chain", ",".join(step.name for step in order.steps)),
        ("discard-labels", "yes" if order.drop.labels else "no"),
        ("max-module-size", str(order.limit)),
        *splitting.pairs(order.splitting),
        *chosen,
        *policies.pairs(order.policy),
    )


def _tell(receipt: Receipt, policy: Policy, settings: Settings, out: TextIO) -> int:
    from pkghook.judge import receipt as receipts
    from pkghook.judge.verdict import judge

    verdict = judge(receipt, policy)
    style = report.style_for(settings, out, os.environ)
    try:
        if settings.receipt:
            receipts.write(receipt, settings.receipt)
    finally:  # what was done has to be told, also where the receipt cannot be written
        out.write(report.REPORTS[settings.format](receipt, verdict, style))
    return EXIT_CLEAN if verdict.passed else EXIT_FINDINGS
