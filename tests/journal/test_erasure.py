"""Erasing a person: what opens no more, where it is gone from, and by when; after every crash too."""

from __future__ import annotations

import errno
from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from journals import KEYS, MemoryDisk, StepClock, acks, admitted, completed, failing, note, opened, request_id, verified
from sealward.errors import IntegrityError, Reason, Refused
from sealward.formats.fault import FormatError
from sealward.gateway.counters import Counters
from sealward.gateway.intents import Intents
from sealward.journal.custody import Custody
from sealward.journal.durable import OsDisk
from sealward.journal.folds import open_copy
from sealward.journal.init import create
from sealward.journal.key_copies import FOLDER
from sealward.journal.keys import STORE, load_keys
from sealward.journal.writer import Draft, Writer
from world_disk import Crashed, Handle, Platter

ANN = {"id": "u-ann", "kind": "human", "authn": "apikey"}
BOB = {"id": "svc-bob", "kind": "service", "authn": "apikey"}


def _custody(writer: Writer, clock: StepClock | None = None) -> Custody:
    return Custody(writer, clock or StepClock(), Random(7).randbytes)


def _erase(writer: Writer, subject: str = "u-ann", **more: Any) -> dict[str, Any]:
    return _custody(writer).perform({"op": "erase", "subject": subject, **more})


def _stores(disk: MemoryDisk | Platter) -> list[str]:
    """Files that may hold key rows."""
    return [name for name in disk.files if name == STORE or name.startswith(FOLDER)]


def _subjects(writer: Writer) -> list[str | None]:
    return [row.event["subject"]["id"] if row.event else None for row in writer.reader.rows()]


