"""Phase 1 against real deployments: done where everything stands, and turned by each protection that is switched off.

One deployment is as `init` makes it, but for a model server on a socket of its own. In the other one real processes are broken:
a door takes callers without a credential for the administrator and forgets its reads, a role was signed with an act too much.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from living import MODEL, Living
from sealward.cli import run
from sealward.cli.rollout_site import site_of
from sealward.errors import UnreachableError
from sealward.host.deployment import Deployment
from sealward.journal.client import read_rows
from sealward.process import User
from sealward.rollout import endpoints
from sealward.rollout.asking import Caller, over_unix
from sealward.rollout.site import Site
from sealward.settings import Settings
from uids import open_folder

ENDPOINTS, ROLES, JOURNAL = (
    "Enable authentication on all endpoints",
    "Implement RBAC for model management",
    "Deploy activity journaling",
)
BROKEN = """
import sys
words = sys.orig_argv
if words[-3:-2] == ["init"] or "init" in words:
    from sealward.identity.roles import BUILT_IN
    BUILT_IN["operator"] = (*BUILT_IN["operator"], "apikey:list", "model:approve")
if "door" in words:
    from sealward.gateway.refusals import Refusals
    from sealward.identity.access import Access
    from sealward.identity.principal import Principal
    proven = Access.authenticate
    def authenticate(self, authorization, **rest):
        return proven(self, authorization, **rest) if authorization else Principal("anybody", "human", (), (), "local")
    Access.authenticate, Refusals.read = authenticate, lambda *_: None
"""


@pytest.fixture(scope="module")
def sound() -> Iterator[Living]:
    """Everything as it should be, the model server on a socket that only the sidecar opens."""
    with open_folder() as folder:
        living = Living(folder / "ai", model=folder / "model.sock")
        yield living
        living.close()
        assert living.processes() == []


@pytest.fixture(scope="module")
def broken() -> Iterator[Living]:
    """Processes that were changed: by a module that Python loads before ours."""
    with open_folder() as folder, pytest.MonkeyPatch.context() as patch:
        (folder / "sitecustomize.py").write_text(BROKEN)
        patch.setenv("PYTHONPATH", str(folder))
        living = Living(folder / "ai", model=folder / "model.sock")
        patch.delenv("PYTHONPATH")
        yield living
        living.close()
        assert living.processes() == []


def rollout(living: Living, *arguments: str) -> tuple[int, dict[str, Any]]:
    """(exit code, JSON) of `sealward rollout …`."""
    with contextlib.redirect_stdout(io.StringIO()) as told:
        code = run(["--home", str(living.home), "rollout", *arguments, "--json"])
    return code, json.loads(told.getvalue())


def tasks(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every task by its words."""
    return {task["name"]: task for phase in found["phases"] for task in phase["tasks"]}


def details(task: dict[str, Any], result: str = "fail") -> list[str]:
    """What was seen."""
    return [f"{each['check']}: {each['detail']}" for each in task["evidence"] if each["result"] == result]


def rows(living: Living) -> dict[int, dict[str, Any]]:
    """Every entry of the journal by its index."""
    return {row["index"]: row["event"] for row in read_rows(site(living).recorder, {"from": 0}) or ()}


def site(living: Living) -> Site:
    """What the checks are pointed at."""
    return site_of(Deployment.at(living.home), Settings.load(living.home))


def listed(living: Living, noun: str) -> list[dict[str, Any]]:
    """What the admin API shows its owner."""
    with contextlib.closing(Caller(over_unix(site(living).control), "control")) as owner:
        found: list[dict[str, Any]] = owner.ask("GET", f"/api/v1/{noun}").value
        return found


def test_phase_1_is_done_on_a_sound_deployment(sound: Living) -> None:
    """Three tasks are done with evidence that names entries; the rest is not built, which is no failure. `status` repeats it."""
    code, found = rollout(sound, "check")
    task = tasks(found)
    assert [task[name]["state"] for name in (ENDPOINTS, ROLES, JOURNAL)] == ["done"] * 3, found
    assert (code, found["ok"]) == (0, True)
    assert {each["state"] for name, each in task.items() if name not in {ENDPOINTS, ROLES, JOURNAL}} == {"not built"}
    assert rollout(sound, "status") == (0, found)
    events = rows(sound)
    named = {each["detail"].rpartition(": ")[2]: events[each["entry"]]["type"] for each in task[JOURNAL]["evidence"][:9]}
    assert all(said == there for said, there in named.items())
    assert {"request.refused", "inference.denied", "admin.denied", "access.read", "apikey.created"} < named.keys()
    assert {"inference.admitted", "inference.completed"} < named.keys()
    probes = [events[each["entry"]]["subject"]["id"] for each in task[ROLES]["evidence"]]
    assert probes == [f"rollout-probe.{role}" for role in ("nobody", "model-admin", "operator", "consumer", "auditor")]


