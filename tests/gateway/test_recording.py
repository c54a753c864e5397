"""The recorder's desk: who may ask what, what waits, what ends; a hostile client harms nobody but itself."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from recorder_desk import DIGEST, Desk, Peer, closing
from sealward.errors import Reason
from sealward.formats.receipt import verify_receipt
from sealward.gateway.library import Library
from sealward.gateway.rights import RECORDERS_OWN, RIGHTS, TYPES
from world import LOG_KEYS

REFUSED = {
    "type": "request.refused",
    "subject": {"id": "anonymous", "kind": "anonymous"},
    "source": {"addr": "203.0.113.9"},
    "decision": {"outcome": "deny", "reason": "credential_missing"},
    "refusal": {"stage": "authn"},
}
INTENT = {
    "type": "apikey.revoked",
    "subject": {"id": "adam", "kind": "human"},
    "change": {"target": "k1", "action": "revoke", "digest": "sha256:" + "d" * 64, "salt": "5" * 64},
}
PUBLISHED = {"type": "snapshot.published", "snapshot": {"epoch": 9, "digest": DIGEST, "intent": 0}}


@pytest.mark.parametrize("role", RIGHTS)
def test_an_operation_of_another_role_ends_the_connection(role: str) -> None:
    """A socket gives the rights of its client, and not one more."""
    for op in ("admit", "close", "record", "receipt", "intents", "status", "read", "propose", "", 5):
        if op in RIGHTS[role].ops:
            continue
        peer = Peer(Desk(), role)
        peer.ask({"op": op, "event": {}, "query": {}})
        assert peer.hung_up, op
        assert not peer.told


@pytest.mark.parametrize("role", [role for role in RIGHTS if "record" in RIGHTS[role].ops])
def test_an_event_of_another_role_is_not_written(role: str) -> None:
    """Each type has its writers; what the recorder itself decides is nobody else's to report."""
    desk = Desk()
    peer = Peer(desk, role)
    for kind in sorted(TYPES - RIGHTS[role].types):
        assert peer.ask({"op": "record", "event": REFUSED | {"type": kind}})["refused"] == Reason.JOURNAL_IO
    assert not desk.rows()
    assert not RIGHTS[role].types & RECORDERS_OWN


def test_only_control_makes_an_intent() -> None:
    """An entry with the hash of a change as its `cm` is what the signer signs for: no door can make one."""
    for role in ("door", "admin", "runtime", "supervisor"):
        desk = Desk()
        for members in ({"change": INTENT["change"]}, {"approval": {"kind": "x"}}, {"snapshot": {"epoch": 1}}):
            process = {"type": "process.started", "process": {"name": "x"}} | members
            assert Peer(desk, role).ask({"op": "record", "event": process})["refused"] == Reason.JOURNAL_IO
    desk = Desk()
    assert Peer(desk, "door").admit(event={"change": INTENT["change"]})["refused"] == Reason.JOURNAL_IO
    assert not desk.rows()


def test_nobody_signs_as_another_or_in_another_time() -> None:
    """The instance begins with the client's name, and a door's event is of now."""
    desk = Desk()
    peer = Peer(desk, "door")
    for instance, time in (("control", "2020-01-01T00:00:00.000000Z"), ("door-7", "2040-01-01T00:00:00.000000Z")):
        peer.ask({"op": "record", "event": REFUSED | {"instance": instance, "time": time}})
    first, second = desk.rows()
    assert (first["instance"], second["instance"]) == ("door", "door-7")
    assert first["time"] == second["time"] == desk.recording._now.text


def test_an_intent_is_promised_listed_and_ended() -> None:
    """Control gets the promise that the signer asks for; what nothing has ended is listed, over a restart too."""
    desk = Desk()
    control = Peer(desk, "control")
    answer = control.ask({"op": "record", "event": INTENT})
    assert answer["promise"]
    desk.life()
    control = Peer(desk, "control")
    (listed,) = control.ask({"op": "intents"})["intents"]
    assert (listed["index"], listed["digest"]) == (0, INTENT["change"]["digest"])  # type: ignore[index]
    control.ask({"op": "record", "event": PUBLISHED})
    assert control.ask({"op": "intents"})["intents"] == []
    control.ask({"op": "record", "event": INTENT})
    failed = {"type": "change.failed", "change": {"target": "k1", "action": "revoke", "digest": INTENT["change"]["digest"]}}  # type: ignore[index]
    control.ask({"op": "record", "event": failed})
    assert control.ask({"op": "intents"})["intents"] == []


