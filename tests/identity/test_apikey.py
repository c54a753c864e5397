"""The form of API keys: every known answer, and keys of our own."""

from __future__ import annotations

from typing import Any

import pytest

from sealward.errors import Reason, Refused
from sealward.identity.apikey import FORM, issue, key_id_of, stored_digest
from sealward.keyring.secret import Secret
from shared import case_name, vector

VECTORS = vector("identity", "apikey-vectors.json")


def test_the_expression_for_scanners_is_ours() -> None:
    """Secret scanners look for exactly what we issue."""
    assert FORM.pattern == VECTORS["regex"]


@pytest.mark.parametrize("case", VECTORS["accepted"])
def test_a_sound_key_has_its_known_id_and_digest(case: dict[str, Any]) -> None:
    """What is stored is HMAC-SHA256(pepper, whole key)."""
    key = case["key"].encode()
    assert key_id_of(key, VECTORS["env"]) == case["key_id"]
    assert stored_digest(Secret(bytes.fromhex(VECTORS["pepper_hex"])), key).hex() == case["hmac_sha256_hex"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=case_name)
def test_a_hostile_key_is_refused_before_any_table_is_read(case: dict[str, Any]) -> None:
    """One typed error, whatever the bytes."""
    with pytest.raises(Refused) as refused:
        key_id_of(case["key"].encode(), VECTORS["env"])
    assert refused.value.reason is Reason.CREDENTIAL_MALFORMED


def test_keys_beyond_ascii_are_malformed() -> None:
    """Bytes that a decoder might fold to ASCII are not a key."""
    with pytest.raises(Refused) as refused:
        key_id_of("swk_test_\uff11TCKi1nFuNh".encode(), "test")
    assert refused.value.reason is Reason.CREDENTIAL_MALFORMED


def test_an_issued_key_is_well_formed_and_does_not_print() -> None:
    """70 characters, and none of them in a repr."""
    key = issue("live")
    text = key.secret.reveal()
    assert len(text) == 70
    assert key_id_of(text, "live") == key.id
    assert text.decode() not in repr(key)


def test_the_next_secret_of_a_key_keeps_its_id() -> None:
    """A rotation changes the secret only."""
    key = issue("live")
    again = issue("live", key.id)
    assert again.id == key.id
    assert again.secret != key.secret


def test_all_zero_randomness_still_gives_a_whole_key() -> None:
    """Numbers are left-padded, so no key is shorter than another."""
    assert key_id_of(issue("test", random=bytes).secret.reveal(), "test") == "0" * 11
