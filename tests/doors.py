"""A door's worker with real sockets around it: a recorder and a sidecar that do what the test says, callers behind real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httptools
import orjson
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import people
from sealward import settings
from sealward.errors import Reason, Refused
from sealward.formats.frames import Frames, frame
from sealward.formats.ids import rfc3339
from sealward.formats.snapshot import Snapshot
from sealward.gateway.limits import Limits
from sealward.gateway.routes import INFERENCE, Table
from sealward.gateway.tls import Names, server_context
from sealward.gateway.worker import Site, Worker
from sealward.identity.apikey import issue

RUN = "00112233445566aa"
ANN, EVE = issue("live"), issue("live")
ANN_BEARER, EVE_BEARER = people.header(ANN)[0], people.header(EVE)[0]
CHAT = orjson.dumps({"model": "m1", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 8})
STREAM = orjson.dumps({"model": "m1", "messages": [{"role": "user", "content": "Say hello"}], "max_tokens": 8, "stream": True})


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """One scenario on the loop that the product uses."""

    async def in_time() -> None:
        async with asyncio.timeout(15):
            await scenario()

    uvloop.run(in_time())


async def until(true: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition, with a deadline."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        await asyncio.sleep(0.002)


def snapshot(**more: Mapping[str, Any]) -> Snapshot:
    """Ann holds a key and was granted m1; Eve holds one and was granted nothing."""
    rows = {
        "keys": {ANN.id: people.key_row(ANN, "ann"), EVE.id: people.key_row(EVE, "eve")},
        "trust": {"sidecar:local": {"local": True}},
    }
    return people.snapshot(**{name: rows.get(name, {}) | dict(more.get(name, {})) for name in {*rows, *more}})


def later(old: Snapshot, **more: Mapping[str, Any]) -> Snapshot:
    """The next epoch, issued now, with some rows changed; a row that is None is gone."""
    rows = {name: dict(part) for name, part in old.sections.items()}
    for name, part in more.items():
        rows[name] = {key: row for key, row in (rows[name] | dict(part)).items() if row is not None}
    return Snapshot.of(old.epoch + 1, rfc3339(people.NOW), old.digest, rows)


class Clock:
    """Wall time from the day of the test's people, at the real pace; `step` moves it."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.step = 0

    def now(self) -> int:
        return people.NOW + self.step + int((time.monotonic() - self._start) * 1e6)

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class Snapshots:
    """What a follower is to a worker."""

    def __init__(self, first: Snapshot) -> None:
        self.held, self.fault = first, None
        self.asked = 0

    fault: Reason | None

    def serving(self) -> Snapshot:
        if self.fault is not None:
            raise Refused(self.fault)
        return self.held

    def wake(self) -> None:
        self.asked += 1