def test_a_door_that_is_behind_is_told_at_once() -> None:
    """The lower one fetches: the door. Nothing is written."""
    desk = Desk()
    assert Peer(desk, "door").admit(epoch=6)["refused"] == Reason.STALE_EPOCH
    assert not desk.rows()


def test_a_recorder_that_is_behind_fetches_and_decides_again() -> None:
    """The lower one fetches: the recorder. The door waits for its pass and gets one of the new epoch."""
    desk = Desk()
    worker = Peer(desk, "door")
    n = worker.send(desk.admission(epoch=8))
    desk.recording.turn()
    assert not worker.told
    assert desk.asked_signer == 1
    desk.change()
    assert "pass" in worker.answer(n)
    assert desk.rows()[0]["decision"]["epoch"] == 8


def test_whoever_waits_for_a_snapshot_waits_a_second_at_most() -> None:
    """Then `stale_epoch`; a door that went away meanwhile is not served."""
    desk = Desk()
    worker, gone = Peer(desk, "door"), Peer(desk, "door")
    n = worker.send(desk.admission(epoch=8))
    gone.send(desk.admission(epoch=8))
    desk.recording.turn()
    desk.recording.gone(gone.client)
    desk.clock.pass_(0.9)
    desk.recording.tick()
    assert not worker.told
    desk.clock.pass_(0.2)
    desk.recording.tick()
    assert worker.answer(n)["refused"] == Reason.STALE_EPOCH
    desk.change()
    assert not desk.rows()


def test_what_waits_is_bounded() -> None:
    """A door that names an epoch which never comes fills no memory."""
    desk = Desk()
    worker = Peer(desk, "door")
    numbers = [worker.send(desk.admission(epoch=99)) for _ in range(300)]
    desk.recording.turn()
    assert sum(worker.answer(n).get("refused") == Reason.OVERLOADED for n in numbers) == 300 - 256
    assert desk.asked_signer == 256


def test_a_snapshot_older_than_the_journal_serves_nobody() -> None:
    """A restored signer cannot revive a key: the recorder knows a later epoch from its own entries."""
    desk = Desk()
    Peer(desk, "control").ask({"op": "record", "event": PUBLISHED})
    desk.life()
    worker = Peer(desk, "door")
    n = worker.send(desk.admission())
    desk.recording.turn()
    desk.clock.pass_(1.1)
    desk.recording.tick()
    assert worker.answer(n)["refused"] == Reason.STALE_EPOCH


@pytest.mark.parametrize("reason", [Reason.NO_HEARTBEAT, Reason.NO_SNAPSHOT])
def test_without_a_snapshot_nothing_is_admitted_and_reports_go_on(reason: Reason) -> None:
    """No entry for what could not be decided; events of control and sidecar are taken, closings too."""
    desk = Desk()
    worker, request = Peer(desk, "door"), desk.ulid()
    worker.admit(request=request)
    desk.unable = reason
    assert worker.admit()["refused"] == reason
    assert "leaf" in worker.close(request)
    assert "leaf" in Peer(desk, "control").ask({"op": "record", "event": {"type": "auth.login"}})
    assert [event["type"] for event in desk.rows()] == ["inference.admitted", "inference.completed", "auth.login"]


def test_a_dead_doors_requests_are_closed() -> None:
    """Each as aborted by the door, with what the admission knew; others' stay open."""
    desk = Desk()
    dead, alive = Peer(desk, "door"), Peer(desk, "door")
    for _ in range(3):
        dead.admit()
    alive.admit()
    desk.recording.gone(dead.client)
    aborted = desk.rows("inference.aborted")
    assert [event["outcome"] for event in aborted] == [{"status": 0, "aborted_by": "door"}] * 3
    assert {event["statement"]["input_sha256"] for event in aborted} == {"a" * 64}
    assert desk.recording.open == 1


