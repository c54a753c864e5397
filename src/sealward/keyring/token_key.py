"""The signer's key for our own short-lived tokens: ES256 (RFC 7518), one compact JWS a request.

KNOWN: one key; a new one comes with a new deployment of the signer (`recover signer`). Tokens live 15 minutes at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sealward.formats import canonical
from sealward.formats.b64 import b64url
from sealward.keyring.secret import Secret


class TokenKey:
    """`jwk` is the public half as a row of the snapshot holds it; its `kid` is the thumbprint of RFC 7638."""

    def __init__(self, secret: Secret) -> None:
        """ValueError: not the 32 bytes of a P-256 key."""
        self._key = ec.derive_private_key(int.from_bytes(secret.reveal()), ec.SECP256R1())
        numbers = self._key.public_key().public_numbers()
        point = {"crv": "P-256", "kty": "EC", "x": _number(numbers.x), "y": _number(numbers.y)}
        self.kid = b64url(hashlib.sha256(canonical.dumps(point)).digest())
        self.jwk: dict[str, str] = {"alg": "ES256", "kid": self.kid} | point

    @classmethod
    def new_secret(cls) -> Secret:
        """The bytes of a fresh key."""
        return Secret(ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(SIZE))

    def sign(self, claims: Mapping[str, Any]) -> str:
        """The token (RFC 9068) with exactly these claims."""
        header = {"alg": "ES256", "kid": self.kid, "typ": "at+jwt"}
        signed = b".".join(b64url(canonical.dumps(part)).encode() for part in (header, dict(claims)))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return f"{signed.decode()}.{b64url(r.to_bytes(SIZE) + s.to_bytes(SIZE))}"


def _number(value: int) -> str:
    return b64url(value.to_bytes(SIZE))


SIZE = 32
