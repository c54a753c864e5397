"""Attack: the door's user is the attacker (contracts.md section 1): what it can say to the recorder, and what comes of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from sealward.formats.frames import frame
from siege import Siege
from siege_door import Message, Recorder, epoch, fresh_ulid

Change = Callable[[Siege], Message]
SUBJECT = {"id": "app", "kind": "service", "authn": "apikey"}
DENIED: dict[str, tuple[Change, str]] = {
    "an_unknown_caller": (lambda siege: {"event": {"subject": SUBJECT | {"id": "mallory"}}}, "credential_unknown"),
    "another_callers_key": (
        lambda siege: {"event": {"subject": SUBJECT | {"key_id": siege.keys["other"][9:20]}}},
        "credential_unknown",
    ),
    "a_key_that_never_was": (lambda siege: {"event": {"subject": SUBJECT | {"key_id": "0" * 11}}}, "credential_unknown"),
    "an_unknown_model": (lambda siege: {"event": {"model": {"alias": "x", "id": "x"}}}, "model_not_granted"),
    "a_request_of_a_minute_ago": (lambda siege: {"req": fresh_ulid(65)}, "http_timeout"),
    "a_request_of_tomorrow": (lambda siege: {"req": fresh_ulid(-86_400)}, "http_timeout"),
}


@pytest.mark.parametrize("name", DENIED)
def test_the_recorder_decides_by_its_own_snapshot(siege: Siege, name: str) -> None:
    """No pass, and an `inference.denied` that names what the door tried."""
    change, reason = DENIED[name]
    start = siege.mark()
    with Recorder(siege) as door:
        message = door.admission(**change(siege))
        answer = door.ask(message)
    assert answer["refused"] == reason
    found = [event for _, event in siege.rows(start) if event.get("link", {}).get("request") == message["req"]]
    assert [(event["type"], event["decision"]["reason"]) for event in found] == [("inference.denied", reason)]


def test_a_disabled_callers_name_opens_nothing(siege: Siege) -> None:
    """Though the door says that it has just proven him."""
    siege.admin("POST", "services", {"id": "gone"})
    siege.admin("POST", "services/gone/disable")
    with Recorder(siege) as door:
        assert door.ask(door.admission(event={"subject": SUBJECT | {"id": "gone"}}))["refused"] == "revoked"


def test_a_retired_model_is_not_admitted(siege: Siege) -> None:
    """By no door."""
    siege.admin("POST", "models/spare/retire")
    with Recorder(siege) as door:
        assert door.ask(door.admission(event={"model": {"alias": "spare", "id": "spare"}}))["refused"] == "model_withdrawn"
    siege.admin("POST", "models/spare/approve")


@pytest.mark.parametrize("ahead", [-1, -10_000_000, 1, 10_000_000])
def test_another_epoch_is_not_admitted(siege: Siege, ahead: int) -> None:
    """Older: at once. Newer than there is: after the second in which it could have come. Nothing is written."""
    start = siege.mark()
    with Recorder(siege) as door:
        message = door.admission(epoch=epoch(siege) + ahead)
        assert door.ask(message)["refused"] == "stale_epoch"
    siege.mark()
    assert [event for _, event in siege.rows(start) if event.get("link", {}).get("request") == message["req"]] == []


def test_what_the_recorder_knows_better_it_overwrites(siege: Siege) -> None:
    """Kind, groups, roles of decision, digest of the model, time, epoch: the door's lies are not in the entry."""
    lies: Message = {
        "subject": SUBJECT | {"kind": "human", "groups": ["admins"]},
        "model": {"alias": "mock", "id": "mock", "digest": "sha256:" + "9" * 64},
        "decision": {"outcome": "deny", "epoch": 1, "policy_digest": "sha256:" + "9" * 64, "policy_ids": ["x"]},
        "instance": "recorder",
    }
    with Recorder(siege) as door:
        admitted = door.admit(event=lies)
        door.close(admitted.req)
    event = next(event for index, event in siege.rows(admitted.index) if index == admitted.index)
    assert event["type"] == "inference.admitted"
    assert event["subject"]["kind"] == "service"
    assert event["subject"].get("groups", []) == []
    assert event["model"]["digest"] != "sha256:" + "9" * 64
    assert event["decision"]["epoch"] > 1
    assert event["decision"]["outcome"] == "allow"
    assert event["instance"] == "door"


