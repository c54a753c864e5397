"""The verbs of the admin API that change something: each form becomes an act, each act one signed snapshot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import Body, Depends, Request

from sealward.control import acts, genesis
from sealward.control.call import Call
from sealward.control.forms import (
    Approval,
    Assignment,
    Capture,
    Limits,
    NewGrant,
    NewKey,
    NewSubject,
    NewToken,
    Revocation,
    Rotation,
    microseconds,
)
from sealward.control.minting import Wanted, claims_for
from sealward.control.office import Office
from sealward.control.publisher import Published
from sealward.errors import Reason, Refused
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.identity.apikey import ApiKey, issue, stored_digest
from sealward.identity.principal import Principal
from sealward.identity.scope import EVERYTHING, Scope


def office_of(request: Request) -> Office:
    """The process's own."""
    office: Office = request.app.state.office
    return office


def call_of(request: Request) -> Call:
    """What the gate has proven and decided."""
    call: Call = request.state.call
    return call


OfficeDep = Annotated[Office, Depends(office_of)]
CallDep = Annotated[Call, Depends(call_of)]
Answer = dict[str, Any]


async def create_user(office: OfficeDep, call: CallDep, form: NewSubject) -> Answer:
    """A person, without any role yet."""
    made = await office.change(call, lambda now: acts.create_subject(now, form.id, "human", form.groups))
    return _told(made, id=form.id)


async def create_service(office: OfficeDep, call: CallDep, form: NewSubject) -> Answer:
    """A service, without any role yet."""
    made = await office.change(call, lambda now: acts.create_subject(now, form.id, "service", form.groups))
    return _told(made, id=form.id)


