"""The admin API: every route leaves its event, every refusal its own, and nobody passes who was not proven and decided here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control_world import Reply, World, ask
from people import DAY, PEPPER
from sealward.control.office import Office
from sealward.errors import Reason
from sealward.events import Event
from sealward.identity.admin_routes import ROUTES, AdminRoute
from sealward.identity.apikey import stored_digest

Story = Callable[[Office], Awaitable[None]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A new deployment whose first change is pending."""
    return World(tmp_path)


def tell(world: World, story: Story) -> None:
    """`story` in a control that is settled."""

    async def whole(office: Office) -> None:
        await office.publisher.settle()
        await story(office)

    world.run(whole)


def last(world: World) -> Event:
    """The newest entry."""
    return world.journal.events[-1]


async def made(office: Office, path: str, body: dict[str, Any]) -> Any:
    """A POST by the local owner that must work."""
    reply = await ask(office, "POST", f"/api/v1/{path}", body)
    assert reply.status == 200, reply
    return reply.body


async def populate(office: Office) -> dict[str, str]:
    """One of everything that the table's paths name."""
    await made(office, "users", {"id": "ann"})
    await made(office, "users", {"id": "gone"})
    await made(office, "users/gone/disable", {})
    await made(office, "services", {"id": "app", "groups": ["apps"]})
    await made(office, "services", {"id": "off"})
    await made(office, "services/off/disable", {})
    key = await made(office, "apikeys", {"owner": "ann"})
    asleep = await made(office, "apikeys", {"owner": "app"})
    await made(office, f"apikeys/{asleep['id']}/suspend", {})
    await made(office, "roles/operator/subjects", {"subject": "ann"})
    grant = await made(office, "grants", {"to": "subject:ann", "model": "m1"})
    await made(office, "models/later/approve", {"digest": "sha256:" + "2" * 64})
    await ask(office, "PUT", "/api/v1/limits/subject:ann", {"concurrent": 2})
    return {"key": key["id"], "secret": key["key"], "asleep": asleep["id"], "grant": grant["id"]}


