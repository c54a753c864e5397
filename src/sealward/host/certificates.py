"""The deployment's own certificate authority and the certificate of its doors, until `network tls` brings others.

CA: ECDSA P-256, 10 years, may sign leaves only. Server: 90 days, localhost and the configured names, made anew by
`sealward init` when fewer than 30 days are left or the names changed.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey


def new_key() -> Key:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """The key as PKCS #8 in PEM, not encrypted: the file's mode protects it."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def load_key(pem: bytes) -> Key:
    """The P-256 key in `pem`. ValueError when it is another kind."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an elliptic curve key")  # noqa: TRY004 - the bytes are wrong, not a type of ours
    return key


def authority(key: Key, name: str, now: dt.datetime) -> x509.Certificate:
    """A self-signed CA that may sign leaves only."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"sealward {name}"[:64])])
    builder = _builder(subject, subject, key.public_key(), now, CA_LIFE)
    usage = _usage(signs_certificates=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(
        usage, critical=True
    )
    return builder.sign(key, hashes.SHA256())


def server(key: Key, names: Sequence[str], ca: x509.Certificate, ca_key: Key, now: dt.datetime) -> x509.Certificate:
    """A server certificate for `names` (host names and addresses), signed by `ca`."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issuer_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    return (
        _builder(subject, ca.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(issuer_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def serves(certificate: x509.Certificate, names: Sequence[str], now: dt.datetime) -> bool:
    """Whether the certificate is for exactly these names and is not to be renewed yet."""
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(found) == {_general_name(name) for name in names} and certificate.not_valid_after_utc - now > RENEW_BEFORE


def pem(certificate: x509.Certificate) -> bytes:
    """The certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: dt.datetime, life: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


CA_LIFE = dt.timedelta(days=3650)
SERVER_LIFE = dt.timedelta(days=90)
RENEW_BEFORE = dt.timedelta(days=30)
SKEW = dt.timedelta(minutes=5)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
