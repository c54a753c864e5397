"""C2SP Wycheproof: JWS, JWK and JWE vectors against the form, the gate for keys and the signature (read from beside)."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from sealward.errors import Refused
from sealward.formats.fault import FormatError
from sealward.identity.jwk import Key, read_key_set
from sealward.identity.jwt import split
from sealward.identity.strict_json import parse_object
from shared import shared

# At dac1dd47 these labels are wrong (README of the vectors): 367 and 370 equal the valid 357, 372 and 373 contain "?", in the
# others the key's alg is not the token's. Turned round.
MISLABELLED = {("json_web_signature_test", number) for number in (346, 347, 350, 351, 367, 370, 372, 373)}


def accepted(jws: str, document: dict[str, Any]) -> bool:
    """Whether the signature part of our verifier takes it: form, then keys, then the one key that the header names."""
    try:
        header, _, signature = split(jws.encode())
        told = parse_object(header)
        rows = document.get("keys", [document])
        names = [row["alg"] if "alg" in row else told.get("alg") for row in rows]
        published = [{"kid": "only", **row} for row in rows]
        keys = {row["kid"]: Key.of(row) for row in read_key_set(json.dumps({"keys": published}).encode(), set(names) & SERVED)}
        key = keys.get(told.get("kid", "only" if len(rows) == 1 else ""))
        key = key or (next(iter(keys.values())) if len(rows) == 1 and "kid" not in told else None)
        signed = jws.rpartition(".")[0].encode()
        return key is not None and "crit" not in told and key.fits(told.get("alg")) and key.verify(signed, signature)
    except (Refused, FormatError):
        return False


@pytest.mark.parametrize("name", ["json_web_signature_test", "json_web_crypto_test", "json_web_key_test"])
def test_no_wrong_signature_or_key_is_accepted_and_no_right_one_refused(name: str) -> None:
    """0 false accepts, the ROCA keys among them; refused on purpose: shared secrets, and payloads of nothing."""
    path = shared("identity", "wycheproof", f"{name}.json")
    if path is None:
        return
    wrong, counts = [], Counter[str]()
    for group in json.loads(path.read_bytes())["testGroups"]:
        document = group.get("public") or group["private"]
        secret = any(row["kty"] == "oct" for row in document.get("keys", [document]))
        for test in group["tests"]:
            if type(test.get("jws")) is not str:
                continue
            ok, valid = accepted(test["jws"], document), test["result"] == "valid"
            if (name, test["tcId"]) in MISLABELLED:
                valid = not valid
            on_purpose = secret or ".." in test["jws"]
            counts["accepted" if ok else "refused"] += 1
            if ok != (valid and not on_purpose):
                wrong.append((test["tcId"], test["comment"], "accepted" if ok else "refused"))
    assert wrong == []
    assert counts["refused"] > 0


def test_no_encrypted_token_is_a_token() -> None:
    """All 139 of JWE, valid ones too: nothing is ever decrypted on the way to a model."""
    path = shared("identity", "wycheproof", "json_web_encryption_test.json")
    if path is None:
        return
    tokens = [test["jwe"] for group in json.loads(path.read_bytes())["testGroups"] for test in group["tests"]]
    assert len(tokens) == 139
    for token in tokens:
        with pytest.raises(Refused) as caught:
            split(token.encode())
        assert caught.value.reason == "credential_malformed"


SERVED = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"}
