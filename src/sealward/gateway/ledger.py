"""What the door tells the recorder about an exchange: the event of its admission, and of its end."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson

from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.gateway.entries import MOST_DROPPED, Author, tidy
from sealward.gateway.exchange import Exchange
from sealward.gateway.flight import Wait
from sealward.gateway.recorder_link import Answer, RecorderLink
from sealward.gateway.refusals import decision
from sealward.gateway.reply import Reply
from sealward.gateway.routes import Route
from sealward.gateway.sidecars import Sidecar
from sealward.gateway.standing import Ground
from sealward.identity.access import Grant
from sealward.identity.principal import Principal


class Ledger:
    """Admissions and closings of one worker."""

    def __init__(self, link: RecorderLink, author: Author) -> None:
        self._link, self._author = link, author
        self._ground: Ground | None = None
        self._openings: dict[tuple[object, ...], tuple[bytes, Principal, Grant, Sidecar, Route]] = {}

    def admit(self, exchange: Exchange) -> Wait[Answer]:
        """The recorder's answer: `index` and `pass`, or `refused`. Fails with Refused(journal_stalled | overloaded)."""
        out, chat = exchange.outgoing, exchange.chat
        if out is None or chat is None:
            raise Refused(Reason.POLICY_ERROR)
        facts = out.facts
        if len(facts.get("dropped_fields", ())) > MOST_DROPPED:
            facts = tidy({"request": facts})["request"]
        request, content = exchange.id.encode(), exchange.input
        digests = hashlib.sha256(content).hexdigest().encode(), hashlib.sha256(out.body).hexdigest().encode()
        # Type and time are the recorder's to say. A request's first admission is the one event that may bear its id.
        event_id = self._author.ulid().encode() if exchange.retried else request
        members = ADMISSION % (
            self._opening(exchange), event_id, exchange.source.json, orjson.dumps(facts), len(content), chat.messages,
            request, request, *digests, out.tokens,
        )  # fmt: skip
        return self._link.admit(members, exchange.id)

    def close_completed(self, exchange: Exchange, reply: Reply) -> Wait[Answer]:
        """The model's answer is whole; answered when that is durable."""
        exchange.closed = True
        event = {
            "outcome": {"status": 200, **self._outcome(exchange, reply)},
            "statement": _statement(reply),
            "content": {"output": {"bytes": reply.bytes_out, "capture": "digest"}},
        }
        return self._link.close({"op": "close", "req": exchange.id, "outcome": "completed", "event": event})

    def close_aborted(self, exchange: Exchange, refused: Refused, by: str) -> None:
        """Every other end after an admission. Nobody waits for it."""
        exchange.closed = True
        reply = exchange.reply
        status = 200 if exchange.answered else refused.status
        outcome = {"status": status, "aborted_by": by, "error_class": refused.reason.value, **self._outcome(exchange, reply)}
        event: Event = {"outcome": outcome, "statement": _statement(reply)}
        if exchange.cut_us:
            outcome["tokens_after_revocation"] = reply.released_since(exchange.cut_us) if reply is not None else 0
            event["decision"] = decision(refused)
        self._link.tell({"op": "close", "req": exchange.id, "outcome": "aborted", "event": event})

    def members(self, exchange: Exchange) -> dict[str, Any]:
        """What an event about this exchange says, as far as it has come."""
        link: Event = {"request": exchange.id}
        found: dict[str, Any] = {"source": exchange.source.facts, "link": link}
        if exchange.found is not None:
            route = exchange.found.route
            found["operation"] = {"name": route.operation, "route": route.template, "method": route.method}
        if exchange.ground is not None:
            ground = exchange.ground
            found["decision"] = {"epoch": ground.snapshot.epoch, "policy_digest": ground.access.policy_digest}
        if exchange.chat is not None:
            found["operation"]["stream"] = exchange.chat.stream
            found["model"] = {"alias": exchange.chat.model} | ({"id": exchange.model_id} if exchange.model_id else {})
            found["request"] = exchange.chat.facts
        if exchange.input and exchange.found is not None and exchange.found.route.kind == "chat":  # others close no request
            found["statement"] = {"input_sha256": hashlib.sha256(exchange.input).hexdigest()}
        return found

    def _opening(self, exchange: Exchange) -> bytes:
        """How the admission begins, up to what is this request's own: written once for all that differ in nothing else."""
        (ground, principal), grant, chat, sidecar, found = (
            exchange.known, exchange.grant, exchange.chat, exchange.sidecar, exchange.found,
        )  # fmt: skip
        if grant is None or chat is None or sidecar is None or found is None:
            raise Refused(Reason.POLICY_ERROR)
        if ground is not self._ground or len(self._openings) >= CACHE:
            self._openings.clear()
            self._ground = ground
        place = (id(principal), id(grant), id(sidecar), id(found.route), chat.model, chat.stream)
        known = self._openings.get(place)
        if known is None:
            message = {
                "op": "admit",
                "path": found.route.template,
                "sidecar": sidecar.name,
                "epoch": ground.snapshot.epoch,
                "event": _decided(exchange, ground, principal, grant) | {"instance": self._author.instance},
            }
            # Beside it what the ids are of, so that none of them is another object's while this is known.
            known = self._openings[place] = (orjson.dumps(message)[: -len("}}")], principal, grant, sidecar, found.route)
        return known[0]

    def _outcome(self, exchange: Exchange, reply: Reply | None) -> Event:
        now = self._author.clock.now()
        found: Event = {"total_us": max(0, now - exchange.started_us)}
        if reply is None:
            return found
        found |= reply.usage
        found["bytes_out"] = reply.bytes_out
        if reply.first_us:
            found["ttft_us"] = max(0, reply.first_us - exchange.started_us)
        reasons = [words for words in reply.collector.finish_reasons.values() if type(words) is str and WORD.fullmatch(words)]
        if reasons:
            found["finish_reasons"] = reasons[:MOST_REASONS]
        return found


