"""Attack: be served by a model without the durable entry of exactly this request (contracts.md section 4)."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.formats import canonical
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.passes import Pass, parse_pass, pass_text, promises
from sealward.gateway.routes import SIDECAR
from siege import Siege, Watch, judge
from siege_door import BODY, PATH, Recorder, fresh_ulid, name_of_sidecar, present
from siege_slow import Slow
from siege_wire import Answer, Request, read_answer


def refused(siege: Siege, text: str | None, reason: str = "pass_invalid", body: bytes = BODY) -> None:
    """Class B, one entry of stage authn, no byte at the runtime."""
    with siege.watch("sidecar") as watch:
        answer = present(siege, text, body)
    judge(answer, sidecars(watch), 401, reason, "authn")


def sidecars(watch: Watch) -> list[dict[str, Any]]:
    """What the sidecar wrote."""
    return [event for event in watch.events if event["instance"].startswith("sidecar")]


def written(found: Pass, **changes: Any) -> str:
    """A pass whose parts were changed: `index`, `leaf`, `promise`, or members of the admission."""
    parts = {name: changes.pop(name) for name in ("index", "leaf", "promise") if name in changes}
    admission = canonical.dumps(found.admission | changes)
    return pass_text(
        parts.get("index", found.index), parts.get("leaf", found.leaf), parts.get("promise", found.promise), admission
    )


def test_the_control_is_served_once(siege: Siege) -> None:
    """A pass opens the model for its own request; the same pass again opens nothing."""
    with Recorder(siege) as door:
        admitted = door.admit()
        answer = present(siege, admitted.text)
        assert (answer.status, answer.json["object"]) == (200, "chat.completion")
        refused(siege, admitted.text)
        door.close(admitted.req)


MISSING = {"no_header": None, "empty": "", "spaces": "  "}


@pytest.mark.parametrize("name", MISSING)
def test_without_a_pass_nothing_is_served(siege: Siege, name: str) -> None:
    """A key instead of it opens nothing: the sidecar knows no keys."""
    refused(siege, MISSING[name], "pass_missing")
    with siege.watch("sidecar") as watch, siege.sidecar() as raw:
        raw.sendall(siege.chat().raw)
        answer = read_answer(raw)
    judge(answer, sidecars(watch), 401, "pass_missing", "authn")


FORMS: dict[str, Callable[[str], str]] = {
    "words": lambda text: "let me in",
    "only_its_version": lambda text: "v1",
    "another_version": lambda text: text.replace("v1;", "v2;"),
    "truncated": lambda text: text[:-4],
    "a_member_missing": lambda text: text[: text.index(";admission")],
    "a_member_twice": lambda text: text + ";index=1",
    "another_order": lambda text: ";".join(["v1", *reversed(text.split(";")[1:])]),
    "spaces": lambda text: text.replace(";", "; "),
    "padded": lambda text: text + "=",
    "standard_base64": lambda text: text.replace("-", "+").replace("_", "/") + "+",
    "negative_index": lambda text: text.replace("index=", "index=-"),
    "index_with_a_zero": lambda text: text.replace("index=", "index=0"),
    "huge_index": lambda text: text.replace("index=", "index=99999999999999999999"),
    "a_promise_of_nothing": lambda text: text.replace(text.split("promise=")[1].split(";")[0], ""),
    "two_passes": lambda text: f"{text}, {text}",
    "a_json_web_token": lambda text: "eyJhbGciOiJub25lIn0.e30.",
    "10_kb": lambda text: text + "A" * 10_000,
}


@pytest.mark.parametrize("name", FORMS)
def test_a_malformed_pass_is_refused_and_not_used_up(siege: Siege, name: str) -> None:
    """One grammar, one spelling; the honest request is still served afterwards."""
    with Recorder(siege) as door:
        admitted = door.admit()
        refused(siege, FORMS[name](admitted.text))
        assert present(siege, admitted.text).status == 200
        door.close(admitted.req)


def flipped(data: bytes, at: int = 0) -> bytes:
    """With one bit changed."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


