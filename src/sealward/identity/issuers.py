"""Whose tokens and certificates are believed: section `issuers` of a snapshot, read once (contracts.md section 6).

Keys are per issuer, never one pool: a key speaks only for the issuer whose row holds it. Claim pins say which subject a token is,
exact and all of them; a row that pins what can be registered again proves nobody (formats/pins.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography import x509

from sealward.errors import Reason, Refused
from sealward.formats import canonical
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import parse_rfc3339
from sealward.formats.pins import fault_of_pins
from sealward.identity import jwt
from sealward.identity.jwk import Key
from sealward.identity.jwt import Claims, Envelope, Expected, Profile, UnknownKey, text_claim

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a later snapshot is asked about a token: when it was made, and the names under which it can be revoked."""

    issued_s: int | None
    jti: str | None = None
    sid: str | None = None

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Facts:
        return cls(claims.get("iat"), claims.get("jti"), claims.get("sid"))


@dataclass(frozen=True, slots=True)
class Pinned:
    """Who has these claims is that subject. `digest` names this row of `principals`."""

    pins: Mapping[str, str]
    subject: str
    digest: str

    @classmethod
    def of(cls, row: Row) -> Pinned:
        return cls(row["pins"], row["subject"], hashlib.sha256(canonical.dumps(dict(row))).hexdigest()[:32])

    def fits(self, claims: Claims) -> bool:
        return all(text_claim(claims, path) == value for path, value in self.pins.items())


@dataclass(frozen=True, slots=True)
class Issuer:
    """One row. `roots`: of a trust domain's certificates; `until_us`: when keys that were fetched are too old to speak."""

    id: str
    name: str
    kind: str
    audience: str
    expected: Expected | None
    keys: Mapping[str, Key] = field(repr=False)
    roots: tuple[x509.Certificate, ...] = field(repr=False)
    until_us: int
    discovered: bool
    not_before_us: int
    revoked: frozenset[str] = field(repr=False)
    principals: tuple[Pinned, ...] = field(repr=False)
    fault: str = ""

    @classmethod
    def of(cls, ident: str, row: Row) -> Issuer:
        """It never raises: what cannot be read proves nobody, and the other rows go on."""
        source, kind = row["keys"], row["profile"]
        until = parse_rfc3339(source["until"]) if "until" in source else FOREVER_US
        keys, fault = _keys(source.get("jwks", ()))
        roots, fault = _roots(source.get("certificates", ()), fault)
        if ("certificates" in source) != (kind == X509):
            fault = "keys of another kind than the profile's"
        profile = PROFILES.get(kind)
        return cls(
            id=ident,
            name=row["issuer"],
            kind=kind,
            audience=row["audience"],
            expected=Expected(profile, row["audience"], row["max_age"]) if profile else None,
            keys=keys,
            roots=roots,
            until_us=until,
            discovered="jwks_url" in source,
            not_before_us=parse_rfc3339(row["not_before"]) if "not_before" in row else 0,
            revoked=frozenset(row.get("revoked", ())),
            principals=tuple(map(Pinned.of, row.get("principals", ()))),
            fault=fault or fault_of_pins(kind, [(each["subject"], each["pins"]) for each in row.get("principals", ())]),
        )

    @property
    def authn(self) -> str:
        """How a caller was proven, as events say it."""
        return AUTHN[self.kind]

    def verify(self, envelope: Envelope, now_us: int) -> tuple[Claims, Key]:
        """What this issuer said, and the key that said it. Refused: token_*; UnknownKey with our id where fetching may help."""
        if self.fault or self.expected is None:
            raise Refused(Reason.TOKEN_ISSUER, self.fault or "certificates only")
        keys = self.keys if now_us < self.until_us else {}
        try:
            claims = jwt.verify(envelope, self.expected, keys, now_us / 1_000_000)
        except UnknownKey as unknown:
            unknown.issuer = self.id if self.discovered else ""
            raise
        if self.kind == "jwt-svid" and not claims["sub"].startswith("spiffe://"):
            raise Refused(Reason.TOKEN_INVALID, "sub is no SPIFFE id")
        return claims, keys[envelope.header["kid"]]

    def subject_of(self, claims: Claims) -> tuple[str, str]:
        """The subject that these claims are, and the digest of the row that says so (ours: "" for `sub` itself).

        Refused(credential_unknown) for a genuine token of somebody who is nobody here.
        """
        if self.kind == OURS:
            return claims["sub"], ""
        if self.kind == "github" and claims.get("event_name") in PULLED:
            raise Refused(Reason.CREDENTIAL_UNKNOWN, "a workflow of a pull request")  # anybody's code, or on anybody's words
        for row in self.principals:
            if row.fits(claims):
                return row.subject, row.digest
        raise Refused(Reason.CREDENTIAL_UNKNOWN, "no pinned principal")

    def check_standing(self, facts: Facts, pin: str = "") -> None:
        """Whether what was proven is still good: Refused(credential_revoked). `pin`: the row of `principals` it went by."""
        if not self.revoked.isdisjoint(name for name in (facts.jti, facts.sid) if name is not None):
            raise Refused(Reason.CREDENTIAL_REVOKED, "token")
        if self.not_before_us and (facts.issued_s is None or facts.issued_s * 1_000_000 < self.not_before_us):
            raise Refused(Reason.CREDENTIAL_REVOKED, "made before what its issuer is believed from")
        if pin and all(row.digest != pin for row in self.principals):
            raise Refused(Reason.CREDENTIAL_REVOKED, "principal")


