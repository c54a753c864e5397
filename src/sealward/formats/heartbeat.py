"""The heartbeat: which snapshot counts now, answered to a nonce (contracts.md §6).

signature by the snapshot key over "sealward heartbeat v1" 00 ‖ nonce ‖ u64be epoch ‖ digest ‖ u32be ttl_ms
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealward.formats import ids
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import Point


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The signer's answer: `named` counts for `ttl_ms` from the moment the nonce was sent."""

    named: Point
    ttl_ms: int
    signature: str


def sign_heartbeat(nonce: bytes, named: Point, ttl_ms: int, key: Ed25519PrivateKey) -> Heartbeat:
    """`nonce` of 16 bytes; `named` is never genesis; `ttl_ms` 1 to 10,000."""
    return Heartbeat(named, ttl_ms, b64url(key.sign(_message(nonce, named, ttl_ms))))


def check_heartbeat(nonce: bytes, beat: Heartbeat, public: Ed25519PublicKey, *, known: Point, age_s: float) -> bool:
    """Whether the answer names what is `known`; False: it names a newer one that has to be fetched.

    `age_s` counts from sending the nonce. FormatError, first reason first: signature, ttl, epoch (ignore it: the one before
    counts until its own ttl), fork (two snapshots of one epoch), stale.
    """
    _verify(nonce, beat, public)
    if not 1 <= beat.ttl_ms <= MAX_TTL_MS:
        raise FormatError("ttl", str(beat.ttl_ms))
    if beat.named.epoch < max(1, known.epoch):
        raise FormatError("epoch", f"{beat.named.epoch}, known is {known.epoch}")
    if beat.named.epoch == known.epoch and beat.named.digest != known.digest:
        raise FormatError("fork", f"two snapshots of epoch {known.epoch}")
    if not 0 <= age_s * 1000 < beat.ttl_ms:
        raise FormatError("stale")
    return beat.named.epoch == known.epoch


def _verify(nonce: bytes, beat: Heartbeat, public: Ed25519PublicKey) -> None:
    try:
        public.verify(unb64url(beat.signature), _message(nonce, beat.named, beat.ttl_ms))
    except (FormatError, InvalidSignature) as error:
        raise FormatError("signature") from error


def _message(nonce: bytes, named: Point, ttl_ms: int) -> bytes:
    if not 0 <= named.epoch < 1 << 64 or not 0 <= ttl_ms < 1 << 32 or ids.DIGEST.fullmatch(named.digest) is None:
        raise FormatError("malformed", "no fields of a heartbeat")
    return b"".join((LABEL, nonce, named.epoch.to_bytes(8, "big"), bytes.fromhex(named.digest[7:]), ttl_ms.to_bytes(4, "big")))


LABEL = b"sealward heartbeat v1\0"
MAX_TTL_MS = 10_000
