"""Readers that share no code with us accept what we write, and refuse what was changed: Go, proofbundle, tlog-scales."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from journals import StepClock, acks, admitted, event, note
from sealward.formats.ids import ulid
from sealward.formats.note import with_lines
from sealward.journal.durable import OsDisk
from sealward.journal.init import create
from sealward.journal.keys import load_keys
from sealward.journal.reader import Reader
from sealward.journal.writer import Draft, Writer
from shared import VECTORS, vector
from witnesses import witness_signer

FOREIGN = Path(__file__).parents[1] / "foreign"
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOPROXY": "off"}
ORIGIN = "journal.test/foreign"
INPUT, OUTPUT, TEXT = b'{"messages":[]}', b'{"choices":[]}', "Hello \u20ac"
WITNESS = witness_signer(1)
OTHER = witness_signer(2).verifier.vkey


@dataclass
class Written:
    """A log of 300 entries on a disk, cosigned, and the receipt of one request in it."""

    folder: Path
    vkey: str
    receipt: str

    def copy(self, to: Path) -> Path:
        return shutil.copytree(self.folder, to, ignore=shutil.ignore_patterns("private"))


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Made once."""
    folder = tmp_path_factory.mktemp("foreign") / "journal"
    signer = create(folder, ORIGIN)
    clock = StepClock()
    request = ulid(clock.now(), bytes(10))
    statement = {
        "input_sha256": sha256(INPUT).hexdigest(),
        "output_sha256": sha256(OUTPUT).hexdigest(),
        "text_sha256": [sha256(TEXT.encode()).hexdigest()],
    }
    with contextlib.closing(Writer.open(OsDisk(folder), load_keys(folder), clock=clock, random=Random(5).randbytes)) as writer:
        acks(writer, *[note()] * 257)
        writer.publish()
        acks(writer, admitted(request))
        acks(writer, Draft(event("inference.completed", link={"request": request}, statement=statement)))
        acks(writer, *[note()] * 41)
        writer.publish()
        checkpoint, said = writer.said() or pytest.fail("nothing was published")
        writer.cosigned(checkpoint, with_lines(said, WITNESS.cosign(checkpoint.text, 1_795_600_000)), enough=True)
        row = writer.reader.find(request)
        assert row is not None
        receipt = writer.reader.receipt(row)
        assert receipt is not None
    return Written(folder, signer.verifier.vkey, receipt)


Ran = subprocess.CompletedProcess[str]


