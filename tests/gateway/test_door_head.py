"""What is refused from a request's head, and as what (attack catalogue, API keys and HTTP layer)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doors import ANN, ANN_BEARER, CHAT, EVE_BEARER, House, house, later, run, until
from sealward.errors import Reason
from sealward.gateway.limits import Limits
from sealward.identity.apikey import issue

BEARER = "authorization: " + ANN_BEARER.decode()
BASE = ["host: localhost", "content-type: application/json", BEARER]
POST = "POST /v1/chat/completions HTTP/1.1"
UNKNOWN = "authorization: Bearer " + issue("live").secret.reveal().decode()


def request(first: str = POST, lines: list[str] | None = None, body: bytes = CHAT, *, length: bool = True) -> bytes:
    """A request as it goes on the wire."""
    lines = [*(BASE if lines is None else lines), *([f"content-length: {len(body)}"] if length else [])]
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1") + body


def without(*names: str) -> list[str]:
    """The usual headers but those."""
    return [line for line in BASE if line.partition(":")[0] not in names]


GET = "GET /v1/models HTTP/1.1"
STRANGE = [*without("authorization"), "authorization: Bearer nonsense"]
CHUNKED = [*BASE, "transfer-encoding: chunked"]
UPGRADE = [*BASE, "connection: upgrade"]
ROWS = {
    # what a stranger's credential gets (B), always the same words
    "no credential": (request(lines=without("authorization")), 401, "authn", "credential_missing"),
    "unknown key": (request(lines=[*without("authorization"), UNKNOWN]), 401, "authn", "credential_unknown"),
    "garbage": (request(lines=STRANGE), 401, "authn", "credential_malformed"),
    "basic": (request(lines=[*without("authorization"), "authorization: Basic QTpC"]), 401, "authn", "credential_malformed"),
    "x-api-key": (request(lines=[*without("authorization"), "x-api-key: 1"]), 400, "authn", "credential_multiple"),
    # several credentials, or one where none belongs (A)
    "two headers": (request(lines=[*BASE, BEARER]), 400, "authn", "credential_multiple"),
    "comma": (request(lines=[*without("authorization"), BEARER + ", Bearer x"]), 400, "authn", "credential_multiple"),
    "key beside": (request(lines=[*BASE, "x-api-key: swk"]), 400, "authn", "credential_multiple"),
    "cookie": (request(lines=[*BASE, f"cookie: k={ANN.secret.reveal().decode()}"]), 400, "authn", "credential_multiple"),
    "query": (request(f"{POST.split(maxsplit=1)[0]} /v1/chat/completions?key=1 HTTP/1.1"), 400, "http", "http_malformed"),
    # framing (A)
    "not http": (b"\x16\x03nonsense\r\n\r\n", 400, "http", "http_malformed"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400, "http", "http_malformed"),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "http", "http_malformed"),
    "http/1.0": (request(POST.replace("1.1", "1.0")), 505, "http", "http_malformed"),
    "both lengths": (request(lines=CHUNKED), 400, "http", "http_malformed"),
    "two lengths": (request(lines=[*BASE, "content-length: 1"]), 400, "http", "http_malformed"),
    "signed length": (request(lines=[*BASE, "content-length: +5"], length=False), 400, "http", "http_malformed"),
    "no length": (request(length=False, body=b""), 411, "http", "http_malformed"),
    "gzip, chunked": (request(lines=[*BASE, "transfer-encoding: gzip, chunked"], length=False), 501, "http", "http_malformed"),
    "coded body": (request(lines=[*BASE, "content-encoding: gzip"]), 415, "http", "http_malformed"),
    "obs-fold": (request(lines=[*BASE, "x-a: b\r\n c"]), 400, "http", "http_malformed"),
    "bare lf": (b"POST /v1/chat/completions HTTP/1.1\nhost: localhost\n\n", 400, "http", "http_malformed"),
    "nul": (request(lines=[*BASE, "x-a: b\0c"]), 400, "http", "http_malformed"),
    "space": (request(lines=[*BASE, "x-a : b"]), 400, "http", "http_malformed"),
    "chunk size": (request(lines=CHUNKED, body=b"zz\r\n", length=False), 400, "denied", "http_malformed"),
    "upgrade": (request(GET, [*UPGRADE, "upgrade: h2c"], b"", length=False), 400, "http", "http_malformed"),
    "websocket": (request(GET, [*UPGRADE, "upgrade: websocket"], b"", length=False), 400, "http", "http_malformed"),
    "connect": (b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "http", "http_malformed"),
    "trailer": (
        request(lines=CHUNKED, body=b"1\r\n{\r\n0\r\n" + BEARER.encode() + b"\r\n\r\n", length=False),
        400, "denied", "http_malformed",
    ),
    "expect": (request(lines=[*BASE, "expect: 200-ok"]), 417, "http", "http_malformed"),
    "doubled type": (request(lines=[*BASE, "content-type: application/json"]), 400, "http", "http_malformed"),
    "override": (request(lines=[*BASE, "x-http-method-override: GET"]), 400, "http", "http_malformed"),
    "pipelined": (request() + request(), 400, "http", "http_malformed"),
    "body on get": (request(GET), 400, "http", "http_malformed"),
    "form": (request(lines=["host: localhost", "content-type: text/plain", BEARER]), 415, "http", "http_malformed"),
    # host (A, 421)
    "no host": (request(lines=without("host")), 400, "http", "http_malformed"),
    "two hosts": (request(lines=[*BASE, "host: localhost"]), 400, "http", "http_malformed"),
    "other host": (request(lines=["host: evil.example", *without("host")]), 421, "http", "host_unknown"),
    "address but sni": (request(lines=["host: 127.0.0.1", *without("host")]), 421, "http", "host_unknown"),
    "confusion": (request(lines=["host: localhost/#@evil", *without("host")]), 421, "http", "host_unknown"),
    "userinfo": (request(lines=["host: a@localhost", *without("host")]), 421, "http", "host_unknown"),
    "bad port": (request(lines=["host: localhost:x", *without("host")]), 421, "http", "host_unknown"),
    # paths (A, F)
    "unknown path": (request("GET /v1/unknown HTTP/1.1", body=b"", length=False), 404, "route", "route_unknown"),
    "prefix": (request("POST /v1/chat/completions/x HTTP/1.1"), 404, "route", "route_unknown"),
    "slash": (request("POST /v1/chat/completions/ HTTP/1.1"), 404, "route", "route_unknown"),
    "case": (request("POST /V1/chat/completions HTTP/1.1"), 404, "route", "route_unknown"),
    "escaped": (request("POST /v1/%63hat/completions HTTP/1.1"), 400, "http", "http_malformed"),
    "dots": (request("POST /v1/x/../chat/completions HTTP/1.1"), 400, "http", "http_malformed"),
    "dot": (request("POST /v1/./chat/completions HTTP/1.1"), 400, "http", "http_malformed"),
    "double slash": (request("POST //v1/chat/completions HTTP/1.1"), 400, "http", "http_malformed"),
    "semicolon": (request("POST /v1/chat/completions;x HTTP/1.1"), 400, "http", "http_malformed"),
    "backslash": (request("POST /v1\\chat HTTP/1.1"), 400, "http", "http_malformed"),
    "absolute": (request("POST http://localhost/v1/chat/completions HTTP/1.1"), 400, "http", "http_malformed"),
    "non-ascii": (request("POST /v1/\xe9 HTTP/1.1"), 400, "http", "http_malformed"),
    "star": (request("OPTIONS * HTTP/1.1", body=b"", length=False), 400, "http", "http_malformed"),
    "get chat": (request("GET /v1/chat/completions HTTP/1.1", body=b"", length=False), 405, "route", "route_method"),
    "head": (request("HEAD /v1/models HTTP/1.1", body=b"", length=False), 405, "route", "route_method"),
    "options": (request("OPTIONS /v1/models HTTP/1.1", body=b"", length=False), 405, "route", "route_method"),
    "trace": (request("TRACE /v1/models HTTP/1.1", body=b"", length=False), 405, "route", "route_method"),
    "invented": (b"BREW /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n", 400, "http", "http_malformed"),
    # sizes (A)
    "long target": (request("GET /" + "a" * 3000 + " HTTP/1.1", body=b"", length=False), 414, "http", "http_malformed"),
    "many headers": (request(lines=[*BASE, *(f"x-{n}: 1" for n in range(200))]), 431, "http", "http_too_large"),
    "large header": (request(lines=[*BASE, "x-a: " + "a" * 40_000]), 431, "http", "http_too_large"),
    "endless header": (f"{POST}\r\nx-a: ".encode() + b"a" * 300_000, 431, "http", "http_too_large"),
    "chunk extensions": (
        request(lines=CHUNKED, body=b"1;" + b"a" * 60_000, length=False),
        400, "denied", "http_malformed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_what_a_head_gets(tmp_path: Path, name: str) -> None:
    """The precise status, one record with its stage and reason, nothing for the recorder to admit, nothing at the model."""
    data, status, stage, reason = ROWS[name]

    async def scenario() -> None:
        async with house(tmp_path) as home:
            caller = await home.connect()
            await caller.raw(data)
            got, headers = await caller.head()
            assert got == status
            assert headers["x-sealward-request"]
            await until(lambda: home.recorder.events)
            recorded = home.recorder.events
            assert [each["decision"]["reason"] for each in recorded] == [reason]
            stages = (stage,) if isinstance(stage, str) else stage
            assert recorded[0].get("refusal", {}).get("stage", "denied") in stages
            assert home.recorder.admitted == {}
            assert home.sidecar.asked == []
            secret = ANN.secret.reveal().decode()
            assert secret not in str(recorded)

    run(scenario)


async def ended(home: House, data: bytes) -> tuple[int, bool]:
    """The status of an answer, and whether the connection ends after it."""
    caller = await home.connect()
    await caller.raw(data)
    answer = await caller.answer()
    return answer.status, answer.headers.get("connection") == "close"


def test_forged_identity_headers_change_nothing_and_go_nowhere(tmp_path: Path) -> None:
    """What claims an identity, an address or an upstream stops at the door."""
    forged = ["x-forwarded-for: 1.1.1.1", "x-real-ip: 1.1.1.1", "x-forwarded-user: admin", "x_forwarded_user: admin"]
    forged += ["x-sealward-user: bob", "x-sealward-pass: v1", "forwarded: for=1.1.1.1", "connection: x-identity", "x-identity: a"]

    async def scenario() -> None:
        async with house(tmp_path) as home:
            caller = await home.connect()
            await caller.raw(request(lines=[*BASE, *forged]))
            answer = await caller.answer()
            assert answer.status == 200
            sent = home.sidecar.asked[0].headers
            assert set(sent) == {b"host", b"content-type", b"x-sealward-pass", b"content-length"}
            event = home.recorder.admitted[answer.headers["x-sealward-request"]]["event"]
            assert event["source"]["addr"] == "127.0.0.1"
            assert event["subject"]["id"] == "ann"

    run(scenario)


def test_a_model_that_is_unknown_and_one_that_is_forbidden_read_the_same(tmp_path: Path) -> None:
    """Byte for byte, but for the request's id; both are recorded with their subject."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            forbidden = await home.ask("POST", "/v1/chat/completions", CHAT, EVE_BEARER)
            unknown = await home.ask("POST", "/v1/chat/completions", CHAT.replace(b"m1", b"zz"), EVE_BEARER)
            assert (forbidden.status, forbidden.content) == (403, unknown.content)
            drop = {"x-request-id", "x-sealward-request"}
            assert {n: v for n, v in forbidden.headers.items() if n not in drop} == {
                n: v for n, v in unknown.headers.items() if n not in drop
            }
            await until(lambda: len(home.recorder.events) == 2)
            assert home.recorder.reasons("inference.denied") == ["model_not_granted"] * 2
            assert {each["subject"]["id"] for each in home.recorder.events} == {"eve"}

    run(scenario)


