"""What is admitted, closed and refused: the recorder's decisions, whatever a door says."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settled
from hypothesis import strategies as st

from recorder_desk import DIGEST, MODEL, Desk, Peer, closing
from sealward import settings
from sealward.errors import Reason
from sealward.formats.event import validate
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.formats.passes import Log, check_here
from sealward.formats.passes import Place as SidecarsPlace
from sealward.gateway import admission
from sealward.gateway.admission import check_closing

EVENTS = Path(__file__).parent.parent / "vectors" / "journal" / "events" / "valid.jsonl"
COMPLETED = [
    event
    for event in map(json.loads, EVENTS.read_text().split("\n")[:-1])
    if event["type"] in ("inference.completed", "inference.aborted")
]


def door(desk: Desk) -> Peer:
    """One worker of an inference door."""
    return Peer(desk, "door")


def test_what_the_recorder_knows_better_it_overwrites() -> None:
    """Groups, kind, model digest and signature, epoch, policy digest, time and reservation are the recorder's own."""
    desk = Desk()
    answer = door(desk).admit(key="KEYofANN111")
    (event,) = desk.rows("inference.admitted")
    assert answer["index"] == 0
    assert event["subject"]["groups"] == ["staff"]
    assert event["model"] == {"alias": "m1", "id": "m1", "digest": DIGEST, "signature_id": "sig-1"}
    assert event["decision"]["epoch"] == 7
    assert event["decision"]["policy_digest"] == desk.snapshot.policy_digest
    assert event["request"] == {"max_tokens": 64, "n": 1, "reserved_tokens": 100}
    assert event["time"] == rfc3339(desk.clock.now())


def test_the_pass_is_what_the_sidecar_takes() -> None:
    """Signed by the log, for this sidecar, this body, this model, for 30 s."""
    desk = Desk()
    log = Log(desk.writer.origin, desk.writer._signer.key.public_key())
    found = log.check_pass(door(desk).admit()["pass"])
    here = SidecarsPlace(
        "local:" + "0" * 15 + "1", "/v1/chat/completions", desk.clock.now() // 1_000_000, DIGEST, {DIGEST}, set()
    )
    assert found.admission["body"] == "b" * 64
    with pytest.raises(FormatError, match="body"):
        check_here(found, here, b"another body")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"subject": "mallory"}, "credential_unknown"),
        ({"key": "KEYofEVE111"}, "credential_unknown"),
        ({"subject": "bob", "key": "KEYofANN111"}, "credential_unknown"),
        ({"subject": "gone"}, "revoked"),
        ({"event": {"model": {"alias": "none", "id": "none"}}}, "model_not_granted"),
        ({"event": {"model": {"alias": "none"}}}, "model_not_granted"),
        ({"event": {"model": {"alias": "old", "id": "old"}}}, "model_withdrawn"),
        ({"event": {"model": {"alias": "new", "id": "new"}}}, "model_unapproved"),
    ],
)
def test_a_decided_refusal_is_recorded_from_the_event_in_hand(change: dict[str, Any], reason: str) -> None:
    """A door that asks for what the recorder's own snapshot does not allow gets an `inference.denied`, and no pass."""
    subjects = {"ann": {"kind": "human", "groups": [], "roles": []}, "bob": {"kind": "service", "groups": [], "roles": []}}
    subjects["gone"] = subjects["ann"] | {"disabled": True}
    models = {"m1": MODEL, "old": MODEL | {"stage": "retired"}, "new": MODEL | {"stage": "candidate"}}
    desk = Desk(subjects=subjects, models=models)
    answer = door(desk).admit(**change)
    assert answer["refused"] == reason
    (event,) = desk.rows()
    assert event["type"] == "inference.denied"
    assert event["decision"]["reason"] == reason
    assert event["statement"]["input_sha256"] == "a" * 64
    assert answer["index"] == event["seq"]


