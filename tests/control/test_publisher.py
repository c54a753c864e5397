"""From pending to published, and from every point where it can be broken off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from control_world import Dies, World
from sealward.control import acts
from sealward.control.acts import Act
from sealward.control.office import Office
from sealward.control.publisher import Published
from sealward.errors import ConfigurationError, Refused, UnreachableError
from sealward.events import Event
from sealward.formats.snapshot import Snapshot

KEY = {
    "owner": "ann",
    "environment": "live",
    "hmac": "1" * 64,
    "created": "2026-11-23T09:00:00.000000Z",
    "expires": "2027-01-01T00:00:00.000000Z",
}
KEY_ID = "00000000001"


async def publish(office: Office, make: Callable[[Snapshot], Act]) -> Published:
    """As the local owner."""

    def event(act: Act) -> Event:
        told = {"target": act.target, "action": act.action}
        return office.author.event(act.event, {"id": "local-admin", "kind": "human"}, change=told)

    return await office.publisher.publish("local-admin", make, event)


async def settled(office: Office) -> None:
    """Starts, and brings everything to its end."""
    await office.publisher.settle()


async def with_ann_and_key(office: Office) -> None:
    """Starts, and makes one user with one key."""
    await office.publisher.settle()
    await publish(office, lambda now: acts.create_subject(now, "ann", "human", []))
    await publish(office, lambda now: acts.create_key(now, KEY_ID, KEY))


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A new deployment whose first change is pending."""
    return World(tmp_path)


def consistent(world: World) -> Snapshot:
    """Nothing is open, our rows are what is signed, and each epoch has exactly one published entry that names its intent."""
    world.run(settled)
    snapshot = world.served()

    async def left(_: Office) -> int:
        return len(await world.journal.intents())

    assert world.run(left) == 0
    world.boot()
    try:
        assert world.state.sections() == {name: dict(rows) for name, rows in snapshot.sections.items()}
        assert world.state.pending() == []
    finally:
        world.state.close()
    published = [event["snapshot"] for event in world.journal.events if event["type"] == "snapshot.published"]
    assert len({each["epoch"] for each in published}) == len(published) == len({each["intent"] for each in published})
    assert published[-1]["digest"] == snapshot.digest
    assert [each["previous"] for each in published[1:]] == [each["digest"] for each in published[:-1]]
    for each in published:
        assert "salt" in world.journal.events[each["intent"]]["change"]
    return snapshot


def test_the_first_start_carries_out_the_first_change(world: World) -> None:
    """What init left pending becomes the first snapshot, on the normal path."""
    world.run(settled)
    snapshot = world.served()
    assert set(snapshot.sections["roles"]) == {"model-admin", "operator", "consumer", "auditor"}
    assert snapshot.sections["models"]["m1"]["stage"] == "deployed"
    assert world.journal.types() == ["config.changed", "snapshot.published"]
    consistent(world)


def test_a_second_start_changes_nothing(world: World) -> None:
    """Settling what is settled leaves no entry and no epoch."""
    world.run(settled)
    epoch, entries = world.served().epoch, len(world.journal.events)
    world.run(settled)
    assert (world.served().epoch, len(world.journal.events)) == (epoch, entries)


def test_a_change_is_intent_then_signature_then_published(world: World) -> None:
    """The intent commits to the change; the published entry names the intent."""
    world.run(with_ann_and_key)
    assert world.journal.types()[2:] == ["subject.created", "snapshot.published", "apikey.created", "snapshot.published"]
    assert world.served().sections["keys"] == {KEY_ID: KEY}
    consistent(world)


@pytest.mark.parametrize("what", ["dies before", "dies after"])
@pytest.mark.parametrize("step", range(3))
def test_a_kill_at_any_point_of_the_first_change_is_made_good(world: World, step: int, what: str) -> None:
    """Steps: intent, proposal, published. It is the only change that is made again although it gives rights."""
    world.switch.set(step, what)
    with pytest.raises(Dies):
        world.run(settled)
    world.run(settled)
    assert world.served().sections["models"]["m1"]["stage"] == "deployed"
    consistent(world)


def test_the_first_change_waits_for_a_journal_that_refuses(world: World) -> None:
    """It stays pending; the next attempt carries it out."""
    world.switch.set(0, "refuses")
    world.run(settled)
    consistent(world)


@pytest.mark.parametrize("what", ["dies before", "dies after", "unreachable", "answer lost"])
@pytest.mark.parametrize("step", range(3))
def test_a_revocation_survives_whatever_breaks_it_off(world: World, step: int, what: str) -> None:
    """Once it was committed as pending, the next settling takes the right away: by its own entry, or done again."""
    world.run(with_ann_and_key)

    async def revoke(office: Office) -> None:
        await office.publisher.settle()
        world.switch.set(step, what)
        await publish(office, lambda now: acts.revoke_key(now, KEY_ID))

    with pytest.raises((Dies, UnreachableError)):
        world.run(revoke)
    assert consistent(world).sections["keys"] == {}


