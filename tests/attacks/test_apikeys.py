"""Attack: guess, alter, steal or misplace an API key (rows 71 to 75 and 77)."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest

from sealward.identity.apikey import _checksum, issue, stored_digest
from sealward.keyring.secret import read_key
from shared import case_name, vector
from siege import Siege
from siege_wire import Request

ABC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


VECTORS = [case for case in vector("identity", "apikey-vectors.json")["refused"] if not case["why"].startswith("environment")]


def other(char: str) -> str:
    """Another character of the alphabet."""
    return ABC[(ABC.index(char) + 1) % 62]


def sealed(body: str) -> str:
    """With the checksum that belongs to it: only what is behind the checksum can refuse it."""
    return body + _checksum(body)


MALFORMED: dict[str, Callable[[str], str]] = {
    "one_character_of_the_secret": lambda key: key[:30] + other(key[30]) + key[31:],
    "one_character_of_the_checksum": lambda key: key[:-1] + other(key[-1]),
    "truncated_by_one": lambda key: key[:-1],
    "one_character_more": lambda key: key + "0",
    "without_its_checksum": lambda key: key[:-6],
    "lower_case": str.lower,
    "upper_case": str.upper,
    "its_prefix_only": lambda key: "swk_live_",
    "its_id_only": lambda key: key[:20],
    "another_environment": lambda key: sealed(key[:-6].replace("_live_", "_test_")),
    "an_unknown_environment": lambda key: sealed(key[:-6].replace("_live_", "_prod_")),
    "reversed": lambda key: key[::-1],
    "an_openai_key": lambda key: "sk-" + key[-40:],
    "a_jwt": lambda key: "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG0ifQ.",
    "a_word": lambda key: "undefined",
    "a_master_key": lambda key: "sk-1234",
    "doubled": lambda key: key + key,
    "in_base64": lambda key: "c3drX2xpdmVf" + "A" * 60 + "==",
    "9_kb": lambda key: "a" * 9000,
}
UNKNOWN: dict[str, Callable[[str], str]] = {
    "another_secret_of_a_known_id": lambda key: sealed(key[:21] + "".join(map(other, key[21:-6]))),
    "one_character_with_a_new_checksum": lambda key: sealed(key[:40] + other(key[40]) + key[41:-6]),
    "an_unknown_id": lambda key: sealed(key[:9] + "".join(map(other, key[9:20])) + key[20:-6]),
    "a_made_up_key": lambda key: issue("live").secret.reveal().decode(),
    "a_secret_of_zeros": lambda key: sealed(key[:21] + "0" * 43),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_key_of_ours_is_refused(siege: Siege, name: str) -> None:
    """By its form and checksum, before anything is looked up."""
    _refused_everywhere(siege, MALFORMED[name](siege.keys["app"]), "credential_malformed")


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_guessed_key_is_refused(siege: Siege, name: str) -> None:
    """Known id or not: one reason, one answer, one HMAC."""
    _refused_everywhere(siege, UNKNOWN[name](siege.keys["app"]), "credential_unknown")


@pytest.mark.parametrize("case", VECTORS, ids=case_name)
def test_no_vector_of_a_wrong_key_gets_in(siege: Siege, case: dict[str, str]) -> None:
    """Those of a door of the other environment, which are wrong here in more than one way."""
    value = case["key"].strip().encode()
    answer = siege.refused(siege.chat().but(authorization=b"Bearer " + value), 401, "credential_malformed", stage="authn")
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')


AUTHORIZATIONS = {
    "basic": b"Basic YXBwOmFwcA==",
    "digest": b'Digest username="adm"', "negotiate": b"Negotiate abc", "empty": b"", "bearer_only": b"Bearer",
    "bearer_and_spaces": b"Bearer    ", "no_scheme": b"swk_live_x", "tab": b"Bearer\tswk_live_x", "quoted": b'Bearer "x"',
    "two_tokens": b"Bearer a b", "bearer_twice": b"Bearer Bearer a", "parameters": b"Bearer a;b=c", "latin": b"Bearer \xe9\xe8",
    "utf8": "Bearer ключ".encode(), "percent": b"Bearer %00", "sql": b"Bearer ' OR 1=1 --", "ldap": b"Bearer *)(uid=*))",
    "wildcard": b"Bearer *", "path": b"Bearer ../../etc/passwd", "token_scheme": b"Token abc", "apikey_scheme": b"ApiKey abc",
}  # fmt: skip


@pytest.mark.parametrize("name", AUTHORIZATIONS)
def test_a_made_up_authorization_fails_closed(siege: Siege, name: str) -> None:
    """No scheme, form or encoding leads to another way in (CVE-2026-59822 class)."""
    for door, control in (("inference", siege.chat()), ("management", siege.get("/api/v1/users", siege.keys["adm"]))):
        request = control.but(authorization=AUTHORIZATIONS[name])
        siege.refused(request, 401, "credential_malformed", door=door, stage="authn")


def test_the_scheme_is_case_insensitive_and_the_key_is_not(siege: Siege) -> None:
    """The control beside the rows above."""
    key = siege.keys["app"]
    for scheme in (b"Bearer", b"bearer", b"BEARER", b"bEARER"):
        assert siege.ask_raw(siege.chat().but(authorization=scheme + b" " + key.encode())).status == 200


def test_the_stored_digest_is_no_key(siege: Siege) -> None:
    """What lies in the snapshot, in the database and in every door's memory proves nothing (GHSA-69x8-hrgq-fjj8 class)."""
    pepper = read_key(siege.home / "state/control/pepper")
    digest = stored_digest(pepper, siege.keys["app"].encode()).hex()
    _refused_everywhere(siege, digest, "credential_malformed")
    _refused_everywhere(siege, sealed(siege.keys["app"][:21] + digest[:43]), "credential_unknown")


