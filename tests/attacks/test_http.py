"""Attack: a request that two readers read differently, or headers that claim an identity (rows 78 to 81, 85, 87)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import pytest

from sealward.gateway.routes import INFERENCE, MANAGEMENT, Route
from siege import Siege, judge
from siege_wire import Request

Change = Callable[[Request], Request | bytes]


def chunked(request: Request, body: bytes, coding: bytes = b"chunked") -> Request:
    """The request with a body that is in chunks already."""
    return request.but(content_length=None, transfer_encoding=coding, body=body)


def as_one_chunk(request: Request) -> bytes:
    """Its body in the chunked coding."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(request.body), request.body)


def raw_line(request: Request, line: bytes) -> bytes:
    """The request with a line that no `Request` can hold, before the others."""
    first, rest = request.raw.split(b"\r\n", 1)
    return first + b"\r\n" + line + rest


def test_the_controls_are_served(siege: Siege) -> None:
    """What the cases below leave from: whole, in chunks, by address without SNI, with a port, in any case of the scheme."""
    control = siege.chat()
    bearer = b"bEaReR " + siege.keys["app"].encode()
    for request, sni in (
        (control, "localhost"),
        (chunked(control, as_one_chunk(control)), "localhost"),
        (control.but(host=b"localhost:8443"), "localhost"),
        (control.but(host=b"LOCALHOST"), "localhost"),
        (control.but(host=b"127.0.0.1"), None),
        (control.but(authorization=bearer), "localhost"),
        (control.but(accept=b"*/*", more=((b"accept", b"application/json"),)), "localhost"),
    ):
        line = siege.line(sni=sni, tls=siege.loose_tls)
        with contextlib.closing(line):
            line.send(request.raw)
            assert line.answer().status == 200, request


