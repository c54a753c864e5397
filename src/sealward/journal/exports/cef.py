r"""CEF version 0 in syslog messages (RFC 5424), each with its length in front (RFC 5425, RFC 6587 octet counting).

In a CEF header `\` and `|` are escaped, in its extension `\`, `=`, CR and LF. `rt` is in milliseconds. Facility 13, log audit.
"""

from __future__ import annotations

import re

from sealward.formats.ids import parse_rfc3339
from sealward.journal.exports.record import Record, present


def cef(record: Record) -> str:
    """One line."""
    kind = record.event["type"]
    name = record.event.get("alert", {}).get("detection") or kind.replace(".", " ").replace("_", " ").capitalize()
    head = "|".join(_head(part) for part in ("sealward", "sealward", "1", kind, name))
    return f"CEF:0|{head}|{record.level.cef}|" + " ".join(f"{key}={_value(value)}" for key, value in _extension(record).items())


def syslog(record: Record) -> bytes:
    """The line as a counted syslog message, without a byte order mark."""
    event = record.event
    host, kind = _word(event["instance"], 255), _word(event["type"], 32)
    priority = AUDIT * 8 + record.level.syslog
    message = f'<{priority}>1 {event["time"]} {host} sealward - {kind} [origin software="sealward"] {cef(record)}'.encode()
    return b"%d %b" % (len(message), message)


def _extension(record: Record) -> dict[str, object]:
    """The keys in their order; `labelled` are the custom fields."""
    event = record.event
    source, decision, operation = event.get("source", {}), event.get("decision", {}), event.get("operation", {})
    refusal, outcome, alert = event.get("refusal", {}), event.get("outcome", {}), event.get("alert", {})
    begin, end = refusal.get("first") or alert.get("start"), refusal.get("last") or alert.get("end")
    fields = present(
        rt=_ms(event["time"]),
        start=_ms(begin) if begin else None,
        end=_ms(end) if end else None,
        externalId=event["id"],
        src=source.get("addr"),
        spt=source.get("port"),
        suid=event["subject"]["id"],
        duid=alert.get("subject"),
        act=decision.get("outcome"),
        outcome="failure" if record.failed else "success",
        reason=decision.get("reason"),
        cnt=refusal.get("count"),
        requestMethod=operation.get("method") or refusal.get("method"),
        request=operation.get("route") or refusal.get("target"),
    )
    labelled = (
        ("cs1", "model", event.get("model", {}).get("alias")),
        ("cs2", "policyDigest", decision.get("policy_digest")),
        ("cs3", "logOrigin", record.origin),
        ("cs4", "logLeaf", record.leaf),
        ("cs5", "target", None if "operation" in event or "refusal" in event else record.target),
        ("cn1", "logIndex", record.index),
        ("cn2", "inputTokens", outcome.get("input_tokens")),
        ("cn3", "outputTokens", outcome.get("output_tokens")),
    )
    for key, label, value in labelled:
        fields |= present(**{key: value}) and {f"{key}Label": label, key: value}
    return fields


def _ms(time: str) -> int:
    return parse_rfc3339(time) // 1000


def _head(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _value(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("=", "\\=").replace("\r", "\\r").replace("\n", "\\n")


def _word(text: str, most: int) -> str:
    """A syslog header field: printable ASCII without spaces."""
    return re.sub(r"[^!-~]", "_", text)[:most]


AUDIT = 13