FORGED: dict[str, Callable[[Pass], str]] = {
    "one_bit_of_the_signature": lambda found: written(found, promise=flipped(found.promise)),
    "one_bit_of_the_first_index": lambda found: written(found, promise=flipped(found.promise, 71)),
    "one_bit_of_the_size": lambda found: written(found, promise=flipped(found.promise, 73)),
    "a_step_more": lambda found: written(found, promise=found.promise + bytes(32)),
    "a_step_of_the_wrong_length": lambda found: written(found, promise=found.promise + bytes(31)),
    "a_signature_of_zeros": lambda found: written(found, promise=bytes(64) + found.promise[64:]),
    "another_leaf": lambda found: written(found, leaf=flipped(found.leaf)),
    "the_index_before": lambda found: written(found, index=found.index - 1),
    "the_index_after": lambda found: written(found, index=found.index + 1),
    "another_caller": lambda found: written(found, sub="adm"),
    "another_model": lambda found: written(found, model="sha256:" + "1" * 64),
    "another_body": lambda found: written(found, body=sha256(BODY + b" ").hexdigest()),
    "another_path": lambda found: written(found, path="/v1/completions"),
    "a_longer_life": lambda found: written(found, exp=found.admission["exp"] + 1),
    "another_request": lambda found: written(found, req=fresh_ulid()),
    "another_epoch": lambda found: written(found, epoch=found.admission["epoch"] + 1),
    "another_salt": lambda found: written(found, salt="0" * 64),
    "a_member_more": lambda found: written(found, admin=True),
    "another_version_inside": lambda found: written(found, v=2),
    "the_attackers_own_log": lambda found: own_log(found, "siege.example/1"),
    "another_log": lambda found: own_log(found, "elsewhere.example/1"),
    "not_canonical": lambda found: pass_text(found.index, found.leaf, found.promise, json.dumps(found.admission).encode()),
}


def own_log(found: Pass, origin: str) -> str:
    """The same admission under a promise by another key."""
    key = Ed25519PrivateKey.generate()
    (promise,) = promises(origin, found.index, [(found.leaf, sha256(found.raw_admission).digest())], key)
    return pass_text(found.index, found.leaf, promise, found.raw_admission)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_pass_is_refused(siege: Siege, name: str) -> None:
    """Every byte of it is under the log's signature."""
    with Recorder(siege) as door:
        admitted = door.admit()
        refused(siege, FORGED[name](parse_pass(admitted.text)))
        assert present(siege, admitted.text).status == 200
        door.close(admitted.req)


def test_parts_of_two_honest_passes_make_no_third(siege: Siege) -> None:
    """Promise, leaf and index of one with the admission of the other."""
    with Recorder(siege) as door:
        one, two = (door.admit() for _ in range(2))
        first, second = parse_pass(one.text), parse_pass(two.text)
        refused(siege, pass_text(first.index, first.leaf, first.promise, second.raw_admission))
        refused(siege, pass_text(second.index, first.leaf, first.promise, first.raw_admission))
        refused(siege, pass_text(first.index, second.leaf, first.promise, first.raw_admission))
        refused(siege, pass_text(first.index, first.leaf, second.promise, first.raw_admission))
        for admitted in (one, two):
            door.close(admitted.req)


def test_the_promise_of_another_entry_is_no_pass(siege: Siege) -> None:
    """Control's intents and doors' closings are promised too: their commitments are no admissions."""
    with Recorder(siege) as door:
        admitted = door.admit()
        closed = door.close(admitted.req)
        found = parse_pass(admitted.text)
        leaf = bytes.fromhex(closed["leaf"])
        promise = unb64url(closed["promise"]) if "promise" in closed else found.promise
        refused(siege, pass_text(closed["index"], leaf, promise, found.raw_admission))
        refused(siege, pass_text(closed["index"], leaf, promise, b"{}"))
        refused(siege, f"v1;index={closed['index']};leaf={b64url(leaf)};promise={b64url(promise)};admission=")


ELSEWHERE: dict[str, Callable[[Siege], dict[str, Any]]] = {
    "another_sidecar": lambda siege: {"sidecar": "other:" + name_of_sidecar(siege).partition(":")[2]},
    "another_run": lambda siege: {"sidecar": "local:" + "0" * 16},
    "another_route": lambda siege: {"path": "/v1/completions"},
    "a_route_below": lambda siege: {"path": PATH + "/batch"},
    "another_body": lambda siege: {"body": sha256(b"{}").hexdigest()},
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_honest_pass_is_for_one_place_and_one_body(siege: Siege, name: str) -> None:
    """Admitted for something else, presented here: the journal would name what did not happen."""
    with Recorder(siege) as door:
        admitted = door.admit(**ELSEWHERE[name](siege))
        refused(siege, admitted.text)
        door.close(admitted.req)


def test_a_pass_is_for_every_byte_of_its_body(siege: Siege) -> None:
    """One more, one less, one other, none."""
    with Recorder(siege) as door:
        admitted = door.admit()
        for body in (BODY + b" ", BODY[:-1], BODY.replace(b"hello", b"hullo"), b"", b"{}"):
            refused(siege, admitted.text, body=body)
        assert present(siege, admitted.text).status == 200
        door.close(admitted.req)


def test_a_model_that_is_not_presented_is_not_reached(siege: Siege) -> None:
    """A pass for a digest that was approved and stands nowhere."""
    digest = next(row["digest"] for row in siege.admin("GET", "models") if row["id"] == "spare")
    siege.admin("POST", "models/spare/approve", {"digest": "sha256:" + "6" * 64})
    with Recorder(siege) as door:
        admitted = door.admit(event={"model": {"alias": "spare", "id": "spare"}})
        refused(siege, admitted.text)
        door.close(admitted.req)
    siege.admin("POST", "models/spare/approve", {"digest": digest})


def test_a_model_that_was_withdrawn_since_is_not_reached(siege: Siege) -> None:
    """Admitted while it was approved; the sidecar has its own snapshot."""
    with Recorder(siege) as door:
        admitted = door.admit(event={"model": {"alias": "spare", "id": "spare"}})
        siege.admin("POST", "models/spare/retire")
        siege.until(lambda: present(siege, admitted.text).status == 401)
        refused(siege, admitted.text)
        door.close(admitted.req)
    siege.admin("POST", "models/spare/approve")


def test_one_pass_presented_by_many_serves_one(siege: Siege) -> None:
    """At the same moment on twenty connections."""
    with Recorder(siege) as door:
        admitted, before = door.admit(), len(siege.model.asked)
        with siege.watch("sidecar", served=True) as watch, ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: present(siege, admitted.text).status, range(20)))
        door.close(admitted.req)
    assert sorted(answers) == [200] + [401] * 19
    assert len(siege.model.asked) == before + 1
    assert [event["decision"]["reason"] for event in sidecars(watch)] == ["pass_invalid"] * 19


