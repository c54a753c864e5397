"""Providers of key-encryption keys, and the lease under which a process holds what they opened (contracts.md §2).

    wrapped = b64url(nonce ‖ AES-256-GCM(KEK, purpose key, "sealward purpose key v1" 00 purpose))

Kind `file`: the KEK lies in a file of its own, one per purpose. The lock hangs beside the key: this protects a copied
journal or disk image without that file, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealward.errors import ConfigurationError, IntegrityError, Reason, Refused
from sealward.formats.b64 import b64url, unb64url
from sealward.keyring.secret import Secret, read_key


class KekFile:
    """Kind `file`. The file is read at every use: taking it away ends the leases that hang on it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def wrap(self, purpose: str, key: Secret) -> str:
        nonce = os.urandom(NONCE)
        return b64url(nonce + self._cipher().encrypt(nonce, key.reveal(), _context(purpose)))

    def unwrap(self, purpose: str, wrapped: str) -> Secret:
        try:
            data = unb64url(wrapped)
            return Secret(self._cipher().decrypt(data[:NONCE], data[NONCE:], _context(purpose)))
        except (ValueError, InvalidTag) as error:
            raise IntegrityError("purpose_key", f"{self._path.name} does not open the key for {purpose}") from error

    def _cipher(self) -> AESGCM:
        try:
            return AESGCM(read_key(self._path).reveal())
        except (ConfigurationError, ValueError) as error:
            raise Refused(Reason.KEY_UNAVAILABLE, f"the key file of the provider: {error}") from error


class Standing(StrEnum):
    """Where a lease stands."""

    HELD = "held"
    CLOSING = "closing"  # admission has stopped; what is open may still be closed with the keys held
    ENDED = "ended"  # the keys are forgotten


class Lease:
    """A purpose key on loan. Whoever disables the provider stops the service: at the latest when the lease is over.

    `unwrap` asks the provider and raises Refused(key_unavailable) when it does not give. Times are those of Clock.boot().
    """

    def __init__(self, unwrap: Callable[[], Secret], now: float, seconds: float = 300.0) -> None:
        self._unwrap = unwrap
        self._seconds = seconds
        self._key: Secret | None = unwrap()
        self._until = now + seconds

    def standing(self, now: float) -> Standing:
        """What may be done now. Once ended, a lease stays ended: the process starts again to get a new one."""
        if now >= self._until + CLOSING_S:
            self._key = None
        if self._key is None:
            return Standing.ENDED
        return Standing.HELD if now < self._until else Standing.CLOSING

    def check(self, now: float) -> None:
        """Raises Refused(key_unavailable) unless new work may begin."""
        if self.standing(now) is not Standing.HELD:
            raise Refused(Reason.KEY_UNAVAILABLE, "the lease of the purpose key is over")

    def key(self, now: float) -> Secret:
        """The purpose key, for new work and for closing; Refused(key_unavailable) once the lease has ended."""
        if self.standing(now) is Standing.ENDED or self._key is None:
            raise Refused(Reason.KEY_UNAVAILABLE, "the purpose key is forgotten")
        return self._key

    def due(self, now: float) -> bool:
        """Whether it is time to renew: half of it is over, so a silent provider has half of it to come back."""
        return now >= self._until - self._seconds / 2

    def renew(self, now: float) -> bool:
        """Asks the provider again. False: it refuses or is silent, and the lease runs on to its end, not beyond."""
        if self.standing(now) is Standing.ENDED:
            return False
        try:
            self._key = self._unwrap()
        except (Refused, IntegrityError):
            return False
        self._until = now + self._seconds
        return True

    def end(self, now: float) -> None:
        """The kill switch: admission stops now, the keys are forgotten CLOSING_S later."""
        self._until = min(self._until, now)


def _context(purpose: str) -> bytes:
    return b"sealward purpose key v1\0" + purpose.encode()


CLOSING_S = 10.0
NONCE = 12
