"""Attack: the same against every real process: exchange at the inference door, the signer behind control, revocation."""

from __future__ import annotations

import contextlib
import json
from urllib.parse import urlencode

from siege import Siege, judge
from siege_wire import Answer, Request

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"


def form(siege: Siege, key: str = "", **more: str) -> Request:
    """The control: an exchange that works."""
    body = urlencode({"grant_type": GRANT} | more).encode()
    headers = (
        *siege.head(key or siege.keys["app"]),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-length", b"%d" % len(body)),
    )
    return Request(b"POST", b"/sealward/v1/token", headers, body)


def exchanged(siege: Siege, **more: str) -> Answer:
    """A token, as its holder gets it."""
    answer = siege.ask_raw(form(siege, **more))
    assert answer.status == 200, answer
    return answer


def refused_by_control(siege: Siege, request: Request, status: int, reason: str) -> Answer:
    """The door lets it through, control does not: one entry, by control."""
    with siege.watch("management") as watch, contextlib.closing(siege.line()) as line:
        line.send(request.raw)
        answer = line.answer(request.method)
    judge(answer, watch.of(line.port), status, reason)
    assert watch.of(line.port)[0]["instance"] == "control"
    return answer


def test_a_token_is_exchanged_used_and_revoked_at_every_door(siege: Siege) -> None:
    """One entry says what was given and never what it is; the next request after the revocation is refused."""
    said = exchanged(siege).json
    request = siege.chat(key=said["access_token"])
    assert siege.ask_raw(request).status == 200
    siege.mark()
    admitted = [event for _, event in siege.rows(0) if event["type"] == "inference.admitted"][-1]
    assert (admitted["subject"]["id"], admitted["subject"]["authn"]) == ("app", "token")
    minted = [event for _, event in siege.rows(0) if event["type"] == "token.exchanged"][-1]
    assert said["access_token"].rpartition(".")[2] not in json.dumps(siege.rows(0))
    siege.admin("POST", "tokens/revoke", {"token": minted["change"]["target"].removeprefix("token:")})
    siege.until(lambda: siege.ask_raw(request).status == 401, 5)
    siege.refused(request, 401, "credential_revoked", stage="authn")


def test_a_narrow_token_reaches_nothing_else(siege: Siege) -> None:
    """403 as if it was not granted: for the model, for the act, and for another exchange."""
    said = exchanged(siege, scope="model:list model=mock").json
    assert said["scope"] == "model:list model=mock"
    siege.refused(siege.chat(key=said["access_token"]), 403, "action_not_granted")
    refused_by_control(siege, form(siege, said["access_token"]), 403, "action_not_granted")


def test_a_wider_exchange_leaves_one_entry_and_no_token(siege: Siege) -> None:
    """Row 37 through every process."""
    narrow = exchanged(siege, scope="token:exchange model=mock").json["access_token"]
    answer = refused_by_control(siege, form(siege, narrow, scope="model=hidden"), 400, "body_field")
    assert answer.json == {"error": "invalid_scope"}


def test_a_token_is_nothing_at_the_management_door(siege: Siege) -> None:
    """Whoever its subject is."""
    token = siege.ask_raw(form(siege, siege.keys["other"])).json["access_token"]
    siege.refused(siege.get("/api/v1/users", token), 401, "token_audience", door="management", stage="authn")


def test_a_forged_token_of_ours_reaches_nobody(siege: Siege) -> None:
    """The last byte but one of the signature; the control is served."""
    token = exchanged(siege).json["access_token"]
    assert siege.ask_raw(siege.chat(key=token)).status == 200
    other = "A" if token[-10] != "A" else "B"
    siege.refused(siege.chat(key=token[:-10] + other + token[-9:]), 401, "token_invalid", stage="authn")


def test_a_key_in_the_form_is_refused(siege: Siege) -> None:
    """Row 72: a key in a body is known to more logs than ours."""
    siege.refused(form(siege, subject_token=siege.keys["app"]), 400, "credential_multiple")


def test_an_exchange_in_json_is_refused_by_its_media_type(siege: Siege) -> None:
    """415, before the caller is looked at."""
    siege.refused(form(siege).but(content_type=b"application/json"), 415, "http_malformed", stage="http")


def test_no_door_talks_to_control_as_another(siege: Siege) -> None:
    """The inference door's socket answers exchanges and nothing of the admin API."""
    request = siege.get("/api/v1/users", siege.keys["adm"])
    assert siege.at_control(request, "door").status == 404
    assert siege.at_control(request).status == 200


def test_where_tokens_come_from_is_told_to_everybody(siege: Siege) -> None:
    """RFC 9728: no entry, nothing about clusters."""
    answer = siege.ask_raw(siege.get("/.well-known/oauth-protected-resource").but(authorization=None))
    assert (answer.status, answer.json["resource"]) == (200, "https://localhost")
