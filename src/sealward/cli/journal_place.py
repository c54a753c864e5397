"""Where a journal lies, and how its content is read: by a running recorder, or by hand while there is none."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sealward.clock import SystemClock
from sealward.errors import ConfigurationError, IntegrityError
from sealward.events import Event
from sealward.formats import canonical
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339, ulid
from sealward.formats.note import Verifier
from sealward.host.deployment import Deployment
from sealward.host.recovery_log import act
from sealward.journal.client import read_rows
from sealward.journal.cosigning import refuse_if_behind
from sealward.journal.durable import OsDisk
from sealward.journal.keys import SubjectKeys, load_keys, load_purpose_key
from sealward.journal.query import FOREVER, Read
from sealward.journal.reader import Reader, Row
from sealward.journal.requests import ENDING
from sealward.journal.witness_client import WitnessClient
from sealward.journal.writer import Draft, Writer
from sealward.settings import FILE, Settings, Witness

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A journal, and what its deployment says: the pinned log key and the witnesses; neither for a directory on its own."""

    directory: Path
    pinned: str | None
    witnesses: tuple[Witness, ...] = ()

    @classmethod
    def of(cls, directory: Path | None, home: Path) -> Place:
        """`directory`, else the journal of the deployment in `home`."""
        if directory is not None:
            return cls(directory, None)
        if not (home / "journal").is_dir():
            raise ConfigurationError(f"{home} holds no journal", remedy="name its directory, or the deployment with --home")
        pin = home / "trust/log.vkey"
        witnesses = Settings.load(home).journal.witnesses if (home / FILE).exists() else ()
        return cls(home / "journal", pin.read_text().strip() if pin.exists() else None, witnesses)

    @property
    def witness_keys(self) -> tuple[str, ...]:
        return tuple(key for witness in self.witnesses for key in witness.vkey)

    def rows(self, query: Json) -> Iterator[Json]:
        """Entries as `export` prints them, once the read is recorded; `query` as `journal.query.Read` has it."""
        found = read_rows(self.socket, query)
        return self._rows_by_hand(query) if found is None else found

    def receipt(self, request: str) -> str | None:
        """The receipt of a request; None where there is none, or no checkpoint covers it yet."""
        public = Reader(OsDisk(self.directory), vkey_of(self.directory))
        for row in self._endings(request, public.since(request)):
            event = row.get("event", {})
            if event.get("link", {}).get("request") == request and "statement" in event:
                covered = row["index"] < public.checkpoint()[0].size
                return public.receipt(Row(row["index"], public.entry(row["index"]), {}, event)) if covered else None
        return None

    def _endings(self, request: str, since: int) -> Iterator[Json]:
        """What may have ended it: a running recorder knows, else the log is read from where it should be, then all of it."""
        kinds = sorted(ENDING)
        found = read_rows(self.socket, {"where": {"request": [request], "type": kinds}}, "query")
        if found is not None:
            yield from found
            return
        for start in sorted({since, 0}, reverse=True):  # its clock may have been wrong
            yield from self._rows_by_hand({"from": start, "types": kinds})

    @property
    def socket(self) -> Path:
        """Where a running recorder listens to the owner."""
        return self.directory.resolve().parent / "run/recorder.owner.sock"

    def _rows_by_hand(self, query: Json) -> Iterator[Json]:
        reader, end = self._recorded(query)
        yield from Read.parse(query, end).rows(reader, lambda _: time.sleep(FOLLOW_EVERY))

    def _recorded(self, query: Json) -> tuple[Reader, int]:
        """Asks the witnesses, takes the lock, recovers, records the read, gives up the lock: who reads now, up to where.

        A log that must not be written any more is read too: then the read is a line of recovery.log, and an entry later.
        """
        clock, disk = SystemClock(), OsDisk(self.directory)
        refuse_if_behind(Reader(disk, vkey_of(self.directory)), [WitnessClient.of(each) for each in self.witnesses])
        try:
            with closing(Writer.open(disk, load_keys(self.directory), clock=clock, random=os.urandom)) as writer:
                end = writer.size
                writer.commit([Draft(read_event(query, clock.now()))])
                return writer.reader, end
        except IntegrityError as error:
            if error.code != "journal_damaged":
                raise
            deployment, asked = Deployment.at(self.directory.resolve().parent), canonical.dumps(query).decode()
            origin = Settings.load(deployment.home).journal.origin
            verb = f"journal read {self.directory.name}"
            act(deployment, origin, verb=verb, state="journal_damaged", because=asked, now_us=clock.now())
            keys = SubjectKeys(disk, load_purpose_key(self.directory))
            return Reader(disk, vkey_of(self.directory), keys), FOREVER


def vkey_of(directory: Path) -> Verifier:
    """The key that lies beside the log. ConfigurationError without one."""
    try:
        return Verifier.parse((directory / "vkey").read_text())
    except (OSError, FormatError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{directory}/vkey: {error}", remedy="give the log's key with --vkey") from error


def read_event(query: Json, now: int) -> Event:
    """`journal.read` of the owner, to be written before he reads."""
    return {
        "v": 1,
        "id": ulid(now, os.urandom(10)),
        "type": "journal.read",
        "time": rfc3339(now),
        "instance": "cli",
        "tenant": "default",
        "subject": {"id": "owner", "kind": "human", "authn": "local"},
        "read": {"query": canonical.dumps(query).decode()},
    }


FOLLOW_EVERY = 0.2