def test_a_request_is_admitted_once(siege: Siege) -> None:
    """While it is open and after it was closed; by this connection and by another."""
    with Recorder(siege) as door, Recorder(siege) as other:
        admitted = door.admit()
        again = door.admission(req=admitted.req)
        assert door.ask(dict(again))["refused"] == "token_replayed"
        assert other.ask(dict(again))["refused"] == "token_replayed"
        door.close(admitted.req)
        assert door.ask(dict(again))["refused"] == "token_replayed"
        assert other.ask(dict(again))["refused"] == "token_replayed"


def test_a_request_is_closed_once_and_by_its_own_door(siege: Siege) -> None:
    """Nobody ends another's request, or ends one twice."""
    with Recorder(siege) as door, Recorder(siege) as other:
        admitted = door.admit()
        assert other.close(admitted.req)["refused"] == "token_replayed"
        assert "index" in door.close(admitted.req)
        assert door.close(admitted.req)["refused"] == "token_replayed"
        assert door.close(fresh_ulid())["refused"] == "token_replayed"


def test_what_a_dead_door_left_open_is_closed_for_it(siege: Siege) -> None:
    """Exactly once, as aborted by the door."""
    with Recorder(siege) as door:
        opened = [door.admit().req for _ in range(5)]
    for request in opened:
        event = siege.event(lambda e, r=request: e["type"] == "inference.aborted" and e["link"]["request"] == r)  # type: ignore[misc]
        assert event["outcome"]["aborted_by"] == "door"


def test_the_sum_of_the_limits_holds_over_all_doors(siege: Siege) -> None:
    """Three connections in turn, two requests a minute: two passes; nothing of it is the door's word."""
    siege.admin("POST", "services", {"id": "tight"})
    siege.admin("PUT", "limits/subject:tight", {"requests_per_minute": 2, "concurrent": 1})
    lies = {"event": {"subject": SUBJECT | {"id": "tight"}}}
    with Recorder(siege) as one, Recorder(siege) as two, Recorder(siege) as three:
        first = one.admit(**lies)
        assert two.ask(two.admission(**lies))["refused"] == "limit_concurrent"
        one.close(first.req)
        second = two.admit(**lies)
        two.close(second.req)
        assert three.ask(three.admission(**lies))["refused"] == "limit_requests"


def test_tokens_are_reserved_before_they_are_used(siege: Siege) -> None:
    """Whatever usage a door reports later, no more is open at once than the limit."""
    siege.admin("POST", "services", {"id": "thrifty"})
    siege.admin("PUT", "limits/subject:thrifty", {"tokens_per_minute": 100})
    lies = {"event": {"subject": SUBJECT | {"id": "thrifty"}}}
    with Recorder(siege) as door:
        admitted = door.admit(tokens=90, **lies)
        assert door.ask(door.admission(tokens=20, **lies))["refused"] == "limit_tokens"
        door.close(admitted.req)


RUDE: dict[str, Change] = {
    "read_the_journal": lambda siege: {"op": "read", "query": {"from": 0}},
    "ask_its_state": lambda siege: {"op": "status"},
    "list_intents": lambda siege: {"op": "intents"},
    "an_unknown_operation": lambda siege: {"op": "erase"},
    "no_operation": lambda siege: {},
    "an_operation_that_is_none": lambda siege: {"op": ["admit"]},
    "an_admission_without_its_members": lambda siege: {"op": "admit"},
    "a_close_without_its_members": lambda siege: {"op": "close", "req": fresh_ulid()},
    "a_record_that_is_none": lambda siege: {"op": "record", "event": "x"},
    "propose_a_change": lambda siege: {"op": "propose", "change": "{}", "index": 1, "leaf": "0" * 64, "promise": ""},
}


@pytest.mark.parametrize("name", RUDE)
def test_what_no_door_may_ask_ends_its_connection(siege: Siege, name: str) -> None:
    """No answer, nothing written, and every other connection goes on."""
    siege.rude = True
    start = siege.mark()
    with Recorder(siege) as door:
        assert door.ask(RUDE[name](siege)) == {}
    siege.mark()
    kinds = {event["type"] for _, event in siege.rows(start)}
    assert kinds <= {"request.refused", "journal.read"}
    assert siege.ask_raw(siege.chat()).status == 200


NOT_ITS_OWN = [
    "inference.admitted", "inference.completed", "inference.aborted", "apikey.created", "apikey.revoked", "role.granted",
    "grant.added", "snapshot.published", "journal.erased", "journal.opened", "journal.read", "model.approved", "admin.denied",
    "recovery.performed", "subject.created",
]  # fmt: skip


