"""The witness's rules: one checkpoint a log, only ever extended, durable before anything is cosigned."""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from typing import Any

import pytest

from journals import KEYS, ORIGIN, MemoryDisk, failing
from sealward.errors import ConfigurationError, IntegrityError
from sealward.formats.add_checkpoint import AddCheckpoint
from sealward.formats.fault import FormatError
from sealward.formats.note import Checkpoint, Verifier, open_cosigned, open_note, split_note, with_lines
from sealward.journal.witness import Witness, create, folder_of, load_signer
from shared import VECTORS, vector
from witnesses import NOW, Tree, Watching, witness_signer

LOG = KEYS.signer.verifier
TREE = Tree()


def test_a_first_checkpoint_is_cosigned_by_both_keys() -> None:
    """Lines that anybody can put below the note; the note with them is what the witness serves."""
    watching = Watching()
    answer = watching.add(TREE, 0, 5)
    assert answer.status == 200
    cosigned = with_lines(TREE.note(5), answer.body.decode().splitlines(keepends=True))
    keys = [watching.signer.verifier, watching.signer.mldsa_verifier]
    assert open_cosigned(cosigned, LOG, keys) == (Checkpoint(ORIGIN, 5, TREE.root(5)), keys)
    assert [int.from_bytes(each.blob[:8], "big") for each in split_note(cosigned)[1][2:]] == [NOW + 7] * 2
    served = watching.witness.latest(folder_of(ORIGIN))
    assert served.status == 200
    assert open_cosigned(served.body, LOG, keys)[1] == keys


def test_it_follows_a_log_that_grows() -> None:
    """At any steps, also none: the same checkpoint again has the newer time."""
    watching, old = Watching(), 0
    for size in (0, 1, 1, 2, 7, 8, 255, 300, 300):
        assert watching.add(TREE, old, size).status == 200
        old = size
        assert watching.size == size


REFUSED = {
    400: {
        "old is larger": lambda tree: tree.asked(6, 5).body,
        "no note": lambda tree: b"old 0\n\n",
        "no old": lambda tree: tree.note(5),
        "leading zero": lambda tree: b"old 05\n\n" + tree.note(5),
        "a sign": lambda tree: b"old +5\n\n" + tree.note(5),
        "64 hashes": lambda tree: AddCheckpoint(5, (bytes(32),) * 64, tree.note(9)).body,
        "hash of 31 bytes": lambda tree: AddCheckpoint(5, (bytes(31),), tree.note(9)).body,
        "carriage returns": lambda tree: tree.asked(5, 9).body.replace(b"\n", b"\r\n"),
        "nothing": lambda tree: b"",
        "not UTF-8": lambda tree: b"old 5\n\n\xff" + tree.note(9),
        "note without signatures": lambda tree: b"old 5\n\n" + tree.note(9).split(b"\n\n")[0] + b"\n",
    },
    403: {
        "another log's key": lambda tree: b"old 5\n\n" + _resigned(tree, "nobody"),
        "a flipped bit": lambda tree: b"old 5\n\n" + tree.note(9).replace(tree.note(9).split(b" ")[2][20:24], b"AAAA"),
        "another size under the signature": lambda tree: b"old 5\n\n" + tree.note(9).replace(b"\n9\n", b"\n10\n"),
    },
    404: {"another log": lambda tree: b"old 0\n\n" + tree.note(9).replace(ORIGIN.encode(), b"journal.test/other")},
    409: {
        "old is what it had before": lambda tree: tree.asked(3, 9).body,
        "old is nothing": lambda tree: tree.asked(0, 9).body,
        "old is ahead": lambda tree: tree.asked(6, 9).body,
        "a rollback": lambda tree: tree.asked(3, 4).body,
    },
    422: {
        "no proof": lambda tree: AddCheckpoint(5, (), tree.note(9)).body,
        "another proof": lambda tree: AddCheckpoint(5, tree.proof(4, 9), tree.note(9)).body,
        "a longer proof": lambda tree: AddCheckpoint(5, (*tree.proof(5, 9), bytes(32)), tree.note(9)).body,
        "another history": lambda tree: Tree("b", 3).asked(5, 9).body,
        "another root at its size": lambda tree: AddCheckpoint(5, (), tree.note(5, bytes(32))).body,
        "a proof at its size": lambda tree: AddCheckpoint(5, (bytes(32),), tree.note(5)).body,
    },
}


