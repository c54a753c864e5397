"""A captured request or reply body (contracts.md section 2): HPKE base mode to a subject-month public key.

Who seals cannot open again. Suite: MLKEM768-X25519, HKDF-SHA256, AES-256-GCM (RFC 9180, cryptography.hazmat hpke).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import shake_256
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from sealward.formats.fault import FormatError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a body belongs; it opens nowhere else."""

    origin: str
    kid: str
    request: str
    side: Literal["input", "output"]

    @property
    def info(self) -> bytes:
        return f"sealward body v1\0{self.origin}\0{self.kid}\0{self.request}\0{self.side}".encode()


def body_key(seed: bytes) -> MLKEM768X25519PrivateKey:
    """The key pair of a subject and month, from the 32 bytes in its row: SHAKE-256 to ML-KEM seed 64 ‖ X25519 32."""
    return MLKEM768X25519PrivateKey(*_halves(seed))


def public_half(seed: bytes) -> bytes:
    """The public half of that pair as bytes: ML-KEM-768 1184 ‖ X25519 32."""
    mlkem, x25519 = _halves(seed)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def public_key(half: bytes) -> MLKEM768X25519PublicKey:
    """Inverse of `public_half`; FormatError("public") for other bytes."""
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(half[:-X25519_BYTES]), X25519PublicKey.from_public_bytes(half[-X25519_BYTES:])
        )
    except ValueError as error:
        raise FormatError("public", "not a public key") from error


def seal_body(body: bytes, to: MLKEM768X25519PublicKey, place: Place) -> bytes:
    """The object that is stored, named by `sha256:` of itself."""
    return _SUITE.encrypt(body, to, place.info)


def open_body(sealed: bytes, key: MLKEM768X25519PrivateKey, place: Place) -> bytes:
    """The body; FormatError("sealed") for other bytes, another key or another place."""
    try:
        return _SUITE.decrypt(sealed, key, place.info)
    except (InvalidTag, ValueError) as error:
        raise FormatError("sealed", "does not open") from error


def _halves(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    stretched = shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(stretched[:64]), X25519PrivateKey.from_private_bytes(stretched[64:])


X25519_BYTES = 32
PUBLIC_BYTES = 1184 + X25519_BYTES
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
