"""What a check has seen, and the state of a task that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Result(StrEnum):
    """`LEFT_OUT`: could not be tried here; it neither proves nor disproves."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    LEFT_OUT = "left out"


class State(StrEnum):
    """Of a task (contracts.md section 12)."""

    DONE = "done"
    PARTIAL = "partial"
    NOT_DONE = "not done"
    REGRESSED = "regressed"
    NOT_BUILT = "not built"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was tried. `entry`: the index of an entry of the journal that shows it."""

    check: str
    result: Result
    detail: str
    entry: int | None = None
    request: str = field(default="", compare=False)
    """The id under which the entry will be found, before it is known."""

    def as_json(self) -> dict[str, Any]:
        """As contracts.md section 12 has it."""
        return {"check": self.check, "result": self.result.value, "entry": self.entry, "detail": self.detail}


def state_of(evidence: Sequence[Evidence]) -> State:
    """Done only where something held and nothing failed."""
    results = {each.result for each in evidence}
    if Result.PASS not in results:
        return State.NOT_DONE
    return State.PARTIAL if Result.FAIL in results else State.DONE


def held(check: str, detail: str, *, entry: int | None = None, request: str = "") -> Evidence:
    """It was tried, and is as it should be."""
    return Evidence(check, Result.PASS, detail, entry, request)


def failed(check: str, detail: str, *, entry: int | None = None, request: str = "") -> Evidence:
    """It was tried, and is not as it should be."""
    return Evidence(check, Result.FAIL, detail, entry, request)


def left_out(check: str, detail: str) -> Evidence:
    """It could not be tried."""
    return Evidence(check, Result.LEFT_OUT, detail)
