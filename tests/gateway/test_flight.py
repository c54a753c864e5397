"""Coroutines carried on by callbacks."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
import structlog

from sealward.gateway.flight import Flight, Wait


def fly(coroutine: Coroutine[Any, Any, None], crashed: list[str] | None = None) -> Flight[str]:
    """Begin one; `crashed` gathers the subject of a crash."""
    flight: Flight[str] = Flight(coroutine, (crashed if crashed is not None else []).append, "it")
    flight.go()
    return flight


def test_whoever_has_the_answer_carries_it_on_at_once() -> None:
    """No loop, no task: `set` returns when the coroutine waits again or is over."""
    first, second, seen = Wait[int](), Wait[int](), list[int]()

    async def story() -> None:
        seen.append(await first)
        seen.append(await second)

    flight = fly(story())
    first.set(1)
    assert seen == [1]
    second.set(2)
    assert (seen, flight.over) == ([1, 2], True)


def test_an_answer_that_is_there_already_is_not_waited_for() -> None:
    """Also when it is a failure; and only the first one counts."""
    ready, failed, seen = Wait[int](), Wait[int](), list[str]()
    ready.set(1)
    ready.set(2)
    failed.fail(KeyError("x"))
    failed.set(3)

    async def story() -> None:
        seen.append(str(await ready))
        try:
            await failed
        except KeyError:
            seen.append("failed")

    assert fly(story()).over
    assert seen == ["1", "failed"]


def test_an_interruption_is_raised_where_it_stands() -> None:
    """And an answer that comes afterwards is nobody's."""
    wait, seen = Wait[int](), list[str]()

    async def story() -> None:
        try:
            await wait
        except KeyError:
            seen.append("interrupted")

    flight = fly(story())
    flight.interrupt(KeyError())
    wait.set(1)
    assert (seen, flight.over) == (["interrupted"], True)
    flight.interrupt(KeyError())


def test_an_interruption_from_inside_is_raised_at_the_next_wait() -> None:
    """A coroutine cannot be thrown into while it runs; one that waits for nothing more is simply over."""
    seen: list[str] = []
    flights: list[Flight[str]] = []
    wait, later, never = Wait[int](), Wait[int](), Wait[int]()
    later.set(1)

    async def story() -> None:
        await wait
        flights[0].interrupt(KeyError())
        await later  # is there: no wait
        try:
            await never
        except KeyError:
            seen.append("interrupted")

    flights.append(fly(story()))
    wait.set(1)
    assert (seen, flights[0].over) == (["interrupted"], True)


def test_a_crash_is_told_and_its_words_are_not_logged() -> None:
    """An exception's text may hold a prompt; where it happened is enough."""
    crashed: list[str] = []

    async def story() -> None:
        raise RuntimeError("the caller's secret prompt")

    with structlog.testing.capture_logs() as logs:
        flight = fly(story(), crashed)
    assert (crashed, flight.over) == (["it"], True)
    assert logs[0]["error"] == "RuntimeError"
    assert "prompt" not in str(logs)


def test_what_ends_the_process_is_not_held_up() -> None:
    """`SystemExit` and the like pass."""

    async def story() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        fly(story())
