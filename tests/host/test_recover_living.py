"""A deployment whose journal was put back from a backup, from the refusal to the first answer afterwards, with every process."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from living import Living
from uids import open_folder


@pytest.fixture
def living() -> Iterator[Living]:
    """Up."""
    with open_folder() as folder:
        found = Living(folder / "ai")
        try:
            yield found
        finally:
            found.close()


def _rows(living: Living) -> list[Any]:
    return [json.loads(line) for line in living.sealward("journal", "export").splitlines()]


def test_after_a_rollback_a_successor_serves_once_keys_are_confirmed(living: Living) -> None:
    """Sidecar, signer and doors believe the new log; its first entries are the commitment and what the owner did."""
    key, home = living.key(), living.home
    key_id = json.loads(living.sealward("apikey", "list", "--json"))[0]["id"]
    living.until(lambda: (home / "journal/checkpoint").stat().st_mtime > 0)
    backup, journal = home / "backup", (home / "journal").resolve()
    subprocess.run(["cp", "-a", journal, backup], check=True)
    assert living.ask(key)[0] == 200
    living.supervisor.terminate()
    living.supervisor.wait(60)
    shutil.copy(journal / "checkpoint", home / "known")
    shutil.rmtree(journal)
    backup.rename(journal)

    arguments = ("recover", "journal", "--successor", "--because", "restored", "--known-checkpoint", str(home / "known"))
    done = json.loads(living.sealward(*arguments, "--json"))
    assert done["suspended"] is True
    living.up()
    assert living.ask(key)[0] == 401
    living.sealward("apikey", "confirm", key_id)
    living.until(lambda: living.ask(key)[0] == 200)

    types = [row["event"]["type"] for row in _rows(living)]
    assert types[:3] == ["journal.successor", "recovery.performed", "process.started"]
    assert "config.changed" in types
    assert "inference.completed" in types
    living.sealward("journal", "verify", "--known-checkpoint", str(home / "known"))
    erased = json.loads(living.sealward("journal", "erase", "--subject", "app", "--json"))
    assert erased["keys"] > 1
    old = Path(done["ended"]) / "private/subjects.jsonl"
    assert not any(kid in old.read_text() for kid in erased["kids"])
    assert [row for row in _rows(living) if row.get("erased")]
