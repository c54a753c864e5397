"""The sidecar before a runtime that counts bytes: no pass, no byte; with one, the same bytes, streamed, aborted, drained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward import settings
from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats import canonical
from sealward.formats.event import validate
from sealward.formats.note import ED25519, Verifier
from sealward.formats.passes import pass_text, promises
from sealward.formats.snapshot import GENESIS, Snapshot
from sealward.gateway.entries import Author
from sealward.gateway.limits import Limits
from sealward.gateway.presenting import DoorConnection, Presenting, Shared
from sealward.gateway.refusals import Refusals
from sealward.gateway.runtimes import Presented
from sealward.gateway.ticker import Ticker

DIGEST = "sha256:" + "11" * 32
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
VKEY = Verifier("log.test", ED25519, KEY.public_key().public_bytes_raw()).vkey
NAME, PATH, BODY = "local:00112233445566aa", "/v1/chat/completions", b'{"model":"m","messages":[]}'
NOW = 1_795_425_250
ANSWER = b"HTTP/1.1 200 OK\r\nserver: llama.cpp\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


class World:
    """The sidecar on a socket of its own, its runtime, its snapshots and its journal."""

    def __init__(self, folder: Path) -> None:
        self.door, self.runtime = folder / "door.sock", folder / "runtime.sock"
        self.written: list[Event] = []
        self.received = b""
        self.answer: Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]] | bytes = ANSWER
        self.refusal: Refused | None = None
        self.gone = asyncio.Event()
        self.open: set[asyncio.StreamWriter] = set()
        self.indices = iter(range(1000))

    def now(self) -> int:
        return NOW * 1_000_000

    def boot(self) -> float:
        return 1000.0

    def record(self, event: Event) -> None:
        validate(event)
        self.written.append(event)

    def serving(self) -> Snapshot:
        if self.refusal is not None:
            raise self.refusal
        return snapshot()

    async def runs(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The runtime: takes one request at a time, and notes when its reader goes."""
        self.open.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                self.received += head + await reader.readexactly(length)
                if isinstance(self.answer, bytes):
                    writer.write(self.answer)
                else:
                    await self.answer(writer)
        await self.shut(writer)

    async def shut(self, writer: asyncio.StreamWriter) -> None:
        """Close a connection and see it closed."""
        self.open.discard(writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def given(self, **members: Any) -> str:
        """A fresh pass for BODY."""
        index = next(self.indices)
        said = {
            "v": 1, "body": sha256(BODY).hexdigest(), "input": "00" * 32, "epoch": 1, "exp": NOW + 30, "model": DIGEST,
            "path": PATH, "req": f"01KA70000000000000000{index:05d}", "salt": "00" * 32, "sidecar": NAME, "sub": "alice",
        }  # fmt: skip
        admission, leaf = canonical.dumps(said | members), bytes(32)
        return pass_text(index, leaf, promises("log.test", index, [(leaf, sha256(admission).digest())], KEY)[0], admission)

    async def ask(self, text: str | None, body: bytes = BODY, path: str = PATH) -> bytes:
        """One request of the door, and all that comes back."""
        reader, writer = await asyncio.open_unix_connection(str(self.door))
        writer.write(request(text, body, path))
        answer = await reader.read()
        await self.shut(writer)
        return answer


def request(text: str | None, body: bytes = BODY, path: str = PATH) -> bytes:
    """A chat request as the door writes it, that closes."""
    line = f"x-sealward-pass: {text}\r\n" if text is not None else ""
    head = f"POST {path} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\ncontent-type: application/json\r\n{line}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def snapshot(stage: str = "deployed") -> Snapshot:
    """One model, one log."""
    row = {
        "digest": DIGEST, "stage": stage, "kind": "llamacpp", "sidecars": ["local"], "capture": "digest",
        "prefix_cache": "off", "max_output": 1,
    }  # fmt: skip
    sections = {"trust": {"log": {"vkey": VKEY}}, "models": {"m": row}}
    return Snapshot.of(1, "2026-11-23T09:00:00.000000Z", "sha256:" + "0" * 64, sections)


@contextlib.asynccontextmanager
async def sidecar(folder: Path, uid: int | None = None) -> AsyncIterator[tuple[World, Presenting]]:
    """A sidecar that serves, with everything around it."""
    loop, world = asyncio.get_running_loop(), World(folder)
    runtime = await asyncio.start_unix_server(world.runs, str(world.runtime))
    author, ticker = Author("sidecar/local", world, bytes), Ticker(loop, every=0.01)
    shared = Shared(author, ticker, world, Refusals(settings.Refusals(), author, world), Limits(drain_s=2.0, between_s=0.2))
    server = Presenting(NAME, [Presented("m", "llamacpp", DIGEST, world.runtime)], shared)
    server.follow(GENESIS, snapshot())
    server.state = "ready"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(world.door))
    allowed = os.geteuid() if uid is None else uid
    listening = await loop.create_unix_server(lambda: DoorConnection(server, allowed), sock=sock)
    try:
        yield world, server
    finally:
        listening.close()
        server.reset()
        ticker.stop()
        runtime.close()
        while world.open:
            await world.shut(next(iter(world.open)))
        await server.quiet()


