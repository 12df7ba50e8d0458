"""Modules that were looked at, held against the receipt of the run that stripped them.

Between strip and package a build may compress and sign; both leave the ELF file inside as it was.  Paths are compared
below lib/modules, without compression suffix: builds move lib below usr, and a receipt's root may lie deeper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pkghook.findings import Evidence, Finding, make
from pkghook.model import SUFFIXES, Entry, Looked, State
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pkghook.judge.receipt import Receipt

MODULES = "lib/modules/"


class Agreement(NamedTuple):
    """What came out. Sizes are bytes of the ELF files inside, of the modules that are on both sides."""

    entries: tuple[Looked, ...]
    findings: tuple[Finding, ...] = ()
    before: int = 0  # as the run that wrote the receipt found them
    now: int = 0


def agree(receipt: Receipt, entries: Sequence[Looked]) -> Agreement:
    """The entries with what is to be said about each, and about modules of the receipt that are not among them.

    Modules that are kept on purpose are held against it too, but for those of debug trees, which nobody read.
    """
    known = {place(name): entry for entry in receipt.entries for name in (entry.path, *entry.names)}
    pairs = [(looked, _find(known, looked)) for looked in entries]
    seen = {entry.path for _, found in pairs for entry in found}
    both = [(looked, found[0]) for looked, found in pairs if found and looked.image_size]
    return Agreement(
        tuple(looked._replace(findings=(*looked.findings, *_told(looked, found))) for looked, found in pairs),
        tuple(make("receipt-unmatched", entry.path) for entry in receipt.entries if entry.path not in seen),
        sum(entry.sizes.image_before for _, entry in both),
        sum(looked.image_size for looked, _ in both),
    )


def place(path: str) -> str:
    """The part of a module's path that tells which it is."""
    below = f"/{path}".rpartition(f"/{MODULES}")[2].lstrip("/")
    suffix = next((end for end in SUFFIXES.values() if end and below.endswith(f".ko{end}")), "")
    return below.removesuffix(suffix)


def _find(known: dict[str, Entry], looked: Looked) -> list[Entry]:
    """What the receipt has under the module's names: more than one where they were different files."""
    places = [place(name) for name in (looked.path, *looked.names)]
    below = [name.partition("/")[2] for name in places]  # a receipt of one kernel's directory has no version in it
    found = [known[name] for name in places if name in known] or [known[name] for name in below if name in known]
    return list({entry.path: entry for entry in found}.values())


def _told(looked: Looked, found: Sequence[Entry]) -> Iterator[Finding]:
    if not looked.image_size:  # of a debug tree, or unreadable, which is told already
        return
    if not found:
        yield make("receipt-missing", looked.path)
    for entry in found:
        evidence = dict(_differences(looked, entry))
        if entry.state is State.FAILED:
            evidence = {"receipt": "the module failed in the run that wrote it"}
        if evidence:
            # which of several names it is about is what the receipt calls it
            yield make("receipt-mismatch", looked.path if entry is found[0] else entry.path, **evidence)


def _differences(looked: Looked, entry: Entry) -> Iterable[tuple[str, Evidence]]:
    """What contradicts; nothing where the file, or the image in it, has the receipt's digest."""
    wanted, sizes = entry.sha256_after, entry.sizes
    if wanted and wanted in {looked.sha256, looked.image_sha256}:
        return
    if sizes.image_after != looked.image_size:
        yield "receipt_size", sizes.image_after
        yield "size", looked.image_size
    if entry.build_id != looked.build_id:
        yield "receipt_build_id", entry.build_id
        yield "build_id", looked.build_id
    if wanted and not _rewrapped(looked, entry):
        yield "receipt_sha256", wanted
        yield "sha256", looked.sha256


def _rewrapped(looked: Looked, entry: Entry) -> bool:
    """Whether the digest of the receipt is of wrappings that were taken off or made anew, so that it says nothing."""
    return (entry.compression, entry.signature == "present") != (looked.compression, bool(looked.signature)) and (
        entry.compression != "none" or entry.signature == "present"
    )
