"""Endpoints beyond our own doors and sockets: model servers, and ports that no route table knows."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

from living import MODEL, served_by_thread
from sealward.formats.note import Verifier
from sealward.rollout import endpoints
from sealward.rollout.evidence import Result
from sealward.rollout.site import Listener, Route, Runtime, Site
from sealward.rollout.strangers import try_socket
from shared import vector
from uids import open_folder, root_here

STRANGER = 61203


def site(port: int, users: set[int]) -> Site:
    """One whose doors listen at `port`, and which has nothing else."""
    door = Listener("inference", ("127.0.0.1", port), "localhost", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ())
    nowhere, log = Path("/nowhere"), Verifier.parse(vector("journal", "log300", "keys.json")["log_vkey"])
    return Site(door, door, {}, (), nowhere, nowhere, nowhere, nowhere, log, users)


def test_a_model_server_that_answers_anybody_is_found() -> None:
    """On loopback every user of the machine reaches it past the door; a direct one is never asked for a pass."""
    server, url = served_by_thread(None)
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = endpoints._runtime(Runtime(MODEL, url))
        server.shutdown()
    assert found.result is Result.FAIL
    assert found.detail.startswith(f"the model server of {MODEL} at {url} answers anybody")
    assert endpoints._runtime(Runtime(MODEL, url)).result is Result.LEFT_OUT  # it is down: nothing is proven
    direct = endpoints._runtime(Runtime(MODEL, "https://elsewhere:1", direct=True))
    assert (direct.result, "danger_direct" in direct.detail) == (Result.FAIL, True)


def test_a_model_server_on_a_socket_of_its_sidecar_is_closed() -> None:
    """And open again by its mode alone."""
    with open_folder() as folder:
        server, url = served_by_thread(folder / "model.sock")
        with server:
            assert endpoints._runtime(Runtime(MODEL, url)).result is Result.PASS
            (folder / "model.sock").chmod(0o602)
            assert endpoints._runtime(Runtime(MODEL, url)).result is Result.FAIL


@pytest.mark.parametrize(("mode", "owner", "result"), [(0o600, 0, "pass"), (0o660, 0, "fail"), (0o600, 1, "fail")])
def test_a_socket_is_its_one_clients(mode: int, owner: int, result: str) -> None:
    """Its mode, and whose it is; `owner` is added to our own uid."""
    with open_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "x.sock"))
        listener.listen()
        (folder / "x.sock").chmod(mode)
        assert try_socket("x", folder / "x.sock", os.geteuid() + owner).result == result
    assert try_socket("x", folder / "x.sock", 0).result is Result.LEFT_OUT


def test_a_listener_that_no_table_knows_is_found() -> None:
    """A process of ours that opens a port of its own is an endpoint too; those of others are not ours to judge."""
    if not root_here():
        return
    os.seteuid(STRANGER)
    try:
        stray = socket.create_server(("127.0.0.1", 0))
    finally:
        os.seteuid(0)
    with stray:
        port = stray.getsockname()[1]
        told = f"uid {STRANGER} of this deployment listens on TCP port {port}, which no route table knows"
        assert told in [each.detail for each in endpoints._unknown_listeners(site(0, {STRANGER}))]
        assert told not in [each.detail for each in endpoints._unknown_listeners(site(port, {STRANGER}))]
        assert list(endpoints._unknown_listeners(site(0, set()))) == []


def test_parameters_of_a_route_are_filled_in() -> None:
    """Every one of them."""
    assert Route("DELETE", "/api/v1/roles/{role}/subjects/{id}", "x").path("p") == "/api/v1/roles/p/subjects/p"
