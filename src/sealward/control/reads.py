"""The verbs of the admin API that only tell: always what the signed snapshot says. No digest of a secret leaves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Request

from sealward.control.changes import CallDep, OfficeDep
from sealward.control.forms import Purpose
from sealward.errors import Reason, Refused
from sealward.formats.b64 import b64
from sealward.formats.event import tidy_text
from sealward.formats.ids import ULID, rfc3339

Answer = dict[str, Any]


async def status(office: OfficeDep) -> Answer:
    """Where control stands."""
    now = office.snapshot
    return {"epoch": now.epoch, "digest": now.digest, "issued": now.issued, "policy_digest": now.policy_digest}


async def openapi(request: Request) -> Answer:
    """This API as OpenAPI."""
    described: Answer = request.app.openapi()
    return described


async def users(office: OfficeDep) -> list[Answer]:
    """People."""
    return [row for row in _rows(office, "subjects") if row["kind"] == "human"]


async def services(office: OfficeDep) -> list[Answer]:
    """Services."""
    return [row for row in _rows(office, "subjects") if row["kind"] == "service"]


async def apikeys(office: OfficeDep) -> list[Answer]:
    """Keys with their state; `expires_soon` as the settings say."""
    now = office.author.clock.now()
    soon = rfc3339(now + office.settings.identity.apikey.warn * 1_000_000)
    rows = office.snapshot.sections["keys"].items()
    return [_key(ident, row, rfc3339(now)) | {"expires_soon": row["expires"] <= soon} for ident, row in sorted(rows)]


async def roles(office: OfficeDep) -> list[Answer]:
    """Roles, their actions, and who was given them."""
    subjects = office.snapshot.sections["subjects"]
    return [
        row | {"subjects": sorted(ident for ident, subject in subjects.items() if row["id"] in subject["roles"])}
        for row in _rows(office, "roles")
    ]


async def grants(office: OfficeDep) -> list[Answer]:
    """Who may do what on which model."""
    return _rows(office, "grants")


async def models(office: OfficeDep) -> list[Answer]:
    """Models and their stages."""
    return _rows(office, "models")


async def model(office: OfficeDep, id: str) -> Answer:  # noqa: A002 - the route's own word
    """One model."""
    row = office.snapshot.sections["models"].get(id)
    if row is None:
        raise Refused(Reason.BODY_FIELD, f"model {id} is not here", status=404)
    return {"id": id, **row}


async def limits(office: OfficeDep) -> list[Answer]:
    """Limits by what they are for."""
    return _rows(office, "limits")


async def capture(office: OfficeDep) -> list[Answer]:
    """How much is captured of whom, at most."""
    return [{"id": ident, "level": level} for ident, level in sorted(office.snapshot.sections["capture"].items())]


async def body(office: OfficeDep, call: CallDep, id: str, form: Purpose) -> Answer:  # noqa: A002 - the route's own word
    """What was captured of request `id`, base64; who reads, and why, is in the journal before anything is opened."""
    if office.bodies is None:
        raise Refused(Reason.KEY_UNAVAILABLE)
    if not ULID.fullmatch(id):
        raise Refused(Reason.BODY_FIELD, f"{id} is not the id of a request", status=404)
    read = {"query": f"bodies of {id}", "purpose": tidy_text(form.because)}
    event = office.author.event("journal.read", call.principal.subject(), **call.members(), read=read)
    opened = await office.bodies.read(id, event)
    return {"request": id} | {side: b64(data) for side, data in opened.items()}


async def policies(office: OfficeDep) -> list[Answer]:
    """The Cedar policies that decide."""
    return _rows(office, "policies")


def _rows(office: OfficeDep, section: str) -> list[Answer]:
    return [{"id": ident, **row} for ident, row in sorted(office.snapshot.sections[section].items())]


def _key(ident: str, row: Mapping[str, Any], now: str) -> Answer:
    shown = {name: value for name, value in row.items() if name not in {"hmac", "old", "suspended"}}
    state = "suspended" if "suspended" in row else "expired" if row["expires"] <= now else "active"
    old = row.get("old", {}).get("retires_at", "")
    return {"id": ident, **shown, "state": state} | ({"old_retires_at": old} if old > now else {})


READS: Mapping[str, Callable[..., Any]] = {
    "openapi.get": openapi,
    "status.get": status,
    "user.list": users,
    "service.list": services,
    "apikey.list": apikeys,
    "role.list": roles,
    "grant.list": grants,
    "model.list": models,
    "model.show": model,
    "limit.list": limits,
    "policy.list": policies,
    "capture.list": capture,
    "journal.body": body,
}
