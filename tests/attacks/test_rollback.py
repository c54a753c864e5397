"""Attack: put an old copy of the whole journal back, so that what happened since never did. A witness remembers.

One deployment with every real process and a witness beside it, from its first answer to the end of the witness.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journals import MemoryDisk
from living import Living
from sealward.formats.note import Verifier, open_checkpoint
from sealward.formats.receipt import verify_receipt
from sealward.host.ask import ask
from sealward.journal.policy import Policy
from sealward.journal.verify import Trust, verify
from sealward.journal.witness import folder_of
from uids import open_folder
from witnesses import Serving, Watching


class Witnessed:
    """A deployment, its witness, and what an auditor and an attacker do with them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.serving = Serving(Watching())
        self.living = Living(home, edit=self._with_witness)
        self.log = Verifier.parse((home / "trust/log.vkey").read_text())

    @property
    def journal(self) -> Path:
        return self.home / "journal"

    def cosigned(self) -> bool:
        """Whether the published checkpoint covers everything and the witness signed it."""
        witness = [self.serving.watching.signer.verifier]
        checkpoint, count = open_checkpoint((self.journal / "checkpoint").read_bytes(), self.log, witness)
        return count == 1 and checkpoint.size == ask(self.home / "run/recorder.owner.sock", {"op": "status"})["size"]

    def stop(self) -> None:
        self.living.supervisor.terminate()
        self.living.supervisor.wait(60)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that may fail."""
        command = [sys.executable, "-P", "-m", "sealward", "--home", str(self.home), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def read(self, key: str, name: str) -> bytes:
        """A public file from the management door."""
        address = json.loads((self.home / "run/supervisor.json").read_text())["listening"]["management"]
        url = f"https://localhost:{address.rpartition(':')[2]}/api/v1/log/{name}"
        context = ssl.create_default_context(cafile=self.home / "tls/ca.pem")
        asked = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})
        with urllib.request.urlopen(asked, timeout=20, context=context) as answer:
            content: bytes = answer.read()
        return content

    def rows(self, *types: str) -> list[dict[str, Any]]:
        """Events of these types in the journal, read by the owner."""
        lines = self.living.sealward("journal", "tail", "--lines", "500", "--json").splitlines()
        events = [json.loads(line).get("event", {}) for line in lines]
        return [found for found in events if found.get("type") in types]

    def _with_witness(self, text: str) -> str:
        self.serving.watching.witness.add_log([Verifier.parse((self.home / "trust/log.vkey").read_text())])
        vkey = self.serving.watching.signer.verifier.vkey
        entry = json.dumps([{"name": "w1", "vkey": vkey, "url": self.serving.url}])
        return text.replace("\njournal:\n", f"\njournal:\n  witnesses: {entry}\n  witness_freshness: 60s\n")


@pytest.fixture(scope="module")
def witnessed() -> Iterator[Witnessed]:
    """As root every process is a user of its own, as in production."""
    with open_folder() as folder:
        found = Witnessed(folder / "ai")
        yield found
        found.living.close()
        found.serving.close()


def test_an_old_copy_of_the_journal_is_never_continued(witnessed: Witnessed, tmp_path: Path) -> None:
    """Witnessed, read by an auditor over HTTP; the old copy is refused by every way in; the witness leaves by an entry."""
    living, key = witnessed.living, witnessed.living.key()
    assert living.ask(key)[0] == 200
    living.until(witnessed.cosigned)
    assert living.status()["journal"]["witnesses"][0]["state"] == "ok"
    _check_receipt(witnessed)
    _audit(witnessed, tmp_path)

    living.until(witnessed.cosigned)  # what the audit left is out too: nothing moves while the copy is made
    old = shutil.copytree(witnessed.journal, witnessed.home / "old", copy_function=_copy)
    assert living.ask(key)[0] == 200
    living.until(witnessed.cosigned)
    witnessed.stop()
    witnessed.journal.rename(witnessed.home / "right")
    _own(old, witnessed.home / "right")
    old.rename(witnessed.journal)
    assert json.loads(witnessed.run("journal", "verify", "--threshold", "1", "--json").stdout)["ok"]  # sound in itself
    known = tmp_path / "known"
    known.write_bytes(witnessed.serving.watching.witness.latest(folder_of(witnessed.log.name)).body)
    found = json.loads(witnessed.run("journal", "verify", "--known-checkpoint", str(known), "--json").stdout)
    assert [error["code"] for error in found["errors"]] == ["rollback"]
    before = _content(witnessed.journal)
    for refused in (witnessed.run("up"), witnessed.run("journal", "tail")):
        assert refused.returncode == 5, refused.stderr
        assert "journal_behind" in refused.stderr
    assert _content(witnessed.journal) == before

    witnessed.journal.rename(witnessed.home / "old")
    (witnessed.home / "right").rename(witnessed.journal)
    _leave(witnessed)


def _check_receipt(witnessed: Witnessed) -> None:
    """The receipt of the answer carries the witness's cosignature."""
    request = witnessed.rows("inference.completed")[-1]["link"]["request"]
    text = witnessed.living.sealward("journal", "receipt", request)
    witness = [witnessed.serving.watching.signer.verifier]
    assert verify_receipt(text.strip(), log=witnessed.log, witnesses=witness, threshold=1).witnesses == 1


