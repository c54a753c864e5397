"""The writer: one closing entry for each admission, promises that hold, and a state that survives its end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journals import KEYS, Counting, MemoryDisk, StepClock, acks, admitted, completed, event, note, opened, request_id, verified
from sealward.errors import IntegrityError, Reason, Refused
from sealward.formats.event import validate
from sealward.formats.ids import rfc3339
from sealward.formats.passes import parse_pass
from sealward.formats.receipt import verify_receipt
from sealward.journal import quota
from sealward.journal.quota import ADMIN_BYTES, Kind
from sealward.journal.writer import Ack, Draft, Writer

Event = dict[str, Any]


def events(writer: Writer) -> list[Event]:
    """Everything durable, opened."""
    return [row.event or {} for row in writer.reader.rows()]


def test_what_is_acknowledged_can_be_read() -> None:
    """In order, under its index, with origin and place added; the log verifies."""
    disk = MemoryDisk()
    writer = opened(disk)
    found = acks(writer, note(), note(), note())
    writer.publish()
    assert [ack.index for ack in found] == [0, 1, 2]
    assert [(each["seq"], each["origin"]) for each in events(writer)] == [(n, KEYS.signer.verifier.name) for n in range(3)]
    assert verified(disk).size == writer.size == writer.published == 3


def test_an_admission_gets_its_pass_and_its_closing_names_it() -> None:
    """The pass parses, the closing entry's caller is the admitted one whatever its event says."""
    writer, request = opened(MemoryDisk()), request_id()
    (ack,) = acks(writer, admitted(request))
    parsed = parse_pass(ack.pass_ or "")
    assert (parsed.index, parsed.leaf, parsed.admission["req"]) == (ack.index, ack.leaf, request)
    assert ack.promise
    assert writer.open_requests[request].index == 0
    (end,) = acks(writer, completed(request, subject={"id": "somebody-else", "kind": "human"}))
    assert end.promise == b""
    assert request not in writer.open_requests
    assert writer.closed(request) == writer.size - 1 == 1
    opening, closing = events(writer)
    assert closing["link"]["of"] == 0
    assert closing["subject"] == opening["subject"]


def test_an_intent_gets_a_promise() -> None:
    """Control hands it to the signer: no entry, no change."""
    change = {"target": "u-1", "action": "create", "digest": "sha256:" + "a" * 64, "salt": "b" * 64}
    (ack,) = acks(opened(MemoryDisk()), Draft(event("subject.created", change=change)))
    assert ack.cm == "a" * 64
    assert ack.promise
    assert ack.pass_ is None


def test_each_request_is_closed_exactly_once() -> None:
    """Twice, before its admission, or admitted twice: refused, alone of its batch."""
    writer, one, two = opened(MemoryDisk()), request_id(), request_id()
    answers = writer.commit([completed(one), admitted(one), admitted(one), completed(one), completed(one), note(), admitted(two)])
    assert [isinstance(answer, Ack) for answer in answers] == [False, True, False, True, False, True, True]
    assert all(answer.reason is Reason.BODY_MALFORMED for answer in answers if isinstance(answer, Refused))
    assert [answer.index for answer in answers if isinstance(answer, Ack)] == [0, 1, 2, 3]
    assert isinstance(writer.commit([completed(one)])[0], Refused)
    assert set(writer.open_requests) == {two}


def test_a_retry_admits_the_same_request_again() -> None:
    """Once it is closed, in the same batch or a later one."""
    writer, request = opened(MemoryDisk()), request_id()
    acks(writer, admitted(request), completed(request), admitted(request))
    assert writer.open_requests[request].index == 2
    acks(writer, completed(request))
    acks(writer, admitted(request))
    assert writer.open_requests[request].index == 4


@pytest.mark.parametrize("how", ["killed", "closed"])
def test_the_next_run_closes_what_is_open(how: str) -> None:
    """Aborted by recovery, valid events, before anything else; also for a service that named its user."""
    disk, clock, request, other = MemoryDisk(), StepClock(), request_id(), request_id()
    first = opened(disk, clock)
    named = event("inference.admitted")["subject"] | {"on_behalf_of": {"id": "Zoë", "proof": "header"}}
    draft = admitted(other, subject=named)
    acks(first, admitted(request), completed(request), Draft(draft.event, "Zoë"), admitted(request))
    if how == "closed":
        first.close()
    second = opened(disk, clock, seed=1)
    assert not second.open_requests
    *_, one, two = events(second)
    for each in (one, two):
        validate(each)
        assert (each["type"], each["outcome"]["aborted_by"]) == ("inference.aborted", "recovery")
    assert {each["link"]["of"] for each in (one, two)} == {2, 3}
    second.publish()
    verified(disk)
    assert second.size == 6


