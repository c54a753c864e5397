"""The parts of the journal's check that need no deployment: which entry is whose, and a tampered copy that must be found."""

from __future__ import annotations

from typing import Any

import pytest

from sealward.formats.note import Verifier
from sealward.journal.durable import OsDisk
from sealward.journal.verify import Files, Report, Trust
from sealward.rollout import tampered
from sealward.rollout.evidence import State, state_of
from sealward.rollout.journaling import Made
from shared import VECTORS, vector

LOG300 = OsDisk(VECTORS / "journal/log300")
LOG = Verifier.parse(vector("journal", "log300", "keys.json")["log_vkey"])


class Edited:
    """A log whose file `name` was changed on the disk."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, name: str) -> bytes:
        data = LOG300.read(name)
        return data[:-1] + bytes([data[-1] ^ 1]) if name == self._name else data

    def names(self, folder: str) -> list[str]:
        return LOG300.names(folder)


@pytest.mark.parametrize("index", [0, 255, 256, 299])
def test_a_flipped_bit_is_found_by_verification(index: int) -> None:
    """In full and in partial bundles; what is on the disk is not touched and still verifies."""
    for _ in range(2):
        found = tampered.check(LOG300, LOG, index)
        assert state_of(found) is State.DONE
        assert [each.entry for each in found] == [None, index]


def test_a_journal_that_was_changed_does_not_pass() -> None:
    """The check begins with the journal as it is."""
    found = tampered.check(Edited("tile/entries/000"), LOG, 299)
    assert state_of(found) is State.NOT_DONE
    assert "entry 255" in found[0].detail


def test_a_verification_that_sees_nothing_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that says yes to everything would say yes to a copy with another entry too."""

    def blind(files: Files, trust: Trust) -> Report:
        del files, trust
        return Report(size=300)

    monkeypatch.setattr(tampered, "verify", blind)
    assert state_of(tampered.check(LOG300, LOG, 299)) is State.PARTIAL


def event(type_: str = "request.refused", **members: Any) -> dict[str, Any]:
    """What a check looks at."""
    return {"type": type_, **members}


def test_an_entry_is_found_by_what_only_it_can_say() -> None:
    """A proven caller's by the id of the request; nobody's by its target, or in the count of others with the same reason."""
    proven = Made("x", "access.read", request="R")
    assert proven.finds(event("access.read", link={"request": "R"}))
    assert not proven.finds(event("admin.denied", link={"request": "R"}))
    assert not proven.finds(event("access.read", link={"request": "S"}))
    assert not proven.finds(event("access.read"))
    nobody = Made("x", "request.refused", target="/a")
    assert nobody.finds(event(refusal={"target": "/a"}))
    assert nobody.finds(event(refusal={"count": 3}, decision={"reason": "credential_malformed"}))
    assert not nobody.finds(event(refusal={"target": "/b"}))
    assert not nobody.finds(event(refusal={"count": 3}, decision={"reason": "credential_missing"}))
