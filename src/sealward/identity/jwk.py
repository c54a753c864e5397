"""Public keys of token issuers: read from a key set (RFC 7517), checked, and each tied to the one algorithm it is for.

A key set comes from outside. What is not for signatures is skipped (Keycloak publishes an encryption key beside its signing
key); a private member, a doubled `kid`, a weak or known broken key make the whole set unacceptable: the old keys stay.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from sealward.formats import canonical
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.identity.strict_json import parse_object

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One public key; `digest` tells two keys apart that share a `kid`. Headers may say EdDSA for Ed25519 (RFC 9864)."""

    kid: str
    alg: str
    digest: str
    _public: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, row: Row) -> Key:
        """From a row as `read_key_set` gives it; FormatError where its members do not make a sound key."""
        alg, kind = row["alg"], _KINDS.get(row["alg"])
        if kind is None or row["kty"] != kind.kty or row.get("crv") != kind.crv:
            raise FormatError("key", "an algorithm of another kind of key")
        values = {name: unb64url(row[name]) for name in kind.members if name not in {"kty", "crv"}}
        if kind.kty == "RSA":
            _check_modulus(int.from_bytes(values["n"]), int.from_bytes(values["e"]))
        try:
            public = kind.of.import_key({name: row[name] for name in kind.members})
            public.get_op_key("verify")  # a point that is not on its curve is told here, not with the first token
        except (JoseError, ValueError) as error:
            raise FormatError("key", type(error).__name__) from None
        return cls(row["kid"], alg, hashlib.sha256(canonical.dumps(dict(row))).hexdigest(), public)

    def fits(self, alg: object) -> bool:
        """Whether a header may say so of a signature by this key."""
        return alg == self.alg or (self.alg == "Ed25519" and alg == "EdDSA")

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether this key made `signature` over `data`, by its own algorithm whatever a header says."""
        try:
            return bool(JWSRegistry.algorithms[self.alg].verify(data, signature, self._public))
        except (JoseError, ValueError):
            return False


def read_key_set(document: bytes, algorithms: Iterable[str]) -> list[dict[str, str]]:
    """The signing keys of an issuer as rows of the snapshot (`kty`, `kid`, `alg` and the public members), in the set's order.

    `algorithms`: the one for each type of key, for keys that name none; a key for another one is skipped. FormatError: size,
    json, key (with the rule), empty.
    """
    if len(document) > MAX_DOCUMENT:
        raise FormatError("size", f"over {MAX_DOCUMENT} bytes")
    rows = parse_object(document).get("keys")
    if type(rows) is not list or not 1 <= len(rows) <= MAX_KEYS or not all(type(row) is dict for row in rows):
        raise FormatError("key", f"not 1 to {MAX_KEYS} keys")
    wanted = {_KINDS[alg].kty: alg for alg in algorithms}
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        if not PRIVATE.isdisjoint(row):
            raise FormatError("key", "a private key is published")
        alg = _algorithm_of(row, wanted)
        if alg is None:
            continue
        told = {"alg": alg} | {name: row.get(name) for name in ("kid", *_KINDS[alg].members)}
        if not all(type(value) is str and MEMBER.fullmatch(value) for value in told.values()):
            raise FormatError("key", "a member is missing or no text")
        if told["kid"] in found or len(told["kid"]) > MAX_KID:
            raise FormatError("key", "two keys of one kid, or an endless one")
        Key.of(told)
        found[told["kid"]] = told
    if not found:
        raise FormatError("empty", "no signing key")
    return list(found.values())


def _algorithm_of(row: Row, wanted: Mapping[str, str]) -> str | None:
    """What a published key is for; None where that is not for signatures that are wanted here."""
    operations = row.get("key_ops", ["verify"])
    if row.get("use", "sig") != "sig" or type(operations) is not list or "verify" not in operations:
        return None
    alg = row.get("alg", wanted.get(str(row.get("kty"))))
    alg = "Ed25519" if alg == "EdDSA" else alg
    return str(alg) if alg in wanted.values() else None


@dataclass(frozen=True, slots=True)
class _Kind:
    """What kind of key an algorithm needs."""

    kty: str
    of: Any
    members: tuple[str, ...]
    crv: str | None = None


def _check_modulus(n: int, e: int) -> None:
    if n.bit_length() < MIN_RSA_BITS or n.bit_length() > MAX_RSA_BITS:
        raise FormatError("key", "an RSA key of a size that is not served")
    if e not in EXPONENTS:
        raise FormatError("key", "an RSA exponent that is not served")
    if all(n % prime in residues for prime, residues in _ROCA):
        raise FormatError("key", "an RSA key whose primes can be found (CVE-2017-15361)")


def _powers(prime: int) -> frozenset[int]:
    """Everything that powers of 65537 are modulo `prime`."""
    found, power = set(), 1
    while power not in found:
        found.add(power)
        power = power * 65537 % prime
    return frozenset(found)


def _kinds() -> dict[str, _Kind]:
    rsa, ec = ("kty", "n", "e"), ("kty", "crv", "x", "y")
    found = {alg: _Kind("RSA", RSAKey, rsa) for alg in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")}
    found |= {f"ES{bits}": _Kind("EC", ECKey, ec, crv) for bits, crv in ((256, "P-256"), (384, "P-384"), (512, "P-521"))}
    return found | {"Ed25519": _Kind("OKP", OKPKey, ("kty", "crv", "x"), "Ed25519")}


MAX_DOCUMENT, MAX_KEYS, MAX_KID = 64 << 10, 20, 255
MEMBER = re.compile(r"[!-~]{1,2048}")
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
EXPONENTS = frozenset({3, 17, 257, 65537})
PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_KINDS = _kinds()
# Infineon's library made primes k·M + (65537^a mod M), so n mod p is a power of 65537 for every small prime p: true of another
# modulus by chance once in 2^27 (Nemec et al., CCS 2017). 65537 must not generate everything, or p tells nothing.
_PRIMES = (
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127,
    131, 137, 139, 149, 151, 157, 163, 167,
)  # fmt: skip
_ROCA = tuple((prime, powers) for prime in _PRIMES if len(powers := _powers(prime)) < prime - 1)
