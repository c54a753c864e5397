"""CloudEvents 1.0 in JSON (github.com/cloudevents/spec, json-format): the event in an envelope."""

from __future__ import annotations

from sealward.journal.exports.record import Json, Record


def cloudevent(record: Record) -> Json:
    """One event; `sealwardindex` and `sealwardleaf` are extension attributes."""
    event = record.event
    return {
        "specversion": "1.0",
        "id": event["id"],
        "source": f"urn:sealward:{record.origin}",
        "type": f"sealward.{event['type']}.v1",
        "time": event["time"],
        "subject": event["subject"]["id"],
        "datacontenttype": "application/json",
        "dataschema": "urn:sealward:event:1",
        "sealwardindex": record.index,
        "sealwardleaf": record.leaf,
        "data": {name: value for name, value in event.items() if name not in {"origin", "seq"}},
    }