def test_a_door_that_dies_within_the_turn_leaves_nothing_open() -> None:
    """What it asked for in its last breath is not admitted."""
    desk = Desk()
    dead = Peer(desk, "door")
    dead.send(desk.admission())
    desk.recording.gone(dead.client)
    assert not desk.rows()


def test_the_recorders_own_end_is_the_last_entry() -> None:
    """Started, opened, … , what was open closed by recovery, stopped."""
    desk = Desk()
    desk.recording.begin(17)
    worker = Peer(desk, "door")
    worker.admit()
    desk.recording.drain()
    assert worker.admit()["refused"] == Reason.DRAINING
    worker.send({"op": "record", "event": dict(REFUSED)})
    desk.recording.end()
    kinds = [event["type"] for event in desk.rows()]
    assert kinds[:3] == ["process.started", "journal.opened", "inference.admitted"]
    assert kinds[3:] == ["request.refused", "inference.aborted", "process.stopped"]


def test_the_end_of_the_lease_is_the_kill_switch() -> None:
    """Nothing new; doors are told to cut; closings for ten seconds; then the keys are gone and nothing is written."""
    desk = Desk()
    worker, slow = Peer(desk, "door"), Peer(desk, "door")
    request = desk.ulid()
    worker.admit(request=request)
    slow.admit()
    desk.provider_gone = True
    desk.clock.pass_(301)
    desk.recording.tick()
    assert worker.told[-1] == {"push": "cut", "reason": Reason.KEY_UNAVAILABLE}
    assert worker.admit()["refused"] == Reason.KEY_UNAVAILABLE
    assert "leaf" in worker.close(request, "aborted", status=200, aborted_by="lease")
    assert not slow.hung_up
    desk.clock.pass_(8.5)
    desk.recording.tick()
    assert slow.hung_up
    assert [event["outcome"]["aborted_by"] for event in desk.rows("inference.aborted")] == ["lease", "lease"]
    size = desk.writer.size
    desk.clock.pass_(2)
    desk.recording.tick()
    assert Peer(desk, "control").ask({"op": "record", "event": {"type": "auth.login"}})["refused"] == Reason.KEY_UNAVAILABLE
    assert desk.writer.size == size
    assert Peer(desk, "owner").ask({"op": "status"})["state"] == Reason.KEY_UNAVAILABLE


def test_a_lease_is_renewed_while_the_provider_gives() -> None:
    """Half of it left is enough for a provider to come back."""
    desk = Desk()
    for _ in range(20):
        desk.clock.pass_(100)
        desk.recording.tick()
    assert "pass" in Peer(desk, "door").admit()


def test_a_disk_that_fails_stops_admission_and_says_why() -> None:
    """Nobody gets a pass for what is not durable; what was counted for it is given back."""
    desk = Desk(limits={"default": {"concurrent": 1}})
    worker = Peer(desk, "door")
    append = desk.writer._log.append

    def failing(entries: Any) -> list[bytes]:
        raise OSError(5, "Input/output error")

    desk.writer._log.append = failing  # type: ignore[method-assign]
    assert worker.admit()["refused"] == Reason.JOURNAL_IO
    assert worker.admit()["refused"] == Reason.JOURNAL_IO
    desk.writer._log.append = append  # type: ignore[method-assign]
    assert worker.admit()["refused"] == Reason.JOURNAL_IO, "until it starts anew"
    assert not desk.counters.open
    assert Peer(desk, "owner").ask({"op": "status"})["state"] == Reason.JOURNAL_IO


def test_a_batch_has_at_most_256_entries() -> None:
    """What a turn brings beyond that follows in the next one, in order."""
    desk = Desk()
    sizes: list[int] = []
    commit = desk.writer.commit

    def counted(drafts: Any) -> Any:
        sizes.append(len(drafts))
        return commit(drafts)

    desk.writer.commit = counted  # type: ignore[method-assign]
    worker = Peer(desk, "door")
    numbers = [worker.send(desk.admission()) for _ in range(600)]
    desk.recording.turn()
    assert sizes == [256, 256, 88]
    assert [worker.answer(n)["index"] for n in numbers] == list(range(600))