def case(route: AdminRoute, have: dict[str, str]) -> tuple[str, Any]:
    """A path and a body with which `route` works in a populated deployment."""
    noun = route.name.partition(".")[0]
    ident = {
        "user.enable": "gone", "user.disable": "ann", "service.enable": "off", "service.disable": "app", "role.remove": "ann",
        "model.deploy": "later", "apikey.confirm": have.get("asleep", "k"),
        "journal.body": "01KA7000004EMC8AQHV907E60N",
    }.get(route.name)  # fmt: skip
    ident = ident or {
        "apikey": have["key"],
        "grant": have["grant"],
        "model": "m1",
        "limit": "subject:ann",
        "capture": "default",
    }.get(noun, "")
    bodies: dict[str, Any] = {
        "user.create": {"id": "new"},
        "service.create": {"id": "new"},
        "apikey.create": {"owner": "app"},
        "role.assign": {"subject": "app"},
        "grant.add": {"to": "role:consumer", "model": "m1"},
        "model.approve": {"digest": "sha256:" + "3" * 64},
        "limit.set": {"requests_per_minute": 5},
        "capture.set": {"level": "none"},
        "journal.body": {"because": "case 9"},
        "token.mint": {"subject": "app"},
        "token.revoke": {"token": "01HZZZZZZZZZZZZZZZZZZZZZZZ"},
    }
    return route.path.replace("{id}", ident).replace("{role}", "operator"), bodies.get(route.name)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_every_route_leaves_its_event(world: World, route: AdminRoute) -> None:
    """The build fails when a route leaves none: a change its intent and what came of it, a read `access.read`."""

    async def story(office: Office) -> None:
        have = await populate(office)
        before = len(world.journal.events)
        path, body = case(route, have)
        reply = await ask(office, route.method, path, body)
        assert reply.status == 200, reply
        written = world.journal.events[before:]
        signed = ["snapshot.published"] if route.changes and route.name != "token.mint" else []
        assert [event["type"] for event in written] == [route.event, *signed]
        event = written[0]
        assert event["subject"] == {"id": "local-admin", "kind": "human", "authn": "local", "roles": ["model-admin"]}
        assert event["operation"] == {"name": route.name, "method": route.method, "route": route.path}
        assert event["link"] == {"request": reply.headers["x-sealward-request"]}
        assert event["decision"]["policy_ids"] == ["roles-carry-actions"]
        assert ("salt" in event.get("change", {})) is route.changes

    tell(world, story)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_no_route_works_without_a_credential(world: World, route: AdminRoute) -> None:
    """Attack row 104: at the management door's socket, whatever the door says."""

    async def story(office: Office) -> None:
        path, body = case(route, {"key": "k", "grant": "g"})
        reply = await ask(office, route.method, path, body, role="admin")
        assert (reply.status, reply.body["code"]) == (401, "invalid_api_key")
        assert reply.headers["www-authenticate"] == "Bearer"
        assert last(world)["type"] == "request.refused"
        assert last(world)["refusal"] == {"stage": "authn"}
        assert last(world)["source"]["addr"] == "203.0.113.9"

    tell(world, story)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_consumer_may_do_nothing_here(world: World, route: AdminRoute) -> None:
    """Attack row 97; the answer is the same for all routes but for the request's id."""

    async def story(office: Office) -> None:
        await made(office, "services", {"id": "app"})
        await made(office, "roles/consumer/subjects", {"subject": "app"})
        key = (await made(office, "apikeys", {"owner": "app"}))["key"].encode()
        path, body = case(route, {"key": "k", "grant": "g"})
        reply = await ask(office, route.method, path, body, role="admin", key=key)
        assert (reply.status, reply.body["code"]) == (403, "access_denied")
        assert reply.body.keys() == {"type", "title", "status", "request", "code"}
        event = last(world)
        assert (event["type"], event["decision"]["reason"]) == ("admin.denied", "action_not_granted")
        assert (event["subject"]["id"], event["operation"]["name"]) == ("app", route.name)

    tell(world, story)


def test_an_administrator_elsewhere_is_proven_by_control_itself(world: World) -> None:
    """The original credential decides; each of its faults is told apart in the journal and looks alike outside."""

    async def story(office: Office) -> None:
        await made(office, "users", {"id": "adam"})
        await made(office, "roles/model-admin/subjects", {"subject": "adam"})
        key = await made(office, "apikeys", {"owner": "adam", "bindings": {"cidrs": ["203.0.113.0/24"]}})
        secret = key["key"].encode()
        reply = await ask(office, "GET", "/api/v1/status", role="admin", key=secret)
        assert reply.status == 200
        assert last(world)["subject"]["key_id"] == key["id"]
        assert last(world)["source"] == {"addr": "203.0.113.9", "port": 40112, "tls_version": "1.3"}
        await made(office, f"apikeys/{key['id']}/suspend", {})
        reply = await ask(office, "GET", "/api/v1/status", role="admin", key=secret)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
        assert last(world)["decision"]["reason"] == "credential_revoked"

    tell(world, story)


def test_the_owner_is_nobody_where_the_settings_say_so(world: World) -> None:
    """`local_admin: false`: his socket needs a key like any other."""
    identity = world.settings.identity.model_copy(update={"local_admin": False})
    world.settings = world.settings.model_copy(update={"identity": identity})

    async def story(office: Office) -> None:
        assert (await ask(office, "GET", "/api/v1/users")).status == 401

    tell(world, story)


