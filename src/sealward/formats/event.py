"""The native event, version 1: what may become an entry, how a caller's words are made to fit, how too much is cut.

`schemas/event-v1.schema.json` is normative: writers refuse what it does not know, readers ignore it. No request is
unrecordable because of what it says, so words are tidied and lists clipped before an event is made, and an event over
its budget loses halves of its largest lists and texts; `truncated` keeps count and digest of each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema_rs
import orjson

from sealward.formats import canonical
from sealward.formats.fault import FormatError

Event = dict[str, Any]


def validate(event: Event) -> None:
    """Refuses with FormatError("event") what the schema does not allow, and floats that it takes for integers (1.0).

    The error names the place and the rule, never the value: it may be a caller's words.
    """
    try:
        _VALIDATOR.validate(event)
    except jsonschema_rs.ValidationError as error:
        place = ".".join(map(str, error.instance_path)) or "the event"
        raise FormatError("event", f"{place}: {'/'.join(map(str, error.schema_path))}") from None
    except ValueError:  # a lone surrogate, or deeper than the validator goes
        raise FormatError("event", "not a JSON value") from None
    if holds_float(event):
        raise FormatError("event", "a float")


def holds_float(event: Event, text: bytes | None = None) -> bool:
    """Whether an event that the schema lets through holds a float (1.0); `text`: its canonical bytes, where they are known.

    Such a float is written with `.0` before a comma or bracket. A caller's words may be too: then every value is looked at.
    """
    return FLOAT.search(text or canonical.dumps(event)) is not None and _any_float(event)


def tidy_name(words: str) -> str:
    """A caller's words as a `name`: control characters and lone surrogates become U+FFFD, over 128 they end in U+2026.

    An empty one is no name: leave the member out.
    """
    return _cut(_NO_NAME.sub("\ufffd", words), MAX_NAME)


def tidy_text(words: str) -> str:
    """A caller's words as a `text`, of any length (`clip` cuts it to its member's maximum): line ends and tabs stay."""
    return _NO_TEXT.sub("\ufffd", words)


def clip(event: Event, path: str, most: int) -> None:
    """Cuts the list or text at the dotted `path` of an event being made to `most` items or code points."""
    where, name = _place(event, path)
    whole = where[name]
    if len(whole) > most:
        _note(event, path, whole)
        where[name] = whole[:most]


def fit(event: Event, limit: int = 32_000) -> Event:
    """The event within `limit` bytes of canonical JSON; a copy where something had to go.

    The list or text with the most canonical bytes, the first path in byte order among equals, loses its last half until
    it fits (rule and known answers: the schema, truncation.jsonl). What is left of a valid event at all maxima fits.
    """
    if len(canonical.dumps(event)) <= limit:
        return event
    event = {name: dict(value) if isinstance(value, dict) else value for name, value in event.items()}
    while len(canonical.dumps(event)) > limit:
        size, path = min(((-len(canonical.dumps(value)), path) for path, value in _cuttable(event)), default=(0, ""))
        if size >= -EMPTY:
            raise FormatError("event", "over its budget and nothing is left to cut")
        where, name = _place(event, path)
        whole = where[name]
        _note(event, path, whole)
        half = len(whole) // 2
        where[name] = dict(sorted(whole.items())[:half]) if isinstance(whole, dict) else whole[:half]
    return event


def _any_float(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_any_float, value.values()))
    return any(map(_any_float, value)) if isinstance(value, list) else isinstance(value, float)


def _cuttable(event: Event) -> Iterator[tuple[str, Any]]:
    for name, value in event.items():
        if name == "statement":
            continue
        if isinstance(value, list) or name == "ext":
            yield name, value
        elif isinstance(value, dict):
            for inner, item in value.items():
                if isinstance(item, list) or f"{name}.{inner}" in TEXTS:
                    yield f"{name}.{inner}", item


def _place(event: Event, path: str) -> tuple[Event, str]:
    group, _, name = path.rpartition(".")
    return (event[group] if group else event), name


def _note(event: Event, path: str, whole: Any) -> None:
    """What a value was before its first cut."""
    was = {"total": len(whole), "sha256": hashlib.sha256(canonical.dumps(whole)).hexdigest()}
    event["truncated"] = {path: was} | event.get("truncated", {})


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else words[: most - 1] + "\u2026"


def _texts(schema: Event) -> Iterator[str]:
    """Paths of what the schema marks as text."""
    for group, part in schema["properties"].items():
        for name, member in part.get("properties", {}).items():
            if member.get("$ref") == "#/$defs/text":
                yield f"{group}.{name}"


MAX_NAME = 128
EMPTY = 2  # canonical bytes of an empty list, text or object
SCHEMA: Event = orjson.loads(files("sealward.formats").joinpath("schemas/event-v1.schema.json").read_bytes())
TEXTS = frozenset(_texts(SCHEMA))
FLOAT = re.compile(rb"\.0[,}\]]")
_VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)
_NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
