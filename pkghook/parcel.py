"""An entry on its way from a worker process to its parent.

Plain values, which `marshal` takes, cost a quarter of what pickling the classes does.
Only what nearly every entry is goes this way; one with findings, or with a debug file, is not packed.
Both ends are one process and its fork, so that no version and no check is needed.
"""

from __future__ import annotations

import marshal

from pkghook.model import Attempt, Entry, Outcome, Proof, Sizes, State

_STATES = {str(state): state for state in State}
_PROOFS = {str(proof): proof for proof in Proof}
_OUTCOMES = {str(outcome): outcome for outcome in Outcome}
_STATE, _PROOF, _SIZES, _ATTEMPTS = map(Entry._fields.index, ("state", "proof", "sizes", "attempts"))


def pack(entry: Entry) -> bytes | None:
    """The entry as bytes, None if it has parts that are not packed."""
    if entry.findings or entry.debug_file or any([attempt.findings for attempt in entry.attempts]):
        return None
    row: list[object] = list(entry)
    row[_STATE], row[_PROOF], row[_SIZES] = str(entry.state), str(entry.proof), tuple(entry.sizes)
    row[_ATTEMPTS] = [(step, version, str(outcome), why) for step, version, outcome, why, _ in entry.attempts]
    return marshal.dumps(row)


def unpack(data: bytes) -> Entry:
    """The entry that `pack` was given."""
    row = marshal.loads(data)  # noqa: S302  from our own child
    row[_STATE], row[_PROOF], row[_SIZES] = _STATES[row[_STATE]], _PROOFS[row[_PROOF]], Sizes(*row[_SIZES])
    row[_ATTEMPTS] = tuple(
        [Attempt(step, version, _OUTCOMES[outcome], why) for step, version, outcome, why in row[_ATTEMPTS]]
    )
    return Entry(*row)