@pytest.mark.parametrize(("status", "why"), [(status, why) for status, cases in REFUSED.items() for why in cases])
def test_what_does_not_extend_what_it_knows_is_refused(status: int, why: str) -> None:
    """By the status of the protocol, and nothing is remembered of it. 409 says what it knows."""
    watching = Watching()
    assert watching.add(TREE, 0, 5).status == 200
    before = dict(watching.disk.files)
    answer = watching.witness.add_checkpoint(REFUSED[status][why](TREE))
    assert answer.status == status
    assert watching.disk.files == before
    if status == 409:
        assert (answer.content_type, answer.body) == ("text/x.tlog.size", b"5\n")


@pytest.mark.parametrize(
    "asked",
    [AddCheckpoint(0, (bytes(32),), TREE.note(5)), AddCheckpoint(0, (), TREE.note(0, bytes(32)))],
    ids=["a proof from nothing", "an empty log with another root"],
)
def test_from_nothing_there_is_no_proof(asked: AddCheckpoint) -> None:
    """Nor an empty log that is not empty."""
    assert Watching().witness.add_checkpoint(asked.body).status == 422


def test_nothing_is_cosigned_that_would_be_forgotten() -> None:
    """The disk fails: no answer, and the old state stands; later the same request is answered."""
    watching = Watching()
    watching.add(TREE, 0, 5)
    watching.disk.fail = failing("replace", errno.EIO)
    with pytest.raises(OSError, match="injected"):
        watching.add(TREE, 5, 9)
    assert watching.size == 5
    watching.disk.fail = lambda call, name: None
    assert watching.add(TREE, 5, 9).status == 200


def test_a_cosignature_leaves_only_when_the_state_is_on_disk() -> None:
    """The write happens inside the call, of exactly the note that is cosigned."""
    watching, written = Watching(), list[str]()
    watching.disk.fail = lambda call, name: written.append(f"{call} {name}")
    answer = watching.add(TREE, 0, 5)
    assert written == [f"replace logs/{folder_of(ORIGIN)}/checkpoint"]
    assert answer.body in watching.disk.files[f"logs/{folder_of(ORIGIN)}/checkpoint"]


def test_whoever_asks_in_whatever_order_gets_one_history() -> None:
    """Two histories of one log, asked at random by a liar with the log's key: everything cosigned lies on one of them."""
    chance, watching = Random(3), Watching()
    trees, cosigned = [Tree("a"), Tree("b", 4)], list[Checkpoint]()
    for _ in range(300):
        tree, old = chance.choice(trees), chance.choice([watching.size, chance.randrange(12)])
        new = chance.randrange(12)
        if watching.witness.add_checkpoint(AddCheckpoint(old, tree.proof(old, new), tree.note(new)).body).status == 200:
            cosigned.append(Checkpoint(ORIGIN, new, tree.root(new)))
    assert len(cosigned) > 5
    assert [each.size for each in cosigned] == sorted(each.size for each in cosigned)
    assert any(all(each.root == tree.root(each.size) for each in cosigned) for tree in trees)


def test_lost_or_foreign_state_is_never_begun_anew() -> None:
    """The file is gone, cut, or another witness's: no answer, until somebody restores it."""
    for damage in ("gone", b"x", TREE.note(5), b""):
        watching = Watching()
        watching.add(TREE, 0, 5)
        name = f"logs/{folder_of(ORIGIN)}/checkpoint"
        if damage == "gone":
            del watching.disk.files[name]
        elif damage:
            watching.disk.files[name] = damage  # type: ignore[assignment]
        else:
            watching.witness = Witness(watching.disk, witness_signer(2), lambda: NOW)
        with pytest.raises(IntegrityError) as refused:
            watching.add(TREE, 5, 9)
        assert refused.value.code == "witness_state"


def test_it_serves_nothing_that_it_does_not_have() -> None:
    """Unknown logs, logs without a checkpoint, names that are no hash."""
    watching = Watching()
    for folder in (folder_of(ORIGIN), folder_of("other"), "", "..", "../private/ed25519.key", "A" * 64):
        assert watching.witness.latest(folder).status == 404


