"""Signed JSON web tokens (RFC 7519, 7515, 9068), read strictly: our own checks around joserfc, which does only the signature.

A token is read once, into types that have one meaning, in an order where the first failure ends it: form, JSON, issuer, header,
key, signature, claims. What a header says about keys is never looked at. Vectors: identity/jwt-attacks.json, Wycheproof.

    Envelope.open(token)                      form and JSON; nothing is proven by it
    envelope.claims["iss"]                    only chooses whose keys may speak
    verify(envelope, profile, keys, …)        header, signature, claims: then they are that issuer's words
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sealward.errors import Reason, Refused
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.identity.jwk import Key
from sealward.identity.strict_json import parse_object

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A well-formed token that nobody has verified."""

    header: Mapping[str, Any]
    claims: Claims = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @classmethod
    def open(cls, token: bytes) -> Envelope:
        """Refused: credential_malformed (not the form of a token), token_invalid (what is in it has two readings)."""
        header, payload, signature = split(token)
        try:
            return cls(parse_object(header), parse_object(payload), token.rpartition(b".")[0], signature)
        except FormatError as error:
            raise Refused(Reason.TOKEN_INVALID, error.detail) from None


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of token looks like. `types`: None = the header may have no `typ`; `max_age`: seconds, at most.

    `audience`: `text` = one string; `one` = that or a list of one.
    """

    types: frozenset[str | None]
    required: frozenset[str]
    max_age: int
    header: frozenset[str] = frozenset({"alg", "kid", "typ"})
    audience: Literal["text", "one"] = "text"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say to be taken here. `max_age`: of the issuer, within the profile's."""

    profile: Profile
    audience: str
    max_age: int


def split(token: bytes) -> tuple[bytes, bytes, bytes]:
    """Header, payload and signature of a compact JWS in its one spelling; Refused(credential_malformed)."""
    parts = FORM.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if parts is None:
        raise Refused(Reason.CREDENTIAL_MALFORMED, "not a token")
    try:
        header, payload, signature = (unb64url(part.decode("ascii")) for part in parts.groups())
    except FormatError:
        raise Refused(Reason.CREDENTIAL_MALFORMED, "not canonical base64url") from None
    return header, payload, signature


class UnknownKey(Refused):
    """The header names a key that this issuer does not have: perhaps not yet."""

    def __init__(self) -> None:
        super().__init__(Reason.TOKEN_INVALID, "unknown kid")
        self.issuer = ""


def verify(envelope: Envelope, expected: Expected, keys: Mapping[str, Key], now_s: float) -> Claims:
    """The claims, as what the issuer holding `keys` said.

    Refused: token_invalid (UnknownKey among them), token_audience, token_expired.
    """
    _check_header(envelope.header, expected.profile)
    key = keys.get(_name(envelope.header["kid"]))
    if key is None:
        raise UnknownKey
    if not key.fits(envelope.header.get("alg")):
        raise _invalid("another algorithm than its key's")
    if not key.verify(envelope.signed, envelope.signature):
        raise _invalid("signature")
    _check_claims(envelope.claims, expected, now_s)
    return envelope.claims


def text_claim(claims: Mapping[str, Any], path: str) -> str | None:
    """The text at `path`, where a dot may stand for a step into an object (`kubernetes.io.serviceaccount.uid`).

    None where there is none; token_invalid where two of them could be meant.
    """
    found = _reached(claims, path)
    if len(found) > 1:
        raise _invalid("a claim with two readings")
    return found[0] if found and type(found[0]) is str else None


def _reached(claims: Mapping[str, Any], path: str) -> list[Any]:
    found = [claims[path]] if path in claims else []
    for name, value in claims.items():
        if type(value) is dict and path.startswith(f"{name}."):
            found += _reached(value, path[len(name) + 1 :])
    return found


def _check_header(header: Mapping[str, Any], profile: Profile) -> None:
    if not header.keys() <= profile.header:
        raise _invalid("a header member that this kind of token has not")  # jwk, jku, x5u, x5c, crit, b64, zip
    typ = header.get("typ")
    # RFC 7515 section 4.1.9: case-insensitive, `application/` may be left out.
    if (None if "typ" not in header else _name(typ).lower().removeprefix("application/")) not in profile.types:
        raise _invalid("typ")
    if "kid" not in header:
        raise _invalid("no kid")


def _check_claims(claims: Claims, expected: Expected, now_s: float) -> None:
    missing = expected.profile.required - claims.keys()
    if missing:
        raise _invalid(f"no {min(missing)}")
    _check_audience(claims, expected)
    _check_times(claims, expected, now_s)
    for name in NAMES:
        if name in claims:
            _name(claims[name])
    scope = claims.get("scope", "none")
    if type(scope) is not str or SCOPE.fullmatch(scope) is None:
        raise _invalid("scope")


def _check_audience(claims: Claims, expected: Expected) -> None:
    audience = claims["aud"]
    if expected.profile.audience == "one" and type(audience) is list and len(audience) == 1:
        audience = audience[0]
    if type(audience) is not str or audience != expected.audience:
        raise Refused(Reason.TOKEN_AUDIENCE)


def _check_times(claims: Claims, expected: Expected, now_s: float) -> None:
    for name in ("exp", "iat", "nbf"):  # `type is`: a bool is an int
        if name in claims and not (type(claims[name]) is int and 0 < claims[name] < 1 << 40):
            raise _invalid(name)
    ends: int = claims["exp"]
    issued: float = claims.get("iat", now_s)
    if now_s >= ends:
        raise Refused(Reason.TOKEN_EXPIRED)
    if issued > now_s + SKEW_S or claims.get("nbf", issued) > now_s + SKEW_S:
        raise _invalid("not yet valid")
    if not 0 < ends - issued <= min(expected.max_age, expected.profile.max_age):
        raise _invalid("lives too long")


def _name(value: object) -> str:
    if type(value) is not str or NAME.fullmatch(value) is None:
        raise _invalid("not a name")
    return value


def _invalid(detail: str) -> Refused:
    return Refused(Reason.TOKEN_INVALID, detail)


MAX_TOKEN, SKEW_S = 8192, 5
FORM = re.compile(rb"([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{2,})")
NAMES = ("iss", "sub", "jti", "client_id", "azp", "sid")
NAME = re.compile(r"[!-~]{1,255}")  # OpenID Connect Core: `sub` is at most 255 ASCII characters
SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")  # RFC 6749 section 3.3; str.split() would split on U+2003

_ACCESS = frozenset({"iss", "sub", "aud", "exp", "iat", "jti", "client_id"})
OURS = Profile(frozenset({"at+jwt"}), _ACCESS, 900)
RFC9068 = Profile(frozenset({"at+jwt"}), _ACCESS, 900)
# `default` audience tokens of Kubernetes live for a year: the bound refuses them.
KUBERNETES = Profile(frozenset({None}), frozenset({"iss", "sub", "aud", "exp", "iat"}), 3700, frozenset({"alg", "kid"}), "one")
GITHUB = Profile(
    frozenset({"jwt"}), frozenset({"iss", "sub", "aud", "exp", "iat", "jti"}), 900, frozenset({"alg", "kid", "typ", "x5t"})
)
JWT_SVID = Profile(frozenset({None, "jwt", "jose"}), frozenset({"iss", "sub", "aud", "exp"}), 3700, audience="one")
