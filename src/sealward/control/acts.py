"""What each control verb does to a snapshot: pure functions from the snapshot to an `Act`, or Refused.

The id of a target is in the text `target` of the event, so that an intent alone says what was taken away: `again`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sealward.errors import Reason, Refused
from sealward.events import Event
from sealward.formats.ids import is_id, parse_rfc3339, rfc3339
from sealward.formats.snapshot import Snapshot
from sealward.identity.actions import MODEL_ACTIONS
from sealward.identity.roles import RESERVED

Row = Mapping[str, Any]
Op = list[Any]


@dataclass(frozen=True, slots=True)
class Act:
    """One change and how its event tells it. `before`, `after`: words for people; `model`: that member of the event."""

    event: str
    target: str
    action: str
    ops: tuple[Op, ...] = field(repr=False)
    before: str = ""
    after: str = ""
    model: Mapping[str, str] | None = None


def create_subject(snapshot: Snapshot, ident: str, kind: str, groups: list[str]) -> Act:
    """A person or service without any role: what it may do is given by verbs of their own."""
    if ident in RESERVED or not is_id(ident) or len(ident) > MAX_NAMED:
        raise _refused(f"{ident} is no id for a subject", 400)
    if ident in snapshot.sections["subjects"]:
        raise _refused(f"{ident} is already there", 409)
    row = {"kind": kind, "groups": groups, "roles": []}
    return Act("subject.created", ident, "create", (_put("subjects", ident, row),), after=f"{kind} {' '.join(groups)}".strip())


def disable_subject(snapshot: Snapshot, ident: str, kind: str = "") -> Act:
    """All its keys prove nothing from now on."""
    row = _subject(snapshot, ident, kind)
    if "disabled" in row:
        raise _refused(f"{ident} is disabled already", 409)
    return Act("subject.disabled", ident, "disable", (_put("subjects", ident, {**row, "disabled": True}),))


def enable_subject(snapshot: Snapshot, ident: str, kind: str) -> Act:
    """What it had before it was disabled."""
    row = _subject(snapshot, ident, kind)
    if "disabled" not in row:
        raise _refused(f"{ident} is not disabled", 409)
    return Act("subject.changed", ident, "enable", (_put("subjects", ident, _without(row, "disabled")),))


def create_key(snapshot: Snapshot, key_id: str, row: Row) -> Act:
    """`row` as in the schema; its owner must be there and enabled."""
    if "disabled" in _subject(snapshot, row["owner"]):
        raise _refused(f"{row['owner']} is disabled", 409)
    for model in row.get("bindings", {}).get("models", ()):
        _row(snapshot, "models", model, f"model {model}")
    after = f"owner {row['owner']}, expires {row['expires'][:10]}"
    return Act("apikey.created", f"apikey:{key_id}", "create", (_put("keys", key_id, row),), after=after)


def rotate_key(snapshot: Snapshot, key_id: str, hmac: str, now_us: int, overlap_us: int) -> Act:
    """The new secret lives as long as the one before was given; that one for `overlap_us`, never beyond its own end."""
    row = _row(snapshot, "keys", key_id, f"key {key_id}")
    if "suspended" in row:
        raise _refused(f"key {key_id} is suspended", 409)
    life_us = parse_rfc3339(row["expires"]) - parse_rfc3339(row["created"])
    old = {"hmac": row["hmac"], "retires_at": min(rfc3339(now_us + overlap_us), row["expires"])}
    new = {**row, "hmac": hmac, "created": rfc3339(now_us), "expires": rfc3339(now_us + life_us), "old": old}
    before, after = (f"expires {found['expires'][:10]}" for found in (row, new))
    return Act("apikey.rotated", f"apikey:{key_id}", "rotate", (_put("keys", key_id, new),), before, after)


def suspend_key(snapshot: Snapshot, key_id: str) -> Act:
    """It proves nothing, its row stays."""
    row = _row(snapshot, "keys", key_id, f"key {key_id}")
    if "suspended" in row:
        raise _refused(f"key {key_id} is suspended already", 409)
    return Act("apikey.suspended", f"apikey:{key_id}", "suspend", (_put("keys", key_id, {**row, "suspended": True}),))


def confirm_key(snapshot: Snapshot, key_id: str) -> Act:
    """A suspended key proves its owner again: somebody has looked at it."""
    row = _row(snapshot, "keys", key_id, f"key {key_id}")
    if "suspended" not in row:
        raise _refused(f"key {key_id} is not suspended", 409)
    return Act("config.changed", f"apikey:{key_id}", "confirm", (_put("keys", key_id, _without(row, "suspended")),))


def revoke_key(snapshot: Snapshot, key_id: str) -> Act:
    """Both its secrets, for ever."""
    row = _row(snapshot, "keys", key_id, f"key {key_id}")
    return Act("apikey.revoked", f"apikey:{key_id}", "revoke", (["del", "keys", key_id],), before=f"owner {row['owner']}")


def assign_role(snapshot: Snapshot, role: str, ident: str) -> Act:
    """The role's kinds of acts, from now on."""
    _row(snapshot, "roles", role, f"role {role}")
    row = _subject(snapshot, ident)
    if role in row["roles"]:
        raise _refused(f"{ident} has the role {role} already", 409)
    return Act("role.granted", f"{ident}:{role}", "assign", (_put("subjects", ident, {**row, "roles": [*row["roles"], role]}),))