async def enable(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the route's own word
    """As before it was disabled."""
    return _told(await office.change(call, lambda now: acts.enable_subject(now, id, _kind(call))), id=id)


async def disable(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """All its keys are refused and its streams cut."""
    return _told(await office.change(call, lambda now: acts.disable_subject(now, id, _kind(call))), id=id)


async def create_key(office: OfficeDep, call: CallDep, form: NewKey) -> Answer:
    """The answer is the only place where the key is ever shown."""
    key = issue(office.settings.identity.environment, random=office.author.random)
    now_us = office.author.clock.now()
    expires_us = now_us + office.settings.identity.apikey.max_age * SECOND_US
    if form.expires is not None:
        wanted = microseconds(form.expires)
        if not now_us < wanted <= expires_us:
            raise Refused(Reason.BODY_FIELD, "expires: not between now and the age limit of the settings")
        expires_us = wanted
    row: dict[str, Any] = {"owner": form.owner, "environment": office.settings.identity.environment, "hmac": _digest(office, key)}
    row |= {"created": rfc3339(now_us), "expires": rfc3339(expires_us)}
    bindings = form.bindings.row() if form.bindings else {}
    if bindings:
        row["bindings"] = bindings
    made = await office.change(call, lambda now: acts.create_key(now, key.id, row))
    return _told(made, id=key.id, key=key.secret.reveal().decode(), owner=form.owner, expires=row["expires"])


async def rotate_key(
    office: OfficeDep,
    call: CallDep,
    id: str,  # noqa: A002 - the same
    form: Annotated[Rotation, Body(default_factory=Rotation)],
) -> Answer:
    """A new secret under the same id; the old one lives on for the overlap."""
    key = issue(office.settings.identity.environment, id, office.author.random)
    hmac, now_us = _digest(office, key), office.author.clock.now()
    made = await office.change(call, lambda now: acts.rotate_key(now, id, hmac, now_us, form.overlap_s * SECOND_US))
    row = office.snapshot.sections["keys"].get(id, {})
    told = {"expires": row.get("expires", ""), "old_retires_at": row.get("old", {}).get("retires_at", "")}
    return _told(made, id=id, key=key.secret.reveal().decode(), **told)


async def suspend_key(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """It proves nothing any more; its row stays."""
    return _told(await office.change(call, lambda now: acts.suspend_key(now, id)), id=id)


async def confirm_key(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """It proves its owner again."""
    return _told(await office.change(call, lambda now: acts.confirm_key(now, id)), id=id)


async def revoke_key(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """New requests are refused and its streams cut, at every door."""
    return _told(await office.change(call, lambda now: acts.revoke_key(now, id)), id=id)


async def assign_role(office: OfficeDep, call: CallDep, role: str, form: Assignment) -> Answer:
    """Its kinds of acts."""
    made = await office.change(call, lambda now: acts.assign_role(now, role, form.subject))
    return _told(made, role=role, subject=form.subject)


async def remove_role(office: OfficeDep, call: CallDep, role: str, id: str) -> Answer:  # noqa: A002 - the same
    """As it was given to the subject itself."""
    return _told(await office.change(call, lambda now: acts.remove_role(now, role, id)), role=role, subject=id)


async def mint_token(office: OfficeDep, call: CallDep, form: NewToken) -> Answer:
    """Shown once. Whoever is a person proves himself: nobody else is given a token in his name."""
    row = office.snapshot.sections["subjects"].get(form.subject)
    if row is None or "disabled" in row or row["kind"] == "human":
        raise Refused(Reason.BODY_FIELD, "subject: no service or workload that may act", status=409)
    try:
        scope = Scope.parse(form.scope) if form.scope is not None else EVERYTHING
    except FormatError as error:
        raise Refused(Reason.BODY_FIELD, f"scope: {error.detail}") from error
    holder = Principal(form.subject, row["kind"], tuple(row["groups"]), (), "none")
    wanted = Wanted(scope, form.lifetime_s or office.settings.identity.tokens.lifetime)
    claims = claims_for(office.decided_by(), holder, wanted, office.author.clock.now(), office.author.ulid())
    event = office.author.event("token.minted", call.principal.subject(), **call.members())
    made = await office.mint.mint(call.principal.id, claims, event)
    return {"token": made.token, "id": made.jti, "subject": form.subject, "expires_in": made.lifetime_s, "scope": made.scope}


async def revoke_tokens(office: OfficeDep, call: CallDep, form: Revocation) -> Answer:
    """One, or all of an issuer that were made until now. Streams that run on them are cut."""
    if (form.token is not None) == form.everything:
        raise Refused(Reason.BODY_FIELD, "name one token, or say everything")
    now_us = office.author.clock.now()
    made = await office.change(call, lambda now: acts.revoke_tokens(now, form.issuer, form.token or "", now_us))
    return _told(made, issuer=form.issuer)


async def add_grant(office: OfficeDep, call: CallDep, form: NewGrant) -> Answer:
    """A model for a subject, a group or the holders of a role."""
    row = form.row()
    if "until" in row and row["until"] <= rfc3339(office.author.clock.now()):
        raise Refused(Reason.BODY_FIELD, "until: this moment is over")
    ident = f"g-{office.author.ulid()}"
    return _told(await office.change(call, lambda now: acts.add_grant(now, ident, row)), id=ident)


async def remove_grant(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """Other grants may still reach the model."""
    return _told(await office.change(call, lambda now: acts.remove_grant(now, id)), id=id)


async def approve_model(
    office: OfficeDep,
    call: CallDep,
    id: str,  # noqa: A002 - the same
    form: Annotated[Approval, Body(default_factory=Approval)],
) -> Answer:
    """Its digest may be served from now on, and no other one."""
    known = genesis.model_row(office.settings, id) | {"stage": "approved"} if id in office.settings.models else None
    return _told(await office.change(call, lambda now: acts.approve_model(now, id, form.digest, known)), id=id)


async def deploy_model(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """From approved."""
    return _told(await office.change(call, lambda now: acts.deploy_model(now, id)), id=id)


async def retire_model(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """Nobody is served by it any more."""
    return _told(await office.change(call, lambda now: acts.retire_model(now, id)), id=id)


async def set_limit(office: OfficeDep, call: CallDep, id: str, form: Limits) -> Answer:  # noqa: A002 - the same
    """The whole row of `default`, `subject:ID`, `key:ID`, `group:ID` or `model:ID`."""
    return _told(await office.change(call, lambda now: acts.set_limit(now, id, form.model_dump(exclude_none=True))), id=id)


async def unset_limit(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """`default` counts from now on."""
    return _told(await office.change(call, lambda now: acts.set_limit(now, id, None)), id=id)


async def set_capture(office: OfficeDep, call: CallDep, id: str, form: Capture) -> Answer:  # noqa: A002 - the same
    """A cap on what is captured of `default`, `subject:ID` or `group:ID`."""
    return _told(await office.change(call, lambda now: acts.set_capture(now, id, form.level)), id=id)


async def unset_capture(office: OfficeDep, call: CallDep, id: str) -> Answer:  # noqa: A002 - the same
    """The other caps and the model's own word count from now on."""
    return _told(await office.change(call, lambda now: acts.set_capture(now, id, None)), id=id)


def _digest(office: Office, key: ApiKey) -> str:
    return stored_digest(office.pepper, key.secret.reveal()).hex()


def _kind(call: Call) -> str:
    return "service" if call.route.name.startswith("service.") else "human"


def _told(made: Published, **more: Any) -> Answer:
    return more | {"epoch": made.epoch, "intent": made.intent}


SECOND_US = 1_000_000
CHANGES: Mapping[str, Callable[..., Any]] = {
    "user.create": create_user,
    "user.enable": enable,
    "user.disable": disable,
    "service.create": create_service,
    "service.enable": enable,
    "service.disable": disable,
    "apikey.create": create_key,
    "apikey.rotate": rotate_key,
    "apikey.suspend": suspend_key,
    "apikey.confirm": confirm_key,
    "apikey.revoke": revoke_key,
    "role.assign": assign_role,
    "role.remove": remove_role,
    "token.mint": mint_token,
    "token.revoke": revoke_tokens,
    "grant.add": add_grant,
    "grant.remove": remove_grant,
    "model.approve": approve_model,
    "model.deploy": deploy_model,
    "model.retire": retire_model,
    "limit.set": set_limit,
    "limit.unset": unset_limit,
    "capture.set": set_capture,
    "capture.unset": unset_capture,
}
