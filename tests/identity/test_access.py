"""Decisions: role and grant together, closed by default, and never open because an evaluation failed."""

from __future__ import annotations

from typing import Any

import pytest

from people import BOTH, DAY, KEY, MODEL, NOW, PEPPER, access, header, key_row, snapshot
from sealward.errors import Reason, Refused
from sealward.formats.ids import rfc3339
from sealward.identity.access import Access, Denied
from sealward.identity.principal import Principal
from sealward.identity.roles import BUILT_IN, local_admin


def principal(found: Access, owner: str) -> Principal:
    """The owner, proven by a key of yesterday."""
    row = found._sections["subjects"][owner]
    return Principal(
        owner, row["kind"], tuple(row["groups"]), tuple(row["roles"]), "apikey", KEY.id, "current", issued_us=NOW - DAY
    )


def reason(found: Access, who: Principal, action: str, model: str | None = None, now: int = NOW) -> Reason:
    """Why it is refused."""
    with pytest.raises(Refused) as refused:
        found.decide(who, action, model, now_us=now)
    return refused.value.reason


def test_role_and_grant_together_open_a_model() -> None:
    """The decision names the policy that allowed it."""
    found = access()
    assert found.fault == ""
    assert found.decide(principal(found, "ann"), "model:chat", "m1", now_us=NOW).policy_ids == ("granted-models-answer",)


@pytest.mark.parametrize(
    ("who", "action", "model", "expected"),
    [
        ("ann", "model:chat", "m2", Reason.MODEL_NOT_GRANTED),
        ("ann", "model:chat", "unheard-of", Reason.MODEL_NOT_GRANTED),
        ("ann", "model:chat", None, Reason.MODEL_NOT_GRANTED),
        ("eve", "model:chat", "m1", Reason.MODEL_NOT_GRANTED),  # the role without a grant
        ("opal", "model:chat", "m1", Reason.ACTION_NOT_GRANTED),  # the grant without the role
        ("bob", "model:chat", "m1", Reason.MODEL_NOT_GRANTED),  # disabled
        ("ann", "apikey:create", None, Reason.ACTION_NOT_GRANTED),
        ("ann", "model:deploy", None, Reason.ACTION_NOT_GRANTED),
        ("opal", "role:assign", None, Reason.ACTION_NOT_GRANTED),  # an operator makes nobody an administrator
        ("ann", "model:steal", None, Reason.POLICY_ERROR),  # no such action: no decision is a deny
    ],
)
def test_everything_else_is_denied_with_its_reason(who: str, action: str, model: str | None, expected: Reason) -> None:
    """Attack rows 95, 97, 100."""
    found = access()
    assert reason(found, principal(found, who), action, model) is expected
    assert reason(found, principal(found, who), action, model) is expected  # from the cache


@pytest.mark.parametrize("role", BUILT_IN)
def test_a_role_carries_exactly_its_actions(role: str) -> None:
    """For each management action of the schema: allowed when the role lists it, else denied."""
    found = access(subjects={"x": {"kind": "human", "groups": [], "roles": [role]}})
    manage = {action for actions in BUILT_IN.values() for action in actions} - set(BOTH)
    for action in manage:
        if action in BUILT_IN[role]:
            assert found.decide(principal(found, "x"), action, now_us=NOW).policy_ids == ("roles-carry-actions",)
        else:
            assert reason(found, principal(found, "x"), action) is Reason.ACTION_NOT_GRANTED


def test_a_group_can_have_a_role() -> None:
    """`roles.groups`: whose members have it."""
    found = access(roles={"operator": {"actions": list(BUILT_IN["operator"]), "groups": ["staff"]}})
    assert found.decide(principal(found, "ann"), "model:deploy", now_us=NOW)
    assert reason(found, principal(found, "eve"), "model:deploy") is Reason.ACTION_NOT_GRANTED


@pytest.mark.parametrize("to", ["subject:eve", "role:consumer"])
def test_grants_reach_subjects_and_roles(to: str) -> None:
    """Besides groups."""
    found = access(grants={"g-2": {"to": to, "model": "m2", "actions": ["model:chat"]}})
    assert found.decide(principal(found, "eve"), "model:chat", "m2", now_us=NOW)
    assert reason(found, principal(found, "eve"), "model:list", "m2") is Reason.ACTION_NOT_GRANTED


def test_a_grant_ends_at_its_time_even_when_it_was_decided_before() -> None:
    """A cached decision holds only as long as the grants it came from."""
    found = access(grants={"g-1": {"to": "group:staff", "model": "m1", "actions": BOTH, "until": rfc3339(NOW + 5)}})
    ann = principal(found, "ann")
    assert found.decide(ann, "model:chat", "m1", now_us=NOW + 4)
    assert reason(found, ann, "model:chat", "m1", NOW + 5) is Reason.MODEL_NOT_GRANTED


@pytest.mark.parametrize(("stage", "expected"), [("candidate", Reason.MODEL_UNAPPROVED), ("retired", Reason.MODEL_WITHDRAWN)])
def test_a_granted_model_that_may_not_serve_is_denied(stage: str, expected: Reason) -> None:
    """Approved and deployed may be served, nothing else."""
    found = access(models={"m1": MODEL | {"stage": stage}})
    with pytest.raises(Denied) as denied:
        found.decide(principal(found, "ann"), "model:chat", "m1", now_us=NOW)
    assert denied.value.reason is expected
    assert denied.value.policy_ids == ("only-approved-models-serve",)


