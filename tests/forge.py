"""Hands that sign whatever they are asked to, and rules that believe some of them: the attacks on tokens leave from here.

Five issuers have a row: our own, an identity provider, a Kubernetes cluster, a CI service, a SPIFFE trust domain (tokens and
certificates). `Forge.token()` is the control, which is accepted; every attack changes one thing of it.
"""

from __future__ import annotations

import base64
import datetime as dt
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from people import NOW, PEPPER, key_row, snapshot
from sealward.errors import Refused
from sealward.formats.b64 import b64url
from sealward.formats.snapshot import Snapshot
from sealward.identity.access import Access
from sealward.identity.apikey import ApiKey, issue
from sealward.identity.certificate import ClientCertificate
from sealward.identity.principal import Principal

DOOR, OTHER_DOOR = "https://gate.example", "https://admin.example"
IDP, CLUSTER, CI, DOMAIN_TOKENS, DOMAIN = (
    "https://idp.example", "https://kubernetes.default.svc", "https://ci.example", "https://spire.example", "prod.example",
)  # fmt: skip
NOW_S = NOW // 1_000_000
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def b64(value: object) -> str:
    """A segment: of bytes as they are, of anything else as JSON."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@functools.cache
def p256(name: str) -> ec.EllipticCurvePrivateKey:
    """The same key for the same name."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(name.encode()).digest()) >> 1, ec.SECP256R1())


@functools.cache
def rsa_key(bits: int = 2048, name: str = "") -> rsa.RSAPrivateKey:
    """One a run."""
    del name
    return rsa.generate_private_key(65537, bits)