@dataclass(frozen=True, slots=True)
class Issuers:
    """All of one snapshot."""

    rows: Mapping[str, Row] = field(repr=False)
    by_id: Mapping[str, Issuer] = field(repr=False)
    by_name: Mapping[str, Issuer] = field(repr=False)

    @classmethod
    def of(cls, rows: Mapping[str, Row]) -> Issuers:
        """An issuer that stands in two rows is believed in neither: nobody can say whose keys are meant."""
        by_id = {ident: Issuer.of(ident, row) for ident, row in rows.items()}
        named: dict[str, list[Issuer]] = {}
        for issuer in by_id.values():
            named.setdefault(issuer.name, []).append(issuer)
        return cls(rows, by_id, {name: same[0] for name, same in named.items() if len(same) == 1})

    @property
    def ours(self) -> Issuer | None:
        """Who speaks for tokens that we minted."""
        return next((issuer for issuer in self.by_id.values() if issuer.kind == OURS), None)

    @property
    def roots(self) -> list[x509.Certificate]:
        """Of every trust domain: whose clients may finish a handshake."""
        return [root for issuer in self.by_id.values() if not issuer.fault for root in issuer.roots]

    def named(self, name: object) -> Issuer:
        """By `iss`, exactly: no trailing slash, no case, no prefix. Refused(token_issuer)."""
        found = self.by_name.get(name) if type(name) is str else None
        if found is None:
            raise Refused(Reason.TOKEN_ISSUER)
        return found


def _keys(rows: Sequence[Row]) -> tuple[dict[str, Key], str]:
    try:
        found = {row["kid"]: Key.of(row) for row in rows}
    except FormatError as error:
        return {}, error.detail
    return (found, "") if len(found) == len(rows) else ({}, "two keys of one kid")


def _roots(texts: Sequence[str], fault: str) -> tuple[tuple[x509.Certificate, ...], str]:
    try:
        return tuple(x509.load_der_x509_certificate(unb64url(text)) for text in texts), fault
    except ValueError:
        return (), "a certificate of the bundle cannot be read"


OURS: Literal["sealward"] = "sealward"
X509 = "x509-svid"
PROFILES: Mapping[str, Profile] = {
    OURS: jwt.OURS,
    "rfc9068": jwt.RFC9068,
    "kubernetes": jwt.KUBERNETES,
    "github": jwt.GITHUB,
    "jwt-svid": jwt.JWT_SVID,
}
AUTHN = {OURS: "token", "rfc9068": "jwt", "kubernetes": "kubernetes", "github": "ci", "jwt-svid": "spiffe", X509: "spiffe"}
PULLED = frozenset({"pull_request", "pull_request_target"})
FOREVER_US = 1 << 62