def scene(story: Callable[[World, Presenting], Coroutine[Any, Any, None]], folder: Path) -> None:
    """Play a story on the loop of the product."""

    async def play() -> None:
        async with asyncio.timeout(20), sidecar(folder) as (world, server):
            await story(world, server)

    uvloop.run(play())


def test_a_pass_lets_the_same_bytes_through_once(tmp_path: Path) -> None:
    """What the runtime gets is what the pass hashed; its head tells nothing of the house; the pass is then used up."""

    async def story(world: World, server: Presenting) -> None:
        text = world.given()
        answer = await world.ask(text)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"llama.cpp" not in answer
        assert answer.endswith(b"2\r\n{}\r\n0\r\n\r\n")
        assert world.received.endswith(b"\r\n\r\n" + BODY)
        assert b"x-sealward" not in world.received
        assert (await world.ask(text)).startswith(b"HTTP/1.1 401 ")
        assert world.received.count(b"POST") == 1
        assert [event["decision"]["reason"] for event in world.written] == ["pass_invalid"]
        assert not server.running

    scene(story, tmp_path)


@pytest.mark.parametrize(
    ("change", "body", "reason"),
    [
        (None, BODY, "pass_missing"),
        ({"sidecar": "local:ffffffffffffffff"}, BODY, "pass_invalid"),
        ({"sidecar": "gpu1:00112233445566aa"}, BODY, "pass_invalid"),
        ({"exp": NOW - 5}, BODY, "pass_invalid"),
        ({"exp": NOW + 36}, BODY, "pass_invalid"),
        ({"path": "/v1/completions"}, BODY, "pass_invalid"),
        ({"model": "sha256:" + "22" * 32}, BODY, "pass_invalid"),
        ({}, BODY + b" ", "pass_invalid"),
    ],
    ids=["none", "another run", "another sidecar", "expired", "from the future", "another path", "another model", "another body"],
)
def test_without_its_own_pass_no_byte_reaches_the_runtime(
    tmp_path: Path, change: dict[str, Any] | None, body: bytes, reason: str
) -> None:
    """Each has its entry at stage authn, and its 401."""

    async def story(world: World, server: Presenting) -> None:
        answer = await world.ask(None if change is None else world.given(**change), body)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert world.received == b""
        event = world.written[0]
        assert (event["type"], event["refusal"]["stage"], event["decision"]["reason"]) == ("request.refused", "authn", reason)

    scene(story, tmp_path)


@pytest.mark.parametrize("path", ["/v1/completions", "/slots", "/props", "/v1/%63hat/completions", "/v1/models"])
def test_no_other_route_of_the_runtime_is_reachable(tmp_path: Path, path: str) -> None:
    """A pass for one path opens no other: the table is closed here too."""

    async def story(world: World, server: Presenting) -> None:
        answer = await world.ask(world.given(path="/v1/completions"), path=path)
        assert answer.split()[1] in {b"400", b"404"}
        assert world.received == b""

    scene(story, tmp_path)


def test_without_a_heartbeat_nothing_is_served(tmp_path: Path) -> None:
    """A sidecar that cannot know whether its model is still approved refuses, and cuts what runs."""

    async def story(world: World, server: Presenting) -> None:
        world.refusal = Refused(Reason.NO_HEARTBEAT)
        assert (await world.ask(world.given())).startswith(b"HTTP/1.1 503 ")
        world.refusal, world.answer = None, forever(world)
        reader, writer = await asyncio.open_unix_connection(str(world.door))
        writer.write(request(world.given()))
        await reader.readuntil(b"data: x")
        world.refusal = Refused(Reason.NO_HEARTBEAT)
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
        await world.gone.wait()
        await world.shut(writer)

    scene(story, tmp_path)


