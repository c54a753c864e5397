"""What the recorder watches beside its clients: its witnesses, and what the owner did without it (recovery.log).

Witnesses are asked before anything is written. A witness that the journal knows leaves only by `sealward witness drop`: who takes
it out of the settings has not dropped it. One that was dropped stays so under its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from sealward.errors import ConfigurationError
from sealward.events import Event, system_subject
from sealward.formats.ids import rfc3339
from sealward.gateway.entries import Author
from sealward.gateway.recoveries import Recoveries, RecoveryLog
from sealward.journal.cosigning import Cosigning, Told, Witnesses
from sealward.journal.writer import Writer


class Watch:
    """`first` gives the first events of a run, `begin` those that follow; then `look` is to be called often."""

    def __init__(self, writer: Writer, recoveries: Recoveries, witnesses: Witnesses, recovery_log: Path, author: Author) -> None:
        self._recoveries, self._author, self._origin = recoveries, author, writer.origin
        self._file = RecoveryLog(recovery_log)
        self._named = {client.name: " ".join(sorted(key.id.hex() for key in client.keys)) for client in witnesses.clients}
        self._cosigning = Cosigning(writer, witnesses, author.clock)
        self._due = 0.0
        self._dropped: frozenset[str] = frozenset()

    def first(self) -> list[Event]:
        """What recovery.log holds and the journal does not. ConfigurationError: a witness was left out without being dropped."""
        events = self._lines()
        missing = sorted(self._recoveries.missing(self._named, events))
        if missing:
            remedy = f"name it again under journal.witnesses, or: sealward witness drop {missing[0]} --because …"
            raise ConfigurationError(f"the journal has a witness that sealward.yaml does not name: {missing[0]}", remedy=remedy)
        return events

    def begin(self) -> list[Event]:
        """Witnesses are asked from here on, by threads; the events of those that are new."""
        self._drop()
        self._cosigning.start()
        return self._recoveries.added(self._named, self._author)

    def look(self) -> tuple[list[Event], bool]:
        """What happened, as events; and whether this log must not be continued."""
        self._drop()
        told = self._cosigning.take()
        for each in told:
            LOG.warning("witness", now=each.kind, name=each.name, cause=each.reason)
        events = [self._event(each) for each in told]
        if self._author.clock.boot() >= self._due:
            self._due = self._author.clock.boot() + EVERY_S
            events += self._lines()
        return events, any(each.kind == "behind" for each in told)

    def fresh(self) -> bool:
        return self._cosigning.fresh

    def status(self) -> list[dict[str, Any]]:
        return self._cosigning.status()

    def stop(self) -> None:
        """The last checkpoint is shown to all; then their threads end."""
        self._cosigning.stop()

    def _lines(self) -> list[Event]:
        data = self._file.changed()
        return [] if data is None else self._recoveries.due(data, self._file.origin(self._origin), self._author)

    def _drop(self) -> None:
        """By its entry, not by the line."""
        dropped = frozenset(self._recoveries.dropped)
        if dropped != self._dropped:
            self._dropped = dropped
            self._cosigning.drop(dropped)

    def _event(self, told: Told) -> Event:
        kind = "witness.restored" if told.kind == "restored" else "witness.lost"
        witness = {"name": told.name, "size": told.size}
        witness |= {"since": rfc3339(told.since_us)} if told.since_us else {}
        witness |= {"reason": told.reason[:MAX_REASON]} if told.reason else {}
        return self._author.event(kind, system_subject("recorder"), witness=witness)


LOG = structlog.get_logger()
EVERY_S = 1.0
MAX_REASON = 1024
