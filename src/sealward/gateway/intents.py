"""Changes that control meant and that nothing has ended yet: a fold over the journal (contracts.md section 6).

An intent is an event of control with `change.salt`; `snapshot.published` names its index, `change.failed` its digest. What
commits to a token is no intent: it is done when it is signed, or nobody has it.
"""

from __future__ import annotations

from typing import Any

from sealward.events import Event


class Intents:
    """`open`: index → event of the verb, oldest first."""

    def __init__(self) -> None:
        self.open: dict[int, Event] = {}

    def apply(self, index: int, event: Event) -> None:
        if event["type"] == "snapshot.published":
            self.open.pop(event["snapshot"]["intent"], None)
        elif event["type"] == "change.failed":
            for intent in [n for n, meant in self.open.items() if meant["change"]["digest"] == event["change"]["digest"]]:
                del self.open[intent]
        elif "salt" in event.get("change", ()) and event["type"] not in TOKENS:
            self.open[index] = event

    def dump(self) -> dict[str, Any]:
        return {"open": [[index, event] for index, event in self.open.items()]}

    def load(self, state: dict[str, Any]) -> None:
        self.open = dict(state["open"])

    def erased(self, subject: str) -> None:
        self.open = {index: event for index, event in self.open.items() if event["subject"]["id"] != subject}

    def listed(self) -> list[Event]:
        """For control: `[{index, digest, event}]`."""
        return [{"index": index, "digest": event["change"]["digest"], "event": event} for index, event in self.open.items()]


TOKENS = frozenset({"token.minted", "token.exchanged"})
