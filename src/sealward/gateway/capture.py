"""How much of a request's content is captured: none, its digest, or its body, sealed for one named reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def level(sections: Mapping[str, Mapping[str, Any]], model: Mapping[str, Any], subject: str) -> str:
    """The least of the row `model`'s capture and of the caps that fit: `default`, the subject's, its groups' (contracts.md 6)."""
    groups = sections["subjects"].get(subject, {}).get("groups", ())
    names = ("default", f"subject:{subject}", *(f"group:{group}" for group in groups))
    caps = [sections["capture"][name] for name in names if name in sections["capture"]]
    found: str = min([model["capture"], *caps], key=LEVELS.index)
    return found


LEVELS = ("none", "digest", "body")
BODY = "body"