def test_an_older_or_a_future_request_is_refused() -> None:
    """60 s for a request, 5 s for a clock."""
    desk = Desk()
    worker = door(desk)
    assert "pass" in worker.admit(request=desk.ulid(age_s=59))
    assert "pass" in worker.admit(request=desk.ulid(age_s=-4))
    assert worker.admit(request=desk.ulid(age_s=61))["refused"] == Reason.HTTP_TIMEOUT
    assert worker.admit(request=desk.ulid(age_s=-6))["refused"] == Reason.HTTP_TIMEOUT


def test_a_request_is_admitted_once() -> None:
    """Open or closed, at this door or another; after a restart too; a refusal of it writes nothing under its id."""
    desk = Desk()
    first, second = door(desk), door(desk)
    request = desk.ulid()
    assert "pass" in first.admit(request=request)
    assert second.admit(request=request)["refused"] == Reason.TOKEN_REPLAYED
    assert "leaf" in first.close(request)
    for worker in (first, second):
        assert worker.admit(request=request)["refused"] == Reason.TOKEN_REPLAYED
    desk.life()
    assert door(desk).admit(request=request)["refused"] == Reason.TOKEN_REPLAYED
    assert len(desk.rows()) == 2


def test_two_doors_cannot_share_a_request_within_one_turn() -> None:
    """Decided in order: the second is refused although nothing was durable yet."""
    desk = Desk()
    first, second, request = door(desk), door(desk), desk.ulid()
    a, b = first.send(desk.admission(request=request)), second.send(desk.admission(request=request))
    desk.recording.turn()
    assert "pass" in first.answer(a)
    assert second.answer(b)["refused"] == Reason.TOKEN_REPLAYED


def test_only_the_door_that_was_admitted_closes_and_only_once() -> None:
    """Exactly one closing entry for each admission, of the subject, model and source that were admitted."""
    desk = Desk()
    first, second, request = door(desk), door(desk), desk.ulid()
    first.admit(request=request)
    assert second.close(request)["refused"] == Reason.TOKEN_REPLAYED
    assert "leaf" in first.close(request)
    assert first.close(request)["refused"] == Reason.TOKEN_REPLAYED
    assert second.close(desk.ulid())["refused"] == Reason.TOKEN_REPLAYED
    (closed,) = desk.rows("inference.completed")
    (admitted,) = desk.rows("inference.admitted")
    for member in ("subject", "model", "source", "operation", "instance"):
        assert closed[member] == admitted[member]
    assert closed["link"]["of"] == admitted["seq"]
    assert closed["statement"]["input_sha256"] == admitted["admission"]["input"]
    assert closed["content"]["input"] == admitted["content"]["input"]
    assert (closed["decision"]["epoch"], closed["decision"]["policy_digest"]) == (7, desk.snapshot.policy_digest)


def test_a_closing_cannot_change_what_was_decided() -> None:
    """Of the decision a door may say how it ended; never another epoch, input or policy."""
    desk = Desk()
    worker, request = door(desk), desk.ulid()
    worker.admit(request=request)
    message = closing(request)
    message["event"] |= {
        "decision": {"outcome": "allow", "epoch": 99, "policy_ids": ["other"], "obligations": ["redact"]},
        "content": {"input": {"bytes": 0, "capture": "none"}, "output": {"bytes": 5, "capture": "digest"}},
    }
    message["event"]["statement"] |= {"input_sha256": "f" * 64, "salt": "0" * 64}
    assert "leaf" in worker.ask(message)
    (closed,) = desk.rows("inference.completed")
    assert closed["decision"]["epoch"] == 7
    assert closed["decision"]["policy_ids"] == ["consumer"]
    assert closed["decision"]["obligations"] == ["redact"]
    assert closed["content"]["input"]["bytes"] == 100
    assert closed["content"]["output"]["bytes"] == 5
    assert closed["statement"]["input_sha256"] == "a" * 64
    assert closed["statement"]["salt"] != "0" * 64


