"""Visible texts and tool calls of answers: every known answer of the contract, in any pieces."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from sealward.formats.content import Collector
from sealward.formats.fault import FormatError
from sealward.formats.receipt import tool_digest
from shared import case_name, vector

CASES = vector("contracts", "text.json")["cases"]


def collected(case: dict[str, Any], size: int) -> Collector:
    """The case's content, fed in pieces of `size` bytes."""
    collector = Collector(case["family"], streamed=case["stream"])
    content = case["content"].encode()
    for at in range(0, len(content), size):
        collector.feed(content[at : at + size])
    collector.end()
    return collector


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_known_answers(case: dict[str, Any], size: int) -> None:
    """`text_sha256` and `tools_sha256` of all 32 answers, and None where the contract leaves them out."""
    collector = collected(case, size)
    assert collector.digests() == (case.get("text_sha256"), case.get("tools_sha256"))
    if "tools" in case:
        assert collector.tool_names == [name for name, _ in case["tools"]]


def test_all_32_answers_are_here() -> None:
    """A vector file that shrinks proves less without saying so."""
    assert len(CASES) == 32


@pytest.mark.parametrize("case", [case for case in CASES if case["family"] == "chat"], ids=case_name)
def test_parsed_events_give_the_same(case: dict[str, Any]) -> None:
    """The door has parsed each event already: seeing it is the same as reading its bytes."""
    collector = Collector("chat", streamed=case["stream"])
    documents = [case["content"]]
    if case["stream"]:
        lines = (line for line in case["content"].splitlines() if line.startswith("data:"))
        documents = [line[5:] for line in lines if "[DONE]" not in line]
    for document in documents:
        collector.see(orjson.loads(document))
    assert collector.digests() == (case.get("text_sha256"), case.get("tools_sha256"))


def test_usage_and_finish_reasons_are_read() -> None:
    """They settle limits and stand in the closing entry."""
    collector = Collector("chat", streamed=True)
    collector.see({"choices": [{"index": 1, "delta": {"content": "x"}, "finish_reason": None}], "usage": None})
    collector.see({"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]})
    collector.see({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    assert collector.usage == {"prompt_tokens": 3, "completion_tokens": 1}
    assert collector.finish_reasons == {1: "length"}


@pytest.mark.parametrize(
    "document",
    [
        {"choices": [{"index": -1, "delta": {"content": "x"}}]},
        {"choices": [{"index": "0", "delta": {"content": "x"}}]},
        {"choices": [{"index": 0, "delta": {"content": ["x"]}}]},
        {"choices": "none"},
        {"choices": [{"index": 0, "delta": {"tool_calls": [7]}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": [], "function": {"name": "f"}}]}}]},
    ],
)
def test_an_answer_of_another_shape_has_no_digests(document: dict[str, Any]) -> None:
    """A runtime that answers nonsense ends in a statement without texts, not in a crash or in memory without bound."""
    collector = Collector("chat", streamed=True)
    collector.see(document)
    assert collector.digests() == (None, None)


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"a":"\\ud800"}', b'{"a":' * 2000 + b"1" + b"}" * 2000])
def test_content_that_is_no_object_is_malformed(content: bytes) -> None:
    """Bytes of a file somebody hands to a verifier: a typed error."""
    collector = Collector("chat", streamed=False)
    collector.feed(content)
    with pytest.raises(FormatError, match="malformed"):
        collector.end()


def test_too_many_choices_leave_the_tools_alone() -> None:
    """Each list has its own bound; an index of a milliard costs nothing."""
    collector = Collector("chat", streamed=True)
    call = {"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}
    collector.see({"choices": [{"index": 10**9, "delta": {"content": "x", "tool_calls": [call]}}]})
    for n in range(2000):
        collector.see({"choices": [{"index": n, "delta": {"content": "x"}}]})
    assert collector.digests() == (None, [tool_digest("f", '{"a":1}')])


def test_tool_calls_are_bounded() -> None:
    """A runtime that calls for ever fills no memory."""
    collector = Collector("chat", streamed=True)
    for n in range(3000):
        collector.see({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": n, "function": {"name": "f"}}]}}]})
    assert len(collector.tool_names) == 1024
    assert collector.digests()[1] is None


def test_a_long_text_is_folded_on_the_way() -> None:
    """The digest of a thousand pieces is that of the joined text."""
    pieces, whole = Collector("chat", streamed=True), Collector("chat", streamed=True)
    for n in range(1000):
        pieces.see({"choices": [{"index": 0, "delta": {"content": f"{n} ü"}}]})
    whole.see({"choices": [{"index": 0, "delta": {"content": "".join(f"{n} ü" for n in range(1000))}}]})
    assert pieces.digests() == whole.digests()
    assert pieces.digests()[0] is not None
