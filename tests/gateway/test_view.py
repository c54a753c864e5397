"""The view: which snapshot counts now, whoever holds back, repeats, reorders or invents messages."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.clock import SystemClock
from sealward.errors import Reason, Refused
from sealward.formats.b64 import unb64url
from sealward.formats.fault import FormatError
from sealward.formats.frames import Frames, frame
from sealward.formats.heartbeat import Heartbeat, sign_heartbeat
from sealward.formats.snapshot import GENESIS, Delta, Point, Snapshot, sign_delta, sign_snapshot
from sealward.gateway import follower as follower_module
from sealward.gateway.follower import Follower
from sealward.gateway.view import View
from shared import case_name, vector

KEY = Ed25519PrivateKey.generate()
ISSUED = "2026-11-23T09:00:00.000000Z"


def step(base: Snapshot, name: str, epoch: int = 0) -> tuple[Snapshot, bytes]:
    """A snapshot one role further, and the delta that leads to it."""
    op = ["put", "roles", name, {"actions": ["journal:read"]}]
    found = base.after([op], epoch=epoch or base.epoch + 1, issued=ISSUED)
    return found, sign_delta(Delta(base.epoch, found.epoch, ISSUED, (op,), found.digest), KEY)


ONE, _ = step(GENESIS, "one", 100)
TWO, TO_TWO = step(ONE, "two")
THREE, TO_THREE = step(TWO, "three")
OTHER_TWO, TO_OTHER_TWO = step(ONE, "other")


class Desk:
    """A view, and an honest signer's answers to it."""

    def __init__(self, held: Snapshot = GENESIS, floor: int = 0) -> None:
        self.view = View(KEY.public_key(), floor)
        if held is not GENESIS:
            self.view.whole(sign_snapshot(held, KEY))

    def beat(self, named: Snapshot | Point, now: float, *, sent: float | None = None, ttl: int = 10_000) -> str:
        """Ask at `sent`, hear at `now`: the reason of the refusal, or `ok`."""
        nonce, point = os.urandom(16), named.point if isinstance(named, Snapshot) else named
        self.view.ask(nonce, now if sent is None else sent)
        return reason(lambda: self.view.heard(nonce, sign_heartbeat(nonce, point, ttl, KEY), now))

    def serves(self, now: float) -> Any:
        """The snapshot served, or the reason why none is."""
        try:
            return self.view.serving(now)
        except Refused as error:
            return error.reason


def reason(act: Any) -> str:
    """`ok`, or why not."""
    try:
        act()
    except FormatError as error:
        return error.reason
    return "ok"


def test_nothing_is_served_before_snapshot_and_heartbeat_are_there() -> None:
    """Neither alone is enough."""
    desk = Desk()
    assert desk.serves(0.0) is Reason.NO_SNAPSHOT
    assert desk.beat(ONE, 0.0) == "ok"
    assert (desk.view.behind, desk.serves(0.0)) == (True, Reason.NO_SNAPSHOT)
    desk.view.whole(sign_snapshot(ONE, KEY))
    assert (desk.view.behind, desk.serves(0.0)) == (False, ONE)
    assert Desk(ONE).serves(0.0) is Reason.NO_HEARTBEAT


def test_genesis_is_never_served() -> None:
    """Even when it is named and signed."""
    desk = Desk()
    assert desk.beat(GENESIS, 0.0) == "epoch"
    assert desk.serves(0.0) is Reason.NO_SNAPSHOT


@pytest.mark.parametrize(("now", "served"), [(50.0, True), (59.999, True), (60.0, False), (49.999, False)])
def test_a_heartbeat_counts_from_sending_its_nonce(now: float, served: bool) -> None:
    """Whoever holds an answer back gains no time; a clock that goes back serves nothing."""
    desk = Desk(ONE)
    assert desk.beat(ONE, 55.0, sent=50.0) == "ok"
    assert desk.serves(now) == (ONE if served else Reason.NO_HEARTBEAT)


def test_the_newest_question_decides_not_the_newest_answer() -> None:
    """An answer that comes late prolongs nothing and shortens nothing."""
    desk = Desk(ONE)
    assert desk.beat(ONE, 9.0, sent=8.0) == "ok"
    assert desk.beat(ONE, 9.5, sent=1.0) == "ok"
    assert (desk.serves(17.9), desk.serves(18.0)) == (ONE, Reason.NO_HEARTBEAT)


def test_a_late_answer_that_names_more_is_believed() -> None:
    """It proves that a newer snapshot exists, whenever it was asked."""
    desk = Desk(ONE)
    assert desk.beat(ONE, 9.0, sent=8.0) == "ok"
    assert desk.beat(TWO, 9.5, sent=1.0) == "ok"
    assert desk.serves(9.6) is Reason.NO_SNAPSHOT


