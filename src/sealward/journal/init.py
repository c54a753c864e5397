"""A new journal: keys, and a checkpoint over nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealward.errors import ConfigurationError
from sealward.formats.merkle import EMPTY_ROOT
from sealward.formats.note import MAX_NAME, LogSigner
from sealward.journal.durable import OsDisk
from sealward.journal.keys import PURPOSE
from sealward.journal.log import RESERVE, RESERVE_BYTES, SEGMENTS
from sealward.keyring.provider import KekFile
from sealward.keyring.secret import Secret, write_key
from sealward.process import User


def create(directory: Path, origin: str, user: User | None = None) -> LogSigner:
    """A journal of `origin` in `directory`, owned by `user` (default: ours). The signer tells its verifier keys.

    ConfigurationError: there is one already, or the origin cannot name a log (C2SP: no space, no `+`).
    """
    if not origin or len(origin.encode()) > MAX_NAME or not origin.isprintable() or any(char in origin for char in "+ "):
        raise ConfigurationError(f"{origin!r} cannot be the name of a log", remedy="use a name like journal.example.org/1")
    if (directory / "private").exists() or (directory / "checkpoint").exists():
        raise ConfigurationError(f"{directory} holds a journal already", remedy="choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    disk, private = OsDisk(directory), directory / "private"
    disk.replace([(RESERVE, bytes(RESERVE_BYTES))])
    disk.appender(f"{SEGMENTS}/{0:020d}.seg").close()
    seeds = {name: Secret(os.urandom(32)) for name in ("log.key", "log.mldsa", "events.kek")}
    for name, seed in seeds.items():
        write_key(private / name, seed)
    wrapped = KekFile(private / "events.kek").wrap(PURPOSE, Secret(os.urandom(32)))
    signer = LogSigner(
        origin,
        Ed25519PrivateKey.from_private_bytes(seeds["log.key"].reveal()),
        MLDSA44PrivateKey.from_seed_bytes(seeds["log.mldsa"].reveal()),
    )
    disk.replace(
        [
            ("private/purpose.json", orjson.dumps({PURPOSE: wrapped})),
            ("vkey", signer.verifier.vkey.encode() + b"\n"),
            (MLDSA_VKEY, signer.mldsa_verifier.vkey.encode() + b"\n"),
        ]
    )
    disk.replace([("checkpoint", signer.checkpoint(0, EMPTY_ROOT, int(time.time())))])
    if user is not None:
        for path in (directory, *directory.rglob("*")):
            os.chown(path, user.uid, user.gid, follow_symlinks=False)
    return signer


MLDSA_VKEY = "vkey.mldsa44"
