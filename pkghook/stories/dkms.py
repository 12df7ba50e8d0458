"""`pkghook dkms`: DKMS's modules stripped and proven by us, signed by DKMS's own program and key.

`--enable` takes DKMS's sign_file slot, `--sign` is what the slot runs, `--strip` is for modules that are installed
already, `--status` tells how things are, `--disable` gives everything back.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from pkghook import report
from pkghook.errors import EXIT_CLEAN, EXIT_FINDINGS, UsageError
from pkghook.findings import Finding, make
from pkghook.model import State
from pkghook.report import printable
from pkghook.sources import dkmsconf
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from pkghook.settings import Settings

RECEIPTS = "var/lib/pkghook/dkms"  # of what the slot did: KERNEL/MODULE.json


def run(args: tuple[str, ...], settings: Settings, out: TextIO, err: TextIO) -> int:
    """One of the actions. Exit status 0, or 1 where something has to be looked at."""
    asked = [name for name in _ACTIONS if getattr(settings, f"dkms_{name}")]
    if len(asked) != 1:
        raise UsageError("dkms needs one of " + ", ".join(f"--{name}" for name in _ACTIONS), hint="pkghook dkms --help")
    (action,) = asked
    if action == "sign":
        from pkghook.stories import dkmssign

        return dkmssign.run(args, settings, out, err)
    if args:
        raise UsageError(f"one argument too many: {args[0]}", hint="pkghook dkms --help")
    dkmsconf.check(settings.root)
    if action == "strip":
        from pkghook.stories import dkmsmend

        return dkmsmend.run(args, settings, out, err)
    return _ACTIONS[action](settings, out)


def told(lines: list[str], findings: list[Finding], settings: Settings, out: TextIO) -> int:
    """Print what was done and found; the exit status."""
    from pkghook.report.text import finding_lines

    style = report.style_for(settings, out, os.environ)
    shown = [found for found in findings if not style.quiet or found.severity >= style.fail_on]
    out.writelines(f"{line}\n" for line in [*([] if style.quiet else lines), *finding_lines(shown, style)])
    return EXIT_FINDINGS if any(found.severity >= style.fail_on for found in findings) else EXIT_CLEAN


# --- the slot --------------------------------------------------------------------------------------------------------


def _enable(settings: Settings, out: TextIO) -> int:
    root = settings.root
    dkmsconf.take(root, _command())
    lines = [f"DKMS signs by /{dkmsconf.SLOT}, which strips, proves and then signs"]
    findings = list(_about_the_slot(root))
    if not findings:
        for name, versions in dkmsconf.names(root).items():
            dkmsconf.claim(root, name, versions)
            lines.append(f"{printable(name)}: not stripped by DKMS from the next build on")
    return told(lines, findings, settings, out)


def _command() -> str:
    """This program as shell words, good in whatever directory DKMS runs."""
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program) == "pkghook" and os.access(program, os.X_OK):
        return shlex.quote(program)
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return f"env {shlex.quote(f'PYTHONPATH={checkout}')} {shlex.quote(sys.executable)} -P -m pkghook"


def _disable(settings: Settings, out: TextIO) -> int:
    released = dkmsconf.release(settings.root)
    lines = [f"{printable(name)}: stripped by DKMS again" for name in released]
    if dkmsconf.give_back(settings.root):
        lines.append("DKMS signs by its own program again")
    return told(lines or ["nothing to do: pkghook was not enabled"], [], settings, out)


def _about_the_slot(root: str) -> Iterator[Finding]:
    """Why what we built will not be called, where that is so."""
    holder = dkmsconf.holder(root)
    if holder is None or holder.value != f"/{dkmsconf.SLOT}":
        other = {"holder": holder.value, "file": f"/{holder.file}"} if holder else {}
        yield make("dkms-slot-taken", f"/{dkmsconf.OURS}", **other)
    signing = dkmsconf.signing(root, "")
    if not dkmsconf.will_sign(root, signing):
        yield make("dkms-slot-idle", f"/{dkmsconf.OURS}", key=signing.key, certificate=signing.certificate)


# --- how things are --------------------------------------------------------------------------------------------------


def _status(settings: Settings, out: TextIO) -> int:
    root = settings.root
    enabled = os.path.lexists(dkmsconf.below(root, dkmsconf.OURS))
    signing = dkmsconf.signing(root, "")
    lines = [
        f"slot: {'ours' if enabled else 'not ours (pkghook dkms --enable)'}",
        f"key: {printable(signing.key)}{'' if dkmsconf.has_key(root, signing) else ' (not there)'}",
    ]
    findings = list(_about_the_slot(root)) if enabled else []
    for name, versions in dkmsconf.names(root).items():
        ours = dkmsconf.ours(root, name)
        lines.append(
            f"{printable(name)} {', '.join(map(printable, versions))}: stripped by {'pkghook' if ours else 'DKMS'}"
        )
        if enabled and not ours and not findings:
            findings.append(make("dkms-strip-unchecked", name))
    for seen in _looks(settings):
        lines.append(f"{printable(seen.path)}: {seen.state}{', signed' if seen.signed else ''}")
        findings += seen.findings
    return told(lines, [*findings, *_failures(root)], settings, out)


class _Seen(NamedTuple):
    path: str
    state: str
    signed: bool
    findings: tuple[Finding, ...]


def _looks(settings: Settings) -> Iterator[_Seen]:
    """A look at each module that DKMS has installed."""
    from pkghook.stories import dkmsmend

    for entry in dkmsmend.look(settings):
        unstripped = entry.state is State.STRIPPED  # what a dry run would strip
        saving = entry.sizes.image_before - entry.sizes.expected
        told = (make("dkms-unstripped", entry.path, saving=saving),) if unstripped else entry.findings
        yield _Seen(entry.path, "unstripped" if unstripped else "stripped", bool(entry.signature), told)


def _failures(root: str) -> Iterator[Finding]:
    """The errors of the last build of each module, as the slot's receipts have them."""
    from pkghook.errors import PkghookError
    from pkghook.findings import Severity
    from pkghook.judge import receipt as receipts

    home = dkmsconf.below(root, RECEIPTS)
    for place, _, files in sorted(os.walk(home)):
        there = os.path.isdir(dkmsconf.below(root, f"lib/modules/{os.path.basename(place)}"))
        for file in sorted(files) if there else ():
            path = os.path.join(place, file)
            try:
                receipt = receipts.read(path)
            except PkghookError as error:
                yield make("dkms-receipt-unreadable", os.path.relpath(path, home), error=error.message)
                continue
            every = [*receipt.findings, *(found for entry in receipt.entries for found in entry.findings)]
            yield from (found for found in every if found.severity is Severity.ERROR)


_ACTIONS: dict[str, Callable[[Settings, TextIO], int]] = {
    "enable": _enable,
    "disable": _disable,
    "status": _status,
    "strip": _status,  # has a file of its own, as has the next
    "sign": _status,
}
