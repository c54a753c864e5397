"""Attack: a body that says one thing to the door and another to the model (rows 88 to 93)."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from siege import CANARY, Siege

MESSAGES = '"messages":[{"role":"user","content":"hello"}]'
MALFORMED = {
    "empty": b"",
    "white_space": b" \n",
    "a_list": b"[{}]",
    "a_word": b"hello",
    "null": b"null",
    "a_number": b"1",
    "byte_order_mark": b"\xef\xbb\xbf" + b'{"model":"mock",' + MESSAGES.encode() + b"}",
    "utf_16": ('{"model":"mock",' + MESSAGES + "}").encode("utf-16"),
    "utf_16_le": ('{"model":"mock",' + MESSAGES + "}").encode("utf-16-le"),
    "utf_32": ('{"model":"mock",' + MESSAGES + "}").encode("utf-32"),
    "latin_1": '{"model":"mock","messages":[{"role":"user","content":"é"}]}'.encode("latin-1"),
    "overlong_utf_8": b'{"model":"mock","messages":[{"role":"user","content":"\xc0\xaf"}]}',
    "nul": b'{"model":"mock\x00"}',
    "raw_line_feed_in_a_text": b'{"model":"mo\nck"}',
    "nan": b'{"model":"mock","temperature":NaN}',
    "infinity": b'{"model":"mock","temperature":Infinity}',
    "1e999": b'{"model":"mock","temperature":1e999}',
    "leading_zero": b'{"model":"mock","n":01}',
    "hex": b'{"model":"mock","n":0x1}',
    "plus": b'{"model":"mock","n":+1}',
    "comment": b'{"model":"mock"/* "hidden" */}',
    "line_comment": b'{"model":"mock"} // x',
    "single_quotes": b"{'model':'mock'}",
    "no_quotes": b"{model:'mock'}",
    "trailing_comma": b'{"model":"mock",}',
    "trailing_garbage": b'{"model":"mock"}x',
    "two_objects": b'{"model":"mock"}{"model":"hidden"}',
    "json_lines": b'{"model":"mock"}\n{"model":"hidden"}',
    "cut_off": b'{"model":"mock","messages":[',
    "lone_surrogate": b'{"model":"\\ud800"}',
    "bad_escape": b'{"model":"\\x6dock"}',
    "33_deep": b'{"a":' * 33 + b"1" + b"}" * 33,
    "10000_deep": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "100000_brackets": b"[" * 100_000,
    "a_form": b"model=mock&messages=hello",
    "a_multipart": b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nhidden\r\n--x--',
    "gzip": gzip.compress(b'{"model":"mock"}'),
    "a_gzip_bomb": gzip.compress(bytes(4_000_000)),
    "messagepack": b"\x82\xa5model\xa4mock",
}
DUPLICATES = {
    "the_last_is_hidden": b'{"model":"mock",%b,"model":"hidden"}',
    "the_first_is_hidden": b'{"model":"hidden",%b,"model":"mock"}',
    "the_same_twice": b'{"model":"mock",%b,"model":"mock"}',
    "by_an_escape": b'{"mode\\u006c":"hidden",%b,"model":"mock"}',
    "by_an_escape_behind": b'{"model":"mock",%b,"\\u006dodel":"hidden"}',
    "spaced": b'{"model" :"mock",%b,"model"\t:"hidden"}',
    "messages_twice": b'{"model":"mock",%b,"messages":[]}',
    "stream_twice": b'{"model":"mock",%b,"stream":false,"stream":true}',
    "inside_an_unknown_member": b'{"model":"mock",%b,"x":{"a":1,"a":2}}',
    "inside_a_message": b'{"model":"mock","messages":[{"role":"user","role":"system","content":"hello"}]}',
    "inside_a_tool": b'{"model":"mock",%b,"tools":[{"type":"function","function":{"name":"f","name":"g"}}]}',
}
FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "upper_case_model": ({"MODEL": "hidden"}, "model"),
    "capital_model": ({"Model": "hidden"}, "model"),
    "long_s_stream": ({"\u017ftream": True}, "stream"),
    "kelvin_tokens": ({"max_to\u212aens": 9}, "max_tokens"),
    "folded_messages": ({"Messages": []}, "messages"),
    "folded_role": ({"messages": [{"role": "user", "content": "x", "ROLE": "system"}]}, "messages.role"),
    "models": ({"models": ["hidden"]}, "models"),
    "fallbacks": ({"fallbacks": [{"model": "hidden"}]}, "fallbacks"),
    "lora": ({"lora": [{"id": 0}]}, "lora"),
    "api_base": ({"api_base": "http://127.0.0.1:1"}, "api_base"),
    "base_url": ({"base_url": "http://127.0.0.1:1"}, "base_url"),
    "extra_body": ({"extra_body": {"model": "hidden"}}, "extra_body"),
    "n_predict": ({"n_predict": 9999}, "n_predict"),
    "num_predict": ({"num_predict": 9999}, "num_predict"),
    "best_of": ({"best_of": 16}, "best_of"),
    "cache_prompt": ({"cache_prompt": True}, "cache_prompt"),
    "cache_salt": ({"cache_salt": "x"}, "cache_salt"),
    "id_slot": ({"id_slot": 0}, "id_slot"),
    "priority": ({"priority": -1}, "priority"),
    "data_parallel_rank": ({"data_parallel_rank": 0}, "data_parallel_rank"),
    "chat_template": ({"chat_template": "{{ 1 }}"}, "chat_template"),
    "chat_template_kwargs": ({"chat_template_kwargs": {}}, "chat_template_kwargs"),
    "mm_processor_kwargs": ({"mm_processor_kwargs": {}}, "mm_processor_kwargs"),
    "logits_processors": ({"logits_processors": ["os.system"]}, "logits_processors"),
    "grammar": ({"grammar": "root ::= x"}, "grammar"),
    "guided_regex": ({"guided_regex": "(a+)+$"}, "guided_regex"),
    "guided_json": ({"guided_json": {}}, "guided_json"),
    "structured_outputs": ({"structured_outputs": {}}, "structured_outputs"),
    "prompt_embeds": ({"prompt_embeds": "x"}, "prompt_embeds"),
    "prompt_logprobs": ({"prompt_logprobs": 5}, "prompt_logprobs"),
    "kv_transfer_params": ({"kv_transfer_params": {}}, "kv_transfer_params"),
    "previous_response": ({"previous_response_id": "resp_1"}, "previous_response_id"),
    "image_by_url": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]}]},
        "messages.content.image_url.url",
    ),
    "image_by_file": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
        "messages.content.image_url.url",
    ),
    "image_of_html": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/html,x"}}]}]},
        "messages.content.image_url.url",
    ),
    "video": ({"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]}, "messages.content.type"),
    "tool_server": ({"tools": [{"type": "mcp", "server_url": "http://127.0.0.1"}]}, "tools.type"),
    "schema_elsewhere": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1/"}}}},
        "response_format.json_schema.schema",
    ),
    "stream_as_a_text": ({"stream": "true"}, "stream"),
    "stream_as_a_number": ({"stream": 1}, "stream"),
    "model_as_a_list": ({"model": ["mock", "hidden"]}, "model"),
    "model_as_an_object": ({"model": {"id": "mock"}}, "model"),
    "no_model": ({"model": None}, "model"),
    "an_empty_model": ({"model": ""}, "model"),
    "a_long_model": ({"model": "m" * 257}, "model"),
    "no_messages": ({"messages": None}, "messages"),
    "a_text_as_messages": ({"messages": "hello"}, "messages"),
    "5000_messages": ({"messages": [{"role": "user", "content": "x"}] * 5000}, "messages"),
    "17_choices": ({"n": 17}, "n"),
    "16384_choices": ({"n": 16_384}, "n"),
    "negative_tokens": ({"max_tokens": -1}, "max_tokens"),
    "tokens_as_a_fraction": ({"max_tokens": 1.5}, "max_tokens"),
    "tokens_beyond_2_53": ({"max_tokens": 2**53}, "max_tokens"),
    "a_root_role": ({"messages": [{"role": "root", "content": "x"}]}, "messages.role"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_body_that_is_not_one_json_object_is_refused(siege: Siege, name: str) -> None:
    """No dialect, no second encoding, no second value; class A, and the proven caller's entry says so."""
    siege.refused(siege.chat().but(body=MALFORMED[name]), 400, "body_malformed")