def test_an_answer_counts_once_and_only_for_its_question() -> None:
    """Neither a recorded answer nor one to somebody else's nonce gives time."""
    desk, nonce = Desk(ONE), os.urandom(16)
    beat = sign_heartbeat(nonce, ONE.point, 10_000, KEY)
    assert reason(lambda: desk.view.heard(nonce, beat, 0.0)) == "nonce"
    desk.view.ask(nonce, 0.0)
    desk.view.heard(nonce, beat, 0.0)
    assert reason(lambda: desk.view.heard(nonce, beat, 0.0)) == "nonce"


def test_old_questions_are_forgotten() -> None:
    """A signer that is silent costs no memory."""
    desk = Desk(ONE)
    for n in range(1000):
        desk.view.ask(n.to_bytes(16, "big"), 0.0)
    assert len(desk.view._asked) <= 16


def test_a_heartbeat_that_names_more_stops_the_old_snapshot_at_once() -> None:
    """What was revoked by a delta that got lost is not served for one request more."""
    desk = Desk(ONE)
    desk.beat(ONE, 0.0)
    assert desk.beat(TWO, 1.0) == "ok"
    assert desk.serves(1.0) is Reason.NO_SNAPSHOT
    desk.view.delta(TO_TWO)
    assert desk.serves(1.0) == TWO


def test_a_delta_takes_effect_at_once_on_the_time_of_the_last_heartbeat() -> None:
    """Not longer: the last heartbeat's ttl counts."""
    desk = Desk(ONE)
    desk.beat(ONE, 0.0)
    desk.view.delta(TO_TWO)
    assert (desk.serves(9.9), desk.serves(10.0)) == (TWO, Reason.NO_HEARTBEAT)


def test_an_answer_that_names_less_is_ignored() -> None:
    """It was on its way while the delta came: the heartbeat before it counts on, and no longer."""
    desk = Desk(ONE)
    desk.beat(ONE, 0.0)
    desk.view.delta(TO_TWO)
    assert desk.beat(ONE, 5.0) == "epoch"
    assert (desk.serves(9.9), desk.serves(10.0)) == (TWO, Reason.NO_HEARTBEAT)


def test_epochs_only_grow() -> None:
    """Neither an old snapshot nor an old delta brings back what was revoked."""
    desk = Desk(THREE)
    desk.beat(THREE, 0.0)
    assert reason(lambda: desk.view.whole(sign_snapshot(ONE, KEY))) == "epoch"
    assert reason(lambda: desk.view.delta(TO_TWO)) == "ok"
    assert desk.serves(0.0) == THREE


def test_a_delta_twice_or_out_of_order_changes_nothing() -> None:
    """A gap is noticed; what is there already is ignored."""
    desk = Desk(ONE)
    desk.beat(ONE, 0.0)
    assert reason(lambda: desk.view.delta(TO_THREE)) == "from"
    desk.view.delta(TO_TWO)
    desk.view.delta(TO_TWO)
    desk.view.delta(TO_THREE)
    assert desk.serves(0.0) == THREE


@pytest.mark.parametrize(
    "lie",
    [
        lambda desk: desk.beat(OTHER_TWO, 1.0),
        lambda desk: reason(lambda: desk.view.whole(sign_snapshot(OTHER_TWO, KEY))),
        lambda desk: reason(lambda: desk.view.delta(TO_OTHER_TWO)),
        lambda desk: reason(lambda: desk.view.delta(step(OTHER_TWO, "three")[1])),
    ],
    ids=["named by a heartbeat", "served whole", "as a delta", "a delta upon it"],
)
def test_two_snapshots_of_one_epoch_end_all_service(lie: Any) -> None:
    """Whoever signs both has the key: nothing it says is served any more, even its honest answers."""
    desk = Desk(ONE)
    desk.view.delta(TO_TWO)
    desk.beat(TWO, 0.0)
    assert lie(desk) == "fork"
    desk.beat(TWO, 2.0)
    assert desk.serves(2.0) is Reason.NO_SNAPSHOT


def test_a_fetched_snapshot_must_be_the_one_that_was_named() -> None:
    """The heartbeat names a digest, not only an epoch."""
    desk = Desk(ONE)
    desk.beat(TWO, 0.0)
    assert reason(lambda: desk.view.delta(TO_OTHER_TWO)) == "fork"
    assert desk.serves(0.0) is Reason.NO_SNAPSHOT


def test_below_the_floor_nothing_counts() -> None:
    """A recorder whose journal knows epoch 101 is served no epoch 100, however it is signed."""
    desk = Desk(floor=101)
    assert reason(lambda: desk.view.whole(sign_snapshot(ONE, KEY))) == "epoch"
    assert desk.beat(ONE, 0.0) == "epoch"
    desk.view.whole(sign_snapshot(TWO, KEY))
    desk.beat(TWO, 0.0)
    assert desk.serves(0.0) == TWO


