"""`sealward witness` as an operator types it, and as a process that is killed."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journals import KEYS, ORIGIN
from sealward import settings
from sealward.cli import run
from sealward.errors import UnreachableError
from sealward.formats.note import Checkpoint
from sealward.journal.witness import folder_of
from sealward.journal.witness_client import WitnessClient
from witnesses import Tree

LOG, TREE = KEYS.signer.verifier, Tree()


def ours(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One command line."""
    command = [sys.executable, "-m", "sealward", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A witness that watches the log of `KEYS`."""
    assert run(["witness", "init", str(tmp_path / "w"), "--name", "witness.test/cli", "--json"]) == 0
    assert run(["witness", "add-log", str(tmp_path / "w"), LOG.vkey]) == 0
    return tmp_path / "w"


@contextlib.contextmanager
def serving(folder: Path, *options: object) -> Iterator[tuple[subprocess.Popen[str], WitnessClient]]:
    """Its process and a client; SIGTERM at the end if it still runs."""
    command = [
        sys.executable,
        "-m",
        "sealward",
        "witness",
        "serve",
        str(folder),
        *map(str, options or ("--listen", "127.0.0.1:0")),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert " at " in said, said + process.stderr.read()
        at = said.strip().rpartition(" at ")[2]
        url = at if at.startswith("unix:") else f"http://{at}"
        vkeys = tuple((folder / name).read_text().strip() for name in ("vkey", "vkey.mldsa44"))
        try:
            yield process, WitnessClient.of(settings.Witness(name="w", vkey=vkeys, url=url))
        finally:
            process.terminate()


def add(client: WitnessClient, old: int, new: int) -> list[str]:
    """The log grows, and the witness is asked."""
    return client.add(old, TREE.proof(old, new), Checkpoint(ORIGIN, new, TREE.root(new)), TREE.note(new))


def test_a_witness_watches_a_log(folder: Path) -> None:
    """init, add-log, serve, show; a log that is added while it serves is known at once; SIGTERM ends it with 0."""
    with serving(folder, "--listen", f"unix:{folder}/w.sock") as (process, client):
        assert len(add(client, 0, 5)) == 2
        found = client.latest(LOG)
        assert found is not None
        assert found.size == 5
        assert ours("witness", "add-log", folder, KEYS.signer.mldsa_verifier.vkey).returncode == 0
        assert len(add(client, 5, 9)) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    shown = json.loads(ours("witness", "show", folder, "--json").stdout)
    assert shown["vkey"] == (folder / "vkey").read_text().strip()
    assert [(row["origin"], row["size"], row["path"]) for row in shown["logs"]] == [
        (ORIGIN, 9, f"/{folder_of(ORIGIN)}/checkpoint")
    ]
    assert ORIGIN in ours("witness", "show", folder).stdout


def test_what_it_cosigned_survives_every_kill(folder: Path) -> None:
    """SIGKILL at any moment: the next process knows at least what was answered, and refuses to be asked from less."""
    chance, answered = random.Random(11), 0
    for _ in range(4):
        with serving(folder) as (process, client):
            known = client.latest(LOG)
            assert (known.size if known else 0) >= answered
            answered = known.size if known else 0
            killer = threading.Timer(chance.uniform(0.02, 0.2), process.kill)
            killer.start()
            with contextlib.suppress(UnreachableError):
                while True:
                    add(client, answered, answered + 1)
                    answered += 1
            killer.join()
    assert answered > 10


def test_one_witness_has_one_process(folder: Path) -> None:
    """A second one over the same state is refused: exit 5."""
    with serving(folder):
        done = ours("witness", "serve", folder, "--listen", "127.0.0.1:0")
        assert done.returncode == 5
        assert "locked" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["serve", "{w}", "--listen", "0.0.0.0:0"], 3),
        (["serve", "{w}", "--listen", "example.org:1"], 3),
        (["serve", "{w}", "--listen", "127.0.0.1"], 3),
        (["serve", "{w}", "--listen", "127.0.0.1:0", "--key", "{w}/vkey"], 3),
        (["serve", "{w}", "--certificate", "{w}/vkey", "--key", "{w}/vkey"], 3),
        (["serve", "{w}/.."], 3),
        (["init", "{w}", "--name", "a"], 3),
        (["add-log", "{w}", "nonsense+00000000+AA"], 3),
        (["add-log", "{w}", "{w}/vkey"], 3),
        (["add-log", "{w}"], 2),
        (["drop", "w1", "--because", "x", "--home", "{w}"], 3),
        (["drop", "w1", "--home", "{w}"], 2),
    ],
)
def test_what_it_will_not_do(folder: Path, arguments: list[str], code: int) -> None:
    """Plaintext on a network, keys that are none, no reason given."""
    assert run(["witness", *(word.replace("{w}", str(folder)) for word in arguments)]) == code


def test_damaged_state_is_told_at_the_start(folder: Path) -> None:
    """Exit 5, with the way back; nothing is begun anew."""
    with serving(folder) as (_, client):
        add(client, 0, 5)
    state: Any = folder / f"logs/{folder_of(ORIGIN)}/checkpoint"
    state.unlink()
    done = ours("witness", "serve", folder, "--listen", "127.0.0.1:0")
    assert done.returncode == 5
    assert "witness_state" in done.stderr
    assert "never begin it anew" in done.stderr
