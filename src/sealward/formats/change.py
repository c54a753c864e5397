"""A change that control proposes and the signer carries out (contracts.md §6): no entry, no change.

change = canonical {by, kind: "snapshot", ops, previous, salt, v};  its hex SHA-256 is the `cm` of its intent entry
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from sealward.formats import canonical, ids
from sealward.formats.fault import FormatError
from sealward.formats.passes import Log
from sealward.formats.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done to the snapshot with digest `previous`. `salt` (hex, 32 random bytes) hides it behind its digest."""

    by: str
    ops: tuple[Any, ...] = field(repr=False)
    previous: str
    salt: str = field(repr=False)
    kind: str = "snapshot"
    v: int = 1

    @property
    def raw(self) -> bytes:
        """The canonical bytes: what the intent commits to and what is proposed."""
        named = {"by": self.by, "kind": self.kind, "ops": list(self.ops), "previous": self.previous, "salt": self.salt}
        return canonical.dumps(named | {"v": self.v})

    @property
    def digest(self) -> str:
        """Hex SHA-256 of `raw`: `change.digest` of the intent's event and `cm` of its entry."""
        return hashlib.sha256(self.raw).hexdigest()


@dataclass(frozen=True, slots=True)
class Intent:
    """Where the journal holds a change, and the log's promise that it does."""

    index: int
    leaf: bytes
    promise: bytes = field(repr=False)


def parse_change(raw: bytes) -> Change:
    """FormatError("malformed") for anything but the canonical bytes of a change; its ops are checked by who applies them."""
    match canonical.parse(raw):
        case {"by": str(by), "kind": "snapshot", "ops": list(ops), "previous": str(previous), "salt": str(salt), "v": 1, **rest}:
            if not rest and ids.is_id(by) and ids.DIGEST.fullmatch(previous) and ids.HEX32.fullmatch(salt):
                found = Change(by, tuple(ops), previous, salt)
                if found.raw == raw:  # `true` is not version 1
                    return found
    raise FormatError("malformed", "not a change")


def carry_out(raw: bytes, intent: Intent, *, log: Log, last: Snapshot, unix_s: int, issued: str) -> Snapshot:
    """What the signer signs next after `last`. FormatError, first reason first: malformed, promise, previous, op."""
    change = parse_change(raw)
    try:
        log.check_promise(intent.index, intent.leaf, hashlib.sha256(raw).digest(), intent.promise)
    except FormatError as error:
        raise FormatError("promise", error.reason) from error
    if change.previous != last.digest:
        raise FormatError("previous")
    return last.after(change.ops, epoch=assigned_epoch(last.epoch, unix_s), issued=issued)


def assigned_epoch(last: int, unix_s: int) -> int:
    """Beyond the last one, and at least the clock: what was signed after a restore is never behind what was signed before it."""
    return max(last + 1, unix_s)