def test_an_erased_subject_opens_nowhere_and_others_do() -> None:
    """Rows, memory and every later start; the log verifies, the entry says which keys, why, and by when everywhere."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    acks(writer, note(subject=ANN), note(subject=BOB))
    clock.step(86_400 * 40)
    acks(writer, note(subject=ANN | {"id": "u-ann"}, time="2027-01-09T10:00:00.000000Z"))
    done = _erase(writer, reason="request of the data subject")
    assert done["keys"] == len(done["kids"]) >= 2
    assert _subjects(writer) == [None, "svc-bob", None, "recorder"]
    event = list(writer.reader.rows())[-1].event
    assert event is not None
    assert event["type"] == "journal.erased"
    assert event["erasure"] == {
        "subject": done["case"], "keys": done["keys"], "kids": done["kids"], "reason": "request of the data subject",
        "requested_by": "owner", "everywhere_by": done["everywhere_by"],
    }  # fmt: skip
    assert "u-ann" not in str(event)
    writer.close()
    verified(disk)
    again = opened(disk, clock)
    assert _subjects(again) == [None, "svc-bob", None, "recorder"]
    assert not any(kid.encode() in disk.files[name] for name in _stores(disk) for kid in done["kids"])


def test_a_named_user_of_a_service_is_erased_alone() -> None:
    """The pair's keys go; the service's own and those of its other users stay."""
    writer = opened(MemoryDisk())
    for user in (None, "zoe", "max"):
        named = {"on_behalf_of": {"id": user, "proof": "header"}} if user else {}
        acks(writer, Draft(note(subject=BOB | named).event, user))
    assert _erase(writer, "svc-bob", user="zoe")["keys"]
    assert _subjects(writer)[:3] == ["svc-bob", None, "svc-bob"]


def test_whoever_comes_again_has_a_new_name() -> None:
    """The next entry is under another kid: nobody can tell that it is the same person."""
    writer = opened(MemoryDisk())
    acks(writer, note(subject=ANN))
    done = _erase(writer)
    acks(writer, note(subject=ANN))
    rows = list(writer.reader.rows())
    assert rows[0].event is None
    assert rows[-1].event is not None
    assert rows[-1].header["kid"] not in done["kids"]


def test_the_receipt_of_an_erased_subject_is_not_there() -> None:
    """By heart and by a search; the one already handed out stays valid, for hashes stay."""
    writer = opened(MemoryDisk())
    request = request_id()
    acks(writer, admitted(request, subject=ANN), completed(request))
    writer.publish()
    assert writer.receipt(request, "u-ann") is not None
    _erase(writer)
    with pytest.raises(KeyError):
        writer.receipt(request, "u-ann")
    assert writer.reader.find(request, everywhere=True) is None


def test_everything_derived_lets_go_before_the_answer() -> None:
    """Counters, open intents, the copy of the state, and whoever else listens."""
    disk, clock = MemoryDisk(), StepClock()
    heard: list[Collection[str]] = []
    counters, intents = Counters(clock), Intents()
    writer = opened(disk, clock, folds=[counters, intents])
    writer.on_erased.append(heard.append)
    acks(writer, admitted(request_id(), subject=ANN), note(subject=BOB))
    clock.step(40)
    writer.publish()
    assert b"subject:u-ann" in orjson.dumps(open_copy(disk.files["private/folds"], KEYS.events, writer.origin))
    done = _erase(writer)
    assert heard == [done["kids"]]
    assert counters._windows["subject:u-ann"].requests == 0  # one is open, and nothing is known of it but that
    copied = open_copy(disk.files["private/folds"], KEYS.events, writer.origin)
    assert copied.chronicle["erased"] == sorted(done["kids"])


@pytest.mark.parametrize("seed", range(60))
def test_a_crash_at_any_step_loses_neither_the_erasure_nor_the_rest(seed: int) -> None:
    """Once `journal.erased` is durable the next start brings it to its end; before it, nothing has happened."""
    platter, clock, random = Platter(Random(seed)), StepClock(), Random(seed)
    writer = Writer.open(Handle(platter), KEYS, clock=clock, random=random.randbytes)
    acks(writer, note(subject=ANN), note(subject=BOB))
    writer.publish()
    platter.crash_rate = 0.25
    try:
        done = Custody(writer, clock, random.randbytes).perform({"op": "erase", "subject": "u-ann"})
    except Crashed:
        done = None
    platter.crash_rate = 0.0
    platter.crash()
    again = Writer.open(Handle(platter), KEYS, clock=clock, random=random.randbytes)
    erased = again.chronicle.erased
    assert (done is None) or erased == set(done["kids"])
    assert _subjects(again)[:2] == [None if erased else "u-ann", "svc-bob"]
    again.close()
    assert not any(kid.encode() in platter.files[name] for name in _stores(platter) for kid in erased)


def test_a_key_store_that_comes_back_is_replayed_against_the_journal() -> None:
    """A backup put in the place of the store revives nobody, and keeps everybody else."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note(subject=ANN), note(subject=BOB))
    old = disk.files[STORE]
    done = _erase(writer)
    writer.close()
    for lost in (False, True):
        disk.files[STORE] = old + disk.files[STORE]
        if lost:
            del disk.files["private/folds"]  # then the whole journal is read again
        again = opened(disk)
        assert _subjects(again)[:2] == [None, "svc-bob"]
        again.close()
        assert all(kid.encode() not in disk.files[STORE] for kid in done["kids"])


def test_a_lost_key_store_is_not_taken_for_an_erasure() -> None:
    """Nothing opens, and the words say where a copy lies; with it in place everything is there again."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    acks(writer, note(subject=ANN))
    writer.close()
    del disk.files[STORE]
    with pytest.raises(IntegrityError) as lost:
        opened(disk, clock)
    assert (lost.value.code, "keys.copies" in lost.value.remedy) == ("key_store", True)
    disk.files[STORE] = disk.files[next(name for name in disk.files if name.startswith(FOLDER))]
    assert _subjects(opened(disk, clock))[0] == "u-ann"


def test_copies_are_made_hourly_kept_a_week_and_hunted_down() -> None:
    """An erasure leaves none that holds the keys; what is older than seven days is gone in any case."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    for hour in range(3):
        acks(writer, note(subject=ANN), note(subject=BOB | {"id": f"svc-{hour}"}))
        writer.publish()
        writer.publish()
        clock.step(3601)
    copies = disk.names(FOLDER)
    assert len(copies) == 3
    assert len({disk.files[f"{FOLDER}/{name}"] for name in copies}) == 3
    kids = _erase(writer)["kids"]
    writer.publish()
    for name in copies:
        assert disk.files[f"{FOLDER}/{name}"]
        assert all(kid.encode() not in disk.files[f"{FOLDER}/{name}"] for kid in kids)
    clock.step(86_400 * 7)
    writer.publish()
    assert not set(copies) & set(disk.names(FOLDER))
    assert len(disk.names(FOLDER)) == 1
    for _ in range(3):
        clock.step(4000)
        writer.publish()  # nothing has changed
    assert len(disk.names(FOLDER)) == 1