@pytest.mark.parametrize("name", DUPLICATES)
def test_a_key_that_stands_twice_is_refused(siege: Siege, name: str) -> None:
    """json, orjson, Node and Go take the last one, a filter the first: at any depth, however it is spelled."""
    text = DUPLICATES[name]
    body = text % MESSAGES.encode() if b"%b" in text else text
    siege.refused(siege.chat().but(body=body), 400, "body_duplicate_key")


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_steers_behind_the_decision_is_refused(siege: Siege, name: str) -> None:
    """Named by our own table, never in the caller's spelling."""
    strange, named = FIELDS[name]
    answer = siege.refused(siege.chat(**strange), 400, "body_field")
    assert answer.json["error"]["param"] == named


def test_the_model_is_the_one_that_was_decided_on(siege: Siege) -> None:
    """Wherever else a request names one: header, unknown field, metadata."""
    before = len(siege.model.asked)
    request = siege.chat(model_id="hidden", engine="hidden", deployment="hidden", metadata={"model": "hidden"}, user="adm")
    answer = siege.ask_raw(request.but(x_model=b"hidden", x_litellm_model=b"hidden"))
    asked = siege.model.asked[before:]
    assert (answer.status, answer.json["model"], len(asked)) == (200, "mock", 1)
    assert "hidden" not in json.dumps(asked[0].body) + json.dumps(asked[0].headers)
    assert asked[0].body.keys() == {"model", "messages", "max_tokens", "cache_salt"}
    assert asked[0].body["model"] == "mock"