def test_the_body_of_a_stranger_is_never_asked_for(tmp_path: Path) -> None:
    """`100 Continue` comes after the credential was checked, to nobody else."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            known = await home.connect()
            await known.raw(
                request(lines=[*BASE, "expect: 100-continue", f"content-length: {len(CHAT)}"], body=b"", length=False)
            )
            assert (await known.head())[0] == 100
            await known.raw(CHAT)
            assert (await known.answer()).status == 200
            stranger = await home.connect()
            lines = [*without("authorization"), "expect: 100-continue", "content-length: 5"]
            await stranger.raw(request(lines=lines, body=b"", length=False))
            assert (await stranger.head())[0] == 401

    run(scenario)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_whatever_it_announced(tmp_path: Path, chunked: bool) -> None:
    """By its length before a byte is read, by its count where there is none; the caller is proven, so the entry names him."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(body_bytes=1000)) as home:
            body = b"800\r\n" + b"a" * 2048 + b"\r\n0\r\n\r\n" if chunked else b"a" * 2048
            lines = CHUNKED if chunked else BASE
            caller = await home.connect()
            await caller.raw(request(lines=lines, body=body, length=not chunked))
            assert (await caller.answer()).status == 413
            await until(lambda: home.recorder.reasons("inference.denied") == ["body_too_large"])

    run(scenario)


