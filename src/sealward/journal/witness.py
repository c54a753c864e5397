"""A witness: it remembers one checkpoint a log and cosigns only what extends it (C2SP tlog-witness).

Whoever restores an old copy of a log, or rewrites it with the stolen log key, cannot make a witness forget. The whole state
of a log is the note it cosigned last, durable before the cosignature leaves: two racing requests cannot roll a log back,
because one thread answers them one after the other.

    vkey, vkey.mldsa44                    public: what auditors and the log's operator trust
    private/ed25519.key, mldsa44.key      seeds
    logs/<hex sha256 of origin>/vkey      which keys may sign this log's checkpoints
    logs/<hex sha256 of origin>/checkpoint    the last note, cosigned; empty before the first
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealward.errors import ConfigurationError, IntegrityError
from sealward.formats.add_checkpoint import AddCheckpoint
from sealward.formats.fault import FormatError
from sealward.formats.merkle import EMPTY_ROOT, check_consistency
from sealward.formats.note import ED25519, MAX_NAME, MLDSA44, Checkpoint, Verifier, WitnessSigner, open_note, split_note
from sealward.journal.durable import Disk, OsDisk
from sealward.keyring.secret import Secret, read_key, write_key


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Held:
    """A log as its witness knows it; `note` is empty before the first checkpoint."""

    origin: str
    keys: tuple[Verifier, ...]
    size: int
    root: bytes
    note: bytes


class Witness:
    """One witness's logs. Not for several threads. `now`: Unix seconds."""

    def __init__(self, disk: Disk, signer: WitnessSigner, now: Callable[[], int]) -> None:
        self._disk, self._signer, self._now = disk, signer, now

    def add_checkpoint(self, body: bytes) -> Answer:
        """200 and cosignature lines; 400, 403, 404, 409, 422. IntegrityError: its own state is damaged. OSError: not durable."""
        try:
            held, text, note = self._accepted(body)
        except _No as no:
            return no.answer
        return self._cosign(held, text, note)

    def latest(self, folder: str) -> Answer:
        """The last note of the log whose origin has this SHA-256 in hex, cosigned; 404."""
        held = self._held(folder) if FOLDER.fullmatch(folder) else None
        return Answer(200, held.note) if held is not None and held.note else Answer(404, b"nothing here\n")

    def held(self, origin: str) -> Held | None:
        """None for a log it does not know."""
        return self._held(folder_of(origin))

    def logs(self) -> list[Held]:
        """All it knows."""
        return [held for folder in self._disk.names("logs") if (held := self._held(folder)) is not None]

    def add_log(self, keys: Sequence[Verifier]) -> Held:
        """From now on checkpoints that one of these keys signed are looked at; a log that is known gets further keys.

        ConfigurationError: the keys are not those of one log.
        """
        origins = {key.name for key in keys}
        if len(origins) != 1 or any(key.kind not in {ED25519, MLDSA44} for key in keys):
            raise ConfigurationError("these are not keys of one log", remedy="give DIR/vkey of the log, and its vkey.mldsa44")
        origin = origins.pop()
        folder, held = f"logs/{folder_of(origin)}", self.held(origin)
        if held is None and "checkpoint" not in self._disk.names(folder):
            self._disk.replace([(f"{folder}/checkpoint", b"")])  # before the keys: a log without this file has lost its state
        trusted = [*(held.keys if held else ()), *keys]
        lines = "".join(f"{vkey}\n" for vkey in dict.fromkeys(key.vkey for key in trusted))
        self._disk.replace([(f"{folder}/vkey", lines.encode())])
        found = self.held(origin)
        if found is None:
            raise IntegrityError("witness_state", f"logs/{folder} did not stay")
        return found

    def _accepted(self, body: bytes) -> tuple[Held, str, bytes]:
        """What is held of the log, the text and the note of a checkpoint that may be cosigned."""
        with _refusing(400):
            asked = AddCheckpoint.parse(body)
            text, _ = split_note(asked.note)
            checkpoint = Checkpoint.parse(text)
        held = self.held(checkpoint.origin)
        if held is None:
            raise _No(Answer(404, b"no log of this witness\n"))
        with _refusing(403):
            open_note(asked.note, held.keys)
        if asked.old > checkpoint.size:
            raise _No(Answer(400, b"old is larger than the checkpoint\n"))
        if asked.old != held.size:
            raise _No(Answer(409, b"%d\n" % held.size, "text/x.tlog.size"))
        with _refusing(422):
            _check_extends(held, checkpoint, asked.proof)
        return held, text, asked.note

    def _cosign(self, held: Held, text: str, note: bytes) -> Answer:
        lines = "".join(self._signer.cosign(text, self._now()))
        trusted = {(key.name, key.id) for key in held.keys}
        of_log = "".join(each.raw for each in split_note(note)[1] if (each.name, each.id) in trusted)
        self._disk.replace([(f"logs/{folder_of(held.origin)}/checkpoint", f"{text}\n{of_log}{lines}".encode())])
        return Answer(200, lines.encode())

    def _held(self, folder: str) -> Held | None:
        """What stands on the disk counts, checked as if somebody else had written it."""
        try:
            lines = self._disk.read(f"logs/{folder}/vkey").decode().splitlines()
        except FileNotFoundError:
            return None
        try:
            keys = tuple(Verifier.parse(line) for line in lines)
            origin, note = keys[0].name, self._disk.read(f"logs/{folder}/checkpoint")
            if folder_of(origin) != folder:
                raise FormatError("checkpoint", "keys of another log")  # noqa: TRY301 - one way out for all that is damaged
            if not note:
                return Held(origin, keys, 0, EMPTY_ROOT, note)
            text, signed = open_note(note, [*keys, self._signer.verifier])
            if self._signer.verifier not in signed:
                raise FormatError("checkpoint", "not cosigned by this witness")  # noqa: TRY301 - the same
            found = Checkpoint.parse(text)
        except (FormatError, FileNotFoundError, IndexError, UnicodeDecodeError) as error:
            remedy = "never begin it anew: restore it from a copy that is as new, or give this witness another name"
            raise IntegrityError("witness_state", f"logs/{folder}: {error}", remedy=remedy) from error
        return Held(origin, keys, found.size, found.root, note)


