"""What is allowed: how to treat signed and livepatch modules, and what is left alone on purpose.

A keep entry names modules by a glob on their path relative to ROOT:

* `*` and `?` do not cross a `/`, nor does a set like `[a-c]` or `[!a-c]`; `**` does;
* a glob without `/` is held against the file name alone, so `dummy.ko*` finds the module in any directory;
* a leading `/` means ROOT: `/extra.ko` is one file, `extra.ko` is every file of that name;
* the rest is literal, the compression suffix too: `dummy.ko` is not `dummy.ko.xz`, and `lib/modules/...`
  is not `usr/lib/modules/...`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING

from pkghook.errors import SettingError
from pkghook.findings import Severity
from pkghook.values import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pkghook.findings import Finding
    from pkghook.settings import Settings


Severities = tuple[tuple[str, Severity], ...]  # by finding id, where it is not the registry's


class Signed(StrEnum):
    """What to do with a module that is signed and still unstripped."""

    FAIL = "fail"
    KEEP = "keep"
    STRIP = "strip"  # remove the signature, say so, strip


class Livepatch(StrEnum):
    """What to do with an unstripped livepatch module."""

    STRIP = "strip"  # debug information only
    KEEP = "keep"
    FAIL = "fail"


class Keep(NamedTuple):
    """One keep entry: leave alone the modules that `glob` matches, or, with `finding`, that finding about them."""

    glob: str
    finding: str = ""  # a finding id; "" for the whole module
    reason: str = ""
    origin: str = ""  # --keep, PKGHOOK_KEEP, pkghook.toml, or keep.d/NAME for a file that a vendor installed

    @property
    def by_vendor(self) -> bool:
        """Whether a vendor's file brought the entry: it holds for every tree, so matching nothing is normal."""
        return "/" in self.origin

    def matches(self, subject: str) -> bool:
        """Whether the glob matches a path relative to ROOT (or another finding's subject)."""
        return _regex(self.glob).fullmatch(subject) is not None


class Policy(NamedTuple):
    """What may pass; the defaults are those of the settings."""

    signed: Signed = Signed.FAIL
    livepatch: Livepatch = Livepatch.STRIP
    keeps: tuple[Keep, ...] = ()
    fail_on: Severity = Severity.ERROR
    require_proof: bool = False
    severities: Severities = ()


def of(settings: Settings) -> Policy:
    """The policy that the user's settings ask for. SettingError names a glob that means nothing and its origin."""
    keeps = tuple(Keep(*row) for row in settings.keep)
    for keep in keeps:
        try:
            _regex(keep.glob)
        except re.error as error:
            raise SettingError(f"{keep.origin}: {keep.glob!r} is not a glob: {error.msg}") from None
    return Policy(
        Signed(settings.signed),
        Livepatch(settings.livepatch),
        keeps,
        settings.fail_on,
        settings.require_proof,
        settings.severity,
    )


def kept_by(policy: Policy, path: str, *names: str) -> Keep | None:
    """The first entry that keeps the whole module at `path`, by that or one of its further `names`."""
    for keep in policy.keeps:
        if not keep.finding and any(map(keep.matches, (path, *names))):
            return keep
    return None


def silenced(policy: Policy, finding: Finding) -> Keep | None:
    """The first entry that leaves this finding alone: it is shown in the receipt and closes no gate."""
    for keep in policy.keeps:
        if keep.finding == finding.id and keep.matches(finding.subject):
            return keep
    return None


def weighed(severities: Severities, finding: Finding, *, lower: bool = True) -> Finding:
    """The finding with the severity that the user gives its id; without `lower` none below its own.

    What made a module fail must not be lowered: `rules.silenceable` says the same of keep entries.
    """
    for id, severity in severities:
        if id == finding.id:
            return finding._replace(severity=severity if lower else max(severity, finding.severity))
    return finding


def pairs(policy: Policy) -> tuple[tuple[str, str], ...]:
    """What of the policy shapes a receipt, as its `settings` have it.

    Not `fail_on` and `severities`: they decide on the receipt and change nothing in it.  Not the vendors' entries:
    they are the same for every tree, and those that matched here stand among the overrides.
    """
    by_hand = (keep for keep in policy.keeps if not keep.by_vendor)
    return (
        ("signed", policy.signed.value),
        ("livepatch", policy.livepatch.value),
        ("require-proof", "yes" if policy.require_proof else "no"),
        *((f"keep {keep.finding}".rstrip(), f"{keep.glob}={keep.reason}") for keep in by_hand),
    )


# --- globs -----------------------------------------------------------------------------------------------------------

_TOKENS = re.compile(r"(?<![^/])\*\*+/|\*\*+|\*|\?|\[!?\]?[^\]]*\]|.", re.DOTALL)
_FIXED = {"*": "[^/]*", "?": "[^/]"}


@cache
def _regex(glob: str) -> re.Pattern[str]:
    """`glob` as a regular expression for `fullmatch`."""
    anywhere = "" if "/" in glob else "(?:.*/)?"
    return re.compile(anywhere + "".join(_pieces(glob.removeprefix("/"))), re.DOTALL)


def _pieces(glob: str) -> Iterator[str]:
    for token in _TOKENS.findall(glob):
        if token in _FIXED:
            yield _FIXED[token]
        elif token.startswith("**"):
            # `**/` may stand for no directory at all, so that `**/x.ko` finds a `x.ko` in ROOT itself.
            yield "(?:.*/)?" if token.endswith("/") else ".*"
        elif token.startswith("[") and len(token) > 1:
            yield _character_set(token[1:-1])
        else:
            yield re.escape(token)


def _character_set(members: str) -> str:
    """`[members]` as a regular expression that never matches a `/`."""
    negated, members = members.startswith("!"), members.removeprefix("!")
    escaped = re.sub(r"([\[\]\\^&~|])", r"\\\1", members)
    return f"(?!/)[{'^' if negated else ''}{escaped}]"
