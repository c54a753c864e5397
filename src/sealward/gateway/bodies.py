"""A request body: parsed once and strictly, then written anew. The client's bytes never go on.

Two readers of one text are two opinions about it: duplicate keys, keys that differ in case only, NaN, a second encoding. So the
body is read against a closed table per route (`fields.py`) and what goes on is what we wrote (design/contracts.md section 10).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from sealward.errors import Reason, Refused
from sealward.formats.event import tidy_name
from sealward.gateway.fields import CHAT, closed


class Chat(NamedTuple):
    """A chat request that may be decided on. `fields` holds only members of the table; `facts` is the event's `request`."""

    model: str
    """As the caller wrote it: `Access.resolve_model` makes the canonical id of it."""
    stream: bool
    wants_usage: bool
    messages: int
    n: int
    max_tokens: int
    """What the caller asked for; 0 = nothing."""
    fields: dict[str, Any]
    facts: dict[str, Any]


class Outgoing(NamedTuple):
    """What the sidecar gets, and what it may cost at most (design/contracts.md section 4, Limits)."""

    body: bytes
    tokens: int
    facts: dict[str, Any]


def parse_chat(body: bytes) -> Chat:
    """`POST /v1/chat/completions`. Raises `Refused` body_malformed | body_duplicate_key | body_field (detail: the field)."""
    dropped: list[str] = []
    fields = closed(strict_object(body), CHAT, "", dropped)
    model, messages = fields.get("model"), fields.get("messages")
    if model is None or messages is None:
        raise Refused(Reason.BODY_FIELD, "model" if model is None else "messages")
    asked = [fields.pop(name) for name in ("max_tokens", "max_completion_tokens") if name in fields]
    stream, options = fields.get("stream", False), fields.pop("stream_options", _NO_OPTIONS)
    facts = _facts(fields)
    if dropped:
        facts["dropped_fields"] = [tidy_name(name) for name in dropped if name]
    return Chat(
        model=model,
        stream=stream,
        wants_usage=stream and options.get("include_usage", False),
        messages=len(messages),
        n=fields.get("n", 1),
        max_tokens=min(asked, default=0),
        fields=fields,
        facts=facts,
    )


def outgoing(chat: Chat, model_id: str, model: Mapping[str, Any], cache_salt: str = "") -> Outgoing:
    """The body for the sidecar, the same for the same arguments.

    `model` is the snapshot's row. `cache_salt` separates the prefix cache of runtimes that have one: a keyed digest of the
    subject where the row says `subject`, the request's id where it says `off`; unused where it says `shared`.
    """
    limit = min(chat.max_tokens or model["max_output"], model["max_output"])
    written = chat.fields | {"model": model_id, "max_tokens": limit}
    if chat.stream:
        written["stream_options"] = _WITH_USAGE  # limits are settled by it; the door drops the chunk nobody asked for
    kind, prefix_cache = model["kind"], model["prefix_cache"]
    if kind == "llamacpp":
        written["cache_prompt"] = prefix_cache == "shared"  # it has no salt: `subject` is as good as off
    elif kind == "openai" and prefix_cache != "shared":
        if not cache_salt:
            raise Refused(Reason.POLICY_ERROR, "the prefix cache of this model needs a salt")
        written["cache_salt"] = cache_salt
    body = orjson.dumps(written)
    return Outgoing(body, -(-len(body) // 3) + chat.n * limit, chat.facts | {"max_tokens": limit})


def strict_object(body: bytes) -> dict[str, Any]:
    """One JSON object that has no second reading: UTF-8, no BOM, NaN, 1e999 or lone surrogate, no duplicate key at any depth.

    Parsers keep the last of two equal keys silently and a hook per object costs six times the parsing. But a key that went
    lost is a string less: so the strings of the text are counted (every quotation mark that no backslash escapes is one end
    of one) and compared with those of the value.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(Reason.BODY_MALFORMED, "not JSON") from None  # its message quotes the body
    if type(value) is not dict:
        raise Refused(Reason.BODY_MALFORMED, "not an object")
    escaped = body.replace(b"\\\\", b"").count(b'\\"') if b"\\" in body else 0
    if body.count(b'"') - escaped != 2 * _strings(value):
        raise Refused(Reason.BODY_DUPLICATE_KEY)
    return value


def _strings(value: dict[str, Any]) -> int:
    """How many keys and texts there are in a value nested at most MAX_DEPTH deep."""
    found, level = 0, [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for node in level:
            if type(node) is dict:
                found += len(node)
            for item in node.values() if type(node) is dict else node:
                kind = type(item)
                if kind is str:
                    found += 1
                elif kind is dict or kind is list:
                    inner.append(item)
        if not inner:
            return found
        level = inner
    raise Refused(Reason.BODY_MALFORMED, "nested too deep")


def _facts(fields: Mapping[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {name: fields[name] for name in ("n", "seed", "top_k") if name in fields}
    for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty"):
        if name in fields:
            facts[name + "_milli"] = round(fields[name] * 1000)
    if "top_logprobs" in fields or fields.get("logprobs"):
        facts["logprobs"] = fields.get("top_logprobs", 0)
    if "stop" in fields:
        facts["stop_count"] = 1 if type(fields["stop"]) is str else len(fields["stop"])
    if "tools" in fields:
        facts["tools"] = [tidy_name(tool["function"]["name"]) for tool in fields["tools"]]
    if "response_format" in fields:
        facts["output_type"] = fields["response_format"]["type"]
    return facts


MAX_DEPTH = 32
_NO_OPTIONS: dict[str, Any] = {}
_WITH_USAGE = {"include_usage": True}
