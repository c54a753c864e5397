"""Old entries leave; what was promised about them stays provable, and what is held or still needed stays."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from journals import KEYS, TRUST, Counting, MemoryDisk, StepClock, acks, admitted, completed, note, opened, request_id
from sealward.cli import run
from sealward.clock import SystemClock
from sealward.errors import IntegrityError, Refused
from sealward.formats.merkle import leaf_hash
from sealward.formats.note import Verifier
from sealward.formats.receipt import verify_receipt
from sealward.formats.tiles import tile_path
from sealward.journal.archive import Made, Part, copy, older
from sealward.journal.archived import NAME
from sealward.journal.custody import Custody
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.keys import load_keys
from sealward.journal.verify import Report, verify
from sealward.journal.writer import Writer
from world_disk import Crashed, Handle, Platter

DAY_US = 86_400_000_000


def _filled(disk: Any, count: int = 600, clock: StepClock | None = None, **more: Any) -> Writer:
    writer = opened(disk, clock, **more)
    for start in range(0, count, 100):
        acks(writer, *[note() for _ in range(start, min(start + 100, count))])
    writer.publish()
    return writer


def _custody(writer: Writer) -> Custody:
    return Custody(writer, StepClock(), Random(5).randbytes)


def _archive(writer: Writer, source: MemoryDisk, target: MemoryDisk, end: int = 0) -> Made:
    custody = _custody(writer)
    may = custody.perform({"op": "archivable"})
    made = copy(source, target, Part(may["from"], end or may["to"]), TRUST)
    told = {"to": made.part.end, "root": made.root, "manifest": made.manifest, "bytes": made.bytes, "target": "file:///a"}
    custody.perform({"op": "archived"} | told)
    writer.publish()
    return made


def _verified(disk: Any, archive: Any = None, **trust: Any) -> Report:
    report = verify(disk, TRUST, archive)
    assert report.ok, report.errors
    return report


def test_bundles_leave_and_everything_still_verifies() -> None:
    """Only entry bundles go; the rest verifies by their hashes and says how many entries it has not seen; with it, all."""
    disk, target = MemoryDisk(), MemoryDisk()
    writer = _filled(disk)
    before = set(disk.files)
    made = _archive(writer, disk, target)
    assert made.part == Part(0, 512)
    gone = before - set(disk.files)
    assert {tile_path("entries", 0), tile_path("entries", 1)} <= gone
    assert not [name for name in gone if name.startswith("tile/") and not name.startswith("tile/entries/") and ".p/" not in name]
    assert _verified(disk).unseen == 512
    assert _verified(disk).as_json()["unseen"] == 512
    assert _verified(disk, target).unseen == 0
    writer.close()
    again = opened(disk)
    rows = list(again.reader.rows())
    assert [row.index for row in rows] == list(range(512, again.size))
    assert rows[-1].event is not None
    assert rows[-1].event["type"] == "journal.archived"
    assert rows[-1].event["archive"]["to_seq"] == 511
    assert again.chronicle.archived == 512
    with pytest.raises(KeyError):
        again.reader.entry(3)
    assert next(again.reader.at([3, 513])).index == 513


def test_proofs_and_receipts_of_archived_entries_stay_valid() -> None:
    """A receipt from before verifies; a proof can still be made here, and from the archive alone."""
    disk, target = MemoryDisk(), MemoryDisk()
    writer = opened(disk)
    request = request_id()
    acks(writer, admitted(request), completed(request))
    acks(writer, *[note() for _ in range(254)])
    writer.publish()
    subject = next(row.event for row in writer.reader.rows() if row.event)["subject"]["id"]
    receipt = writer.receipt(request, subject)
    leaf = leaf_hash(writer.reader.entry(1))
    _archive(writer, disk, target)
    assert receipt is not None
    verify_receipt(receipt, log=TRUST.log)
    writer.reader.proof(1).verify(leaf, TRUST.log)
    with pytest.raises(KeyError):
        writer.receipt(request, subject)  # the entry is elsewhere: 404
    assert writer.reader.find(request) is None


def test_a_second_archive_goes_on_where_the_first_ended() -> None:
    """Into the same target, which then holds both."""
    disk, target = MemoryDisk(), MemoryDisk()
    writer = _filled(disk)
    _archive(writer, disk, target, 256)
    acks(writer, *[note() for _ in range(300)])
    writer.publish()
    assert _archive(writer, disk, target).part == Part(256, 768)
    assert _verified(disk, target).unseen == 0
    assert len([name for name in target.files if name.startswith("manifest-")]) == 2
    other = MemoryDisk({"vkey": b"another+00000000+AAAA\n"})
    acks(writer, *[note() for _ in range(300)])
    writer.publish()
    with pytest.raises(IntegrityError, match="another log"):
        _archive(writer, disk, other)


def test_what_a_start_still_needs_stays() -> None:
    """The bundle of an open request, and what the copy of the state does not cover; after it a start is as before."""
    disk, clock = MemoryDisk(), StepClock()
    counting = Counting()
    writer = opened(disk, clock, folds=[counting])
    acks(writer, *[note() for _ in range(300)])
    request = request_id()
    acks(writer, admitted(request))
    acks(writer, *[note() for _ in range(300)])
    writer.publish()
    custody = _custody(writer)
    assert custody.perform({"op": "archivable"}) == {"from": 0, "to": 256}
    told = {"root": "", "manifest": "", "bytes": 0, "target": "x"}
    with pytest.raises(Refused):
        custody.perform({"op": "archived", "to": 512} | told)
    _archive(writer, disk, MemoryDisk())
    acks(writer, completed(request))
    writer.close()
    for lost in ((), ("private/folds",)):
        for name in lost:
            del disk.files[name]
        again = Counting()
        writer = opened(disk, clock, folds=[again])
        assert again.counts == counting.counts | {"journal.archived": 1, "inference.completed": 1}
        writer.close()


def test_a_hold_keeps_what_it_covers() -> None:
    """Before its first entry archiving goes on; a hold on everything stops it."""
    disk = MemoryDisk()
    writer = _filled(disk)
    custody = _custody(writer)
    custody.perform({"op": "hold", "because": "case", "from": 300, "to": 310})
    assert custody.perform({"op": "archivable"}) == {"from": 0, "to": 256}
    custody.perform({"op": "hold", "because": "case"})
    assert custody.perform({"op": "archivable"}) == {"from": 0, "to": 0}
    custody.perform({"op": "release", "because": "over"})
    custody.perform({"op": "release", "because": "over", "from": 300, "to": 310})
    assert custody.perform({"op": "archivable"})["to"] == 512


def test_only_whole_bundles_older_than_the_retention_leave() -> None:
    """By the hour in their clear headers; a bundle goes when its last entry is old enough."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    for day in range(1, 7):
        acks(writer, *[note(time=f"2026-11-0{day}T12:00:00.000000Z") for _ in range(200)])
    writer.publish()
    found = [older(disk, Part(0, 1024), 1_793_577_600_000_000 + day * DAY_US).end for day in range(7)]
    assert found == [0, 256, 512, 768, 768, 1024, 1024]  # 2026-11-02T00:00Z and after


