"""Snapshots and deltas: every known answer of the contract, and that nothing but a valid step leads from one to the next."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sealward.formats import canonical
from sealward.formats.fault import FormatError
from sealward.formats.snapshot import (
    GENESIS,
    Delta,
    Point,
    Snapshot,
    apply,
    open_delta,
    open_snapshot,
    sign_delta,
    sign_snapshot,
)
from shared import case_name, vector

VECTORS = vector("contracts", "snapshot.json")
PUBLIC = Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTORS["public"]))
KEY = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["seed"]))


def held(line: str) -> Snapshot:
    """The snapshot of an unsigned line of the vectors."""
    value = json.loads(line)
    return Snapshot.of(value["epoch"], value["issued"], value["previous"], value)


def answer(check: Any) -> str:
    """`ok`, or the reason of the refusal."""
    try:
        check()
    except FormatError as error:
        return error.reason
    return "ok"


def test_genesis_is_the_contracts() -> None:
    """Genesis is computed, never read: its bytes and digest are fixed."""
    assert GENESIS.line().decode() == VECTORS["genesis"]
    assert GENESIS.digest == VECTORS["genesis_digest"]


def test_genesis_is_never_signed() -> None:
    """Nobody can be served the snapshot without any rights as if it were one."""
    with pytest.raises(ValueError, match="genesis"):
        sign_snapshot(GENESIS, KEY)


def test_the_chain_leads_from_the_first_snapshot_by_deltas_to_the_last() -> None:
    """Each step has its epoch, digest and policy digest; `previous` names the step before; signing gives the same bytes back."""
    state = GENESIS
    for step in VECTORS["chain"]:
        before = state
        if "snapshot" in step:
            state = open_snapshot(step["snapshot"].encode(), PUBLIC, GENESIS.point)
            assert sign_snapshot(state, KEY).decode() == step["snapshot"]
            assert {name: state._rows[name].digest for name in state.sections} == VECTORS["sections"]
        elif "delta" in step:
            delta = open_delta(step["delta"].encode(), PUBLIC)
            assert sign_delta(delta, KEY).decode() == step["delta"]
            state = apply(state, delta)
        if state is not GENESIS:
            assert state.previous == before.digest
        assert (state.epoch, state.digest, state.policy_digest) == (step["epoch"], step["digest"], step["policy_digest"])
    assert state.line().decode() == VECTORS["last"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=case_name)
def test_a_snapshot_is_opened_or_refused_as_the_contract_says(case: dict[str, Any]) -> None:
    """Whole files, sound and broken, against what the reader knew."""
    known = Point(case["known"]["epoch"], case["known"]["digest"])
    assert answer(lambda: open_snapshot(case["file"].encode(), PUBLIC, known)) == case["reason"]


@pytest.mark.parametrize("case", VECTORS["deltas"], ids=case_name)
def test_a_delta_is_applied_or_refused_as_the_contract_says(case: dict[str, Any]) -> None:
    """Deltas, sound and broken, against the base that the reader holds."""
    base = held(VECTORS["bases"][case["base"]])
    assert base.digest == case["base"]
    assert answer(lambda: apply(base, open_delta(case["file"].encode(), PUBLIC))) == case["reason"]


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"\n", b"{}\n\xff\xfe\n", b"\xff\n\xc3\xa4\n", b"[" * 100_000 + b"\nAA\n", b"1\nAA\n"]
)
def test_bytes_that_are_no_file_are_malformed(data: bytes) -> None:
    """Whatever comes, the refusal is ours and typed."""
    assert answer(lambda: open_snapshot(data, PUBLIC, GENESIS.point)) == "malformed"
    assert answer(lambda: open_delta(data, PUBLIC)) == "malformed"


@pytest.mark.parametrize("name", ["from", "to", "v"])
def test_true_is_no_number_of_a_delta(name: str) -> None:
    """JSON's `true` equals 1 in Python; here it does not."""
    value = {"v": 1, "from": 1, "to": 2, "issued": "2026-11-23T09:05:00.000000Z", "ops": [], "result": GENESIS.digest} | {
        name: True
    }
    line = canonical.dumps(value)
    assert answer(lambda: open_delta(line + b"\n" + b"A" * 86 + b"\n", PUBLIC)) == "malformed"


@pytest.mark.parametrize(
    "op", [None, "put", {}, ["put"], ["put", "limits"], ["del", ["keys"], "a"], ["put", "limits", 1, {}], ["del", "roles", "a\n"]]
)
def test_a_value_that_is_no_op_is_refused(op: Any) -> None:
    """The signer and every reader ask the same function, so what it lets through is what the fleet understands."""
    assert answer(lambda: GENESIS.after([op], epoch=1, issued=GENESIS.issued)) == "op"


def test_a_refused_step_leaves_the_snapshot_as_it_was() -> None:
    """A delta with a sound op and a wrong one has no effect at all."""
    base = held(VECTORS["last"])
    before = base.line()
    key = next(iter(base.sections["keys"]))
    assert (
        answer(lambda: base.after([["del", "keys", key], ["del", "keys", key]], epoch=base.epoch + 1, issued=base.issued)) == "op"
    )
    assert base.line() == before


def test_a_step_hashes_only_the_rows_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cost of a revocation does not grow with the rows that it leaves alone (a revocation takes 50 ms at most)."""
    base = Snapshot.of(1, GENESIS.issued, GENESIS.digest, {"roles": {f"r-{n}": {"actions": ["a"]} for n in range(1000)}})
    hashed = []
    dumps = canonical.dumps
    monkeypatch.setattr(canonical, "dumps", lambda value: hashed.append(value) or dumps(value))
    base.after([["put", "roles", "r-7", {"actions": ["b"]}], ["del", "roles", "r-8"]], epoch=2, issued=GENESIS.issued)
    assert [value[0] for value in hashed if isinstance(value, list)] == ["r-7"]


def test_steps_lead_where_the_whole_leads() -> None:
    """However rows came, changed and went, the digest is that of the rows: nothing is left in it of the way."""
    put = [["put", "roles", f"r-{n * 7 % 20}", {"actions": [f"a:{'b' * (n % 3 + 1)}"]}] for n in range(40)]
    steps = [*put, *[["del", "roles", f"r-{n}"] for n in range(0, 20, 3)], *put[::5]]
    state = GENESIS
    for epoch, op in enumerate(steps, 1):
        state = state.after([op], epoch=epoch, issued=GENESIS.issued)
        assert state.digest == Snapshot.of(epoch, GENESIS.issued, state.previous, state.sections).digest


def test_a_snapshot_shows_no_rows() -> None:
    """Key hashes and policies stay out of logs and tracebacks."""
    assert "hmac" not in repr(held(VECTORS["last"]))
    assert "hmac" not in repr(Delta(1, 2, GENESIS.issued, (["put", "keys", "k", {"hmac": "00"}],), GENESIS.digest))


def test_the_packaged_schema_is_the_contracts() -> None:
    """The signer and every reader check rows by the schema that was frozen."""
    packaged = resources.files("sealward.formats").joinpath("schemas/snapshot.schema.json").read_text("utf-8")
    assert json.loads(packaged) == vector("contracts", "snapshot.schema.json")
