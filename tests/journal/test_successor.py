"""A log that goes on from another: what its first entry commits to, who finds out when that is less, who is erased in both."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from journals import KEYS, TRUST, MemoryDisk, StepClock, acks, admitted, completed, note, opened, request_id
from sealward.errors import IntegrityError
from sealward.formats.note import LogSigner
from sealward.journal.custody import Custody
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.key_copies import FOLDER
from sealward.journal.key_stores import elders_of
from sealward.journal.keys import STORE, LogKeys, load_keys
from sealward.journal.predecessor import PREDECESSOR, SUCCESSOR, Predecessor, predecessor
from sealward.journal.reader import Reader
from sealward.journal.successor import Beginning, begin, open_admissions
from sealward.journal.verify import Report, Trust, verify
from sealward.journal.writer import Writer
from sealward.keyring.secret import Secret

BY = {"id": "uid-0", "kind": "human", "authn": "local"}
HEIR = LogKeys(
    LogSigner("journal.test/heir", Ed25519PrivateKey.from_private_bytes(b"h" * 32), MLDSA44PrivateKey.from_seed_bytes(b"n" * 32)),
    Secret(b"q" * 32),
)


def _old(count: int = 5) -> tuple[MemoryDisk, list[bytes]]:
    """A log, and its checkpoint after every entry."""
    disk, notes = MemoryDisk(), []
    writer = opened(disk)
    for _ in range(count):
        acks(writer, note())
        writer.publish()
        notes.append(disk.files["checkpoint"])
    writer.close()
    return disk, notes


def _heir(checkpoint: bytes, open_: list[int] | None = None) -> MemoryDisk:
    disk = MemoryDisk()
    writer = Writer.open(disk, HEIR, clock=StepClock(), random=Random(9).randbytes)
    before = Predecessor.of(KEYS.signer.verifier, checkpoint)
    begin(writer, disk, before, Beginning(open_ or [], "segment damaged", BY), StepClock(), Random(8).randbytes)
    acks(writer, note())
    writer.close()
    return disk


def _verify(disk: MemoryDisk, *known: bytes) -> Report:
    return verify(disk, Trust(HEIR.signer.verifier, HEIR.signer.mldsa_verifier, known=known))


def _codes(report: Report) -> set[str]:
    return {error["code"] for error in report.errors}


def test_the_first_entry_commits_to_the_old_checkpoint() -> None:
    """Whoever has the public files alone can open it and nothing else; verify tells what it commits to."""
    _, notes = _old()
    disk = _heir(notes[-1], [1187, 1195])
    report = _verify(disk)
    assert report.ok, report.errors
    assert report.as_json()["predecessor"] == {"origin": KEYS.signer.verifier.name, "size": 5}
    rows = list(Writer.open(disk, HEIR, clock=StepClock(), random=Random(2).randbytes).reader.rows())
    first = rows[0].event
    assert first is not None
    assert first["type"] == "journal.successor"
    assert first["successor"]["open"] == [1187, 1195]
    assert first["successor"]["size"] == 5
    told = orjson.loads(disk.files[PREDECESSOR])
    assert told["kid"] == rows[0].header["kid"]
    assert told["kid"] not in {row.header["kid"] for row in rows[1:]}


def test_a_successor_that_commits_to_less_is_refused() -> None:
    """Against the checkpoint that a witness holds: less, or other entries. An older one says nothing against it."""
    _, notes = _old()
    other = MemoryDisk()
    writer = opened(other, seed=4)
    acks(writer, *[note() for _ in range(5)])
    writer.close()
    heir = _heir(notes[2])
    assert _verify(heir, notes[0], notes[2]).ok
    assert _codes(_verify(heir, notes[3])) == {"successor"}
    assert _codes(_verify(_heir(notes[4]), other.files["checkpoint"])) == {"successor"}


@pytest.mark.parametrize("harm", ["claim", "key", "vkey", "garbage", "gone"])
def test_the_public_claim_must_be_that_of_the_entry(harm: str) -> None:
    """A file `predecessor` that says more than the entry, or of another log, or nothing, is found out."""
    _, notes = _old()
    disk = _heir(notes[1])
    told = orjson.loads(disk.files[PREDECESSOR])
    if harm == "claim":
        told["note"] = notes[4].decode()
    elif harm == "key":
        told["key"] = "0" * 64
    elif harm == "vkey":
        told["vkey"] = HEIR.signer.verifier.vkey
    disk.files[PREDECESSOR] = b"{" if harm == "garbage" else orjson.dumps(told, option=orjson.OPT_SORT_KEYS) + b"\n"
    if harm == "gone":
        del disk.files[PREDECESSOR]
        assert _codes(_verify(disk, notes[1])) == {"known_checkpoint"}
        return
    assert _codes(_verify(disk, notes[4])) == {"successor"}


def test_a_log_that_is_no_successor_says_so() -> None:
    """An ordinary log has no predecessor."""
    disk, _ = _old()
    assert predecessor(disk.read, TRUST.log, 5) is None
    assert "predecessor" not in verify(disk, TRUST).as_json()


def test_the_ended_log_is_read_and_never_written() -> None:
    """Its file `successor` names who goes on."""
    disk, _ = _old()
    disk.files[SUCCESSOR] = HEIR.signer.verifier.vkey.encode() + b"\n"
    with pytest.raises(IntegrityError, match=r"journal\.test/heir goes on"):
        opened(disk)
    assert verify(disk, TRUST).ok


def test_open_admissions_are_told_as_far_as_the_log_can_be_read() -> None:
    """Closed ones are not among them; behind the damage nobody knows. The entry names 1,024 at most, and how many there were."""
    disk = MemoryDisk()
    writer = opened(disk)
    requests = [request_id() for _ in range(4)]
    for request in requests:
        acks(writer, admitted(request))
    acks(writer, completed(requests[1]))
    keys = writer._keys
    assert open_admissions(writer.reader) == [0, 2, 3]
    name = next(name for name in disk.files if name.endswith(".seg"))
    whole = disk.files[name]
    at = len(whole) // 2
    disk.files[name] = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    assert open_admissions(Reader(disk, KEYS.signer.verifier, keys)) == [0, 1]
    _, notes = _old()
    event: Any = next(Writer.open(_heir(notes[0], list(range(2000))), HEIR, clock=StepClock(), random=Random(1).randbytes)
                      .reader.rows()).event  # fmt: skip
    assert len(event["successor"]["open"]) == 1024
    assert event["truncated"]["successor.open"]["total"] == 2000


def test_who_is_erased_is_erased_in_the_logs_before_too(tmp_path: Path) -> None:
    """Store and copies; by the entry of the present log, and again at its start when an old store comes back."""
    old, new, clock = tmp_path / "journal.1", tmp_path / "journal", StepClock()
    ann, bob = {"id": "ann", "kind": "human", "authn": "apikey"}, {"id": "bob", "kind": "human", "authn": "apikey"}
    create(old, "journal.test/1")
    writer = Writer.open(OsDisk(old), load_keys(old), clock=clock, random=Random(1).randbytes)
    acks(writer, note(subject=ann), note(subject=bob))
    writer.close()
    (old / SUCCESSOR).write_text("x")
    store = (old / STORE).read_bytes()
    create(new, "journal.test/2")

    def now() -> Writer:
        keys = load_keys(new)
        return Writer.open(OsDisk(new), keys, clock=clock, random=Random(2).randbytes, elders=elders_of(new, clock))

    writer = now()
    acks(writer, note(subject=ann))
    kids = Custody(writer, clock, Random(3).randbytes).perform({"op": "erase", "subject": "ann"})["kids"]
    writer.close()
    before = [kid for kid in kids if kid.encode() in store]
    assert before
    assert len(kids) > len(before)
    for again in (False, True):
        if again:
            (old / STORE).write_bytes(store)
            now().close()
        files = [old / STORE, *(old / FOLDER).iterdir()]
        assert len(files) == 2
        assert not any(kid.encode() in file.read_bytes() for file in files for kid in before)
        assert (old / STORE).read_bytes()
