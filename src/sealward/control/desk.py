"""What control does for the inference door, at a socket of its own: exchange tokens, and fetch an issuer's keys anew.

The door is believed in nothing but where a caller comes from and which certificate his connection has shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sealward.control.call import Heard
from sealward.control.gate import heard_of, named
from sealward.control.office import Office
from sealward.errors import Reason, Refused

Answer = Callable[[Heard, bytes], Awaitable[Response]]


class Desk:
    """An ASGI application for peers of the role `door`; `routes`: what it answers, by path, each a POST."""

    def __init__(self, office: Office, routes: dict[str, Answer]) -> None:
        self._office, self._routes = office, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        heard = heard_of(scope, self._office.author)
        answer = self._routes.get(scope["path"]) if scope["method"] == "POST" else None
        if answer is None:
            response: Response = JSONResponse({"error": "invalid_request"}, 404)
        else:
            try:
                response = await answer(heard, await _body(receive))
            except Refused as refused:
                response = JSONResponse({"error": "invalid_request"}, refused.status or 400)
        await response(scope, receive, named(send, heard.request))


def by_peer(desk: ASGIApp, admin: ASGIApp) -> ASGIApp:
    """The desk for the inference door, the admin API for everybody else."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await (desk if scope["state"]["peer"].role == "door" else admin)(scope, receive, send)

    return answer


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message: Any = await receive()
        if message["type"] != "http.request":
            raise Refused(Reason.CLIENT_GONE)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            raise Refused(Reason.BODY_TOO_LARGE)
    return body


MAX_BODY = 1 << 14