def test_a_closed_requests_pass_still_works_once(siege: Siege) -> None:
    """The taken door may use an admission late, within its life: there is an entry that says who, and the count is right."""
    with Recorder(siege) as door:
        admitted = door.admit()
        door.close(admitted.req)
    assert present(siege, admitted.text).status == 200
    refused(siege, admitted.text)


def test_two_passes_in_one_request_are_refused(siege: Siege) -> None:
    """Nobody knows which one counts."""
    with Recorder(siege) as door:
        one, two = door.admit(), door.admit()
        headers = (
            (b"host", b"sidecar"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY)),
            (b"x-sealward-pass", one.text.encode()), (b"x-sealward-pass", two.text.encode()),
        )  # fmt: skip
        with siege.watch("sidecar") as watch:
            answer = at_sidecar(siege, Request(b"POST", PATH.encode(), headers, BODY).raw)
        judge(answer, sidecars(watch), 400, "http_malformed", "http")
        for admitted in (one, two):
            door.close(admitted.req)


@pytest.mark.parametrize(
    "target", ["/v1/completions", "/v1/models", "/slots", "/props", "/metrics", "/", "/livez", "/health", "/v1/"]
)
def test_a_pass_opens_no_other_route_of_the_runtime(siege: Siege, target: str) -> None:
    """The sidecar's table is as closed as the door's."""
    assert target not in {route.template for route in SIDECAR.all()}
    with Recorder(siege) as door:
        admitted = door.admit(path=target)
        with siege.watch("sidecar") as watch:
            answer = present(siege, admitted.text, target=target)
        judge(answer, sidecars(watch), 404, "route_unknown", "route")
        door.close(admitted.req)


SMUGGLED = {
    "both_lengths": b"transfer-encoding: chunked\r\n",
    "length_twice": b"content-length: 5\r\n",
    "obs_fold": b"x-a: b\r\n c\r\n",
    "bare_lf": b"x-a: b\n",
    "upgrade": b"connection: upgrade\r\nupgrade: h2c\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_no_second_request_hides_behind_a_pass(siege: Siege, name: str) -> None:
    """What the sidecar reads is what it sends on, newly written: nothing of the head goes to the runtime."""
    with Recorder(siege) as door:
        admitted = door.admit()
        head = b"POST %b HTTP/1.1\r\nhost: sidecar\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        head = head % (PATH.encode(), len(BODY)) + SMUGGLED[name]
        data = head + b"x-sealward-pass: %b\r\n\r\n%b" % (admitted.text.encode(), BODY)
        with siege.watch("sidecar") as watch:
            answer = at_sidecar(siege, data)
        judge(answer, sidecars(watch), 400, "http_malformed", "http")
        door.close(admitted.req)


def test_the_runtime_gets_the_named_bytes_and_nothing_of_the_head(siege: Siege) -> None:
    """No pass, no caller, no header of the door's."""
    with Recorder(siege) as door:
        admitted = door.admit()
        assert present(siege, admitted.text).status == 200
        door.close(admitted.req)
    asked = siege.model.asked[-1]
    assert asked.headers.keys() == {"host", "content-type", "content-length"}
    assert asked.body == json.loads(BODY)


def test_an_expired_pass_is_refused(siege: Siege, slow: Slow) -> None:
    """35 seconds after its admission: it was made when the deployment began."""
    outcome = slow.end("expired_pass")
    found = [event for _, event in siege.rows(0) if event.get("refusal", {}).get("host") == "localhost"]
    judge(
        outcome.answer, [event for event in found if event["decision"]["reason"] == "pass_invalid"], 401, "pass_invalid", "authn"
    )


def at_sidecar(siege: Siege, data: bytes) -> Answer:
    """Bytes on a connection of a door."""
    with siege.sidecar() as raw:
        raw.sendall(data)
        return read_answer(raw)