@pytest.mark.parametrize("harm", ["flip", "lose", "tile", "claim"])
def test_a_copy_that_does_not_verify_removes_nothing(harm: str) -> None:
    """And a log that hides what it lost behind `archived` is found out where the hashes are gone or differ too."""
    disk, target = MemoryDisk(), MemoryDisk()
    writer = _filled(disk)
    name = tile_path("entries", 0)
    if harm == "flip":
        disk.files[name] = disk.files[name][:500] + b"x" + disk.files[name][501:]
    elif harm == "lose":
        del disk.files[name]
    else:
        _archive(writer, disk, target)
        tile = tile_path(0, 0)
        if harm == "tile":
            disk.files[tile] = b"x" + disk.files[tile][1:]
        else:
            del disk.files[tile]
        assert not verify(disk, TRUST).ok
        assert not verify(disk, TRUST, target).ok
        return
    with pytest.raises((IntegrityError, FileNotFoundError)):
        _archive(writer, disk, target)
    assert NAME not in disk.files


def test_a_missing_bundle_behind_the_archived_ones_is_damage() -> None:
    """`archived` excuses nothing else, and closings of unseen admissions are counted once."""
    disk = MemoryDisk()
    writer = _filled(disk, 800)
    _archive(writer, disk, MemoryDisk(), 256)
    del disk.files[tile_path("entries", 1)]
    assert {error["code"] for error in verify(disk, TRUST).errors} == {"bundle"}


@pytest.mark.parametrize("seed", range(30))
def test_a_crash_at_any_step_leaves_one_of_both_states(seed: int) -> None:
    """Recorded and gone, or neither; a start ends what was begun."""
    platter, clock, random = Platter(Random(seed)), StepClock(), Random(seed)
    writer = Writer.open(Handle(platter), KEYS, clock=clock, random=random.randbytes)
    for _ in range(3):
        acks(writer, *[note() for _ in range(200)])
    writer.publish()
    source = MemoryDisk(platter.files)
    made = copy(source, MemoryDisk(), Part(0, 256), TRUST)
    told = {"to": 256, "root": made.root, "manifest": made.manifest, "bytes": made.bytes, "target": "x"}
    platter.crash_rate = 0.3
    try:
        Custody(writer, clock, random.randbytes).perform({"op": "archived"} | told)
        writer.publish()
    except Crashed:
        pass
    platter.crash_rate = 0.0
    platter.crash()
    again = Writer.open(Handle(platter), KEYS, clock=clock, random=random.randbytes)
    again.publish()
    assert again.chronicle.archived == again.reader.archived()
    report = verify(MemoryDisk(platter.files), TRUST)
    assert report.ok, report.errors
    assert report.unseen == again.chronicle.archived
    assert next(again.reader.entries())[0] == again.chronicle.archived


def test_the_command_copies_verifies_records_and_removes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand, on real files; what is too young stays."""

    def ours(*arguments: object) -> str:
        assert run(["journal", *map(str, arguments)]) == 0
        return capsys.readouterr().out

    folder, target = tmp_path / "j", tmp_path / "archive"
    create(folder, "journal.test/archive")
    writer = Writer.open(OsDisk(folder), load_keys(folder), clock=SystemClock(), random=Random(3).randbytes)
    acks(writer, *[note() for _ in range(400)])
    writer.close()
    assert orjson.loads(ours("archive", folder, "--to", target, "--older-than", "9999d", "--json"))["entries"] == 0
    assert run(["journal", "archive", str(folder), "--to", str(folder / "tile")]) == 2
    done = orjson.loads(ours("archive", folder, "--to", target, "--json"))
    assert (done["from"], done["to"], done["entries"]) == (0, 256, 256)
    assert not (folder / "tile/entries/000").exists()
    assert orjson.loads(ours("verify", folder, "--json"))["unseen"] == 256
    assert "known by hash only" in ours("verify", folder)
    assert "unseen" not in orjson.loads(ours("verify", folder, "--archive", target, "--json"))
    assert "index 7" in ours("prove", folder, 7)
    assert orjson.loads(ours("export", folder).splitlines()[0])["index"] == 256
    assert Verifier.parse((target / "vkey").read_text()).name == "journal.test/archive"
