"""Callers proven by a signed token or a client certificate, under one snapshot.

A token that was verified before is recognised by the SHA-256 of the whole header (never a part of it: CVE-2026-35030) until it
expires; the cache belongs to its snapshot, so every epoch asks anew. What the request itself has shown is looked at each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sealward.errors import Reason, Refused
from sealward.formats.fault import FormatError
from sealward.identity.certificate import ClientCertificate, spiffe_id, trust_domain, verify_svid
from sealward.identity.credential import bearer
from sealward.identity.issuers import X509, Facts, Issuer, Issuers
from sealward.identity.jwt import Claims, Envelope
from sealward.identity.keys import Keys
from sealward.identity.principal import Principal
from sealward.identity.scope import Scope

Rows = Mapping[str, Mapping[str, Any]]
RolesOf = Callable[[Mapping[str, Any]], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a request has besides its header: where from, with which certificate, at which door (`audience`), and when."""

    source_addr: str
    certificate: ClientCertificate | None
    audience: str | None
    now_us: int


@dataclass(frozen=True, slots=True)
class Link:
    """One thing that a token of ours was made of. It must still stand, or the token does not."""

    key: str = ""
    row: str = ""
    pin: str = ""
    facts: Facts = field(default=Facts(None))

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Link:
        """A member of the claim `via`, whose form the signer has checked."""
        return cls(value.get("key", ""), value.get("row", ""), value.get("pin", ""), Facts.of(value))

    def claim(self) -> dict[str, Any]:
        if self.key:
            return {"key": self.key}
        facts = {"iat": self.facts.issued_s, "jti": self.facts.jti, "sid": self.facts.sid}
        said = {"row": self.row, "pin": self.pin} | facts
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class Proof:
    """How a caller was proven, for a later snapshot to ask: the issuer's row, the key of a token, and its claims."""

    issuer: str
    key: str
    claims: Claims
    binding: str = ""
    chain: tuple[bytes, ...] = ()

    @property
    def links(self) -> tuple[Link, ...]:
        return tuple(map(Link.of, self.claims.get("via", ())))


