"""What there is to be probed: the doors with their route tables, the sockets, the model servers, the journal."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sealward.errors import ConfigurationError, UnreachableError
from sealward.formats.note import Verifier
from sealward.keyring.secret import Secret
from sealward.rollout.asking import JSON, TIMEOUT_S, Caller, over_tls


@dataclass(frozen=True, slots=True)
class Route:
    """A row of a door's table: a parameter of `template` stands in braces; `action`: what is decided, empty where nothing is."""

    method: str
    template: str
    action: str
    media: str = JSON
    """What its body must be."""

    @property
    def reads(self) -> bool:
        return self.method == "GET"

    def path(self, parameter: str) -> str:
        """The path with `parameter` in the place of each parameter."""
        return re.sub(r"\{[a-z_]+\}", parameter, self.template)

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True, slots=True)
class Listener:
    """One door as callers reach it. `host`: the name that its certificate must speak for."""

    name: str
    address: tuple[str, int]
    host: str
    context: ssl.SSLContext
    routes: Sequence[Route]

    def caller(self, credential: Secret | None = None, patience_s: float = 0) -> Caller:
        """Somebody at this door."""
        connect = over_tls(self.address, self.host, self.context)
        return Caller(connect, f"{self.host}:{self.address[1]}", credential, patience_s)

    def source(self) -> str:
        """The address from which this machine comes to this door. UnreachableError: nobody is there."""
        try:
            with socket.create_connection(self.address, TIMEOUT_S) as connection:
                return str(connection.getsockname()[0])
        except OSError as error:
            raise UnreachableError(f"the {self.name} door does not answer: {error}", remedy="sealward status") from error


@dataclass(frozen=True, slots=True)
class Runtime:
    """A model server. `url`: of one that others started; `direct`: no sidecar stands before it."""

    model: str
    url: str | None = None
    direct: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One running deployment. `sockets`: who alone may open each; `runtime_folder`: where the sidecar's own runtimes listen.

    `users`: whose processes they are, where each role is a user of its own, else empty.
    """

    inference: Listener
    management: Listener
    sockets: Mapping[Path, int]
    runtimes: Sequence[Runtime]
    runtime_folder: Path
    control: Path
    recorder: Path
    journal: Path
    log: Verifier
    users: Collection[int] = field(default=())

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return self.inference, self.management

    @property
    def sidecar(self) -> Path:
        return next(path for path in self.sockets if path.name == SIDECAR)


def trusting(ca: Path, certificate: Path | None) -> ssl.SSLContext:
    """For a door under the deployment's own `ca`, or with a `certificate` of its own: then exactly that one is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(certificate or ca)
    except OSError as error:  # SSLError is one
        raise ConfigurationError(f"{certificate or ca} cannot be read as a certificate: {error}") from error
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def reached(listening: str) -> tuple[str, int]:
    """Where a door that listens at `host:port` is reached from this machine."""
    host, _, port = listening.rpartition(":")
    return EVERYWHERE.get(host.strip("[]"), host.strip("[]")), int(port)


SIDECAR = "sidecar.door.sock"
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a door listens on is not ours to choose