class Recorder:
    """The other end of the recorder's socket. `answer` may be replaced; `admitted`, `closed`, `events` are what it heard."""

    def __init__(self) -> None:
        self.admitted: dict[str, dict[str, Any]] = {}
        self.closed: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.all_closed: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.refuse = ""
        self.silent: set[str] = set()
        self.receipts: dict[str, dict[str, Any]] = {}
        self.writers: list[asyncio.StreamWriter] = []
        self.unanswered: list[dict[str, Any]] = []
        self._index = 40

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        frames = Frames()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                for message in frames.feed(data):
                    self.hear(message, writer)
        writer.close()

    def hear(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        kind = message["op"]
        if kind == "record":
            self.events.append(message["event"])
        elif kind == "receipt":
            self.asked.append(message)
        elif kind == "admit":
            self.admitted[message["req"]] = message
        elif kind == "close":
            assert message["req"] in self.admitted
            self.all_closed.append(message)
            self.closed[message["req"]] = message
        if kind in self.silent:
            self.unanswered.append(message)
        elif "n" in message:
            self.reply(message, writer)

    def reply(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        n, kind = message["n"], message["op"]
        self._index += 1
        if kind == "admit":
            answer = {"refused": self.refuse} if self.refuse else {"index": self._index, "pass": f"v1;index={self._index};pass"}
        elif kind == "receipt":
            answer = self.receipts.get(message["req"], {"refused": "not_found"})
        else:
            answer = {"index": self._index, "leaf": "00" * 32}
        writer.write(frame({"n": n} | answer))

    def reasons(self, kind: str) -> list[str]:
        return [event["decision"]["reason"] for event in self.events if event["type"] == kind]


@dataclass
class Asked:
    """A request that reached the sidecar."""

    path: str
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Sidecar:
    """The other end of the sidecar's socket. `script(asked)` yields the bytes of the answer, head and all."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.connections: list[_SidecarConnection] = []
        self.run = RUN
        self.state = "ready"
        self.script: Callable[[Asked], AsyncIterator[bytes]] = whole
        self.tasks: set[asyncio.Task[None]] = set()

    def protocol(self) -> asyncio.Protocol:
        connection = _SidecarConnection(self)
        self.connections.append(connection)
        return connection


class _SidecarConnection(asyncio.Protocol):
    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar, self.parser = sidecar, httptools.HttpRequestParser(self)
        self.now, self.lost = Asked(""), False
        self.ready = asyncio.Event()
        self.ready.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.now = Asked("")

    def on_url(self, url: bytes) -> None:
        self.now.path = url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.now.headers[name] = value

    def on_body(self, data: bytes) -> None:
        self.now.body += data

    def on_message_complete(self) -> None:
        if self.now.path == "/sealward/v1/health":
            health = {"id": "local", "run": self.sidecar.run, "models": {"m1": "sha256:" + "1" * 64}, "state": self.sidecar.state}
            self.transport.write(json_answer(health))
            return
        self.sidecar.asked.append(self.now)
        task = asyncio.get_running_loop().create_task(self.answer(self.now))
        self.sidecar.tasks.add(task)
        task.add_done_callback(self.sidecar.tasks.discard)

    async def answer(self, asked: Asked) -> None:
        async for piece in self.sidecar.script(asked):
            if asked.gone.is_set():
                return
            await self.ready.wait()
            self.transport.write(piece)

    def pause_writing(self) -> None:
        self.ready.clear()

    def resume_writing(self) -> None:
        self.ready.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.now.gone.set()
        self.ready.set()


def json_answer(value: Any, status: int = 200) -> bytes:
    """A whole answer with its head."""
    body = orjson.dumps(value)
    return b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


def chunk(content: bytes) -> bytes:
    """One chunk of a chunked answer."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def event(text: str | None = None, **more: Any) -> bytes:
    """One event of a chat stream as a runtime writes it."""
    choice: dict[str, Any] = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": None} | more
    value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "/weights/file.gguf", "choices": [choice]}
    return b"data: " + orjson.dumps(value) + b"\n\n"


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nserver: llama.cpp\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}
USAGE_EVENT = b"data: " + orjson.dumps({"object": "chat.completion.chunk", "choices": [], "usage": USAGE}) + b"\n\n"
ANSWER = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "/weights/file.gguf",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
    "timings": {"cache_n": 4},
}


async def whole(asked: Asked) -> AsyncIterator[bytes]:
    """A usual answer, streamed where that was asked."""
    if not orjson.loads(asked.body).get("stream"):
        yield json_answer(ANSWER)
        return
    yield STREAM_HEAD
    yield chunk(event("Hel"))
    yield chunk(event("lo"))
    yield chunk(event(finish_reason="stop"))
    yield chunk(USAGE_EVENT)
    yield chunk(b"data: [DONE]\n\n")
    yield b"0\r\n\r\n"