def forever(world: World) -> Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    """A runtime that streams until its reader is gone."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b"9\r\ndata: x\n\n\r\n")
                await writer.drain()
                await asyncio.sleep(0.005)
        finally:
            world.gone.set()

    return answer


def test_a_door_that_goes_frees_the_runtime(tmp_path: Path) -> None:
    """The abort travels on: the runtime's connection is closed."""

    async def story(world: World, server: Presenting) -> None:
        world.answer = forever(world)
        reader, writer = await asyncio.open_unix_connection(str(world.door))
        writer.write(request(world.given()))
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-type: text/event-stream" in head
        await reader.readuntil(b"data: x")
        writer.transport.abort()
        await world.gone.wait()
        assert not server.running

    scene(story, tmp_path)


def test_a_withdrawn_model_stops_in_the_middle(tmp_path: Path) -> None:
    """Whatever the door thinks of it."""

    async def story(world: World, server: Presenting) -> None:
        world.answer = forever(world)
        reader, writer = await asyncio.open_unix_connection(str(world.door))
        writer.write(request(world.given()))
        await reader.readuntil(b"data: x")
        server.follow(snapshot(), snapshot("retired"))
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
        await world.gone.wait()
        await world.shut(writer)
        assert (await world.ask(world.given())).startswith(b"HTTP/1.1 401 ")

    scene(story, tmp_path)


def test_a_door_that_does_not_read_stops_the_runtime(tmp_path: Path) -> None:
    """Back-pressure, not memory: what nobody reads is not read from the runtime either."""

    async def story(world: World, server: Presenting) -> None:
        sent = 0

        async def flood(writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            with contextlib.suppress(TimeoutError, ConnectionError):
                async with asyncio.timeout(0.3):
                    while True:
                        writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                        sent += 65536
                        await writer.drain()
            world.gone.set()

        world.answer = flood
        door = socket.socket(socket.AF_UNIX)
        door.connect(str(world.door))
        door.sendall(request(world.given()))
        await world.gone.wait()
        assert sent < 4 << 20
        door.close()

    scene(story, tmp_path)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 13\r\n\r\n/secret/path!", b"502"),
        (b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", b"503"),
        (b"HTTP/1.1 302 Found\r\nlocation: http://x\r\ncontent-length: 0\r\n\r\n", b"502"),
        (b"garbage\r\n\r\n", b"502"),
    ],
)
def test_an_error_of_the_runtime_keeps_its_words(tmp_path: Path, answer: bytes, status: bytes) -> None:
    """Paths and addresses in error bodies and redirects stay here."""

    async def story(world: World, server: Presenting) -> None:
        world.answer = answer
        said = await world.ask(world.given())
        assert said.split()[1] == status
        assert b"secret" not in said
        assert b"location" not in said

    scene(story, tmp_path)


def test_health_names_run_models_and_state(tmp_path: Path) -> None:
    """What a door learns before it asks for a pass."""

    async def story(world: World, server: Presenting) -> None:
        reader, writer = await asyncio.open_unix_connection(str(world.door))
        writer.write(b"GET /sealward/v1/health HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n")
        said = orjson.loads((await reader.read()).partition(b"\r\n\r\n")[2])
        assert said == {"id": "local", "run": "00112233445566aa", "models": {"m": DIGEST}, "state": "ready"}
        await world.shut(writer)
        assert world.written == []

    scene(story, tmp_path)


def test_a_draining_sidecar_begins_nothing(tmp_path: Path) -> None:
    """What runs comes to its end, what comes is refused."""

    async def story(world: World, server: Presenting) -> None:
        await server.quiet()
        assert (await world.ask(world.given())).startswith(b"HTTP/1.1 503 ")
        assert world.received == b""

    scene(story, tmp_path)


def test_another_user_at_the_socket_is_not_heard() -> None:
    """The kernel says who is there; only the door's user and root may speak."""

    async def play(folder: Path) -> None:
        async with asyncio.timeout(20), sidecar(folder, uid=61998) as (world, _):
            world.door.chmod(0o666)
            client = socket.socket(socket.AF_UNIX)
            connect_as(61999, client, world.door)
            client.setblocking(False)
            with contextlib.suppress(ConnectionError):
                client.send(request(world.given()))
                assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
            client.close()
            assert world.received == b""

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        uvloop.run(play(Path(folder)))


def connect_as(uid: int, client: socket.socket, path: Path) -> None:
    """Connect as somebody else, where this process may; what the kernel notes is the effective user of `connect`."""
    us = os.geteuid()
    if us == 0:
        os.seteuid(uid)
    try:
        client.connect(str(path))
    finally:
        os.seteuid(us)