def test_before_the_first_snapshot_nothing_is_answered(world: World) -> None:
    """503, and the refusal is recorded."""

    async def story(office: Office) -> None:
        reply = await ask(office, "GET", "/api/v1/users")
        assert reply.status == 503
        assert last(world)["decision"]["reason"] == Reason.NO_SNAPSHOT

    world.run(story)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "users", {"id": "ann"}, 409),
        ("POST", "users", {"id": "local-admin"}, 400),
        ("POST", "users", {"id": "a b"}, 400),
        ("POST", "users", {"id": "x", "roles": ["model-admin"]}, 400),
        ("POST", "users", {}, 400),
        ("POST", "users/app/disable", {}, 404),  # a service is no user
        ("POST", "users/ann/enable", {}, 409),
        ("POST", "apikeys", {"owner": "nobody"}, 404),
        ("POST", "apikeys", {"owner": "gone"}, 409),
        ("POST", "apikeys", {"owner": "ann", "expires": "2026-11-22T00:00:00Z"}, 400),
        ("POST", "apikeys", {"owner": "ann", "expires": "2028-11-22T00:00:00Z"}, 400),
        ("POST", "apikeys", {"owner": "ann", "bindings": {"models": ["nothing"]}}, 404),
        ("POST", "apikeys", {"owner": "ann", "bindings": {"cidrs": ["10.0.0.0/99"]}}, 400),
        ("POST", "apikeys/00000000000/revoke", {}, 404),
        ("POST", "roles/emperor/subjects", {"subject": "ann"}, 404),
        ("POST", "roles/operator/subjects", {"subject": "ann"}, 409),
        ("DELETE", "roles/auditor/subjects/ann", None, 404),
        ("POST", "grants", {"to": "subject:nobody", "model": "m1"}, 404),
        ("POST", "grants", {"to": "subject:ann", "model": "m1"}, 409),
        ("POST", "grants", {"to": "subject:ann", "model": "nothing"}, 404),
        ("POST", "grants", {"to": "ann", "model": "m1"}, 400),
        ("POST", "grants", {"to": "role:consumer", "model": "m1", "actions": ["apikey:create"]}, 400),
        ("POST", "grants", {"to": "role:consumer", "model": "m1", "until": "2020-01-01T00:00:00Z"}, 400),
        ("DELETE", "grants/g-0", None, 404),
        ("POST", "models/m1/approve", {}, 409),
        ("POST", "models/m1/deploy", {}, 409),
        ("POST", "models/nothing/approve", {"digest": "sha256:" + "1" * 64}, 404),
        ("GET", "models/nothing", None, 404),
        ("PUT", "limits/subject:ann", {}, 400),
        ("PUT", "limits/everybody", {"concurrent": 1}, 400),
        ("PUT", "limits/subject:ann", {"concurrent": 0}, 400),
        ("PUT", "limits/subject:ann", {"concurrent": True}, 400),
        ("DELETE", "limits/model:m1", None, 404),
    ],
)
def test_what_cannot_be_done_is_told_and_recorded(world: World, method: str, path: str, body: Any, status: int) -> None:
    """A typed refusal with words for the administrator, one `admin.denied`, and no change."""

    async def story(office: Office) -> None:
        await populate(office)
        epoch, before = office.snapshot.epoch, len(world.journal.events)
        reply = await ask(office, method, f"/api/v1/{path}", body)
        assert reply.status == status, reply
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.body["detail"]
        written = world.journal.events[before:]
        assert [(event["type"], event["decision"]["reason"]) for event in written] == [("admin.denied", "body_field")]
        assert office.snapshot.epoch == epoch

    tell(world, story)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"id":"a","id":"b"}', "body_duplicate_key"),
        (b'{"id":"a"', "body_malformed"),
        (b'{"id":NaN}', "body_malformed"),
        (b'{"id":"\xff"}', "body_malformed"),
        (b"[" * 60_000, "body_malformed"),
        (b'{"id":"' + b"a" * 70_000 + b'"}', "body_too_large"),
        (b'"a"', "body_field"),
    ],
)
def test_a_body_with_two_readings_is_refused(world: World, raw: bytes, reason: str) -> None:
    """Attack rows 88 and 90."""

    async def story(office: Office) -> None:
        reply = await ask(office, "POST", "/api/v1/users", raw=raw)
        assert reply.status in {400, 413}
        assert last(world)["decision"]["reason"] == reason

    tell(world, story)