def test_bodies_in_memory_are_bounded_over_all_connections(tmp_path: Path) -> None:
    """The newest one is refused as `overloaded`; when the others are over there is room again."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(buffered_bytes=3000)) as home:
            slow = await home.connect()
            await slow.raw(request(body=b"a" * 2500, lines=[*BASE, "content-length: 2600"], length=False))
            await until(lambda: home.worker.buffered == 2500)
            answer = await home.ask("POST", "/v1/chat/completions", b"b" * 1000)
            assert answer.status == 503
            slow.writer.transport.abort()
            await until(lambda: home.worker.buffered == 0)
            assert (await home.ask("POST", "/v1/chat/completions", CHAT)).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        (b"", 408, "request.refused"),
        (b"POST /v1/chat", 408, "request.refused"),
        (request(body=CHAT[:5], lines=[*BASE, "content-length: 100"], length=False), 408, "inference.denied"),
    ],
)
def test_slow_requests_end_in_time(tmp_path: Path, data: bytes, status: int, kind: str) -> None:
    """A head and a body have seconds each, counted from their beginning and not from their last byte."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(head_s=0.2, body_s=0.2, linger_s=0.2)) as home:
            caller = await home.connect()
            await caller.raw(data)
            assert (await caller.head())[0] == status
            await until(lambda: home.recorder.reasons(kind) == ["http_timeout"])
            await caller.rest()
            await until(lambda: home.worker.connections == 0)

    run(scenario)


