""".tlog-proof files that golang.org/x/mod made, and what must be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealward.formats import merkle
from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.formats.proof import Proof
from shared import VECTORS, vector

LOG300 = VECTORS / "journal" / "log300"
LOG = Verifier.parse(vector("journal", "log300", "keys.json")["log_vkey"])
WITNESS = Verifier.parse(vector("journal", "log300", "keys.json")["witness_vkey"])
GOOD = (LOG300 / "proofs" / "257-6.tlog-proof").read_text()


def _leaf(index: int) -> bytes:
    return merkle.leaf_hash(b'{"seq":%d,"event":"test"}' % index)


@pytest.mark.parametrize("path", sorted((LOG300 / "proofs").iterdir()), ids=lambda path: path.stem)
def test_proofs_of_other_tools_verify(path: Path) -> None:
    """And we write them byte for byte; a neighbour's leaf is refused."""
    size, index = map(int, path.stem.split("-"))
    proof = Proof.parse(path.read_text())
    checkpoint, witnesses = proof.verify(_leaf(index), LOG, [WITNESS])
    assert (checkpoint.size, proof.index, witnesses) == (size, index, 1)
    assert proof.text == path.read_text()
    with pytest.raises(FormatError) as refused:
        proof.verify(_leaf(index + 1), LOG)
    assert refused.value.reason == "inclusion"


def test_an_extra_line_is_ignored() -> None:
    """It is not authenticated."""
    assert Proof.parse(GOOD.replace("index", "extra aGk=\nindex", 1)) == Proof.parse(GOOD)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        GOOD.replace("@v1", "@v2"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("index 6", "index 06"),
        GOOD.replace("index 6", "index -6"),
        GOOD.replace("index 6", "index \u0666"),
        GOOD.replace("index 6", "index " + "6" * 5000),
        GOOD.replace("index 6\n", "index 6\nAAAA\n"),
        GOOD.replace("index 6\n", "index 6\n" + "A" * 42 + "B=\n"),
        GOOD.split("\n\n")[0] + "\n\n",
    ],
)
def test_another_grammar_is_refused(bad: str) -> None:
    """Version, line ends, index, hashes, no checkpoint."""
    with pytest.raises(FormatError) as refused:
        Proof.parse(bad)
    assert refused.value.reason == "proof"


def test_hashes_and_checkpoint_must_fit() -> None:
    """One hash more, one less, two exchanged, index beside, another log's key."""
    proof, other = Proof.parse(GOOD), Verifier("journal.test/log", 1, bytes(31) + b"\1")
    hashes = proof.hashes
    for index, steps in (
        (6, (*hashes, bytes(32))),
        (6, hashes[:-1]),
        (6, hashes[1::-1] + hashes[2:]),
        (7, hashes),
        (5, hashes),
        (257, hashes),
    ):
        with pytest.raises(FormatError) as refused:
            Proof(index, steps, proof.checkpoint).verify(_leaf(6), LOG)
        assert refused.value.reason == "inclusion"
    with pytest.raises(FormatError) as refused:
        proof.verify(_leaf(6), other)
    assert refused.value.reason == "checkpoint"
