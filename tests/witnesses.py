"""Witnesses for tests: the state machine over a disk in memory, and a log that asks it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from journals import KEYS, MemoryDisk
from sealward.formats.add_checkpoint import AddCheckpoint
from sealward.formats.merkle import consistency_proof, leaf_hash, subtree_root
from sealward.formats.note import LogSigner, WitnessSigner
from sealward.journal.witness import Answer, Witness

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