def test_an_idle_connection_ends_in_silence(tmp_path: Path) -> None:
    """Between two requests nothing is refused, so nothing is recorded."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(idle_s=0.1)) as home:
            caller = await home.connect()
            assert (await caller.ask("GET", "/livez", bearer=None)).status == 200
            assert await caller.closed()
            assert home.recorder.events == []

    run(scenario)


def test_a_second_request_before_the_first_answer_ends_both(tmp_path: Path) -> None:
    """Answers could be mixed up: the connection is reset, the first one is closed as aborted, the second one recorded."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.silent.add("close")
            caller = await home.connect()
            await caller.raw(request())
            await until(lambda: home.recorder.unanswered)
            await caller.raw(request())
            assert await caller.rest() == b""
            await until(lambda: home.recorder.reasons("request.refused") == ["http_malformed"])

    run(scenario)


def test_a_refused_upload_is_read_to_its_end_so_that_the_answer_arrives(tmp_path: Path) -> None:
    """Closing at once would reset the connection under the upload, and the caller would never learn why."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(linger_s=0.2)) as home:
            caller = await home.connect()
            caller.writer.write(request(lines=without("authorization"), body=b"a" * (1 << 20)))
            assert (await caller.answer()).status == 401
            assert await asyncio.wait_for(caller.closed(), 5)

    run(scenario)


def test_without_a_heartbeat_nobody_is_anybody(tmp_path: Path) -> None:
    """503 before a credential is looked at, and nothing is written: nothing was decided."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.snapshots.fault = Reason.NO_HEARTBEAT
            for bearer in (ANN_BEARER, None):
                assert (await home.ask("POST", "/v1/chat/completions", CHAT, bearer)).status == 503
            assert (await home.ask("GET", "/readyz", bearer=None)).status == 503
            assert (await home.ask("GET", "/livez", bearer=None)).status == 200
            assert home.recorder.events == []

    run(scenario)


def test_a_draining_door_refuses_and_ends_its_connections(tmp_path: Path) -> None:
    """What runs comes to its end; what begins is `draining`; `/readyz` says so to balancers."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.silent.add("close")
            running, other = await home.connect(), await home.connect()
            await running.raw(request())
            await until(lambda: home.recorder.unanswered)
            await other.raw(b"GET /readyz HTTP/1.1\r\n")
            await until(lambda: any(each._fed for each in home.worker._connections))
            draining = asyncio.ensure_future(home.worker.drain())
            await until(lambda: home.worker.draining)
            await other.raw(b"host: localhost\r\n\r\n")
            answer = await other.answer()
            assert (answer.status, answer.headers["connection"]) == (503, "close")
            home.recorder.reply(home.recorder.unanswered[0], home.recorder.writers[0])
            assert (await running.answer()).status == 200
            await asyncio.wait_for(draining, 5)

    run(scenario)


def test_a_decision_is_renewed_when_the_snapshot_moves_while_the_body_comes(tmp_path: Path) -> None:
    """A key that is revoked between head and body is refused, whatever was decided before."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            caller = await home.connect()
            await caller.raw(request()[:-10])
            await until(lambda: len(home.worker.cuts) == 1)
            home.change(later(home.snapshots.held, keys={ANN.id: None}))
            assert (await caller.head())[0] == 403
            assert home.sidecar.asked == []

    run(scenario)
