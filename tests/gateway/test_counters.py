"""Limits: exact in any 60 seconds, the same by replay, untouched by a stepped clock."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from recorder_desk import START_US, StoodClock
from sealward.errors import Reason
from sealward.events import Event
from sealward.formats.ids import rfc3339, ulid
from sealward.gateway.counters import Bound, Counters, Reached, counters_of

LIMIT = 5
ROW = {"requests_per_minute": LIMIT, "concurrent": 3, "tokens_per_minute": 700, "tokens_per_day": 5000}


class Teller:
    """Admits and closes by a Counters, and keeps the journal that it would have written."""

    def __init__(self, row: Mapping[str, int] | None = None) -> None:
        self.clock, self.random = StoodClock(), Random(1)
        self.counters = Counters(self.clock)
        self.row = row or ROW
        self.journal: list[Event] = []

    def admit(self, subject: str = "ann", tokens: int = 100, request: str = "", groups: tuple[str, ...] = ()) -> Reached | str:
        """The request's id, or the limit it met."""
        request = request or ulid(self.clock.now(), self.random.randbytes(10))
        event = self._event("inference.admitted", subject, request) | {
            "decision": {"epoch": 7},
            "model": {"id": "m1"},
            "request": {"reserved_tokens": tokens},
        }
        event["subject"]["groups"] = list(groups)
        keys = counters_of(event)
        reached = self.counters.reached(request, [Bound(f"subject:{subject}", f"subject:{subject}", self.row)], tokens)
        if reached is not None:
            return reached
        self.counters.admit(event, keys)
        self._durable(event)
        return request

    def close(self, request: str, *, by: str = "", used: int | None = None) -> None:
        outcome = ({"aborted_by": by} if by else {}) | ({"output_tokens": used} if used is not None else {})
        event = self._event("inference.aborted" if by else "inference.completed", "ann", request) | {"outcome": outcome}
        self.counters.close(event)
        self._durable(event)

    def replayed(self) -> Counters:
        """What a process that starts now makes of the journal."""
        found = Counters(self.clock)
        for index, event in enumerate(self.journal):
            found.apply(index, event)
        return found

    def _event(self, kind: str, subject: str, request: str) -> Event:
        return {
            "id": ulid(self.clock.now(), self.random.randbytes(10)),
            "type": kind,
            "time": rfc3339(self.clock.now()),
            "subject": {"id": subject},
            "link": {"request": request},
        }

    def _durable(self, event: Event) -> None:
        self.counters.apply(len(self.journal), event)
        self.journal.append(event)


STEPS = st.lists(
    st.tuples(st.sampled_from(["admit", "close", "upstream", "retry", "pass", "crash"]), st.integers(0, 2**16)), max_size=80
)


def played(steps: list[tuple[str, int]], teller: Teller) -> list[tuple[float, str, Any]]:
    """(boot seconds, request, what came of it) of every attempt, retries left out."""
    attempts: list[tuple[float, str, Any]] = []
    open_, failed = [], []
    for what, number in steps:
        match what:
            case "admit":
                found = teller.admit(tokens=number % 300)
                attempts.append((teller.clock.boot(), "", found))
                if isinstance(found, str):
                    open_.append(found)
            case "close" if open_:
                teller.close(open_.pop(number % len(open_)), used=number % 400 if number % 3 else None)
            case "upstream" if open_:
                failed.append(open_.pop(number % len(open_)))
                teller.close(failed[-1], by="upstream")
            case "retry" if failed:
                request = failed.pop(number % len(failed))
                if request in teller.counters.failed and isinstance(teller.admit(request=request, tokens=number % 300), str):
                    open_.append(request)
            case "pass":
                teller.clock.pass_(number % 45 + number % 1000 / 1000)
                teller.counters.forget()
            case "crash":
                teller.counters = teller.replayed()
    return attempts


@given(STEPS)
def test_in_any_sixty_seconds_at_most_the_limit_is_admitted(steps: list[tuple[str, int]]) -> None:
    """Never one more, whatever the order; and whoever is refused for requests had the limit within 61 s."""
    attempts = played(steps, Teller())
    admitted = [at for at, _, found in attempts if isinstance(found, str)]
    for at, _, found in attempts:
        assert sum(at - 60 < other <= at for other in admitted) <= LIMIT
        if isinstance(found, Reached) and found.reason is Reason.LIMIT_REQUESTS:
            assert sum(at - 61 < other <= at for other in admitted) >= LIMIT