def test_a_flood_of_reports_is_bounded_and_becomes_a_gap() -> None:
    """A taken door cannot fill the journal with refusals: 1,000 in a burst, then 500 a second; the rest is counted."""
    desk = Desk()
    worker = Peer(desk, "door")
    for _ in range(1500):
        desk.recording.take(worker.client, {"op": "record", "event": dict(REFUSED)})
    desk.recording.turn()
    assert len(desk.rows()) == 1000
    desk.clock.pass_(11)
    desk.recording.tick()
    assert desk.rows("journal.gap")[0]["ext"]["dropped_events"] == 500


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"op": None},
        {"op": "admit"},
        {"op": "admit", "n": "1"},
        {"op": ["admit"], "n": 1},
        {"op": "close", "n": 1, "req": ["x"], "outcome": "completed", "event": {}},
        {"op": "close", "n": 1, "req": "x", "outcome": ["completed"], "event": {}},
        {"op": "record", "event": "text"},
        {"op": "record"},
    ],
    ids=str,
)
def test_what_is_no_message_ends_its_connection_only(message: dict[str, Any]) -> None:
    """The others in the same turn are served."""
    desk = Desk()
    bad, good = Peer(desk, "door"), Peer(desk, "door")
    desk.recording.take(bad.client, message)
    n = good.send(desk.admission())
    desk.recording.turn()
    assert bad.hung_up
    assert "pass" in good.answer(n)


def test_a_float_is_refused_and_leaves_nothing_open() -> None:
    """An admission that no reader could read is not one; its place in the limits is free again."""
    desk = Desk(limits={"default": {"concurrent": 1}})
    desk.writer.commit = type(desk.writer).commit.__get__(desk.writer)  # type: ignore[method-assign] # without the check of the tests
    worker, request = Peer(desk, "door"), desk.ulid()
    assert worker.admit(event={"request": {"n": 1.0}})["refused"] == Reason.BODY_MALFORMED
    assert "pass" in worker.admit(request=request)
    assert worker.close(request, status=200.0)["refused"] == Reason.JOURNAL_IO
    assert "leaf" in worker.close(request)


def test_a_giant_event_is_cut_or_refused() -> None:
    """An entry has at most 32 KiB, whatever a door sends."""
    desk = Desk()
    worker = Peer(desk, "door")
    found = {"name": "n" * 128, "version": "v" * 128, "target": "input", "verdict": "pass", "rule": "r" * 128}
    names = {"tools": ["t" * 128] * 128, "data_sources": ["d" * 128] * 64, "dropped_fields": ["f" * 128] * 32}
    assert "pass" in worker.admit(event={"request": names, "detectors": [found] * 32})
    (event,) = desk.rows()
    assert event["truncated"]["request.tools"]["total"] == 128
    assert worker.admit(event={"request": {"tools": ["t" * 128] * 129}})["refused"] == Reason.JOURNAL_IO


def test_a_door_cannot_deny_what_was_admitted() -> None:
    """A forged `inference.denied` under another's request would stand before its receipt."""
    desk = Desk()
    request = desk.ulid()
    Peer(desk, "door").admit(request=request)
    members = ("subject", "source", "operation", "decision", "model", "request", "link")
    admitted = desk.rows()[0]
    denied = {name: admitted[name] for name in members} | {"type": "inference.denied"}
    denied["request"] = {}
    denied["decision"] = {"outcome": "deny", "reason": "policy_denied"}
    peer = Peer(desk, "door")
    assert peer.ask({"op": "record", "event": denied})["refused"] == Reason.JOURNAL_IO
    assert "leaf" in peer.ask({"op": "record", "event": denied | {"link": {"request": desk.ulid()}}})


