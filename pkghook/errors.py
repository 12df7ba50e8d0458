"""Every error pkghook raises on purpose, with its exit status and its hint.

Only `cli.main` turns these into messages and exit statuses.  What concerns one
module is a `ModuleError`: the run goes on, the module ends as `failed`, its
original bytes kept.
"""

from __future__ import annotations

from pkghook.findings import Evidence, Finding, make

EXIT_CLEAN = 0
EXIT_FINDINGS = 1
EXIT_ERROR = 2
EXIT_SIGINT = 130
EXIT_SIGTERM = 143


class PkghookError(Exception):
    """The run cannot go on. `hint` says what the user can do; `exit_status` is the process's."""

    exit_status = EXIT_ERROR

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PkghookError):
    """The command line asks for something that does not exist or contradicts itself."""


class SettingError(PkghookError):
    """A setting has a value that it cannot have; the message names the origin and the setting."""


class InputError(PkghookError):
    """A file or directory named by the user cannot be read or written."""


class ReceiptError(PkghookError):
    """A receipt or record does not have the documented form; the message names the field."""


class MissingDependencyError(PkghookError):
    """A library or tool that this input needs is not installed; the hint names the package."""


class TreeBusyError(PkghookError):
    """Another pkghook works on the same tree."""


class WorkerError(PkghookError):
    """The worker processes cannot do their work (cannot be forked, or pkghook itself is at fault)."""


class Interrupted(PkghookError):
    """SIGINT or SIGTERM ended the run; nothing is half done."""

    def __init__(self, signal_name: str, exit_status: int) -> None:
        super().__init__(f"interrupted by {signal_name}")
        self.exit_status = exit_status


class ModuleError(Exception):
    """One module cannot be read, stripped or replaced; becomes a finding of that module.

    `id` is a registered finding id, `evidence` the facts.  The subject (the path) is added
    by whoever knows it.
    """

    def __init__(self, id: str, **evidence: Evidence) -> None:
        super().__init__(id, evidence)
        self.id = id
        self.evidence = evidence

    def finding(self, subject: str) -> Finding:
        """The same fact as a `Finding` about `subject`."""
        return make(self.id, subject, **self.evidence)

    def __str__(self) -> str:
        return ", ".join([self.id, *(f"{k}={v}" for k, v in self.evidence.items())])