def test_a_retry_is_for_the_same_content_at_another_sidecar_and_once() -> None:
    """It is charged once; nothing else may use the id again."""
    desk = Desk(limits={"default": {"requests_per_minute": 1}})
    worker, request = door(desk), desk.ulid()
    other = "local:" + "0" * 15 + "2"
    assert "pass" in worker.admit(request=request)
    worker.close(request, "aborted", status=503, aborted_by="upstream")
    for change in (
        {},
        {"sidecar": other, "input": "0" * 64},
        {"sidecar": other, "subject": "bob"},
        {"sidecar": other, "event": {"model": {"alias": "m2", "id": "m2"}}},
    ):
        assert worker.admit(request=request, **change)["refused"] == Reason.TOKEN_REPLAYED
    assert door(desk).admit(request=request, sidecar=other)["refused"] == Reason.TOKEN_REPLAYED, "another door"
    assert "pass" in worker.admit(request=request, sidecar=other)
    worker.close(request, "aborted", status=503, aborted_by="upstream")
    assert worker.admit(request=request, sidecar="local:" + "0" * 15 + "3")["refused"] == Reason.TOKEN_REPLAYED
    assert worker.admit()["refused"] == Reason.LIMIT_REQUESTS


def test_close_and_retry_may_come_in_one_turn() -> None:
    """What a door sends without waiting is decided in order, in one batch."""
    desk = Desk()
    worker, request = door(desk), desk.ulid()
    worker.admit(request=request)
    worker.send(closing(request, "aborted", status=503, aborted_by="upstream"))
    again = worker.send(desk.admission(request=request, sidecar="local:" + "0" * 15 + "2"))
    desk.recording.turn()
    assert "pass" in worker.answer(again)
    assert [event["type"] for event in desk.rows()] == ["inference.admitted", "inference.aborted", "inference.admitted"]


@settled(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 8))
def test_limits_hold_over_all_doors_whatever_the_order(seed: int, doors: int, limit: int) -> None:
    """Requests a minute and concurrency are exact over all workers, turns and batches."""
    random = Random(seed)
    desk = Desk(seed, limits={"subject:ann": {"requests_per_minute": limit, "concurrent": 3}})
    workers = [door(desk) for _ in range(doors)]
    admitted: list[float] = []
    running: list[tuple[Peer, str]] = []
    for _ in range(40):
        worker = random.choice(workers)
        asked: list[tuple[Peer, int, str]] = []
        for _ in range(random.randint(0, 4)):
            request = desk.ulid()
            asked.append((worker, worker.send(desk.admission(request=request)), request))
        if running and random.random() < 0.5:
            ended, request = running.pop(random.randrange(len(running)))
            ended.send(closing(request))
        desk.recording.turn()
        passed = [(peer, request) for peer, n, request in asked if "pass" in peer.answer(n)]
        running += passed
        admitted += [desk.clock.boot()] * len(passed)
        assert len(running) <= 3
        assert sum(desk.clock.boot() - 60 < at for at in admitted) <= limit
        desk.clock.pass_(random.random() * 20)


def test_limits_by_subject_key_group_and_model_all_count() -> None:
    """Each row stops what it names; the refusal says which one, without an entry of a pass."""
    for row in ("default", "subject:ann", "key:KEYofANN111", "group:staff", "model:m1"):
        desk = Desk(limits={row: {"requests_per_minute": 1}})
        worker = door(desk)
        assert "pass" in worker.admit(key="KEYofANN111")
        assert worker.admit(key="KEYofANN111")["refused"] == Reason.LIMIT_REQUESTS
        assert desk.rows("inference.denied")[0]["decision"]["quota"] == {"name": row, "used": 1, "limit": 1}


def test_a_row_of_ones_own_replaces_the_default() -> None:
    """`default` is for subjects without a row; others do not share its counter."""
    desk = Desk(limits={"default": {"requests_per_minute": 1}, "subject:ann": {"requests_per_minute": 3}})
    worker = door(desk)
    assert [("pass" in worker.admit()) for _ in range(4)] == [True, True, True, False]
    assert [("pass" in worker.admit(subject="bob")) for _ in range(2)] == [True, False]


