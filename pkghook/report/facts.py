"""What a report needs to know, as Protocols: the values come from `judge`, a wing that this one does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pkghook.findings import Finding
    from pkghook.model import Entry, Proof, State


class Sums(Protocol):
    """Sums over modules, in bytes: see `judge.totals`."""

    @property
    def modules(self) -> int:
        """How many."""

    @property
    def file_before(self) -> int:
        """As they lay on disk."""

    @property
    def file_after(self) -> int:
        """As they lie on disk."""

    @property
    def image_before(self) -> int:
        """The ELF files inside, decompressed and without signatures."""

    @property
    def image_after(self) -> int:
        """The ELF files inside."""

    @property
    def expected(self) -> int:
        """What the plans say that the images must become."""

    @property
    def saved(self) -> int:
        """On disk; negative if files grew."""


class Row(Sums, Protocol):
    """The sums of one kernel, state and step."""

    @property
    def kernel(self) -> str:
        """The directory below lib/modules, "" if there is none."""

    @property
    def state(self) -> State:
        """How these modules ended."""

    @property
    def step(self) -> str:
        """The step that passed, "" if none did."""

    @property
    def verified(self) -> int:
        """Modules with this proof."""

    @property
    def recorded(self) -> int:
        """Modules with this proof."""

    @property
    def none(self) -> int:
        """Modules without proof."""


class Totals(Sums, Protocol):
    """The sums over all modules, and by kernel, state and step."""

    @property
    def states(self) -> tuple[tuple[State, int], ...]:
        """Modules by state."""

    @property
    def proofs(self) -> tuple[tuple[Proof, int], ...]:
        """Modules by proof."""

    @property
    def debug_files(self) -> int:
        """Debug files that were split off."""

    @property
    def debug_bytes(self) -> int:
        """Their sizes."""

    @property
    def rows(self) -> Sequence[Row]:
        """In the order in which they are shown."""


class Walked(Protocol):
    """What else was seen and left alone."""

    @property
    def links(self) -> int:
        """Symlinks, not followed."""

    @property
    def debug_modules(self) -> int:
        """Modules of debug trees."""

    @property
    def debug_bytes(self) -> int:
        """What their files hold."""

    @property
    def others(self) -> tuple[tuple[str, int], ...]:
        """ELF files that are no modules: path and size."""


class Keep(Protocol):
    """A keep entry."""

    @property
    def glob(self) -> str:
        """On the path of a module or the subject of a finding."""

    @property
    def finding(self) -> str:
        """A finding id, or "" for whole modules."""

    @property
    def reason(self) -> str:
        """Why."""

    @property
    def origin(self) -> str:
        """Where it was said."""


class Override(Protocol):
    """A keep entry that was used."""

    @property
    def keep(self) -> Keep:
        """The entry."""

    @property
    def matched(self) -> tuple[str, ...]:
        """What it matched."""


class Receipt(Protocol):
    """What was done: see `judge.receipt.Receipt`."""

    @property
    def pkghook(self) -> str:
        """The version of pkghook."""

    @property
    def mode(self) -> str:
        """`strip` or `dry-run`."""

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """Those that shape the result."""

    @property
    def tools(self) -> tuple[tuple[str, str], ...]:
        """Steps with tool and version."""

    @property
    def walk(self) -> Walked:
        """What else was seen."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One per module, sorted by path."""

    @property
    def totals(self) -> Totals:
        """Their sums."""

    @property
    def overrides(self) -> Sequence[Override]:
        """The keep entries that were used."""


class Verdict(Protocol):
    """Whether it may pass: see `judge.verdict.Verdict`."""

    @property
    def passed(self) -> bool:
        """Whether the gate is open."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings that count, the most severe first, then by subject."""

    @property
    def silenced(self) -> tuple[Finding, ...]:
        """Those that a keep entry leaves alone."""
