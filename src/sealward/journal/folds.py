"""What is computed over all events of a journal, and the copy that spares replaying them.

A copy is `{at, open, done, kinds, folds, chronicle}` sealed by the purpose key: AES-256-GCM, nonce in front, label "sealward
folds v1" 00 origin. It is derived: one that does not open, or is of other folds, costs a replay and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealward.events import Event
from sealward.keyring.secret import Secret


class Fold(Protocol):
    """A state over all events, such as the counters of limits. Each event is applied exactly once, in order."""

    def apply(self, index: int, event: Event) -> None:
        """`event` is durable at `index`. Must not raise."""

    def dump(self) -> dict[str, Any]:
        """The state as JSON."""

    def load(self, state: dict[str, Any]) -> None:
        """What `dump` gave."""

    def erased(self, subject: str) -> None:
        """The keys of a subject, or of `service 00 user`, are gone: what names it goes too, but for what is still open."""


@dataclass(slots=True)
class Copy:
    """Everything a writer knows after the first `at` entries. `open`: request → index; `done`: [request, index, µs]."""

    at: int = 0
    open: dict[str, int] = field(default_factory=dict)
    done: list[tuple[str, int, int]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    folds: list[dict[str, Any]] = field(default_factory=list)
    chronicle: dict[str, Any] = field(default_factory=dict)


def kinds_of(folds: Sequence[Fold]) -> list[str]:
    """What tells the folds of one program from those of another."""
    return [type(fold).__name__ for fold in folds]


def seal_copy(copy: Copy, key: Secret, origin: str, nonce: bytes) -> bytes:
    """The file's bytes. `nonce`: 12 random bytes."""
    return nonce + AESGCM(key.reveal()).encrypt(nonce, orjson.dumps(copy), _label(origin))


def open_copy(data: bytes, key: Secret, origin: str) -> Copy:
    """Inverse of `seal_copy`; ValueError when it is not a copy of this journal."""
    try:
        return Copy(**orjson.loads(AESGCM(key.reveal()).decrypt(data[:12], data[12:], _label(origin))))
    except (InvalidTag, TypeError) as error:
        raise ValueError("not a copy of this journal") from error


def _label(origin: str) -> bytes:
    return b"sealward folds v1\0" + origin.encode()
