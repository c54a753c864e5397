"""The journal's keys: the log's two signing keys, the purpose key of events, and one event key per subject and month.

private/log.key, log.mldsa       seeds of the Ed25519 and ML-DSA-44 keys
private/events.kek               key-encryption key of provider `file`
private/purpose.json             {"journal-events": wrapped purpose key}
private/subjects.jsonl           rows of contracts.md section 2; one line, a list of rows, is what one sync made durable
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from sealward.errors import IntegrityError, Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.note import LogSigner, Verifier
from sealward.formats.subject_key import Row, SubjectKey, open_row, wrap_row
from sealward.journal.durable import Disk
from sealward.journal.rows import RowFile
from sealward.keyring.provider import KekFile
from sealward.keyring.secret import Secret, read_key


@dataclass(frozen=True, slots=True)
class LogKeys:
    """What a writer of one journal holds."""

    signer: LogSigner
    events: Secret


def load_keys(directory: Path) -> LogKeys:
    """The keys of the journal in `directory`; its origin is the name of DIR/vkey.

    ConfigurationError: a key file is missing or not private. IntegrityError: it is another journal's.
    Refused(key_unavailable): the provider does not open the purpose key.
    """
    private = directory / "private"
    signer = LogSigner(
        verifier_of(directory).name,
        Ed25519PrivateKey.from_private_bytes(read_key(private / "log.key").reveal()),
        MLDSA44PrivateKey.from_seed_bytes(read_key(private / "log.mldsa").reveal()),
    )
    if signer.verifier != verifier_of(directory):
        raise IntegrityError("journal_damaged", "vkey is not that of private/log.key")
    return LogKeys(signer, load_purpose_key(directory))


def load_purpose_key(directory: Path) -> Secret:
    """The purpose key of events alone, as a reader needs it. Raises as `load_keys`."""
    private = directory / "private"
    try:
        wrapped = orjson.loads((private / "purpose.json").read_bytes())[PURPOSE]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise IntegrityError("purpose_key", "private/purpose.json is damaged") from error
    return KekFile(private / "events.kek").unwrap(PURPOSE, str(wrapped))


def verifier_of(directory: Path) -> Verifier:
    """The key that lies beside the log. Raises as `load_keys`."""
    try:
        return Verifier.parse((directory / "vkey").read_text())
    except (FormatError, UnicodeDecodeError) as error:
        raise IntegrityError("journal_damaged", f"vkey: {error}") from error


class SubjectKeys:
    """(subject, month) → key. The kid is random and new each month: nobody can recompute it once the row is gone.

    A row must be durable before the first entry under its key, or a crash leaves entries that nobody can read: call
    `make_durable` between `key_for` and the write. Opened without `random` it only reads.
    """

    def __init__(self, disk: Disk, purpose_key: Secret, random: Callable[[int], bytes] | None = None) -> None:
        self._purpose_key, self._random = purpose_key, random
        self._by_subject: dict[tuple[str, str], SubjectKey] = {}
        self._by_kid: dict[str, SubjectKey] = {}
        self._fresh: list[Row] = []
        self._new_users: dict[str, tuple[str, int]] = {}  # service → (hour, users seen first in it)
        self._forgotten = False
        self._file = RowFile(disk, STORE, lambda row: open_row(row, purpose=PURPOSE, purpose_key=purpose_key.reveal()))
        for found in self._file.found:
            self._remember(found)
        if random is not None:
            self._file.start()

    def key_for(self, service: str, user: str | None, time: str) -> SubjectKey:
        """The key of a subject, or of the `user` that a service names, for an event of `time` (RFC 3339)."""
        subject = subject_of(service, user)
        found = self._by_subject.get((subject, time[:7]))
        if found is None:
            if user is not None and not self._may_be_new(service, time[:13]):
                return self.key_for(service, None, time)
            found = self._make(subject, time[:7])
        if int(time[8:10]) >= 2 + zlib.crc32(subject.encode()) % 26:  # ahead, and not everybody's on the same day
            following = _following(time[:7])
            if (subject, following) not in self._by_subject:
                self._make(subject, following)
        return found

    def ahead(self, service: str, user: str | None, time: str) -> SubjectKey | None:
        """The key of the next month, where it was made already."""
        return self._by_subject.get((subject_of(service, user), _following(time[:7])))

    def make_durable(self) -> None:
        """Every row handed out so far is on disk. OSError: none of the fresh ones is; `resume` before the next call."""
        if self._fresh:
            self._file.append(self._fresh)
            self._fresh = []

    def key(self, kid: str) -> SubjectKey | None:
        """The key an entry names; None where it was erased."""
        if self._forgotten:
            raise Refused(Reason.KEY_UNAVAILABLE, "the lease of the purpose key is over")
        return self._by_kid.get(kid)

    def kids_of(self, service: str, user: str | None) -> list[str]:
        """The names of all keys of a subject, or of the `user` that a service named; those made ahead too."""
        subject = subject_of(service, user)
        return [kid for kid, found in self._by_kid.items() if found.subject == subject]

    def drop(self, kids: Collection[str]) -> set[str]:
        """Nothing opens under them from here on; `erase` takes them off the disk. The subjects whose they were."""
        gone = [self._by_kid.pop(kid) for kid in kids if kid in self._by_kid]
        for found in gone:
            if self._by_subject.get((found.subject, found.month)) is found:
                del self._by_subject[found.subject, found.month]
        self._fresh = [row for row in self._fresh if row["kid"] not in kids]
        return {found.subject for found in gone}

    def on_disk(self, kid: str) -> bool:
        """Whether the store still has its row."""
        return self._file.row(kid) is not None

    def erase(self, kids: Collection[str]) -> None:
        """The store without their rows. OSError: it is as before."""
        self._file.drop(kids)

    def forget(self) -> None:
        """The end of a lease: from here on nothing opens and nothing is sealed."""
        self._forgotten = True
        self._by_subject.clear()
        self._by_kid.clear()
        self._purpose_key = Secret(b"")

    def resume(self) -> None:
        """After a failed `make_durable`: all durable rows into a new file. OSError: still failing."""
        self._file.resume()

    def close(self) -> None:
        self._file.close()

    def _make(self, subject: str, month: str) -> SubjectKey:
        if self._forgotten or self._random is None:
            raise Refused(Reason.KEY_UNAVAILABLE, "no purpose key is held")
        made = SubjectKey(self._random(9).hex(), subject, month, self._random(32))
        self._remember(made)
        self._fresh.append(wrap_row(made, purpose=PURPOSE, purpose_key=self._purpose_key.reveal(), nonce=self._random(12)))
        return made

    def _remember(self, found: SubjectKey) -> None:
        self._by_subject[found.subject, found.month] = found
        self._by_kid[found.kid] = found

    def _may_be_new(self, service: str, hour: str) -> bool:
        """A service that invents users fills the store: beyond 1,000 an hour its own key is used (contracts.md section 9)."""
        seen_in, count = self._new_users.get(service, (hour, 0))
        count = count + 1 if seen_in == hour else 1
        self._new_users[service] = (hour, count)
        return count <= NEW_USERS_AN_HOUR


def subject_of(service: str, user: str | None) -> str:
    """A subject as key rows name it."""
    return service if user is None else f"{service}\0{user}"


@functools.lru_cache(maxsize=64)
def _following(month: str) -> str:
    year, number = int(month[:4]), int(month[5:])
    return f"{year + 1:04d}-01" if number == DECEMBER else f"{year:04d}-{number + 1:02d}"


PURPOSE = "journal-events"
STORE = "private/subjects.jsonl"
NEW_USERS_AN_HOUR = 1_000
DECEMBER = 12
