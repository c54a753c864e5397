"""OTLP logs in JSON (opentelemetry-proto, OTLP/HTTP): one log record an entry, under the names of semantic conventions.

`gen_ai.*` lives in open-telemetry/semantic-conventions-genai and none of it is stable: it is mapped in one table here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

from sealward.formats.ids import parse_rfc3339
from sealward.journal.exports.record import MAPPED, Json, Record, present


def otlp(records: Iterable[Record]) -> Json:
    """One ExportLogsServiceRequest; a line of an OTLP file holds one too."""
    return {"resourceLogs": [_resource(name, found) for name, found in groupby(records, lambda one: one.event["instance"])]}


def _resource(instance: str, records: Iterable[Record]) -> Json:
    names = [_attribute("service.name", "sealward"), _attribute("service.instance.id", instance)]
    scope = {"name": "sealward.journal", "version": "1"}
    return {"resource": {"attributes": names}, "scopeLogs": [{"scope": scope, "logRecords": [*map(_log_record, records)]}]}


def _log_record(record: Record) -> Json:
    event, nanoseconds = record.event, str(parse_rfc3339(record.event["time"]) * 1000)
    link = event.get("link", {})
    return {
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": record.level.otlp,
        "severityText": record.level.text,
        "eventName": f"sealward.{event['type']}",
        **present(traceId=link.get("trace"), spanId=link.get("span")),
        "attributes": [_attribute(name, value) for name, value in _attributes(record) if value is not None],
    }


def _attributes(record: Record) -> Iterator[tuple[str, Any]]:
    yield "event.id", record.event["id"]
    yield "sealward.log.origin", record.origin
    yield "sealward.log.index", record.index
    yield "sealward.log.leaf", record.leaf or None
    for name, group, member, convert in TABLE:
        value = record.event.get(group, {}).get(member)
        yield name, None if value is None else convert(value)
        if name == "gen_ai.operation.name":
            yield "gen_ai.provider.name", _provider(record.event.get("model", {}))
    for group, members in record.event.items():
        if group not in MAPPED and isinstance(members, dict):
            yield from ((f"sealward.{group}.{name}", value) for name, value in members.items() if _is_plain(value))


def _provider(model: Json) -> str | None:
    """The one named, else the family of the runtime: `llama.cpp-2` is a llama.cpp."""
    return model.get("provider") or (model["runtime"].rpartition("-")[0] or model["runtime"] if "runtime" in model else None)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) or (isinstance(value, list) and all(isinstance(item, str) for item in value))


def _attribute(name: str, value: Any) -> Json:
    return {"key": name, "value": _value(value)}


def _value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {"stringValue": value}


def _same(value: Any) -> Any:
    return value


def _milli(value: int) -> float:
    return value / 1000


def _seconds(us: int) -> float:
    return us / 1_000_000


def _if_many(count: int) -> int | None:
    return count if count != 1 else None


TABLE: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("gen_ai.operation.name", "operation", "name", _same),
    ("gen_ai.request.model", "model", "alias", _same),
    ("gen_ai.response.model", "model", "id", _same),
    ("gen_ai.request.max_tokens", "request", "max_tokens", _same),
    ("gen_ai.request.temperature", "request", "temperature_milli", _milli),
    ("gen_ai.request.top_p", "request", "top_p_milli", _milli),
    ("gen_ai.request.top_k", "request", "top_k", _same),
    ("gen_ai.request.seed", "request", "seed", _same),
    ("gen_ai.request.choice.count", "request", "n", _if_many),
    ("gen_ai.request.frequency_penalty", "request", "frequency_penalty_milli", _milli),
    ("gen_ai.request.presence_penalty", "request", "presence_penalty_milli", _milli),
    ("gen_ai.request.stream", "operation", "stream", _same),
    ("gen_ai.response.finish_reasons", "outcome", "finish_reasons", _same),
    ("gen_ai.response.time_to_first_chunk", "outcome", "ttft_us", _seconds),
    ("gen_ai.usage.input_tokens", "outcome", "input_tokens", _same),
    ("gen_ai.usage.output_tokens", "outcome", "output_tokens", _same),
    ("gen_ai.usage.cache_read.input_tokens", "outcome", "cached_tokens", _same),
    ("gen_ai.conversation.id", "link", "conversation", _same),
    ("user.id", "subject", "id", _same),
    ("enduser.id", "subject", "id", _same),
    ("client.address", "source", "addr", _same),
    ("client.port", "source", "port", _same),
    ("http.request.method", "operation", "method", _same),
    ("url.path", "operation", "route", _same),
    ("http.response.status_code", "outcome", "status", _same),
    ("error.type", "outcome", "error_class", _same),
    ("tls.protocol.version", "source", "tls_version", _same),
    ("sealward.decision", "decision", "outcome", _same),
    ("sealward.reason", "decision", "reason", _same),
    ("sealward.policy.digest", "decision", "policy_digest", _same),
    ("sealward.model.digest", "model", "digest", _same),
)
