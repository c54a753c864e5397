"""Entries for people, one a line, in colour on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from sealward.cli.output import Output


class Lines:
    """Rows on stdout: as JSON where asked, else a line each; colour only where somebody looks (and NO_COLOR is not set)."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._console = Console(highlight=False, soft_wrap=True) if sys.stdout.isatty() and not out.as_json else None

    def say(self, row: dict[str, Any]) -> None:
        """One entry, at once."""
        if self._console is not None:
            self._console.print(Text.assemble(*_parts(row)))
        else:
            self._out.data(row, line_of(row))


def line_of(row: dict[str, Any]) -> str:
    """An entry without colour."""
    return "".join(text for text, _ in _parts(row))


def _parts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Its words, each with its style."""
    index = (f"{row['index']:>8}  ", "dim")
    if "event" not in row:
        return [index, (row["header"]["time"], "dim"), ("  erased", "dim italic")]
    event = row["event"]
    return [
        index,
        (f"{event['time'][:23]}Z  ", "dim"),
        (f"{event['type']:<20}", _style(event)),
        ("  " + "  ".join(str(fact) for fact in _facts(event) if fact), ""),
    ]


def _facts(event: dict[str, Any]) -> list[Any]:
    decision, link = event.get("decision", {}), event.get("link", {})
    model, refusal = event.get("model", {}), event.get("refusal", {})
    return [
        event["subject"]["id"],
        model.get("id") or model.get("alias"),
        decision.get("reason") or decision.get("outcome"),
        event.get("process", {}).get("name") or event.get("change", {}).get("target"),
        f"x{refusal['count']}" if "count" in refusal else None,
        link.get("request"),
    ]


def _style(event: dict[str, Any]) -> str:
    """Red: refused or broken. Yellow: cut short. Green: served. Magenta: an alert. Cyan: somebody changed something."""
    kind = event["type"]
    if "alert" in event:
        return "bold magenta"
    if event.get("decision", {}).get("outcome", "allow") != "allow" or kind.endswith(BAD):
        return "red"
    if kind.endswith((".aborted", ".recovered", ".stale", ".drift")):
        return "yellow"
    if kind == "inference.completed":
        return "green"
    return "cyan" if "change" in event or "approval" in event else ""


BAD = (".refused", ".failed", ".denied", ".full", ".gap", ".lost", ".unavailable", ".breach")
