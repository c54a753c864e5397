"""`sealward up` over trivial programs: order, restarts, an end that leaves nothing, users that cannot reach each other."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sealward.host.deployment import Deployment, make_keys, prepare
from sealward.host.users import role_users
from uids import attempt, connect, open_folder, processes_of, root_here

PROGRAM = Path(__file__).with_name("supervise_trivial.py")


class Up:
    """A supervisor over trivial programs, in a process of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.log = home / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-P", str(PROGRAM), str(home)], stderr=log)

    def report(self) -> dict[str, dict[str, object]]:
        """The processes by name, as `run/supervisor.json` tells them."""
        file = self.home / "run/supervisor.json"
        if not file.exists():
            return {}
        value = json.loads(file.read_text())
        return {process["name"]: process for process in value["processes"]} if value["pid"] == self.process.pid else {}

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for `condition`, 30 s at most."""
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text() + json.dumps(self.report())
            time.sleep(0.01)

    def ready(self) -> None:
        """Waits until all are ready."""
        self.until(lambda: [process["state"] for process in self.report().values()] == ["ready"] * 3)

    def events(self) -> list[tuple[str, str]]:
        """What was recorded: (type, process)."""
        lines = [json.loads(line) for line in (self.home / "events").read_text().splitlines()]
        return [(line["type"], line.get("process", {}).get("name", "")) for line in lines]

    def left(self) -> list[int]:
        """Processes that mention this deployment: what an end must not leave."""
        return processes_of(self.home)


@pytest.fixture
def home() -> Iterator[Path]:
    """A deployment's folder with keys, open to every user's passage."""
    doors = 'doors: {inference: {listen: "127.0.0.1:0"}, management: {listen: "127.0.0.1:0"}}'
    with open_folder() as folder:
        (folder / "behave").mkdir()
        (folder / "sealward.yaml").write_text(f"version: 1\njournal: {{origin: test/log}}\n{doors}\n")
        make_keys(prepare(folder), [], dt.datetime.now(dt.UTC))
        yield folder


@pytest.fixture
def up(home: Path) -> Iterator[Callable[[], Up]]:
    """Starts supervisors; ends those that a test left."""
    started: list[Up] = []

    def start() -> Up:
        started.append(Up(home))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
    for each in started:
        each.until(lambda each=each: not each.left())


def ask(path: Path) -> list[str]:
    """What the program behind a unix socket says: role, uid, pid."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return client.recv(100).decode().split()


def test_processes_start_in_order_and_end_in_reverse_with_the_recorder_last(up: Callable[[], Up]) -> None:
    """Whatever ends, the journal can still be told, and the recorder's own end is written by itself."""
    supervisor = up()
    supervisor.ready()
    supervisor.process.terminate()
    assert supervisor.process.wait(20) == 0
    assert supervisor.events() == [
        ("process.started", "signer"),
        ("process.started", "recorder"),
        ("process.started", "door"),
        ("process.stopped", "door"),
        ("process.stopped", "signer"),
        ("drained", ""),
    ]
    assert supervisor.left() == []


def test_a_killed_process_is_started_again_on_the_same_socket(up: Callable[[], Up]) -> None:
    """Kill -9 costs a pause, not a refusal: a caller that connects meanwhile waits in the backlog."""
    supervisor = up()
    supervisor.ready()
    before = int(supervisor.report()["signer"]["pid"])  # type: ignore[call-overload]
    os.kill(before, signal.SIGKILL)
    role, _, after = ask(supervisor.home / "run/signer.door.sock")
    assert role == "signer"
    assert int(after) != before
    supervisor.until(lambda: supervisor.events().count(("process.started", "signer")) == 2)
    assert ("process.failed", "signer") in supervisor.events()
    assert supervisor.report()["recorder"]["restarts"] == 0


