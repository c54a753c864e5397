"""Receipts: every vector, each refusal by its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.formats.receipt import Receipt, verify_receipt

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "contracts" / "receipt.json").read_text())
LOG = Verifier.parse(VECTORS["log_vkey"])


def why(case: dict[str, Any]) -> str:
    """A case's name."""
    return f"{case.get('reason', 'ok')}: {case['why']}"


def compared(case: dict[str, Any]) -> Receipt:
    """The receipt with everything its holder has."""
    return verify_receipt(
        case["receipt"],
        log=LOG,
        pass_=case.get("pass"),
        input=case["request"].encode() if "request" in case else None,
        output=case["reply"].encode() if "reply" in case else None,
        texts=case.get("texts"),
        tools=case.get("tools"),
    )


@pytest.mark.parametrize("case", VECTORS["valid"], ids=why)
def test_a_sound_receipt_proves_what_its_holder_has(case: dict[str, Any]) -> None:
    """Bytes, texts, tool calls and pass, at their place in the log."""
    receipt = compared(case)
    assert receipt.index < receipt.checkpoint.size
    assert receipt.statement["origin"] == LOG.name


@pytest.mark.parametrize("case", VECTORS["refused"], ids=why)
def test_an_unsound_receipt_is_refused_for_its_reason(case: dict[str, Any]) -> None:
    """A typed error, first reason first."""
    with pytest.raises(FormatError) as refused:
        verify_receipt(case["receipt"], log=LOG)
    assert refused.value.reason == case["reason"]


@pytest.mark.parametrize("case", VECTORS["not_equal"], ids=why)
def test_a_sound_receipt_for_something_else_is_told_apart(case: dict[str, Any]) -> None:
    """It verifies, and then it is not equal."""
    verify_receipt(case["receipt"], log=LOG)
    with pytest.raises(FormatError) as refused:
        compared(case)
    assert refused.value.reason == case["reason"]


def test_a_threshold_of_witnesses_is_demanded() -> None:
    """A receipt without cosignatures does not satisfy a policy that asks for one."""
    with pytest.raises(FormatError) as refused:
        verify_receipt(VECTORS["valid"][0]["receipt"], log=LOG, threshold=1)
    assert refused.value.reason == "checkpoint"


@pytest.mark.parametrize(
    "text", ["[" * 5000, '{"a":' * 2000, "9" * 5000, "-0", '"\\ud800"', "", "null"], ids=lambda text: text[:6]
)
def test_hostile_json_is_malformed(text: str) -> None:
    """Depth, long numbers and lone surrogates end in the typed error."""
    with pytest.raises(FormatError) as refused:
        verify_receipt(text, log=LOG)
    assert refused.value.reason == "malformed"


@given(st.binary(max_size=400))
def test_garbage_is_a_typed_error(data: bytes) -> None:
    """Whatever the bytes."""
    with pytest.raises(FormatError):
        verify_receipt(data, log=LOG)


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_no_changed_byte_gives_another_statement(at: int, byte: int) -> None:
    """A receipt with one byte replaced is refused, or says the same (a digit of white space, an ignored member's name)."""
    data = bytearray(VECTORS["valid"][0]["receipt"].encode())
    data[at % len(data)] = byte
    try:
        found = verify_receipt(bytes(data), log=LOG)
    except FormatError:
        return
    assert found.statement == verify_receipt(VECTORS["valid"][0]["receipt"], log=LOG).statement
