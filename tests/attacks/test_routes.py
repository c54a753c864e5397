"""Attack: reach something that is not offered: a runtime's own routes, odd spellings of ours, other methods (rows 82 to 84)."""

from __future__ import annotations

import pytest

from sealward.gateway.routes import INFERENCE, MANAGEMENT, SIDECAR
from shared import VECTORS
from siege import Siege, check_face, judge
from siege_wire import Request

ROWS = [line.split("\t")[1:3] for line in (VECTORS / "gateway/runtime-routes.tsv").read_text().splitlines()[1:]]
RUNTIME_ROUTES = sorted({
    (method, path.replace("{", "").replace("}", "")) for method, path in ROWS if not path.startswith("/v1/models")
} - {(route.method, route.template) for route in INFERENCE.all()})  # fmt: skip


@pytest.mark.parametrize(("method", "path"), RUNTIME_ROUTES)
def test_a_runtimes_own_route_is_not_there(siege: Siege, method: str, path: str) -> None:
    """Not one of the 168 routes of vLLM, Ollama, llama.cpp and TGI is reached but those that are ours; with a good key."""
    request = siege.chat().to(path.encode()) if method == "POST" else siege.get(path).to(path.encode(), method.encode())
    known = path in {route.template for route in INFERENCE.all()}
    siege.refused(request, 405 if known else 404, "route_method" if known else "route_unknown", stage="route")


CHAT = b"/v1/chat/completions"
TWO_READINGS = [
    b"/v1//chat/completions", b"//v1/chat/completions", b"/v1/./chat/completions", b"/v1/models/../chat/completions",
    b"/v1/%63hat/completions", b"/v1/chat%2fcompletions", b"/v1/chat%2Fcompletions", b"/v1/%2e%2e/v1/chat/completions",
    b"/v1/chat/completions%00", b"/v1/chat/completions%20", b"/v1/%2563hat/completions", b"/v1/chat/completions;x=1",
    b"/v1/chat;/completions", b"/v1\\chat\\completions", b"/v1/chat/completions#x", b"/v1/chat/completions/.",
    b"/v1/chat/completions/..", b"/v1/chat/%c0%ae%c0%ae/completions", b"/v1/chat/completions?",
    b"/v1/chat/completions?model=hidden",
    b"https://localhost/v1/chat/completions", b"http://localhost/v1/chat/completions", b"http://other/v1/chat/completions",
    b"*", b"/v1/chat/completions?x=%0d%0aX: y", b"/v1/chat/\xc0\xaf", b"/v1/chat/compl\xc3\xa9tions", b"/v1/chat/completions|",
]  # fmt: skip
OTHER_NAMES = [
    b"/", b"/v1", b"/v1/", b"/v1/chat/completions/", b"/v1/chat/completions.", b"/V1/chat/completions", b"/v1/Chat/Completions",
    b"/v1/chat/completions:", b"/v1/chat/completions,", b"/v1/chat", b"/v2/chat/completions", b"/chat/completions",
    b"/openai/v1/chat/completions", b"/api/v1/apikeys", b"/v1/chat/completions/v1/models", b"/v1/chat/completions~",
]  # fmt: skip


@pytest.mark.parametrize("target", TWO_READINGS)
def test_a_target_with_two_readings_is_refused(siege: Siege, target: bytes) -> None:
    """Whatever a later reader could take for the chat route, and a filter for another one: class A before any table."""
    siege.refused(siege.chat().to(target), 400, "http_malformed")


@pytest.mark.parametrize("target", OTHER_NAMES)
def test_a_path_that_is_not_exactly_ours_is_unknown(siege: Siege, target: bytes) -> None:
    """No prefix, no case folding, no trailing slash: class F."""
    siege.refused(siege.chat().to(target), 404, "route_unknown", stage="route")


def test_a_target_with_spaces_or_control_characters_is_no_request(siege: Siege) -> None:
    """They would be a second request line to somebody."""
    for target in (b"/v1/chat/completions HTTP/1.1", b"/v1/chat/ completions", b"/v1/chat/\x00completions", b"/v1/\tchat"):
        siege.refused(siege.chat().to(target), 400, "http_malformed", stage="http")


def test_a_long_target_is_refused(siege: Siege) -> None:
    """414 beyond 2 KiB; just below it is a path like any other."""
    siege.refused(siege.chat().to(b"/" + b"a" * 2047), 404, "route_unknown")
    siege.refused(siege.chat().to(b"/" + b"a" * 2048), 414, "http_malformed")
    siege.refused(siege.chat().to(CHAT + b"?" + b"a" * 64_000), 414, "http_malformed")