@pytest.mark.parametrize(
    ("step", "what", "given"), [(0, "dies after", False), (1, "dies before", False), (1, "dies after", True)]
)
def test_what_gives_rights_is_not_done_again(world: World, step: int, what: str, given: bool) -> None:
    """An intent that was not signed is closed as failed; one that was signed is published."""

    async def create(office: Office) -> None:
        await office.publisher.settle()
        world.switch.set(step, what)
        await publish(office, lambda now: acts.create_subject(now, "ann", "human", []))

    world.run(settled)
    with pytest.raises(Dies):
        world.run(create)
    assert ("ann" in consistent(world).sections["subjects"]) is given
    assert ("change.failed" in world.journal.types()) is not given


def test_a_kill_between_redoing_and_closing_does_it_once_more_without_harm(world: World) -> None:
    """The right is gone before the first intent is closed."""
    world.run(with_ann_and_key)

    async def revoke(office: Office) -> None:
        await office.publisher.settle()
        world.switch.set(1, "dies before")
        await publish(office, lambda now: acts.revoke_key(now, KEY_ID))

    with pytest.raises(Dies):
        world.run(revoke)
    world.switch.set(3, "dies before")  # intent, proposal, published, then the closing of the first
    with pytest.raises(Dies):
        world.run(settled)
    assert consistent(world).sections["keys"] == {}


def test_a_lost_database_revokes_again_from_the_journal_alone(world: World, tmp_path: Path) -> None:
    """The intent's own words are enough; the rows come back from the signer."""
    world.run(with_ann_and_key)

    async def revoke(office: Office) -> None:
        await office.publisher.settle()
        world.switch.set(1, "dies before")
        await publish(office, lambda now: acts.revoke_key(now, KEY_ID))

    with pytest.raises(Dies):
        world.run(revoke)
    for file in tmp_path.glob("state.db*"):
        file.unlink()
    world.path = World(tmp_path).path  # as after `init` into an empty folder
    world.run(settled)
    assert world.served().sections["keys"] == {}
    assert "ann" in world.served().sections["subjects"]


def test_without_an_entry_there_is_no_change(world: World) -> None:
    """A journal that refuses: nothing is signed, and the change is not tried again."""
    world.run(with_ann_and_key)

    async def revoke(office: Office) -> None:
        await office.publisher.settle()
        world.switch.set(0, "refuses")
        await publish(office, lambda now: acts.revoke_key(now, KEY_ID))

    with pytest.raises(Refused):
        world.run(revoke)
    world.run(settled)
    assert KEY_ID in world.served().sections["keys"]


def test_another_control_that_was_first_is_followed(world: World) -> None:
    """`previous` refused: the intent is closed as failed, and the change made anew on what is now."""
    world.run(settled)

    async def race(office: Office) -> None:
        await office.publisher.settle()
        behind = office.publisher.snapshot
        await publish(office, lambda now: acts.create_subject(now, "ann", "human", []))
        office.publisher.snapshot = behind
        await publish(office, lambda now: acts.create_subject(now, "bob", "human", []))

    world.run(race)
    assert set(world.served().sections["subjects"]) == {"ann", "bob"}
    assert world.journal.types().count("change.failed") == 1
    consistent(world)


def test_what_the_schema_does_not_allow_is_refused_before_anything_is_written(world: World) -> None:
    """No pending row, no entry."""
    world.run(settled)
    entries = len(world.journal.events)

    async def wrong(office: Office) -> None:
        await office.publisher.settle()
        await publish(office, lambda _: Act("limit.changed", "limit:x", "set", (["put", "limits", "x", {"concurrent": 0}],)))

    with pytest.raises(Refused):
        world.run(wrong)
    assert len(world.journal.events) == entries
    consistent(world)


def test_policies_that_do_not_load_are_never_published(world: World) -> None:
    """They would close every door."""

    async def wrong(office: Office) -> None:
        await office.publisher.settle()
        op = ["put", "policies", "nobody-is-anonymous", {"text": '@id("nobody-is-anonymous") forbid(principal, action, resource'}]
        await publish(office, lambda _: Act("policy.changed", "policy", "publish", (op,)))

    with pytest.raises(Refused) as refused:
        world.run(wrong)
    assert refused.value.reason == "policy_error"


def test_a_second_control_process_is_refused(world: World) -> None:
    """One holds the database, the other says so."""
    world.boot()
    try:
        with pytest.raises(ConfigurationError):
            World.boot(world)
    finally:
        world.state.close()
