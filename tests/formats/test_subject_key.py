"""Rows of the subject-key store."""

from __future__ import annotations

from typing import Any

import pytest

from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.formats.subject_key import SubjectKey, open_row, wrap_row
from shared import case_name, vector

FILE = vector("contracts", "subject-key.json")
KEYS = {purpose: bytes.fromhex(key) for purpose, key in FILE["purpose_keys"].items()}


@pytest.mark.parametrize("case", FILE["cases"], ids=case_name)
def test_subject_key_vectors(case: dict[str, Any]) -> None:
    """A sound row opens and is made again byte for byte; every other is refused for its reason."""
    purpose, row = case["purpose"], case["row"]
    if case["reason"] != "ok":
        with pytest.raises(FormatError) as refused:
            open_row(row, purpose=purpose, purpose_key=KEYS[purpose])
        assert refused.value.reason == case["reason"]
        return
    found = open_row(row, purpose=purpose, purpose_key=KEYS[purpose])
    assert found == SubjectKey(row["kid"], case["subject"], case["month"], bytes.fromhex(case["key"]))
    assert wrap_row(found, purpose=purpose, purpose_key=KEYS[purpose], nonce=unb64url(row["wrapped"])[:12]) == row
    assert case["key"] not in repr(found)
    assert repr(found.key) not in repr(found)


@pytest.mark.parametrize("row", [None, [], "x", {"kid": 5, "wrapped": "x"}, {"kid": "a" * 18, "wrapped": None}])
def test_what_is_no_row_is_refused(row: object) -> None:
    """Other JSON types are a typed refusal too."""
    with pytest.raises(FormatError) as refused:
        open_row(row, purpose="journal-events", purpose_key=KEYS["journal-events"])
    assert refused.value.reason == "row"
