"""The sidecar's gate: every pass vector through the product's own class, and single use over time."""

from __future__ import annotations

import dataclasses
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.errors import Reason, Refused
from sealward.formats import canonical
from sealward.formats.note import ED25519, Verifier
from sealward.formats.passes import pass_text, promises
from sealward.formats.snapshot import Snapshot
from sealward.gateway.passgate import PassGate
from shared import vector

VECTORS = vector("contracts", "pass.json")
DIGEST, OTHER = "sha256:" + "11" * 32, "sha256:" + "22" * 32
BODY, PATH, NAME = b'{"model":"m"}', "/v1/chat/completions", "local:00112233445566aa"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
VKEY = Verifier("log.test", ED25519, KEY.public_key().public_bytes_raw()).vkey


def snapshot(vkey: str = VKEY, approved: tuple[str, ...] = (DIGEST,), stage: str = "deployed") -> Snapshot:
    """A snapshot with these models."""
    row = {"kind": "llamacpp", "sidecars": ["local"], "capture": "digest", "prefix_cache": "off", "max_output": 1}
    models = {f"m{n}": row | {"digest": digest, "stage": stage} for n, digest in enumerate(approved)}
    return Snapshot.of(
        1, "2026-11-23T09:00:00.000000Z", "sha256:" + "0" * 64, {"trust": {"log": {"vkey": vkey}}, "models": models}
    )


def gate(**members: Any) -> PassGate:
    """A gate that presents one model and follows a sound snapshot."""
    found = PassGate(NAME, {"m": DIGEST})
    found.follow(snapshot(**members))
    return found


def made(index: int = 7, exp: int = 1030, **members: Any) -> str:
    """A pass of the test log, for BODY."""
    admission = canonical.dumps(
        {
            "v": 1, "body": sha256(BODY).hexdigest(), "input": "00" * 32, "epoch": 1, "exp": exp, "model": DIGEST, "path": PATH,
            "req": f"01KA70000000000000000{index:05d}", "salt": "00" * 32, "sidecar": NAME, "sub": "alice",
        } | members
    )  # fmt: skip
    leaf = bytes(32)
    return pass_text(index, leaf, promises("log.test", index, [(leaf, sha256(admission).digest())], KEY)[0], admission)


def reason_of(found: PassGate, text: str, body: bytes = BODY, now: int = 1000, path: str = PATH) -> str:
    """`ok`, or the detail of the refusal."""
    try:
        found.check(text, path, body, now)
    except Refused as refused:
        return refused.detail
    return "ok"


@pytest.mark.parametrize("case", VECTORS["sidecar"], ids=lambda case: f"{case['reason']}: {case['why']}")
def test_every_pass_vector_through_the_gate(case: dict[str, Any]) -> None:
    """What the contract's vectors take and refuse, the class that serves takes and refuses, for the same reason."""
    found = PassGate(case["self"], {"m": case["presented"]})
    found.follow(snapshot(VECTORS["log_vkey"], tuple(case["approved"])))
    for req in case["used"]:
        found._used[req] = (1 << 60, 0)
    found_reason = reason_of(found, case["pass"], case["body"].encode(), case["now"], case["path"])
    assert found_reason == {"missing": "pass_missing"}.get(case["reason"], case["reason"])


def test_a_pass_serves_once() -> None:
    """A door that is taken cannot use one admission for two answers."""
    found, text = gate(), made()
    assert [reason_of(found, text), reason_of(found, text)] == ["ok", "used"]


def test_a_refused_pass_is_not_used_up() -> None:
    """Who tries with another body must not burn the pass of the honest request."""
    found, text = gate(), made()
    assert [reason_of(found, text, b"{}"), reason_of(found, text)] == ["body", "ok"]


def test_a_clock_set_back_revives_nothing() -> None:
    """The table forgets a pass when its time is over; its index is never taken again."""
    found, old, new = gate(), made(7), made(8, exp=1130)
    assert reason_of(found, old) == "ok"
    assert reason_of(found, new, now=1100) == "ok"
    assert len(found._used) == 1
    assert reason_of(found, old, now=1000) == "used"


def test_the_table_of_used_passes_is_bounded() -> None:
    """It holds what 40 seconds can admit, however long the sidecar runs."""
    found = gate()
    for second in range(200):
        assert reason_of(found, made(second, exp=second + 30), now=second) == "ok"
    assert len(found._used) <= 40


@pytest.mark.parametrize("stage", ["candidate", "retired"])
def test_only_an_approved_stage_is_served(stage: str) -> None:
    """A model that is withdrawn is withdrawn here too, whatever a door asks."""
    assert reason_of(gate(stage=stage), made()) == "unapproved"


def test_a_model_of_another_sidecar_is_not_served() -> None:
    """Approved is not enough: it must be the one that stands behind this sidecar."""
    assert reason_of(gate(approved=(DIGEST, OTHER)), made(model=OTHER)) == "model"


def test_nothing_is_believed_before_a_snapshot() -> None:
    """A gate that knows no log key refuses all, and one that lost its log too."""
    fresh = PassGate(NAME, {"m": DIGEST})
    assert reason_of(fresh, made()) == "signature"
    found = gate()
    found.follow(dataclasses.replace(snapshot(), sections=snapshot().sections | {"trust": {}}))
    assert reason_of(found, made()) == "signature"


def test_no_pass_at_all_has_its_own_reason() -> None:
    """Someone at the socket without a pass is not someone with a bad one."""
    with pytest.raises(Refused) as caught:
        gate().check("", PATH, BODY, 1000)
    assert caught.value.reason is Reason.PASS_MISSING
