"""Attack: below HTTP: old TLS, no TLS, half a handshake, slowness, disappearing (rows 85 to 87)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import struct
import time

import pytest

from sealward.formats.ids import rfc3339
from siege import Siege, judge, openssl
from siege_slow import Slow, first_hello
from siege_wire import NOTHING, read_answer


def raw_case(siege: Siege, data: bytes, reason: str, door: str = "inference") -> dict[str, object]:
    """Plain bytes to the TLS port: class D, one entry of stage tls; its source."""
    began = rfc3339(time.time_ns() // 1000)
    with siege.watch(door) as watch:
        with socket.create_connection(("127.0.0.1", siege.ports[door]), 10) as raw:
            port = raw.getsockname()[1]
            raw.sendall(data)
            with contextlib.suppress(ConnectionError):
                while raw.recv(1 << 16):
                    pass
        siege.event(lambda event: event.get("source", {}).get("port") == port and event["time"] >= began)
    judge(NOTHING, watch.of(port), 0, reason, "tls")
    source: dict[str, object] = watch.of(port)[0]["source"]
    return source


PLAINTEXT = {
    "http": b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "http_with_a_key": b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer swk_live_x\r\n\r\n",
    "connect": b"CONNECT localhost:443 HTTP/1.1\r\n\r\n",
    "http_2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "proxy_protocol": b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
    "proxy_protocol_2": b"\r\n\r\n\x00\r\nQUIT\n!\x11\x00\x0c" + bytes(12),
    "postgres": struct.pack(">II", 8, 80877103),
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "smtp": b"EHLO localhost\r\n",
    "ssl_2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
    "zeros": bytes(600),
    "an_alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "application_data": b"\x17\x03\x03\x00\x10" + bytes(16),
}


@pytest.mark.parametrize("door", ["inference", "management"])
@pytest.mark.parametrize("name", PLAINTEXT)
def test_what_is_not_tls_is_closed_without_an_answer(siege: Siege, name: str, door: str) -> None:
    """The first byte says it; nothing is parsed, nothing is answered."""
    assert raw_case(siege, PLAINTEXT[name], "tls_plaintext", door)["tls_version"] == "none"


@pytest.mark.parametrize("door", ["inference", "management"])
def test_tls_1_2_is_refused_at_the_handshake(siege: Siege, door: str) -> None:
    """By Python's client, and the entry names what it offered."""
    tls = ssl.create_default_context(cafile=siege.home / "tls/ca.pem")
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    with siege.watch(door) as watch:
        raw = socket.create_connection(("127.0.0.1", siege.ports[door]), 10)
        port = raw.getsockname()[1]
        with contextlib.closing(raw), pytest.raises((ssl.SSLError, ConnectionError)):
            tls.wrap_socket(raw, server_hostname="localhost")
    judge(NOTHING, watch.of(port), 0, "tls_version", "tls")
    assert watch.of(port)[0]["source"]["tls_version"] == "1.2"