@functools.cache
def ed25519_key(name: str) -> ed25519.Ed25519PrivateKey:
    """The same key for the same name."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def jwk(key: Private, kid: str, alg: str) -> dict[str, str]:
    """The public half as a published key."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        n, e = public.public_numbers().n, public.public_numbers().e
        return {"kty": "RSA", "kid": kid, "alg": alg, "n": b64(n.to_bytes((n.bit_length() + 7) // 8)), "e": b64(e.to_bytes(3))}
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "kid": kid, "alg": alg, "crv": "Ed25519", "x": b64(public.public_bytes_raw())}
    numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
    point = {name: b64(value.to_bytes(size)) for name, value in (("x", numbers.x), ("y", numbers.y))}
    return {"kty": "EC", "kid": kid, "alg": alg, "crv": CURVES[size]} | point


def sign(key: Private, data: bytes) -> bytes:
    """A JWS signature by the key's usual algorithm."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    size = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(HASHES[size]())))
    return r.to_bytes(size) + s.to_bytes(size)


@dataclass(frozen=True)
class Forge:
    """One issuer's hand. `header` and `claims` are the control's."""

    key: Private = field(repr=False)
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def token(
        self,
        header: Mapping[str, Any] | None = None,
        *,
        drop: str = "",
        key: Private | None = None,
        raw_header: bytes = b"",
        raw_claims: bytes = b"",
        **claims: Any,
    ) -> bytes:
        """The control with members replaced, or one (of header or claims) dropped; signed as given, however wrong."""
        head = {name: value for name, value in {**self.header, **(header or {})}.items() if name != drop}
        body = {name: value for name, value in {**self.claims, **claims}.items() if name != drop}
        signed = f"{b64(raw_header or head)}.{b64(raw_claims or body)}"
        return f"{signed}.{b64(sign(key or self.key, signed.encode()))}".encode()

    def claims_text(self) -> str:
        return json.dumps(dict(self.claims))


def _times(life: int = 300) -> dict[str, int]:
    return {"iat": NOW_S, "exp": NOW_S + life}


_ACCESS = {"aud": DOOR, "client_id": "cli", "jti": "j-1"} | _times()
OURS = Forge(p256("ours"), {"alg": "ES256", "typ": "at+jwt", "kid": "own"}, {"iss": DOOR, "sub": "ann"} | _ACCESS)
PROVIDER = Forge(p256("idp"), {"alg": "ES256", "typ": "at+jwt", "kid": "k1"}, {"iss": IDP, "sub": "u-1"} | _ACCESS)
POD = Forge(
    p256("cluster"),
    {"alg": "ES256", "kid": "c1"},
    {
        "iss": CLUSTER, "aud": [DOOR], "sub": "system:serviceaccount:prod:bot", "jti": "t-9", "nbf": NOW_S,
        "kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "bot", "uid": "uid-1"}, "pod": {"uid": "q"}},
    } | _times(3600),
)  # fmt: skip
WORKFLOW = "acme/deploy/.github/workflows/release.yml@refs/heads/main"
PIPELINE = Forge(
    p256("ci"),
    {"alg": "ES256", "typ": "JWT", "kid": "g1", "x5t": "g1"},
    {
        "iss": CI, "aud": DOOR, "sub": "repo:acme/app:ref:refs/heads/main", "jti": "w-1", "repository": "acme/app",
        "repository_id": "42", "repository_owner_id": "7", "job_workflow_ref": WORKFLOW, "event_name": "push",
        "nbf": NOW_S - 600,
    } | _times(),
)  # fmt: skip
SVID = Forge(
    p256("spire"), {"alg": "ES256", "typ": "JWT", "kid": "s1"},
    {"iss": DOMAIN_TOKENS, "sub": f"spiffe://{DOMAIN}/bot", "aud": [DOOR]} | _times(),
)  # fmt: skip


def pinned(*keys: dict[str, str]) -> dict[str, Any]:
    """Keys that stand in the row."""
    return {"jwks": list(keys)}


def believed(name: str, source: Any, subject: str, pins: Mapping[str, str], profile: str) -> dict[str, Any]:
    """A row of `issuers`, for the inference door."""
    row = {"issuer": name, "audience": DOOR, "keys": source, "profile": profile, "max_age": 3700}
    return row | {"principals": [{"pins": dict(pins), "subject": subject}]}


def issuers(**more: Mapping[str, Any] | None) -> dict[str, Any]:
    """The rows; a keyword changes members of one of them, None takes it away."""
    rows: dict[str, dict[str, Any]] = {
        "sealward": {"profile": "sealward", "issuer": DOOR, "audience": DOOR, "max_age": 900,
                     "keys": pinned(jwk(p256("ours"), "own", "ES256"))},
        "idp": believed(IDP, pinned(jwk(p256("idp"), "k1", "ES256")), "ann", {"sub": "u-1"}, "rfc9068"),
        "cluster": believed(CLUSTER, pinned(jwk(p256("cluster"), "c1", "ES256")), "bot", {
            "kubernetes.io.namespace": "prod", "kubernetes.io.serviceaccount.name": "bot",
            "kubernetes.io.serviceaccount.uid": "uid-1"}, "kubernetes"),
        "ci": believed(CI, pinned(jwk(p256("ci"), "g1", "ES256")), "bot", {
            "repository_id": "42", "repository_owner_id": "7", "job_workflow_ref": WORKFLOW}, "github"),
        "spire": believed(DOMAIN_TOKENS, pinned(jwk(p256("spire"), "s1", "ES256")), "bot",
                          {"sub": f"spiffe://{DOMAIN}/bot"}, "jwt-svid"),
        "domain": believed(DOMAIN, {"certificates": [b64url(root().public_bytes(Encoding.DER))]}, "bot",
                           {"sub": f"spiffe://{DOMAIN}/bot"}, "x509-svid"),
    }  # fmt: skip
    return {name: row | (more.get(name) or {}) for name, row in rows.items() if more.get(name, row) is not None}


def town(rows: Mapping[str, Any] | None = None, **more: Mapping[str, Any]) -> Snapshot:
    """The people of people.py, a service `bot` that may use m1, and the issuers."""
    subjects = {"bot": {"kind": "service", "groups": [], "roles": ["consumer"]}} | dict(more.pop("subjects", {}))
    grants = {"g-bot": {"to": "subject:bot", "model": "m1", "actions": ["model:chat", "model:list"]}}
    keys = {KEY.id: key_row(KEY, "ann")} | dict(more.pop("keys", {}))
    return snapshot(issuers=issuers() if rows is None else rows, subjects=subjects, grants=grants, keys=keys, **more)


def rules(rows: Mapping[str, Any] | None = None, before: Access | None = None, **more: Mapping[str, Any]) -> Access:
    """What a door decides from."""
    return Access.build(town(rows, **more), PEPPER, "live", before)


@functools.cache
def usual() -> Access:
    """The rules that believe every control."""
    return rules()


def proven(token: bytes, found: Access | None = None, *, now: int = NOW, audience: str | None = DOOR, **more: Any) -> Principal:
    """Whom the token proves."""
    rule = found or usual()
    headers = more.pop("headers", [b"Bearer " + token] if token else [])
    return rule.authenticate(headers, source_addr=more.pop("addr", "10.0.0.7"), now_us=now, audience=audience, **more)


def refused(token: bytes, reason: str, found: Access | None = None, *, by: Forge | None = PROVIDER, **more: Any) -> Refused:
    """The one thing that was changed is why it is refused: the same hand's control is accepted by the usual rules."""
    if by is not None:
        assert proven(by.token()).id in {"ann", "bot"}
    with pytest.raises(Refused) as caught:
        proven(token, found, **more)
    assert caught.value.reason == reason, (caught.value.reason, caught.value.detail)
    return caught.value


def root(name: str = "root") -> x509.Certificate:
    """The self-signed root of a trust domain."""
    return certificate(name, name, ca=True, uris=(f"spiffe://{DOMAIN}",))


@functools.cache
def certificate(
    name: str,
    issuer: str = "root",
    *,
    ca: bool = False,
    uris: tuple[str, ...] = (f"spiffe://{DOMAIN}/bot",),
    purposes: tuple[str, ...] = ("client",),
    life: tuple[int, int] = (-3600, 3600),
    signs: bool | None = None,
    dns: tuple[str, ...] = (),
    common: str = "",
) -> x509.Certificate:
    """An X.509-SVID (or a CA) with the key p256(name), signed by p256(issuer); `life`: seconds from NOW."""
    now = dt.datetime.fromtimestamp(NOW_S, dt.UTC)
    start, end = (now + dt.timedelta(seconds=each) for each in life)
    public = p256(name).public_key()
    builder = x509.CertificateBuilder(_named(issuer), _named(common or name), public, x509.random_serial_number(), start, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    flags = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    signing = ca if signs is None else signs
    usage = x509.KeyUsage(
        digital_signature=not ca, key_cert_sign=signing, crl_sign=signing, encipher_only=False, decipher_only=False, **flags
    )
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(p256(issuer).public_key())
    builder = builder.add_extension(above, critical=False)
    names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else builder
    if purposes and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([PURPOSES[each] for each in purposes]), critical=False)
    return builder.sign(p256(issuer), hashes.SHA256())


def client(*chain: x509.Certificate) -> ClientCertificate:
    """As a connection shows it."""
    found = ClientCertificate.of([each.public_bytes(Encoding.DER) for each in chain])
    assert found is not None
    return found


def key_pem(name: str) -> bytes:
    """For a client's TLS."""
    return p256(name).private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


CURVES = {32: "P-256", 48: "P-384", 66: "P-521"}
HASHES: Mapping[int, type[hashes.HashAlgorithm]] = {32: hashes.SHA256, 48: hashes.SHA384, 66: hashes.SHA512}
PURPOSES = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
KEY: ApiKey = issue("live")