def remove_role(snapshot: Snapshot, role: str, ident: str) -> Act:
    """The role as given to the subject itself; what its groups have stays."""
    row = _subject(snapshot, ident)
    if role not in row["roles"]:
        raise _refused(f"{ident} was not given the role {role}", 404)
    kept = [name for name in row["roles"] if name != role]
    return Act("role.removed", f"{ident}:{role}", "remove", (_put("subjects", ident, {**row, "roles": kept}),))


def add_grant(snapshot: Snapshot, grant_id: str, row: Row) -> Act:
    """`row` as in the schema. A group needs no row of its own; everything else that it names must be there."""
    kind, _, ident = row["to"].partition(":")
    if kind == "subject":
        _subject(snapshot, ident)
    elif kind == "role":
        _row(snapshot, "roles", ident, f"role {ident}")
    _row(snapshot, "models", row["model"], f"model {row['model']}")
    if not set(row["actions"]) <= set(MODEL_ACTIONS):
        raise _refused(f"actions on models are {', '.join(MODEL_ACTIONS)}", 400)
    if any(dict(row) == known for known in snapshot.sections["grants"].values()):
        raise _refused("this was granted already", 409)
    return Act("grant.added", f"grant:{grant_id}", "add", (_put("grants", grant_id, row),), after=_told(row))


def remove_grant(snapshot: Snapshot, grant_id: str) -> Act:
    """One grant; others may still reach the model."""
    row = _row(snapshot, "grants", grant_id, f"grant {grant_id}")
    return Act("grant.removed", f"grant:{grant_id}", "remove", (["del", "grants", grant_id],), before=_told(row))


def approve_model(snapshot: Snapshot, ident: str, digest: str | None, settings_row: Row | None) -> Act:
    """Its present digest, or a new one. A model that only the settings know needs `digest`."""
    row = snapshot.sections["models"].get(ident) or (settings_row if digest else None)
    if row is None:
        raise _refused(f"model {ident} is not here" if settings_row is None else f"model {ident} is new: name its digest", 404)
    new = {**row, "digest": digest or row["digest"], "stage": row["stage"] if row["stage"] == "deployed" else "approved"}
    if new == snapshot.sections["models"].get(ident):
        raise _refused(f"model {ident} is approved already", 409)
    if new["digest"] != row.get("digest"):
        new = _without(new, "signature_id")
    return _on_model("model.approved", "approve", ident, new)


def deploy_model(snapshot: Snapshot, ident: str) -> Act:
    """From approved."""
    row = _row(snapshot, "models", ident, f"model {ident}")
    if row["stage"] != "approved":
        raise _refused(f"model {ident} is {row['stage']}, not approved", 409)
    return _on_model("model.deployed", "deploy", ident, {**row, "stage": "deployed"})


def retire_model(snapshot: Snapshot, ident: str) -> Act:
    """Nobody is served by it any more."""
    row = _row(snapshot, "models", ident, f"model {ident}")
    if row["stage"] == "retired":
        raise _refused(f"model {ident} is retired already", 409)
    return _on_model("model.withdrawn", "retire", ident, {**row, "stage": "retired"})


def revoke_tokens(snapshot: Snapshot, issuer: str, ident: str, now_us: int) -> Act:
    """The token (or, by its `sid`, the session) `ident` of an issuer's row; all that were made until now where it is empty.

    What has expired by itself is forgotten on the way.
    """
    row = _row(snapshot, "issuers", issuer, f"issuer {issuer}")
    if not ident:
        before = rfc3339(now_us)
        told = f"made before {before}"
        return Act("token.revoked", issuer, "revoke", (_put("issuers", issuer, {**row, "not_before": before}),), after=told)
    if len(target := f"{issuer} {ident}") > MAX_TARGET:
        raise _refused("a token with so long a name is revoked with all others of its issuer, or by disabling its subject", 400)
    ends = rfc3339(now_us + row["max_age"] * 1_000_000)
    revoked = {name: until for name, until in row.get("revoked", {}).items() if until > rfc3339(now_us)} | {ident: ends}
    if len(revoked) > MAX_REVOKED:
        raise _refused("too many revoked tokens are still alive: revoke all of the issuer's", 409)
    return Act("token.revoked", target, "revoke", (_put("issuers", issuer, {**row, "revoked": revoked}),), after=f"until {ends}")