def _audit(witnessed: Witnessed, folder: Path) -> None:
    """Somebody with the role of an auditor copies the log over HTTP and believes only the policy file."""
    witnessed.living.sealward("service", "create", "audit")
    witnessed.living.sealward("role", "assign", "auditor", "audit")
    key = json.loads(witnessed.living.sealward("apikey", "create", "audit", "--json"))["key"]
    witnessed.living.until(witnessed.cosigned)
    copied = MemoryDisk()
    copied.files["checkpoint"] = note = witnessed.read(key, "checkpoint")
    checkpoint, _ = open_checkpoint(note, witnessed.log)
    for name in (f"tile/entries/000.p/{checkpoint.size}", f"tile/0/000.p/{checkpoint.size}"):
        copied.files[name] = witnessed.read(key, name)
    policy = Policy.parse(witnessed.living.sealward("journal", "policy"))
    trust = Trust(policy.logs[0], witnesses=tuple(policy.witnesses.values()), quorum=policy.satisfied)
    report = verify(copied, trust)
    assert (report.ok, report.size, report.witnesses) == (True, checkpoint.size, 1), report.errors
    reads = [event for event in witnessed.rows("access.read") if event["operation"]["name"] == "log.read"]
    assert [event["subject"]["id"] for event in reads] == ["audit"] * 3


def _leave(witnessed: Witnessed) -> None:
    """Left out of the settings: no start. Dropped: a line, an entry, and the service goes on without it."""
    file = witnessed.home / "sealward.yaml"
    lines = [line for line in file.read_text().splitlines() if "witness" not in line]
    file.write_text("\n".join(lines) + "\n")
    refused = witnessed.run("up")
    assert refused.returncode == 3, refused.stderr
    assert "sealward witness drop w1" in refused.stderr
    assert witnessed.run("witness", "drop", "w1", "--because", "moved to another house").returncode == 0
    witnessed.living.up()
    told = witnessed.rows("witness.added", "recovery.performed", "witness.dropped")
    assert [event["type"] for event in told] == ["witness.added", "recovery.performed", "witness.dropped"]
    assert told[1]["recovery"]["verb"] == "witness drop w1"
    assert told[2]["witness"] == {"name": "w1", "reason": "moved to another house"}
    assert "witnesses" not in witnessed.living.status()["journal"]


def _copy(source: str, target: str) -> None:
    """A file of a running journal may be gone in between."""
    if Path(source).exists():
        shutil.copy2(source, target)


def _own(copy: Path, right: Path) -> None:
    """As a restore does it: with the owners that the files had."""
    if os.geteuid() == 0:
        about = (right / "private").stat()
        for path in (copy, *copy.rglob("*")):
            os.chown(path, about.st_uid, about.st_gid)


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"
    }
