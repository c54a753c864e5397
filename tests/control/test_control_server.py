"""The admin API over its real unix sockets: who is at the other end is the kernel's word."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control_world import APP, World
from sealward.cli.admin import AdminApi, _UnixConnection
from sealward.control.api import admin_api
from sealward.control.server import AdminServer
from sealward.errors import ConfigurationError, Refused
from sealward.process import Start
from uids import attempt, open_folder, root_here

NOBODY = 65534


@contextmanager
def served(folder: Path, role: str, uid: int) -> Iterator[Path]:
    """A control that serves one socket to the user `uid`; the socket's own mode lets everybody in."""
    path = folder / f"control.{role}.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen()
    started, servers = threading.Event(), []

    def live() -> None:
        world = World(folder)

        async def story(office: object) -> None:
            await world.office.publisher.settle()
            start = Start("control", folder, {f"control.{role}": listener}, {role: uid})
            servers.append(AdminServer(admin_api(APP, world.office), start))
            serving = asyncio.create_task(servers[0].run_until_stopped())
            asyncio.get_running_loop().call_soon(started.set)
            await serving

        world.run(story)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        assert started.wait(20)
        yield path
    finally:
        servers[0].stop()
        thread.join()


def api(path: Path) -> AdminApi:
    """The command line's way in."""
    return AdminApi(lambda: _UnixConnection(path))


def test_the_owner_is_the_local_admin(tmp_path: Path) -> None:
    """By the kernel's word alone, without a key."""
    with served(tmp_path, "owner", os.geteuid()) as path:
        assert api(path).get("status")["epoch"] > 0
        api(path).post("users", {"id": "ann"})
        assert [row["id"] for row in api(path).get("users")] == ["ann"]


def test_the_management_doors_socket_makes_nobody_an_administrator(tmp_path: Path) -> None:
    """Whoever is there needs the caller's original credential."""
    with served(tmp_path, "admin", os.geteuid()) as path, pytest.raises(Refused) as refused:
        api(path).get("status")
    assert refused.value.status == 401


def test_a_stranger_is_gone_before_it_can_say_a_word() -> None:
    """Another uid at a socket whose mode would let it in: the connection ends without an answer."""
    if not root_here():
        return

    def ask() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(b"GET /api/v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
            if client.recv(1):
                raise OSError(0, "an answer")

    with open_folder() as folder, served(folder, "owner", NOBODY - 1) as path:
        assert attempt(NOBODY, ask) in {"ok", "ECONNRESET", "EPIPE"}
        assert attempt(NOBODY - 1, lambda: _answers(path)) == "ok"


def _answers(path: Path) -> None:
    connection = _UnixConnection(path)
    connection.request("GET", "/api/v1/status")
    if connection.getresponse().status != http.client.OK:
        raise OSError(0, "no answer")


def test_without_a_socket_control_does_not_start(tmp_path: Path) -> None:
    """It opens none itself."""
    with pytest.raises(ConfigurationError):
        AdminServer(APP, Start("control", tmp_path))
