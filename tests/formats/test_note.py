"""Notes, checkpoints and the keys that sign them."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealward.formats import note
from sealward.formats.fault import FormatError
from sealward.formats.note import Checkpoint, LogSigner, Verifier, open_checkpoint, open_note
from shared import VECTORS, case_name, vector

NOTES = vector("journal", "notes", "checkpoints.json")
MLDSA = vector("journal", "notes", "mldsa44.json")
KEYS = vector("journal", "log300", "keys.json")
LOG, WITNESS = Verifier.parse(KEYS["log_vkey"]), Verifier.parse(KEYS["witness_vkey"])
SIGNER = LogSigner(
    KEYS["origin"],
    Ed25519PrivateKey.from_private_bytes(bytes.fromhex(KEYS["log_seed_hex"])),
    MLDSA44PrivateKey.from_seed_bytes(bytes.fromhex(MLDSA["seed_hex"])),
)


def _all_signed(data: bytes, vkeys: list[str]) -> None:
    trusted = [Verifier.parse(text) for text in vkeys]
    text, signed = open_note(data, trusted)
    if set(signed) != set(trusted):
        raise FormatError("checkpoint", "not every key signed")
    if data.startswith(b"journal.test"):
        Checkpoint.parse(text)


@pytest.mark.parametrize("case", NOTES["cases"], ids=case_name)
def test_note_vectors(case: dict[str, Any]) -> None:
    """What must be accepted, and what refused."""
    if case["valid"]:
        _all_signed(case["note"].encode(), case["vkeys"])
        return
    with pytest.raises(FormatError) as refused:
        _all_signed(case["note"].encode(), case["vkeys"])
    assert refused.value.reason == "checkpoint"


def test_the_specifications_own_note() -> None:
    """The example of signed-note.md."""
    example = NOTES["spec_note"]
    text, _ = open_note(example["note"].encode(), [Verifier.parse(example["vkey"])])
    assert text == "This is an example message.\n"
    assert Verifier.parse(example["vkey"]).vkey == example["vkey"]


@pytest.mark.parametrize("path", sorted((VECTORS / "journal/log300/checkpoints").iterdir()), ids=lambda path: path.name)
def test_checkpoints_of_our_log(path: Any) -> None:
    """Signed by the log; the cosigned ones by its witness too."""
    checkpoint, witnesses = open_checkpoint(path.read_bytes(), LOG, [WITNESS])
    assert checkpoint.size == int(path.name.split(".")[0])
    assert witnesses == (path.suffix == ".cosigned")


def test_an_ml_dsa_signature_of_another_implementation() -> None:
    """Message and signature of the vector; other time, root, size or name is refused."""
    key = Verifier.parse(MLDSA["vkey"])
    text, signed = open_note(MLDSA["checkpoint"].encode(), [key])
    assert signed == [key]
    checkpoint = Checkpoint.parse(text)
    assert note.subtree_message(key.name, 0x6955BA2C, checkpoint).hex() == MLDSA["message_hex"]
    good = MLDSA["checkpoint"].encode()
    for old, new in (
        (b"\n300\n", b"\n301\n"),
        (b"vJWr", b"vJWs"),
        (b"AAAABpVbos", b"AAAABpVbot"),
        (b"log 5Abg1w", b"lol 5Abg1w"),
    ):
        assert old in good
        with pytest.raises(FormatError):
            open_note(good.replace(old, new, 1), [key])


def test_the_log_signs_with_both_keys() -> None:
    """Ed25519 as the public witness network needs it, byte for byte; ML-DSA-44 beside it."""
    theirs = (VECTORS / "journal/log300/checkpoints/300").read_bytes()
    root = Checkpoint.parse(open_note(theirs, [LOG])[0]).root
    mine = SIGNER.checkpoint(300, root, 1_767_225_900)
    assert mine.startswith(theirs)
    assert SIGNER.mldsa_verifier.vkey == MLDSA["vkey"]
    assert open_note(mine, [LOG, SIGNER.mldsa_verifier])[1] == [LOG, SIGNER.mldsa_verifier]


def test_the_log_is_not_its_own_witness() -> None:
    """Neither its second key nor its own key dressed as a witness counts."""
    data = SIGNER.checkpoint(300, bytes(32), 0)
    disguise = Verifier("witness.test/me", note.COSIGNATURE, LOG.public)
    text = Checkpoint.parse(open_note(data, [LOG])[0]).text
    blob = bytes(8) + SIGNER.key.sign(f"cosignature/v1\ntime 0\n{text}".encode())
    data += disguise.line(blob).encode()
    assert open_note(data, [disguise])[1] == [disguise]
    assert open_checkpoint(data, LOG, [disguise, SIGNER.mldsa_verifier, LOG])[1] == 0


GOOD = (VECTORS / "journal/log300/checkpoints/300").read_text()


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD.replace("\u2014 ", "\u2014\t"),
        GOOD.replace("\u2014", "\u2013"),
        GOOD.replace("\u2014 ", "\u2014  "),
        GOOD.replace("300", "3\x0000"),
        GOOD[:-1],
        GOOD + "\n",
        GOOD.split("\n\n")[0] + "\n\n",
        GOOD.split("\n\n")[0] + "\n",
        GOOD[:-4] + "J=\n",
        "",
        "\n\n",
    ],
)
def test_malformed_notes_are_refused(bad: str) -> None:
    """CRLF, BOM, tab, en dash, two spaces, NUL, missing or additional line ends, other base64."""
    with pytest.raises(FormatError) as refused:
        open_note(bad.encode(), [LOG])
    assert refused.value.reason == "checkpoint"


@pytest.mark.parametrize("size", ["+5", "-1", "05", "1_000", "\u0665", "", " 5", "5 ", "0x5", "9" * 5000])
def test_sizes_have_one_spelling(size: str) -> None:
    """Signed by the right key all the same: refused by grammar."""
    text = f"{LOG.name}\n{size}\nvJWrFLm/l3x+v1S89a9+H0q6ighvxFTfU8W6yjBOh60=\n"
    data = f"{text}\n{LOG.line(SIGNER.key.sign(text.encode()))}".encode()
    with pytest.raises(FormatError):
        open_checkpoint(data, LOG)


@pytest.mark.parametrize("root", ["", "AAAA", "vJWrFLm/l3x+v1S89a9+H0q6ighvxFTfU8W6yjBOh61="])
def test_roots_have_32_bytes_and_one_spelling(root: str) -> None:
    """Short, empty, spare bits."""
    with pytest.raises(FormatError):
        Checkpoint.parse(f"{LOG.name}\n5\n{root}\n")


def test_the_origin_is_the_name_of_the_key() -> None:
    """A log cannot sign for another."""
    text = f"journal.test/other\n5\n{GOOD.splitlines()[2]}\n"
    data = f"{text}\n{LOG.line(SIGNER.key.sign(text.encode()))}".encode()
    with pytest.raises(FormatError):
        open_checkpoint(data, LOG)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        KEYS["log_vkey"].replace("3da3d7d9", "3da3d7d8"),
        KEYS["log_vkey"][:-4],
        KEYS["log_vkey"].replace("+AV", "+Al"),
        "x y" + KEYS["log_vkey"],
        KEYS["log_vkey"].upper(),
    ],
)
def test_bad_verifier_keys_are_refused(text: str) -> None:
    """Missing parts, a false id, another type, a short key."""
    with pytest.raises(FormatError) as refused:
        Verifier.parse(text)
    assert refused.value.reason == "vkey"


def test_a_cosignature_needs_its_header_line_and_all_its_bytes() -> None:
    """One byte short, or made without the header line, is refused."""
    text = Checkpoint.parse(open_note(GOOD.encode(), [LOG])[0]).text
    seed = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(KEYS["witness_seed_hex"]))
    right = seed.sign(f"cosignature/v1\ntime 7\n{text}".encode())
    time = (7).to_bytes(8, "big")
    assert WITNESS.accepts(text, time + right)
    for blob in (time + right[:-1], time + seed.sign(text.encode()), right, b""):
        assert not WITNESS.accepts(text, blob)
