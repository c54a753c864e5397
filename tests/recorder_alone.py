"""A recorder process alone, for tests: `python recorder_alone.py FOLDER`. Its sockets and a signer of one snapshot are made here.

FOLDER holds `journal` (made by journal.init) and gets `run`; the signer's key and the snapshot are `KEY` and `snapshot()`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from recorder_desk import MODEL, Message
from sealward import settings
from sealward.formats.b64 import unb64url
from sealward.formats.frames import Frames, frame
from sealward.formats.heartbeat import sign_heartbeat
from sealward.formats.snapshot import Snapshot, sign_snapshot
from sealward.gateway.recorder import Recorder
from sealward.gateway.rights import RIGHTS
from sealward.process import Start

KEY = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
EPOCH = 7


def snapshot() -> Snapshot:
    """Ann and a model."""
    sections = {
        "subjects": {"ann": {"kind": "human", "groups": [], "roles": []}},
        "models": {"m1": MODEL},
        "limits": {"default": {"concurrent": 100_000}},
    }
    return Snapshot.of(EPOCH, "2026-11-23T09:00:00.000000Z", "sha256:" + "0" * 64, sections)


class OneSnapshotSigner(asyncio.Protocol):
    """Heartbeats and the snapshot."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._frames = transport, Frames()

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._transport.write(frame({"n": message["n"]} | self._answer(message)))  # type: ignore[attr-defined]

    @staticmethod
    def _answer(message: Message) -> Message:
        held = snapshot()
        if message["op"] == "heartbeat":
            signed = sign_heartbeat(unb64url(message["nonce"]), held.point, 10_000, KEY)
            return {"heartbeat": signed.signature, "epoch": EPOCH, "digest": held.digest, "ttl_ms": 10_000}
        return {"snapshot": sign_snapshot(held, KEY).decode()}


async def serve(folder: Path) -> None:
    """Until SIGTERM."""
    run = folder / "run"
    run.mkdir(exist_ok=True)
    signer = run / "signer.recorder.sock"
    signer.unlink(missing_ok=True)
    server = await asyncio.get_running_loop().create_unix_server(OneSnapshotSigner, str(signer))
    listeners = {f"recorder.{role}": _listen(run / f"recorder.{role}.sock") for role in RIGHTS}
    start = Start("recorder", folder, listeners, dict.fromkeys(RIGHTS, os.geteuid()))
    await Recorder(start, folder / "journal", run, KEY.public_key(), settings.Refusals()).serve()
    server.close()


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen()
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