@pytest.mark.parametrize("method", [b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"GET"])
def test_another_method_of_the_chat_route_is_not_allowed(siege: Siege, method: bytes) -> None:
    """405, naming what is; no CORS, no echo."""
    bodyless = method in {b"HEAD", b"OPTIONS", b"TRACE", b"GET", b"DELETE"}
    request = siege.get("/").to(CHAT, method) if bodyless else siege.chat().to(CHAT, method)
    answer = siege.refused(request, 405, "route_method", stage="route")
    assert answer.headers["allow"] == "POST"
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("method", [b"BREW", b"get", b"PRI", b"", b"POST\x00", b"GETPOST"])
def test_an_unknown_method_is_no_request(siege: Siege, method: bytes) -> None:
    """Only what the parser of HTTP knows is a method."""
    siege.refused(Request(method, b"/v1/models", siege.head(siege.keys["app"])), 400, "http_malformed", stage="http")


def test_connect_is_no_tunnel(siege: Siege) -> None:
    """The door is no forward proxy, whatever the form of the target."""
    for target in (b"localhost:443", b"/v1/models", b"127.0.0.1:80"):
        request = Request(b"CONNECT", target, siege.head(siege.keys["app"]))
        assert siege.refused(request, 400, "http_malformed").closes


@pytest.mark.parametrize("name", [b"x-http-method-override", b"x-http-method", b"x-method-override"])
def test_no_header_changes_the_method(siege: Siege, name: bytes) -> None:
    """Refused rather than ignored: somebody means another request than we read."""
    siege.refused(siege.get("/v1/models").but(more=((name, b"DELETE"),)), 400, "http_malformed")


def test_a_form_field_changes_no_method(siege: Siege) -> None:
    """`_method` in a query, where none belongs."""
    siege.refused(siege.get("/v1/models?_method=DELETE"), 400, "http_malformed")


@pytest.mark.parametrize("door", ["inference", "management"])
def test_every_route_refuses_every_other_method(siege: Siege, door: str) -> None:
    """Generated from the table: each path with each method that it has no row for."""
    table = INFERENCE if door == "inference" else MANAGEMENT
    key = siege.keys["app" if door == "inference" else "adm"]
    paths = {route.template for route in table.all()}
    refused = 0
    with siege.watch(door) as watch:
        asked = []
        for path in sorted(paths):
            allowed = {route.method for route in table.all() if route.template == path}
            target = path.replace("{request}", "0" * 26).replace("{", "").replace("}", "").encode()
            for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} - allowed:
                request = siege.change(method, "/", {}, key).to(target)
                if method not in {"POST", "PUT", "PATCH"}:
                    request = siege.get("/", key).to(target, method.encode())
                line = siege.line(door)
                line.send(request.raw)
                asked.append((line.port, line.answer(request.method)))
                line.close()
    for port, answer in asked:
        judge(answer, watch.of(port), 405, "route_method", "route")
        refused += 1
    assert refused > 5 * len(paths)


def test_the_doors_do_not_serve_each_others_routes(siege: Siege) -> None:
    """No admin route at the inference door, no model at the management door, no sidecar route at either."""
    with siege.watch("management") as managed, siege.watch("inference") as inferred:
        asked = []
        for routes, door, key, watch in (
            (MANAGEMENT, "inference", "adm", inferred), (INFERENCE, "management", "app", managed),
            (SIDECAR, "management", "adm", managed),
        ):  # fmt: skip
            for route in routes.all():
                if route.kind in {"livez", "readyz"}:
                    continue
                request = siege.get(route.template.replace("{", "").replace("}", ""), siege.keys[key])
                line = siege.line(door)
                line.send(request.raw)
                asked.append((watch, line.port, line.answer(request.method)))
                line.close()
    for watch, port, answer in asked:
        judge(answer, watch.of(port), 404, "route_unknown", "route")


def test_a_health_route_tells_nothing(siege: Siege) -> None:
    """The probes of load balancers are a constant: no name, no version, no entry; anything more than the bare path is refused."""
    with siege.watch() as watch:
        line = siege.line()
        for target in ("/livez", "/readyz"):
            line.send(Request(b"GET", target.encode(), ((b"host", b"anything"),)).raw)
            answer = line.answer(b"GET")
            assert (answer.status, answer.body) == (200, b'{"status":"ok"}')
            assert answer.headers.keys() <= {
                "content-type",
                "content-length",
                "cache-control",
                "x-request-id",
                "x-sealward-request",
            }
        line.close()
    assert watch.of(line.port) == []
    check_face(siege.refused(siege.get("/livez?verbose=1"), 400, "http_malformed"))
    siege.refused(siege.get("/readyz/"), 404, "route_unknown")
    siege.refused(siege.get("/metrics"), 404, "route_unknown")
