"""Disks that are full, failing or dying: nothing that was acknowledged is lost, and nothing is acknowledged in vain."""

from __future__ import annotations

import errno
from random import Random

import pytest

from journals import Counting, MemoryDisk, StepClock, acks, admitted, completed, failing, note, opened, request_id, verified
from sealward.errors import IntegrityError
from sealward.formats.merkle import leaf_hash
from sealward.journal import log
from sealward.journal.durable import Disk
from sealward.journal.segments import batches, frame
from sealward.journal.writer import Ack, Writer
from world_disk import Crashed, Handle, Platter


def _code(writer: Writer) -> str:
    with pytest.raises(IntegrityError) as refused:
        writer.commit([note()])
    return refused.value.code


def _types(disk: Disk) -> list[str]:
    writer = opened(disk)
    found = [row.event["type"] if row.event else "erased" for row in writer.reader.rows()]
    writer.close()
    return found


@pytest.mark.parametrize("name", ["private/segments", "private/subjects"])
def test_a_failed_sync_stops_everything_until_the_segment_is_rewritten(name: str) -> None:
    """EIO: refused at once and afterwards; after `resume` only what was acknowledged is there, in a new file."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    acks(writer, note(), note())
    disk.fail = failing("sync", errno.EIO, name)
    with pytest.raises(IntegrityError) as refused:
        writer.commit([admitted(request_id(), time="2027-05-23T09:14:07.104512Z")])
    assert refused.value.code == "journal_io"
    disk.fail = failing("replace", errno.EIO, name)
    assert _code(writer) == "journal_io"
    with pytest.raises(IntegrityError):
        writer.resume()
    disk.fail = MemoryDisk().fail
    writer.resume()
    assert not writer.open_requests
    assert acks(writer, note())[0].index == 2
    assert verified(disk).size == 2
    writer.publish()
    assert verified(disk).size == 3
    assert _types(disk) == ["auth.login"] * 3


def test_a_full_disk_says_so_with_its_last_room() -> None:
    """The write fails; the reserve is freed, `journal.full` written, the rest refused; with room again it goes on."""
    disk, fold = MemoryDisk(), Counting()
    writer = opened(disk, folds=[fold])
    acks(writer, note())

    def full(call: str, name: str) -> None:
        if call == "append" and log.RESERVE in disk.files:
            raise OSError(errno.ENOSPC, "full")

    disk.fail = full
    assert _code(writer) == "journal_full"
    assert log.RESERVE not in disk.files
    assert _code(writer) == "journal_full"
    disk.fail = MemoryDisk().fail
    writer.resume()
    assert log.RESERVE in disk.files
    acks(writer, note())
    writer.close()
    assert fold.counts == {"auth.login": 2, "journal.full": 1}
    assert _types(disk) == ["auth.login", "journal.full", "auth.login"]


def test_a_disk_that_is_full_for_tiles_stops_admission_too() -> None:
    """Nothing is admitted that no checkpoint will cover; the checkpoint stays the old one."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note())
    writer.publish()
    acks(writer, note())
    for name in ("tile/", "checkpoint"):
        disk.fail = failing("replace", errno.ENOSPC, name)
        with pytest.raises(IntegrityError) as refused:
            writer.publish()
        assert refused.value.code == "journal_full"
        assert verified(disk).size == writer.published == 1
    assert _code(writer) == "journal_full"
    disk.fail = MemoryDisk().fail
    writer.resume()
    assert verified(disk).size == writer.size


def test_a_disk_without_room_for_the_reserve_is_not_opened() -> None:
    """It could not say that it is full."""
    disk = MemoryDisk(fail=failing("replace", errno.ENOSPC, log.RESERVE))
    with pytest.raises(IntegrityError) as refused:
        opened(disk)
    assert refused.value.code == "journal_full"
    assert not disk.locked


