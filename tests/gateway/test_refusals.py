"""Refusals and reads: buckets, aggregates, and entries that the schema allows (design/contracts.md section 5)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sealward import settings
from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats.event import validate
from sealward.gateway.entries import Author
from sealward.gateway.refusals import Heard, Refusals, decision, network

ALICE = {"id": "alice", "kind": "human", "authn": "apikey", "key_id": "k1", "groups": ["staff"]}
CHAT = {"name": "chat", "route": "/v1/chat/completions", "method": "POST", "stream": False}
REQUEST = "01KA7000004EMC8AQHV907E60N"


class World:
    """A clock that is set, and all that was written; every event is checked as it comes."""

    def __init__(self, **limits: int) -> None:
        self.seconds = 1000.0
        self.written: list[Event] = []
        self.refusals = Refusals(settings.Refusals(**limits), Author("door/test", self, bytes), self)

    def now(self) -> int:
        return int(self.seconds * 1_000_000)

    def boot(self) -> float:
        return self.seconds

    def record(self, event: Event) -> None:
        validate(event)
        self.written.append(event)

    def knock(self, addr: str = "192.0.2.1", reason: Reason = Reason.CREDENTIAL_UNKNOWN) -> None:
        """One anonymous refusal."""
        self.refusals.refused("authn", Refused(reason), {"addr": addr, "port": 1, "tls_version": "1.3"})

    def deny(self, subject: str = "alice", reason: Reason = Reason.MODEL_NOT_GRANTED) -> None:
        """One denial of a proven caller."""
        members: dict[str, Any] = {"source": {"addr": "192.0.2.1"}, "operation": CHAT, "link": {"request": REQUEST}}
        self.refusals.denied("inference.denied", Refused(reason), ALICE | {"id": subject}, members)


def test_a_refusal_is_a_whole_entry() -> None:
    """Who (nobody), from where, at which stage, why, and what was heard."""
    world = World()
    heard = Heard("POST", "door.test", "/v1/chat/completions?key=secret")
    world.refusals.refused("authn", Refused(Reason.CREDENTIAL_MISSING), {"addr": "192.0.2.1", "port": 7}, heard)
    event = world.written[0]
    assert event["subject"] == {"id": "anonymous", "kind": "anonymous", "authn": "none"}
    assert event["decision"] == {"outcome": "deny", "reason": "credential_missing"}
    assert event["refusal"] == {
        "stage": "authn",
        "method": "POST",
        "host": "door.test",
        "target": "/v1/chat/completions",
    }


def test_a_burst_then_one_a_second_then_one_aggregate() -> None:
    """20 entries of their own, one a second, and the rest of ten seconds as one entry that counts them."""
    world = World()
    for _ in range(100):
        world.knock()
    world.seconds += 1
    world.knock()
    assert len(world.written) == 21
    world.seconds += 8
    world.refusals.flush()
    assert len(world.written) == 21
    world.seconds += 1
    world.refusals.flush()
    last = world.written[-1]
    assert last["refusal"] == {
        "stage": "authn",
        "count": 80,
        "first": "1970-01-01T00:16:40.000000Z",
        "last": "1970-01-01T00:16:40.000000Z",
    }
    assert "source" not in last


def test_sources_and_reasons_have_buckets_of_their_own() -> None:
    """A flood from one /24 or /56 hides nobody else; an address more of it is the same source."""
    world = World()
    for host in range(40):
        world.knock(f"192.0.2.{host}")
        world.knock(f"198.51.100.{host}", Reason.TOKEN_EXPIRED)
    counted = Counter((event["source"]["addr"].rpartition(".")[0], event["decision"]["reason"]) for event in world.written)
    assert counted == {("192.0.2", "credential_unknown"): 20, ("198.51.100", "token_expired"): 20}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:1::1", "2001:db8:0:ff::2", True),
        ("2001:db8:0:100::1", "2001:db8:0:200::1", False),
        ("", "", True),
        ("x:y", "x:z", False),
    ],
)
def test_a_source_is_a_24_or_a_56(one: str, other: str, same: bool) -> None:
    """Who has a whole /56 at home does not have 2^72 bursts."""
    assert (network(one) == network(other)) is same


def test_anonymous_floods_do_not_touch_proven_callers() -> None:
    """200 a second in all for the anonymous, 200 of their own for the proven."""
    world = World()
    for net in range(300):
        world.knock(f"10.0.{net}.1" if net < 256 else f"10.1.{net - 256}.1")
    assert len(world.written) == 200
    for subject in range(250):
        world.deny(f"u-{subject}")
    assert len(world.written) == 400
    world.seconds += 10
    world.refusals.flush()
    counts = Counter(event["type"] for event in world.written if "count" in event.get("refusal", {}))
    assert counts == {"request.refused": 1, "inference.denied": 50}


def test_a_denial_aggregates_per_subject_and_reason() -> None:
    """The rest of a proven caller stays that caller's, with what was decided and on what."""
    world = World(burst=1)
    world.deny()
    world.deny()
    world.deny()
    world.refusals.close()
    whole, rest = world.written
    assert whole["outcome"] == {"status": 403}
    assert whole["link"] == {"request": REQUEST}
    assert rest["subject"]["id"] == "alice"
    assert rest["decision"] == {"outcome": "deny", "reason": "model_not_granted"}
    assert rest["refusal"]["count"] == 2
    assert not rest.keys() & {"source", "link", "outcome"}


