"""OCSF 1.8.0: inference as API Activity with the profile `ai_operation`, alerts as findings, the rest by what it changes.

The entry's place stands in `metadata` (uid, log_name, sequence), its leaf in `unmapped`: 1.9's `record_integrity` is a
fingerprint of the OCSF record itself, which this is not. The model's digest is `ai_model.version`.
"""

from __future__ import annotations

from typing import NamedTuple

from sealward.errors import REASONS, Reason
from sealward.formats.ids import parse_rfc3339
from sealward.journal.exports.record import MAPPED, Json, Record, present


def ocsf(record: Record) -> Json:
    """One event."""
    kind = record.event["type"]
    chosen = KINDS.get(kind) or KINDS.get(kind.partition(".")[0]) or ENTITY
    activity = ACTIVITIES.get(chosen.uid, {}).get(kind.partition(".")[2], OTHER)
    name = chosen.activity or kind if activity == OTHER else ACTIVITY_NAMES[chosen.uid][activity]
    base = {
        "class_uid": chosen.uid,
        "class_name": chosen.name,
        "category_uid": chosen.uid // 1000,
        "category_name": CATEGORIES[chosen.uid // 1000],
        "activity_id": activity,
        "activity_name": name,
        "type_uid": chosen.uid * 100 + activity,
        "time": _ms(record.event["time"]),
        "severity_id": record.level.ocsf,
        "metadata": _metadata(record),
    }
    return base | BUILD[chosen.uid](record)


class _Class(NamedTuple):
    """`activity`: what it is called where OCSF has no number for it."""

    uid: int
    name: str
    activity: str = ""


# -- classes --


def _api(record: Record) -> Json:
    event = record.event
    operation, refusal, source = event.get("operation", {}), event.get("refusal", {}), event.get("source", {})
    path = operation.get("route") or refusal.get("target")
    fields = _common(record) | {
        "actor": _actor(record),
        "api": {
            "operation": operation.get("name") or refusal.get("stage") or event["type"],
            "service": {"name": event["type"].partition(".")[0]},
        },
        "src_endpoint": present(ip=source.get("addr"), port=source.get("port")) or {"name": event["instance"]},
    }
    fields |= present(
        http_request=present(http_method=operation.get("method") or refusal.get("method"), url=present(path=path)),
        count=refusal.get("count"),
        start_time=_ms(refusal["first"]) if "first" in refusal else None,
        end_time=_ms(refusal["last"]) if "last" in refusal else None,
    )
    return fields | (_ai(event) if event["type"].startswith("inference.") else {})


def _ai(event: Json) -> Json:
    model, outcome = event.get("model"), event.get("outcome", {})
    usage = present(prompt_tokens=outcome.get("input_tokens"), completion_tokens=outcome.get("output_tokens"))
    return present(
        ai_model=model
        and present(
            name=model["alias"],
            uid=model.get("id"),
            version=model.get("digest"),
            ai_provider=model.get("provider", "Internal"),
        ),
        message_context=usage
        and present(
            ai_role_id=2,
            ai_role="Assistant",
            application={"name": event.get("source", {}).get("client") or "unknown"},
            name=event.get("link", {}).get("conversation"),
            total_tokens=sum(usage.values()),
        )
        | usage,
        duration=outcome["total_us"] // 1000 if "total_us" in outcome else None,
    )


def _account(record: Record) -> Json:
    return _common(record) | {"actor": _actor(record), "user": {"uid": record.target or record.event["subject"]["id"]}}


def _authentication(record: Record) -> Json:
    return _common(record) | {"actor": _actor(record), "user": _user(record.event["subject"]), "service": {"name": "sealward"}}


def _entity(record: Record) -> Json:
    noun = record.event["type"].partition(".")[0]
    return _common(record) | {
        "actor": _actor(record),
        "entity": {"uid": record.target or record.event["instance"], "type_id": 99, "type": noun},
    }


def _detection(record: Record) -> Json:
    event, alert = record.event, record.event["alert"]
    cues = "; ".join(f"{cue['name']}: {cue['value']} (usual: {cue['baseline']})" for cue in alert["cues"])
    analytic = {"name": alert.get("detector", alert["detection"]), "type_id": 2, "type": "Behavioral"}
    return {
        "status_id": STATES.get(alert.get("state", "open"), 1),
        "start_time": _ms(alert["start"]),
        "end_time": _ms(alert["end"]),
        "confidence_score": alert["score_ppm"] // 10_000,
        "finding_info": {
            "uid": event["id"],
            "title": alert["detection"],
            "created_time": _ms(event["time"]),
            "analytic": analytic,
            **present(desc=cues),
        },
        **present(evidences=[{"data": {"log": record.origin, "entry": entry}} for entry in alert["entries"]]),
        "observables": [{"name": "actor.user.uid", "type_id": 31, "type": "User UID", "value": alert["subject"]}],
    } | ({"unmapped": {"sealward": {"leaf_sha256": record.leaf}}} if record.leaf else {})


def _compliance(record: Record) -> Json:
    event, check = record.event, record.event.get("check", {})
    state = check.get("state") or event.get("task", {}).get("state", "")
    status = COMPLIANCE.get(state, OTHER)
    return {
        "status_id": 1,
        "message": event["type"],
        "finding_info": {"uid": event["id"], "title": record.target or event["type"], "created_time": _ms(event["time"])},
        "compliance": {"control": record.target or event["type"], "status_id": status} | present(status=state),
        "unmapped": _unmapped(record),
    }


# -- parts --


def _common(record: Record) -> Json:
    event = record.event
    reason = event.get("decision", {}).get("reason")
    status = event.get("outcome", {}).get("status") or (REASONS[Reason(reason)].status if reason in KNOWN else None)
    fields: Json = {"status_id": 2 if record.failed else 1, "message": event["type"], "unmapped": _unmapped(record)}
    return fields | present(status_code=str(status) if status else None, status_detail=reason)


def _metadata(record: Record) -> Json:
    event = record.event
    return {
        "version": VERSION,
        "product": {"name": "sealward", "vendor_name": "sealward"},
        **({"profiles": ["ai_operation"]} if event["type"].startswith("inference.") else {}),
        "uid": event["id"],
        "log_name": record.origin,
        "sequence": record.index,
        "tenant_uid": event["tenant"],
        **present(correlation_uid=event.get("link", {}).get("request")),
    }


def _actor(record: Record) -> Json:
    event = record.event
    subject, decision = event["subject"], event.get("decision", {})
    policies = decision.get("policy_ids") or ["none"]
    authorizations = [
        {"decision": decision["outcome"], "policy": {"uid": policy} | present(version=decision.get("policy_digest"))}
        for policy in policies
        if decision
    ]
    session = present(uid=subject.get("session"))
    return {"user": _user(subject)} | present(session=session, authorizations=authorizations)


def _user(subject: Json) -> Json:
    return {"uid": subject["id"], "type": subject["kind"]} | present(
        groups=[{"name": name} for name in subject.get("groups", ())]
    )


def _unmapped(record: Record) -> Json:
    event = record.event
    found = {"leaf_sha256": record.leaf} if record.leaf else {}
    named = (
        ("source", "segment"),
        ("decision", "epoch"),
        ("model", "signer"),
        ("model", "signature_id"),
        ("model", "attestation"),
    )
    found |= {member: event[group][member] for group, member in named if member in event.get(group, {})}
    named_user = event["subject"].get("on_behalf_of")
    found |= {name: value for name, value in event.items() if name not in MAPPED and name != "refusal"}
    return {"sealward": found | present(on_behalf_of=named_user)}


def _ms(time: str) -> int:
    return parse_rfc3339(time) // 1000


VERSION = "1.8.0"
OTHER = 99
CATEGORIES = {2: "Findings", 3: "Identity & Access Management", 6: "Application Activity"}
ENTITY = _Class(3004, "Entity Management")
ACCOUNT, AUTHENTICATION = _Class(3001, "Account Change"), _Class(3002, "Authentication")
COMPLIANCE_FINDING = _Class(2003, "Compliance Finding")
API = _Class(6003, "API Activity", "Request")
KINDS = {
    "inference": _Class(6003, "API Activity", "Inference"),
    "request": API,
    "access": API,
    "admin": API,
    "auth": AUTHENTICATION,
    "session": AUTHENTICATION,
    "breakglass": AUTHENTICATION,
    "token": AUTHENTICATION,
    "apikey": ACCOUNT,
    "subject": ACCOUNT,
    "role": ACCOUNT,
    "grant": ACCOUNT,
    "monitor.alert": _Class(2004, "Detection Finding"),
    "compliance": COMPLIANCE_FINDING,
    "rollout": COMPLIANCE_FINDING,
}
"""By type, else by its first word; everything else manages an entity."""
BUILD = {6003: _api, 3001: _account, 3002: _authentication, 3004: _entity, 2004: _detection, 2003: _compliance}
ACTIVITIES = {
    6003: {"read": 2},
    3001: {"created": 1, "disabled": 5, "suspended": 9, "deleted": 6, "revoked": 6, "granted": 7, "added": 7, "removed": 8},
    3002: {"login": 1, "failed": 1, "logout": 2},
    3004: {"created": 1, "imported": 1, "read": 2, "changed": 3, "rotated": 3, "withdrawn": 11, "deployed": 10, "disabled": 9},
    2004: {"alert": 1},
    2003: {"checked": 1, "task": 1},
}
ACTIVITY_NAMES = {
    6003: {2: "Read"},
    3001: {1: "Create", 5: "Disable", 6: "Delete", 7: "Attach Policy", 8: "Detach Policy", 9: "Lock"},
    3002: {1: "Logon", 2: "Logoff"},
    3004: {1: "Create", 2: "Read", 3: "Update", 9: "Disable", 10: "Activate", 11: "Deactivate"},
    2004: {1: "Create"},
    2003: {1: "Create"},
}
STATES = {"open": 1, "confirmed": 2, "closed": 4, "false": 3}
COMPLIANCE = {"satisfied": 1, "done": 1, "partial": 2, "not-satisfied": 3, "not done": 3, "regressed": 3}
KNOWN = frozenset(Reason)
