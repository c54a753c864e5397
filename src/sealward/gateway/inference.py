"""The stages of a chat request from its body to its last byte."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sealward.errors import Reason, Refused
from sealward.gateway import answers
from sealward.gateway.bodies import outgoing, parse_chat
from sealward.gateway.exchange import Exchange
from sealward.gateway.reply import Reply, Streamed, Whole

if TYPE_CHECKING:
    from sealward.gateway.flight import Wait
    from sealward.gateway.recorder_link import Answer
    from sealward.gateway.sidecars import Sidecar
    from sealward.gateway.worker import Worker


def authorize(worker: Worker, exchange: Exchange) -> None:
    """Refused: body_*, model_*, action_not_granted, policy_*, credential_binding. One answer for unknown and forbidden models."""
    exchange.chat = parse_chat(exchange.input)
    if worker.standing.ground() is not exchange.ground:  # it moved while the body came
        _renew(worker, exchange)
    _decide(worker, exchange)


async def admit(worker: Worker, exchange: Exchange) -> None:
    """Refused: upstream_unavailable, model_digest, and whatever the recorder says (limit_*, stale_epoch, journal_*, overloaded).

    When the recorder knows another epoch, whoever is behind fetches; then everything is decided anew and asked again, once.
    """
    until = worker.clock.boot() + worker.limits.admit_s
    exchange.sidecar = _at_hand(worker, exchange) or await _sidecar(worker, exchange)
    while not _admitted(exchange, await worker.ledger.admit(exchange)):
        left = until - worker.clock.boot()
        if left <= 0 or not await worker.standing.moved(exchange.known[0], left):
            raise Refused(Reason.STALE_EPOCH)
        _renew(worker, exchange)
        _decide(worker, exchange)
        exchange.sidecar = await _sidecar(worker, exchange)


async def forward(worker: Worker, exchange: Exchange) -> None:
    """Until the whole answer was read. Refused: upstream_*. Before a byte of it another sidecar, or another run, may be tried."""
    try:
        await _send(worker, exchange)
    except Refused as refused:
        if refused.reason is not Reason.UPSTREAM_UNAVAILABLE or exchange.reply is None or exchange.reply.begun:
            raise
        other = await _sidecar(worker, exchange, but=exchange.sidecar)
        worker.ledger.close_aborted(exchange, refused, "upstream")
        exchange.pass_, exchange.index, exchange.closed, exchange.retried = "", None, False, True
        exchange.sidecar = other
        if not _admitted(exchange, await worker.ledger.admit(exchange)):
            raise Refused(Reason.STALE_EPOCH) from None
        await _send(worker, exchange)


async def record(worker: Worker, exchange: Exchange) -> None:
    """The closing entry, durable. Refused: upstream_error (an answer that is none), journal_*."""
    reply = _reply(exchange)
    try:
        exchange.last = reply.last()
    except ValueError:
        raise Refused(Reason.UPSTREAM_ERROR) from None
    answer = await worker.ledger.close_completed(exchange, reply)
    if "refused" in answer:
        raise Refused(Reason(answer["refused"]))


def release(worker: Worker, exchange: Exchange) -> None:
    """The bytes that waited for the entry."""
    del worker
    if _reply(exchange).streamed:
        answers.StreamTo(exchange).end(exchange.last)
    else:
        answers.whole(exchange, 200, b"application/json", exchange.last)


def _renew(worker: Worker, exchange: Exchange) -> None:
    ground = worker.standing.ground()
    exchange.principal = ground.access.renew(exchange.known[1], now_us=worker.clock.now())
    exchange.ground = ground


def _decide(worker: Worker, exchange: Exchange) -> None:
    """Model, grant and the body for the sidecar, by the exchange's own snapshot."""
    ground, principal = exchange.known
    chat = exchange.chat
    if chat is None or exchange.found is None:
        raise Refused(Reason.POLICY_ERROR)
    model_id = ground.access.resolve_model(chat.model)
    exchange.grant = ground.access.decide(principal, exchange.found.route.action, model_id, now_us=exchange.started_us)
    if model_id is None:
        raise Refused(Reason.MODEL_NOT_GRANTED)
    exchange.model_id = model_id
    row = ground.snapshot.sections["models"][model_id]
    exchange.outgoing = outgoing(chat, model_id, row, worker.cache_salt(row, principal.id, exchange.id))


def _at_hand(worker: Worker, exchange: Exchange) -> Sidecar | None:
    return worker.sidecars.at_hand(exchange.model_id or "", _row(exchange))


async def _sidecar(worker: Worker, exchange: Exchange, but: Sidecar | None = None) -> Sidecar:
    return await worker.sidecars.serving(exchange.model_id or "", _row(exchange), but)


def _row(exchange: Exchange) -> Mapping[str, Any]:
    row: Mapping[str, Any] = exchange.known[0].snapshot.sections["models"][exchange.model_id or ""]
    return row


def _admitted(exchange: Exchange, answer: Answer) -> bool:
    """The recorder's answer: `pass_` and `index` are set, or Refused; False when the epochs differ."""
    refused = answer.get("refused")
    if refused is None:
        exchange.index, exchange.pass_ = answer["index"], answer["pass"]
    elif refused != Reason.STALE_EPOCH:
        # A decided refusal the recorder has written itself; of an inability of its own nothing is written.
        exchange.noted = True
        raise Refused(Reason(refused))
    return refused is None


def _send(worker: Worker, exchange: Exchange) -> Wait[None]:
    """The request with its pass, to the sidecar it was made for; what it gives is over when the answer is."""
    sidecar, out, chat = exchange.sidecar, exchange.outgoing, exchange.chat
    if sidecar is None or out is None or chat is None or exchange.model_id is None or not exchange.pass_:
        raise Refused(Reason.UPSTREAM_UNAVAILABLE)
    reply: Reply
    if chat.stream:
        client = answers.StreamTo(exchange)
        reply = Streamed(
            exchange.model_id, worker.clock, worker.limits, client, with_usage=chat.wants_usage, stages=worker.stages
        )
    else:
        reply = Whole(exchange.model_id, worker.clock, worker.limits)
    exchange.reply = reply
    call = exchange.call = sidecar.pool.send(
        REQUEST % (exchange.pass_.encode(), _trace(exchange), len(out.body), out.body), reply
    )
    if exchange.connection.paused:
        call.pause()
    return reply.finished


def _trace(exchange: Exchange) -> bytes:
    trace = exchange.head.headers.get(b"traceparent", b"")
    return b"traceparent: %b\r\n" % trace if TRACE.fullmatch(trace) else b""


def _reply(exchange: Exchange) -> Reply:
    if exchange.reply is None:
        raise Refused(Reason.UPSTREAM_ERROR)
    return exchange.reply


REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: sidecar\r\ncontent-type: application/json\r\n"
    b"x-sealward-pass: %b\r\n%bcontent-length: %d\r\n\r\n%b"
)
TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
