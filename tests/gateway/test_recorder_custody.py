"""What the owner does to the journal through a running recorder, and what its clients hear of it."""

from __future__ import annotations

import pytest

from recorder_desk import Desk, Peer
from sealward.formats.ids import parse_rfc3339
from sealward.gateway.rights import RIGHTS
from sealward.journal.custody import OPS
from sealward.journal.key_copies import KEPT_US


def test_an_erasure_is_answered_with_both_clocks_and_told_to_who_caches_keys() -> None:
    """Admissions of the same turn come before it; the receipt is gone; who is erased goes on under a new name."""
    desk = Desk()
    door, owner = Peer(desk, "door"), Peer(desk, "owner")
    request = desk.ulid()
    said = door.admit(request=request)
    door.close(request)
    answer = owner.ask({"op": "erase", "subject": "ann", "reason": "asked"})
    assert answer["keys"] == len(answer["kids"]) > 0
    assert answer["live_us"] >= 0
    assert parse_rfc3339(answer["everywhere_by"]) - desk.clock.now() == KEPT_US
    assert {"push": "erased", "kids": answer["kids"]} in door.told
    assert desk.writer.reader.row(said["index"], desk.writer.reader.entry(said["index"])).event is None
    assert "pass" in door.admit()


@pytest.mark.parametrize("role", sorted(set(RIGHTS) - {"owner"}))
def test_nobody_else_may(role: str) -> None:
    """The socket says who asks; another one is hung up on."""
    desk = Desk()
    peer = Peer(desk, role)
    for op in OPS:
        peer.ask({"op": op, "subject": "ann", "because": "x"})
    assert peer.hung_up
    assert not [event for event in desk.rows() if event["type"] in ("journal.erased", "journal.held", "journal.released")]


def test_a_hold_refuses_in_words() -> None:
    """The owner reads what is in the way."""
    desk = Desk()
    owner = Peer(desk, "owner")
    assert owner.ask({"op": "hold", "because": "case 9"})["target"] == "journal"
    answer = owner.ask({"op": "erase", "subject": "ann"})
    assert answer["refused"] == "policy_denied"
    assert "hold" in answer["detail"]
