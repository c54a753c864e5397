"""What the owner did without any daemon becomes entries, and only these entries have an effect: a fold over the journal.

`recovery.log` (formats/recovery.py) is taken in at the recorder's start and about once a second. Of each line a
`recovery.performed`; `witness drop NAME` is followed by the `witness.dropped` that makes it so.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import structlog

from sealward.events import Event, system_subject
from sealward.formats.event import validate
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.formats.recovery import Line, parse_recovery_log
from sealward.gateway.entries import Author


class Recoveries:
    """`dropped`: names of witnesses that are not asked any more. `witnesses`: those the journal knows, with their keys."""

    def __init__(self) -> None:
        self._last, self._line = -1, ""
        self.witnesses: dict[str, str] = {}
        self.dropped: set[str] = set()

    def apply(self, index: int, event: Event) -> None:
        del index
        kind = event["type"]
        if kind == "recovery.performed":
            self._last, self._line = event["recovery"]["n"], event["recovery"]["line"]
        elif kind == "witness.added":
            self.witnesses[event["witness"]["name"]] = event.get("ext", {}).get("keys", "")
        elif kind == "witness.dropped":
            self.witnesses.pop(event["witness"]["name"], None)
            self.dropped.add(event["witness"]["name"])

    def dump(self) -> dict[str, Any]:
        return {"last": [self._last, self._line], "witnesses": self.witnesses, "dropped": sorted(self.dropped)}

    def load(self, state: dict[str, Any]) -> None:
        self._last, self._line = state["last"]
        self.witnesses, self.dropped = dict(state["witnesses"]), set(state["dropped"])

    def erased(self, subject: str) -> None:
        """It names no subject of the service."""

    def due(self, data: bytes, origin: str, author: Author) -> list[Event]:
        """The events of the lines that no entry holds yet. A log that was cut or changed is taken in whole, and said to be."""
        try:
            lines = parse_recovery_log(data, origin)
        except FormatError:
            return [_gap(author, "recovery.log is damaged")]
        hashes = [sha256(raw).hexdigest() for raw in data.splitlines(keepends=True)]
        continues = self._last < len(lines) and (self._last < 0 or hashes[self._last] == self._line)
        first = self._last + 1 if continues else 0
        events = [] if continues else [_gap(author, "recovery.log does not continue the last line taken in")]
        for line, digest in list(zip(lines, hashes, strict=True))[first:]:
            events += _events(line, digest, author)
        return [event if _is_sound(event) else _gap(author, "a line of recovery.log is no act") for event in events]

    def added(self, named: Mapping[str, str], author: Author) -> list[Event]:
        """`witness.added` for those of the settings (name → keys) that the journal does not know so."""
        fresh = {name: keys for name, keys in named.items() if name not in self.dropped and self.witnesses.get(name) != keys}
        return [
            author.event("witness.added", system_subject("recorder"), witness={"name": name}, ext={"keys": keys})
            for name, keys in fresh.items()
        ]

    def missing(self, named: Mapping[str, str], due: list[Event]) -> set[str]:
        """Witnesses that the journal knows, nobody dropped, and the settings do not name."""
        dropped = {event["witness"]["name"] for event in due if event["type"] == "witness.dropped"}
        return set(self.witnesses) - set(named) - dropped


class RecoveryLog:
    """The file, read when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._complained = False

    def origin(self, present: str) -> str:
        """Of the log that its first line was written for; `present` where nothing is said."""
        try:
            return self._path.with_name("origin").read_text("utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError):
            return present

    def changed(self) -> bytes | None:
        """Its content, where it is another than at the last call; None else, and where there never was one."""
        try:
            about = self._path.stat()
            seen = (about.st_ino, about.st_size, about.st_mtime_ns)
            if seen == self._seen:
                return None
            data = self._path.read_bytes()
        except FileNotFoundError:
            seen_before, self._seen = self._seen, None
            return None if seen_before is None else b""
        except OSError as error:
            if not self._complained:
                self._complained = True
                LOG.error("recovery.log cannot be read", cause=str(error.strerror))  # noqa: TRY400 - the rest is noise
            return None
        self._seen = seen
        return data


def _events(line: Line, digest: str, author: Author) -> list[Event]:
    subject = {"id": line["by"], "kind": "human", "authn": "local"}
    told = {name: line[name] for name in ("n", "prev", "verb", "state", "time")} | {"line": digest, "reason": line["because"]}
    events = [author.event("recovery.performed", subject, recovery=told)]
    if line["verb"].startswith(DROP):
        witness = {"name": line["verb"].removeprefix(DROP), "reason": line["because"]}
        events.append(author.event("witness.dropped", subject, witness=witness))
    return events


def _is_sound(event: Event) -> bool:
    try:
        validate(event)
    except FormatError:
        return False
    return True


def _gap(author: Author, cause: str) -> Event:
    now = rfc3339(author.clock.now())
    return author.event("journal.gap", system_subject("recorder"), gap={"from_time": now, "to_time": now, "cause": cause})


LOG = structlog.get_logger()
DROP = "witness drop "