def test_what_a_killed_process_leaves_is_killed(up: Callable[[], Up], home: Path) -> None:
    """A dead master's workers must not go on serving."""
    (home / "behave/signer.fork").touch()
    supervisor = up()
    supervisor.ready()
    assert len(supervisor.left()) == 5
    (home / "behave/signer.fork").unlink()
    os.kill(int(supervisor.report()["signer"]["pid"]), signal.SIGKILL)  # type: ignore[call-overload]
    supervisor.until(lambda: supervisor.report()["signer"]["restarts"] == 1 and len(supervisor.left()) == 4)


def test_nothing_outlives_a_supervisor_that_is_killed(up: Callable[[], Up]) -> None:
    """Kill -9 of the supervisor ends every process by its parent-death signal, and a new one can start."""
    supervisor = up()
    supervisor.ready()
    supervisor.process.kill()
    supervisor.process.wait()
    supervisor.until(lambda: not supervisor.left())
    up().ready()


def test_a_process_that_ignores_the_drain_is_killed(up: Callable[[], Up], home: Path) -> None:
    """The end of `up` is bounded by the drains."""
    (home / "behave/door.deaf").touch()
    supervisor = up()
    supervisor.ready()
    supervisor.process.send_signal(signal.SIGINT)
    assert supervisor.process.wait(20) == 0
    assert supervisor.left() == []


def test_a_second_signal_ends_everything_at_once(up: Callable[[], Up], home: Path) -> None:
    """Whoever presses Ctrl-C twice does not want to wait for streams."""
    (home / "behave/patient").touch()
    (home / "behave/door.deaf").touch()
    supervisor = up()
    supervisor.ready()
    supervisor.process.send_signal(signal.SIGINT)
    supervisor.until(lambda: supervisor.report()["door"]["state"] == "stopping")
    supervisor.process.send_signal(signal.SIGINT)
    assert supervisor.process.wait(20) == 0
    assert supervisor.left() == []


def test_a_second_supervisor_is_refused(up: Callable[[], Up]) -> None:
    """Two would fight over the sockets and the journal."""
    first = up()
    first.ready()
    second = up()
    assert second.process.wait(20) == 1
    assert "already up" in second.log.read_text()
    assert first.report()["door"]["state"] == "ready"


def test_a_hopeless_start_ends_everything_with_its_exit_code(up: Callable[[], Up], home: Path) -> None:
    """A damaged journal (5) or a wrong file (3) is not tried again and again; what had started ends."""
    (home / "behave/recorder.exit").write_text("5")
    supervisor = up()
    assert supervisor.process.wait(20) == 5
    assert supervisor.report()["recorder"]["restarts"] == 0
    assert supervisor.left() == []
    assert "recorder did not start" in supervisor.log.read_text()


def test_a_stop_while_starting_ends_everything(up: Callable[[], Up], home: Path) -> None:
    """Ctrl-C does not wait for what never gets ready."""
    (home / "behave/recorder.mute").touch()
    supervisor = up()
    supervisor.until(lambda: supervisor.report().get("recorder", {}).get("state") == "starting")
    supervisor.process.terminate()
    assert supervisor.process.wait(20) == 0
    assert supervisor.left() == []


def test_each_process_is_a_user_of_its_own_and_sockets_let_only_their_client_in(up: Callable[[], Up]) -> None:
    """Different uids without root's rights; EACCES at every socket but one's own, for every user of the deployment."""
    if not root_here():
        return
    supervisor = up()
    supervisor.ready()
    users, peers = role_users(), Deployment.at(supervisor.home).peers
    for role, process in supervisor.report().items():
        status = Path(f"/proc/{process['pid']}/status").read_text()
        uid = users[role].uid
        assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status
        assert "CapEff:\t0000000000000000" in status
        assert "CapPrm:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
    sockets = [path for path in (supervisor.home / "run").glob("*.*.sock") if not path.name.startswith("notify")]
    assert len(sockets) == 4
    for path in sockets:
        client = path.name.split(".")[1]
        for name, uid in peers.items():
            if uid != 0:
                assert attempt(uid, connect(path)) == ("ok" if name == client else "EACCES"), (name, path.name)
        assert attempt(users["door"].uid, lambda path=path: path.unlink()) == "EACCES"
