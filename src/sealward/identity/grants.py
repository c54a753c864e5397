"""Grants are rows of data: whom (`subject:ID`, `group:ID`, `role:ID`), which model, which actions, until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sealward.formats.ids import parse_rfc3339


@dataclass(frozen=True, slots=True)
class Grants:
    """Section `grants` of a snapshot, by model."""

    rows: Mapping[str, Mapping[str, Any]] = field(repr=False)
    by_model: Mapping[str, tuple[ModelGrant, ...]] = field(repr=False)

    @classmethod
    def of(cls, rows: Mapping[str, Mapping[str, Any]]) -> Grants:
        """Rows without a model (`may_assert_user`) say nothing about models."""
        found: dict[str, list[ModelGrant]] = {}
        for row in rows.values():
            if "model" in row:
                until = parse_rfc3339(row["until"]) if "until" in row else FOREVER_US
                found.setdefault(row["model"], []).append(ModelGrant(row["to"], frozenset(row["actions"]), until))
        return cls(rows, {model: tuple(grants) for model, grants in found.items()})

    def on(self, model_id: str | None, now_us: int) -> Reach:
        """What holds on one model now."""
        rows = tuple(row for row in self.by_model.get(model_id or "", ()) if now_us < row.until_us)
        return Reach(rows, min((row.until_us for row in rows), default=FOREVER_US))


@dataclass(frozen=True, slots=True)
class ModelGrant:
    """One grant on a model."""

    party: str
    actions: frozenset[str]
    until_us: int


@dataclass(frozen=True, slots=True)
class Reach:
    """The grants on one model that hold, and when the first of them ends."""

    rows: tuple[ModelGrant, ...]
    until_us: int

    def holders(self, action: str) -> list[str]:
        """Who was granted this action."""
        return [row.party for row in self.rows if action in row.actions]

    def includes(self, parties: Sequence[str]) -> bool:
        """Whether any action was granted to one of `parties`."""
        return any(row.party in parties for row in self.rows)


FOREVER_US = 2**63
