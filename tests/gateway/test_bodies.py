"""Request bodies: one reading, closed fields, a fresh text for the sidecar (attack catalogue rows 88-92)."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealward.errors import Reason, Refused
from sealward.gateway.bodies import outgoing, parse_chat, strict_object

HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
PIXEL = "data:image/png;base64,AA=="
CALL = {"name": "f", "arguments": "{}"}
LLAMA = {"kind": "llamacpp", "prefix_cache": "off", "max_output": 100}


def chat(strange: dict[str, Any] | None = None, **members: Any) -> bytes:
    """A sound request with members added or replaced."""
    return orjson.dumps(HELLO | members | (strange or {}))


def refusal(body: bytes) -> tuple[str, str]:
    """Reason and detail of the refusal of `body`."""
    with pytest.raises(Refused) as caught:
        parse_chat(body)
    return caught.value.reason.value, caught.value.detail


MALFORMED = {
    "empty": b"",
    "a list": b"[]",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "UTF-16": '{"model":"m"}'.encode("utf-16"),
    "not UTF-8": b'{"model":"\xff"}',
    "NaN": b'{"model":NaN}',
    "infinity": b'{"temperature":1e999}',
    "a lone surrogate": b'{"model":"\\ud800"}',
    "a comment": b"{/* */}",
    "bytes behind the end": b"{}x",
    "brackets without end": b"[" * 100_000,
    "nested 33 deep": b'{"a":' * 33 + b"1" + b"}" * 33,
    "nested 10,000 deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_text_with_another_reading_is_malformed(body: bytes) -> None:
    """Whatever one JSON reader takes and another does not is refused, without a word of the body in the error."""
    assert refusal(body)[0] == "body_malformed"


DUPLICATES = {
    "at the top": b'{"model":"a","model":"b"}',
    "spelled with an escape": b'{"mode\\u006c":"a","model":"b"}',
    "deep inside": b'{"messages":[{"content":{"x":1,"x":1}}]}',
    "with space before the colon": b'{"model"  :"a","model" :"b"}',
    "beside escaped quotation marks": b'{"a":"\\"\\\\","b":"\\\\\\"","a":"\\""}',
    "empty names": b'{"":1,"":2}',
}


@pytest.mark.parametrize("body", DUPLICATES.values(), ids=DUPLICATES.keys())
def test_duplicate_keys_are_refused_at_any_depth(body: bytes) -> None:
    """The door decides on one `model`; a runtime that takes the other one must never see such a text."""
    assert refusal(body)[0] == "body_duplicate_key"


names = st.sampled_from(["a", "b", '"', "\\", '\\"', ":", "", "é"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | names,
    lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner), max_size=3).map(tuple),
    max_leaves=8,
)


def written(value: Any) -> str:
    """JSON text in which a tuple is an object that may repeat its keys."""
    if isinstance(value, tuple):
        return "{ " + ",".join(f"{json.dumps(name)} : {written(inner)}" for name, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value)


def repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The slow and plain way to find duplicates."""
    if len(dict(pairs)) != len(pairs):
        raise KeyError
    return dict(pairs)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(names, values), max_size=4).map(tuple))
def test_counting_strings_finds_exactly_the_duplicates(value: Any) -> None:
    """The count agrees with a reader that looks at every pair of every object."""
    text = written(value)
    try:
        expected = json.loads(text, object_pairs_hook=repeats)
    except KeyError:
        with pytest.raises(Refused, match="body_duplicate_key"):
            strict_object(text.encode())
    else:
        assert strict_object(text.encode()) == expected


FIELDS = {
    "MODEL beside model": (chat(MODEL="other"), "model"),
    "a long s": (chat({"\u017ftream": True}), "stream"),
    "a Kelvin sign": (chat({"max_to\u212aens": 1}), "max_tokens"),
    "a folded member inside a message": (chat(messages=[{"role": "user", "content": "", "Content": "x"}]), "messages.content"),
    "no model": (b'{"messages":[{"role":"user","content":""}]}', "model"),
    "no messages": (b'{"model":"m"}', "messages"),
    "null as model": (chat(model=None), "model"),
    "an empty conversation": (chat(messages=[]), "messages"),
    "stream as a number": (chat(stream=1), "stream"),
    "a boolean as max_tokens": (chat(max_tokens=True), "max_tokens"),
    "no tokens": (chat(max_tokens=0), "max_tokens"),
    "a number beyond 2^53": (chat(seed=2**53), "seed"),
    "17 choices": (chat(n=17), "n"),
    "21 log probabilities": (chat(top_logprobs=21), "top_logprobs"),
    "a temperature of 3": (chat(temperature=3), "temperature"),
    "another cache": (chat(cache_prompt=True), "cache_prompt"),
    "another limit": (chat(n_predict=3), "n_predict"),
    "another limit, folded": (chat(N_Predict=3), "n_predict"),
    "guided decoding": (chat(guided_regex="a"), "guided_regex"),
    "another upstream": (chat(api_base="http://x"), "api_base"),
    "another owner's conversation": (chat(previous_response_id="r"), "previous_response_id"),
    "an unknown role": (chat(messages=[{"role": "root", "content": ""}]), "messages.role"),
    "a list as role": (chat(messages=[{"role": [], "content": ""}]), "messages.role"),
    "a number as content": (chat(messages=[{"role": "user", "content": 1}]), "messages.content"),
    "a message without a role": (chat(messages=[{"content": ""}]), "messages.role"),
    "a message that is none": (chat(messages=["x"]), "messages"),
    "a video": (chat(messages=[{"role": "user", "content": [{"type": "video_url"}]}]), "messages.content.type"),
    "a fetched image": (
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]),
        "messages.content.image_url.url",
    ),
    "a tool of another host": (chat(tools=[{"type": "mcp", "server_url": "http://x"}]), "tools.type"),
    "a tool with a server": (
        chat(tools=[{"type": "function", "server_url": "x", "function": {"name": "f"}}]),
        "tools.server_url",
    ),
    "a schema that points elsewhere": (
        chat(tools=[{"type": "function", "function": {"name": "f", "parameters": {"a": [{"$ref": "http://x"}]}}}]),
        "tools.function.parameters",
    ),
    "an unknown response format": (chat(response_format={"type": "regex"}), "response_format.type"),
    "a bias for a word": (chat(logit_bias={"word": 1}), "logit_bias"),
}


