"""Attack: say nothing about oneself, on every route of every listener (row 104), generated from the route tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from sealward.gateway.routes import INFERENCE, MANAGEMENT, SIDECAR, Route
from sealward.identity.admin_routes import ROUTES
from siege import Siege, check_face, judge, users_of
from siege_wire import Request, read_answer
from uids import attempt, connect, root_here

DOORS = [
    pytest.param(door, route, id=f"{door}-{route.operation}")
    for door, table in (("inference", INFERENCE), ("management", MANAGEMENT))
    for route in table.all()
    if route.kind not in {"livez", "readyz", "resource"}
]


@pytest.mark.parametrize(("door", "route"), DOORS)
def test_nobody_is_served_without_a_credential(siege: Siege, door: str, route: Route) -> None:
    """Class B from the head alone; `Bearer` without an error, since nothing was shown; one entry of stage authn."""
    answer = siege.refused(anonymous(siege, route), 401, "credential_missing", door=door, stage="authn")
    challenge = answer.headers["www-authenticate"]
    assert challenge.startswith("Bearer" + (" resource_metadata=" if door == "inference" else ""))
    assert "error" not in challenge


@pytest.mark.parametrize(("door", "route"), DOORS)
def test_an_anonymous_body_is_never_read(siege: Siege, door: str, route: Route) -> None:
    """The answer is there before the body, and nobody is told to go on with it."""
    if route.method not in {"POST", "PUT"}:
        return
    request = anonymous(siege, route).but(expect=b"100-continue", content_length=b"1000000", body=b"")
    answer = siege.refused(request, 401, "credential_missing", door=door, stage="authn")
    assert answer.closes


def test_what_an_anonymous_caller_reads_is_the_same_everywhere(siege: Siege) -> None:
    """A model that is there, one that is hidden and one that is not; a user that is there and one that is not."""
    bodies = {siege.ask_raw(nameless(siege, f"/v1/models/{name}")).body for name in ("mock", "hidden", "nothing")}
    assert len(bodies) == 1
    bodies = {siege.ask_raw(nameless(siege, f"/api/v1/models/{name}"), "management").body for name in ("mock", "nothing")}
    assert len(bodies) == 1


@pytest.mark.parametrize("route", [pytest.param(route, id=route.operation + route.method) for route in SIDECAR.all()])
def test_the_sidecar_serves_nobody_without_a_pass(siege: Siege, route: Route) -> None:
    """Only its health is everybody's who reaches the socket, which is the door."""
    with siege.watch("sidecar") as watch, siege.sidecar() as raw:
        request = siege.chat() if route.method == "POST" else siege.get(route.template)
        raw.sendall(request.raw)
        answer = read_answer(raw, request.method)
    if route.kind == "health":
        assert (answer.status, watch.events) == (200, [])
        assert answer.json["models"].keys() == {"mock", "hidden", "spare"}
        return
    assert answer.headers["www-authenticate"] == "Bearer"
    judge(answer, watch.events, 401, "pass_missing", "authn")


@pytest.mark.parametrize("route", [pytest.param(route, id=route.name) for route in ROUTES])
def test_control_believes_no_door(siege: Siege, route: object) -> None:
    """What a taken management door asks in nobody's name is refused by control itself, at its own socket."""
    path, method = str(getattr(route, "path", "")), str(getattr(route, "method", ""))
    body = b"{}" if method in {"POST", "PUT"} else b""
    request = Request(
        method.encode(), path.replace("{", "").replace("}", "").encode(),
        ((b"host", b"control"), (b"x-sealward-source", b"10.9.8.7 4711"), (b"content-type", b"application/json"),
         (b"content-length", b"%d" % len(body))), body,
    )  # fmt: skip
    with siege.watch("management") as watch:
        answer = siege.at_control(request)
    judge(
        answer, [event for event in watch.events if event.get("source", {}).get("addr") == "10.9.8.7"], 401, "credential_missing"
    )


def test_no_other_user_reaches_a_socket(siege: Siege) -> None:
    """Whoever is none of the processes, nobody and the inspector's user, does not get as far as asking."""
    if not root_here():
        return
    inspector = users_of(siege)["inspector"]
    sockets = sorted((siege.home / "run").glob("*.sock"))
    assert len(sockets) > 12
    for path in sockets:
        assert {attempt(uid, connect(path)) for uid in (65534, inspector)} == {"EACCES"}, path.name


def test_no_other_user_reads_a_file_of_the_deployment(siege: Siege) -> None:
    """But for what is public: settings, certificates, pins and the log's public half."""
    if not root_here():
        return
    public = {"sealward.yaml", "trust", "tls", "journal", "up.log", "run"}
    for path in Path(siege.home).rglob("*"):
        parts = path.relative_to(siege.home).parts
        if path.is_file() and (parts[0] not in public or parts[:2] == ("journal", "private")):
            assert attempt(65534, path.read_bytes) == "EACCES", path


def test_probes_are_the_only_answers_without_a_name(siege: Siege) -> None:
    """And they say nothing."""
    for door in ("inference", "management"):
        for target in ("/livez", "/readyz"):
            answer = siege.ask_raw(nameless(siege, target), door)
            assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
    check_face(siege.ask_raw(nameless(siege, "/"), "management"))


def anonymous(siege: Siege, route: Route) -> Request:
    """A sound request of the route but for its credential."""
    target = route.template.replace("{request}", "0" * 26).replace("{", "").replace("}", "")
    if route.kind == "chat":
        return siege.chat().but(authorization=None)
    if route.method in {"GET", "DELETE"}:
        return nameless(siege, target).to(target.encode(), route.method.encode())
    request = siege.change(route.method, target, {}, "x").but(authorization=None)
    return request.but(content_type=route.media) if route.media else request


def nameless(siege: Siege, target: str) -> Request:
    """A GET without a credential."""
    return siege.get(target).but(authorization=None)
