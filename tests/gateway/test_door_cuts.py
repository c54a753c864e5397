"""A running stream ends when its right ends, and nothing else does (identity.md section 7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import people
from doors import (
    ANN,
    ANN_BEARER,
    CHAT,
    EVE_BEARER,
    STREAM,
    STREAM_HEAD,
    Asked,
    Caller,
    House,
    chunk,
    event,
    house,
    later,
    run,
    snapshot,
    until,
)
from sealward.errors import Reason
from sealward.formats.ids import rfc3339

BOTH = {"grants": {"g-2": {"to": "subject:eve", "model": "m1", "actions": people.BOTH}}}


async def words(asked: Asked) -> AsyncIterator[bytes]:
    """A stream that goes on."""
    yield STREAM_HEAD
    n = 0
    while not asked.gone.is_set():
        n += 1
        yield chunk(event(f"word{n} "))
        await asyncio.sleep(0.002)


async def reading(home: House, bearer: bytes) -> tuple[Caller, str]:
    """A caller in the middle of a stream, and his request."""
    caller = await home.connect()
    await caller.send("POST", "/v1/chat/completions", STREAM, bearer)
    _, headers = await caller.head()
    await caller.reader.readuntil(b"word3")
    return caller, headers["x-sealward-request"]


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "key gone": ({"keys": {ANN.id: None}}, "revoked"),
    "key suspended": ({"keys": {ANN.id: people.key_row(ANN, "ann", suspended=True)}}, "revoked"),
    "subject disabled": ({"subjects": {"ann": people.sections()["subjects"]["ann"] | {"disabled": True}}}, "revoked"),
    "group left": ({"subjects": {"ann": people.sections()["subjects"]["ann"] | {"groups": []}}}, "revoked"),
    "grant gone": ({"grants": {"g-1": None}}, "revoked"),
    "policies gone": ({"policies": dict.fromkeys(people.sections()["policies"])}, "revoked"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_takes_the_right_cuts_the_stream_and_no_other(tmp_path: Path, name: str) -> None:
    """The reader gets an error and no `[DONE]`, the runtime stops, the entry says revocation and how much came after it."""
    change, reason = CHANGES[name]

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.change(snapshot(**BOTH))
            home.sidecar.script = words
            victim, request = await reading(home, ANN_BEARER)
            other, _ = await reading(home, EVE_BEARER)
            new = later(home.snapshots.held, **change)
            spared = name != "policies gone"
            home.change(new)
            rest = await victim.rest()
            assert b"error" in rest
            assert b"[DONE]" not in rest
            assert not rest.endswith(b"0\r\n\r\n")
            await until(lambda: request in home.recorder.closed)
            closed = home.recorder.closed[request]["event"]
            assert closed["decision"]["reason"] == reason
            assert closed["outcome"]["aborted_by"] == "revocation"
            assert closed["outcome"]["tokens_after_revocation"] >= 3  # the snapshot was issued before the stream began
            assert closed["statement"]["output_sha256"]
            await until(home.sidecar.asked[0].gone.is_set)
            if spared:
                await other.reader.readuntil(b"word")
                assert not home.sidecar.asked[1].gone.is_set()
                assert len(home.worker.cuts) == 1

    run(scenario)


def test_a_withdrawn_model_stops_in_the_middle_of_its_answers(tmp_path: Path) -> None:
    """For everybody who reads it."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.script = words
            caller, request = await reading(home, ANN_BEARER)
            home.change(later(home.snapshots.held, models={"m1": people.MODEL | {"stage": "retired"}}))
            await caller.rest()
            await until(lambda: request in home.recorder.closed)
            assert home.recorder.closed[request]["event"]["decision"]["reason"] == "model_withdrawn"

    run(scenario)


def test_a_change_that_touches_nobody_cuts_nobody(tmp_path: Path) -> None:
    """A new key for somebody else, another epoch: the stream goes on."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.script = words
            caller, _ = await reading(home, ANN_BEARER)
            home.change(later(home.snapshots.held, keys={"A" * 11: people.key_row(ANN, "eve")}))
            await caller.reader.readuntil(b"word20")
            assert home.recorder.closed == {}

    run(scenario)


def test_a_stream_ends_when_its_key_does(tmp_path: Path) -> None:
    """`expired`, at the latest a second after."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            ends = people.key_row(ANN, "ann", expires=rfc3339(people.NOW + 3_600_000_000))
            home.change(later(home.snapshots.held, keys={ANN.id: ends}))
            home.sidecar.script = words
            caller, request = await reading(home, ANN_BEARER)
            home.clock.step = 3_600_000_000
            assert b"[DONE]" not in await caller.rest()
            await until(lambda: request in home.recorder.closed)
            assert home.recorder.closed[request]["event"]["decision"]["reason"] == "expired"

    run(scenario)


