"""Passes: every vector of the sidecar's and the caller's checks, each refusal by its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats import passes
from sealward.formats.b64 import unb64
from sealward.formats.fault import FormatError
from sealward.formats.merkle import leaf_hash, subtree_root

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "contracts" / "pass.json").read_text())
ORIGIN = VECTORS["origin"]


def log() -> passes.Log:
    """The log of the vectors, nothing seen yet."""
    return passes.Log(ORIGIN, Ed25519PublicKey.from_public_bytes(unb64(VECTORS["log_vkey"].split("+", 2)[2])[1:]))


def why(case: dict[str, Any]) -> str:
    """A case's name."""
    return f"{case['reason']}: {case['why']}"


@pytest.mark.parametrize("case", VECTORS["sidecar"], ids=why)
def test_the_sidecar_takes_only_its_own_fresh_pass(case: dict[str, Any]) -> None:
    """Form, promise, place, time, single use, body, model: first reason first."""
    place = passes.Place(case["self"], case["path"], case["now"], case["presented"], case["approved"], case["used"])
    reason = "ok"
    try:
        log().check_sidecar(case["pass"], place, case["body"].encode())
    except FormatError as error:
        reason = error.reason
    assert reason == case["reason"]


@pytest.mark.parametrize("case", VECTORS["caller"], ids=why)
def test_the_caller_can_check_what_it_was_given(case: dict[str, Any]) -> None:
    """The promise is the log's, and for the request that was sent."""
    reason = "ok"
    try:
        log().check_caller(case["pass"], case["request"].encode())
    except FormatError as error:
        reason = error.reason
    assert reason == case["reason"]


def test_the_signed_message_is_the_known_one() -> None:
    """Label, origin, place and RFC 6962 root of the batch."""
    batch = VECTORS["batch"]
    leaves = [leaf_hash(bytes.fromhex(leaf + cm)) for leaf, cm in zip(batch["leaves"], batch["cms"], strict=True)]
    place = batch["first"].to_bytes(8, "big") + len(leaves).to_bytes(2, "big")
    assert passes._message(ORIGIN, place, subtree_root(leaves)).hex() == batch["message"]


@given(st.integers(1, 300), st.integers(0, 2**62))
def test_every_promise_of_a_batch_holds(size: int, first: int) -> None:
    """One signature serves the whole batch, whatever its size."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    batch = [(n.to_bytes(32, "big"), passes.NO_CM if n % 3 else b"\x01" * 32) for n in range(size)]
    found = passes.promises("o", first, batch, key)
    checker = passes.Log("o", key.public_key())
    for offset, (leaf, cm) in enumerate(batch):
        checker.check_promise(first + offset, leaf, cm, found[offset])
    assert len(checker._seen) == 1
    with pytest.raises(FormatError):
        checker.check_promise(first, batch[0][0], b"\x02" * 32, found[0])


def test_what_a_checker_remembers_is_bounded() -> None:
    """A flood of promises does not fill a sidecar's memory."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    checker = passes.Log("o", key.public_key())
    for n in range(passes.MAX_SEEN + 10):
        checker.check_promise(n, bytes(32), passes.NO_CM, passes.promises("o", n, [(bytes(32), passes.NO_CM)], key)[0])
    assert len(checker._seen) == passes.MAX_SEEN


@given(st.text(max_size=200))
def test_garbage_is_a_typed_error(text: str) -> None:
    """A header of any content is refused, never a crash."""
    with pytest.raises(FormatError):
        log().check_pass("v1;index=" + text)


def test_a_number_of_a_thousand_digits_is_refused() -> None:
    """Python refuses to parse long numbers with a ValueError of its own; the grammar stops them first."""
    with pytest.raises(FormatError) as refused:
        passes.parse_pass(f"v1;index={'9' * 9999};leaf=AA;promise=AA;admission=AA")
    assert refused.value.reason == "format"
