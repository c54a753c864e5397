"""doctor and status: every weaker way is named with its remedy; nothing is called serving that is not."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from sealward.host.doctor import RULES, WAYS_BACK, WORDS, findings
from sealward.host.status import Seen, told
from sealward.host.supervisor import ROLES
from sealward.settings import Settings

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
MODEL = "models: {a: {weights: w, runtime: {start: xllamacpp}}}\n"
RECORDER = {"state": "serving", "size": 5, "checkpoint_size": 5, "checkpoint_age_ms": 50, "free_bytes": 1 << 40, "epoch": 7}


def seen(text: str = MODEL, **changes: Any) -> Seen:
    """A look at a deployment where all is well, but for `changes`."""
    settings = Settings.parse("version: 1\njournal: {origin: o}\n" + text, Path("/x/sealward.yaml"), NOW.date())
    well: dict[str, Any] = {
        "separated": True,
        "up": True,
        "processes": [{"name": role.name, "pid": 9, "state": "ready", "since": "t", "restarts": 0} for role in ROLES],
        "recorder": RECORDER,
        "sidecar": {"state": "ready", "models": {"a": "sha256:00"}},
        "certificate_ends": NOW + dt.timedelta(days=80),
    }
    return Seen(settings=settings, now=NOW, **well | changes)


def codes(look: Seen) -> list[tuple[str, str]]:
    """Code and severity of everything but the standing remarks."""
    return [(found.code, found.severity) for found in findings(look) if found.code not in STANDING]


STANDING = {"not_inspected", "local_admin", "no_witness"}


def test_where_all_is_well_nothing_is_said() -> None:
    """A warning that is always there is read by nobody; what is not built yet is only a remark."""
    look = seen()
    assert codes(look) == []
    assert {found.severity for found in findings(look)} == {"info"}
    assert told(look, [])["ok"] is True


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"separated": False}, ("one_user", "warning")),
        ({"exposed": ["state/door"]}, ("exposed", "error")),
        ({"certificate_ends": None}, ("no_certificate", "error")),
        ({"certificate_ends": NOW + dt.timedelta(days=20)}, ("certificate_ends", "warning")),
        ({"certificate_ends": NOW - dt.timedelta(seconds=1)}, ("certificate_ended", "error")),
        ({"up": False}, ("not_up", "warning")),
        ({"recorder": {}}, ("recorder_silent", "error")),
        ({"recorder": RECORDER | {"state": "journal_full"}}, ("journal_full", "error")),
        ({"recorder": RECORDER | {"size": 6, "checkpoint_age_ms": 11_000}}, ("checkpoint_old", "error")),
        ({"recorder": RECORDER | {"free_bytes": 1 << 29}}, ("disk_low", "warning")),
        ({"recorder": RECORDER | {"free_bytes": 1 << 20}}, ("disk_low", "error")),
        ({"recorder": RECORDER | {"state": "journal_stalled"}}, ("journal_stalled", "error")),
        ({"recorder": RECORDER | {"witnesses": [{"name": "w", "state": "lost"}]}}, ("witness_lost", "warning")),
        ({"recorder": RECORDER | {"witnesses": [{"name": "w", "state": "behind"}]}}, ("witness_behind", "error")),
        ({"recorder": RECORDER | {"witnesses": [{"name": "w", "state": "new"}]}, "separated": False}, ("one_user", "warning")),
        ({"sidecar": {"state": "ready", "models": {}}}, ("model_absent", "error")),
        ({"text": ""}, ("no_models", "warning")),
        ({"text": "models: {a: {runtime: {url: 'http://127.0.0.1:1'}}}\n"}, ("unhashed", "warning")),
        ({"text": "models: {a: {weights: w, runtime: {url: 'http://127.0.0.1:1'}}}\n"}, ("unproven", "warning")),
        ({"text": "models: {a: {runtime: {url: 'http://gpu', danger_direct: true}}}\n"}, ("danger_direct", "warning")),
        ({"text": MODEL + "modes: {network: {observe: 2026-12-24}}\n"}, ("observing", "warning")),
        ({"text": MODEL + "modes: {network: {observe: 2026-11-23}}\n"}, ("observed", "info")),
    ],
)
def test_each_weakness_is_named_with_its_remedy(changes: dict[str, Any], found: tuple[str, str]) -> None:
    """One finding a weakness, and nothing else with it."""
    look = seen(**changes)
    assert codes(look) == [found]
    assert all(finding.remedy for finding in findings(look))


def test_a_process_that_is_not_ready_is_named() -> None:
    """The one that is missing, not all."""
    look = seen(processes=seen().processes[:-1])
    assert codes(look) == [("process_down", "error")]
    assert "admin" in findings(look)[0].text


@pytest.mark.parametrize(
    "changes",
    [
        {"up": False},
        {"recorder": {}},
        {"recorder": RECORDER | {"state": "no_snapshot"}},
        {"sidecar": {}},
        {"sidecar": {"state": "loading", "models": {"a": ""}}},
        {"processes": []},
    ],
)
def test_status_is_ok_only_when_requests_are_served(changes: dict[str, Any]) -> None:
    """`ok` is what a script waits for."""
    assert told(seen(**changes), [])["ok"] is False


def test_status_has_the_members_that_tools_rely_on() -> None:
    """Contracts section 12."""
    value = told(seen(), [{"code": "c", "text": "t", "remedy": "r"}])
    assert value.keys() - {"listening"} == {"ok", "processes", "epoch", "journal", "keyring", "models", "modes", "warnings"}
    assert value["processes"][0] == {"name": "signer", "pid": 9, "state": "ready", "since": "t"}
    assert value["journal"] == {"size": 5, "checkpoint_age_ms": 50, "free_bytes": 1 << 40}
    assert value["models"] == [{"id": "a", "digest": "sha256:00", "state": "ready"}]
    assert value["modes"] == {"model_signatures": "enforce", "inspection": "enforce", "network": "enforce"}


def test_every_finding_has_words() -> None:
    """No code without a text and a remedy."""
    assert RULES
    for text, remedy in WORDS.values():
        assert text
        assert remedy
    assert all(WAYS_BACK.values())