def test_a_door_that_hears_no_signer_serves_nothing_on(tmp_path: Path) -> None:
    """It would hear of no revocation either."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.script = words
            caller, request = await reading(home, ANN_BEARER)
            home.snapshots.fault = Reason.NO_HEARTBEAT
            await caller.rest()
            await until(lambda: request in home.recorder.closed)
            assert home.recorder.closed[request]["event"]["outcome"]["error_class"] == "no_heartbeat"

    run(scenario)


def test_nothing_buffered_reaches_a_slow_reader_after_the_cut(tmp_path: Path) -> None:
    """`close` and `abort` let the kernel deliver megabytes; the connection is reset, and what waited is gone."""

    async def scenario() -> None:
        async with house(tmp_path) as home:

            async def fast(asked: Asked) -> AsyncIterator[bytes]:
                yield STREAM_HEAD
                while not asked.gone.is_set():
                    yield chunk(event("x" * (16 << 10)))
                    await asyncio.sleep(0)

            home.sidecar.script = fast
            caller = await home.connect(limit=4096)
            await caller.send("POST", "/v1/chat/completions", STREAM)
            await caller.head()
            connection = next(iter(home.worker._connections))
            await until(lambda: connection.paused)
            exchange = connection._exchange
            assert exchange is not None
            assert exchange.reply is not None
            written = exchange.reply.bytes_out
            home.change(later(home.snapshots.held, keys={ANN.id: None}))
            got = await caller.rest()
            assert b"error" not in got
            assert len(got) < written
            await until(lambda: home.recorder.closed)

    run(scenario)


def test_a_cut_before_the_first_byte_is_an_ordinary_refusal(tmp_path: Path) -> None:
    """Nothing was said yet, so the caller reads a whole answer."""

    async def scenario() -> None:
        async with house(tmp_path) as home:

            async def silent(asked: Asked) -> AsyncIterator[bytes]:
                await asked.gone.wait()
                yield b""

            home.sidecar.script = silent
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", CHAT)
            await until(lambda: home.sidecar.asked)
            home.change(later(home.snapshots.held, keys={ANN.id: None}))
            answer = await caller.answer()
            assert (answer.status, answer.json()["error"]["code"]) == (403, "permission_denied")
            assert (await caller.ask("POST", "/v1/chat/completions", CHAT)).status == 401

    run(scenario)


@pytest.mark.parametrize(
    ("which", "count"),
    [
        ({}, 2),
        ({"key": ANN.id}, 1),
        ({"subject": "eve"}, 1),
        ({"model": "m1"}, 2),
        ({"before_epoch": 9}, 2),
        ({"before_epoch": 7}, 0),
        ({"key": ANN.id, "subject": "eve"}, 0),
    ],
)
def test_the_one_primitive_cuts_by_key_subject_model_or_epoch(tmp_path: Path, which: dict[str, Any], count: int) -> None:
    """Every condition given must fit."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.change(snapshot(**BOTH))
            home.sidecar.script = words
            for bearer in (ANN_BEARER, EVE_BEARER):
                await reading(home, bearer)
            assert home.worker.cuts.cut(Reason.REVOKED, home.clock.now(), **which) == count
            assert len(home.worker.cuts) == 2 - count

    run(scenario)


def test_a_hundred_streams_of_one_key_end_together(tmp_path: Path) -> None:
    """And the hundred of another one go on."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.change(snapshot(**BOTH))

            async def slow(asked: Asked) -> AsyncIterator[bytes]:
                yield STREAM_HEAD
                for n in range(100_000):
                    yield chunk(event(f"word{n} "))
                    await asyncio.sleep(0.05)

            home.sidecar.script = slow
            victims = await asyncio.gather(*(reading(home, ANN_BEARER) for _ in range(50)))
            others = await asyncio.gather(*(reading(home, EVE_BEARER) for _ in range(50)))
            home.change(later(home.snapshots.held, keys={ANN.id: None}))
            ended = await asyncio.gather(*(caller.rest() for caller, _ in victims))
            assert all(b"error" in rest for rest in ended)
            await asyncio.gather(*(caller.reader.readuntil(b"word") for caller, _ in others))
            assert len(home.worker.cuts) == 50

    run(scenario)