def aborted_by(reason: Reason) -> str:
    """Who ended an admitted exchange."""
    return ENDED_BY.get(reason, "door")


def _decided(exchange: Exchange, ground: Ground, principal: Principal, grant: Grant) -> Event:
    """What an admitted event says of who may do what, and why."""
    chat, found = exchange.chat, exchange.found
    if chat is None or found is None:
        raise Refused(Reason.POLICY_ERROR)
    decided: Event = {"outcome": "allow", "epoch": ground.snapshot.epoch, "policy_digest": ground.access.policy_digest}
    decided["policy_ids"] = grant.policy_ids
    if grant.obligations:
        decided["obligations"] = grant.obligations
    route = found.route
    return {
        "v": 1,
        "tenant": "default",
        "subject": principal.subject(),
        "decision": decided,
        "operation": {"name": route.operation, "route": route.template, "method": route.method, "stream": chat.stream},
        "model": {"alias": chat.model, "id": exchange.model_id},
    }


def _statement(reply: Reply | None) -> Event:
    """The recorder knows the input's digest."""
    found: Event = {}
    if reply is not None and reply.bytes_out:
        found["output_sha256"] = reply.output_sha256
        text, tools = reply.collector.digests()
        if text:
            found["text_sha256"] = text
        if tools:
            found["tools_sha256"] = tools
    return found


CACHE = 10_000
ADMISSION = (
    b'%b,"id":"%b","source":%b,"request":%b,"content":{"input":{"bytes":%d,"capture":"digest","messages":%d}},'
    b'"link":{"request":"%b"}},"req":"%b","input":"%b","body":"%b","tokens":%d'
)
MOST_REASONS = 16
WORD = re.compile(r"[a-z_]{1,64}")
ENDED_BY = {
    Reason.CLIENT_GONE: "client",
    Reason.HTTP_TIMEOUT: "client",
    Reason.HTTP_MALFORMED: "client",
    Reason.REVOKED: "revocation",
    Reason.EXPIRED: "revocation",
    Reason.MODEL_WITHDRAWN: "revocation",
    Reason.KEY_UNAVAILABLE: "lease",
    Reason.UPSTREAM_ERROR: "upstream",
    Reason.UPSTREAM_TIMEOUT: "upstream",
    Reason.UPSTREAM_UNAVAILABLE: "upstream",
    Reason.INSPECTION_BLOCKED: "policy",
    Reason.INSPECTION_FAILED: "policy",
    Reason.POLICY_ERROR: "policy",
}
