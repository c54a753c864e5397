"""A small deployment's snapshot for the tests of identity and control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sealward.formats.ids import parse_rfc3339, rfc3339
from sealward.formats.snapshot import Snapshot
from sealward.identity.access import Access
from sealward.identity.apikey import ApiKey, issue, stored_digest
from sealward.identity.policies import packaged
from sealward.identity.roles import BUILT_IN
from sealward.keyring.secret import Secret

PEPPER = Secret(bytes(range(32)))
NOW = parse_rfc3339("2026-11-23T09:00:00.000000Z")  # a Monday
DAY = 86_400_000_000
MODEL = {
    "digest": "sha256:" + "1" * 64,
    "stage": "deployed",
    "kind": "llamacpp",
    "sidecars": ["local"],
    "capture": "digest",
    "prefix_cache": "off",
    "max_output": 1024,
}
BOTH = ["model:chat", "model:list"]


def key_row(key: ApiKey, owner: str, **more: Any) -> dict[str, Any]:
    """A row of `keys`, made ten days ago, for 60 days."""
    return {
        "owner": owner,
        "environment": "live",
        "hmac": stored_digest(PEPPER, key.secret.reveal()).hex(),
        "created": rfc3339(NOW - 10 * DAY),
        "expires": rfc3339(NOW + 50 * DAY),
    } | more


def sections(**more: Mapping[str, Any]) -> dict[str, Any]:
    """Ann (consumer, group staff) was granted m1 through her group; Bob is disabled; the others have one role each."""
    rows: dict[str, dict[str, Any]] = {
        "subjects": {
            "ann": {"kind": "human", "groups": ["staff"], "roles": ["consumer"]},
            "bob": {"kind": "human", "groups": ["staff"], "roles": ["consumer"], "disabled": True},
            "eve": {"kind": "human", "groups": [], "roles": ["consumer"]},
            "opal": {"kind": "human", "groups": ["staff"], "roles": ["operator"]},
            "adam": {"kind": "human", "groups": [], "roles": ["model-admin"]},
        },
        "roles": {name: {"actions": list(actions)} for name, actions in BUILT_IN.items()},
        "grants": {"g-1": {"to": "group:staff", "model": "m1", "actions": BOTH}},
        "models": {"m1": MODEL | {"aliases": ["M One"]}, "m2": MODEL, "old": MODEL | {"stage": "retired"}},
        "policies": packaged(90),
    }
    return {name: rows.get(name, {}) | dict(more.get(name, {})) for name in {*rows, *more}}


def snapshot(**more: Mapping[str, Any]) -> Snapshot:
    """Epoch 7, with these rows."""
    return Snapshot.of(7, rfc3339(NOW), "sha256:" + "0" * 64, sections(**more))


def access(**more: Mapping[str, Any]) -> Access:
    """What a door would decide from."""
    return Access.build(snapshot(**more), PEPPER, "live")


def header(key: ApiKey) -> list[bytes]:
    """The values of `Authorization` that present this key."""
    return [b"Bearer " + key.secret.reveal()]


KEY = issue("live")
