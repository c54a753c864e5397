"""Verification from public files: every change of any of them is found, and where."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from journals import KEYS, TRUST, MemoryDisk, StepClock, acks, admitted, completed, note, opened, request_id, verified
from sealward.formats.b64 import b64
from sealward.formats.entry import seal
from sealward.formats.fault import FormatError
from sealward.formats.merkle import leaf_hash
from sealward.formats.note import COSIGNATURE, Verifier
from sealward.formats.tiles import Edge, bundle, tile_path, tiles_for, unbundle
from sealward.journal import log
from sealward.journal.durable import OsDisk
from sealward.journal.policy import Policy
from sealward.journal.verify import Report, Trust, verify
from shared import VECTORS, vector

LOG300 = VECTORS / "journal" / "log300"
LOG300_KEYS = vector("journal", "log300", "keys.json")
OTHERS, WITNESS = Verifier.parse(LOG300_KEYS["log_vkey"]), Verifier.parse(LOG300_KEYS["witness_vkey"])


def _codes(report: Report) -> set[str]:
    return {error["code"] for error in report.errors}


def _published(entries: int = 300) -> MemoryDisk:
    """A log with partial and full tiles, admissions and closings; only its public files."""
    disk = MemoryDisk()
    writer = opened(disk)
    while writer.size < entries - 20:
        request = request_id()
        acks(writer, note(), admitted(request), completed(request))
        if writer.size % 45 == 0:
            writer.publish()
    acks(writer, *[note() for _ in range(entries - writer.size)])
    writer.close()
    return MemoryDisk({name: data for name, data in disk.files.items() if not name.startswith("private/")})


PUBLISHED = _published()
NEEDED = {"checkpoint", "tile/entries/000", "tile/entries/001.p/44"} | {tile_path(*tile) for tile in tiles_for(300)}


def test_a_log_of_another_implementation_verifies() -> None:
    """log300, made by golang.org/x/mod, with partial files of every published size, a witness and older checkpoints."""
    known = [(LOG300 / "checkpoints" / str(size)).read_bytes() for size in (0, 1, 255, 256, 257, 300)]
    report = verify(OsDisk(LOG300), Trust(OTHERS, known=known))
    assert report.as_json() == {
        "ok": True,
        "origin": "journal.test/log",
        "size": 300,
        "root": "vJWrFLm/l3x+v1S89a9+H0q6ighvxFTfU8W6yjBOh60=",
        "witnesses": 0,
        "errors": [],
    }


def test_witnesses_are_counted() -> None:
    """A cosigned checkpoint satisfies a quorum, a plain one does not; the log's own key is none."""
    disk = MemoryDisk({str(path.relative_to(LOG300)): path.read_bytes() for path in LOG300.rglob("*") if path.is_file()})
    disk.files["checkpoint"] = disk.files["checkpoints/300"]
    trust = Trust(OTHERS, witnesses=[WITNESS], quorum=lambda cosigned: WITNESS in cosigned)
    assert _codes(verify(disk, trust)) == {"witnesses"}
    disk.files["checkpoint"] = disk.files["checkpoints/300.cosigned"]
    assert (verify(disk, trust).ok, verify(disk, trust).witnesses) == (True, 1)


@pytest.mark.parametrize("seed", range(300))
def test_random_changes_are_found(seed: int) -> None:
    """A bit, a byte more or less, a deleted, exchanged or older file: anywhere in the public files."""
    random = Random(seed)
    disk = MemoryDisk(dict(PUBLISHED.files))
    name = random.choice(sorted(disk.files))
    data = disk.files[name]
    at = random.randrange(len(data))
    kind = random.choice(["bit", "drop", "insert", "cut", "delete", "swap"])
    if kind == "bit":
        disk.files[name] = data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
    elif kind == "drop":
        disk.files[name] = data[:at] + data[at + 1 :]
    elif kind == "insert":
        disk.files[name] = data[:at] + random.randbytes(1) + data[at:]
    elif kind == "cut":
        disk.files[name] = data[:at]
    elif kind == "swap":
        disk.files[name] = disk.files[random.choice([other for other in sorted(disk.files) if disk.files[other] != data])]
    else:
        name = random.choice([needed for needed in sorted(disk.files) if needed in NEEDED])
        del disk.files[name]
    report = verify(disk, TRUST)
    assert not report.ok, (name, kind)
    assert report.errors[0]["detail"]


def _entry_changed(disk: MemoryDisk) -> None:
    entries = unbundle(disk.files["tile/entries/000"])
    entries[77] = entries[77][:-1] + bytes([entries[77][-1] ^ 1])
    disk.files["tile/entries/000"] = bundle(entries)


def _tile_changed(disk: MemoryDisk) -> None:
    data = bytearray(disk.files["tile/0/000"])
    data[77 * 32] ^= 1
    disk.files["tile/0/000"] = bytes(data)


def _length_changed(disk: MemoryDisk) -> None:
    disk.files["tile/entries/001.p/44"] = b"\xff" + disk.files["tile/entries/001.p/44"][1:]


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (_entry_changed, "root", "entry 77 and its hash"),
        (_tile_changed, "tile", "entry 77 and its hash"),
        (_length_changed, "bundle", "entries 256 to 299"),
    ],
)
def test_a_change_is_located(change: Callable[[MemoryDisk], None], code: str, words: str) -> None:
    """By entry where the tree tells it, else by file."""
    disk = MemoryDisk(dict(PUBLISHED.files))
    change(disk)
    (error,) = verify(disk, TRUST).errors
    assert error["code"] == code
    assert words in error["detail"]


