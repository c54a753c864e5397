"""What the door answers itself, and what it passes to control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from doors import ANN_BEARER, EVE_BEARER, Asked, Sidecar, house, json_answer, run, until
from sealward.gateway.routes import INFERENCE, MANAGEMENT, Route


def name_of(route: Route) -> str:
    """As a test's id."""
    return f"{route.method} {route.template}"


REQUEST = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_a_caller_sees_the_models_he_may_use(tmp_path: Path) -> None:
    """A list of his own for each; the read leaves an entry that names him."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            for bearer, models in ((ANN_BEARER, ["m1"]), (EVE_BEARER, [])):
                answer = await home.ask("GET", "/v1/models", bearer=bearer)
                assert answer.status == 200
                assert [each["id"] for each in answer.json()["data"]] == models
            await until(lambda: len(home.recorder.events) == 2)
            reads = [(each["type"], each["subject"]["id"], each["operation"]["name"]) for each in home.recorder.events]
            assert reads == [("access.read", "ann", "models.list"), ("access.read", "eve", "models.list")]

    run(scenario)


@pytest.mark.parametrize(("path", "bearer", "status"), [
    ("/v1/models/m1", ANN_BEARER, 200),
    ("/v1/models/m1", EVE_BEARER, 403),
    ("/v1/models/unknown", ANN_BEARER, 403),
    ("/v1/models/org/unknown", ANN_BEARER, 403),
], ids=["granted", "of another", "unknown", "unknown with a slash"])  # fmt: skip
def test_one_model_is_shown_to_whoever_may_use_it(tmp_path: Path, path: str, bearer: bytes, status: int) -> None:
    """Unknown and forbidden read the same."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            assert (await home.ask("GET", path, bearer=bearer)).status == status
            await until(lambda: home.recorder.events)
            assert home.recorder.events[0]["type"] == ("access.read" if status == 200 else "inference.denied")

    run(scenario)


@pytest.mark.parametrize(("found", "status"), [
    ({"receipt": '{"statement":{}}'}, 200),
    ({"pending": True}, 202),
    ({"refused": "not_found"}, 404),
])  # fmt: skip
def test_a_receipt_is_asked_of_the_recorder_with_the_caller_s_name(tmp_path: Path, found: dict[str, object], status: int) -> None:
    """It knows the owner: 404 for everybody else's, 202 until a checkpoint covers it."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.receipts[REQUEST] = found
            answer = await home.ask("GET", f"/sealward/v1/receipts/{REQUEST}")
            assert answer.status == status
            assert ("retry-after" in answer.headers) == (status == 202)
            assert home.recorder.asked[-1]["subject"] == "ann"
            await until(lambda: [each["type"] for each in home.recorder.events] == ["access.read"])

    run(scenario)


def test_a_receipt_of_no_request_is_404_without_asking(tmp_path: Path) -> None:
    """What is not an id of a request cannot be one."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            assert (await home.ask("GET", "/sealward/v1/receipts/x")).status == 404
            assert home.recorder.asked == []

    run(scenario)


def test_probes_answer_anybody_a_constant_without_an_entry(tmp_path: Path) -> None:
    """Whatever host they say: a balancer dials an address of its own."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            for path in ("/livez", "/readyz"):
                answer = await home.ask("GET", path, bearer=None, host="10.0.0.7")
                assert (answer.status, answer.content) == (200, b'{"status":"ok"}')
            home.sidecar.state = "failed"
            await until(lambda: not home.worker.ready)
            assert (await home.ask("GET", "/readyz", bearer=None)).status == 503
            assert home.recorder.events == []

    run(scenario)


@pytest.mark.parametrize(
    "route", [each for each in INFERENCE.all() if each.action], ids=lambda each: f"{each.method} {each.template}"
)
def test_every_route_refuses_a_stranger(tmp_path: Path, route: Route) -> None:
    """Attack 104, generated from the table: a new route is attacked on the day it appears."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            path = route.template.replace("{id}", "m1").replace("{request}", REQUEST)
            media = {"content-type": route.media.decode()} if route.media else {}
            answer = await home.ask(route.method, path, b"{}" if route.media else b"", None, **media)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            await until(lambda: home.recorder.reasons("request.refused") == ["credential_missing"])

    run(scenario)