CREDENTIALS: dict[str, tuple[Change, str]] = {
    "two_headers": (lambda r: r.but(more=((b"authorization", b"Bearer x"),)), "credential_multiple"),
    "the_same_twice": (lambda r: r.but(more=((b"Authorization", dict(r.headers)[b"authorization"]),)), "credential_multiple"),
    "joined_by_a_comma": (
        lambda r: r.but(authorization=dict(r.headers)[b"authorization"] + b", Bearer x"),
        "credential_multiple",
    ),
    "beside_an_x_api_key": (lambda r: r.but(x_api_key=b"x"), "credential_multiple"),
}
BROKEN: dict[str, Change] = {
    "obs_fold": lambda r: raw_line(r, b"x-a: b\r\n c\r\n"),
    "obs_fold_in_the_credential": lambda r: raw_line(r.but(authorization=None), b"authorization: Bearer\r\n x\r\n"),
    "nul_in_a_value": lambda r: r.but(x_a=b"b\x00c"),
    "cr_in_a_value": lambda r: r.but(x_a=b"b\rc"),
    "nul_in_a_name": lambda r: raw_line(r, b"x-\x00a: b\r\n"),
    "space_before_the_colon": lambda r: raw_line(r, b"x-a : b\r\n"),
    "space_before_the_name": lambda r: raw_line(r, b" x-a: b\r\n"),
    "no_colon": lambda r: raw_line(r, b"x-a\r\n"),
    "empty_name": lambda r: raw_line(r, b": b\r\n"),
    "bare_lf_after_a_header": lambda r: raw_line(r, b"x-a: b\n"),
    "bare_lf_after_the_request_line": lambda r: r.raw.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n", 1),
    "bare_lf_everywhere": lambda r: r.raw.replace(b"\r\n", b"\n"),
    "control_character_in_a_value": lambda r: r.but(x_a=b"\x01\x02"),
    "del_in_a_value": lambda r: r.but(x_a=b"\x7f"),
    "two_hosts": lambda r: r.but(more=((b"host", b"localhost"),)),
    "no_host": lambda r: r.but(host=None),
    "two_content_types": lambda r: r.but(more=((b"content-type", b"text/plain"), (b"content-type", b"application/json"))),
    "connection_twice": lambda r: r.but(more=((b"connection", b"close"), (b"connection", b"keep-alive"))),
    "http_1_1_lower_case": lambda r: r.raw.replace(b"HTTP/1.1", b"http/1.1", 1),
    "http_2_preface": lambda r: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "leading_garbage": lambda r: b"\x00\x01\x02" + r.raw,
    "binary": lambda r: bytes(range(256)) * 4,
    "an_answer": lambda r: b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "override": lambda r: r.but(x_http_method_override=b"DELETE"),
}
LENGTHS: dict[str, Change] = {
    "both_lengths": lambda r: r.but(transfer_encoding=b"chunked"),
    "length_twice": lambda r: r.but(more=((b"content-length", dict(r.headers)[b"content-length"]),)),
    "length_differs_twice": lambda r: r.but(more=((b"content-length", b"1"),)),
    "length_list": lambda r: r.but(content_length=b"5, 5"),
    "length_negative": lambda r: r.but(content_length=b"-1"),
    "length_signed": lambda r: r.but(content_length=b"+5"),
    "length_hex": lambda r: r.but(content_length=b"0x5"),
    "length_empty": lambda r: r.but(content_length=b""),
    "length_with_a_space": lambda r: r.but(content_length=b"1 1"),
    "length_beyond_64_bits": lambda r: r.but(content_length=b"99999999999999999999999999"),
}
PRECISE: dict[str, tuple[Change, int, str]] = {
    "http_0_9": (lambda r: b"%b %b\r\n\r\n" % (r.method, r.target), 505, "http_malformed"),
    "no_version": (lambda r: r.raw.replace(b" HTTP/1.1", b"", 1), 505, "http_malformed"),
    "http_1_0": (lambda r: r.raw.replace(b"HTTP/1.1", b"HTTP/1.0", 1), 505, "http_malformed"),
    "http_2_0": (lambda r: r.raw.replace(b"HTTP/1.1", b"HTTP/2.0", 1), 505, "http_malformed"),
    "gzip": (lambda r: r.but(content_encoding=b"gzip"), 415, "http_malformed"),
    "identity_coding": (lambda r: r.but(content_encoding=b"identity"), 415, "http_malformed"),
    "expects_more": (lambda r: r.but(expect=b"200-ok"), 417, "http_malformed"),
    "another_host": (lambda r: r.but(host=b"example.org"), 421, "host_unknown"),
    "a_host_with_a_route": (lambda r: r.but(host=b"x/#@localhost"), 421, "host_unknown"),
    "a_host_with_a_user": (lambda r: r.but(host=b"evil@localhost"), 421, "host_unknown"),
    "a_host_with_a_path": (lambda r: r.but(host=b"localhost/v1/models"), 421, "host_unknown"),
    "a_host_with_a_dot": (lambda r: r.but(host=b"localhost."), 421, "host_unknown"),
    "a_host_with_port_zero": (lambda r: r.but(host=b"localhost:0"), 421, "host_unknown"),
    "a_host_with_a_bad_port": (lambda r: r.but(host=b"localhost:99999"), 421, "host_unknown"),
    "a_host_list": (lambda r: r.but(host=b"localhost, evil"), 421, "host_unknown"),
    "an_empty_host": (lambda r: r.but(host=b""), 421, "host_unknown"),
    "a_host_of_another_script": (lambda r: r.but(host="\u217cocalhost".encode()), 421, "host_unknown"),
    "101_headers": (lambda r: r.but(more=tuple((b"x-%d" % n, b"y") for n in range(101))), 431, "http_too_large"),
    "10000_headers": (lambda r: r.but(more=tuple((b"x-%d" % n, b"y") for n in range(10_000))), 431, "http_too_large"),
    "a_header_of_40_kb": (lambda r: r.but(x_a=b"y" * 40_000), 431, "http_too_large"),
    "a_header_of_1_mb": (lambda r: r.but(x_a=b"y" * 1_000_000), 431, "http_too_large"),
    "a_name_of_40_kb": (lambda r: raw_line(r, b"x" * 40_000 + b": y\r\n"), 431, "http_too_large"),
}
TRANSFER: dict[str, tuple[bytes, int]] = {
    "gzip": (b"gzip", 501),
    "gzip_chunked": (b"gzip, chunked", 501),
    "chunked_gzip": (b"chunked, gzip", 400),
    "chunked_twice": (b"chunked, chunked", 400),
    "obfuscated": (b"xchunked", 501),
    "identity": (b"identity", 501),
    "quoted": (b'"chunked"', 501),
    "with_a_parameter": (b"chunked;q=1", 501),
    "vertical_tab": (b"\x0bchunked", 400),
}
CHUNKS: dict[str, bytes] = {
    "no_hex": b"zz\r\n{}\r\n0\r\n\r\n",
    "negative": b"-2\r\n{}\r\n0\r\n\r\n",
    "plus": b"+2\r\n{}\r\n0\r\n\r\n",
    "prefixed": b"0x2\r\n{}\r\n0\r\n\r\n",
    "beyond_64_bits": b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "short": b"1\r\n{}\r\n0\r\n\r\n",
    "bare_lf": b"2\n{}\n0\n\n",
    "empty_size": b"\r\n{}\r\n0\r\n\r\n",
    "space_in_the_size": b"2 2\r\n{}\r\n0\r\n\r\n",
    "endless_extensions": b"2;" + b"x" * 60_000,
    "nul_in_an_extension": b"2;\x00\r\n{}\r\n0\r\n\r\n",
    "credential_in_a_trailer": b"2\r\n{}\r\n0\r\nauthorization: Bearer x\r\n\r\n",
    "any_trailer": b"2\r\n{}\r\n0\r\nx-a: b\r\n\r\n",
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_every_route_refuses_two_credentials(siege: Siege, name: str) -> None:
    """Which of them counts is anybody's guess: 400, whatever the second one is."""
    change, reason = CREDENTIALS[name]
    _on_every_route(siege, change, 400, reason, "authn")


@pytest.mark.parametrize("name", BROKEN)
def test_every_route_refuses_what_has_two_readings(siege: Siege, name: str) -> None:
    """Framing, folding, doubled headers, other protocols: class A before anything is looked up."""
    _on_every_route(siege, BROKEN[name], 400, "http_malformed", "http")


@pytest.mark.parametrize("name", LENGTHS)
def test_every_route_with_a_body_refuses_a_length_with_two_readings(siege: Siege, name: str) -> None:
    """CL.TE, CL.CL and numbers that only some readers take for one."""
    _on_every_route(siege, LENGTHS[name], 400, "http_malformed", "http", bodies=True)


@pytest.mark.parametrize("name", PRECISE)
def test_every_route_refuses_with_the_precise_status(siege: Siege, name: str) -> None:
    """Where HTTP has a status that says it."""
    change, status, reason = PRECISE[name]
    _on_every_route(siege, change, status, reason, "http")


@pytest.mark.parametrize("name", TRANSFER)
def test_only_chunked_is_a_transfer_coding(siege: Siege, name: str) -> None:
    """TE.CL and TE.TE: nothing that another reader could take for another coding."""
    coding, status = TRANSFER[name]
    control = siege.chat()
    siege.refused(chunked(control, as_one_chunk(control), coding), status, "http_malformed", stage="http")


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_have_one_reading(siege: Siege, name: str) -> None:
    """Sizes, line ends, extensions, trailers."""
    request = chunked(siege.chat(), CHUNKS[name])
    siege.refused(request, 400, "http_malformed")


def test_a_second_coding_header_is_refused(siege: Siege) -> None:
    """TE.TE with one that looks odd."""
    control = siege.chat()
    for second in (b"x", b"chunked", b"identity"):
        request = chunked(control, as_one_chunk(control)).but(more=((b"transfer-encoding", second),))
        siege.refused(request, 400, "http_malformed", stage="http")


@pytest.mark.parametrize("target", ["/v1/models", "/v1/models/mock", "/sealward/v1/receipts/" + "0" * 26])
def test_a_get_has_no_body(siege: Siege, target: str) -> None:
    """Whether a reader of GET looks for one is his habit; what follows would be his next request."""
    smuggled = b"GET /v1/models HTTP/1.1\r\n\r\n"
    request = siege.get(target)
    siege.refused(request.but(content_length=b"%d" % len(smuggled), body=smuggled), 400, "http_malformed", method=b"GET")
    siege.refused(chunked(request, b"0\r\n\r\n"), 400, "http_malformed", method=b"GET")


def test_a_post_needs_a_length(siege: Siege) -> None:
    """411, not a body until the connection ends."""
    siege.refused(siege.chat().but(body=b"", content_length=None), 411, "http_malformed", stage="http")


@pytest.mark.parametrize(
    "media", [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"", None]
)
def test_another_media_type_is_refused(siege: Siege, media: bytes | None) -> None:
    """A browser's form can send these without asking; llama.cpp takes them for JSON."""
    siege.refused(siege.chat().but(content_type=media), 415, "http_malformed")


def test_requests_are_not_pipelined(siege: Siege) -> None:
    """A second request before the first was answered ends both: answers could be mixed up."""
    with siege.watch(served=True) as watch:
        line = siege.line()
        line.send(siege.chat("hold").raw)
        siege.until(lambda: bool(siege.model.asked) and siege.model.asked[-1].words[0] == "hold")
        line.send(siege.get("/v1/models").raw)
        assert line.answer().status == 0
        line.close()
        siege.until(siege.model.asked[-1].gone.is_set)
        siege.event(lambda event: event["type"] == "inference.aborted" and event["source"].get("port") == line.port)
    assert sorted(event["type"] for event in watch.of(line.port)) == [
        "inference.aborted",
        "inference.admitted",
        "request.refused",
    ]
    line = siege.line()
    with siege.watch() as watch:
        line.send(siege.get("/v1/models").raw * 2)
        assert line.answer(b"GET").status in {0, 400}
        line.close()
    assert [event["decision"]["reason"] for event in watch.of(line.port) if event["type"] == "request.refused"] == [
        "http_malformed"
    ]


@pytest.mark.parametrize(
    "headers",
    [
        ((b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c"), (b"http2-settings", b"AAMAAABkAAQAAP__")),
        (
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-key", b"AAAA"),
            (b"sec-websocket-version", b"13"),
        ),
        ((b"connection", b"upgrade"), (b"upgrade", b"TLS/1.0")),
    ],
)
def test_no_connection_is_upgraded(siege: Siege, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """No protocol in which a later request could go without its own authorization: never 101."""
    siege.refused(siege.get("/v1/models").but(more=headers), 400, "http_malformed", stage="http", method=b"GET")


FORGED = (
    (b"x-forwarded-for", b"10.0.0.1"), (b"x-forwarded-user", b"adm"), (b"x-forwarded-proto", b"http"),
    (b"x-forwarded-client-cert", b"Subject=adm"), (b"x-real-ip", b"10.0.0.1"), (b"forwarded", b"for=10.0.0.1;by=adm"),
    (b"x_forwarded_user", b"adm"), (b"x-remote-user", b"adm"), (b"x-sealward-user", b"adm"), (b"x-sealward-pass", b"v1;index=1"),
    (b"x-sealward-source", b"10.0.0.1 1"), (b"x-sealward-request", b"0" * 26), (b"x-model", b"hidden"),
    (b"cookie", b"session=adm"),
    (b"x-original-url", b"/api/v1/apikeys"), (b"x-rewrite-url", b"/api/v1/apikeys"), (b"true-client-ip", b"10.0.0.1"),
    (b"connection", b"X-Sealward-Pass, Authorization, Host"), (b"proxy-authorization", b"Bearer x"), (b"te", b"trailers"),
)  # fmt: skip


def test_forged_headers_are_stripped_and_never_trusted(siege: Siege) -> None:
    """The caller is who his key says, from where his connection comes; the model sees none of them."""
    with siege.watch(served=True) as watch:
        line = siege.line()
        line.send(siege.chat().but(more=FORGED).raw)
        answer = line.answer()
        line.close()
    assert answer.status == 200
    for event in watch.of(line.port):
        assert event["subject"]["id"] == "app"
        assert event["source"]["addr"] == "127.0.0.1"
        assert event["link"]["request"] == answer.headers["x-sealward-request"] != "0" * 26
    assert len(watch.of(line.port)) == 2
    seen = siege.model.asked[-1]
    assert seen.headers.keys() == {"host", "content-type", "content-length"}
    assert "adm" not in json.dumps(seen.headers)


def test_the_management_door_strips_forged_headers(siege: Siege) -> None:
    """Control believes the source and request id that the door writes: a caller's own never get there."""
    before = siege.mark("management")
    line = siege.line("management")
    line.send(siege.get("/api/v1/users", siege.keys["adm"]).but(more=FORGED).raw)
    answer = line.answer(b"GET")
    line.close()
    request = answer.headers["x-sealward-request"]
    event = siege.event(lambda event: event.get("link", {}).get("request") == request, before)
    assert (answer.status, event["source"]["addr"], event["source"]["port"]) == (200, "127.0.0.1", line.port)
    assert event["subject"]["id"] == "adm"


@pytest.mark.parametrize(("sni", "host"), [(None, b"localhost"), ("localhost", b"127.0.0.1"), ("example.org", b"localhost")])
def test_a_name_must_be_asked_for_in_the_handshake(siege: Siege, sni: str | None, host: bytes) -> None:
    """No SNI while `Host` is a name, and SNI unlike `Host`: 421."""
    request = siege.chat().but(host=host)
    siege.refused(request, 421, "host_unknown", sni=sni, tls=siege.loose_tls)


def test_an_absolute_target_unlike_the_host_is_refused(siege: Siege) -> None:
    """Which of the two names counts is the classic confusion."""
    siege.refused(siege.chat().to(b"https://example.org/v1/chat/completions"), 400, "http_malformed")


def _on_every_route(siege: Siege, change: Change, status: int, reason: str, stage: str, *, bodies: bool = False) -> None:
    """The change on each route of both doors (`bodies`: that takes one), generated from their tables."""
    for door, table, key in (("inference", INFERENCE, "app"), ("management", MANAGEMENT, "adm")):
        asked = []
        with siege.watch(door) as watch:
            for route in table.all():
                public = route.kind == "resource" and stage == "authn"  # whoever has no credential yet reads there how to get one
                if public or route.kind in {"livez", "readyz"} or (bodies and route.method not in {"POST", "PUT"}):
                    continue
                control = _control(siege, route, siege.keys[key])
                data = change(control)
                line = siege.line(door)
                line.send(data.raw if isinstance(data, Request) else data)
                asked.append((line.port, line.answer(control.method)))
                line.close()
        for port, answer in asked:
            judge(answer, watch.of(port), status, reason, stage)


def _control(siege: Siege, route: Route, key: str) -> Request:
    """A sound request of a route."""
    if route.kind == "chat":
        return siege.chat(key=key)
    target = route.template.replace("{request}", "0" * 26).replace("{", "").replace("}", "")
    if route.method in {"GET", "DELETE"}:
        return siege.get(target, key).to(target.encode(), route.method.encode())
    sound = siege.change(route.method, target, {}, key)
    return sound.but(content_type=route.media) if route.media else sound
