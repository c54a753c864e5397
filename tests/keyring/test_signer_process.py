"""The signer's process and the link to it, over real unix sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealward.clock import SystemClock
from sealward.errors import UnreachableError
from sealward.formats import passes
from sealward.formats.change import Change, Intent
from sealward.formats.fault import FormatError
from sealward.formats.frames import frame
from sealward.formats.heartbeat import check_heartbeat
from sealward.formats.note import ED25519, Verifier
from sealward.formats.snapshot import GENESIS, apply, open_delta, open_snapshot
from sealward.keyring.secret import Secret, write_key
from sealward.keyring.signer_link import SignerLink

ORIGIN = "journal.test/process"
LOG_KEY, KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
ROLES = ("door", "control")
CODE = """
import os, socket, sys
from pathlib import Path
from sealward.keyring.signer_process import main
from sealward.process import Start
_, home, uid, *fds = sys.argv
listeners = {name: socket.socket(fileno=int(fd)) for name, fd in (each.split("=") for each in fds)}
main(Start("signer", Path(home), listeners, {"door": int(uid), "control": int(uid)}))
"""


class Process:
    """A signer in a process of its own; the listening sockets are ours, as they are the supervisor's, and outlive it."""

    def __init__(self, home: Path) -> None:
        (home / "trust").mkdir()
        (home / "state/signer").mkdir(parents=True)
        verifier = Verifier(ORIGIN, ED25519, LOG_KEY.public_key().public_bytes_raw())
        (home / "trust/log.vkey").write_text(verifier.vkey + "\n")
        write_key(home / "state/signer/snapshot.key", Secret(KEY.private_bytes_raw()))
        self.home, self.uid, self.running = home, os.geteuid(), None
        self.listeners = {}
        for role in ROLES:
            listener = self.listeners[f"signer.{role}"] = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.path(role)))
            listener.listen()

    def path(self, role: str) -> Path:
        return self.home / f"signer.{role}.sock"

    def start(self) -> None:
        numbers = [f"{name}={listener.fileno()}" for name, listener in self.listeners.items()]
        command = [sys.executable, "-c", CODE, str(self.home), str(self.uid), *numbers]
        descriptors = [listener.fileno() for listener in self.listeners.values()]
        self.running = subprocess.Popen(command, pass_fds=descriptors, stderr=subprocess.PIPE)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.running.send_signal(number)
        self.running.communicate(timeout=20)
        return self.running.returncode

    def close(self) -> None:
        if self.running is not None and self.running.poll() is None:
            self.stop(signal.SIGKILL)
        for listener in self.listeners.values():
            listener.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    """Not started yet."""
    found = Process(tmp_path)
    yield found
    found.close()


@asynccontextmanager
async def linked(process: Process, role: str) -> AsyncIterator[SignerLink]:
    """A link that is up."""
    up = asyncio.Event()
    link = SignerLink(process.path(role), on_up=up.set)
    task = asyncio.create_task(link.run())
    try:
        async with asyncio.timeout(20):
            await up.wait()
        yield link
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def again(ask: Callable[[], object]) -> object:
    """Asks until somebody answers."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await ask()
            except UnreachableError:
                await asyncio.sleep(0.01)


def proposal(previous: str, name: str) -> tuple[bytes, Intent]:
    """A change with an honest promise."""
    op = ["put", "roles", name, {"actions": ["journal:read"]}]
    raw = Change("u-1", (op,), previous, os.urandom(32).hex()).raw
    leaf = os.urandom(32)
    return raw, Intent(3, leaf, passes.promises(ORIGIN, 3, [(leaf, passes.sha256(raw).digest())], LOG_KEY)[0])


def test_a_change_reaches_every_client(process: Process) -> None:
    """Proposed by control, pushed to the door, named by the next heartbeat, and still there after kill -9."""
    process.start()

    async def story() -> None:
        async with linked(process, "door") as door, linked(process, "control") as control:
            with pytest.raises(FormatError, match="no_snapshot"):
                await door.heartbeat(bytes(16))
            pushed: asyncio.Queue[bytes] = asyncio.Queue()
            door.on_delta = pushed.put_nowait
            await control.propose(*proposal(GENESIS.digest, "a"))
            assert await pushed.get() == b""
            first = open_snapshot(await door.snapshot(), KEY.public_key(), GENESIS.point)
            signed = await control.propose(*proposal(first.digest, "b"))
            delta = await pushed.get()
            second = apply(first, open_delta(delta, KEY.public_key()))
            assert (signed.delta, signed.named) == (delta, second.point)
            with pytest.raises(FormatError, match="previous"):
                await control.propose(*proposal(first.digest, "c"))
            with pytest.raises(FormatError, match="malformed"):
                await door.propose(*proposal(second.digest, "c"))
            assert await door.deltas(first.epoch) == [delta]
            process.stop(signal.SIGKILL)
            process.start()
            beat = await again(lambda: door.heartbeat(b"n" * 16))
            assert check_heartbeat(b"n" * 16, beat, KEY.public_key(), known=second.point, age_s=0)
            assert (await again(control.intent))[0] == second.epoch

    asyncio.run(story())
    assert process.stop() == 0


def test_another_user_is_not_heard(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the socket's own user and root may speak: the kernel names the peer."""
    process.uid = 61299
    process.start()
    monkeypatch.chdir(process.home)
    process.home.chmod(0o711)
    process.path("door").chmod(0o666)
    with socket.socket(socket.AF_UNIX) as client:
        other = 61298 if os.geteuid() == 0 else os.geteuid()
        try:
            os.seteuid(other)  # the kernel notes the effective user at the time of connecting
            client.connect("signer.door.sock")
        finally:
            os.seteuid(os.getuid())
        with suppress(BrokenPipeError):
            client.sendall(frame({"n": 1, "op": "snapshot"}))
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""


@pytest.mark.parametrize("data", [b"\xff" * 8, frame({"n": 1, "op": "x" * 5000}), b"\0\0\0\2{]", b"\0\0\0\1[1]"])
def test_bytes_that_are_no_request_end_the_connection_only(process: Process, data: bytes) -> None:
    """The signer goes on for all others."""
    process.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(process.path("door")))
        client.sendall(data)
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""

    async def story() -> None:
        async with linked(process, "door") as door:
            assert await door.snapshot() == b""

    asyncio.run(story())


def test_damaged_state_stops_the_process(process: Process) -> None:
    """It does not serve what it cannot prove."""
    (process.home / "state/signer/snapshot").write_text("{}")
    process.start()
    _, words = process.running.communicate(timeout=20)
    assert process.running.returncode != 0
    assert b"signer_state" in words


def test_a_link_without_a_signer_says_so(tmp_path: Path) -> None:
    """At once, not after a time-out."""

    async def story() -> None:
        with pytest.raises(UnreachableError):
            await SignerLink(tmp_path / "nobody.sock").heartbeat(bytes(16))

    asyncio.run(story())
    assert SystemClock().boot() > 0