@pytest.mark.parametrize(("body", "field"), FIELDS.values(), ids=FIELDS.keys())
def test_a_wrong_field_is_refused_and_named(body: bytes, field: str) -> None:
    """The name that leaves is one of our own tables, never the caller's spelling."""
    assert refusal(body) == ("body_field", field)


def test_unknown_fields_are_dropped_recorded_and_never_forwarded() -> None:
    """SDKs add fields with every release; what we do not know we do not pass on."""
    message = {"role": "assistant", "content": "x", "annotations": []}
    parsed = parse_chat(chat(messages=[message], user="alice", metadata={"a": "b"}, store=True, strange={"a\nb": 1, "": 1}))
    assert parsed.facts["dropped_fields"] == ["messages.annotations", "user", "metadata", "store", "a\ufffdb"]
    sent = orjson.loads(outgoing(parsed, "m", LLAMA).body)
    assert sent == HELLO | {"messages": [{"role": "assistant", "content": "x"}], "max_tokens": 100, "cache_prompt": False}


def test_every_field_of_the_table_reaches_the_sidecar() -> None:
    """What a caller may ask for is what the runtime gets, under the canonical model id."""
    members: dict[str, Any] = {
        "temperature": 0.5, "top_p": 1.0, "top_k": 40, "n": 2, "seed": 7, "stop": ["\n"], "frequency_penalty": 0.5,
        "presence_penalty": -0.5, "logprobs": True, "top_logprobs": 3, "logit_bias": {"15": -100.0}, "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/a"}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "response_format": {"type": "json_object"},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": PIXEL}}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "type": "function", "function": CALL}]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ],
    }  # fmt: skip
    parsed = parse_chat(chat(**members))
    sent = orjson.loads(outgoing(parsed, "canonical", LLAMA).body)
    assert sent == HELLO | members | {"model": "canonical", "max_tokens": 100, "cache_prompt": False}
    assert parsed.facts == {
        "n": 2, "seed": 7, "top_k": 40, "temperature_milli": 500, "top_p_milli": 1000, "frequency_penalty_milli": 500,
        "presence_penalty_milli": -500, "logprobs": 3, "stop_count": 1, "tools": ["f"], "output_type": "json_object",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "limit"),
    [({}, 100), ({"max_tokens": 7}, 7), ({"max_tokens": 999}, 100), ({"max_tokens": 9, "max_completion_tokens": 8}, 8)],
)
def test_one_limit_is_sent_and_reserved(asked: dict[str, int], limit: int) -> None:
    """The effective max_tokens is always sent, never above the model's max_output, and reserved for each choice."""
    sent = outgoing(parse_chat(chat(n=3, **asked)), "m", LLAMA)
    assert orjson.loads(sent.body)["max_tokens"] == sent.facts["max_tokens"] == limit
    assert "max_completion_tokens" not in orjson.loads(sent.body)
    assert sent.tokens == -(-len(sent.body) // 3) + 3 * limit


@pytest.mark.parametrize(("options", "wanted"), [({}, False), ({"stream_options": {"include_usage": True}}, True)])
def test_usage_is_always_asked_of_a_stream(options: dict[str, Any], wanted: bool) -> None:
    """Limits are settled by usage; the door must know whether the caller asked for that chunk."""
    parsed = parse_chat(chat(stream=True, **options))
    assert parsed.wants_usage is wanted
    assert orjson.loads(outgoing(parsed, "m", LLAMA).body)["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("kind", "prefix_cache", "expected"),
    [
        ("llamacpp", "off", {"cache_prompt": False}),
        ("llamacpp", "subject", {"cache_prompt": False}),
        ("llamacpp", "shared", {"cache_prompt": True}),
        ("openai", "off", {"cache_salt": "salt"}),
        ("openai", "subject", {"cache_salt": "salt"}),
        ("openai", "shared", {}),
        ("ollama", "off", {}),
    ],
)
def test_the_prefix_cache_follows_the_model_row(kind: str, prefix_cache: str, expected: dict[str, Any]) -> None:
    """Who shares a cache can test what others sent (gateway.md section 3): the row decides, never the caller."""
    row = {"kind": kind, "prefix_cache": prefix_cache, "max_output": 1}
    sent = orjson.loads(outgoing(parse_chat(chat()), "m", row, "salt").body)
    assert {name: sent[name] for name in sent if name.startswith("cache")} == expected


def test_a_missing_salt_refuses() -> None:
    """A door without a salt would share the cache silently."""
    with pytest.raises(Refused) as caught:
        outgoing(parse_chat(chat()), "m", {"kind": "openai", "prefix_cache": "subject", "max_output": 1})
    assert caught.value.reason is Reason.POLICY_ERROR
