"""Witnesses for tests: the state machine over a disk in memory, and a log that asks it."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from journals import KEYS, MemoryDisk
from sealward import settings
from sealward.formats.add_checkpoint import AddCheckpoint
from sealward.formats.merkle import consistency_proof, leaf_hash, subtree_root
from sealward.formats.note import LogSigner, WitnessSigner
from sealward.journal.witness import Answer, Witness
from sealward.journal.witness_client import WitnessClient
from sealward.journal.witness_server import Listen, start

NOW = 1_795_600_000


def witness_signer(number: int = 1) -> WitnessSigner:
    """Another witness for each number."""
    seed = bytes([number]) * 32
    name = f"witness.test/w{number}"
    return WitnessSigner(name, Ed25519PrivateKey.from_private_bytes(seed), MLDSA44PrivateKey.from_seed_bytes(seed))


@dataclass
class Tree:
    """A log in memory, of entries that are numbers; `branch` tells histories apart from entry `fork` on."""

    branch: str = "a"
    fork: int = 0
    signer: LogSigner = KEYS.signer

    def leaves(self, size: int) -> list[bytes]:
        return [leaf_hash(f"{self.branch if i >= self.fork else 'a'}{i}".encode()) for i in range(size)]

    def root(self, size: int) -> bytes:
        return subtree_root(self.leaves(size))

    def note(self, size: int, root: bytes | None = None) -> bytes:
        return self.signer.checkpoint(size, self.root(size) if root is None else root, NOW)

    def proof(self, old: int, new: int) -> tuple[bytes, ...]:
        leaves = self.leaves(new)
        return tuple(consistency_proof(old, new, lambda a, b: subtree_root(leaves[a:b]))) if 0 < old < new else ()

    def asked(self, old: int, new: int) -> AddCheckpoint:
        return AddCheckpoint(old, self.proof(old, new), self.note(new))


@dataclass
class Watching:
    """A witness that watches the log of `KEYS`."""

    disk: MemoryDisk = field(default_factory=MemoryDisk)
    number: int = 1

    def __post_init__(self) -> None:
        self.signer = witness_signer(self.number)
        self.witness = Witness(self.disk, self.signer, lambda: NOW + 7)
        self.witness.add_log([KEYS.signer.verifier])

    def add(self, tree: Tree, old: int, new: int) -> Answer:
        return self.witness.add_checkpoint(tree.asked(old, new).body)

    @property
    def size(self) -> int:
        held = self.witness.held(KEYS.signer.verifier.name)
        assert held is not None
        return held.size


class Serving:
    """A witness as a server in a thread of the test, on loopback or a unix socket."""

    def __init__(
        self, watching: Watching, where: str = "127.0.0.1:0", certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self.watching = watching
        self._listen = Listen(where, certificate, key)
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self.listener = self._listen.bind()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    @property
    def url(self) -> str:
        if self.listener.family == socket.AF_UNIX:
            return f"unix:{self.listener.getsockname()}"
        scheme = "https" if self._listen.certificate else "http"
        return f"{scheme}://localhost:{self.listener.getsockname()[1]}"

    def client(self, ca: Path | None = None, name: str = "") -> WitnessClient:
        signer = self.watching.signer
        vkeys = (signer.verifier.vkey, signer.mldsa_verifier.vkey)
        return WitnessClient.of(settings.Witness(name=name or f"w{self.watching.number}", vkey=vkeys, url=self.url, ca_file=ca))

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self.listener.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(start(self.watching.witness, self.listener, self._listen.context()))
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(server.wait_closed())
        self._loop.close()
