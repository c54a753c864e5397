"""Our own short-lived tokens: what they say, and how one comes about (docs/reference/tokens.md).

    token.exchanged | token.minted durable     its `cm` is the hash of the claims: no entry, no token
    signed                                     by the signer, which checks promise, issuer, subject and lifetime itself

A token gives nothing that its subject has not, at one door, for 15 minutes at most; it never outlives what it was made of, and
names that, so that it ends with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sealward.control.author import Author
from sealward.control.publisher import Journal
from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats.change import Intent
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.formats.token import MAX_LINKS, TokenRequest
from sealward.identity.access import Access
from sealward.identity.principal import Principal
from sealward.identity.scope import EVERYTHING, Scope


class TokenSigner(Protocol):
    """The signer's link. FormatError when it says no, UnreachableError when nobody knows what it did (a token nobody has)."""

    async def token(self, request: bytes, intent: Intent) -> str: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: narrower than what the caller has, for `lifetime_s` at most, bound to a certificate (`x5t`) or not."""

    scope: Scope
    lifetime_s: int
    x5t: str = ""


@dataclass(frozen=True, slots=True)
class Minted:
    """A token as its holder gets it, once. `scope` is what it is narrowed to."""

    token: str
    jti: str
    lifetime_s: int
    scope: str


class Unfit(Refused):
    """A token that nobody may have; `error` is the word of OAuth for it (RFC 6749 section 5.2, RFC 8693 section 2.2.2)."""

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(Reason.BODY_FIELD, detail, status=400)
        self.error = error


class Mint:
    """`mint` writes the entry first."""

    def __init__(self, journal: Journal, signer: TokenSigner, author: Author) -> None:
        self._journal, self._signer, self._author = journal, signer, author

    async def mint(self, by: str, claims: dict[str, Any], event: Event) -> Minted:
        """Signs `claims`; `event` is the verb's, without `change`. Refused when recorder or signer say no."""
        request = TokenRequest(by, claims, self._author.random(32).hex())
        told = {"target": f"token:{claims['jti']}", "action": event["type"].removeprefix("token."), "after": _told(claims)}
        event |= {"change": told | {"digest": f"sha256:{request.digest}", "salt": request.salt}}
        intent = await self._journal.record(event)
        try:
            token = await self._signer.token(request.raw, intent)
        except FormatError as error:
            await self._journal.record(self._author.failed(event, request.digest, error.reason))
            raise Refused(Reason.POLICY_ERROR, f"the signer refused the token: {error.reason}") from error
        return Minted(token, claims["jti"], claims["exp"] - claims["iat"], claims.get("scope", ""))


def claims_for(access: Access, principal: Principal, wanted: Wanted, now_us: int, jti: str) -> dict[str, Any]:
    """The claims of a token for a proven caller. Unfit: invalid_scope, invalid_request; Refused(expired)."""
    ours = access.issuers.ours
    if ours is None or ours.expected is None:
        raise Refused(Reason.ROUTE_NOT_SUPPORTED, "this deployment mints no tokens: run `sealward init` again")
    via = access.lineage(principal)
    if len(via) > MAX_LINKS:
        raise Unfit("invalid_request", "a token made of a token of a token: present what the first was made of")
    scope = _narrowed(principal, wanted.scope)
    now_s = now_us // 1_000_000
    ends_s = min(now_s + wanted.lifetime_s, now_s + ours.expected.max_age)
    if principal.expires_us is not None:
        ends_s = min(ends_s, principal.expires_us // 1_000_000)
    if ends_s <= now_s:
        raise Refused(Reason.EXPIRED)
    claims: dict[str, Any] = {"iss": ours.name, "aud": ours.audience, "sub": principal.id, "client_id": principal.id}
    claims |= {"jti": jti, "iat": now_s, "exp": ends_s}
    claims |= {"scope": scope} if scope else {}
    claims |= {"cnf": {"x5t#S256": wanted.x5t}} if wanted.x5t else {}
    return claims | ({"via": via} if via else {})


def _narrowed(principal: Principal, wanted: Scope) -> str:
    """What is wanted, or all that the caller has. A key's bindings go on to count behind the token too."""
    has = principal.scope or EVERYTHING
    bindings = principal.bindings
    if bindings is not None:
        limits = Scope(bindings.actions, bindings.models)
        if not _fill(wanted, limits).within(limits):
            raise Unfit("invalid_scope", "wider than the key's bindings")
    found = _fill(wanted, has)
    if not found.within(has):
        raise Unfit("invalid_scope", "wider than what the caller has")
    return str(found)


def _fill(wanted: Scope, has: Scope) -> Scope:
    """What was not asked for stays as it is."""
    return Scope(wanted.actions or has.actions, wanted.models or has.models)


def _told(claims: dict[str, Any]) -> str:
    bound = ", bound to a certificate" if "cnf" in claims else ""
    return f"{claims['sub']} until {rfc3339(claims['exp'] * 1_000_000)}, {claims.get('scope', 'all that it may')}{bound}"
