"""What the door answers itself: probes, the caller's models, his receipts. Each read but a probe leaves an `access.read`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from sealward.errors import Reason, Refused
from sealward.formats.ids import ULID
from sealward.gateway import answers
from sealward.gateway.exchange import Exchange
from sealward.identity.scope import ACTIONS

if TYPE_CHECKING:
    from sealward.gateway.worker import Worker


async def probe(worker: Worker, exchange: Exchange) -> None:
    """Alive: 200 as long as somebody answers. Ready: 503 while new requests would be refused."""
    await exchange.body
    ready = exchange.found is None or exchange.found.route.kind == "livez" or worker.ready
    answers.whole(exchange, 200 if ready else 503, JSON, b'{"status":"ok"}' if ready else b'{"status":"unavailable"}')


async def resource(worker: Worker, exchange: Exchange) -> None:
    """RFC 9728. Issuers of people's tokens alone: where workloads run is nobody's business. Refused: route_unknown, no_*."""
    await exchange.body
    issuers = worker.standing.ground().access.issuers
    if issuers.ours is None:
        raise Refused(Reason.ROUTE_UNKNOWN)
    told = {
        "resource": issuers.ours.audience,
        "authorization_servers": sorted(each.name for each in issuers.by_id.values() if each.kind == "rfc9068"),
        "bearer_methods_supported": ["header"],
        "scopes_supported": sorted(ACTIONS),
        "tls_client_certificate_bound_access_tokens": True,
    }
    answers.whole(exchange, 200, JSON, orjson.dumps(told))


async def answer(worker: Worker, exchange: Exchange) -> None:
    """Refused: model_not_granted, action_not_granted, route_unknown (no such receipt, or another's), journal_stalled."""
    if exchange.found is None:
        raise Refused(Reason.ROUTE_UNKNOWN)
    kind = exchange.found.route.kind
    if kind == "models":
        _note(worker, exchange)
        answers.whole(exchange, 200, JSON, _models(worker, exchange))
    elif kind == "model":
        content = _model(worker, exchange)
        _note(worker, exchange)
        answers.whole(exchange, 200, JSON, content)
    else:
        await _receipt(worker, exchange)


def _models(worker: Worker, exchange: Exchange) -> bytes:
    ground, principal = exchange.known
    visible = ground.access.visible_models(principal, now_us=worker.clock.now())
    return orjson.dumps({"object": "list", "data": [_row(model) for model in visible]})


def _model(worker: Worker, exchange: Exchange) -> bytes:
    ground, principal = exchange.known
    model = ground.access.resolve_model(exchange.found.parameter if exchange.found else "")
    ground.access.decide(principal, "model:list", model, now_us=worker.clock.now())
    return orjson.dumps(_row(model or ""))


async def _receipt(worker: Worker, exchange: Exchange) -> None:
    ground, principal = exchange.known
    ground.access.decide(principal, "receipt:read", now_us=worker.clock.now())
    _note(worker, exchange)
    request = exchange.found.parameter if exchange.found else ""
    if ULID.fullmatch(request) is None:
        raise Refused(Reason.ROUTE_UNKNOWN)
    found = await worker.link.ask({"op": "receipt", "req": request, "subject": principal.id})
    if "receipt" in found:
        answers.whole(exchange, 200, JSON, found["receipt"].encode())
    elif found.get("pending"):
        answers.whole(exchange, 202, JSON, b'{"status":"pending"}', b"retry-after: 1\r\n")
    else:  # of others, erased, of a refusal, or never there: one answer
        raise Refused(Reason.ROUTE_UNKNOWN)


def _note(worker: Worker, exchange: Exchange) -> None:
    _, principal = exchange.known
    worker.refusals.read(principal.subject(), worker.ledger.members(exchange))
    exchange.noted = True


def _row(model: str) -> dict[str, object]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "sealward"}


JSON = b"application/json"