def test_a_log_may_get_a_second_key() -> None:
    """Either signs; a bad signature of one refuses the note. Keys of two logs, or of a witness, are no log's."""
    watching = Watching()
    held = watching.witness.add_log([KEYS.signer.mldsa_verifier])
    assert held.keys == (LOG, KEYS.signer.mldsa_verifier)
    assert watching.add(TREE, 0, 5).status == 200
    lines = split_note(TREE.note(9))[1]
    assert (
        watching.witness.add_checkpoint(
            AddCheckpoint(5, TREE.proof(5, 9), with_lines(TREE.note(9), [_broken(lines[1].raw)])).body
        ).status
        == 403
    )
    for keys in ([LOG, Verifier("other", 1, bytes(32))], [watching.signer.verifier], []):
        with pytest.raises(ConfigurationError):
            watching.witness.add_log(keys)


def test_it_cosigns_the_log_of_the_vectors() -> None:
    """A log made by golang.org/x/mod, with the proofs of another implementation."""
    known = vector("journal", "log300", "keys.json")
    witness = Witness(MemoryDisk(), witness_signer(), lambda: NOW)
    witness.add_log([Verifier.parse(known["log_vkey"])])
    old = 0
    for case in [{"size1": 0, "size2": 1, "proof": []}, *_path(vector("journal", "consistency.json"))]:
        assert case["size1"] == old
        note = (VECTORS / f"journal/log300/checkpoints/{case['size2']}").read_bytes()
        proof = "".join(f"{step}\n" for step in case["proof"])
        assert witness.add_checkpoint(f"old {old}\n{proof}\n".encode() + note).status == 200
        old = case["size2"]
    assert old == 300


def test_create_makes_keys_once(tmp_path: Path) -> None:
    """In private files; a second one is refused, and so are names that no note can carry."""
    made = create(tmp_path / "w", "witness.test/w")
    assert load_signer(tmp_path / "w").verifier == made.verifier
    assert Verifier.parse((tmp_path / "w/vkey").read_text()) == made.verifier
    assert Verifier.parse((tmp_path / "w/vkey.mldsa44").read_text()) == made.mldsa_verifier
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "w/private").iterdir()} == {0}
    for name in ("witness.test/w", "a b", "a+b", "", "a" * 256, "ä"):
        with pytest.raises(ConfigurationError):
            create(tmp_path / "w", name)
    with pytest.raises(ConfigurationError):
        load_signer(tmp_path)


def test_with_lines_takes_the_place_of_the_same_keys_line() -> None:
    """A newer cosignature replaces an older one, and only that."""
    first, second = (witness_signer(1).cosign(split_note(TREE.note(5))[0], time) for time in (1, 2))
    other = witness_signer(2).cosign(split_note(TREE.note(5))[0], 1)
    note = TREE.note(5)
    merged = with_lines(with_lines(note, first + other), second)
    assert [each.raw for each in split_note(merged)[1]] == [each.raw for each in split_note(note)[1]] + other + second
    with pytest.raises(FormatError):
        with_lines(TREE.note(5), ["not a line\n"])


def _path(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A way from 1 to 300 by proofs that are there, in small steps."""
    at, found = 1, []
    while at < 300:
        case = min((each for each in cases if each["size1"] == at < each["size2"]), key=lambda each: int(each["size2"]))
        found.append(case)
        at = case["size2"]
    return found


def _resigned(tree: Tree, name: str) -> bytes:
    """The note, with the signatures of nobody it knows."""
    text, lines = split_note(tree.note(9))
    return f"{text}\n{''.join(each.raw.replace(ORIGIN, name) for each in lines)}".encode()


def _broken(line: str) -> str:
    return line[:-10] + ("A" if line[-10] != "A" else "B") + line[-9:]


def test_the_note_that_a_witness_serves_is_a_note() -> None:
    """It opens under the log's key alone, too."""
    watching = Watching()
    watching.add(TREE, 0, 9)
    assert open_note(watching.witness.latest(folder_of(ORIGIN)).body, [LOG])[1] == [LOG]
