"""The table of trust (contracts.md section 1) on a running deployment: each line that a file, a socket or a process can show."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from living import Living
from sealward.host.deployment import Deployment
from sealward.host.status import look
from sealward.settings import Settings
from uids import attempt, connect, open_folder, root_here

OWNER = 61299


@pytest.fixture(scope="module")
def living() -> Iterator[Living]:
    """One deployment with all its processes, for all tests here."""
    with open_folder() as folder:
        living = Living(folder / "ai", owner=OWNER if os.geteuid() == 0 else -1)
        yield living
        living.close()
        assert living.processes() == []


def status_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def test_every_process_is_its_own_user_without_rights(living: Living) -> None:
    """Every uid is the role's own, no capability is left and none can be gained; workers and children too."""
    if not root_here():
        return
    users = Deployment.at(living.home).users
    mains = {process["pid"]: name for name, process in living.report().items()}
    seen = set()
    for pid in set(living.processes()) - {living.supervisor.pid}:
        lines, above = status_of(pid), pid
        while above not in mains:
            above = int(status_of(above)["PPid"])
        role = mains[above]
        uid = str(users[role].uid)
        assert lines["Uid"].split() == [uid] * 4, role
        assert lines["Groups"].strip() == "", role
        assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == int(lines["CapInh"], 16) == 0
        assert lines["NoNewPrivs"] == "1"
        seen.add(role)
    assert seen == {"signer", "recorder", "control", "sidecar", "door", "admin"}


def test_no_process_reads_what_another_one_holds(living: Living) -> None:
    """Door: no journal, no signing key. Control: no log key. Recorder: no pepper. Everybody: only what is theirs."""
    if not root_here():
        return
    users = Deployment.at(living.home).users
    owner = {"state/signer": "signer", "state/control": "control", "state/door": "door", "state/admin": "admin"}
    owner |= {"state/runtime": "sidecar", "journal/private": "recorder", "owner": "owner"}
    for name, holder in owner.items():
        folder = living.home / name
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files or name == "state/runtime"
        for role, user in users.items():
            if role == holder:
                continue
            assert attempt(user.uid, lambda folder=folder: list(folder.iterdir())) == "EACCES", (role, name)
            for path in files:
                assert attempt(user.uid, path.read_bytes) in {"EACCES", "ENOENT"}, (role, path)


def test_every_socket_lets_its_one_client_in(living: Living) -> None:
    """The door cannot speak for control, nobody but the door reaches the sidecar, and the owner's sockets are the owner's."""
    if not root_here():
        return
    peers = Deployment.at(living.home).peers
    sockets = sorted(path for path in (living.home / "run").glob("*.sock") if not path.name.startswith("notify."))
    names = {path.name.removesuffix(".sock") for path in sockets}
    assert names == {
        *(f"signer.{client}" for client in ("door", "admin", "recorder", "runtime", "control")),
        *(f"recorder.{client}" for client in ("door", "admin", "control", "runtime", "supervisor", "owner")),
        *("control.admin", "control.owner", "control.door", "sidecar.door"),
    }
    for path in sockets:
        client = path.name.split(".")[1]
        assert path.stat().st_mode & 0o777 == 0o600
        for name, uid in peers.items():
            if uid != 0:
                assert attempt(uid, connect(path)) == ("ok" if name == client else "EACCES"), (name, path.name)
        assert attempt(peers["inspector"], connect(path)) == "EACCES"


def test_the_owner_sees_the_status_without_being_root(living: Living) -> None:
    """`sealward.yaml` may belong to somebody else than who starts the processes; others do not see it."""
    if not root_here():
        return
    deployment, settings = Deployment.at(living.home), Settings.load(living.home)

    def serving() -> None:
        if not look(deployment, settings, dt.datetime.now(dt.UTC)).serving:
            raise TimeoutError

    assert serving() is None
    assert attempt(OWNER, serving) == "ok"
    assert attempt(deployment.users["door"].uid, serving) == "EACCES"


def test_no_process_can_plant_a_socket_or_look_into_another(living: Living) -> None:
    """The folder of sockets is ours alone; memory of another process, even of the same user, is out of reach."""
    if not root_here():
        return
    users, report = Deployment.at(living.home).users, living.report()
    assert report
    for user in users.values():
        assert attempt(user.uid, (living.home / "run/x.sock").touch) == "EACCES"
        assert attempt(user.uid, (living.home / "run/signer.door.sock").unlink) == "EACCES"
    for name, process in report.items():
        memory = Path(f"/proc/{process['pid']}/mem")
        for uid in {users["door"].uid, users[name].uid}:
            assert attempt(uid, lambda memory=memory: memory.open("rb").close()) == "EACCES", name


def test_the_journal_can_be_verified_by_anybody_and_changed_by_nobody_else(living: Living) -> None:
    """Checkpoint and tiles are public; only the recorder's user writes them."""
    if not root_here():
        return
    door = Deployment.at(living.home).users["door"].uid
    for path in (living.home / "journal/checkpoint", living.home / "journal/vkey"):
        assert attempt(door, path.read_bytes) == "ok"
        assert attempt(door, lambda path=path: path.open("ab").close()) == "EACCES"
        assert attempt(door, path.unlink) == "EACCES"


def test_a_killed_process_comes_back_and_serves_again(living: Living) -> None:
    """Kill -9 of each process in turn: the same key is served again."""
    key = living.key("phoenix")
    assert living.ask(key)[0] == 200
    for name in ("signer", "recorder", "control", "sidecar", "door", "admin"):
        pid = living.report()[name]["pid"]
        os.kill(pid, signal.SIGKILL)
        living.until(lambda name=name, pid=pid: living.report()[name]["pid"] != pid and living.report()[name]["state"] == "ready")
        living.until(lambda: living.ask(key)[0] == 200)
    assert living.status()["ok"]
