"""Rows of the subject-key store (contracts.md section 2): the key of one subject and month, wrapped by a purpose key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sealward.formats import canonical
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import HEX32, KID

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """`kid`: random, new each month, the only pseudonym. `subject`: an id, or service 00 user. `month`: `2026-11`."""

    kid: str
    subject: str
    month: str
    key: bytes = field(repr=False)


def wrap_row(found: SubjectKey, *, purpose: str, purpose_key: bytes, nonce: bytes) -> Row:
    """The row that is stored. `nonce`: 12 random bytes."""
    secret = canonical.dumps({"key": found.key.hex(), "month": found.month, "subject": found.subject})
    sealed = AESGCM(purpose_key).encrypt(nonce, secret, _label(purpose, found.kid))
    return {"kid": found.kid, "wrapped": b64url(nonce + sealed)}


def open_row(row: Any, *, purpose: str, purpose_key: bytes) -> SubjectKey:
    """Inverse of `wrap_row`. FormatError: "row" (its shape), "sealed" (wrong key, purpose or kid), "opened" (what was inside)."""
    if not isinstance(row, dict) or set(row) != {"kid", "wrapped"} or not all(isinstance(value, str) for value in row.values()):
        raise FormatError("row", "needs kid and wrapped")
    try:
        wrapped = unb64url(row["wrapped"])
    except FormatError as error:
        raise FormatError("row", error.detail) from error
    if KID.fullmatch(row["kid"]) is None or len(wrapped) < NONCE + TAG:
        raise FormatError("row", "kid or length")
    try:
        opened = AESGCM(purpose_key).decrypt(wrapped[:NONCE], wrapped[NONCE:], _label(purpose, row["kid"]))
    except InvalidTag as error:
        raise FormatError("sealed", "does not open") from error
    return _inside(row["kid"], opened)


def _inside(kid: str, opened: bytes) -> SubjectKey:
    try:
        secret = canonical.parse(opened)
    except FormatError:
        raise FormatError("opened", "not canonical") from None
    sound = isinstance(secret, dict) and set(secret) == {"key", "month", "subject"}
    if not sound or not all(isinstance(value, str) for value in secret.values()):
        raise FormatError("opened", "needs key, month, subject")
    if HEX32.fullmatch(secret["key"]) is None or _MONTH.fullmatch(secret["month"]) is None or not secret["subject"]:
        raise FormatError("opened", "key, month or subject")
    return SubjectKey(kid, secret["subject"], secret["month"], bytes.fromhex(secret["key"]))


def _label(purpose: str, kid: str) -> bytes:
    return b"\0".join((b"sealward subject key v1", purpose.encode(), kid.encode()))


NONCE, TAG = 12, 16
_MONTH = re.compile("[0-9]{4}-[0-9]{2}", re.ASCII)
