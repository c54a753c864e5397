"""What is wrong with a deployment, or weaker than it should be, and what to do about it: pure rules over one look."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from sealward.host.status import Seen
from sealward.settings import Observe

Severity = Literal["error", "warning", "info"]


class Finding(NamedTuple):
    """One thing to know. error: something does not work; warning: it works with less protection, or not for long."""

    code: str
    severity: Severity
    text: str
    remedy: str


def findings(seen: Seen) -> list[Finding]:
    """Everything there is to say, errors first."""
    found = [finding for rule in RULES for finding in rule(seen)]
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.severity))


def _host(seen: Seen) -> Iterator[Finding]:
    if not seen.separated:
        yield _say("one_user", "warning")
    for path in seen.exposed:
        yield _say("exposed", "error", path=path)
    if seen.certificate_ends is None:
        yield _say("no_certificate", "error")
        return
    days = (seen.certificate_ends - seen.now) // dt.timedelta(days=1)
    if days < 0:
        yield _say("certificate_ended", "error")
    elif days < WARN_DAYS:
        yield _say("certificate_ends", "warning", days=days)


def _processes(seen: Seen) -> Iterator[Finding]:
    if not seen.up:
        yield _say("not_up", "warning")
        return
    for name in seen.down:
        yield _say("process_down", "error", name=name)
    if not seen.recorder and "recorder" not in seen.down:
        yield _say("recorder_silent", "error")


def _journal(seen: Seen) -> Iterator[Finding]:
    recorder = seen.recorder
    if not recorder:
        return
    state = recorder["state"]
    if state != "serving":
        yield Finding(state, "error", f"the recorder admits nothing: {state}", WAYS_BACK.get(state, "read its log"))
    if recorder["size"] > recorder["checkpoint_size"] and recorder["checkpoint_age_ms"] > OLD_CHECKPOINT_MS:
        yield _say("checkpoint_old", "error", seconds=recorder["checkpoint_age_ms"] // 1000)
    for witness in recorder.get("witnesses", ()):
        if witness["state"] in {"lost", "behind"}:
            yield _say(f"witness_{witness['state']}", WITNESS[witness["state"]], name=witness["name"])
    if recorder["free_bytes"] < PLENTY:
        yield _say("disk_low", "error" if recorder["free_bytes"] < RESERVED else "warning", mib=recorder["free_bytes"] >> 20)


def _models(seen: Seen) -> Iterator[Finding]:
    if not seen.settings.models:
        yield _say("no_models", "warning")
    for name, model in seen.settings.models.items():
        if seen.model_state(name) in {"absent", "failed"}:
            yield _say("model_absent", "error", name=name)
        if model.runtime.danger_direct:
            yield _say("danger_direct", "warning", name=name)
        elif model.runtime.url:
            yield _say("unproven" if model.weights else "unhashed", "warning", name=name)


def _settings(seen: Seen) -> Iterator[Finding]:
    for name, mode in seen.settings.modes:
        if isinstance(mode, Observe):
            over = mode.observe < seen.now.date()
            yield _say("observed" if over else "observing", "info" if over else "warning", name=name, date=mode.observe)
    if seen.settings.inspection.prompt == seen.settings.inspection.reply == "off":
        yield _say("not_inspected", "info")
    if not seen.settings.journal.witnesses:
        yield _say("no_witness", "info")
    if seen.settings.identity.local_admin:
        yield _say("local_admin", "info")


def _say(code: str, severity: Severity, **facts: Any) -> Finding:
    text, remedy = WORDS[code]
    return Finding(code, severity, text.format(**facts), remedy.format(**facts))


RULES = (_host, _processes, _journal, _models, _settings)
WORDS = {
    "one_user": (
        "all processes share one user: none is kept from another's keys, whoever takes any of them is the administrator",
        "run `sealward init` and `sealward up` as root: each process then becomes a user of its own",
    ),
    "exposed": ("{path} can be read or replaced by others", "run `sealward init` again: it sets owners and modes right"),
    "no_certificate": ("the doors' certificate cannot be read", "run `sealward init` again"),
    "certificate_ended": ("the doors' certificate has ended", "run `sealward init` again, then `sealward up`"),
    "certificate_ends": ("the doors' certificate ends in {days} days", "run `sealward init` again, then `sealward up`"),
    "not_up": ("no supervisor runs", "sealward up"),
    "process_down": ("{name} is not ready", "its own words stand in the log of `sealward up`"),
    "recorder_silent": ("the recorder does not answer", "ask as the owner of sealward.yaml; read its log"),
    "checkpoint_old": ("the last checkpoint is {seconds} s old", "read the recorder's log"),
    "witness_lost": (
        "the witness {name} does not cosign: what came since could be rewritten unseen",
        "look whether it answers; `sealward witness drop {name} --because …` does without it",
    ),
    "witness_behind": (
        "the witness {name} holds, signed by this log's key, what this disk does not extend",
        "find out who else has the log's key or which copy was restored; then `sealward recover journal --successor`",
    ),
    "no_witness": (
        "no witness holds this log's checkpoints: whoever has root here can rewrite it unseen by those who kept no copy",
        "let somebody else run `sealward witness serve` and name it under journal.witnesses",
    ),
    "disk_low": ("{mib} MiB are free for the journal", "free space before it is full: then nothing is served"),
    "no_models": ("no model is configured", "add one under `models:` in sealward.yaml"),
    "model_absent": ("the sidecar does not present {name}", "read the sidecar's log"),
    "danger_direct": ("{name} has no sidecar: a taken door is served by it without an entry", "put a sidecar before it"),
    "unproven": (
        "{name} runs in a server that others started: its weights are hashed, but nothing proves that they answer",
        "let the sidecar start it: `runtime: {{start: xllamacpp}}`",
    ),
    "unhashed": ("the digest of {name} is that of its address, not of its weights", "name its `weights` in sealward.yaml"),
    "observing": ("{name} only observes until {date}", "write `{name}: enforce` under `modes:`"),
    "observed": ("{name} enforces since {date}", "write `{name}: enforce` under `modes:`"),
    "not_inspected": ("prompts and replies are recorded, not inspected", "nothing yet: inspection comes with a later version"),
    "local_admin": (
        "the owner of sealward.yaml is a model-admin on this machine",
        "create an administrator, then write `local_admin: false` under `identity:`",
    ),
}
WAYS_BACK = {
    "journal_full": "free space on the journal's disk",
    "journal_io": "look at the disk's health, then start `sealward up` again",
    "journal_damaged": "sealward journal verify",
    "journal_stalled": "look at the journal's disk, and whether enough witnesses answer (journal.witness_freshness)",
    "key_unavailable": "look whether the key provider answers",
    "no_snapshot": "look whether control runs: it proposes the first snapshot",
    "no_heartbeat": "look whether the signer runs",
}
WITNESS: dict[str, Severity] = {"lost": "warning", "behind": "error"}
WARN_DAYS = 21
OLD_CHECKPOINT_MS = 10_000
RESERVED, PLENTY = 64 << 20, 1 << 30