def test_a_restart_forgets_nobodys_requests() -> None:
    """The counters come back from the journal; what was open is closed by recovery."""
    desk = Desk(limits={"default": {"requests_per_minute": 2, "concurrent": 1}})
    worker = door(desk)
    worker.admit()
    desk.life()
    (aborted,) = desk.rows("inference.aborted")
    assert aborted["outcome"]["aborted_by"] == "recovery"
    worker = door(desk)
    assert "pass" in worker.admit()
    worker.close(desk.rows("inference.admitted")[-1]["link"]["request"])
    assert worker.admit()["refused"] == Reason.LIMIT_REQUESTS


def test_the_open_requests_of_a_door_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker cannot fill the recorder; the others are unaffected."""
    monkeypatch.setattr(admission, "MAX_OPEN", 3)
    desk = Desk()
    worker = door(desk)
    answers = [worker.admit() for _ in range(5)]
    assert [answer.get("refused") for answer in answers] == [None, None, None, "overloaded", "overloaded"]
    assert "pass" in door(desk).admit()
    assert not desk.rows("inference.denied")


def test_who_is_over_his_limit_does_not_fill_the_journal() -> None:
    """Denials beyond the burst are counted; ten seconds of them become one entry."""
    desk = Desk(refusals=settings.Refusals(), limits={"default": {"requests_per_minute": 1}})
    worker = door(desk)
    answers = [worker.admit() for _ in range(101)]
    assert {answer.get("refused") for answer in answers[1:]} == {"limit_requests"}
    assert len(desk.rows("inference.denied")) == 20
    desk.clock.pass_(11)
    desk.recording.tick()
    aggregate = desk.rows("inference.denied")[-1]
    assert aggregate["refusal"]["count"] == 80
    assert "link" not in aggregate


def mutations(value: Any, random: Random) -> Any:
    """`value` with one thing changed somewhere."""
    value = copy.deepcopy(value)
    holder, key = None, None
    at = value
    while isinstance(at, dict | list) and at and (holder is None or random.random() < 0.8):
        holder, key = at, random.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at = at[key]
    strange = [None, 1.0, 0.5, -1, 2**53, True, "", "x" * 129, "\x00", '"', [], {}, ["x"] * 200, {"a": {"b": {}}}, "f" * 64]
    if isinstance(holder, dict):
        match random.randrange(3):
            case 0:
                holder[key] = random.choice(strange)
            case 1:
                del holder[key]
            case _:
                holder[random.choice(["extra", "salt", "of", "aborted_by", "status", "input", "count"])] = random.choice(strange)
    elif isinstance(holder, list) and key is not None:
        holder[key] = random.choice(strange)
    return value


@given(st.integers(0, 2**32), st.sampled_from(COMPLETED))
def test_a_closing_that_passes_makes_a_valid_event(seed: int, event: dict[str, Any]) -> None:
    """What a door may say when it closes is exactly as strict as the event's own schema."""
    outcome = event["type"].removeprefix("inference.")
    said = {name: event[name] for name in admission.DOORS_CLOSING if name in event}
    check_closing(said, outcome)
    said = mutations(said, Random(seed))
    try:
        validate(event | said)  # what is left out, the recorder has from the admission
        valid = "outcome" in said and set(said) <= set(admission.DOORS_CLOSING)
    except FormatError:
        valid = False
    try:
        check_closing(said, outcome)
        passed = True
    except FormatError:
        passed = False
    assert passed == valid


@given(st.integers(0, 2**32))
def test_a_mutated_admission_is_refused_or_makes_a_valid_event(seed: int) -> None:
    """The desk validates whatever is written; a message of another shape ends the connection, and nothing else happens."""
    desk = Desk(seed)
    worker = door(desk)
    worker.ask(mutations(desk.admission(), Random(seed)))
    assert len(desk.rows()) <= 1
    assert desk.recording.stopped is None
