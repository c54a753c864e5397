"""A client's certificate: what a connection has proven, and X.509-SVIDs, which say who it is (SPIFFE).

The handshake proves that the client holds the key and that some root of ours is behind it. Who it is, is decided here, from the
snapshot of now: exactly one URI name, of a trust domain we have a row for, under the bundle of that domain and no other.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from sealward.errors import Reason, Refused
from sealward.formats.b64 import b64url
from sealward.identity.issuers import Issuer


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """`thumbprint`: `sha256:` of the DER; `chain`: DER as it was sent, the client's own first; `ends_us`: of the first to end."""

    thumbprint: str
    ends_us: int
    chain: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def of(cls, chain: Sequence[bytes]) -> ClientCertificate | None:
        """None where one cannot be read, or they are too many: then they prove nothing."""
        if not chain or len(chain) > MAX_CHAIN or sum(map(len, chain)) > MAX_BYTES:
            return None
        try:
            ends = min(x509.load_der_x509_certificate(der).not_valid_after_utc for der in chain)
        except ValueError:
            return None
        thumbprint = f"sha256:{hashlib.sha256(chain[0]).hexdigest()}"
        return cls(thumbprint, int(ends.timestamp()) * 1_000_000, tuple(chain))

    @property
    def x5t(self) -> str:
        """The thumbprint as `cnf` says it (RFC 8705)."""
        return b64url(bytes.fromhex(self.thumbprint.removeprefix("sha256:")))


def spiffe_id(chain: Sequence[bytes]) -> str:
    """Whom a certificate names; nothing is proven by it. Refused(credential_malformed) where it is no X.509-SVID."""
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound):
        raise _malformed("an extension is missing") from None
    found = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(found) != 1:
        raise _malformed("not exactly one URI name")
    if SPIFFE_ID.fullmatch(found[0]) is None or len(found[0]) > MAX_ID:
        raise _malformed("no SPIFFE id")
    if ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise _malformed("not for clients")
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign or _may_sign_others(leaf):
        raise _malformed("a key that signs certificates")
    return found[0]


def trust_domain(spiffe: str) -> str:
    """The name of the domain that an id belongs to."""
    return spiffe.removeprefix("spiffe://").partition("/")[0]


def verify_svid(chain: Sequence[bytes], issuer: Issuer, now_us: int) -> None:
    """Refused: credential_expired; credential_unknown where no path leads to a root of this trust domain."""
    now = dt.datetime.fromtimestamp(now_us // 1_000_000, dt.UTC)
    try:
        leaf, *others = (x509.load_der_x509_certificate(der) for der in chain)
        verifier = PolicyBuilder().store(Store(list(issuer.roots))).time(now.replace(tzinfo=None)).build_client_verifier()
        verifier.verify(leaf, others)
    except (ValueError, VerificationError) as error:
        over = not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc
        raise Refused(Reason.CREDENTIAL_EXPIRED if over else Reason.CREDENTIAL_UNKNOWN, "certificate path") from error


def _may_sign_others(leaf: x509.Certificate) -> bool:
    try:
        return leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _malformed(detail: str) -> Refused:
    return Refused(Reason.CREDENTIAL_MALFORMED, detail)


MAX_CHAIN, MAX_BYTES, MAX_ID = 8, 32 << 10, 512
SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+")
