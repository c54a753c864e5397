"""API keys: `swk_<live|test>_<key id 11>_<secret 43><checksum 6>`, base62, 70 characters.

The secret is 256 random bits, so a fast keyed hash is right; a password hash would only be a lever for overload. The checksum
refuses typos and probes before any table is read, and lets secret scanners be sure (vectors: identity/apikey-vectors.json).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from sealward.errors import Reason, Refused
from sealward.keyring.secret import Secret


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its holder gets it, once."""

    id: str
    secret: Secret


def issue(environment: str, key_id: str | None = None, random: Callable[[int], bytes] = os.urandom) -> ApiKey:
    """A new key; with the `key_id` of another one, its next secret."""
    if key_id is None:
        key_id = _base62(int.from_bytes(random(8), "big") >> 4, 11)
    body = f"swk_{environment}_{key_id}_{_base62(int.from_bytes(random(32), 'big'), 43)}"
    return ApiKey(key_id, Secret((body + _checksum(body)).encode("ascii")))


def key_id_of(presented: bytes, environment: str) -> str:
    """The id inside a well-formed key of this environment, else `credential_malformed`. Nothing is proven by it."""
    form = FORM.fullmatch(presented.decode("ascii")) if presented.isascii() else None
    if form is None or form[1] != environment or form[3] != _checksum(form[0][:-6]):
        raise Refused(Reason.CREDENTIAL_MALFORMED, "not a key of this environment")
    return form[2]


def stored_digest(pepper: Secret, key: bytes) -> bytes:
    """What is kept instead of the key. Over the whole key: environment and id are bound to the secret."""
    return hmac.digest(pepper.reveal(), key, hashlib.sha256)


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("ascii")), 6)


def _base62(number: int, length: int) -> str:
    """Big-endian, left-padded with 0."""
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FORM = re.compile(r"swk_(live|test)_([0-9A-Za-z]{11})_[0-9A-Za-z]{43}([0-9A-Za-z]{6})")
