"""TLS 1.3 for a door: the context its master makes, and which names its certificate speaks for.

One context, made before the fork, so that a session resumes at whichever worker takes the connection (with a context in each
worker only 69 of 199 did). KNOWN: Python 3.11 has no way to choose cipher suites of TLS 1.3, groups or ticket keys.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sealward.errors import ConfigurationError
from sealward.identity.certificate import ClientCertificate


def server_context(certificate: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    """ConfigurationError: the files are not a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    context.sni_callback = _remember_name
    try:
        context.load_cert_chain(certificate, key)
        if client_ca is not None:
            context.load_verify_locations(client_ca)
            _ask_for_certificates(context)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{certificate.name}: no usable certificate and key", remedy="sealward network tls renew"
        ) from error
    return context


def shown_name(connection: Any) -> str | None:
    """The name that the client's hello asked for (SNI), of an `ssl_object`."""
    return getattr(connection, _NAME, None)


def trust_clients(context: ssl.SSLContext, roots: Iterable[x509.Certificate]) -> None:
    """Let clients with a certificate under `roots` finish a handshake from now on; who they are is decided by each request.

    Roots are only ever added: one that a snapshot no longer names proves nobody. No session is resumed any more, because a
    resumed one shows no chain, and nobody whose certificate has ended since.
    """
    ders = [root.public_bytes(Encoding.DER) for root in roots]
    if ders:
        context.load_verify_locations(cadata=b"".join(ders))
        _ask_for_certificates(context)


def client_certificate(connection: Any) -> ClientCertificate | None:
    """What the client of an `ssl_object` has proven to hold; None without one."""
    if not connection.getpeercert(binary_form=True):
        return None
    # KNOWN: Python has no public name for the chain before 3.13; `ssl.SSLObject` keeps it here since 3.10.
    chain = [certificate.public_bytes(DER) for certificate in connection._sslobj.get_unverified_chain()]  # noqa: SLF001 - the same
    return ClientCertificate.of(chain)


@dataclass(frozen=True, slots=True)
class Names:
    """The hosts a certificate speaks for: what `Host` may say."""

    names: frozenset[str]
    wildcards: frozenset[str]
    addresses: frozenset[str]

    @classmethod
    def of(cls, certificate: Path) -> Names:
        """From the subject alternative names. ConfigurationError: it has none."""
        try:
            parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
            alternatives = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, x509.ExtensionNotFound) as error:
            raise ConfigurationError(f"{certificate.name}: no certificate with alternative names") from error
        names = {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
        addresses = {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}
        plain = frozenset(name for name in names if not name.startswith("*."))
        return cls(plain, frozenset(name[2:] for name in names if name.startswith("*.")), frozenset(addresses))

    def allow(self, host: bytes, sni: str | None) -> bool:
        """Whether a `Host` header is one of ours, and the one the handshake asked for. Without SNI only an address will do."""
        name = _host_name(host)
        if name is None:
            return False
        if sni is not None and sni.lower() != name:
            return False
        if name in self.addresses:
            return True
        return sni is not None and (name in self.names or name.partition(".")[2] in self.wildcards)


def _ask_for_certificates(context: ssl.SSLContext) -> None:
    context.verify_mode = ssl.CERT_OPTIONAL
    context.num_tickets = 0


def _host_name(host: bytes) -> str | None:
    """`name`, `name:port`, `[v6]:port` → the name in lower case, an address in its usual form."""
    if not host.isascii():
        return None
    text = host.decode("ascii").lower()
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket:
            return None
    else:
        name, _, port = text.partition(":")
        rest = text[len(name) :]
    port = rest[1:]
    if rest and not (rest[0] == ":" and port.isdecimal() and 0 < int(port) < MAX_PORT):
        return None
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name if name and all(char.isalnum() or char in "-._" for char in name) else None


def _remember_name(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    del context
    setattr(connection, _NAME, name)


MAX_PORT = 65_536
DER = 2  # _ssl.ENCODING_DER
_NAME = "sealward_sni"