def test_a_torn_batch_is_dropped_and_told() -> None:
    """It was never acknowledged; the log says how much was lost."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note(), note())
    name = max(name for name in disk.files if name.endswith(".seg"))
    torn = len(disk.files[name]) - 7
    disk.files[name] += disk.files[name][:torn]
    again = opened(disk)
    *kept, told = events(again)
    assert len(kept) == 2
    assert told["type"] == "journal.recovered"
    assert told["gap"]["dropped_bytes"] == torn
    validate(told)


def test_damage_stops_the_start_and_changes_nothing() -> None:
    """A bad batch before a good one; fewer entries than the checkpoint; another log's files."""
    disk = MemoryDisk()
    writer = opened(disk)
    for _ in range(3):
        acks(writer, note())
    segment = max(name for name in disk.files if name.endswith(".seg"))
    writer.publish()
    data = disk.files[segment]
    for bad in (data[:40] + b"\0\0" + data[42:], data[: len(data) // 2], b"", data.replace(b"SWB1", b"SWB2")):
        broken = MemoryDisk(disk.files | {segment: bad})
        before = dict(broken.files)
        with pytest.raises(IntegrityError) as refused:
            opened(broken)
        assert refused.value.code == "journal_damaged"
        assert broken.files == before
        assert not broken.locked


def test_a_copy_spares_the_replay_and_says_the_same() -> None:
    """Open requests, ended ones and folds, from a copy of any age or from none."""
    disk, clock, fold = MemoryDisk(), StepClock(), Counting()
    writer = opened(disk, clock, [fold])
    request = request_id(clock.now())
    acks(writer, note(), admitted(request))
    clock.step(31)
    writer.publish()
    assert "private/folds" in disk.files
    acks(writer, completed(request, time=rfc3339(clock.now())), note())
    for without in (False, True):
        copied = MemoryDisk({name: data for name, data in disk.files.items() if not (without and name == "private/folds")})
        again = Counting()
        found = opened(copied, clock, [again])
        assert (again.counts, again.last) == (fold.counts, fold.last)
        assert not found.open_requests
        assert found.closed(request) == 2


def test_a_copy_of_other_folds_or_keys_is_not_believed() -> None:
    """It costs a replay, nothing else."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    acks(writer, note(), note())
    writer.close()
    fold = Counting()
    opened(disk, clock, [fold]).close()
    assert fold.last == 1
    with_folds = disk.files["private/folds"]
    opened(disk, clock).close()
    assert disk.files["private/folds"] == with_folds
    disk.files["private/folds"] = b"x" * 100
    fold = Counting()
    opened(disk, clock, [fold])
    assert fold.last == 1


def test_entries_known_to_the_copy_are_not_lost_silently() -> None:
    """A disk with fewer entries than the copy counted is not continued."""
    disk, clock = MemoryDisk(), StepClock()
    early = opened(disk, clock)
    acks(early, note())
    before = dict(disk.files)
    acks(early, note())
    early.close()
    with pytest.raises(IntegrityError) as refused:
        opened(MemoryDisk(before | {"private/folds": disk.files["private/folds"]}), clock)
    assert refused.value.code == "journal_damaged"


def test_receipts_are_ready_when_a_checkpoint_covers_them() -> None:
    """For the caller alone; later by looking for them."""
    disk, clock = MemoryDisk(), StepClock()
    writer, request = opened(disk, clock), request_id()
    subject = event("inference.admitted")["subject"]["id"]
    (ack, _) = acks(writer, admitted(request), completed(request))
    assert writer.receipt(request, subject) is None
    writer.publish()
    text = writer.receipt(request, subject) or ""
    verify_receipt(text, log=KEYS.signer.verifier, pass_=ack.pass_)
    for who, what in (("somebody", request), (subject, request_id())):
        with pytest.raises(KeyError):
            writer.receipt(what, who)
    row = writer.reader.find(request, everywhere=True)
    assert row is not None
    assert writer.reader.receipt(row) == text
    assert writer.reader.find(request_id(), everywhere=True) is None


def test_classes_have_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traffic stops before administration, anonymous callers at their share; closings are never refused."""
    disk, clock, request = MemoryDisk(room=ADMIN_BYTES + (1 << 20)), StepClock(), request_id()
    writer = opened(disk, clock)
    admission = admitted(request)
    assert isinstance(writer.commit([Draft(admission.event, kind=Kind.TRAFFIC)])[0], Ack)
    disk.room = ADMIN_BYTES - 1
    clock.step(2)
    refused, admin = writer.commit([Draft(note().event, kind=Kind.TRAFFIC), note()])
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.JOURNAL_FULL
    assert isinstance(admin, Ack)
    acks(writer, completed(request))
    disk.room = ADMIN_BYTES + 200
    monkeypatch.setattr(quota, "ANONYMOUS_SHARE", 0.0001)
    clock.step(2)
    answers = [writer.commit([Draft(note().event, kind=Kind.ANONYMOUS)])[0] for _ in range(20)]
    assert isinstance(answers[0], Ack)
    assert isinstance(answers[-1], Refused)


def test_without_keys_nothing_is_written_or_opened() -> None:
    """The end of a lease."""
    writer = opened(MemoryDisk())
    acks(writer, note())
    writer.forget()
    for use in (lambda: writer.commit([note()]), lambda: events(writer)):
        with pytest.raises(Refused) as refused:
            use()
        assert refused.value.reason is Reason.KEY_UNAVAILABLE
    assert writer.size == 1


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=12))
def test_any_order_of_admissions_and_closings_leaves_a_sound_log(steps: list[tuple[int, bool]]) -> None:
    """What is refused changes nothing; what is written verifies."""
    disk = MemoryDisk()
    writer, requests, is_open = opened(disk), [request_id() for _ in range(4)], set()
    for which, admits in steps:
        request = requests[which]
        answer = writer.commit([admitted(request) if admits else completed(request)])[0]
        assert isinstance(answer, Ack) == (admits != (request in is_open))
        if isinstance(answer, Ack):
            is_open ^= {request}
    assert set(writer.open_requests) == is_open
    writer.publish()
    verified(disk)