class Tokens:
    """Immutable but for its cache. `subjects` with `roles_of` say who somebody is, `keys` whether an API key still stands."""

    def __init__(
        self, issuers: Issuers, subjects: Rows, roles_of: Callable[[Mapping[str, Any]], tuple[str, ...]], keys: Keys
    ) -> None:
        self.issuers = issuers
        self._subjects, self._roles_of, self._keys = subjects, roles_of, keys
        self._proven: dict[bytes, Principal] = {}

    def authenticate(self, authorization: Sequence[bytes], shown: Shown) -> Principal:
        """The caller whom the one token in the header proves. Refused: credential_*, token_*; UnknownKey among them."""
        place = hashlib.sha256(authorization[0]).digest()
        found = self._proven.get(place) if len(authorization) == 1 else None
        if found is None:
            found = self._prove(Envelope.open(bearer(authorization)), shown)
            if len(self._proven) >= CACHE:
                self._proven.clear()
            self._proven[place] = found
        return self._shown_by(found, shown)

    def of_certificate(self, certificate: ClientCertificate, shown: Shown) -> Principal:
        """The workload that a client certificate names. Refused: credential_*, token_audience."""
        found = self._proven.get(place := hashlib.sha256(b"".join(certificate.chain)).digest())
        if found is None:
            found = self._workload(certificate.chain, shown.now_us)
            if len(self._proven) >= CACHE:
                self._proven.clear()
            self._proven[place] = found
        return self._shown_by(found, shown)

    def renew(self, principal: Principal, now_us: int) -> Principal:
        """A caller proven under an earlier snapshot, as this one sees him; Refused where the proof holds no longer.

        His connection has not changed, so neither has what it has shown.
        """
        proof: Proof = principal.proof
        issuer = self.issuers.by_id.get(proof.issuer)
        if issuer is None or issuer.fault:
            raise Refused(Reason.CREDENTIAL_REVOKED, "issuer")
        if proof.chain:
            found = self._workload(proof.chain, now_us)
        else:
            if proof.key not in {key.digest for key in issuer.keys.values()}:
                raise Refused(Reason.CREDENTIAL_REVOKED, "the issuer's key")
            found = self._principal(issuer, proof)
        return replace(found, expires_us=principal.expires_us, cert_thumbprint=principal.cert_thumbprint)

    def lineage(self, principal: Principal) -> list[dict[str, Any]]:
        """The claim `via` of a token that is made of what proved this caller, under this snapshot."""
        proof: Proof | None = principal.proof
        if proof is None:
            return [Link(key=principal.key_id).claim()] if principal.key_id is not None else []
        issuer = self.issuers.by_id[proof.issuer]
        _, pin = issuer.subject_of(proof.claims)
        return [*proof.claims.get("via", ()), Link(row=issuer.id, pin=pin, facts=Facts.of(proof.claims)).claim()]

    def _prove(self, envelope: Envelope, shown: Shown) -> Principal:
        issuer = self.issuers.named(envelope.claims.get("iss"))
        if issuer.kind == X509:
            raise Refused(Reason.TOKEN_ISSUER, "certificates only")
        claims, key = issuer.verify(envelope, shown.now_us)
        return self._principal(issuer, Proof(issuer.id, key.digest, claims, _binding(claims)))

    def _principal(self, issuer: Issuer, proof: Proof) -> Principal:
        """Who a verified token is, if it still stands."""
        claims, facts = proof.claims, Facts.of(proof.claims)
        subject, pin = issuer.subject_of(claims)
        issuer.check_standing(facts, pin)
        found = replace(
            self._subject(subject),
            authn=issuer.authn,
            issuer=issuer.name,
            token_id=claims.get("jti"),
            issued_us=None if facts.issued_s is None else facts.issued_s * 1_000_000,
            expires_us=claims["exp"] * 1_000_000,
            spiffe_id=claims["sub"] if issuer.kind == "jwt-svid" else None,
            proof=proof,
        )
        return self._of_ours(found, proof) if issuer.authn == "token" else found

    def _of_ours(self, found: Principal, proof: Proof) -> Principal:
        """What our own tokens say besides: their scope, and what they were made of."""
        if "scope" in proof.claims:
            try:
                found = replace(found, scope=Scope.parse(proof.claims["scope"]))
            except FormatError:
                raise Refused(Reason.TOKEN_INVALID, "scope") from None
        for link in proof.links:
            if link.key:
                key = self._keys.held(link.key)
                found = replace(found, key_id=link.key, bindings=key.bindings)
            else:
                issuer = self.issuers.by_id.get(link.row)
                if issuer is None or issuer.fault:
                    raise Refused(Reason.CREDENTIAL_REVOKED, "issuer")
                issuer.check_standing(link.facts, link.pin)
        return found

    def _workload(self, chain: tuple[bytes, ...], now_us: int) -> Principal:
        name = spiffe_id(chain)
        issuer = self.issuers.by_name.get(trust_domain(name))
        if issuer is None or issuer.kind != X509 or issuer.fault:
            raise Refused(Reason.CREDENTIAL_UNKNOWN, "trust domain")
        verify_svid(chain, issuer, now_us)
        certificate = ClientCertificate.of(chain)
        if certificate is None:
            raise Refused(Reason.CREDENTIAL_MALFORMED, "certificate")
        subject, _ = issuer.subject_of({"sub": name})
        return replace(
            self._subject(subject),
            authn=issuer.authn,
            issuer=issuer.name,
            expires_us=certificate.ends_us,
            cert_thumbprint=certificate.thumbprint,
            spiffe_id=name,
            proof=Proof(issuer.id, "", {"sub": name}, certificate.x5t, chain),
        )

    def _subject(self, ident: str) -> Principal:
        row = self._subjects.get(ident)
        if row is None or "disabled" in row:
            raise Refused(Reason.CREDENTIAL_REVOKED, "subject removed" if row is None else "subject disabled")
        return Principal(ident, row["kind"], tuple(row["groups"]), self._roles_of(row), "none")

    def _shown_by(self, found: Principal, shown: Shown) -> Principal:
        """What depends on this request: time, door, certificate, and the bindings of a key behind it."""
        proof: Proof = found.proof
        if self.issuers.by_id[proof.issuer].audience != shown.audience:
            raise Refused(Reason.TOKEN_AUDIENCE, "of another door")
        if found.expires_us is not None and shown.now_us >= found.expires_us:
            raise Refused(Reason.CREDENTIAL_EXPIRED if proof.chain else Reason.TOKEN_EXPIRED)
        if found.bindings is not None:
            thumbprint = shown.certificate.thumbprint if shown.certificate is not None else None
            found.bindings.check_caller(shown.source_addr, thumbprint, shown.now_us)
        if not proof.binding or proof.chain:
            return found
        certificate = shown.certificate
        if certificate is None or certificate.x5t != proof.binding:
            raise Refused(Reason.TOKEN_BINDING)
        ends = min(certificate.ends_us, found.expires_us or certificate.ends_us)
        return replace(found, cert_thumbprint=certificate.thumbprint, expires_us=ends)


def _binding(claims: Claims) -> str:
    """The certificate that a token is bound to (RFC 8705), empty for a bearer's. A bound token is never taken as a bearer's."""
    if "cnf" not in claims:
        return ""
    match claims["cnf"]:
        case {"x5t#S256": str(thumbprint), **rest} if not rest and thumbprint:
            return thumbprint
    raise Refused(Reason.TOKEN_BINDING, "a confirmation that is not built")


CACHE = 10_000  # verified ones only: nobody without a good token can fill it
