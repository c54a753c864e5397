"""What the recorder watches beside its clients: recovery.log and witnesses, and what their entries effect."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from journals import KEYS, MemoryDisk, StepClock
from sealward import settings
from sealward.errors import ConfigurationError
from sealward.formats.event import validate
from sealward.formats.recovery import parse_recovery_log, recovery_line
from sealward.gateway.entries import Author
from sealward.gateway.recoveries import Recoveries
from sealward.gateway.watch import Watch
from sealward.journal.cosigning import Witnesses
from sealward.journal.witness_client import WitnessClient
from sealward.journal.writer import Draft, Writer
from witnesses import witness_signer

ORIGIN = KEYS.signer.verifier.name
CLOCK = StepClock()
AUTHOR = Author("recorder", CLOCK, Random(1).randbytes)


def lines(*verbs: str) -> bytes:
    """A recovery.log of these acts."""
    data = b""
    for n, verb in enumerate(verbs):
        act = {"time": f"2026-11-23T10:00:{n:02}.000000Z", "by": "uid:0", "verb": verb, "state": "s", "because": f"reason {n}"}
        data += recovery_line(data, ORIGIN, act)
    return data


def applied(fold: Recoveries, events: list[dict[str, Any]]) -> list[str]:
    """As the journal does once they are durable; their types."""
    for index, event in enumerate(events):
        validate(event)
        fold.apply(index, event)
    return [event["type"] for event in events]


def test_each_line_becomes_an_entry_once() -> None:
    """In order, with its place in the chain; a line that was taken in is not taken again, also after a restart."""
    fold = Recoveries()
    events = fold.due(lines("admin", "witness drop w1"), ORIGIN, AUTHOR)
    assert applied(fold, events) == ["recovery.performed", "recovery.performed", "witness.dropped"]
    assert [event["recovery"]["n"] for event in events[:2]] == [0, 1]
    assert events[1]["recovery"]["prev"] == events[0]["recovery"]["line"]
    assert events[0]["subject"] == {"id": "uid:0", "kind": "human", "authn": "local"}
    assert events[2]["witness"] == {"name": "w1", "reason": "reason 1"}
    again = Recoveries()
    again.load(fold.dump())
    assert again.due(lines("admin", "witness drop w1"), ORIGIN, AUTHOR) == []
    assert applied(again, again.due(lines("admin", "witness drop w1", "signer"), ORIGIN, AUTHOR)) == ["recovery.performed"]
    assert again.dropped == {"w1"}


def test_a_recovery_log_that_was_cut_or_changed_is_told() -> None:
    """What remains of it is taken in, once; what cannot be read is told and nothing else."""
    fold = Recoveries()
    applied(fold, fold.due(lines("a", "b", "c"), ORIGIN, AUTHOR))
    for data in (lines("a"), lines("a", "b", "other")):
        taken = Recoveries()
        taken.load(fold.dump())
        count = len(parse_recovery_log(data, ORIGIN))
        assert applied(taken, taken.due(data, ORIGIN, AUTHOR)) == ["journal.gap"] + ["recovery.performed"] * count
        assert taken.due(data, ORIGIN, AUTHOR) == []
    for data in (lines("a")[:-1], lines("a") + b"x\n", b"\xff\n"):
        assert applied(fold, fold.due(data, ORIGIN, AUTHOR)) == ["journal.gap"]
    assert applied(fold, fold.due(b"", ORIGIN, AUTHOR)) == ["journal.gap"]


def test_a_line_that_is_no_act_does_not_stop_the_recorder() -> None:
    """Words that no entry can hold."""
    fold = Recoveries()
    assert applied(fold, fold.due(lines('say "x"', "admin"), ORIGIN, AUTHOR)) == ["journal.gap", "recovery.performed"]


def client(name: str = "w1", number: int = 1, **changes: Any) -> WitnessClient:
    """A witness that never answers."""
    vkey = witness_signer(number).verifier.vkey
    return replace(WitnessClient.of(settings.Witness(name=name, vkey=(vkey,), url="http://127.0.0.1:1")), **changes)


class Runs:
    """Recorders of one journal, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.log = MemoryDisk(), folder / "recovery.log"
        self.chance = itertools.count()

    def start(self, *clients: WitnessClient, quorum: int = 1) -> tuple[Writer, Watch]:
        """ConfigurationError of `first`."""
        fold = Recoveries()
        writer = Writer.open(self.disk, KEYS, clock=CLOCK, random=Random(next(self.chance)).randbytes, folds=[fold])
        watch = Watch(writer, fold, Witnesses(clients, quorum), self.log, AUTHOR)
        try:
            commit(writer, watch.first())
            commit(writer, watch.begin())
        except ConfigurationError:
            writer.close()
            raise
        return writer, watch

    def types(self, *clients: WitnessClient, quorum: int = 1) -> list[str]:
        """What one run writes."""
        writer, watch = self.start(*clients, quorum=quorum)
        commit(writer, watch.look()[0])
        watch.stop()
        found = [row.event["type"] for row in writer.reader.rows() if row.event]
        writer.close()
        return found


def commit(writer: Writer, events: list[dict[str, Any]]) -> None:
    """Durable, as the recorder does it."""
    for event in events:
        validate(event)
        writer.commit([Draft(event)])


def test_a_new_witness_is_an_entry(tmp_path: Path) -> None:
    """Once; again when its key is another."""
    runs = Runs(tmp_path)
    assert runs.types(client()) == ["witness.added"]
    assert runs.types(client()) == ["witness.added"]
    assert runs.types(client(number=2)) == ["witness.added"] * 2


def test_a_witness_is_not_left_out_in_silence(tmp_path: Path) -> None:
    """Taken out of the settings without being dropped: no start. The drop is a line, then an entry, then it is gone for ever."""
    runs = Runs(tmp_path)
    runs.types(client("w1"), client("w2", 2))
    with pytest.raises(ConfigurationError, match="w2") as refused:
        runs.start(client("w1"))
    assert "sealward witness drop w2" in refused.value.remedy
    runs.log.write_bytes(lines("witness drop w2"))
    assert runs.types(client("w1")) == ["witness.added"] * 2 + ["recovery.performed", "witness.dropped"]
    writer, watch = runs.start(client("w1"), client("w2", 2))
    assert [each["name"] for each in watch.status()] == ["w1"]
    watch.stop()
    writer.close()


def test_a_drop_takes_effect_by_its_entry(tmp_path: Path) -> None:
    """While it runs: within a second the line is read, with its entry the witness is not asked any more."""
    runs = Runs(tmp_path)
    writer, watch = runs.start(client("w1"), client("w2", 2), quorum=2)
    assert watch.look() == ([], False)
    runs.log.write_bytes(lines("witness drop w1"))
    CLOCK.step(1)
    events, behind = watch.look()
    assert [event["type"] for event in events] == ["recovery.performed", "witness.dropped"]
    assert not behind
    watch.look()
    assert [each["name"] for each in watch.status()] == ["w1", "w2"]
    commit(writer, events)
    watch.look()
    assert [each["name"] for each in watch.status()] == ["w2"]
    watch.stop()
    writer.close()
