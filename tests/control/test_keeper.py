"""Keys of trusted issuers: fetched from a real https server that is sound, slow, lying or gone (attack rows 31 to 33 and 45)."""

from __future__ import annotations

import asyncio
import datetime as dt
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from control_world import SETTINGS, TOKEN_KEY, World
from forge import PROVIDER, jwk, key_pem, p256, rsa_key
from sealward.control.fetch import fetch
from sealward.control.keeper import Keeper
from sealward.control.office import Office
from sealward.control.trust import read_sources
from sealward.errors import ConfigurationError, UnreachableError
from sealward.settings import Settings

K1, K2 = jwk(p256("idp"), "k1", "ES256"), jwk(p256("next"), "k2", "ES256")


class Provider(http.server.ThreadingHTTPServer):
    """An issuer's web server. `pages`: path → (status, headers, body) or what makes one; `asked`: the paths it was asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.asked: list[str] = []
        self.release = threading.Event()
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.ca = folder / "idp.pem"
        self.ca.write_bytes(self_signed().public_bytes(Encoding.PEM))
        (folder / "idp.key").write_bytes(key_pem("web"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, folder / "idp.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.server_address[1]}"

    def publish(self, *keys: dict[str, Any], path: str = "/keys", media: str = "application/json", status: int = 200) -> None:
        """A key set."""
        self.page(path, json.dumps({"keys": list(keys)}).encode(), {"content-type": media}, status)

    def page(self, path: str, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.pages[path] = (status, headers or {"content-type": "application/json"}, body)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up."""


