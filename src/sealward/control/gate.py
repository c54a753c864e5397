"""In front of the admin API: every request is routed by the closed table, proven, decided, read and checked, in this order.

Control proves the caller itself, by the original credential: a taken management door cannot become an administrator by saying
so. What passes carries its `Call`; what does not leaves its entry here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sealward.control.author import Author
from sealward.control.call import Call, Heard, Peer, operation
from sealward.control.office import Office
from sealward.control.problem import problem
from sealward.control.strict import check_json
from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.formats.ids import ULID
from sealward.identity.admin_routes import AdminRoute, match
from sealward.identity.certificate import ClientCertificate
from sealward.identity.principal import Principal
from sealward.identity.roles import local_admin


class Gate:
    """An ASGI application around the admin API. `scope["state"]["peer"]` is a `Peer`."""

    def __init__(self, app: ASGIApp, office: Office) -> None:
        self._app, self._office = app, office

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        heard = heard_of(scope, self._office.author)
        send = named(send, heard.request)
        try:
            route, _ = match(scope["method"], scope["path"])
        except Refused as refused:
            self._office.sink.record(anonymous(self._office, heard, "route", refused))
            await problem(refused, heard.request)(scope, receive, send)
            return
        try:
            principal = self._proven(scope["state"]["peer"], heard)
        except Refused as refused:
            self._office.sink.record(anonymous(self._office, heard, "authn", refused))
            await problem(refused, heard.request)(scope, receive, send)
            return
        try:
            scope["state"]["call"] = call = self._decided(heard, route, principal)
            body = await _read(receive)
        except Refused as refused:
            self._office.sink.record(denied(self._office, heard, route, principal, refused))
            await problem(refused, heard.request)(scope, receive, send)
            return
        await self._pass_on(scope, body, send, call)

    async def _pass_on(self, scope: Scope, body: bytes, send: Send, call: Call) -> None:
        """A read that was answered leaves `access.read`; a change has left its own entry before it was signed."""
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else {"type": "http.disconnect"}

        async def answer(message: Message) -> None:
            answered = message["type"] == "http.response.start" and message["status"] < FIRST_REFUSAL
            if answered and call.route.event == "access.read":
                event = self._office.author.event("access.read", call.principal.subject(), **call.members())
                self._office.sink.record(event)
            await send(message)

        await self._app(scope, replay, answer)

    def _proven(self, peer: Peer, heard: Heard) -> Principal:
        if peer.role == "owner" and self._office.settings.identity.local_admin and not heard.authorization:
            return local_admin()
        now_us = self._office.author.clock.now()
        audience = self._office.settings.doors.audience("management")
        return self._office.decided_by().authenticate(
            heard.authorization, source_addr=heard.addr, now_us=now_us, certificate=heard.certificate, audience=audience
        )

    def _decided(self, heard: Heard, route: AdminRoute, principal: Principal) -> Call:
        access = self._office.decided_by()
        grant = access.decide(principal, route.action, now_us=self._office.author.clock.now())
        return Call(heard, route, principal, grant, access.epoch, access.policy_digest)


def heard_of(scope: Scope, author: Author) -> Heard:
    """Only a door speaks for a caller elsewhere; whoever is at the owner's socket speaks for himself."""
    given: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        given.setdefault(name, []).append(value)
    authorization = tuple(given.get(b"authorization", ()))
    if scope["state"]["peer"].role == "owner":
        return Heard(author.ulid(), {"network": "owner socket"}, authorization)
    told = {name: given.get(f"x-sealward-{name}".encode(), [b""])[0].decode("latin-1") for name in TOLD_BY_DOORS}
    request = told["request"] if ULID.fullmatch(told["request"]) else author.ulid()
    return Heard(request, _source(told["source"]), authorization, _certificate(told["certificate"]))


def anonymous(office: Office, heard: Heard, stage: str, refused: Refused) -> Event:
    """The `request.refused` of a caller that nothing proves."""
    subject = {"id": "anonymous", "kind": "anonymous", "authn": "none"}
    members = {"source": dict(heard.source), "decision": decision(refused), "refusal": {"stage": stage}}
    return office.author.event("request.refused", subject, **members)


def denied(office: Office, heard: Heard, route: AdminRoute, principal: Principal, refused: Refused) -> Event:
    """The `admin.denied` of a proven caller."""
    known = {"epoch": office.access.epoch, "policy_digest": office.access.policy_digest} if office.access else {}
    members: Mapping[str, Any] = {
        "source": dict(heard.source),
        "operation": operation(route),
        "decision": decision(refused) | known,
        "link": {"request": heard.request},
    }
    return office.author.event("admin.denied", principal.subject(), **members)


def decision(refused: Refused) -> dict[str, Any]:
    """The `decision` of a refusal; an evaluation that failed is told apart."""
    outcome = "error" if refused.reason is Reason.POLICY_ERROR else "deny"
    return {"outcome": outcome, "reason": refused.reason.value}


def named(send: Send, request: str) -> Send:
    """Every answer names the request."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"x-sealward-request", request.encode())]
        await send(message)

    return answer


async def _read(receive: Receive) -> bytes:
    """The whole body, bounded, and empty or JSON with one reading."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(Reason.CLIENT_GONE)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise Refused(Reason.BODY_TOO_LARGE)
    check_json(bytes(body))
    return bytes(body)


def _source(text: str) -> dict[str, Any]:
    """`addr port`, as the management door writes it; empty, so outside every network, when it is anything else."""
    addr, _, port = text.partition(" ")
    try:
        return {"addr": str(ipaddress.ip_address(addr)), "port": int(port) & 0xFFFF, "tls_version": "1.3"}
    except ValueError:
        return {}


def _certificate(text: str) -> ClientCertificate | None:
    """What a door says the caller's connection has shown: DER in base64url, his own first."""
    try:
        return ClientCertificate.of([unb64url(part) for part in text.split(",") if part])
    except FormatError:
        return None


TOLD_BY_DOORS = ("request", "source", "certificate")
MAX_BODY = 1 << 16
FIRST_REFUSAL = 400
