"""The closed shapes of a snapshot (schemas/snapshot.schema.json, normative). In this engine `$` is the end and nothing else."""

from __future__ import annotations

from importlib import resources
from typing import Any

import orjson
from jsonschema_rs import Draft202012Validator

SECTIONS = (
    "subjects", "keys", "issuers", "roles", "grants", "policies", "models", "limits", "inspection", "capture", "modes", "trust",
)  # fmt: skip


def snapshot_fits(value: Any) -> bool:
    """Whether a parsed value is a whole snapshot of the schema."""
    return _WHOLE.is_valid(value)


def row_fits(section: str, ident: str, value: Any) -> bool:
    """Whether `put` may write this row. `section` is one of SECTIONS."""
    return _ROWS[section].is_valid({ident: value})


_SCHEMA = orjson.loads(resources.files("sealward.formats").joinpath("schemas/snapshot.schema.json").read_bytes())
_WHOLE = Draft202012Validator(_SCHEMA)
_ROWS = {
    name: Draft202012Validator({"$schema": _SCHEMA["$schema"], "$defs": _SCHEMA["$defs"], **_SCHEMA["properties"][name]})
    for name in SECTIONS
}