def run(*command: object, **environment: str) -> Ran:
    """One program of somebody else."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, env=os.environ | environment)


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ran] | None]:
    """Runs one of our Go programs, built once; None where Go is not installed."""
    if shutil.which("go") is None or not Path("/usr/share/gocode/src/golang.org/x/mod").is_dir():
        print("LEFT OUT: golang-go and golang-golang-x-mod-dev are not installed; no Go program read our log", file=sys.stderr)
        yield None
        return
    folder = tmp_path_factory.mktemp("go")
    for name in ("verify", "receipt"):
        built = run("go", "build", "-o", folder / name, FOREIGN / name / f"{name}.go", **GO, GOCACHE=str(folder / "cache"))
        assert built.returncode == 0, built.stderr
    yield lambda name, *arguments: run(folder / name, *arguments)


def accepted(done: Ran) -> bool:
    """Whether a Go program did; it must have said one thing or the other."""
    assert done.stdout.startswith("FAIL ") == (done.returncode == 1), done.stdout + done.stderr
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode == 0


def test_go_verifies_our_log(go: Any, log: Written) -> None:
    """Entries, tiles, root and both kinds of signature, by golang.org/x/mod/sumdb."""
    if go is None:
        return
    done = go("verify", log.folder, log.vkey, WITNESS.verifier.vkey)
    assert accepted(done), done.stdout
    assert f"{ORIGIN}, 300 entries, 1 witnesses" in done.stdout
    assert accepted(go("verify", log.folder, log.vkey))
    assert not accepted(go("verify", log.folder, log.vkey, OTHER))
    assert accepted(go("verify", "-threshold", "1", log.folder, log.vkey, WITNESS.verifier.vkey, OTHER))
    assert not accepted(go("verify", log.folder, vector("journal", "log300", "keys.json")["log_vkey"]))


@pytest.mark.parametrize(
    "name", ["tile/entries/000", "tile/entries/001.p/44", "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "checkpoint"]
)
def test_go_finds_what_was_changed(go: Any, log: Written, tmp_path: Path, name: str) -> None:
    """One bit anywhere, a byte too few, a byte too many, a file that is gone."""
    if go is None:
        return
    file = log.copy(tmp_path / "copy") / name
    data, chance = file.read_bytes(), Random(name)
    for _ in range(3):
        at = chance.randrange(len(data) if name != "checkpoint" else data.index(b"\n\n"))
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        assert not accepted(go("verify", tmp_path / "copy", log.vkey))
    for changed in (data[:-1], data + b"\0"):
        file.write_bytes(changed)
        assert not accepted(go("verify", tmp_path / "copy", log.vkey))
    file.unlink()
    assert not accepted(go("verify", tmp_path / "copy", log.vkey))


def test_go_and_we_agree_about_the_log_of_the_vectors(go: Any) -> None:
    """At every published size, with and without its witness."""
    if go is None:
        return
    keys = vector("journal", "log300", "keys.json")
    done = go("verify", VECTORS / "journal/log300", keys["log_vkey"], keys["witness_vkey"])
    assert accepted(done), done.stdout


def test_go_checks_a_receipt_with_its_standard_library_alone(go: Any, log: Written, tmp_path: Path) -> None:
    """Statement → cm → header → leaf → proof → checkpoint → witness, against the bytes that the caller holds."""
    if go is None:
        return
    files = {"receipt": log.receipt.encode(), "in": INPUT, "out": OUTPUT, "text": TEXT.encode(), "bad": b"x"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    whole = [
        "-input",
        tmp_path / "in",
        "-output",
        tmp_path / "out",
        "-text",
        tmp_path / "text",
        "-witness",
        WITNESS.verifier.vkey,
    ]
    done = go("receipt", *whole, tmp_path / "receipt", log.vkey)
    assert accepted(done), done.stdout
    assert "completed by" in done.stdout
    assert "entry 258 of 300" in done.stdout
    assert "1 witnesses" in done.stdout
    for option in ("-input", "-output", "-text"):
        assert not accepted(go("receipt", option, tmp_path / "bad", tmp_path / "receipt", log.vkey))
    assert not accepted(go("receipt", "-witness", OTHER, tmp_path / "receipt", log.vkey))
    said = json.loads(log.receipt)
    for name in ("outcome", "subject", "epoch", "policy_digest"):
        changed = said | {"statement": {each: value for each, value in said["statement"].items() if each != name}}
        (tmp_path / "bad").write_text(json.dumps(changed))
        assert not accepted(go("receipt", tmp_path / "bad", log.vkey))


@pytest.mark.parametrize("kind", ["valid", "not_equal", "refused"])
def test_go_agrees_with_the_receipts_of_the_vectors(go: Any, tmp_path: Path, kind: str) -> None:
    """Each one accepted or refused as the file says."""
    if go is None:
        return
    known = vector("contracts", "receipt.json")
    for case in known[kind]:
        (tmp_path / "receipt").write_text(case["receipt"], encoding="utf-8", newline="")
        done = go("receipt", tmp_path / "receipt", known["log_vkey"])
        assert accepted(done) == (kind != "refused"), case["why"] + done.stdout


def test_proofbundle_verifies_our_proofs(log: Written, tmp_path: Path) -> None:
    """With the Ed25519 and the ML-DSA-44 key of the witness; not for another entry, nor with another witness."""
    reader = Reader(OsDisk(log.folder), load_keys(log.folder).signer.verifier)
    program = Path(sys.executable).with_name("proofbundle")
    (tmp_path / "proof").write_text(reader.proof(258).text, encoding="utf-8", newline="")
    for index in (258, 257):
        (tmp_path / f"{index}").write_bytes(reader.entry(index))
    keys = [WITNESS.verifier.vkey, WITNESS.mldsa_verifier.vkey]

    def ask(index: int, vkey: str) -> Ran:
        arguments = ["--payload-file", tmp_path / str(index), "--log-vkey", log.vkey, "--expected-origin", ORIGIN]
        return run(program, "verify-proof", tmp_path / "proof", *arguments, "--witness-vkey", vkey, "--threshold", "1", "--json")

    for key in keys:
        done = ask(258, key)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ask(257, keys[0]).returncode == 1
    assert ask(258, OTHER).returncode == 1


def test_tlog_scales_reads_our_tiles(log: Written) -> None:
    """The entries and, byte for byte, the proofs that we make."""
    reader = Reader(OsDisk(log.folder), load_keys(log.folder).signer.verifier)
    program = Path(sys.executable).with_name("tlog-tiles")
    for index in (0, 258):
        leaf = subprocess.run([program, "get-leaf", "-c", log.folder, str(index)], capture_output=True, check=False, timeout=60)
        assert leaf.stdout.removesuffix(b"\n") == reader.entry(index).removesuffix(b"\n"), leaf.stderr
        proof = run(program, "gen-proof", log.folder, index)
        assert proof.stdout == reader.proof(index).text
