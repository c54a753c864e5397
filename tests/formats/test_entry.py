"""Entries: known answers, refusals by reason, and the rule of `of` over whole logs."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats import canonical, entry
from sealward.formats.fault import FormatError
from sealward.formats.merkle import leaf_hash

CONTRACTS = Path(__file__).parent.parent / "vectors" / "contracts"
VECTORS = json.loads((CONTRACTS / "entry.json").read_text())
STATEMENTS = json.loads((CONTRACTS / "statement.json").read_text())
ORIGIN = VECTORS["origin"]
RECORDERS_OWN = {"admission": ("salt", "exp"), "statement": ("salt",)}


def why(case: dict[str, Any]) -> str:
    """A case's name."""
    return str(case.get("why") or case.get("index"))


@pytest.mark.parametrize("case", VECTORS["cases"], ids=why)
def test_a_sealed_entry_opens_to_its_event(case: dict[str, Any]) -> None:
    """Header, event and leaf are the known ones."""
    data = base64.b64decode(case["entry"])
    event = entry.unseal(data, origin=ORIGIN, index=case["index"], key=bytes.fromhex(case["key"]))
    assert canonical.dumps(event).decode() == case["event"]
    assert entry.header_of(data)[1].decode() == case["header"]
    assert leaf_hash(data).hex() == case["leaf"]


@pytest.mark.parametrize("case", VECTORS["cases"], ids=why)
def test_sealing_the_event_makes_the_known_header(case: dict[str, Any]) -> None:
    """With the salt of the vector given, commitment, header and length are those of the vector; the cipher draws its own."""
    event = json.loads(case["event"])
    salts = [event[group]["salt"] for group in RECORDERS_OWN if group in event]
    exp = event.get("admission", {}).get("exp")
    bare = {name: value for name, value in event.items() if name not in {"origin", "seq"}}
    for group, names in RECORDERS_OWN.items():
        if group in bare:
            bare[group] = {name: value for name, value in bare[group].items() if name not in names}
    known = json.loads(case["header"])
    key = bytes.fromhex(case["key"])
    sealed = entry.seal(
        bare,
        origin=ORIGIN,
        index=case["index"],
        kid=known["kid"],
        key=key,
        random=lambda size: bytes.fromhex(salts.pop(0)),
        exp=exp,
    )
    assert entry.header_of(sealed.entry) == (known, case["header"].encode())
    assert sealed.cm == known.get("cm")
    assert len(sealed.entry) == len(base64.b64decode(case["entry"]))
    assert entry.unseal(sealed.entry, origin=ORIGIN, index=case["index"], key=key) == event


@pytest.mark.parametrize("case", VECTORS["refused"], ids=why)
def test_a_bad_entry_is_refused_for_its_reason(case: dict[str, Any]) -> None:
    """Bits, cuts, another place, another shape: a typed error each."""
    with pytest.raises(FormatError) as refused:
        entry.unseal(base64.b64decode(case["entry"]), origin=ORIGIN, index=case["index"], key=bytes.fromhex(case["key"]))
    assert refused.value.reason == case["reason"]


@pytest.mark.parametrize("case", VECTORS["logs"], ids=why)
def test_what_a_log_closes_is_checked_without_keys(case: dict[str, Any]) -> None:
    """`of` names an earlier, committed, still open entry, once."""
    closings, reason, at = entry.Closings(), "ok", -1
    for index, text in enumerate(case["entries"]):
        try:
            closings.take(index, entry.header_of(base64.b64decode(text))[0])
        except FormatError as error:
            reason, at = error.reason, index
            break
    assert (reason, at) == (case["reason"], case["at"])


@pytest.mark.parametrize("case", STATEMENTS["cases"] + STATEMENTS["admissions"], ids=lambda case: case["cm"][:8])
def test_a_commitment_is_the_hash_of_canonical_json(case: dict[str, Any]) -> None:
    """The bytes behind `cm` are the canonical statement or admission."""
    value = case.get("statement") or case["admission"]
    assert canonical.dumps(value).decode() == case["canonical"]
    assert entry.sha256(canonical.dumps(value)).hexdigest() == case["cm"]


def test_a_statement_is_rebuilt_from_its_event() -> None:
    """The statement behind a vector's `cm` is what the sealed event says of itself."""
    found = {
        canonical.dumps(entry.statement_of(event)).decode()
        for event in (json.loads(case["event"]) for case in VECTORS["cases"])
        if "statement" in event
    }
    assert STATEMENTS["cases"][0]["canonical"] in found


def test_an_admission_without_expiry_and_a_closing_without_of_are_refused() -> None:
    """What only the recorder knows must be given."""
    admitted = json.loads(VECTORS["cases"][0]["event"])
    closing = json.loads(VECTORS["cases"][1]["event"])
    del closing["link"]["of"]
    for event in (admitted, closing):
        with pytest.raises(FormatError) as refused:
            entry.seal(event, origin=ORIGIN, index=5, kid="0" * 18, key=bytes(32))
        assert refused.value.reason == "event"


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, 64.0, 9007199254740991.0])
def test_a_float_never_becomes_an_entry(number: float) -> None:
    """JSON Schema takes 1.0 for an integer; no reader would take the entry. A caller's words may look like one."""
    event = json.loads(VECTORS["cases"][0]["event"])
    words = event | {"source": {"addr": "::1", "user_agent": "Agent/5.0, 1.0] .0}"}}
    entry.seal(words, origin=ORIGIN, index=5, kid="0" * 18, key=bytes(32), exp=1)
    for bad in (
        {"request": {"n": number}},
        {"ext": {"a": number, "b": 1}},
        {"detectors": [{"score_ppm": number}]},
        {"v": number},
    ):
        with pytest.raises(FormatError) as refused:
            entry.seal(event | bad, origin=ORIGIN, index=5, kid="0" * 18, key=bytes(32), exp=1)
        assert refused.value.reason == "event"


@given(st.binary(max_size=300))
def test_garbage_is_a_typed_error(data: bytes) -> None:
    """Never an IndexError or a KeyError."""
    with pytest.raises(FormatError):
        entry.unseal(data, origin=ORIGIN, index=1, key=bytes(32))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=4),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["type", "time", "link", "change", "salt", "statement", "subject"]), inner)
        ),
        max_leaves=8,
    )
)
def test_a_sealed_value_that_is_no_event_is_a_typed_error(value: Any) -> None:
    """Even the holder of a key cannot make a reader crash."""
    raw = canonical.dumps({"kid": "0" * 18, "time": "2026-11-23T09:00:00Z"})
    text = canonical.dumps(value)
    cipher = entry.Cobblestone256Encryptor(bytes(32), entry._context(ORIGIN, 0, raw))
    sealed = cipher.update(text + b" " * (-len(text) % 256)) + cipher.finalize()
    with pytest.raises(FormatError):
        entry.unseal(b"\x01" + len(raw).to_bytes(2, "big") + raw + sealed, origin=ORIGIN, index=0, key=bytes(32))