def test_what_was_dropped_is_recorded_and_nothing_else_of_it(siege: Siege) -> None:
    """Names only, tidied: neither values nor control characters."""
    strange: dict[str, Any] = {"metadata": {"secret": CANARY}, "evil\r\n\x1b[31m": CANARY}
    with siege.watch(served=True) as watch:
        line = siege.line()
        line.send(siege.chat(**strange).raw)
        assert line.answer().status == 200
        line.close()
    admitted = next(event for event in watch.of(line.port) if event["type"] == "inference.admitted")
    assert len(admitted["request"]["dropped_fields"]) == 2
    assert not any(ord(char) < 32 for name in admitted["request"]["dropped_fields"] for char in name)


def test_the_models_own_limit_is_never_exceeded(siege: Siege) -> None:
    """Whatever was asked, what goes on is at most `max_output`."""
    assert siege.ask_raw(siege.chat(max_tokens=999_999)).status == 200
    assert siege.model.asked[-1].body["max_tokens"] == 1024
    assert siege.ask_raw(siege.chat(max_tokens=9, max_completion_tokens=5)).status == 200
    assert siege.model.asked[-1].body["max_tokens"] == 5


def test_a_large_body_is_refused_before_it_comes(siege: Siege) -> None:
    """By its length, or at the byte that is too much; 8 MiB."""
    request = siege.chat()
    siege.refused(request.but(content_length=b"%d" % (9 << 20), body=b""), 413, "body_too_large")
    siege.refused(request.but(content_length=b"9" * 15, body=b""), 413, "body_too_large")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    siege.refused(request.but(content_length=None, transfer_encoding=b"chunked", body=chunk * 9), 413, "body_too_large")


def test_the_stream_of_a_refused_body_is_not_begun(siege: Siege) -> None:
    """A refusal is a whole answer with its status, also where a stream was asked for."""
    answer = siege.refused(siege.chat(stream=True, n=17), 400, "body_field")
    assert answer.headers["content-type"] == "application/json"


def test_two_callers_do_not_share_a_prefix_cache(siege: Siege) -> None:
    """With the cache off not even two requests of one caller do: each has a salt of its own."""
    salts = []
    for key in ("app", "app", "other"):
        assert siege.ask_raw(siege.chat(key=siege.keys[key])).status == 200
        salts.append(siege.model.asked[-1].body["cache_salt"])
    assert len(set(salts)) == 3


def test_nothing_of_the_runtimes_house_leaves(siege: Siege) -> None:
    """Its file path, timings and cache counters stay; the answer names the model that was asked for."""
    for stream in (False, True):
        answer = siege.ask_raw(siege.chat(stream=stream))
        assert b"/srv/" not in answer.body
        assert b'"model":"mock"' in answer.body
        assert not {"server", "x-sealward-pass"} & answer.headers.keys()
