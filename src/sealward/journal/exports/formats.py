"""The formats by name: how rows of the journal become lines, or the body of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from sealward.journal.exports.cef import cef, syslog
from sealward.journal.exports.cloudevents import cloudevent
from sealward.journal.exports.ocsf import ocsf
from sealward.journal.exports.otlp import otlp
from sealward.journal.exports.record import Json, Record, stripped

Rows = Sequence[Json]  # as `journal export` reads them, each with its leaf


@dataclass(frozen=True, slots=True)
class Format:
    """`lines`: one a record. `body` and its `content_type`: many in one request. `message`: one in a counted syslog stream."""

    content_type: str
    lines: Callable[[Rows], bytes]
    body: Callable[[Rows], bytes]
    message: Callable[[Rows], bytes] | None = None


def records(rows: Rows) -> Iterator[Record]:
    """Of rows that say something; of the erased there is nothing to say."""
    return (record for row in rows if (record := Record.of(row)) is not None)


def _native(rows: Rows) -> bytes:
    return _lines({**row, "event": stripped(row["event"])} if "event" in row else row for row in rows)


def _each(make: Callable[[Record], Json]) -> Callable[[Rows], bytes]:
    return lambda rows: _lines(map(make, records(rows)))


def _list(make: Callable[[Record], Json]) -> Callable[[Rows], bytes]:
    return lambda rows: orjson.dumps([*map(make, records(rows))])


def _cef(rows: Rows) -> bytes:
    return b"".join(f"{cef(record)}\n".encode() for record in records(rows))


def _lines(values: Any) -> bytes:
    return b"".join(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE) for value in values)


WHOLE = Format("application/x-ndjson", _lines, _lines)
"""Native lines for the owner himself: all that the log says, salts too, which receipts are made with. Not for others."""
FORMATS = {
    "native": Format("application/x-ndjson", _native, _native),
    "ocsf": Format("application/json", _each(ocsf), _list(ocsf)),
    "otlp": Format("application/json", _each(lambda record: otlp([record])), lambda rows: orjson.dumps(otlp(records(rows)))),
    "cloudevents": Format("application/cloudevents-batch+json", _each(cloudevent), _list(cloudevent)),
    "cef": Format("text/plain; charset=utf-8", _cef, _cef, lambda rows: b"".join(map(syslog, records(rows)))),
}
