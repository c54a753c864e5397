"""What control asks the signer to sign as a token, and what the signer checks (docs/reference/tokens.md): no entry, no token.

request = canonical {by, claims, kind: "token", salt, v};  its hex SHA-256 is the `cm` of a token.minted or token.exchanged
claims  = {aud, client_id, exp, iat, iss, jti, sub} and, where they apply, {cnf: {"x5t#S256"}, scope, via}
via     = what the token was made of, the first first: {key} | {row, pin?, iat?, jti?, sid?};  at most MAX_LINKS
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sealward.formats import canonical, ids
from sealward.formats.change import Intent
from sealward.formats.fault import FormatError
from sealward.formats.passes import Log
from sealward.formats.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token before it is signed. `salt` (hex, 32 random bytes) hides it behind its digest."""

    by: str
    claims: Mapping[str, Any] = field(repr=False)
    salt: str = field(repr=False)

    @property
    def raw(self) -> bytes:
        """The canonical bytes: what the entry commits to and what is asked."""
        return canonical.dumps({"by": self.by, "claims": dict(self.claims), "kind": "token", "salt": self.salt, "v": 1})

    @property
    def digest(self) -> str:
        """Hex SHA-256 of `raw`: `change.digest` of the event and `cm` of its entry."""
        return hashlib.sha256(self.raw).hexdigest()


def parse_token_request(raw: bytes) -> TokenRequest:
    """FormatError("malformed") for anything but the canonical bytes of a request whose claims have their form."""
    match canonical.parse(raw):
        case {"by": str(by), "claims": dict(claims), "kind": "token", "salt": str(salt), "v": 1, **rest}:
            if not rest and ids.is_id(by) and ids.HEX32.fullmatch(salt) and _fits(claims):
                found = TokenRequest(by, claims, salt)
                if found.raw == raw:  # `true` is not version 1
                    return found
    raise FormatError("malformed", "not a request for a token")


def check_token(raw: bytes, intent: Intent, *, log: Log, last: Snapshot, kid: str, unix_s: int) -> Mapping[str, Any]:
    """The claims that the signer signs. FormatError, first reason first: malformed, promise, issuer, subject, lifetime.

    `kid` is the signer's own key: the snapshot's row of our tokens must hold it, or nobody would believe the token.
    """
    claims = parse_token_request(raw).claims
    try:
        log.check_promise(intent.index, intent.leaf, hashlib.sha256(raw).digest(), intent.promise)
    except FormatError as error:
        raise FormatError("promise", error.reason) from error
    rows = [row for row in last.sections["issuers"].values() if row["profile"] == "sealward"]
    known = [row for row in rows if (row["issuer"], row["audience"]) == (claims["iss"], claims["aud"])]
    if len(known) != 1 or kid not in {key["kid"] for key in known[0]["keys"]["jwks"]}:
        raise FormatError("issuer", "not our issuer, door or key")
    subject = last.sections["subjects"].get(claims["sub"])
    if subject is None or "disabled" in subject:
        raise FormatError("subject", "not there, or disabled")
    fresh = unix_s - MAX_AGE_S <= claims["iat"] <= unix_s + AHEAD_S
    if not fresh or not 0 < claims["exp"] - claims["iat"] <= min(MAX_LIFE_S, known[0]["max_age"]):
        raise FormatError("lifetime", "not of now, or too long")
    return claims


def _fits(claims: Mapping[str, Any]) -> bool:
    """Closed: what a verifier does not know must not be signed."""
    if not REQUIRED <= claims.keys() <= REQUIRED | OPTIONAL:
        return False
    texts = all(type(claims[name]) is str and TEXT.fullmatch(claims[name]) for name in ("iss", "aud", "jti"))
    times = all(type(claims[name]) is int for name in ("iat", "exp"))
    named = all(type(claims[name]) is str and ids.is_id(claims[name]) for name in ("sub", "client_id"))
    return texts and times and named and all(FORMS[name](claims[name]) for name in OPTIONAL & claims.keys())


def _is_scope(value: Any) -> bool:
    return type(value) is str and SCOPE.fullmatch(value) is not None


def _is_binding(value: Any) -> bool:
    match value:
        case {"x5t#S256": str(thumbprint), **rest}:
            return not rest and THUMBPRINT.fullmatch(thumbprint) is not None
    return False


def _is_via(value: Any) -> bool:
    return type(value) is list and 1 <= len(value) <= MAX_LINKS and all(map(_is_link, value))


def _is_link(link: Any) -> bool:
    match link:
        case {"key": str(), **rest}:
            return not rest
        case {"row": str(), **rest}:
            return rest.keys() <= LINK.keys() and all(type(rest[name]) is kind for name, kind in LINK.items() if name in rest)
    return False


MAX_LIFE_S, MAX_AGE_S, AHEAD_S = 900, 60, 5
MAX_LINKS = 4
REQUIRED = frozenset({"aud", "client_id", "exp", "iat", "iss", "jti", "sub"})
OPTIONAL = frozenset({"cnf", "scope", "via"})
LINK: Mapping[str, type] = {"pin": str, "iat": int, "jti": str, "sid": str}
TEXT = re.compile(r"[!-~]{1,255}")
SCOPE = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of 32 bytes
FORMS: Mapping[str, Callable[[Any], bool]] = {"cnf": _is_binding, "scope": _is_scope, "via": _is_via}
