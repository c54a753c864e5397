"""What a deployment is doing now: gathered by one look, shown by `sealward status`, judged by `sealward doctor`."""

from __future__ import annotations

import datetime as dt
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from cryptography import x509

from sealward.errors import UnreachableError
from sealward.host.ask import ask, get
from sealward.host.deployment import STATE, Deployment
from sealward.host.supervisor import REPORT, ROLES, supervised
from sealward.settings import Observe, Settings


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a deployment. `recorder` and `sidecar` are their own answers, empty where they gave none."""

    settings: Settings
    now: dt.datetime
    separated: bool
    up: bool = False
    processes: Sequence[Mapping[str, Any]] = ()
    listening: Mapping[str, str] = field(default_factory=dict)
    recorder: Mapping[str, Any] = field(default_factory=dict)
    sidecar: Mapping[str, Any] = field(default_factory=dict)
    certificate_ends: dt.datetime | None = None
    exposed: Sequence[str] = ()

    @property
    def down(self) -> list[str]:
        """The processes that are not ready."""
        states = {process["name"]: process["state"] for process in self.processes}
        return [role.name for role in ROLES if states.get(role.name) != "ready"]

    @property
    def serving(self) -> bool:
        """Every process is ready, the recorder admits and every model is presented."""
        states = {self.model_state(name) for name in self.settings.models}
        return self.up and not self.down and self.recorder.get("state") == "serving" and states <= {"ready", "direct"}

    def model_state(self, name: str) -> str:
        """`ready`, `loading`, `failed`; `absent`: not presented; `direct`: no sidecar; `unknown`: nobody to ask."""
        if self.settings.models[name].runtime.danger_direct:
            return "direct"
        if not self.sidecar:
            return "unknown"
        return str(self.sidecar.get("state")) if name in self.sidecar.get("models", {}) else "absent"


def look(deployment: Deployment, settings: Settings, now: dt.datetime) -> Seen:
    """One look; what does not answer is left empty, and who is not ready is not asked."""
    run = deployment.base / "run"
    up = supervised(deployment.base)
    report = orjson.loads((deployment.base / REPORT).read_bytes()) if up and (deployment.base / REPORT).exists() else {}
    processes = report.get("processes", [])
    ready = {process["name"] for process in processes if process["state"] == "ready"}
    return Seen(
        settings=settings,
        now=now,
        separated=deployment.separated,
        up=up,
        processes=processes,
        listening=report.get("listening", {}),
        recorder=_answer(lambda: ask(run / "recorder.owner.sock", {"op": "status"})) if "recorder" in ready else {},
        sidecar=_sidecar(run / "sidecar.door.sock", settings) if "sidecar" in ready else {},
        certificate_ends=_end(settings.doors.inference.certificate_file or deployment.base / "tls/server.pem"),
        exposed=_exposed(deployment),
    )


def told(seen: Seen, warnings: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """`status --json` (contracts.md section 12), with the doors' addresses."""
    recorder, digests, settings = seen.recorder, seen.sidecar.get("models", {}), seen.settings
    lease = recorder.get("keyring", recorder.get("state", "unknown"))
    return {
        "ok": seen.serving,
        "processes": [{name: process[name] for name in ("name", "pid", "state", "since")} for process in seen.processes],
        "listening": dict(seen.listening),
        "epoch": recorder.get("epoch", 0),
        "journal": {name: recorder.get(name, 0) for name in ("size", "checkpoint_age_ms", "free_bytes")}
        | ({"witnesses": recorder["witnesses"]} if recorder.get("witnesses") else {}),
        "keyring": {"provider": settings.keyring.provider.kind, "state": lease},
        "models": [{"id": name, "digest": digests.get(name, ""), "state": seen.model_state(name)} for name in settings.models],
        "modes": {name: _mode(mode) for name, mode in settings.modes},
        "warnings": list(warnings),
    }


def _sidecar(path: Path, settings: Settings) -> dict[str, Any]:
    """Its health. An owner who is not root cannot ask the door's socket: ready means that every model is loaded."""
    if not os.access(path, os.W_OK):
        return {"state": "ready", "models": dict.fromkeys(settings.models, "")}
    return _answer(lambda: get(path, "/sealward/v1/health"))


def _answer(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return question()
    except UnreachableError:
        return {}


def _end(certificate: Path) -> dt.datetime | None:
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def _exposed(deployment: Deployment) -> list[str]:
    """Private folders and files that somebody else could read or replace."""
    base = deployment.base
    private = [base / "owner", base / "journal/private", *(base / "state" / name for name in STATE.values())]
    found = [path for path in private if path.exists() and path.stat().st_mode & 0o077]
    guarded = [deployment.home / "sealward.yaml", base / "trust", base / "tls", base / "run", base / "state"]
    found += [path for path in guarded if path.exists() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)]
    return [str(path.relative_to(base) if path.is_relative_to(base) else path.name) for path in found]


def _mode(mode: str | Observe) -> Any:
    return {"observe": mode.observe.isoformat()} if isinstance(mode, Observe) else mode
