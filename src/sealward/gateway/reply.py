"""Answers on their way from the sidecar to the caller: parsed, cleaned, hashed, and their last bytes held for the entry.

A runtime's bytes are never relayed: `model`, timings and cache counters tell of the house or of other callers' prompts
(knowledge/gateway.md section 3). What leaves is written anew and hashed as it leaves. A streamed answer goes out as it is read;
`[DONE]` and the end of the chunks, or the whole of an answer that is not streamed, wait for the closing entry.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import orjson

from sealward.clock import Clock
from sealward.errors import Reason, Refused
from sealward.formats.content import Collector
from sealward.gateway.flight import Wait
from sealward.gateway.limits import Limits
from sealward.gateway.sse import Events

Json = dict[str, Any]


class ReplyStage(Protocol):
    """Looks at each event of a stream and may hold some back until it knows more. One that raises Refused ends the stream."""

    def take(self, event: Json) -> Iterable[Json]:
        """What may go out now."""

    def end(self) -> Iterable[Json]:
        """What was held back and may go out after all."""


class Client(Protocol):
    """Where a stream is written to."""

    def write(self, content: bytes) -> None:
        """The next content, never empty."""


class Reply:
    """What is known of an answer, streamed or whole. `finished` fails with Refused(upstream_*) when there will be none."""

    def __init__(self, model: str, clock: Clock, limits: Limits, *, streamed: bool) -> None:
        self.model, self.clock, self.limits, self.streamed = model, clock, limits, streamed
        self.finished: Wait[None] = Wait()
        self.begun = False
        """The sidecar has answered 200: it has taken the pass, and no other one may be tried."""
        self.first_us = 0
        self.bytes_out = 0
        self.usage: Json = {}
        self.collector = Collector("chat", streamed=streamed)
        self._hash = hashlib.sha256()
        self._unhashed: list[bytes] = []

    @property
    def output_sha256(self) -> str:
        """Of the content that was released so far, the last bytes included once they are made."""
        self._hash.update(b"".join(self._unhashed))
        self._unhashed.clear()
        return self._hash.hexdigest()

    def last(self) -> bytes:
        """The content that waits for the closing entry. Called once, when `finished` is set."""
        raise NotImplementedError

    def released_since(self, moment_us: int) -> int:
        """How many tokens went out after `moment_us`."""
        del moment_us
        return 0

    # -- upstream.Sink --

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        wanted = b"text/event-stream" if self.streamed else b"application/json"
        if status != OK:
            self.fail(Reason.UPSTREAM_UNAVAILABLE if status == BUSY else Reason.UPSTREAM_ERROR)
        elif b"content-encoding" in headers or not _is(headers.get(b"content-type", b""), wanted):
            self.fail(Reason.UPSTREAM_ERROR)
        else:
            self.begun = True

    def broken(self, reason: Reason) -> None:
        self.fail(reason)

    def fail(self, reason: Reason) -> None:
        self.finished.fail(Refused(reason))

    def _count(self, content: bytes) -> None:
        self.bytes_out += len(content)
        self._unhashed.append(content)
        if len(self._unhashed) >= GATHERED or len(content) > LONG:  # short pieces together: their calls cost more than they
            self._hash.update(b"".join(self._unhashed))
            self._unhashed.clear()


class Whole(Reply):
    """An answer that is not streamed: nothing of it goes out before all of it was read and written anew."""

    def __init__(self, model: str, clock: Clock, limits: Limits) -> None:
        super().__init__(model, clock, limits, streamed=False)
        self._pieces: list[bytes] = []
        self._size = 0

    def received(self, content: bytes) -> None:
        self.first_us = self.first_us or self.clock.now()
        self._size += len(content)
        if self._size > self.limits.reply_bytes:
            self.fail(Reason.UPSTREAM_ERROR)
        elif not self.finished.done:
            self._pieces.append(content)

    def ended(self, content: bytes) -> None:
        if content:
            self.received(content)
        self.finished.set(None)

    def last(self) -> bytes:
        answer = _parse(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        self.usage = _usage(answer)
        shown = _clean(answer, self.model, with_usage=True)
        self.collector.see(shown)
        content = orjson.dumps(shown)
        self._count(content)
        return content


class Streamed(Reply):
    """A stream of chat chunks, written to the client as it is read."""

    def __init__(
        self, model: str, clock: Clock, limits: Limits, client: Client, *, with_usage: bool, stages: Sequence[ReplyStage] = ()
    ) -> None:
        super().__init__(model, clock, limits, streamed=True)
        self._client, self._with_usage, self._stages = client, with_usage, stages
        self._events = Events(limits.event_bytes)
        self._done = False
        self._tokens: deque[int] = deque(maxlen=MOST_TOKENS)

    def received(self, content: bytes) -> None:
        if self.finished.done:
            return
        events: list[Json] = []
        sound = True
        try:
            for data in self._events.feed(content):
                event = self._read(data)
                if event is not None:
                    events.append(event)
        except ValueError:
            sound = False  # what came before it goes out all the same, however the reads fell
        try:
            if self._stages:
                events = self._staged(events)
            if events:
                self._release(events)
        except Refused as refused:
            self.finished.fail(refused)
        if not sound:
            self.fail(Reason.UPSTREAM_ERROR)

    def ended(self, content: bytes) -> None:
        if content:
            self.received(content)
        if self._done and not self._events.unfinished:
            self.finished.set(None)
        else:
            self.fail(Reason.UPSTREAM_ERROR)

    def last(self) -> bytes:
        rest: list[Json] = []
        for at, stage in enumerate(self._stages):
            held = list(stage.end())
            for later in self._stages[at + 1 :]:
                held = [event for each in held for event in later.take(each)]
            rest += held
        return self._written(rest, b"data: [DONE]\n\n")

    def released_since(self, moment_us: int) -> int:
        return sum(at > moment_us for at in self._tokens)

    def _read(self, data: bytes) -> Json | None:
        """The event in `data` as it may go on; None for `[DONE]` and for the usage nobody asked for."""
        if self._done:
            raise ValueError("an event after the last")
        if data == b"[DONE]":
            self._done = True
            return None
        event = _parse(data)
        if event.get("usage"):
            self.usage = _usage(event)
            if not self._with_usage and not event["choices"]:
                return None
        return _clean(event, self.model, with_usage=self._with_usage)

    def _staged(self, events: list[Json]) -> list[Json]:
        for stage in self._stages:
            events = [event for each in events for event in stage.take(each)]
        return events

    def _release(self, events: list[Json]) -> None:
        now = self.clock.now()
        self.first_us = self.first_us or now
        self._tokens.extend([now] * len(events))
        self._client.write(self._written(events))

    def _written(self, events: list[Json], end: bytes = b"") -> bytes:
        content = b""
        for event in events:
            self.collector.see(event)
            content += b"data: %b\n\n" % orjson.dumps(event)
        content += end
        self._count(content)
        return content


def _is(content_type: bytes, wanted: bytes) -> bool:
    return content_type == wanted or content_type.partition(b";")[0].strip().lower() == wanted


def _parse(data: bytes) -> Json:
    """One chat object of the runtime; ValueError for anything else, an error object too."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = _with_lone_surrogates(data)
    if type(value) is not dict or type(value.get("choices")) is not list:
        raise ValueError("not a chat answer")
    return value