def test_full_tiles_replace_partial_ones_and_covered_segments_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each entry is kept once; a start reads the rest of the segments, not all there ever were."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 20_000)
    disk = MemoryDisk()
    writer = opened(disk)
    for _ in range(30):
        acks(writer, *[note() for _ in range(10)])
        writer.publish()
    assert [name for name in disk.files if name.startswith("tile/0/000")] == ["tile/0/000"]
    assert len([name for name in disk.files if name.endswith(".seg")]) <= 2
    assert verified(disk).size == 300
    leaves = [leaf_hash(entry) for _, entry in writer.reader.entries()]
    again = opened(disk)
    assert [leaf_hash(entry) for _, entry in again.reader.entries()] == leaves
    assert [leaf_hash(again.reader.entry(index)) for index in (0, 255, 256, 299)] == [leaves[n] for n in (0, 255, 256, 299)]
    acks(again, note())
    again.publish()
    assert verified(disk).size == 301


def test_publication_is_complete_at_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restarts at any point, across tile and segment borders, never change what is public."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 9_000)
    disk, random = MemoryDisk(), Random(5)
    for _ in range(25):
        writer = opened(disk, seed=random.randrange(1 << 30))
        for _ in range(random.randrange(4)):
            acks(writer, *[note() for _ in range(random.randrange(1, 20))])
            if random.random() < 0.5:
                writer.publish()
                verified(disk)
        if random.random() < 0.5:
            writer.close()
    opened(disk).close()
    verified(disk)


@pytest.mark.parametrize("seed", range(24))
def test_power_failures_lose_nothing_that_was_acknowledged(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call may be the last: any blocks of an append, any files of a replacement, any removals. Then another run."""
    monkeypatch.setattr(log, "SEGMENT_BYTES", 6_000)
    platter, known, clock = Platter(Random(seed)), dict[int, bytes](), StepClock()
    random, waiting = Random(seed + 1), list[str]()
    for _ in range(6):
        platter.crash_rate = 0.03
        try:
            writer = opened(Handle(platter), clock, seed=random.randrange(1 << 30))
            for _ in range(20):
                drafts = [admitted(request_id()) for _ in range(random.randrange(1, 8))]
                drafts += [completed(request) for request in waiting]
                answers = writer.commit(drafts)
                known |= {ack.index: ack.leaf for ack in answers if isinstance(ack, Ack)}
                waiting = list(writer.open_requests)[: random.randrange(4)]
                if random.random() < 0.3:
                    clock.step(random.choice((0.5, 31.0)))
                    writer.publish()
        except Crashed:
            platter.crash()
            waiting = []
    platter.crash_rate = 0.0
    writer = opened(Handle(platter), clock, seed=random.randrange(1 << 30))
    leaves = {index: leaf_hash(entry) for index, entry in writer.reader.entries()}
    assert known.items() <= leaves.items()
    assert all(row.event is not None for row in writer.reader.rows())
    assert not writer.open_requests
    writer.publish()
    assert verified(Handle(platter)).size == writer.size


def test_sound_files_of_another_history_are_not_continued() -> None:
    """Batches with good checksums, or public files, that are not those the checkpoint signed."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, *[note() for _ in range(5)])
    writer.publish()
    acks(writer, note())
    (segment,) = (name for name in disk.files if name.endswith(".seg"))
    (entries, _), last = batches(disk.files[segment], 0)
    forged = {segment: frame(0, [entries[1], *entries[1:]]) + frame(5, last[0])}
    writer.close()
    first = disk.files | forged
    opened(disk).close()  # from here on the first entries lie in public files only
    second = disk.files | {"tile/0/000.p/6": b"x" + disk.files["tile/0/000.p/6"][1:]}
    for files in (first, second):
        with pytest.raises(IntegrityError) as refused:
            opened(MemoryDisk(dict(files)))
        assert refused.value.code == "journal_damaged"


def test_a_checkpoint_of_another_key_is_not_continued() -> None:
    """Somebody else's log, or a forged checkpoint."""
    disk = MemoryDisk()
    writer = opened(disk)
    acks(writer, note())
    writer.close()
    disk.files["checkpoint"] = disk.files["checkpoint"].replace(b"\n1\n", b"\n0\n")
    with pytest.raises(IntegrityError) as refused:
        opened(disk)
    assert refused.value.code == "journal_damaged"
