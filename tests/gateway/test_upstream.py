"""Pooled connections to a server of ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from doors import run, until
from sealward.errors import Reason
from sealward.gateway.limits import Limits
from sealward.gateway.ticker import Ticker
from sealward.gateway.upstream import Pool

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\ncontent-length: 2\r\n\r\nhi"


@dataclass
class Heard:
    """A sink that remembers."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    content: bytes = b""
    pieces: int = 0
    whole: bool = False
    reason: Reason | None = None

    @property
    def over(self) -> bool:
        return self.whole or self.reason is not None

    def answered(self, status: int, headers: dict[bytes, bytes]) -> None:
        self.status, self.headers = status, headers

    def received(self, content: bytes) -> None:
        self.content += content
        self.pieces += 1

    def ended(self, content: bytes) -> None:
        self.content += content
        self.whole = True

    def broken(self, reason: Reason) -> None:
        assert not self.over
        self.reason = reason


class Server(asyncio.Protocol):
    """One connection; `script(data)` says what to write for what arrives, None to end it."""

    def __init__(self, made: list[Server], script: Callable[[bytes], bytes | None]) -> None:
        made.append(self)
        self.script, self.asked, self.lost = script, b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.asked += data
        answer = self.script(data)
        if answer is None:
            self.transport.close()
        else:
            self.transport.write(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


@contextlib.asynccontextmanager
async def served(
    folder: Path, script: Callable[[bytes], bytes | None], limits: Limits | None = None
) -> AsyncIterator[tuple[Pool, list[Server]]]:
    """A pool and the connections that its server has seen."""
    loop, made = asyncio.get_running_loop(), list[Server]()
    server = await loop.create_unix_server(lambda: Server(made, script), folder / "s.sock")
    ticker = Ticker(loop, 0.02)
    pool = Pool(folder / "s.sock", ticker, limits or Limits())
    try:
        yield pool, made
    finally:
        pool.close()
        ticker.stop()
        server.close()
        for each in made:
            each.transport.abort()
        await until(lambda: all(each.lost for each in made))


async def ask(pool: Pool) -> Heard:
    """One call to its end."""
    heard = Heard()
    pool.send(ASK, heard)
    await until(lambda: heard.over)
    return heard


def test_a_connection_is_used_again(tmp_path: Path) -> None:
    """Asked too late, llhttp says that no connection may be kept (knowledge/gateway.md section 7)."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: OK) as (pool, made):
            for _ in range(5):
                heard = await ask(pool)
                assert (heard.status, heard.content, heard.whole) == (200, b"hi", True)
                assert heard.headers[b"content-type"] == b"a/b"
            assert (pool.opened, len(made)) == (1, 1)

    run(scenario)


@pytest.mark.parametrize("last", [b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi", OK + b"more"])
def test_a_connection_is_not_used_again_when_its_server_says_so_or_says_too_much(tmp_path: Path, last: bytes) -> None:
    """Bytes after an answer would be the next caller's answer."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: last) as (pool, _):
            await ask(pool)
            await ask(pool)
            assert pool.opened == 2

    run(scenario)


def test_bytes_on_an_idle_connection_end_it(tmp_path: Path) -> None:
    """They are never handed to the next call."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: OK) as (pool, made):
            await ask(pool)
            made[0].transport.write(OK)
            await until(lambda: made[0].lost)
            assert (await ask(pool)).content == b"hi"
            assert pool.opened == 2

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"nonsense\r\n\r\n", Reason.UPSTREAM_ERROR),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n", Reason.UPSTREAM_ERROR),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000 + b"\r\ncontent-length: 0\r\n\r\n", Reason.UPSTREAM_ERROR),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Reason.UPSTREAM_ERROR),
        (None, Reason.UPSTREAM_UNAVAILABLE),
    ],
)
def test_what_is_no_answer_is_broken(tmp_path: Path, answer: bytes | None, reason: Reason) -> None:
    """Told once; nothing after it."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: answer) as (pool, _):
            assert (await ask(pool)).reason is reason

    run(scenario)


def test_an_answer_that_stops_in_the_middle_is_an_error(tmp_path: Path) -> None:
    """A byte of it was seen, so nobody else may be asked instead."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: OK[:-1]) as (pool, made):
            heard = Heard()
            pool.send(ASK, heard)
            await until(lambda: heard.content)
            made[0].transport.close()
            await until(lambda: heard.over)
            assert heard.reason is Reason.UPSTREAM_ERROR

    run(scenario)


def test_no_server_is_unavailable(tmp_path: Path) -> None:
    """Never within `send`: a sink is told later."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: OK) as (pool, _):
            (tmp_path / "s.sock").unlink()
            heard = Heard()
            pool.send(ASK, heard)
            assert not heard.over
            await until(lambda: heard.over)
            assert heard.reason is Reason.UPSTREAM_UNAVAILABLE

    run(scenario)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhi"])
def test_an_answer_that_does_not_go_on_is_a_timeout(tmp_path: Path, answer: bytes) -> None:
    """To its head, and between two reads."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: answer, Limits(first_byte_s=0.05, between_s=0.05)) as (pool, made):
            assert (await ask(pool)).reason is Reason.UPSTREAM_TIMEOUT
            await until(lambda: made[0].lost)

    run(scenario)


def test_a_paused_call_has_no_timeout_and_reads_nothing(tmp_path: Path) -> None:
    """Whoever does not read it sets the pace; `resume` goes on where it was."""

    async def scenario() -> None:
        big = b"HTTP/1.1 200 OK\r\ncontent-length: 8000000\r\n\r\n" + bytes(8_000_000)
        async with served(tmp_path, lambda _: big, Limits(between_s=0.05)) as (pool, _):
            heard = Heard()
            call = pool.send(ASK, heard)
            await until(lambda: heard.content)
            call.pause()
            before = len(heard.content)
            later = asyncio.get_running_loop().time() + 0.15
            await until(lambda: asyncio.get_running_loop().time() > later)
            assert len(heard.content) - before < 1 << 20
            assert not heard.over
            call.resume()
            await until(lambda: heard.over)
            assert (heard.whole, len(heard.content)) == (True, 8_000_000)

    run(scenario)


def test_an_aborted_call_ends_its_connection_and_is_told_nothing(tmp_path: Path) -> None:
    """Which is what frees a runtime's slot."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: b"") as (pool, made):
            heard = Heard()
            call = pool.send(ASK, heard)
            await until(lambda: made and made[0].asked)
            call.abort()
            await until(lambda: made[0].lost)
            assert not heard.over

    run(scenario)


def test_a_call_aborted_while_it_connects_leaves_a_connection_for_the_next(tmp_path: Path) -> None:
    """Nothing is sent for it."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: OK) as (pool, made):
            pool.send(ASK, Heard()).abort()
            await until(lambda: pool.opened)
            assert made[0].asked == b""
            await ask(pool)
            assert pool.opened == 1

    run(scenario)


def test_an_interim_answer_is_passed_over(tmp_path: Path) -> None:
    """103 and the like are not the answer."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n" + OK) as (pool, _):
            heard = await ask(pool)
            assert (heard.status, heard.content) == (200, b"hi")
            assert b"link" not in heard.headers

    run(scenario)


def test_idle_connections_are_bounded_and_grow_old(tmp_path: Path) -> None:
    """What nobody needs is closed."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: OK, Limits(pooled=2, pool_idle_s=0.05)) as (pool, made):
            heard = [Heard() for _ in range(4)]
            for each in heard:
                pool.send(ASK, each)
            await until(lambda: all(each.over for each in heard))
            await until(lambda: sum(each.lost for each in made) == 2)
            await until(lambda: all(each.lost for each in made))

    run(scenario)


def test_a_closed_pool_ends_its_calls(tmp_path: Path) -> None:
    """As unavailable: nobody waits for ever."""

    async def scenario() -> None:
        async with served(tmp_path, lambda _: b"") as (pool, made):
            heard = Heard()
            pool.send(ASK, heard)
            await until(lambda: made and made[0].asked)
            pool.close()
            assert heard.reason is Reason.UPSTREAM_UNAVAILABLE

    run(scenario)