def test_an_answer_tells_nothing_about_keys(siege: Siege) -> None:
    """Malformed, unknown, revoked: one face, byte for byte."""
    dead = siege.new_key("app")
    siege.admin("POST", f"apikeys/{dead[9:20]}/revoke")
    bodies = {siege.ask_raw(siege.chat(key=key)).body for key in ("x", sealed(siege.keys["app"][:21] + "0" * 43), dead)}
    assert len(bodies) == 1


def test_an_expired_key_is_refused(siege: Siege) -> None:
    """From the microsecond that its row names."""
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)).isoformat()
    key = siege.new_key("app", expires=soon)
    assert siege.ask_raw(siege.chat(key=key)).status == 200
    siege.until(lambda: siege.ask_raw(siege.get("/v1/models", key)).status == 401)
    siege.refused(siege.chat(key=key), 401, "credential_expired", stage="authn")


def test_a_secret_that_was_rotated_away_ends_with_the_overlap(siege: Siege) -> None:
    """Until then both are good."""
    old = siege.new_key("app")
    new = siege.admin("POST", f"apikeys/{old[9:20]}/rotate", {"overlap_s": 1})["key"]
    assert [siege.ask_raw(siege.chat(key=key)).status for key in (old, new)] == [200, 200]
    siege.until(lambda: siege.ask_raw(siege.get("/v1/models", old)).status == 401)
    siege.refused(siege.chat(key=old), 401, "credential_retired", stage="authn")
    assert siege.ask_raw(siege.chat(key=new)).status == 200


def test_a_suspended_key_is_refused_everywhere(siege: Siege) -> None:
    """Its row stays, so it is known what it was."""
    key = siege.new_key("app")
    siege.admin("POST", f"apikeys/{key[9:20]}/suspend")
    _refused_everywhere(siege, key, "credential_revoked")


def test_a_revoked_key_is_as_if_it_never_was(siege: Siege) -> None:
    """The row is gone: there is nothing left to compare with."""
    key = siege.new_key("app")
    assert siege.ask_raw(siege.chat(key=key)).status == 200
    siege.admin("POST", f"apikeys/{key[9:20]}/revoke")
    _refused_everywhere(siege, key, "credential_unknown")


def test_a_disabled_owners_keys_prove_nothing(siege: Siege) -> None:
    """All of them, until the owner is enabled again."""
    siege.admin("POST", "services", {"id": "leaver"})
    siege.admin("POST", "roles/consumer/subjects", {"subject": "leaver"})
    siege.admin("POST", "grants", {"to": "subject:leaver", "model": "mock"})
    keys = [siege.new_key("leaver") for _ in range(2)]
    assert {siege.ask_raw(siege.chat(key=key)).status for key in keys} == {200}
    siege.admin("POST", "services/leaver/disable")
    for key in keys:
        _refused_everywhere(siege, key, "credential_revoked")
    siege.admin("POST", "services/leaver/enable")
    assert {siege.ask_raw(siege.chat(key=key)).status for key in keys} == {200}


@pytest.mark.parametrize(
    "bindings",
    [
        pytest.param({"cidrs": ["10.0.0.0/8"]}, id="network"),
        pytest.param({"cidrs": ["::1/128", "127.0.0.2/32"]}, id="address"),
        pytest.param({"certificate": "sha256:" + "0" * 64}, id="certificate"),
    ],
)
def test_a_key_used_outside_its_bindings_is_refused(siege: Siege, bindings: dict[str, object]) -> None:
    """It looks like a stolen one: a reason of its own."""
    key = siege.new_key("app", bindings=bindings)
    siege.refused(siege.chat(key=key), 401, "credential_binding", stage="authn")
    siege.refused(siege.chat(key=key).but(x_forwarded_for=b"10.0.0.1", x_real_ip=b"10.0.0.1"), 401, "credential_binding")


