"""What happens before HTTP: every handshake that fails is told apart and recorded, sound ones are not disturbed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from doors import CHAT, House, house, run, until
from sealward.gateway.limits import Limits
from sealward.gateway.tls import Names

HELLO = bytes.fromhex("1603010200010001fc0303") + bytes(60)


async def raw(home: House, data: bytes) -> bytes:
    """Send bytes to the TLS port as they are; what comes back until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", home.port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def resumed(home: House) -> bool:
    """Two connections one after the other; whether the second resumed the first one's session."""
    session = None
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", home.port)) as plain:
            client = home.context.wrap_socket(plain, server_hostname="localhost", session=session)
            client.send(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
            client.recv(1000)
            session, reused = client.session, client.session_reused
            client.close()
    return bool(reused)


@pytest.mark.parametrize(
    ("data", "reason", "version"),
    [
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "tls_plaintext", "none"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "tls_plaintext", "none"),
        (b"\0" * 64, "tls_plaintext", "none"),
        (b"\x16nonsense, but a handshake's first byte", "tls_plaintext", "none"),
    ],
)
def test_what_is_not_tls_is_recorded_as_such(tmp_path: Path, data: bytes, reason: str, version: str) -> None:
    """Not a byte of HTTP is answered."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            assert b"HTTP" not in await raw(home, data)
            await until(lambda: home.recorder.reasons("request.refused") == [reason])
            event = home.recorder.events[0]
            assert event["refusal"]["stage"] == "tls"
            assert event["source"]["tls_version"] == version
            assert event["source"]["addr"] == "127.0.0.1"

    run(scenario)


@pytest.mark.parametrize(("version", "shown"), [(ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_1, "1.1")])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_are_refused_at_the_handshake(tmp_path: Path, version: ssl.TLSVersion, shown: str) -> None:
    """TLS 1.3 only; the event says what the hello offered."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.context.minimum_version = ssl.TLSVersion.TLSv1
            home.context.maximum_version = version
            home.context.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises(OSError, match=r"^"):  # asyncio's client hears the alert or the reset
                await home.connect()
            await until(lambda: home.recorder.reasons("request.refused") == ["tls_version"])
            assert home.recorder.events[0]["source"]["tls_version"] == shown

    run(scenario)


def test_a_client_that_does_not_trust_us_is_recorded(tmp_path: Path) -> None:
    """Its alert names the certificate: somebody stands between, or a CA file is old."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.context = ssl.create_default_context()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(resumed, home)
            await until(lambda: home.recorder.reasons("request.refused") == ["tls_certificate"])

    run(scenario)


@pytest.mark.parametrize("data", [b"", HELLO])
def test_a_handshake_that_does_not_go_on_ends_in_time(tmp_path: Path, data: bytes) -> None:
    """Silent, or half a hello: recorded when the time is over."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(handshake_s=0.5)) as home:
            await raw(home, data)
            await until(lambda: home.recorder.reasons("request.refused") == ["http_timeout"])

    run(scenario)


def test_a_handshake_that_is_left_is_recorded(tmp_path: Path) -> None:
    """Half a hello, then the end."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            _, writer = await asyncio.open_connection("127.0.0.1", home.port)
            writer.write(HELLO)
            await writer.drain()
            writer.close()
            await until(lambda: home.recorder.reasons("request.refused") == ["client_gone"])

    run(scenario)


def test_one_source_cannot_hold_every_handshake(tmp_path: Path) -> None:
    """Beyond its share new ones are closed at once, recorded as `overloaded`; when it lets go, it is served again."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(handshakes_per_source=4)) as home:
            held = [await asyncio.open_connection("127.0.0.1", home.port) for _ in range(4)]
            for _, writer in held:
                writer.write(HELLO)
            await until(lambda: len(home.worker._listeners[0]._handshakes) == 4)
            with pytest.raises(OSError, match=r"^"):
                await home.connect()
            await until(lambda: home.recorder.reasons("request.refused") == ["overloaded"])
            for _, writer in held:
                writer.transport.abort()
            await until(lambda: not home.worker._listeners[0]._handshakes)
            assert (await home.ask("POST", "/v1/chat/completions", CHAT)).status == 200

    run(scenario)


def test_a_worker_s_connections_are_bounded(tmp_path: Path) -> None:
    """The newest is closed; who is connected is not disturbed."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(connections=2)) as home:
            first, _ = await home.connect(), await home.connect()
            with pytest.raises(OSError, match=r"^"):
                await home.connect()
            assert (await first.ask("GET", "/livez", bearer=None)).status == 200

    run(scenario)


def test_many_sound_handshakes_at_once_all_succeed(tmp_path: Path) -> None:
    """The recipe that sees refused handshakes loses none of the others."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            answers = await asyncio.gather(*(home.ask("GET", "/livez", bearer=None) for _ in range(150)))
            assert {answer.status for answer in answers} == {200}
            assert home.recorder.events == []

    run(scenario)


def test_without_sni_only_our_address_is_a_host(tmp_path: Path) -> None:
    """Clients that dial an address send no name; a `Host` that is a name needs the same name in the handshake."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            for host, status in (("127.0.0.1", 200), (f"127.0.0.1:{home.port}", 200), ("localhost", 421)):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", home.port, ssl=home.context, server_hostname="127.0.0.1"
                )
                writer.write(f"GET /v1/none HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
                line = await asyncio.wait_for(reader.readline(), 5)
                assert int(line.split()[1]) == (404 if status == 200 else status)
                writer.transport.abort()
            assert (await home.ask("GET", "/v1/none")).status == 404

    run(scenario)


def test_only_http_1_1_is_offered(tmp_path: Path) -> None:
    """ALPN never says h2, whatever the client would like."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.context.set_alpn_protocols(["h2", "http/1.1"])
            caller = await home.connect()
            assert caller.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"

    run(scenario)


def test_a_session_resumes(tmp_path: Path) -> None:
    """A second connection pays no full handshake."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            assert await asyncio.to_thread(resumed, home)

    run(scenario)


NAMES = Names(frozenset({"ai.example"}), frozenset({"in.example"}), frozenset({"127.0.0.1", "::1"}))


@pytest.mark.parametrize(
    ("host", "sni", "allowed"),
    [
        (b"ai.example", "ai.example", True),
        (b"AI.example:8443", "ai.EXAMPLE", True),
        (b"a.in.example", "a.in.example", True),
        (b"127.0.0.1:8443", None, True),
        (b"127.0.0.1", "127.0.0.1", True),
        (b"[::1]:8443", None, True),
        (b"[0:0:0:0:0:0:0:1]", None, True),
        (b"ai.example", None, False),
        (b"ai.example", "other.example", False),
        (b"a.b.in.example", "a.b.in.example", False),
        (b"in.example", "in.example", False),
        (b"127.0.0.1", "ai.example", False),
        (b"ai.example.", "ai.example.", False),
        (b"ai.example:", "ai.example", False),
        (b"ai.example:0", "ai.example", False),
        (b"ai.example:99999", "ai.example", False),
        (b"ai.example:8443:1", "ai.example", False),
        (b"ai.example/x", "ai.example", False),
        (b"[::1", None, False),
        (b"\xff", None, False),
        (b"", None, False),
    ],
)
def test_host_and_sni_must_agree_and_be_ours(host: bytes, sni: str | None, allowed: bool) -> None:
    """knowledge/gateway.md section 7."""
    assert NAMES.allow(host, sni) is allowed