def create(directory: Path, name: str) -> WitnessSigner:
    """A new witness of `name` (a URL without its scheme, by custom). ConfigurationError: there is one, or a bad name."""
    if re.fullmatch(r"[!-*,-~]+", name) is None or len(name) > MAX_NAME:
        raise ConfigurationError(f"{name!r} cannot be the name of a witness", remedy="use a name like witness.example.org/w1")
    if (directory / "private").exists():
        raise ConfigurationError(f"{directory} holds a witness already", remedy="choose another directory")
    directory.mkdir(parents=True, exist_ok=True)
    disk = OsDisk(directory)
    disk.replace([("private/name", name.encode() + b"\n")])
    for file in KEYS:
        write_key(directory / "private" / file, Secret(os.urandom(32)))
    signer = load_signer(directory)
    disk.replace([("vkey", signer.verifier.vkey.encode() + b"\n"), ("vkey.mldsa44", signer.mldsa_verifier.vkey.encode() + b"\n")])
    return signer


def load_signer(directory: Path) -> WitnessSigner:
    """The keys of the witness in `directory`. ConfigurationError: there is none, or a key file is not private."""
    try:
        name = (directory / "private/name").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{directory} holds no witness", remedy=f"sealward witness init {directory} --name …") from error
    ed25519, mldsa = (read_key(directory / "private" / file).reveal() for file in KEYS)
    return WitnessSigner(name, Ed25519PrivateKey.from_private_bytes(ed25519), MLDSA44PrivateKey.from_seed_bytes(mldsa))


def folder_of(origin: str) -> str:
    """Hex SHA-256 of a log's origin: its path at a witness."""
    return sha256(origin.encode()).hexdigest()


def _check_extends(held: Held, checkpoint: Checkpoint, proof: Sequence[bytes]) -> None:
    """FormatError("consistency") unless the checkpoint's tree extends what is held."""
    if held.size:
        check_consistency(held.size, checkpoint.size, held.root, checkpoint.root, proof)
    elif proof:
        raise FormatError("consistency", "a proof from nothing")
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        raise FormatError("consistency", "the root of an empty log")


@contextmanager
def _refusing(status: int) -> Iterator[None]:
    try:
        yield
    except FormatError as error:
        raise _No(Answer(status, f"{error}\n".encode())) from error


class _No(Exception):  # noqa: N818 - an answer on its way out, not a fault
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


KEYS = ("ed25519.key", "mldsa44.key")
FOLDER = re.compile("[0-9a-f]{64}")