@given(STEPS)
def test_the_fold_over_the_journal_is_the_state(steps: list[tuple[str, int]]) -> None:
    """What was counted when it was decided, what is replayed, and what was dumped and loaded are one state."""
    teller = Teller()
    played(steps, teller)
    state = teller.counters.dump()
    assert teller.replayed().dump() == state
    copy = Counters(teller.clock)
    copy.load(state)
    assert copy.dump() == state


@given(STEPS)
def test_a_copy_in_the_middle_spares_the_events_before_it(steps: list[tuple[str, int]]) -> None:
    """Copy, then replay of what came after it: the same as everything replayed."""
    teller = Teller()
    played(steps[: len(steps) // 2], teller)
    state, at = teller.counters.dump(), len(teller.journal)
    played(steps[len(steps) // 2 :], teller)
    later = Counters(teller.clock)
    later.load(state)
    for index, event in enumerate(teller.journal[at:], at):
        later.apply(index, event)
    assert later.dump() == teller.counters.dump()


def test_no_more_than_the_limit_runs_at_a_time() -> None:
    """A closed request makes room for exactly one."""
    teller = Teller({"concurrent": 2})
    first, second = teller.admit(), teller.admit()
    assert isinstance(first, str)
    assert isinstance(second, str)
    assert teller.admit() == Reached(Reason.LIMIT_CONCURRENT, "subject:ann", 2, 2)
    teller.close(first)
    assert isinstance(teller.admit(), str)
    assert isinstance(teller.admit(), Reached)


def test_tokens_are_reserved_and_settled_by_the_usage() -> None:
    """A reservation that was too high is given back, one without usage stands."""
    teller = Teller({"tokens_per_minute": 300})
    first = teller.admit(tokens=200)
    assert isinstance(first, str)
    assert teller.admit(tokens=200) == Reached(Reason.LIMIT_TOKENS, "subject:ann", 200, 300)
    teller.close(first, used=50)
    second = teller.admit(tokens=200)
    assert isinstance(second, str)
    teller.close(second)
    assert teller.admit(tokens=100) == Reached(Reason.LIMIT_TOKENS, "subject:ann", 250, 300)


def test_the_budget_of_a_day_comes_back_at_midnight() -> None:
    """Tokens of the UTC day, settled too."""
    teller = Teller({"tokens_per_day": 500})
    first = teller.admit(tokens=500)
    assert isinstance(first, str)
    teller.clock.pass_(3600)
    assert teller.admit(tokens=1) == Reached(Reason.LIMIT_BUDGET, "subject:ann", 500, 500)
    teller.close(first, used=400)
    assert isinstance(teller.admit(tokens=100), str)
    assert isinstance(teller.admit(tokens=1), Reached)
    teller.clock.pass_(86_400 - (START_US // 1_000_000 + 3600) % 86_400)
    assert isinstance(teller.admit(tokens=500), str)


def test_a_retry_is_charged_once() -> None:
    """One request and one reservation, however often its first sidecar fails; and only once."""
    teller = Teller({"requests_per_minute": 1, "tokens_per_minute": 100})
    request = teller.admit(tokens=100)
    assert isinstance(request, str)
    teller.close(request, by="upstream")
    assert isinstance(teller.admit(tokens=100), Reached), "another request"
    assert teller.admit(request=request, tokens=100) == request
    teller.close(request, by="upstream")
    assert isinstance(teller.admit(request=request, tokens=100), Reached), "a second retry"


def test_a_stepped_wall_clock_opens_no_window() -> None:
    """An hour forward or back: the same requests count, and a replay never sees one in the future."""
    teller = Teller({"requests_per_minute": 1})
    assert isinstance(teller.admit(), str)
    for step in (3600, -7200):
        teller.clock.us += step * 1_000_000
        assert isinstance(teller.admit(), Reached)
    teller.clock.seconds += 62
    assert isinstance(teller.admit(), str)


def test_every_counter_of_an_admission_is_charged() -> None:
    """Subject, user, key, groups and model: a row for any of them would count this request."""
    event = {
        "subject": {"id": "svc", "key_id": "k", "groups": ["a", "b"], "on_behalf_of": {"id": "Zoë", "proof": "header"}},
        "model": {"id": "m1"},
    }
    assert counters_of(event) == ("subject:svc", "user:svc\0Zoë", "key:k", "group:a", "group:b", "model:m1")


def test_what_nobody_uses_any_more_is_forgotten() -> None:
    """The state stays as large as the last minute and the day's budgets."""
    teller = Teller({"concurrent": 10_000})
    for n in range(200):
        request = teller.admit(subject=f"s{n}", tokens=0)
        assert isinstance(request, str)
        teller.close(request)
    teller.clock.pass_(62)
    assert teller.counters.dump() == {"epoch": 7, "windows": {}, "open": {}, "closed": [], "failed": {}}