def leave_a_probe(living: Living) -> None:
    """What a check leaves that is killed: a service that may act, with a key, a grant and somebody else's role."""
    with contextlib.closing(Caller(over_unix(site(living).control), "control")) as owner:
        known = {row["id"] for row in owner.ask("GET", "/api/v1/services").value}
        verb = "services/rollout-probe.consumer/enable" if "rollout-probe.consumer" in known else "services"
        made = [
            owner.ask("POST", f"/api/v1/{verb}", {"id": "rollout-probe.consumer"} if verb == "services" else None),
            owner.ask("POST", "/api/v1/roles/model-admin/subjects", {"subject": "rollout-probe.consumer"}),
            owner.ask("POST", "/api/v1/apikeys", {"owner": "rollout-probe.consumer"}),
            owner.ask("POST", "/api/v1/grants", {"to": "subject:rollout-probe.consumer", "model": MODEL}),
        ]
        assert all(answer.ok for answer in made), made


def test_a_check_asks_every_route_and_leaves_nothing_behind(sound: Living) -> None:
    """Not one row of the tables is left out; afterwards no probe has a key, a grant or its rights, nothing else was changed.

    A run that was killed left all of these: they are gone too, and were never used.
    """
    before = listed(sound, "models"), listed(sound, "limits")
    leave_a_probe(sound)
    _, found = rollout(sound, "check", "--phase", "1")
    here = site(sound)
    refused = {each["check"]: each["detail"].split()[0] for each in tasks(found)[ENDPOINTS]["evidence"]}
    for door in here.listeners:
        assert refused[f"{door.name} door"] == str(
            len(door.routes) - len([row for row in door.routes if str(row) in endpoints.PUBLIC])
        )
    asked = [each["detail"].split() for each in tasks(found)[ROLES]["evidence"]]
    assert {int(words[0]) + int(words[3]) for words in asked} == {len([row for row in here.management.routes if row.action])}
    assert details(tasks(found)[ROLES], "left out") == details(tasks(found)[ROLES]) == []
    assert [row["id"] for row in listed(sound, "services") if "disabled" not in row] == []
    assert listed(sound, "apikeys") == listed(sound, "grants") == []
    assert (listed(sound, "models"), listed(sound, "limits")) == before


def test_an_opened_socket_regresses_the_endpoints_until_it_is_closed(sound: Living) -> None:
    """Of sidecar, signer and model server; each change of the state is one `rollout.task`, standing still is none."""
    _, good = rollout(sound, "check", "--phase", "1")
    opened = [sound.home.parent / name for name in ("ai/run/sidecar.door.sock", "ai/run/signer.control.sock", "model.sock")]
    for path in opened:
        path.chmod(0o666)
    try:
        code, found = rollout(sound, "check", "--phase", "1")
    finally:
        for path in opened:
            path.chmod(0o600)
    assert (code, found["ok"]) == (1, False)
    task = tasks(found)[ENDPOINTS]
    assert task["state"] == "regressed"
    assert [words.split(":")[1].strip() for words in details(task)] == [opened[1].name, opened[0].name, opened[2].name]
    assert task["since"] > tasks(good)[ENDPOINTS]["since"]
    assert tasks(found)[ROLES] | {"evidence": 0} == tasks(good)[ROLES] | {"evidence": 0}
    code, again = rollout(sound, "check", "--phase", "1")
    assert (code, tasks(again)[ENDPOINTS]["state"]) == (0, "done")
    told = [event["task"] for event in rows(sound).values() if event["type"] == "rollout.task"]
    assert told[-2:] == [
        {"phase": "phase_1", "name": ENDPOINTS, "state": "regressed", "before": "done"},
        {"phase": "phase_1", "name": ENDPOINTS, "state": "done", "before": "regressed"},
    ]


def test_each_protection_that_is_switched_off_turns_its_task(broken: Living) -> None:
    """Routes that answer anybody, acts that are too much, an entry that is missing: each is named, the rest still counts.

    One test, because it takes a deployment of its own.
    """
    code, found = rollout(broken, "check", "--phase", "1")
    assert code == 1
    task = tasks(found)
    assert [task[name]["state"] for name in (ENDPOINTS, ROLES, JOURNAL)] == ["partial"] * 3
    assert "inference door: GET /v1/models answers 200 without a credential" in details(task[ENDPOINTS])
    assert any(words.startswith("management door: ") for words in details(task[ENDPOINTS], "pass"))
    assert details(task[ROLES]) == [
        "role operator: GET /api/v1/apikeys is allowed, and apikey:list is none of its acts",
        "role operator: POST /api/v1/models/{id}/approve is allowed, and model:approve is none of its acts",
    ]
    entry = next(each["entry"] for each in task[ROLES]["evidence"] if each["result"] == "fail")
    assert rows(broken)[entry]["subject"]["id"] == "rollout-probe.operator"
    assert details(task[JOURNAL]) == ["entries: a list of models: no access.read in the journal"]


def test_what_is_not_up_cannot_be_checked(tmp_path: Path) -> None:
    """Nothing is said about it, and nothing forgotten."""
    (tmp_path / "run").mkdir()
    (tmp_path / "sealward.yaml").write_text("version: 1\njournal: {origin: journal.test/1}\n")
    deployment = Deployment(tmp_path, tmp_path, User(os.geteuid(), os.getegid()), {})
    with pytest.raises(UnreachableError):
        site_of(deployment, Settings.load(tmp_path))
