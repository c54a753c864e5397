"""The first change: what a new deployment starts from. `init` leaves it pending, the first `up` carries it out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sealward import settings as config
from sealward.control import state
from sealward.control.acts import Op
from sealward.control.author import Author
from sealward.control.trust import OWN, own_row
from sealward.events import system_subject
from sealward.formats.change import Change
from sealward.formats.snapshot import GENESIS
from sealward.identity.policies import packaged
from sealward.identity.roles import BUILT_IN


def create_state(path: Path, ops: list[Op], author: Author) -> None:
    """Makes the state database at `path` with the first change pending. ConfigurationError when there is one already."""
    change = Change("init", tuple(ops), GENESIS.digest, author.random(32).hex())
    told = {"target": "deployment", "action": "init"}
    state.create(path, change, author.event("config.changed", system_subject("init"), change=told))


def first_ops(
    settings: config.Settings, model_digests: Mapping[str, str], log_vkey: str, token_jwk: Mapping[str, str] | None = None
) -> list[Op]:
    """Roles, policies, models (approved by this act and deployed), limits, capture, modes, inspection, trust and our own issuer.

    `model_digests`: `sha256:…` by the ids of the settings' models; `log_vkey` pins the journal, `token_jwk` our tokens' key.
    """
    max_age_days = -(-settings.identity.apikey.max_age // DAY_S)
    sections: dict[str, Mapping[str, Any]] = {
        "roles": {name: {"actions": list(actions)} for name, actions in BUILT_IN.items()},
        "policies": packaged(max_age_days),
        "models": {name: model_row(settings, name) | {"digest": digest} for name, digest in model_digests.items()},
        "limits": {name: limit.model_dump(exclude_none=True) for name, limit in settings.limits.items()},
        "capture": {"default": max((model.capture for model in settings.models.values()), key=LEVELS.index, default="digest")},
        "modes": {name: _mode(mode) for name, mode in settings.modes},
        "inspection": settings.inspection.model_dump(),
        "issuers": {OWN: own_row(settings, token_jwk)} if token_jwk is not None else {},
        "trust": {"log": {"vkey": log_vkey}} | _sidecars(settings),
    }
    return [["put", section, ident, row] for section, rows in sections.items() for ident, row in rows.items() if row != {}]


def model_row(settings: config.Settings, name: str) -> dict[str, Any]:
    """The row of one of the settings' models, deployed, without its digest."""
    model = settings.models[name]
    row: dict[str, Any] = {
        "stage": "deployed",
        "kind": model.runtime.kind,
        "sidecars": [_sidecar(name, model)],
        "capture": model.capture,
    }
    row |= {"prefix_cache": model.prefix_cache, "max_output": model.max_output}
    return row | ({"aliases": list(model.aliases)} if model.aliases else {})


def _sidecars(settings: config.Settings) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, model in settings.models.items():
        direct = {"url": model.runtime.url, "danger_direct": True}
        rows[f"sidecar:{_sidecar(name, model)}"] = direct if model.runtime.danger_direct else {"local": True}
    return rows


def _sidecar(name: str, model: config.Model) -> str:
    """A runtime without a sidecar has a row of its own, under the model's name."""
    return f"direct-{name}" if model.runtime.danger_direct else model.runtime.sidecar


def _mode(mode: str | config.Observe) -> Any:
    return {"observe": dt.date.isoformat(mode.observe)} if isinstance(mode, config.Observe) else mode


LEVELS = ("none", "digest", "body")
DAY_S = 86_400