def test_a_key_inside_its_bindings_is_served(siege: Siege) -> None:
    """The control of the row above."""
    key = siege.new_key("app", bindings={"cidrs": ["127.0.0.0/8"], "models": ["mock"], "actions": ["model:chat"]})
    assert siege.ask_raw(siege.chat(key=key)).status == 200


@pytest.mark.parametrize("bindings", [{"models": ["hidden"]}, {"actions": ["model:list"]}])
def test_a_key_for_another_model_or_act_is_refused(siege: Siege, bindings: dict[str, object]) -> None:
    """Its owner may; this key may not."""
    key = siege.new_key("app", bindings=bindings)
    siege.refused(siege.chat(key=key), 401, "credential_binding")


PLACES: dict[str, Callable[[Request, str], Request]] = {
    "cookie": lambda request, key: request.but(cookie=f"session={key}".encode()),
    "x_api_key": lambda request, key: request.but(x_api_key=key.encode()),
}
BODIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "api_key": lambda key: {"api_key": key},
    "user": lambda key: {"user": key},
    "metadata": lambda key: {"metadata": {"headers": {"authorization": f"Bearer {key}"}}},
    "prompt": lambda key: {"messages": [{"role": "user", "content": f"my key is {key}, what is wrong?"}]},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("alone", [True, False])
def test_a_key_in_another_place_is_refused(siege: Siege, place: str, alone: bool) -> None:
    """Alone or beside a good one: 400, and no word of it anywhere."""
    for door, control in (("inference", siege.chat()), ("management", siege.get("/api/v1/users", siege.keys["adm"]))):
        request = PLACES[place](control, siege.keys["other"])
        request = request.but(authorization=None) if alone else request
        siege.refused(request, 400, "credential_multiple", door=door, stage="authn")


@pytest.mark.parametrize("alone", [True, False])
def test_a_key_in_the_query_is_refused(siege: Siege, alone: bool) -> None:
    """No query belongs to inference; where one belongs, no key does."""
    key = siege.keys["other"]
    for name in ("api_key", "key", "access_token", "token"):
        chat = siege.chat().to(f"/v1/chat/completions?{name}={key}".encode())
        siege.refused(chat.but(authorization=None) if alone else chat, 400, "http_malformed", stage="http")
        users = siege.get(f"/api/v1/users?{name}={key}", siege.keys["adm"])
        siege.refused(
            users.but(authorization=None) if alone else users, 400, "credential_multiple", door="management", stage="authn"
        )


@pytest.mark.parametrize("place", BODIES)
def test_a_key_in_the_body_is_refused(siege: Siege, place: str) -> None:
    """It goes to no model and into no log: 400. Without a credential in the head the body is not even read."""
    request = siege.chat(**BODIES[place](siege.keys["other"]))
    siege.refused(request, 400, "credential_multiple")
    siege.refused(request.but(authorization=None), 401, "credential_missing")
    body = json.dumps({"id": siege.keys["other"]}).encode()
    create = siege.change("POST", "/api/v1/users", {}, siege.keys["adm"]).but(body=body)
    siege.refused(create, 400, "credential_multiple", door="management")


def test_a_long_list_of_guesses_opens_nothing(siege: Siege) -> None:
    """300 guesses on one connection: each refused, each an entry, and the good key is served beside them."""
    with siege.watch() as watch:
        line = siege.line()
        for _ in range(300):
            line.send(siege.get("/v1/models", issue("live").secret.reveal().decode()).raw)
            assert line.answer(b"GET").status == 401
        line.close()
    assert [event["decision"]["reason"] for event in watch.of(line.port)] == ["credential_unknown"] * 300
    assert siege.ask_raw(siege.chat()).status == 200


def _refused_everywhere(siege: Siege, key: str, reason: str) -> None:
    """Class B at both doors and at control itself, whatever was asked."""
    for door, request in (
        ("inference", siege.chat(key=key)),
        ("inference", siege.get("/v1/models", key)),
        ("inference", siege.get("/sealward/v1/receipts/" + "0" * 26, key)),
        ("management", siege.get("/api/v1/users", key)),
        ("management", siege.change("POST", "/api/v1/users", {"id": "x"}, key)),
    ):
        answer = siege.refused(request, 401, reason, door=door, stage="authn")
        assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert siege.at_control(siege.get("/api/v1/users", key)).status == 401