class Control(Sidecar):
    """Answers as control would, and remembers what it was asked."""


async def with_control(folder: Path) -> tuple[Control, asyncio.Server]:
    """Control's socket in `folder`."""
    control = Control()

    async def problem(asked: Asked) -> AsyncIterator[bytes]:
        yield json_answer({"code": "access_denied"}, 403)

    control.script = problem
    return control, await asyncio.get_running_loop().create_unix_server(control.protocol, folder / "control.sock")


def test_the_management_door_passes_the_credential_on_and_the_answer_back(tmp_path: Path) -> None:
    """Control verifies it again and decides: nothing the door says makes anybody an administrator."""

    async def scenario() -> None:
        control, server = await with_control(tmp_path)
        async with house(tmp_path, table=MANAGEMENT, sidecar=None, control=tmp_path / "control.sock") as home:
            answer = await home.ask("POST", "/api/v1/users", b'{"id":"x"}', x_sealward_source="9.9.9.9 1", cookie="a=b")
            assert (answer.status, answer.json()) == (403, {"code": "access_denied"})
            asked = control.asked[0]
            assert (asked.path, asked.body) == ("/api/v1/users", b'{"id":"x"}')
            assert asked.headers[b"authorization"] == ANN_BEARER
            assert asked.headers[b"x-sealward-source"].startswith(b"127.0.0.1 ")
            assert asked.headers[b"x-sealward-request"].decode() == answer.headers["x-sealward-request"]
            assert b"cookie" not in asked.headers
            listing = await home.ask("GET", "/api/v1/users?limit=5")
            assert control.asked[1].path == "/api/v1/users?limit=5"
            assert listing.status == 403
            assert home.recorder.events == []  # control records
        server.close()

    run(scenario)


@pytest.mark.parametrize(
    "route", [each for each in MANAGEMENT.all() if each.action], ids=lambda each: f"{each.method} {each.template}"
)
def test_the_management_door_ends_strangers_itself(tmp_path: Path, route: Route) -> None:
    """Every route of the admin API, in the words of its own family, recorded; control is not bothered."""

    async def scenario() -> None:
        control, server = await with_control(tmp_path)
        async with house(tmp_path, table=MANAGEMENT, sidecar=None, control=tmp_path / "control.sock") as home:
            path = "/".join("x1" if part.startswith("{") else part for part in route.template.split("/"))
            answer = await home.ask(route.method, path, b"", None, **({"content_length": "0"} if route.method == "PUT" else {}))
            assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
            await until(lambda: home.recorder.reasons("request.refused") == ["credential_missing"])
            assert control.asked == []
        server.close()

    run(scenario)


def test_without_control_the_management_door_says_so(tmp_path: Path) -> None:
    """503, recorded as `admin.denied` of the proven caller."""

    async def scenario() -> None:
        async with house(tmp_path, table=MANAGEMENT, sidecar=None, control=tmp_path / "none.sock") as home:
            assert (await home.ask("GET", "/api/v1/users")).status == 503
            await until(lambda: home.recorder.reasons("admin.denied") == ["upstream_unavailable"])
            assert home.recorder.events[0]["operation"]["name"] == "user.list"

    run(scenario)


def test_inference_is_no_route_of_the_management_door(tmp_path: Path) -> None:
    """And the other way round: only the table differs."""

    async def scenario() -> None:
        (tmp_path / "other").mkdir()
        async with house(tmp_path, table=MANAGEMENT, sidecar=None, control=tmp_path / "none.sock") as home:
            assert (await home.ask("POST", "/v1/chat/completions", orjson.dumps({}))).status == 404
        async with house(tmp_path / "other") as home:
            assert (await home.ask("GET", "/api/v1/users")).status == 404

    run(scenario)
