"""Token exchange (RFC 8693) for callers of the inference door: any proven caller gets a short-lived token, narrower than himself.

The door has authenticated the caller and passes the request on; here his original credential is verified again, because a taken
door must not mint. What only a connection can prove, a client certificate, is the door's word: the token is then bound to that
certificate, so it is worth nothing to whoever does not hold its key.

The subject token is the request's own credential; `subject_token`, where it is sent, must be the same.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import JSONResponse, Response

from sealward.control.call import Heard
from sealward.control.gate import anonymous, decision
from sealward.control.minting import Unfit, Wanted, claims_for
from sealward.control.office import Office
from sealward.errors import Reason, Refused, UnreachableError
from sealward.events import Event
from sealward.formats.fault import FormatError
from sealward.identity.principal import Principal
from sealward.identity.scope import EVERYTHING, Scope


@dataclass(frozen=True, slots=True)
class Exchange:
    """Serves `POST /sealward/v1/token` of the inference door."""

    office: Office
    pace: Pace = field(default_factory=lambda: Pace())  # noqa: PLW0108 - it is written below

    async def answer(self, heard: Heard, body: bytes) -> Response:
        """As the caller gets it. What is refused has left its entry."""
        principal: Principal | None = None
        try:
            principal = self._proven(heard)
            return await self._exchanged(heard, principal, body)
        except (Refused, UnreachableError) as error:
            refused = error if isinstance(error, Refused) else Refused(Reason.OVERLOADED, error.detail)
            self.office.sink.record(self._refusal(heard, principal, refused))
            return _face(refused)

    def _proven(self, heard: Heard) -> Principal:
        now_us = self.office.author.clock.now()
        return self.office.decided_by().authenticate(
            heard.authorization,
            source_addr=heard.addr,
            now_us=now_us,
            certificate=heard.certificate,
            audience=self.office.settings.doors.audience("inference"),
        )

    async def _exchanged(self, heard: Heard, principal: Principal, body: bytes) -> Response:
        access, author = self.office.decided_by(), self.office.author
        now_us = author.clock.now()
        grant = access.decide(principal, ACTION, now_us=now_us)
        self.pace.check(principal.id, author.clock.boot())
        form = parse_form(body)
        wanted = _wanted(
            form, heard, self.office.settings.doors.audience("inference"), self.office.settings.identity.tokens.lifetime
        )
        claims = claims_for(access, principal, wanted, now_us, author.ulid())
        allowed = {"outcome": "allow", "epoch": access.epoch, "policy_digest": access.policy_digest}
        event = author.event(
            "token.exchanged",
            principal.subject(),
            source=dict(heard.source),
            operation=OPERATION,
            decision=allowed | {"policy_ids": list(grant.policy_ids)},
            link={"request": heard.request},
        )
        minted = await self.office.mint.mint(principal.id, claims, event)
        answer: dict[str, Any] = {"access_token": minted.token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"}
        answer |= {"expires_in": minted.lifetime_s} | ({"scope": minted.scope} if minted.scope else {})
        return JSONResponse(answer)

    def _refusal(self, heard: Heard, principal: Principal | None, refused: Refused) -> Event:
        if principal is None:
            return anonymous(self.office, heard, "authn", refused)
        return self.office.author.event(
            "inference.denied",
            principal.subject(),
            source=dict(heard.source),
            operation=OPERATION,
            decision=decision(refused),
            outcome={"status": refused.status},
            link={"request": heard.request},
        )


class Pace:
    """Each exchange is an entry that is synced: a subject has BURST of them at once, then one every EVERY_S seconds."""

    def __init__(self) -> None:
        self._full_at: dict[str, float] = {}

    def check(self, subject: str, boot: float) -> None:
        """Refused(limit_requests)."""
        full_at = max(self._full_at.pop(subject, 0.0), boot) + EVERY_S
        if full_at - boot > BURST * EVERY_S:
            self._full_at[subject] = full_at - EVERY_S
            raise Refused(Reason.LIMIT_REQUESTS, "token exchanges")
        if len(self._full_at) >= MAX_SUBJECTS:
            del self._full_at[next(iter(self._full_at))]
        self._full_at[subject] = full_at


def parse_form(body: bytes) -> Mapping[str, str]:
    """A form with one reading (RFC 6749 section 3.2: no parameter twice). Unfit(invalid_request)."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=16)
    except ValueError:
        raise Unfit("invalid_request", "not a form") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unfit("invalid_request", "a parameter twice")
    return found


def _wanted(form: Mapping[str, str], heard: Heard, audience: str, lifetime_s: int) -> Wanted:
    """Unfit: unsupported_grant_type, invalid_request, invalid_target, invalid_scope."""
    if "grant_type" not in form:
        raise Unfit("invalid_request", "grant_type")
    if form["grant_type"] != GRANT:
        raise Unfit("unsupported_grant_type", "grant_type")
    if "actor_token" in form or "actor_token_type" in form:
        raise Unfit("invalid_request", "actor_token")  # nobody acts for another here
    if form.get("subject_token_type", ACCESS_TOKEN) not in TYPES or form.get("requested_token_type", ACCESS_TOKEN) not in TYPES:
        raise Unfit("invalid_request", "token type")
    if "subject_token" in form and not _is_bearer(form["subject_token"], heard.authorization):
        raise Unfit("invalid_request", "subject_token")
    if {form[name] for name in ("audience", "resource") if name in form} - {audience}:
        raise Unfit("invalid_target", "audience")
    if "expires_in" in form:
        lifetime_s = _lifetime(form["expires_in"])
    try:
        scope = Scope.parse(form["scope"]) if "scope" in form else EVERYTHING
    except FormatError:
        raise Unfit("invalid_scope", "scope") from None
    return Wanted(scope, lifetime_s, heard.certificate.x5t if heard.certificate is not None else "")


def _is_bearer(token: str, authorization: tuple[bytes, ...]) -> bool:
    return len(authorization) == 1 and hmac.compare_digest(authorization[0].rpartition(b" ")[2], token.encode())


def _lifetime(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LONGEST_S)) and 0 < int(text) <= LONGEST_S):
        raise Unfit("invalid_request", "expires_in")
    return int(text)


def _face(refused: Refused) -> Response:
    """RFC 6749 section 5.2: a word, and nothing about what exists."""
    error = refused.error if isinstance(refused, Unfit) else ERRORS.get(refused.status, "temporarily_unavailable")
    headers = {UNAUTHORIZED: {"www-authenticate": 'Bearer error="invalid_token"'}, TOO_MANY: {"retry-after": "10"}}
    return JSONResponse({"error": error}, refused.status, headers.get(refused.status))


ACTION = "token:exchange"
OPERATION = {"name": "token.exchange", "method": "POST", "route": "/sealward/v1/token"}
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, not a token
TYPES = frozenset({ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt"})
LONGEST_S = 900
BURST, EVERY_S, MAX_SUBJECTS = 60, 2.0, 10_000
UNAUTHORIZED, TOO_MANY = 401, 429
ERRORS = {401: "invalid_token", 403: "access_denied", 404: "unsupported_grant_type", 429: "slow_down"}
