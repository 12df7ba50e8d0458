"""What a report needs to know, as Protocols: the values come from `judge`, a wing that this one does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeGuard

    from pkghook.findings import Finding
    from pkghook.model import Entry, Kernel, Looked, PackageFacts, Proof, State


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


class Run(Protocol):
    """What the values of all runs have in common, whether they strip or only look: enough for most forms."""

    @property
    def pkghook(self) -> str:
        """The version of pkghook."""

    @property
    def mode(self) -> str:
        """`strip` or `dry-run`, `check` or `audit`."""

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """Those that shape the result."""

    @property
    def entries(self) -> Sequence[Entry] | Sequence[Looked]:
        """One per module, each with path, kernel, names and findings."""

    @property
    def overrides(self) -> Sequence[Override]:
        """The keep entries that were used."""


class Receipt(Run, Protocol):
    """What was done: see `judge.receipt.Receipt`."""

    @property
    def tools(self) -> tuple[tuple[str, str], ...]:
        """Steps with tool and version."""

    @property
    def walk(self) -> Walked:
        """What else was seen."""

    @property
    def entries(self) -> Sequence[Entry]:
        """One per module, sorted by path."""

    @property
    def totals(self) -> Totals:
        """Their sums."""


class LookedSums(Protocol):
    """Sums over modules that were looked at: see `judge.survey.Sums`. Bytes, but for the counts."""

    @property
    def modules(self) -> int:
        """How many."""

    @property
    def file_size(self) -> int:
        """As they lie on disk or in the package."""

    @property
    def kept(self) -> int:
        """How many are left as they are on purpose; what follows is about the others."""

    @property
    def unstripped(self) -> int:
        """How many."""

    @property
    def damaged(self) -> int:
        """How many have another error."""

    @property
    def compressed(self) -> int:
        """How many."""

    @property
    def signed(self) -> int:
        """How many."""

    @property
    def image_size(self) -> int:
        """The ELF files inside."""

    @property
    def saving(self) -> int:
        """What stripping would free."""

    @property
    def label_bytes(self) -> int:
        """What dropping labels would free besides."""


class LookedRow(Protocol):
    """The sums of one kernel in one package or directory."""

    @property
    def source(self) -> str:
        """The package or directory, "" where there is one only."""

    @property
    def kernel(self) -> str:
        """The directory below lib/modules, "" if there is none."""

    @property
    def sums(self) -> LookedSums:
        """Their sums."""


class ReleaseSizes(Protocol):
    """Sums over the modules of one release: see `judge.baseline.Sizes`. Bytes, but for the count."""

    @property
    def modules(self) -> int:
        """How many."""

    @property
    def file_size(self) -> int:
        """As they lie on disk or in the package."""

    @property
    def image_size(self) -> int:
        """The ELF files inside."""

    @property
    def expected(self) -> int:
        """What stripping would leave of those."""


class Grown(Protocol):
    """A module whose image is of another size now."""

    @property
    def path(self) -> str:
        """Of this release."""

    @property
    def before(self) -> int:
        """Bytes in the last release."""

    @property
    def now(self) -> int:
        """Bytes in this one."""

    @property
    def by(self) -> int:
        """The difference; negative for one that shrank."""


class Baseline(Protocol):
    """The comparison with the last release: see `judge.baseline.Baseline`."""

    @property
    def name(self) -> str:
        """Of what it was compared with."""

    @property
    def before(self) -> ReleaseSizes:
        """The last release."""

    @property
    def now(self) -> ReleaseSizes:
        """This one."""

    @property
    def kernels(self) -> Sequence[tuple[str, str]]:
        """Versions that belong together."""

    @property
    def gone(self) -> Sequence[str]:
        """Paths of the last release."""

    @property
    def came(self) -> Sequence[str]:
        """Paths of this one."""

    @property
    def changed(self) -> Sequence[Grown]:
        """The largest growth first."""

    @property
    def compared(self) -> int:
        """Modules of which all that users rely on is known on both sides."""

    @property
    def growth(self) -> float:
        """Of the images together, in percent."""


class Survey(Run, Protocol):
    """What was seen: see `judge.survey.Survey`."""

    @property
    def entries(self) -> Sequence[Looked]:
        """One per module, sorted by source and path."""

    @property
    def sums(self) -> LookedSums:
        """Their sums."""

    @property
    def rows(self) -> Sequence[LookedRow]:
        """The same by source and kernel, in the order in which they are shown."""

    @property
    def packages(self) -> Sequence[PackageFacts]:
        """In the order in which they were named."""

    @property
    def baseline(self) -> Baseline | None:
        """The comparison with the last release, if there was one."""

    @property
    def running(self) -> str:
        """The kernel that runs, "" where that is no matter."""

    @property
    def others(self) -> tuple[tuple[str, int], ...]:
        """ELF files that are no modules: path and size."""


class Remedy(Protocol):
    """What can be done about one owner's modules: see `judge.remedies.Remedy`."""

    @property
    def owner(self) -> str:
        """As `Looked.owner`."""

    @property
    def version(self) -> str:
        """Of the package."""

    @property
    def report(self) -> str:
        """The command to report something, or to learn where to."""

    @property
    def reinstall(self) -> str:
        """The command to install it again."""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Paths of the owner that are no modules, or gone."""


class SystemSurvey(Survey, Protocol):
    """A survey of an installed system."""

    @property
    def kernels(self) -> Sequence[Kernel]:
        """In order of path, those without modules too."""

    @property
    def owners(self) -> Sequence[Remedy]:
        """Of what there are findings about."""

    @property
    def fixed(self) -> Sequence[Entry]:
        """What --fix stripped, or failed to."""


def is_system(run: Run) -> TypeGuard[SystemSurvey]:
    """Whether the run looked at an installed system."""
    return run.mode == "audit"


def is_survey(run: Run) -> TypeGuard[Survey]:
    """Whether the run only looked, so that there is a survey of it and no receipt."""
    return run.mode in {"check", "audit"}


def is_receipt(run: Run) -> TypeGuard[Receipt]:
    """Whether the run stripped, or a dry run told what it would do."""
    return not is_survey(run)


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
