"""What was done to a journal as a whole: keys erased, legal holds, entries archived.

A fold that every writer has, whatever others it has. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sealward.events import Event


@dataclass(frozen=True, slots=True)
class Hold:
    """Entries that must stay as they are, from `first` to `last`, both included; `last` None: all that come too."""

    first: int = 0
    last: int | None = None

    @classmethod
    def parse(cls, target: str) -> Hold | None:
        """Inverse of `str`: `journal` or `journal:FIRST-LAST`."""
        found = _TARGET.fullmatch(target)
        if found is None:
            return None
        return cls() if found[1] is None else cls(int(found[1]), int(found[2]))

    def covers(self, first: int, last: int) -> bool:
        """Whether one of these entries is held."""
        return first <= (last if self.last is None else self.last) and self.first <= last

    def __str__(self) -> str:
        return "journal" if self.last is None else f"journal:{self.first}-{self.last}"


class Chronicle:
    """`erased`: kids; `held`: holds that nothing released; `archived`: entries before this index are in an archive."""

    def __init__(self) -> None:
        self.erased: set[str] = set()
        self.held: set[Hold] = set()
        self.archived = 0

    def apply(self, event: Event) -> None:
        """One durable event of `KINDS`."""
        match event["type"]:
            case "journal.erased":
                self.erased.update(event["erasure"].get("kids", ()))
            case "journal.archived":
                self.archived = max(self.archived, event["archive"]["to_seq"] + 1)
            case kind:
                hold = Hold.parse(event["change"]["target"])
                if hold is not None:
                    (self.held.add if kind == "journal.held" else self.held.discard)(hold)

    def dump(self) -> dict[str, Any]:
        """The state as JSON."""
        return {"erased": sorted(self.erased), "held": sorted(map(str, self.held)), "archived": self.archived}

    def load(self, state: dict[str, Any]) -> None:
        """What `dump` gave, or nothing."""
        self.erased = set(state.get("erased", ()))
        self.held = {hold for text in state.get("held", ()) if (hold := Hold.parse(text)) is not None}
        self.archived = state.get("archived", 0)


KINDS = frozenset({"journal.erased", "journal.archived", "journal.held", "journal.released"})
_TARGET = re.compile(r"journal(?::(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15}))?")
