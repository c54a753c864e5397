"""Changes: what the signer sees, in every known answer of the contract."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealward.formats.b64 import unb64url
from sealward.formats.change import Change, Intent, assigned_epoch, carry_out, parse_change
from sealward.formats.fault import FormatError
from sealward.formats.passes import Log
from sealward.formats.snapshot import Snapshot
from shared import case_name, vector

VECTORS = vector("contracts", "change.json")


def log() -> Log:
    """The log of the vectors, from the key at the end of its vkey."""
    raw = base64.b64decode(VECTORS["log_vkey"].split("+", 2)[2])
    return Log(VECTORS["origin"], Ed25519PublicKey.from_public_bytes(raw[1:]))


def held(digest: str) -> Snapshot:
    """One of the snapshots that the signer may have signed last."""
    value = json.loads(VECTORS["snapshots"][digest])
    return Snapshot.of(value["epoch"], value["issued"], value["previous"], value)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_name)
def test_a_change_is_carried_out_or_refused_as_the_contract_says(case: dict[str, Any]) -> None:
    """Epoch, digest and policy digest of what is signed next; or the reason, and the last snapshot stays."""
    intent = Intent(case["index"], unb64url(case["leaf"]), unb64url(case["promise"]))
    last, issued = held(case["last"]["digest"]), case.get("issued", "2026-11-23T09:14:10.000000Z")
    found, reason = None, "ok"
    try:
        found = carry_out(case["change"].encode(), intent, log=log(), last=last, unix_s=case["now"], issued=issued)
    except FormatError as error:
        reason = error.reason
    assert reason == case["reason"]
    if found is not None:
        assert (found.epoch, found.digest) == (case["epoch"], case["result"])
        assert (found.policy_digest, found.previous) == (case["policy_digest"], last.digest)


def test_a_change_has_the_digest_that_its_intent_commits_to() -> None:
    """Parsing and writing are inverse, and the digest is the contract's."""
    found = parse_change(VECTORS["change"].encode())
    assert (found.raw.decode(), found.digest) == (VECTORS["change"], VECTORS["cm"])


@pytest.mark.parametrize("text", ["", "[]", "null", "1", "{}", '{"a":' * 2000])
def test_bytes_that_are_no_change_are_malformed(text: str) -> None:
    """Whatever control sends, the signer's refusal is typed."""
    with pytest.raises(FormatError, match="malformed"):
        parse_change(text.encode())


def test_true_is_not_version_1() -> None:
    """Python takes `true` for 1; the contract does not."""
    with pytest.raises(FormatError, match="malformed"):
        parse_change(VECTORS["change"].replace('"v":1}', '"v":true}').encode())


def test_a_change_does_not_show_its_salt() -> None:
    """Whoever knows the salt can guess what a digest hides."""
    assert "ab" * 32 not in repr(Change("u-1", (), "sha256:" + "0" * 64, "ab" * 32))


@pytest.mark.parametrize(("last", "now", "epoch"), [(0, 1795424400, 1795424400), (9, 9, 10), (9, 3, 10), (9, 10, 10)])
def test_epochs_only_grow(last: int, now: int, epoch: int) -> None:
    """Whatever the clock does."""
    assert assigned_epoch(last, now) == epoch