def test_a_key_over_the_age_limit_does_nothing() -> None:
    """Evaluated per request, not by a job that may not have run."""
    found = access()
    ann = principal(found, "ann")
    assert found.decide(ann, "model:chat", "m1", now_us=NOW + 88 * DAY)
    assert reason(found, ann, "model:chat", "m1", NOW + 89 * DAY) is Reason.POLICY_DENIED


def test_bindings_of_the_key_hold_for_what_it_does() -> None:
    """A key for one model and one action is refused for others although its owner may."""
    bindings = {"models": ["m2"], "actions": ["model:chat"]}
    found = access(
        keys={KEY.id: key_row(KEY, "ann", bindings=bindings)},
        grants={"g-2": {"to": "subject:ann", "model": "m2", "actions": BOTH}},
    )
    ann = found.authenticate(header(KEY), source_addr="10.0.0.1", now_us=NOW)
    assert found.decide(ann, "model:chat", "m2", now_us=NOW)
    assert reason(found, ann, "model:chat", "m1") is Reason.CREDENTIAL_BINDING
    assert reason(found, ann, "model:list", "m2") is Reason.CREDENTIAL_BINDING
    assert found.visible_models(ann, now_us=NOW) == []


def test_only_exact_names_are_models() -> None:
    """Attack row 93: no case folding, no tags, no normalisation."""
    found = access()
    assert found.resolve_model("m1") == "m1"
    assert found.resolve_model("M One") == "m1"
    for name in ("M1", "m1:latest", "library/m1", "m1 ", "m\u200b1", "\uff4d1", "m one", ""):
        assert found.resolve_model(name) is None


def test_the_list_shows_only_what_may_be_used() -> None:
    """Attack row 95."""
    found = access(grants={"g-3": {"to": "group:staff", "model": "old", "actions": BOTH}})
    assert found.visible_models(principal(found, "ann"), now_us=NOW) == ["m1"]
    assert found.visible_models(principal(found, "eve"), now_us=NOW) == []


def test_the_local_owner_is_a_model_admin_and_no_consumer() -> None:
    """He needs no row in the snapshot; a row of the same name would not be him."""
    found = access()
    assert found.decide(local_admin(), "apikey:create", now_us=NOW)
    assert reason(found, local_admin(), "model:chat", "m1") is Reason.MODEL_NOT_GRANTED


def test_nobody_is_anonymous() -> None:
    """Even a grant to everybody's role opens nothing to an unproven caller."""
    found = access(subjects={"anon": {"kind": "human", "groups": ["staff"], "roles": ["consumer"]}})
    unproven = Principal("anon", "anonymous", ("staff",), ("consumer",), "none")
    assert reason(found, unproven, "model:chat", "m1") is Reason.POLICY_DENIED


def broken(policy: str) -> Access:
    """With one of the policies replaced."""
    return access(policies={"nobody-is-anonymous": {"text": f'@id("nobody-is-anonymous")\n{policy}'}})


@pytest.mark.parametrize(
    "policy",
    [
        "forbid(principal, action, resource) when { context.country == 1 };",
        "forbid(principal, action, resource) when { context.authn > 3 };",
        "forbid(principal, action, resource",
        'forbid(principal, action, resource);\n@id("two") permit(principal, action, resource);',
        "",
    ],
)
def test_a_policy_that_does_not_validate_closes_everything(policy: str) -> None:
    """Attack row 100: Cedar would skip it, so a forbid would permit."""
    found = broken(policy)
    assert found.fault
    for who, action, model in (("ann", "model:chat", "m1"), ("adam", "apikey:create", None)):
        assert reason(found, principal(found, who), action, model) is Reason.POLICY_ERROR


def test_a_forbid_whose_evaluation_fails_denies() -> None:
    """An overflow passes validation and still fails when it is evaluated: Cedar alone says allow."""
    found = broken("forbid(principal, action, resource) when { context.key_age_days + 9223372036854775807 > 90 };")
    assert found.fault == ""
    assert reason(found, principal(found, "ann"), "model:chat", "m1") is Reason.POLICY_ERROR


def test_a_snapshot_without_policies_or_with_too_many_closes_everything() -> None:
    """At most 20: a grant is a row of data, not a policy."""
    many = {f"p{n}": {"text": f'@id("p{n}")\npermit(principal, action, resource);'} for n in range(20)}
    assert "20" in access(policies=many).fault


def test_ids_that_look_like_cedar_are_only_ids() -> None:
    """Names never stand between quotes of a policy text."""
    found = access()
    forged = Principal('ann" || principal in Party::"role:model-admin', "human", (), (), "apikey")
    assert reason(found, forged, "apikey:create") is Reason.ACTION_NOT_GRANTED


def test_the_next_epoch_keeps_what_it_did_not_change() -> None:
    """Policies are parsed once, decisions never survive."""
    first = snapshot()
    before = Access.build(first, PEPPER, "live")
    ann = principal(before, "ann")
    assert before.decide(ann, "model:chat", "m1", now_us=NOW)
    after = Access.build(first.after([["del", "grants", "g-1"]], epoch=8, issued=rfc3339(NOW)), PEPPER, "live", before)
    assert after.policies is before.policies
    assert reason(after, ann, "model:chat", "m1") is Reason.MODEL_NOT_GRANTED


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": {"ann": {"kind": "human", "groups": [], "roles": []}}},
        {"subjects": {"ann": {"kind": "human", "groups": ["staff"], "roles": ["consumer"], "disabled": True}}},
    ],
)
def test_a_caller_proven_earlier_is_decided_by_what_he_is_now(change: dict[str, Any]) -> None:
    """Roles and groups come from the snapshot of the decision, not from the principal in hand."""
    ann = principal(access(), "ann")
    found = access(**change)
    assert reason(found, ann, "model:chat", "m1") is Reason.MODEL_NOT_GRANTED