@pytest.mark.parametrize("kind", NOT_ITS_OWN)
def test_a_door_writes_no_event_that_is_not_its_own(siege: Siege, kind: str) -> None:
    """Nor one with a commitment of control's: the signer would take it for an intent."""
    siege.rude = True
    event: Message = {"type": kind, "subject": SUBJECT, "change": {"target": "x", "action": "put", "digest": "0" * 64}}
    start = siege.mark()
    with Recorder(siege) as door:
        assert door.ask({"op": "record", "event": event})["refused"] == "journal_io"
        other = {"type": "request.refused", "source": {}, "decision": {"outcome": "deny", "reason": "http_malformed"}}
        answer = door.ask({"op": "record", "event": other | {"refusal": {"stage": "http"}, "change": event["change"]}})
        assert answer["refused"] == "journal_io"
    siege.mark()
    assert {found["type"] for _, found in siege.rows(start)} <= {"request.refused", "journal.read"}


GARBAGE: dict[str, bytes] = {
    "words": b"GET / HTTP/1.1\r\n\r\n",
    "a_frame_of_2_gb": b"\x7f\xff\xff\xff",
    "a_frame_that_is_not_json": b"\x00\x00\x00\x04{a:1",
    "a_frame_that_is_a_list": b"\x00\x00\x00\x02[]",
    "a_lone_surrogate": b'\x00\x00\x00\x0e{"op":"\\ud800"}'[:4] + b'{"op":"\\ud800"}',
    "deep": b"\x00\x00\x2e\xe1" + b'{"a":' * 2000 + b"1" + b"}" * 2000,
    "random": os.urandom(4096),
}


@pytest.mark.parametrize("client", ["recorder.door", "recorder.runtime", "recorder.admin", "signer.door"])
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_on_an_inner_socket_hurts_nobody(siege: Siege, client: str, name: str) -> None:
    """The process goes on with everybody else, and keeps its memory."""
    siege.rude = True
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(siege.home / f"run/{client}.sock"))
        raw.sendall(GARBAGE[name])
        raw.shutdown(socket.SHUT_WR)
        while True:
            try:
                if not raw.recv(1 << 16):
                    break
            except ConnectionError:
                break
    assert siege.ask_raw(siege.chat()).status == 200


def test_a_message_that_does_not_end_holds_no_memory(siege: Siege) -> None:
    """A frame above the bound is refused by its length alone."""
    siege.rude = True
    with Recorder(siege) as door:
        door.sock.sendall((1 << 19).to_bytes(4, "big"))
        assert door.sock.recv(1) == b""


SIGNER: dict[str, Message] = {
    "propose": {"op": "propose", "change": "{}", "index": 1, "leaf": "0" * 64, "promise": ""},
    "sign_this": {"op": "sign", "data": "x"},
    "a_short_nonce": {"op": "heartbeat", "nonce": "AAAA"},
    "a_nonce_that_is_none": {"op": "heartbeat", "nonce": 1},
    "no_operation": {},
}


@pytest.mark.parametrize("client", ["door", "admin", "recorder", "runtime"])
@pytest.mark.parametrize("name", SIGNER)
def test_the_signer_signs_for_control_only(siege: Siege, client: str, name: str) -> None:
    """Every other role may ask for heartbeats and what was signed."""
    signed = epoch(siege)
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(str(siege.home / f"run/signer.{client}.sock"))
        raw.sendall(frame(SIGNER[name] | {"n": 7}))
        answer = raw.recv(1 << 16)
    assert b"refused" in answer
    assert b"malformed" in answer
    assert epoch(siege) == signed


def test_a_door_that_does_not_read_is_not_waited_for(siege: Siege) -> None:
    """Its admissions stand unread; others are served meanwhile, and it holds a bounded amount."""
    before = _open_requests(siege)
    with Recorder(siege) as door:
        number = 0
        door.sock.setblocking(False)
        try:
            while number < 300:
                number += 1
                door.sock.sendall(frame(door.admission() | {"n": number}))
        except BlockingIOError:
            pass
        assert siege.ask_raw(siege.chat()).status == 200
    siege.until(lambda: _open_requests(siege) <= before)


def _open_requests(siege: Siege) -> int:
    with Recorder(siege, "owner") as owner:
        found: Any = owner.ask({"op": "status"})["open"]
    return int(found)