def set_limit(snapshot: Snapshot, name: str, row: Row | None) -> Act:
    """The whole row; None takes it away, then `default` counts."""
    before = snapshot.sections["limits"].get(name)
    if row is None and before is None:
        raise _refused(f"{name} has no limit of its own", 404)
    op: Op = ["del", "limits", name] if row is None else _put("limits", name, row)
    return Act("limit.changed", f"limit:{name}", "set" if row else "unset", (op,), _limits(before), _limits(row))


def set_capture(snapshot: Snapshot, name: str, level: str | None) -> Act:
    """A cap on what is captured of `default`, `subject:ID` or `group:ID`; None takes it away."""
    before = snapshot.sections["capture"].get(name)
    if level is None and before is None:
        raise _refused(f"{name} has no cap of its own", 404)
    op: Op = ["del", "capture", name] if level is None else ["put", "capture", name, level]
    return Act("capture.changed", f"capture:{name}", "set" if level else "unset", (op,), str(before or ""), level or "")


def distrust(sections: Mapping[str, Mapping[str, Row]], now: str) -> list[Op]:
    """After a rollback: what was revoked since may be back, so every key waits to be confirmed, and no older token counts."""
    keys = [_put("keys", ident, {**row, "suspended": True}) for ident, row in sections["keys"].items() if "suspended" not in row]
    return keys + [_put("issuers", ident, {**row, "not_before": now}) for ident, row in sections["issuers"].items()]


def again(event: Event, snapshot: Snapshot) -> Act | None:
    """What an intent without an outcome would take away and has not yet; None for every intent that gives something."""
    verb = TAKING.get(event["type"])
    if verb is None:
        return None
    try:
        return verb(snapshot, event["change"]["target"], parse_rfc3339(event["time"]))
    except Refused:
        return None  # it is gone


def _issuer_and_token(target: str) -> tuple[str, str]:
    issuer, _, ident = target.partition(" ")
    return issuer, ident


def _remove_role(snapshot: Snapshot, target: str) -> Act:
    ident, _, role = target.rpartition(":")
    return remove_role(snapshot, role, ident)


def _on_model(event: str, action: str, ident: str, row: Row) -> Act:
    model = {"alias": ident, "id": ident, "digest": row["digest"]}
    return Act(event, ident, action, (_put("models", ident, row),), after=row["stage"], model=model)


def _subject(snapshot: Snapshot, ident: str, kind: str = "") -> Row:
    row = _row(snapshot, "subjects", ident, ident)
    if kind and row["kind"] != kind:
        raise _refused(f"{ident} is not here", 404)
    return row


def _row(snapshot: Snapshot, section: str, ident: str, name: str) -> Row:
    row: Row | None = snapshot.sections[section].get(ident)
    if row is None:
        raise _refused(f"{name} is not here", 404)
    return row


def _refused(detail: str, status: int) -> Refused:
    return Refused(Reason.BODY_FIELD, detail, status=status)


def _put(section: str, ident: str, row: Row) -> Op:
    return ["put", section, ident, dict(row)]


def _without(row: Row, name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


def _limits(row: Row | None) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted((row or {}).items()))


def _told(row: Row) -> str:
    until = f" until {row['until']}" if "until" in row else ""
    return f"{row['to']} {row.get('model', '')} {' '.join(row.get('actions', ()))}{until}"


MAX_TARGET = 128  # of an event
MAX_REVOKED = 4096  # of the schema
MAX_NAMED = 119  # so that "subject:ID" is an id of section `limits`
TAKING: Mapping[str, Callable[[Snapshot, str, int], Act]] = {
    "apikey.revoked": lambda snapshot, target, _: revoke_key(snapshot, target.removeprefix("apikey:")),
    "apikey.suspended": lambda snapshot, target, _: suspend_key(snapshot, target.removeprefix("apikey:")),
    "subject.disabled": lambda snapshot, target, _: disable_subject(snapshot, target),
    "role.removed": lambda snapshot, target, _: _remove_role(snapshot, target),
    "grant.removed": lambda snapshot, target, _: remove_grant(snapshot, target.removeprefix("grant:")),
    "model.withdrawn": lambda snapshot, target, _: retire_model(snapshot, target),
    "token.revoked": lambda snapshot, target, made_us: revoke_tokens(snapshot, *_issuer_and_token(target), made_us),
}