@pytest.mark.parametrize("case", vector("contracts", "heartbeat.json")["cases"], ids=case_name)
def test_a_view_answers_the_contracts_heartbeats(case: dict[str, Any]) -> None:
    """The same cases through the state machine: served exactly when the contract says ok."""
    chain = vector("contracts", "snapshot.json")
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(chain["seed"]))
    view = View(private.public_key())
    for link in chain["chain"]:
        if 0 < link["epoch"] <= case["known"]["epoch"]:
            view.whole(link["snapshot"].encode()) if "snapshot" in link else view.delta(link["delta"].encode())
    assert view.held.digest == case["known"]["digest"]
    nonce, now = bytes.fromhex(case["nonce"]), case["now_ms"] / 1000
    view.ask(nonce, case["sent_ms"] / 1000)
    beat = Heartbeat(Point(case["epoch"], case["digest"]), case["ttl_ms"], case["signature"])
    found = reason(lambda: view.heard(nonce, beat, now))
    assert found == ("ok" if case["reason"] == "behind" else case["reason"])
    if case["reason"] == "ok":
        assert view.serving(now) is view.held
    else:
        with pytest.raises(Refused):
            view.serving(now)


class FakeSigner:
    """The other end of the follower's socket: answers from what the test sets."""

    def __init__(self) -> None:
        self.now, self.chain, self.peers = GENESIS, {}, []
        self.asked: asyncio.Queue[str] = asyncio.Queue()

    async def client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        self.peers.append(writer)
        while data := await reader.read(4096):
            for message in frames.feed(data):
                self.asked.put_nowait(message["op"])
                writer.write(frame({"n": message["n"]} | self.answer(message)))
        writer.close()

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        match message["op"]:
            case "heartbeat":
                beat = sign_heartbeat(unb64url(message["nonce"]), self.now.point, 10_000, KEY)
                return {"heartbeat": beat.signature, "ttl_ms": beat.ttl_ms, "epoch": self.now.epoch, "digest": self.now.digest}
            case "snapshot":
                return {"snapshot": sign_snapshot(self.now, KEY).decode()}
            case _:
                return {"deltas": self.chain[message["from"]]} if message["from"] in self.chain else {"refused": "gone"}

    def push(self, delta: bytes) -> None:
        self.peers[-1].write(frame({"push": "delta", "delta": delta.decode()}))


@asynccontextmanager
async def following(tmp_path: Path, signer: FakeSigner) -> AsyncIterator[tuple[Follower, asyncio.Queue[tuple[int, int]]]]:
    """A running follower, and the changes that it tells."""
    path = tmp_path / "s"
    server = await asyncio.start_unix_server(signer.client, path)
    follower = Follower(path, View(KEY.public_key()), SystemClock())
    changes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    follower.on_change.append(lambda old, new: changes.put_nowait((old.epoch, new.epoch)))
    task = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(20):
            yield follower, changes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        server.close()


def test_a_follower_fetches_hears_and_tells(tmp_path: Path) -> None:
    """The whole at first, then a pushed delta at once, then missed ones after a nonce; each change is told once, in order."""

    async def story() -> None:
        signer = FakeSigner()
        signer.now = ONE
        async with following(tmp_path, signer) as (follower, changes):
            assert await changes.get() == (0, 100)
            assert follower.serving() == ONE
            signer.now = TWO
            signer.push(TO_TWO)
            assert await changes.get() == (100, 101)
            assert follower.serving() == TWO
            signer.now, signer.chain = THREE, {101: [TO_THREE.decode()]}
            assert await follower.reach(102, within_s=20)
            assert await changes.get() == (101, 102)
            assert follower.serving() == THREE

    asyncio.run(story())


def test_a_delta_asks_a_nonce_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the next turn, which never comes here."""
    monkeypatch.setattr(follower_module, "EVERY_S", 1000.0)

    async def story() -> None:
        signer = FakeSigner()
        signer.now = ONE
        async with following(tmp_path, signer) as (_, changes):
            await changes.get()
            assert (await signer.asked.get(), await signer.asked.get()) == ("heartbeat", "snapshot")
            signer.now = TWO
            signer.push(TO_TWO)
            assert await signer.asked.get() == "heartbeat"
            assert changes.get_nowait() == (100, 101)

    asyncio.run(story())


def test_a_follower_that_is_too_far_behind_fetches_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also after the connection was lost: it connects again by itself, and asks at once."""
    monkeypatch.setattr(follower_module, "EVERY_S", 1000.0)

    async def story() -> None:
        signer = FakeSigner()
        signer.now = ONE
        async with following(tmp_path, signer) as (follower, changes):
            await changes.get()
            signer.now = THREE
            signer.peers[-1].close()
            assert await changes.get() == (100, 102)
            assert not follower.view.behind
            assert follower.serving() == THREE

    asyncio.run(story())


def test_lies_on_the_socket_change_nothing(tmp_path: Path) -> None:
    """A delta that nobody signed is not followed, and the honest one after it is."""

    async def story() -> None:
        signer = FakeSigner()
        signer.now = ONE
        async with following(tmp_path, signer) as (follower, changes):
            await changes.get()
            signer.push(TO_TWO.replace(b"two", b"twa"))
            signer.push(TO_THREE)
            signer.push(b"x")
            signer.now = TWO
            signer.push(TO_TWO)
            assert await changes.get() == (100, 101)
            assert not await follower.reach(103, within_s=0.01)

    asyncio.run(story())