def test_tiles_built_anew_over_a_forged_entry_do_not_help() -> None:
    """Only the log's key makes a checkpoint: verification hashes entries and believes the signature."""
    edge, disk = Edge(), MemoryDisk(dict(PUBLISHED.files))
    entries = [entry for name in ("tile/entries/000", "tile/entries/001.p/44") for entry in unbundle(disk.files[name])]
    forged = {"v": 1, "id": "x", "type": "auth.login", "time": "2026-11-23T09:14:07.104512Z", "subject": {"id": "x"}}
    entries[5] = seal(forged, origin=KEYS.signer.verifier.name, index=5, kid="a" * 18, key=bytes(32)).entry
    for entry in entries:
        edge.append(entry, leaf_hash(entry))
    disk.files |= edge.take()().files
    assert _codes(verify(disk, TRUST)) == {"root"}


def test_a_known_checkpoint_finds_rollbacks_and_forks() -> None:
    """A shorter log, another history of the same key, an unrelated checkpoint."""
    disk, clock = MemoryDisk(), StepClock()
    writer = opened(disk, clock)
    acks(writer, *[note() for _ in range(5)])
    writer.publish()
    earlier = dict(disk.files)
    acks(writer, note())
    writer.close()
    later = disk.files["checkpoint"]
    assert verify(disk, Trust(TRUST.log, known=[earlier["checkpoint"], later])).ok
    assert _codes(verify(MemoryDisk(earlier), Trust(TRUST.log, known=[later]))) == {"rollback"}
    assert _codes(verify(disk, Trust(TRUST.log, known=[(LOG300 / "checkpoint").read_bytes()]))) == {"known_checkpoint"}
    fork = MemoryDisk()
    other = opened(fork, clock, seed=9)
    acks(other, *[note() for _ in range(7)])
    other.close()
    assert _codes(verify(fork, Trust(TRUST.log, known=[earlier["checkpoint"], later]))) == {"fork"}


def test_closings_are_followed_without_keys() -> None:
    """An entry that closes what is not open is a fault, though tree and signature are sound."""
    edge, files, name = Edge(), dict[str, bytes](), KEYS.signer.verifier.name
    base = {"v": 1, "id": "x", "time": "2026-11-23T09:14:07.104512Z", "subject": {"id": "x"}}
    closing = base | {"type": "inference.aborted", "link": {"request": "x", "of": 0}}
    for index, found in enumerate([base | {"type": "auth.login"}, closing]):
        entry = seal(found, origin=name, index=index, kid="a" * 18, key=bytes(32)).entry
        edge.append(entry, leaf_hash(entry))
    made = edge.take()()
    files |= dict(made.files) | {"checkpoint": KEYS.signer.checkpoint(made.size, made.root, 0)}
    report = verify(MemoryDisk(files), TRUST)
    assert _codes(report) == {"of"}
    assert "entry 1" in report.errors[0]["detail"]


def test_both_signatures_are_needed_where_both_keys_are_known() -> None:
    """A checkpoint that lost its ML-DSA-44 signature, or has another key's."""
    disk = MemoryDisk(dict(PUBLISHED.files))
    lines = disk.files["checkpoint"].splitlines(keepends=True)
    disk.files["checkpoint"] = b"".join(lines[:-1])
    assert _codes(verify(disk, TRUST)) == {"checkpoint"}
    assert verify(disk, Trust(TRUST.log)).ok
    assert _codes(verify(PUBLISHED, Trust(TRUST.log, mldsa=OTHERS))) == {"checkpoint"}


def test_a_live_log_verifies_while_partial_files_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The full file stands in for a partial one of an older checkpoint."""
    monkeypatch.setattr(log.Log, "_tidy", lambda self, full: None)
    older = _published(200).files["checkpoint"]
    disk = MemoryDisk()
    writer = opened(disk)
    for _ in range(10):
        acks(writer, *[note() for _ in range(30)])
        writer.publish()
        if writer.size == 240:
            older = disk.files["checkpoint"]
    kept = {name: data for name, data in disk.files.items() if ".p/240" not in name}
    assert verified(MemoryDisk(kept | {"checkpoint": older})).size == 240


W1, W2, W3 = (Verifier(f"witness.test/{n}", COSIGNATURE, bytes([n]) * 32) for n in (1, 2, 3))
POLICY = f"""# who must have seen it
log {OTHERS.vkey} https://journal.test/
witness a {W1.vkey}
witness b {W2.vkey} https://witness.test/
witness c {W3.vkey}
group two 2 a b c
group both all two c
quorum both
"""


def test_policies_say_which_witnesses_are_enough() -> None:
    """Groups of groups; without a quorum nobody is needed."""
    policy = Policy.parse(POLICY)
    assert policy.logs == [OTHERS]
    assert [policy.satisfied(keys) for keys in ({W1, W2}, {W1, W3}, {W3}, {W1, W2, W3}, set[Verifier]())] == [
        False,
        True,
        False,
        True,
        False,
    ]
    assert Policy.parse(POLICY.replace("quorum both", "quorum none")).satisfied(set())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("quorum both", ""),
        ("quorum both", "quorum both\nquorum both"),
        ("quorum both", "quorum d"),
        ("group two 2 a b c", "group two 4 a b c"),
        ("group two 2 a b c", "group two 0 a b c"),
        ("group two 2 a b c", "group two 2 a b d"),
        ("group two 2 a b c", "group a any b c"),
        ("group two 2 a b c", "group none any b c"),
        ("group two", "gruop two"),
        (f"log {OTHERS.vkey} https://journal.test/", ""),
        (OTHERS.vkey, b64(b"x")),
    ],
)
def test_other_policies_are_refused(old: str, new: str) -> None:
    """No guessing about who must have signed."""
    assert old in POLICY
    with pytest.raises(FormatError):
        Policy.parse(POLICY.replace(old, new))
