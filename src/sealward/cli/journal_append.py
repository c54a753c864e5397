"""`journal append`: events in, one a line; answers out, one a line, in order, each when it is durable.

Lines are read by the thread that writes: one that waits for stdin elsewhere can abort the interpreter at its end.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from sealward.clock import SystemClock
from sealward.errors import IntegrityError
from sealward.events import Event
from sealward.formats.event import validate
from sealward.formats.fault import FormatError
from sealward.journal.durable import OsDisk
from sealward.journal.keys import load_keys
from sealward.journal.publisher import Publisher
from sealward.journal.writer import Ack, Draft, Writer


def append(directory: Path) -> int:
    """Answers every line of stdin. The exit code: 0, 1 if events were bad; IntegrityError when the journal stopped."""
    lines = Lines(sys.stdin.fileno())
    try:
        writer = Writer.open(OsDisk(directory), load_keys(directory), clock=SystemClock(), random=os.urandom)
    except IntegrityError as error:
        for number, _ in lines.waiting():
            _say([_refusal(number, error)])
        raise
    publisher = Publisher(writer)
    try:
        appended = _Appending(writer)
        for batch in lines.batches():
            _say(appended.answers(batch))
    finally:
        publisher.stop()
        writer.close()
    if appended.stopped is not None:
        raise appended.stopped
    return int(appended.refused)


class Lines:
    """Numbered lines of a descriptor, in batches of what has arrived: one slow client waits for nobody, many share one sync.

    A line over 1 MiB is None: it is no event, and it is not kept.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held, self._too_long, self._number = b"", False, 0

    def batches(self) -> Iterator[list[tuple[int, bytes | None]]]:
        """Until the end of the input."""
        while data := os.read(self._descriptor, READ):
            found = self._cut(data)
            for start in range(0, len(found), BATCH):
                yield found[start : start + BATCH]
        if self._held or self._too_long:
            yield self._cut(b"\n")

    def waiting(self) -> Iterator[tuple[int, bytes | None]]:
        """Only what is there already."""
        while select.select([self._descriptor], [], [], GRACE)[0] and (data := os.read(self._descriptor, READ)):
            yield from self._cut(data)

    def _cut(self, data: bytes) -> list[tuple[int, bytes | None]]:
        *whole, rest = (self._held + data).split(b"\n")
        found: list[tuple[int, bytes | None]] = []
        for line in whole:
            found.append((self._number, None if self._too_long or len(line) > MAX_LINE else line))
            self._number, self._too_long = self._number + 1, False
        self._too_long = self._too_long or len(rest) > MAX_LINE
        self._held = b"" if self._too_long else rest
        return found


class _Appending:
    """Answers to batches of lines. `stopped`: why the journal takes nothing more."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.refused = False
        self.stopped: IntegrityError | None = None

    def answers(self, batch: list[tuple[int, bytes | None]]) -> list[dict[str, Any]]:
        """One for each line."""
        said: dict[int, dict[str, Any]] = {}
        drafts: dict[int, Draft] = {}
        for number, line in batch:
            try:
                drafts[number] = _draft(line)
            except FormatError as error:
                said[number] = _bad(number, error.detail)
        said |= self._committed(drafts)
        self.refused = self.refused or any("error" in answer for answer in said.values())
        return [said[number] for number, _ in batch]

    def _committed(self, drafts: dict[int, Draft]) -> dict[int, dict[str, Any]]:
        try:
            if self.stopped is not None:
                raise self.stopped
            results = self._writer.commit(list(drafts.values())) if drafts else []
        except IntegrityError as error:
            self.stopped = error
            return {number: _refusal(number, error) for number in drafts}
        answers = {}
        for number, result in zip(drafts, results, strict=True):
            if isinstance(result, Ack):
                answers[number] = {"line": number, "index": result.index, "leaf": result.leaf.hex()}
                answers[number] |= {"pass": result.pass_} if result.pass_ else {}
            else:
                answers[number] = _bad(number, result.detail)
        return answers


def _draft(line: bytes | None) -> Draft:
    if line is None:
        raise FormatError("event", "the line is longer than 1 MiB")
    try:
        event: Event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FormatError("event", f"not JSON: {error}") from error
    validate(event)
    named = event["subject"].get("on_behalf_of")
    return Draft(event, named["id"] if named else None)


def _bad(number: int, detail: str) -> dict[str, Any]:
    return {"line": number, "error": "bad_event", "detail": detail}


def _refusal(number: int, error: IntegrityError) -> dict[str, Any]:
    return {"line": number, "error": error.code if error.code in CODES else "journal_damaged", "detail": error.detail}


def _say(answers: list[dict[str, Any]]) -> None:
    sys.stdout.buffer.write(b"".join([orjson.dumps(answer) + b"\n" for answer in answers]))
    sys.stdout.buffer.flush()


CODES = {"journal_full", "journal_io", "journal_stalled", "journal_damaged", "locked"}
BATCH = 256
READ = 1 << 18
MAX_LINE = 1 << 20
GRACE = 0.2