async def _answered(desk: Desk, peer: Peer, act: Any, message: dict[str, Any]) -> list[dict[str, Any]]:
    peer.told.clear()
    act(peer.client, message)
    async with asyncio.timeout(10):
        while not peer.told or not ({"receipt", "pending", "refused", "done"} & peer.told[-1].keys()):  # noqa: ASYNC110 - as `told` is a list
            await asyncio.sleep(0.001)
    return peer.told


def run(task: Coroutine[Any, Any, None]) -> None:
    """One scenario on a loop."""
    asyncio.run(task)


def test_a_receipt_is_for_its_owner_once_a_checkpoint_covers_it() -> None:
    """Pending, then sound and equal to the pass; nothing for anybody else, nothing before the end, nothing for garbage."""

    async def scenario() -> None:
        desk = Desk()
        library, worker, request = Library(desk.writer), Peer(desk, "door"), desk.ulid()
        question = {"n": 1, "op": "receipt", "req": request, "subject": "ann"}

        async def ask(**change: Any) -> dict[str, Any]:
            return (await _answered(desk, worker, library.receipt, question | change))[-1]

        text = worker.admit(request=request)["pass"]
        assert (await ask())["refused"] == "not_found"
        worker.close(request)
        assert (await ask()) == {"n": 1, "pending": True}
        desk.writer.publish()
        found = await ask()
        receipt = verify_receipt(found["receipt"], log=LOG_KEYS.signer.verifier, pass_=text)
        assert receipt.statement["request"] == request
        for change in ({"subject": "bob"}, {"req": desk.ulid()}, {"req": "x"}, {"req": None}, {"subject": None}):
            assert (await ask(**change))["refused"] == "not_found"
        library.close()

    run(scenario())


def test_a_refusal_with_an_entry_of_its_own_has_a_receipt() -> None:
    """The caller can show what was refused, and why it was not served."""

    async def scenario() -> None:
        desk = Desk(models={})
        library, worker, request = Library(desk.writer), Peer(desk, "door"), desk.ulid()
        worker.admit(request=request)
        desk.writer.publish()
        question = {"n": 1, "op": "receipt", "req": request, "subject": "ann"}
        found = (await _answered(desk, worker, library.receipt, question))[-1]
        receipt = verify_receipt(found["receipt"], log=LOG_KEYS.signer.verifier)
        assert (receipt.statement["outcome"], receipt.of) == ("denied", None)
        library.close()

    run(scenario())


def test_who_reads_is_recorded_before_he_reads() -> None:
    """One `journal.read` a call, with its query; then it is looked up (test_catalogue.py)."""
    desk = Desk()
    worker, owner = Peer(desk, "door"), Peer(desk, "owner")
    for subject in ("ann", "bob", "ann"):
        worker.admit(subject=subject)
    query = {"last": 3, "subject": "ann"}
    n = owner.send({"op": "read", "query": query})
    desk.recording.turn()
    assert desk.rows("journal.read")[0]["read"]["query"] == '{"last":3,"subject":"ann"}'
    assert desk.looked_up == [{"op": "read", "query": query, "n": n, "at": 3}]


def test_status_says_what_an_operator_asks() -> None:
    """State, sizes, age of the checkpoint, room, epoch, open requests."""
    desk = Desk()
    Peer(desk, "door").admit()
    said = Peer(desk, "supervisor").ask({"op": "status"})
    assert said["state"] == "serving"
    assert {"size": 1, "checkpoint_size": 0, "epoch": 7, "open": 1}.items() <= said.items()
    assert said["checkpoint_age_ms"] >= 0
    assert said["free_bytes"] > 0


def test_a_closing_of_nothing_open_does_not_reach_the_journal() -> None:
    """Late or invented, one turn or the next."""
    desk = Desk()
    worker, request = Peer(desk, "door"), desk.ulid()
    worker.admit(request=request)
    first, second = worker.send(closing(request)), worker.send(closing(request))
    desk.recording.turn()
    assert "leaf" in worker.answer(first)
    assert worker.answer(second)["refused"] == Reason.TOKEN_REPLAYED
    assert len(desk.rows()) == 2
