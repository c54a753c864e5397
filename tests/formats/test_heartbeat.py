"""Heartbeats: every known answer of the contract."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealward.formats.fault import FormatError
from sealward.formats.heartbeat import Heartbeat, check_heartbeat, sign_heartbeat
from sealward.formats.snapshot import Point
from shared import case_name, vector

VECTORS = vector("contracts", "heartbeat.json")
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector("contracts", "snapshot.json")["seed"]))
DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_name)
def test_an_answer_counts_or_is_refused_as_the_contract_says(case: dict[str, Any]) -> None:
    """`behind` = sound, but what it names has to be fetched."""
    beat = Heartbeat(Point(case["epoch"], case["digest"]), case["ttl_ms"], case["signature"])
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["public"]))
    known, age = Point(case["known"]["epoch"], case["known"]["digest"]), (case["now_ms"] - case["sent_ms"]) / 1000
    try:
        reason = "ok" if check_heartbeat(bytes.fromhex(case["nonce"]), beat, public, known=known, age_s=age) else "behind"
    except FormatError as error:
        reason = error.reason
    assert reason == case["reason"]


def test_signing_gives_the_contracts_bytes() -> None:
    """Ed25519 is deterministic: our own heartbeat is the vector's."""
    case = VECTORS["cases"][0]
    beat = sign_heartbeat(bytes.fromhex(case["nonce"]), Point(case["epoch"], case["digest"]), case["ttl_ms"], KEY)
    assert beat.signature == case["signature"]


@pytest.mark.parametrize("named", [Point(-1, DIGEST), Point(1 << 64, DIGEST), Point(1, "sha256:0"), Point(1, "")])
def test_fields_that_cannot_be_signed_are_a_refusal(named: Point) -> None:
    """An answer is read from the wire: no number or digest in it may end in an OverflowError."""
    sound = sign_heartbeat(bytes(16), Point(1, DIGEST), 1000, KEY)
    beat = replace(sound, named=named)
    with pytest.raises(FormatError, match="signature"):
        check_heartbeat(bytes(16), beat, KEY.public_key(), known=Point(0, ""), age_s=0)