@dataclass
class Certificate:
    """A self-signed certificate for localhost and 127.0.0.1."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = dt.datetime.now(dt.UTC)
        names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        until = now + dt.timedelta(days=2)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
        builder = builder.add_extension(names, critical=False)
        signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
        found = cls(folder / "server.pem", folder / "server.key")
        found.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        found.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return found


@dataclass
class House:
    """Everything of one scenario."""

    worker: Worker
    recorder: Recorder
    sidecar: Sidecar
    snapshots: Snapshots
    clock: Clock
    port: int
    context: ssl.SSLContext
    callers: list[Caller] = field(default_factory=list)

    async def connect(self, **more: Any) -> Caller:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.context, server_hostname="localhost", **more
        )
        caller = Caller(reader, writer)
        self.callers.append(caller)
        return caller

    async def ask(self, *args: Any, **more: Any) -> Answer:
        """One request on a connection of its own."""
        return await (await self.connect()).ask(*args, **more)

    def change(self, new: Snapshot) -> None:
        """The signer has pushed a delta."""
        old, self.snapshots.held = self.snapshots.held, new
        self.worker.standing.changed(old, new)


@dataclass
class Answer:
    """A whole answer as it came. `framed` is the content as it was chunked."""

    status: int
    headers: dict[str, str]
    content: bytes
    complete: bool = True

    def json(self) -> Any:
        return orjson.loads(self.content)


@dataclass
class Caller:
    """One TLS connection of a caller."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, method: str, path: str, body: bytes = b"", bearer: bytes | None = ANN_BEARER, **headers: str) -> Answer:
        await self.send(method, path, body, bearer, **headers)
        return await self.answer()

    async def send(self, method: str, path: str, body: bytes = b"", bearer: bytes | None = ANN_BEARER, **headers: str) -> None:
        lines = {"host": "localhost"} | ({"content-type": "application/json"} if body else {})
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        if bearer is not None:
            lines["authorization"] = bearer.decode()
        if body or method == "POST":
            lines["content-length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode()
        first, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return int(first.split()[1]), headers

    async def answer(self) -> Answer:
        status, headers = await self.head()
        if "content-length" in headers:
            return Answer(status, headers, await asyncio.wait_for(self.reader.readexactly(int(headers["content-length"])), 10))
        if "transfer-encoding" in headers:
            content, complete = await self.chunks()
            return Answer(status, headers, content, complete)
        return Answer(status, headers, b"")

    async def chunks(self) -> tuple[bytes, bool]:
        """The content of all chunks, and whether the last one came."""
        content = b""
        try:
            while (size := int(await asyncio.wait_for(self.reader.readline(), 10) or b"-1", 16)) > 0:
                content += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
        except (ConnectionError, asyncio.IncompleteReadError):
            return content, False
        return content, size == 0

    async def rest(self) -> bytes:
        """Everything until the other side ends the connection, chunk framing and all."""
        found = b""
        try:
            while data := await asyncio.wait_for(self.reader.read(1 << 16), 10):
                found += data
        except ConnectionError:
            return found
        return found

    async def closed(self) -> bool:
        """Whether the other side ends the connection without another byte."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionError:
            return True


@contextlib.asynccontextmanager
async def house(
    folder: Path, *, limits: Limits | None = None, table: Table = INFERENCE, burst: int = 10_000, **more: Any
) -> AsyncIterator[House]:
    """A worker of the inference door, ready; `limits` replaces some of its bounds."""
    made = Certificate.make(folder)
    recorder, sidecar, clock, snapshots = Recorder(), Sidecar(), Clock(), Snapshots(snapshot())
    loop = asyncio.get_running_loop()
    recording = await asyncio.start_unix_server(recorder.serve, folder / "recorder.sock")
    serving = await loop.create_unix_server(sidecar.protocol, folder / "sidecar.sock")
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    buckets = dict.fromkeys(("burst", "per_second", "anonymous_per_second", "proven_per_second"), burst)
    site = Site(
        instance="door-1",
        table=table,
        names=Names.of(made.certificate),
        recorder=folder / "recorder.sock",
        sidecar=folder / "sidecar.sock",
        control=None,
        pepper=people.PEPPER,
        environment="live",
        refusals=settings.Refusals(**buckets),
        limits=limits or Limits(),
    )
    worker = Worker(replace(site, **more), clock, snapshots)
    worker.standing.changed(snapshots.held, snapshots.held)
    worker.listen(sock, server_context(made.certificate, made.key))
    context = ssl.create_default_context(cafile=str(made.certificate))
    found = House(worker, recorder, sidecar, snapshots, clock, sock.getsockname()[1], context)
    await until(lambda: worker.ready or not (worker.site.sidecar and worker.link.connected))
    await until(lambda: worker.ready)
    try:
        yield found
    finally:
        for caller in found.callers:
            caller.writer.transport.abort()
        worker.stop()
        recording.close()
        serving.close()
        sock.close()
        for writer in recorder.writers:
            writer.close()
        for task in list(sidecar.tasks):
            task.cancel()
        for writer in [*recorder.writers, *(caller.writer for caller in found.callers)]:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        # A loop of uvloop that is closed while a transport of it is closing waits for ever.
        await until(
            lambda: not worker.connections and not worker.link.connected and all(each.lost for each in sidecar.connections)
        )
