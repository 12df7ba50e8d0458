"""`pkghook dkms --sign HASH KEY CERTIFICATE MODULE`: what DKMS's sign_file slot runs on each module that it has built.

DKMS ignores how its own strip and its sign program end, and so does with us; what goes wrong is said on stderr,
in the exit status and in a receipt, which `pkghook dkms --status` reads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pkghook import proc, report
from pkghook.chain import steps
from pkghook.chain.tools import Tools
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, InputError, ModuleError, PkghookError, UsageError
from pkghook.findings import Finding, Severity, make
from pkghook.judge import policy as policies
from pkghook.ko import modinfo
from pkghook.ko.elf import parse
from pkghook.ko.file import load
from pkghook.ko.plan import DEBUG_ONLY
from pkghook.model import State
from pkghook.sources import Found, dkmsconf
from pkghook.sources.tree import Tree
from pkghook.stories.dkms import RECEIPTS
from pkghook.values import NamedTuple
from pkghook.work import Order, strip_module

if TYPE_CHECKING:
    from typing import TextIO

    from pkghook.model import Entry
    from pkghook.settings import Settings

WORDS = ("HASH", "KEY", "CERTIFICATE", "MODULE")


class Look(NamedTuple):
    """What the steps here need to know of a module."""

    kernel: str  # that it was built for
    image: bytes  # the ELF file
    trailer: bytes  # the signature behind it


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """Strip and sign one module in place. Exit status 0 only if it is both, proven."""
    del out
    if len(args) != len(WORDS):
        raise UsageError(f"dkms --sign needs {' '.join(WORDS)}", hint="DKMS calls it, by its sign_file slot")
    path = args[-1]
    entry = strip_one(path, settings)
    kernel, findings = _signed(args, entry, settings)
    entry = entry._replace(kernel=kernel)
    _write_receipt(entry, findings, settings, err)
    _tell(entry, findings, settings, err)
    failed = any(found.severity is Severity.ERROR for found in (*entry.findings, *findings))
    return EXIT_FINDINGS if failed or entry.state is State.FAILED else EXIT_CLEAN


def order_for(tree: Tree, settings: Settings, *, dry_run: bool = False) -> Order:
    """What is to be done with a module of an installed system: debug information goes, and it reaches the disk."""
    return Order(
        tree,
        steps.order(settings.chain, symbols=False, labels=False),
        DEBUG_ONLY,
        Tools(),
        policies.of(settings),
        {},
        limit=settings.max_module_size,
        timeout=settings.tool_timeout,
        fsync=not dry_run,
        dry_run=dry_run,
        digest_before=not dry_run,
    )


def strip_one(path: str, settings: Settings) -> Entry:
    """Strip one module file in place. InputError where it is not there."""
    directory, name = os.path.split(os.path.abspath(path))
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with Tree(directory) as tree:
        order = order_for(tree, settings)
        keep = policies.kept_by(order.policy, name)
        return strip_module(order._replace(keeps={name: keep} if keep else {}), Found(name, "", size))


def look(path: str, settings: Settings) -> Look:
    """Read a module as it lies there. ModuleError, or InputError where it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    try:
        file = load(fd, os.path.basename(path), limit=settings.max_module_size)
        return Look(modinfo.kernel(parse(file.image)), file.image.read(0, file.image.size), file.trailer)
    finally:
        os.close(fd)


# --- signing ---------------------------------------------------------------------------------------------------------


def _signed(args: tuple[str, ...], entry: Entry, settings: Settings) -> tuple[str, list[Finding]]:
    """Sign as DKMS wanted; the module's kernel and what went wrong. An unstripped one is signed too: it has to load."""
    kernel = ""
    try:
        before = look(args[-1], settings)
        kernel = before.kernel
        tool = dkmsconf.signing(settings.root, kernel).tool
    except ModuleError as error:
        return kernel, [make("dkms-sign-failed", entry.path, error=str(error))]
    except InputError as error:
        return kernel, [make("dkms-sign-failed", entry.path, error=error.message)]
    return kernel, sign(tool, args, before, settings)


def sign(tool: str, args: tuple[str, ...], before: Look, settings: Settings) -> list[Finding]:
    """Run the sign program with HASH KEY CERTIFICATE MODULE, and look at what it has done."""
    path = args[-1]
    name = os.path.basename(path)
    if not tool:
        return [make("dkms-sign-failed", name, error="no sign program found", kernel=before.kernel)]
    ended = proc.run([tool, *args], timeout=settings.tool_timeout, environ=os.environ)
    said = " ".join((ended.stderr or ended.stdout).decode("utf-8", "replace").split())[:300]
    if ended.status != 0:
        how = ended.error or ("timed out" if ended.timed_out else f"exit status {ended.status}")
        how = f"signal {ended.signal}" if ended.signal else how
        return [make("dkms-sign-failed", name, tool=tool, ended=how, said=said)]
    try:
        after = look(path, settings)
    except ModuleError as error:
        return [make("dkms-sign-failed", name, tool=tool, ended="exit status 0", error=str(error))]
    if after.image != before.image:
        return [make("dkms-sign-failed", name, tool=tool, ended="exit status 0", error="the module under it changed")]
    if not after.trailer or after.trailer == before.trailer:
        return [make("dkms-sign-failed", name, tool=tool, ended="exit status 0", error="no new signature", said=said)]
    return []


# --- what is left of it ----------------------------------------------------------------------------------------------


def _write_receipt(entry: Entry, findings: list[Finding], settings: Settings, err: TextIO) -> None:
    """The receipt of this module's last build; that it cannot be written stops nothing."""
    from pkghook.judge import receipt as receipts

    kernel = entry.kernel or "unknown"
    tools = tuple((attempt.step, attempt.version) for attempt in entry.attempts if attempt.version)
    receipt = receipts.make("strip", [entry], tools=tools, findings=findings)
    try:
        place = dkmsconf.below(settings.root, f"{RECEIPTS}/{kernel}")
        os.makedirs(place, exist_ok=True)
        receipts.write(receipt, f"{place}/{entry.path}.json")
    except (OSError, PkghookError) as error:
        err.write(f"pkghook: warning: no receipt: {report.printable(str(error))}\n")


def _tell(entry: Entry, findings: list[Finding], settings: Settings, err: TextIO) -> None:
    from pkghook.report.text import finding_lines, human

    style = report.style_for(settings, err, os.environ)
    every = [*entry.findings, *findings]
    if not style.quiet:
        sizes = f"{human(entry.sizes.file_before)} -> {human(entry.sizes.file_after)}"
        signed = "not signed" if findings else "signed"
        err.write(f"pkghook: {report.printable(entry.path)}: {entry.state.value}, {sizes}, {signed}\n")
    err.writelines(f"pkghook: {line}\n" for line in finding_lines(every, style))