def test_paths_outside_the_table_are_unknown(world: World) -> None:
    """404 and 405, recorded by stage."""

    async def story(office: Office) -> None:
        for method, path, status in (("GET", "/docs", 404), ("GET", "/api/v1/users/", 404), ("PATCH", "/api/v1/users", 405)):
            assert (await ask(office, method, path)).status == status
            assert last(world)["refusal"] == {"stage": "route"}

    tell(world, story)


def test_a_key_is_shown_once_and_only_its_digest_is_kept(world: World) -> None:
    """Neither list, journal nor database holds it."""

    async def story(office: Office) -> None:
        key = await made(office, "apikeys", {"owner": (await made(office, "users", {"id": "ann"}))["id"]})
        secret = key["key"].encode()
        assert office.snapshot.sections["keys"][key["id"]]["hmac"] == stored_digest(PEPPER, secret).hex()
        listed = await ask(office, "GET", "/api/v1/apikeys")
        assert listed.body[0]["state"] == "active"
        assert "hmac" not in listed.body[0]
        assert secret.decode() not in str(world.journal.events)
        secrets.append(secret)

    secrets: list[bytes] = []
    tell(world, story)
    assert secrets[0] not in world.path.read_bytes()


def test_a_rotation_keeps_the_old_secret_for_the_overlap(world: World) -> None:
    """Two live secrets, then one; the age starts anew."""

    async def works(office: Office, secret: str) -> Reply:
        return await ask(office, "GET", "/api/v1/models", role="admin", key=secret.encode())

    async def story(office: Office) -> None:
        await made(office, "users", {"id": "opal"})
        await made(office, "roles/operator/subjects", {"subject": "opal"})
        first = await made(office, "apikeys", {"owner": "opal"})
        world.clock.us += 30 * DAY
        second = await made(office, f"apikeys/{first['id']}/rotate", {"overlap_s": 60})
        assert (await works(office, first["key"])).status == 200
        assert last(world)["subject"]["key_state"] == "retiring"
        assert (await works(office, second["key"])).status == 200
        world.clock.us += 60_000_000
        assert (await works(office, first["key"])).status == 401
        assert last(world)["decision"]["reason"] == "credential_retired"
        world.clock.us += 80 * DAY
        assert (await works(office, second["key"])).status == 200

    tell(world, story)


def test_the_api_describes_itself(world: World) -> None:
    """OpenAPI with every route of the table."""

    async def story(office: Office) -> None:
        described = (await ask(office, "GET", "/api/v1/openapi.json")).body
        found = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
        assert found == {(route.method, route.path) for route in ROUTES}

    tell(world, story)


def test_a_recorder_that_is_gone_is_a_503_and_the_change_comes_later(world: World) -> None:
    """No entry, no change, no waiting."""

    async def story(office: Office) -> None:
        world.switch.set(0, "unreachable")
        reply = await ask(office, "POST", "/api/v1/users", {"id": "ann"})
        assert reply.status == 503
        await office.publisher.settle()
        assert "ann" in office.snapshot.sections["subjects"]

    tell(world, story)


def test_changes_at_the_same_time_come_one_after_the_other(world: World) -> None:
    """Ten at once: ten epochs, ten entries, none lost."""

    async def story(office: Office) -> None:
        replies = await asyncio.gather(*(ask(office, "POST", "/api/v1/users", {"id": f"u{n}"}) for n in range(10)))
        assert [reply.status for reply in replies] == [200] * 10
        assert len({reply.body["epoch"] for reply in replies}) == 10
        assert len(office.snapshot.sections["subjects"]) == 10

    tell(world, story)
