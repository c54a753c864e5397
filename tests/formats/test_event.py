"""The native event: what the schema says, what a caller's words become, what is cut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealward.formats import canonical
from sealward.formats.event import SCHEMA, TEXTS, clip, fit, tidy_name, tidy_text, validate
from sealward.formats.fault import FormatError

VECTORS = Path(__file__).parent.parent / "vectors" / "journal" / "events"


def rows(name: str) -> list[dict[str, Any]]:
    """The lines of a vector file."""
    return [json.loads(line) for line in (VECTORS / name).read_text().split("\n")[:-1]]


VALID = rows("valid.jsonl")


@pytest.mark.parametrize("event", VALID, ids=lambda event: event["type"])
def test_valid_events_are_taken(event: dict[str, Any]) -> None:
    """Each type of the closed list has a shape that passes."""
    validate(event)


@pytest.mark.parametrize("case", rows("invalid.jsonl"), ids=lambda case: case["why"])
def test_invalid_events_are_refused(case: dict[str, Any]) -> None:
    """Writers refuse what the schema does not know."""
    with pytest.raises(FormatError, match="event") as refused:
        validate(case["event"])
    assert refused.value.reason == "event"


@pytest.mark.parametrize(
    "change",
    [
        {"v": 1.0},
        {"instance": "\ud800"},
        {"ext": {"a.b": 1.0}},
        {"ext": {"a": [[[[[]]]]]}},
        {"instance": "door-1\n"},
        {"time": "2026-11-23T09:14:07.104512Z\n"},
        {"v": True},
        {None: 1},
    ],
    ids=str,
)
def test_what_json_schema_alone_would_take_is_refused(change: dict[Any, Any]) -> None:
    """Floats that look like integers, lone surrogates and line ends behind a pattern never become an entry."""
    with pytest.raises(FormatError) as refused:
        validate(VALID[0] | change)
    assert refused.value.reason == "event"


def test_an_error_does_not_repeat_the_value() -> None:
    """A refused event may hold a prompt; the error names the place and the rule."""
    with pytest.raises(FormatError) as refused:
        validate(VALID[0] | {"instance": 'my "secret" prompt'})
    assert "instance" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_every_type_has_a_valid_vector() -> None:
    """The schema's list and the vectors cover each other."""
    assert {event["type"] for event in VALID} == set(SCHEMA["properties"]["type"]["enum"])


@pytest.mark.parametrize("row", rows("truncation.jsonl"), ids=lambda row: str(row["limit"]))
def test_truncation_has_known_answers(row: dict[str, Any]) -> None:
    """The list or text with most bytes loses its last half, first path among equals, and the event says so."""
    before = canonical.dumps(row["event"])
    fitted = fit(row["event"], row["limit"])
    assert fitted == row["fitted"]
    assert len(canonical.dumps(fitted)) <= row["limit"]
    assert canonical.dumps(row["event"]) == before


def test_what_cannot_be_cut_is_refused() -> None:
    """An event without lists and texts has nothing to lose."""
    with pytest.raises(FormatError) as refused:
        fit({"v": 1, "instance": "x" * 100}, 50)
    assert refused.value.reason == "event"


def test_texts_are_those_the_schema_marks() -> None:
    """The cut follows the schema's own marks."""
    assert {"source.user_agent", "change.after", "refusal.target"} <= TEXTS
    assert "subject.id" not in TEXTS


@given(st.text(st.characters(), min_size=1, max_size=200))
def test_a_callers_words_never_make_an_event_unrecordable(words: str) -> None:
    """Whatever a caller says fits a name and, clipped, a text."""
    event = VALID[0] | {"source": {"addr": "::1", "sni": tidy_name(words), "user_agent": tidy_text(words * 10)}}
    clip(event, "source.user_agent", 512)
    validate(event)
    if len(words) > 128:
        assert event["source"]["sni"][-1] == "…"
        assert len(event["source"]["sni"]) == 128


def test_a_clipped_list_says_what_it_was() -> None:
    """Count and digest of the first whole value stay, also when it is cut again."""
    event: dict[str, Any] = {"request": {"tools": [str(n) for n in range(200)]}}
    clip(event, "request.tools", 128)
    first = event["truncated"]["request.tools"]
    clip(event, "request.tools", 3)
    assert first["total"] == 200
    assert event == {"request": {"tools": ["0", "1", "2"]}, "truncated": {"request.tools": first}}