class Page(http.server.BaseHTTPRequestHandler):
    """One answer."""

    server: Provider

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/slow":
            self.server.release.wait(20)
        status, headers, body = self.server.pages.get(self.path, (404, {"content-type": "application/json"}, b"{}"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def self_signed() -> x509.Certificate:
    """For localhost, now."""
    name, key, now = x509.Name([]), p256("web"), dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - dt.timedelta(hours=1), now + dt.timedelta(hours=1)
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    """It serves K1 at /keys."""
    server = Provider(tmp_path)
    server.publish(K1)
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


Story = Callable[[Keeper, Office, World], Awaitable[None]]


def tell(folder: Path, provider: Provider, story: Story, keys: str = "") -> None:
    """A control whose settings name the provider; `keys`: how its keys are found (default: its address)."""
    keys = keys or f"jwks_url: '{provider.url}/keys', ca_file: '{provider.ca}'"
    text = SETTINGS + (
        f"identity: {{issuers: [{{id: idp, issuer: '{provider.url}', profile: rfc9068, {keys}, algorithms: [ES256, RS256], "
        "principals: [{subject: ann, pins: {sub: u-1}}]}]}\n"
    )
    world = World(folder)
    world.settings = Settings.parse(text, folder / "sealward.yaml", dt.date(2026, 11, 23))

    async def whole(office: Office) -> None:
        await office.publisher.settle()
        link = office.publisher._signer
        keeper = Keeper(office, read_sources(world.settings), link.token_key)  # type: ignore[attr-defined]
        await keeper.sync()
        await story(keeper, office, world)

    world.run(whole)


def held(office: Office) -> list[str]:
    """The key ids that the doors have."""
    row = office.snapshot.sections["issuers"].get("idp", {"keys": {}})
    return [key["kid"] for key in row["keys"].get("jwks", ())]


def later(world: World, seconds: float = 31) -> None:
    """The clock goes on."""
    world.clock.us += int(seconds * 1_000_000)


def test_keys_are_fetched_published_and_rotated(tmp_path: Path, provider: Provider) -> None:
    """Each change an entry and an epoch; the same keys again change nothing."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        assert (await keeper.refresh("idp", 30), held(office)) == (True, ["k1"])
        epoch = office.snapshot.epoch
        later(world)
        assert (await keeper.refresh("idp", 30), office.snapshot.epoch) == (False, epoch)
        provider.publish(K1, K2)
        later(world)
        assert (await keeper.refresh("idp", 30), held(office)) == (True, ["k1", "k2"])
        provider.publish(K2)
        later(world)
        assert (await keeper.refresh("idp", 30), held(office)) == (True, ["k2"])
        assert [event["change"]["action"] for event in world.journal.events if event["type"] == "config.changed"][1:] == [
            "trust"
        ] * 4

    tell(tmp_path, provider, story)


def test_an_issuer_is_asked_at_most_once_in_30_seconds(tmp_path: Path, provider: Provider) -> None:
    """Attack row 32: whoever asks, however often, at the same time or one after the other."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        told = await asyncio.gather(*(keeper.refresh("idp", 30) for _ in range(50)))
        assert set(told) == {True}
        assert provider.asked == ["/keys"]
        provider.publish(K2)
        assert not await keeper.refresh("idp", 30)
        later(world, 29)
        assert not await keeper.refresh("idp", 30)
        assert (provider.asked, held(office)) == (["/keys"], ["k1"])

    tell(tmp_path, provider, story)


def test_an_issuer_that_nobody_configured_is_never_asked(tmp_path: Path, provider: Provider) -> None:
    """A door names rows; an address it cannot name."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        for name in ("other", provider.url, "", "../idp"):
            assert not await keeper.refresh(name, 30)
        assert provider.asked == []

    tell(tmp_path, provider, story)


LIES: dict[str, Callable[[Provider], None]] = {
    "a redirect to another host": lambda web: web.page("/keys", b"", {"location": "https://evil.example/keys"}, 302),
    "a redirect to itself": lambda web: web.page("/keys", b"", {"location": "/other"}, 307),
    "an error": lambda web: web.publish(K2, status=500),
    "another media type": lambda web: web.publish(K2, media="text/html"),
    "no media type": lambda web: web.page("/keys", json.dumps({"keys": [K2]}).encode(), {"x": "y"}),
    "64 KiB and more": lambda web: web.publish(K2 | {"x5c": "a" * 66_000}),
    "21 keys": lambda web: web.publish(*(K2 | {"kid": f"k{n}"} for n in range(21))),
    "a private key": lambda web: web.publish(K2, K1 | {"d": "AAAA"}),
    "a key of 1024 bits": lambda web: web.publish(jwk(rsa_key(1024), "weak", "RS256")),
    "two keys of one kid": lambda web: web.publish(K2, K1 | {"kid": "k2"}),
    "no keys": lambda web: web.publish(),
    "no JSON": lambda web: web.page("/keys", b"<html>"),
    "half of an answer": lambda web: web.page("/keys", b"{", {"content-type": "application/json", "content-length": "500"}),
    "nothing there": lambda web: web.pages.clear(),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_not_acceptable_changes_nothing_and_raises_an_alarm(
    tmp_path: Path, provider: Provider, lie: str
) -> None:
    """Attack row 31: the old keys stay; one entry says so, not one a try; afterwards a sound answer is taken again."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        await keeper.refresh("idp", 30)
        LIES[lie](provider)
        for _ in range(3):
            later(world)
            assert not await keeper.refresh("idp", 30)
        assert held(office) == ["k1"]
        alarms = [event for event in world.journal.events if event["type"] == "key.unavailable"]
        assert [event["key"]["id"] for event in alarms] == ["idp"]
        provider.publish(K2)
        later(world)
        assert (await keeper.refresh("idp", 30), held(office)) == (True, ["k2"])

    tell(tmp_path, provider, story)


def test_keys_carry_the_time_when_they_stop_and_it_moves_as_long_as_they_are_confirmed(
    tmp_path: Path, provider: Provider
) -> None:
    """Attack row 33: a day by default; confirmed in its second half it is a day again, with an issuer that is gone it stands."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        await keeper.refresh("idp", 30)
        first = office.snapshot.sections["issuers"]["idp"]["keys"]["until"]
        later(world, 11 * 3600)
        assert not await keeper.refresh("idp", 30)
        later(world, 2 * 3600)
        assert await keeper.refresh("idp", 30)
        second = office.snapshot.sections["issuers"]["idp"]["keys"]["until"]
        assert second > first
        provider.pages.clear()
        later(world, 20 * 3600)
        assert not await keeper.refresh("idp", 30)
        assert office.snapshot.sections["issuers"]["idp"]["keys"]["until"] == second

    tell(tmp_path, provider, story)


def test_discovery_finds_the_keys_of_the_issuer_that_was_asked(tmp_path: Path, provider: Provider) -> None:
    """OpenID Connect Discovery 4.3."""
    document = {"issuer": provider.url, "jwks_uri": f"{provider.url}/elsewhere"}
    provider.page("/.well-known/openid-configuration", json.dumps(document).encode())
    provider.publish(K2, path="/elsewhere")

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        assert (await keeper.refresh("idp", 30), held(office)) == (True, ["k2"])
        assert office.snapshot.sections["issuers"]["idp"]["keys"]["jwks_url"] == f"{provider.url}/elsewhere"

    tell(tmp_path, provider, story, f"ca_file: '{provider.ca}'")


@pytest.mark.parametrize(
    "change",
    [{"issuer": "https://evil.example"}, {"issuer": None}, {"jwks_uri": "http://localhost/keys"}, {"jwks_uri": None}],
    ids=["another issuer", "no issuer", "keys over http", "no keys"],
)
def test_discovery_of_another_issuer_or_over_http_is_refused(tmp_path: Path, provider: Provider, change: dict[str, Any]) -> None:
    """Attack row 45; nobody is believed then, and the row is not even there."""
    document = {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys"} | change
    provider.page("/.well-known/openid-configuration", json.dumps(document).encode())

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        assert not await keeper.refresh("idp", 30)
        assert "idp" not in office.snapshot.sections["issuers"]

    tell(tmp_path, provider, story, f"ca_file: '{provider.ca}'")


def test_a_provider_with_another_certificate_is_not_read(tmp_path: Path, provider: Provider) -> None:
    """Without its CA it is a stranger."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        assert not await keeper.refresh("idp", 30)
        assert (provider.asked, held(office)) == ([], [])

    tell(tmp_path, provider, story, f"jwks_url: '{provider.url}/keys'")


def test_a_provider_that_does_not_answer_is_given_up(provider: Provider) -> None:
    """Within the time that was given."""
    with pytest.raises(UnreachableError):
        fetch(f"{provider.url}/slow", ssl.create_default_context(cafile=provider.ca), 0.2)


def test_an_address_that_is_not_https_is_never_connected_to(provider: Provider) -> None:
    """Not even once."""
    with pytest.raises(UnreachableError):
        fetch(provider.url.replace("https", "http") + "/keys", ssl.create_default_context())
    assert provider.asked == []


def test_a_fetched_key_proves_a_token(tmp_path: Path, provider: Provider) -> None:
    """From the web server to the principal; what a row was revoked stays through every refresh."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        await keeper.refresh("idp", 30)
        issuer = office.decided_by().issuers.named(provider.url)
        assert [key.kid for key in issuer.keys.values()] == [PROVIDER.header["kid"]]

    tell(tmp_path, provider, story)


def test_keys_and_bundles_of_files_are_pinned(tmp_path: Path, provider: Provider) -> None:
    """Air-gapped: nothing is ever fetched; a file that is none stops control with its name."""
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [K1]}))

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        assert held(office) == ["k1"]
        assert not await keeper.refresh("idp", 30)
        assert provider.asked == []

    tell(tmp_path, provider, story, f"jwks_file: '{file}'")
    file.write_text("{}")
    with pytest.raises(ConfigurationError, match="idp"):
        read_sources(Settings.parse(settings_with(file), tmp_path / "sealward.yaml", dt.date(2026, 11, 23)))


def settings_with(file: Path) -> str:
    """One issuer whose keys lie in `file`."""
    return SETTINGS + (
        f"identity: {{issuers: [{{id: idp, issuer: 'https://idp.example', profile: rfc9068, jwks_file: '{file}', "
        "principals: [{subject: ann, pins: {sub: u-1}}]}]}\n"
    )


def test_a_row_that_left_the_settings_leaves_the_snapshot_and_our_own_stays(tmp_path: Path, provider: Provider) -> None:
    """What is not configured is not believed."""

    async def story(keeper: Keeper, office: Office, world: World) -> None:
        await keeper.refresh("idp", 30)
        link = office.publisher._signer
        assert await Keeper(office, [], link.token_key).sync()  # type: ignore[attr-defined]
        assert list(office.snapshot.sections["issuers"]) == ["sealward"]

    tell(tmp_path, provider, story)


def test_a_deployment_from_before_tokens_gets_its_row_when_control_starts(tmp_path: Path) -> None:
    """`init` again has made the key; what is revoked in the row stays."""
    world = World(tmp_path)

    async def story(office: Office) -> None:
        await office.publisher.settle()
        link = office.publisher._signer
        keeper = Keeper(office, [], link.token_key)  # type: ignore[attr-defined]
        assert not await keeper.sync()
        office.settings = Settings.parse(
            SETTINGS + "doors: {names: [gate.example]}\n", tmp_path / "sealward.yaml", dt.date(2026, 11, 23)
        )
        assert await keeper.sync()
        row = office.snapshot.sections["issuers"]["sealward"]
        assert (row["audience"], row["keys"]) == ("https://gate.example:8443", {"jwks": [TOKEN_KEY.jwk]})

    world.run(story)
