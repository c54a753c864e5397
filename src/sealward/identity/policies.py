"""The few static policies, and the one place that asks Cedar.

Grants are data, so these texts are reviewed once. `init` puts them into the snapshot's section `policies`; decisions are made by
what the snapshot holds. Cedar skips a policy whose evaluation fails, so a forbid that fails would permit. Therefore: policies
are validated against the schema when they are loaded, entities and every request too, and an allow with an error is a deny.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

import cedarpy
import orjson

from sealward.errors import Reason, Refused


@dataclass(frozen=True, slots=True)
class Verdict:
    """`policy_ids`: the @id of each policy that decided. An error has none."""

    outcome: Literal["allow", "deny", "error"]
    policy_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Policies:
    """A validated set of policies. `fault`: why there is none; then every verdict is an error, which is a deny.

    Entities that were parsed and checked once are kept by their exact bytes: an epoch that changes something else decides anew
    about callers and models that it has met.
    """

    fault: str
    _set: Any = None
    _parsed: dict[bytes, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, rows: Mapping[str, Mapping[str, Any]]) -> Policies:
        """From the rows of section `policies`. It never raises: a door that cannot read its policies must go on refusing."""
        try:
            return cls("", _parse(rows))
        except ValueError as error:
            return cls(str(error))

    def ask(self, request: dict[str, Any], entities: Sequence[Mapping[str, Any]]) -> Verdict:
        """One evaluation over exactly the entities that it needs; anything but a clean allow or deny is an error."""
        if self.fault:
            return Verdict("error")
        try:
            found = cedarpy.is_authorized(request, self._set, self._entities(orjson.dumps(entities)), SCHEMA)
        except ValueError:
            return Verdict("error")
        if found.diagnostics.errors or found.decision not in _OUTCOMES:
            return Verdict("error")
        return Verdict(_OUTCOMES[found.decision], tuple(sorted(found.diagnostics.id_annotations_by_reason.values())))

    def _entities(self, text: bytes) -> Any:
        """Checked against the schema; ValueError where they do not fit it."""
        data = self._parsed.get(text)
        if data is None:
            data = cedarpy.Entities.from_json_str(text.decode(), SCHEMA)
            if len(self._parsed) >= CACHE:
                self._parsed.clear()
            self._parsed[text] = data
        return data


def packaged(max_age_days: int) -> dict[str, dict[str, str]]:
    """The rows that `init` writes; keys older than `max_age_days` do nothing."""
    rows = {}
    for file in (resources.files(__package__) / "policies").iterdir():
        if file.name.endswith(".cedar"):
            text = file.read_text("ascii").replace(">= 90 }", f">= {max_age_days} }}")
            rows[file.name.removesuffix(".cedar")] = {"text": text}
    return rows


def require(rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Refused(policy_error) for policies that would not load: nobody may publish them."""
    fault = Policies.load(rows).fault
    if fault:
        raise Refused(Reason.POLICY_ERROR, fault)


def _parse(rows: Mapping[str, Mapping[str, Any]]) -> Any:
    if not 1 <= len(rows) <= MAX_POLICIES:
        raise ValueError(f"{len(rows)} policies, not 1 to {MAX_POLICIES}: a grant is a row of data, not a policy")
    for name, row in rows.items():
        if [found[1] for found in _ANNOTATION.finditer(row["text"])] != [name]:
            raise ValueError(f"policy {name} has not exactly one @id of this name")
    text = "\n".join(row["text"] for row in rows.values())
    checked = cedarpy.validate_policies(text, SCHEMA)
    if not checked.validation_passed:
        raise ValueError("; ".join(str(fault.error) for fault in checked.errors))
    return cedarpy.PolicySet.from_str(text)


MAX_POLICIES, CACHE = 20, 4096
SCHEMA = cedarpy.Schema.from_str((resources.files(__package__) / "policies" / "schema.cedarschema").read_text("ascii"))
_ANNOTATION = re.compile(r'@id\("([^"]*)"\)')
_OUTCOMES: Mapping[Any, Literal["allow", "deny"]] = {cedarpy.Decision.Allow: "allow", cedarpy.Decision.Deny: "deny"}