def _with_lone_surrogates(data: bytes) -> Any:
    """Half a surrogate pair, which orjson refuses, leaves the door as U+FFFD (contracts.md section 3)."""
    try:
        text = json.dumps(json.loads(data), ensure_ascii=False)
    except RecursionError:
        raise ValueError("nested too deep") from None
    return orjson.loads(_SURROGATE.sub("\ufffd", text))


def _clean(answer: Json, model: str, *, with_usage: bool) -> Json:
    """What a caller may see of it, under the name that was asked for."""
    if SHOWN.issuperset(answer):
        answer["model"] = model
        return answer
    kept = {name: answer[name] for name in KEPT if name in answer}
    kept["model"] = model
    usage = answer.get("usage")
    if with_usage and type(usage) is dict:
        kept["usage"] = {name: usage[name] for name in USAGE if name in usage}
    return kept


def _usage(answer: Json) -> Json:
    """`input_tokens`, `output_tokens`, … of an event's `outcome`; only what is a count."""
    usage = answer.get("usage")
    if type(usage) is not dict:
        return {}
    inner, outer = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    found = {
        "input_tokens": usage.get("prompt_tokens"),
        "output_tokens": usage.get("completion_tokens"),
        "cached_tokens": inner.get("cached_tokens") if type(inner) is dict else None,
        "reasoning_tokens": outer.get("reasoning_tokens") if type(outer) is dict else None,
    }
    return {name: value for name, value in found.items() if type(value) is int and 0 <= value < MAX_INT}


KEPT = ("id", "object", "created", "choices", "system_fingerprint", "service_tier")
SHOWN = frozenset({*KEPT, "model"})
USAGE = ("prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details")
OK, BUSY = 200, 503
GATHERED, LONG = 64, 4096
MAX_INT, MOST_TOKENS = 2**53, 512
_SURROGATE = re.compile("[\ud800-\udfff]")