def test_a_hold_stops_erasure_until_it_is_released() -> None:
    """Also after a start, with and without a copy of the state. A release names what was held."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note(subject=ANN))
    held = _custody(writer).perform({"op": "hold", "because": "case 2026-9", "from": 0, "to": 99})
    assert held["target"] == "journal:0-99"
    for lost in (False, True):
        writer.close()
        if lost:
            del disk.files["private/folds"]
        writer = opened(disk)
        with pytest.raises(Refused) as refused:
            _erase(writer)
        assert refused.value.reason is Reason.POLICY_DENIED
    with pytest.raises(Refused):
        _custody(writer).perform({"op": "release", "because": "closed"})
    _custody(writer).perform({"op": "release", "because": "closed", "from": 0, "to": 99})
    assert _erase(writer)["keys"]


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"op": "erase"}, {"op": "erase", "subject": ""}, {"op": "erase", "subject": "a\0b"}, {"op": "erase", "subject": 1},
        {"op": "erase", "subject": "a", "user": ""}, {"op": "erase", "subject": "a", "more": 1}, {"op": "hold"},
        {"op": "hold", "because": " "}, {"op": "hold", "because": "x", "from": 1},
        {"op": "hold", "because": "x", "from": 2, "to": 1},
        {"op": "hold", "because": "x", "from": True, "to": 1}, {"op": "perform", "because": "x"},
        {"op": ["erase"], "subject": "a"},
    ],
)  # fmt: skip
def test_what_is_no_act_is_refused(asked: dict[str, Any]) -> None:
    """Before anything is written."""
    writer = opened(MemoryDisk())
    with pytest.raises(FormatError):
        _custody(writer).perform(asked)
    assert writer.size == 0


def test_processes_are_nobodys_person() -> None:
    """Without their keys the journal could not tell an erased entry from a lost one. Who was never there leaves a record too."""
    writer = opened(MemoryDisk())
    with pytest.raises(Refused):
        _erase(writer, "recorder")
    done = _erase(writer, "nobody")
    assert (done["keys"], done["kids"], writer.size) == (0, [], 1)


def test_many_months_need_several_entries() -> None:
    """At most 64 kids an entry."""
    writer = opened(MemoryDisk())
    acks(writer, *[note(subject=ANN, time=f"{2020 + n // 12}-{n % 12 + 1:02d}-01T00:00:00.000000Z") for n in range(70)])
    done = _erase(writer)
    rows = [row.event for row in writer.reader.rows(70) if row.event]
    assert [len(event["erasure"]["kids"]) for event in rows] == [64, 6]
    assert done["keys"] == 70


def test_a_disk_that_fails_stops_the_journal_and_the_next_start_ends_it() -> None:
    """`journal.erased` was written: from then on the keys must go."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note(subject=ANN))
    disk.fail = failing("replace", errno.EIO, STORE)
    with pytest.raises(IntegrityError):
        _erase(writer)
    assert writer.failed == "journal_io"
    disk.fail = lambda call, name: None
    assert _subjects(opened(disk))[0] is None


def test_what_the_store_held_is_overwritten_on_disk(tmp_path: Path) -> None:
    """Whoever had the file open, or finds its blocks, finds zeros: not the rows."""
    create(tmp_path / "j", "journal.test/erase")
    disk = OsDisk(tmp_path / "j")
    writer = Writer.open(disk, load_keys(tmp_path / "j"), clock=StepClock(), random=Random(1).randbytes)
    acks(writer, note(subject=ANN), note(subject=BOB))
    with (tmp_path / "j" / STORE).open("rb") as before:
        kids = _erase(writer)["kids"]
        data = before.read()
    assert data == bytes(len(data))
    assert len(data) > 100
    writer.close()
    remains = [path for path in (tmp_path / "j/private").rglob("*") if path.is_file() and b"subjects" in path.name.encode()]
    assert len(remains) == 2
    assert all(kid.encode() not in path.read_bytes() for path in remains for kid in kids)
