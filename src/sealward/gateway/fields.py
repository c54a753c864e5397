"""The members a request body may have: closed tables, one per route, with types and maxima.

What a table does not know is dropped and named; what would steer a runtime behind our back (its cache, its limits, its
templates, another upstream), or what a sloppier reader takes for a member, is refused (design/contracts.md section 10).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sealward.errors import Reason, Refused

Check = Callable[[Any, list[str]], Any]  # (value, dropped) → the value that goes on; ValueError = wrong


def closed(given: Any, table: Mapping[str, Check], prefix: str, dropped: list[str]) -> dict[str, Any]:
    """The members of `given` that the table knows, each checked; null is as good as absent."""
    if type(given) is not dict:
        raise ValueError(prefix)
    kept: dict[str, Any] = {}
    for name, value in given.items():
        check = table.get(name)
        if check is None:
            _unknown(name, table, prefix, dropped)
        elif value is not None or name == "content":
            try:
                kept[name] = check(value, dropped)
            except ValueError:
                raise Refused(Reason.BODY_FIELD, prefix + name) from None
    return kept


def _unknown(name: str, table: Mapping[str, Check], prefix: str, dropped: list[str]) -> None:
    # Go's encoding/json (Ollama) takes "MODEL" for "model", and a long s (U+017F) for the s of "stream".
    folded = name.casefold()
    if folded in table or folded in DENIED or folded.startswith(DENIED_PREFIX):
        raise Refused(Reason.BODY_FIELD, prefix + folded)
    dropped.append(prefix + name)


def _integer(low: int, high: int) -> Check:
    def check(value: Any, _: list[str]) -> int:
        if type(value) is int and low <= value <= high:
            return value
        raise ValueError

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any, _: list[str]) -> float:
        if (type(value) is float or type(value) is int) and low <= value <= high:
            return float(value)
        raise ValueError

    return check


def _text(longest: int, shortest: int = 0) -> Check:
    def check(value: Any, _: list[str]) -> str:
        if type(value) is str and shortest <= len(value) <= longest:
            return value
        raise ValueError

    return check


def _one_of(*words: str) -> Check:
    def check(value: Any, _: list[str]) -> str:
        if type(value) is str and value in words:
            return value
        raise ValueError

    return check


def _list_of(check_item: Check, longest: int, shortest: int = 0) -> Check:
    def check(value: Any, dropped: list[str]) -> list[Any]:
        if type(value) is list and shortest <= len(value) <= longest:
            return [check_item(item, dropped) for item in value]
        raise ValueError

    return check


def _object(prefix: str, table: Mapping[str, Check], *required: str) -> Check:
    def check(value: Any, dropped: list[str]) -> dict[str, Any]:
        kept = closed(value, table, prefix, dropped)
        for name in required:
            if name not in kept:
                raise Refused(Reason.BODY_FIELD, prefix + name)
        return kept

    return check


def _boolean(value: Any, _: list[str]) -> bool:
    if type(value) is bool:
        return value
    raise ValueError


def _messages(value: Any, dropped: list[str]) -> list[dict[str, Any]]:
    if type(value) is not list or not 0 < len(value) <= MAX_MESSAGES:
        raise ValueError
    return [message if _plain(message) else _message(message, dropped) for message in value]


def _plain(message: Any) -> bool:
    """A role and a text, as in nearly every message."""
    return (
        type(message) is dict
        and len(message) == PLAIN
        and type(message.get("content")) is str
        and type(role := message.get("role")) is str
        and role in ROLES
    )


def _content(value: Any, dropped: list[str]) -> Any:
    """Text, parts, or null where tool calls stand instead."""
    return value if value is None or type(value) is str else _parts(value, dropped)


def _part(value: Any, dropped: list[str]) -> Any:
    kind = value.get("type") if type(value) is dict else None
    if type(kind) is not str or kind not in PARTS:
        raise Refused(Reason.BODY_FIELD, "messages.content.type")
    return PARTS[kind](value, dropped)


def _data_url(value: Any, _: list[str]) -> str:
    # A URL that the runtime fetches is a request forged in our network's name (CVE-2026-22778).
    if type(value) is str and _DATA_URL.match(value):
        return value
    raise ValueError


def _tool_choice(value: Any, dropped: list[str]) -> Any:
    return (_choice_word if type(value) is str else _choice_function)(value, dropped)


def _stop(value: Any, dropped: list[str]) -> Any:
    return (_stop_word if type(value) is str else _stop_words)(value, dropped)


def _schema(value: Any, _: list[str]) -> dict[str, Any]:
    """A JSON schema whose references stay inside it: some runtimes fetch a `$ref`."""
    if type(value) is not dict:
        raise ValueError
    pending: list[Any] = [value]
    while pending:
        node = pending.pop()
        if type(node) is dict:
            reference = node.get("$ref", "#")
            if type(reference) is str and not reference.startswith("#"):
                raise ValueError
            pending.extend(node.values())
        elif type(node) is list:
            pending.extend(node)
    return value


def _logit_bias(value: Any, dropped: list[str]) -> dict[str, float]:
    if type(value) is not dict or len(value) > MAX_BIASES or not all(map(_TOKEN_ID.fullmatch, value)):
        raise ValueError
    return {token: _bias(weight, dropped) for token, weight in value.items()}


MAX_MESSAGES, MAX_PARTS, MAX_TOOLS, MAX_BIASES = 4096, 256, 128, 1024
MAX_CHOICES = 16  # what a receipt's list of texts holds
MAX_TEXT = 1 << 24  # the body's own limit is smaller
MAX_INTEGER = 2**53 - 1
PLAIN = 2
ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_DATA_URL = re.compile(r"data:[a-z]+/[a-z0-9.+-]+;base64,[A-Za-z0-9+/]*={0,2}\Z")
_TOKEN_ID = re.compile(r"[0-9]{1,9}")

_name, _any_text, _bias = _text(128, 1), _text(MAX_TEXT), _number(-100, 100)
_function_word = _one_of("function")
_stop_word, _stop_words = _text(1024), _list_of(_text(1024), 16)
_choice_word = _one_of("none", "auto", "required")
_choice_function = _object(
    "tool_choice.",
    {"type": _function_word, "function": _object("tool_choice.function.", {"name": _name}, "name")},
    "type",
    "function",
)

_image = _object("messages.content.image_url.", {"url": _data_url, "detail": _one_of("auto", "low", "high")}, "url")
PARTS: Mapping[str, Check] = {
    "text": _object("messages.content.", {"type": _any_text, "text": _any_text}, "text"),
    "refusal": _object("messages.content.", {"type": _any_text, "refusal": _any_text}, "refusal"),
    "image_url": _object("messages.content.", {"type": _any_text, "image_url": _image}, "image_url"),
}
_parts = _list_of(_part, MAX_PARTS, 1)

_called = _object("messages.tool_calls.function.", {"name": _name, "arguments": _any_text}, "name", "arguments")
_tool_call = _object("messages.tool_calls.", {"id": _text(256), "type": _function_word, "function": _called}, "function")
MESSAGE: Mapping[str, Check] = {
    "role": _one_of(*sorted(ROLES)),
    "content": _content,
    "name": _name,
    "tool_calls": _list_of(_tool_call, MAX_TOOLS),
    "tool_call_id": _text(256),
    "refusal": _any_text,
    "reasoning_content": _any_text,
}
_message = _object("messages.", MESSAGE, "role")

FUNCTION: Mapping[str, Check] = {"name": _name, "description": _any_text, "parameters": _schema, "strict": _boolean}
_tool = _object("tools.", {"type": _function_word, "function": _object("tools.function.", FUNCTION, "name")}, "type", "function")

JSON_SCHEMA: Mapping[str, Check] = {"name": _name, "description": _any_text, "schema": _schema, "strict": _boolean}
RESPONSE_FORMAT: Mapping[str, Check] = {
    "type": _one_of("text", "json_object", "json_schema"),
    "json_schema": _object("response_format.json_schema.", JSON_SCHEMA, "schema"),
}

CHAT: Mapping[str, Check] = {
    "model": _text(256, 1),
    "messages": _messages,
    "max_tokens": _integer(1, MAX_INTEGER),
    "max_completion_tokens": _integer(1, MAX_INTEGER),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "top_k": _integer(0, 1_000_000),
    "n": _integer(1, MAX_CHOICES),
    "seed": _integer(-MAX_INTEGER, MAX_INTEGER),
    "stop": _stop,
    "stream": _boolean,
    "stream_options": _object("stream_options.", {"include_usage": _boolean}),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "logprobs": _boolean,
    "top_logprobs": _integer(0, 20),
    "logit_bias": _logit_bias,
    "tools": _list_of(_tool, MAX_TOOLS),
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _boolean,
    "response_format": _object("response_format.", RESPONSE_FORMAT, "type"),
}
"""`POST /v1/chat/completions`. `user` and `metadata` are labels, never an identity: they go the way of unknown fields."""

DENIED = frozenset({
    # another limit than the one that is counted
    "n_predict", "num_predict", "best_of", "prompt_logprobs",
    # other callers' cache and places
    "cache_prompt", "cache_salt", "id_slot", "priority", "data_parallel_rank",
    # the runtime would fetch them
    "image_url", "video_url", "file_url", "server_url",
    # code paths, ReDoS, template injection
    "prompt_embeds", "chat_template", "chat_template_kwargs", "mm_processor_kwargs", "logits_processors", "grammar",
    "structured_outputs", "lora", "template", "raw", "kv_transfer_params",
    # another upstream or model than the one decided on
    "api_base", "base_url", "extra_body", "models", "fallbacks",
    # another owner's conversation
    "previous_response_id",
})  # fmt: skip
DENIED_PREFIX = "guided_"