def test_reads_are_recorded_and_counted() -> None:
    """Model lists and receipts: who read what, then how often."""
    world = World(burst=1)
    for _ in range(3):
        world.refusals.read(ALICE, {"operation": {"name": "models.list"}, "source": {"addr": "192.0.2.1"}})
    world.refusals.close()
    assert [event["type"] for event in world.written] == ["access.read"] * 2
    assert world.written[1]["refusal"]["count"] == 2


def test_an_admin_denial_is_a_whole_entry() -> None:
    """The management door's refusals after proof."""
    world = World()
    members = {"source": {"addr": "192.0.2.1"}, "operation": {"name": "apikey.create"}, "decision": {"epoch": 7}}
    world.refusals.denied("admin.denied", Refused(Reason.ACTION_NOT_GRANTED), ALICE, members)
    assert world.written[0]["decision"] == {"epoch": 7, "outcome": "deny", "reason": "action_not_granted"}


def test_the_tables_are_bounded() -> None:
    """A million sources cost what `sources` allows; what leaves the table of aggregates is written, not lost."""
    world = World(burst=1, sources=10)
    for net in range(200):
        world.knock(f"10.0.{net}.1")
        world.deny(f"u-{net}")
        world.deny(f"u-{net}")
    assert len(world.refusals._anonymous._by_key) == len(world.refusals._proven._by_key) == 10
    assert len(world.refusals._rest) == 10
    world.refusals.close()
    counted = sum(event["refusal"]["count"] for event in world.written if "count" in event.get("refusal", {}))
    assert counted == 200


def test_a_callers_words_never_make_it_unrecordable() -> None:
    """Control characters, surrogates and sizes: the entry is made, and says what was cut."""
    world = World()
    evil = "\x00\n\ud800\u2028" * 500
    source = {"addr": "192.0.2.1", "user_agent": evil, "sni": evil}
    world.refusals.refused("http", Refused(Reason.HTTP_MALFORMED), source, Heard("get\x00", evil, evil))
    event = world.written[0]
    assert "method" not in event["refusal"]
    assert set(event["truncated"]) == {"source.user_agent", "refusal.target"}
    members = {
        "source": {"addr": "::1", "sni": ""}, "operation": CHAT, "link": {"request": REQUEST}, "model": {"alias": evil},
        "request": {"dropped_fields": [f"f{n}" for n in range(1000)]},
    }  # fmt: skip
    world.refusals.denied("inference.denied", Refused(Reason.BODY_FIELD, "n_predict"), ALICE, members)
    event = world.written[1]
    assert event["source"] == {"addr": "::1"}
    assert event["truncated"]["request.dropped_fields"]["total"] == 1000
    assert len(members["request"]["dropped_fields"]) == 1000


def test_a_fault_of_ours_is_an_error_not_a_denial() -> None:
    """Detections count denials; a stalled journal is none."""
    assert decision(Refused(Reason.JOURNAL_STALLED))["outcome"] == "error"
    assert decision(Refused(Reason.LIMIT_REQUESTS))["outcome"] == "deny"
