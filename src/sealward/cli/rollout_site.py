"""What the checks of the rollout are pointed at: the doors' own route tables, the supervisor's sockets, the settings' models.

The rollout itself imports none of these: it asks by socket and TLS, as anybody would.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import orjson

from sealward.errors import ConfigurationError, UnreachableError
from sealward.formats.fault import FormatError
from sealward.formats.note import Verifier
from sealward.gateway.routes import INFERENCE, MANAGEMENT, Table
from sealward.host.deployment import Deployment
from sealward.host.supervisor import REPORT, ROLES, supervised
from sealward.rollout.asking import JSON
from sealward.rollout.site import Listener, Route, Runtime, Site, reached, trusting
from sealward.settings import Door, Doors, Settings


def site_of(deployment: Deployment, settings: Settings) -> Site:
    """The running deployment. UnreachableError: it is not up."""
    base, run = deployment.base, deployment.base / "run"
    if not supervised(base) or not (base / REPORT).exists():
        raise UnreachableError("the deployment is not up", remedy="start it: sealward up")
    listening, doors, ca = orjson.loads((base / REPORT).read_bytes())["listening"], settings.doors, base / "tls/ca.pem"
    return Site(
        inference=_listener("inference", listening["inference"], doors.inference, INFERENCE, doors, ca),
        management=_listener("management", listening["management"], doors.management, MANAGEMENT, doors, ca),
        sockets=_sockets(deployment),
        runtimes=[Runtime(name, model.runtime.url, model.runtime.danger_direct) for name, model in settings.models.items()],
        runtime_folder=base / "state/runtime",
        control=run / "control.owner.sock",
        recorder=run / "recorder.owner.sock",
        journal=base / "journal",
        log=_log_key(base / "trust/log.vkey"),
        users={user.uid for user in deployment.users.values()} if deployment.separated else (),
    )


def _listener(name: str, address: str, door: Door, table: Table, of: Doors, ca: Path) -> Listener:
    """Under the name that its certificate speaks for."""
    named = urlsplit(door.url or "").hostname or next(iter(of.names), None) if door.certificate_file else None
    routes = [Route(row.method, row.template, row.action, row.media.decode() or JSON) for row in table.all()]
    return Listener(name, reached(address), named or "localhost", trusting(ca, door.certificate_file), routes)


def _sockets(deployment: Deployment) -> dict[Path, int]:
    run = deployment.base / "run"
    return {run / f"{role.name}.{client}.sock": deployment.peers[client] for role in ROLES for client in role.clients}


def _log_key(path: Path) -> Verifier:
    try:
        return Verifier.parse(path.read_text("ascii").strip())
    except (OSError, ValueError, FormatError) as error:
        raise ConfigurationError(f"{path} does not hold the log's key", remedy="sealward init pins it") from error