@pytest.mark.parametrize(
    ("version", "named"), [(b"\x03\x00", "ssl3"), (b"\x03\x01", "1.0"), (b"\x03\x02", "1.1"), (b"\x03\x03", "1.2")]
)
def test_a_hello_of_an_older_version_is_refused(siege: Siege, version: bytes, named: str) -> None:
    """Hellos that no library of today sends any more."""
    suites = b"\x00\x2f\x00\x35\xc0\x13\xc0\x2f"
    body = version + bytes(range(32)) + b"\x00" + struct.pack(">H", len(suites)) + suites + b"\x01\x00"
    hello = b"\x01" + struct.pack(">I", len(body))[1:] + body
    source = raw_case(siege, b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello, "tls_version")
    assert source["tls_version"] == named


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x03\xff\xff" + bytes(100),
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x16\x16" + b"x" * 80,
    ],
    ids=["a_record_of_words", "an_endless_record", "an_empty_hello", "nonsense"],
)
def test_a_broken_hello_is_closed(siege: Siege, data: bytes) -> None:
    """It looks like a handshake and is none; what might still go on is given up by its sender here."""
    began = rfc3339(time.time_ns() // 1000)
    with siege.watch():
        with socket.create_connection(("127.0.0.1", siege.ports["inference"]), 10) as raw:
            port = raw.getsockname()[1]
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            assert read_answer(raw) == NOTHING
        event = siege.event(lambda event: event.get("source", {}).get("port") == port and event["time"] >= began)
    assert event["refusal"]["stage"] == "tls"
    assert event["decision"]["reason"] in {"tls_plaintext", "tls_version", "client_gone"}


def test_a_hello_that_ends_in_the_middle_is_recorded(siege: Siege) -> None:
    """Whoever probes for open ports is seen."""
    hello = first_hello(siege)
    began = rfc3339(time.time_ns() // 1000)
    with siege.watch():
        with socket.create_connection(("127.0.0.1", siege.ports["inference"]), 10) as raw:
            port = raw.getsockname()[1]
            raw.sendall(hello[: len(hello) // 2])
        event = siege.event(lambda event: event.get("source", {}).get("port") == port and event["time"] >= began)
    assert (event["refusal"]["stage"], event["decision"]["reason"]) == ("tls", "client_gone")


def test_bytes_that_do_not_decrypt_end_the_connection(siege: Siege) -> None:
    """After a sound handshake: no answer, no byte at the model, and the door goes on."""
    line = siege.line()
    with siege.watch() as watch:
        raw = socket.socket(fileno=line.sock.detach())
        raw.settimeout(10)
        with contextlib.closing(raw):
            raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
            data = raw.recv(1 << 16)
            while data:
                assert data[0] != ord("H")
                data = raw.recv(1 << 16)
    judge(NOTHING, watch.of(line.port), 0, "http_malformed", "http")
    assert siege.ask_raw(siege.chat()).status == 200


def test_a_client_that_offers_only_h2_is_not_taken_for_one(siege: Siege) -> None:
    """No protocol is agreed on; its preface is no request of HTTP/1.1."""
    tls = ssl.create_default_context(cafile=siege.home / "tls/ca.pem")
    tls.set_alpn_protocols(["h2"])
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    siege.refused(preface, 400, "http_malformed", tls=tls, stage="http")


def test_no_early_data_is_taken(siege: Siege) -> None:
    """0-RTT could be replayed: no ticket allows any. Asked with openssl, a client that is not ours."""
    if shutil.which("openssl") is None:
        print("LEFT OUT: 0-RTT, which needs the openssl command")
        return
    port, ca = siege.ports["inference"], str(siege.home / "tls/ca.pem")
    said = openssl("s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-CAfile", ca, "-tls1_3", data=b"Q\n")
    assert "TLSv1.3" in said
    assert "Max Early Data: 0" in said or "Max Early Data" not in said
    old = openssl("s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", data=b"Q\n")
    assert "Cipher is (NONE)" in old
    siege.mark()


def test_a_client_that_goes_in_the_middle_of_a_head_is_recorded(siege: Siege) -> None:
    """Also when it went without a word more than its first ones."""
    with siege.watch():
        line = siege.line()
        line.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localh")
        line.close()
        event = siege.event(lambda event: event.get("source", {}).get("port") == line.port)
    assert (event["refusal"]["stage"], event["decision"]["reason"]) == ("http", "client_gone")


def test_a_client_that_goes_in_the_middle_of_its_body_is_recorded(siege: Siege) -> None:
    """It was proven, so the entry is its own; nothing was admitted."""
    with siege.watch() as watch:
        line = siege.line()
        line.send(siege.chat().raw[:-9])
        line.close()
        siege.event(lambda event: event.get("source", {}).get("port") == line.port)
    assert [(e["type"], e["subject"]["id"], e["decision"]["reason"]) for e in watch.of(line.port)] == [
        ("inference.denied", "app", "client_gone")
    ]


def test_a_half_closed_client_is_gone(siege: Siege) -> None:
    """Nobody reads the answer, so nobody serves it: the runtime is freed."""
    with siege.watch(served=True):
        line = siege.line()
        line.send(siege.chat("hold", stream=True).raw)
        assert next(line.lines()).startswith(b"HTTP/1.1 200")
        asked = siege.model.asked[-1]
        line.sock.shutdown(socket.SHUT_WR)
        assert asked.gone.wait(10)
        line.close()
        event = siege.event(lambda e: e["type"] == "inference.aborted" and e.get("source", {}).get("port") == line.port)
    assert event["outcome"]["aborted_by"] == "client"


def test_many_half_open_connections_hurt_nobody(siege: Siege) -> None:
    """300 that say nothing, half a hello, or a head without its end: the next caller is served at once."""
    hello = first_hello(siege)
    held: list[socket.socket] = []
    try:
        for number in range(300):
            if number % 3 == 2:
                line = siege.line()
                line.send(b"GET /v1/models HTTP/1.1\r\n")
                held.append(line.sock)
                continue
            raw = socket.create_connection(("127.0.0.1", siege.ports["inference"]), 10)
            raw.sendall(hello[:100] if number % 3 else b"")
            held.append(raw)
        assert siege.ask_raw(siege.chat()).status == 200
    finally:
        for each in held:
            each.close()
    siege.mark()


@pytest.mark.parametrize(
    ("name", "status", "stage"),
    [
        ("silent_connection", 0, "tls"),
        ("half_a_hello", 0, "tls"),
        ("silent_after_the_handshake", 408, "http"),
        ("slow_head", 408, "http"),
        ("slow_body", 408, None),
    ],
)
def test_slowness_has_an_end(siege: Siege, slow: Slow, name: str, status: int, stage: str | None) -> None:
    """Deadlines count from the first byte, not from the last one; 408 where there is somebody to tell, one entry."""
    outcome = slow.end(name)
    found = [event for _, event in siege.rows(0) if outcome.was(event)]
    assert outcome.answer.status == status
    assert [event["decision"]["reason"] for event in found] == ["http_timeout"]
    assert found[0].get("refusal", {}).get("stage") == stage
    assert found[0]["subject"]["id"] == ("app" if name == "slow_body" else "anonymous")
