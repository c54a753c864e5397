"""Attack: go on after the right has ended, or fill memory by not reading (rows 73, 76, 87)."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from siege import Event, Siege, rss_mib
from siege_runtime import Asked
from siege_wire import Line

MARKS = count(1)


class Stream:
    """A streamed answer on its way; `asked` is its request at the model."""

    def __init__(self, siege: Siege, how: str, key: str, *, model: str = "mock", buffer: int = 0) -> None:
        self._siege, self.mark = siege, f"mark{next(MARKS)}"
        raw = None
        if buffer:  # as little as possible of it in kernels
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            raw.connect(("127.0.0.1", siege.ports["inference"]))
        self.line = siege.keep(Line(siege.ports["inference"], siege.tls, raw=raw))
        self.line.send(siege.chat(f"{how} {self.mark}", key, stream=True, model=model).raw)
        siege.until(lambda: bool(siege.model.find(self.mark)))
        self.asked: Asked = siege.model.find(self.mark)[0]

    def read(self, until: bytes = b"") -> bytes:
        """All that comes, until its end or `until` comes; a reset ends it too."""
        self.line.sock.settimeout(10)
        data = b""
        with contextlib.suppress(ConnectionError):
            for piece in self.line.lines():
                data += piece
                if until and until in data:
                    break
        return data

    def ended(self) -> Event:
        """Its closing entry."""
        return self._siege.event(
            lambda event: (
                event["type"] in {"inference.aborted", "inference.completed"}
                and event.get("source", {}).get("port") == self.line.port
            )
        )


def revoke_key(siege: Siege, key: str) -> None:
    """Its row goes."""
    siege.admin("POST", f"apikeys/{key[9:20]}/revoke")


def suspend_key(siege: Siege, key: str) -> None:
    """Its row stays."""
    siege.admin("POST", f"apikeys/{key[9:20]}/suspend")


def disable_owner(siege: Siege, key: str) -> None:
    """All keys of its owner."""
    siege.admin("POST", "services/brief/disable")


def take_the_role(siege: Siege, key: str) -> None:
    """What kind of acts."""
    siege.admin("DELETE", "roles/consumer/subjects/brief")


def take_the_grant(siege: Siege, key: str) -> None:
    """On which model."""
    for grant in siege.admin("GET", "grants"):
        if grant["to"] == "subject:brief":
            siege.admin("DELETE", f"grants/{grant['id']}")


def retire_the_model(siege: Siege, key: str) -> None:
    """For everybody."""
    siege.admin("POST", "models/spare/retire")


ENDS: dict[str, tuple[Callable[[Siege, str], None], int, str, str]] = {
    "key_revoked": (revoke_key, 401, "credential_unknown", "revoked"),
    "key_suspended": (suspend_key, 401, "credential_revoked", "revoked"),
    "owner_disabled": (disable_owner, 401, "credential_revoked", "revoked"),
    "role_taken": (take_the_role, 403, "action_not_granted", "revoked"),
    "grant_taken": (take_the_grant, 403, "model_not_granted", "revoked"),
    "model_retired": (retire_the_model, 403, "model_withdrawn", "model_withdrawn"),
}


@pytest.fixture
def brief(siege: Siege) -> Iterator[str]:
    """The key of a service that may use `spare`, as fresh as on its first day."""
    if "brief" not in {row["id"] for row in siege.admin("GET", "services")}:
        siege.admin("POST", "services", {"id": "brief"})
    row = next(row for row in siege.admin("GET", "services") if row["id"] == "brief")
    if row.get("disabled"):
        siege.admin("POST", "services/brief/enable")
    if "consumer" not in row["roles"]:
        siege.admin("POST", "roles/consumer/subjects", {"subject": "brief"})
    if not any(grant["to"] == "subject:brief" for grant in siege.admin("GET", "grants")):
        siege.admin("POST", "grants", {"to": "subject:brief", "model": "spare"})
    yield siege.new_key("brief")
    if siege.admin("GET", "models/spare")["stage"] == "retired":
        siege.admin("POST", "models/spare/approve")


@pytest.mark.parametrize("name", ENDS)
def test_a_running_stream_ends_with_its_right(siege: Siege, brief: str, name: str) -> None:
    """Cut at once: no `[DONE]`, no last chunk, the runtime is freed, one entry says why; new requests are refused.

    Another's stream at the same model server and door goes on to its end.
    """
    end, status, reason, why = ENDS[name]
    victim, other = Stream(siege, "hold", brief, model="spare"), Stream(siege, "hold", siege.keys["app"])
    assert b'"content":"b"' in victim.read(b'"content":"b"')
    end(siege, brief)
    rest = victim.read()
    assert victim.asked.gone.wait(10)
    event = victim.ended()
    assert b"[DONE]" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
    assert b"error" in rest
    assert (event["type"], event["outcome"]["aborted_by"]) == ("inference.aborted", "revocation")
    assert event["decision"]["reason"] == why
    assert event["outcome"]["tokens_after_revocation"] == 0
    siege.refused(siege.chat(key=brief, model="spare"), status, reason)
    assert not other.asked.gone.is_set()
    _finish(siege, other)


def test_a_revocation_is_there_when_the_verb_returns(siege: Siege) -> None:
    """Within 50 ms at every door; here: at the first try after the verb, each of twenty times, at both doors."""
    late = 0
    for _ in range(20):
        key = siege.new_key("app")
        assert siege.ask_raw(siege.get("/v1/models", key)).status == 200
        revoke_key(siege, key)
        began = time.monotonic()
        asked = siege.ask_raw(siege.get("/v1/models", key)), siege.ask_raw(siege.get("/api/v1/users", key), "management")
        if {answer.status for answer in asked} != {401}:
            siege.until(lambda k=key: siege.ask_raw(siege.get("/v1/models", k)).status == 401)  # type: ignore[misc]
            assert time.monotonic() - began < 1
            late += 1
    assert late <= 2


def test_a_kept_connection_has_no_memory_of_its_key(siege: Siege) -> None:
    """The next request on the same connection, resumed or not, is proven anew."""
    key = siege.new_key("app")
    line = siege.line()
    with contextlib.closing(line):
        line.send(siege.get("/v1/models", key).raw)
        assert line.answer(b"GET").status == 200
        revoke_key(siege, key)
        line.send(siege.get("/v1/models", key).raw)
        assert line.answer(b"GET").status == 401
        line.send(siege.get("/v1/models").raw)
        assert line.answer(b"GET").status == 200


def test_a_key_that_expires_ends_its_stream(siege: Siege) -> None:
    """Its own clock, no verb: within a second or so."""
    soon = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)).isoformat()
    stream = Stream(siege, "hold", siege.new_key("app", expires=soon))
    assert b"[DONE]" not in stream.read()
    assert stream.asked.gone.wait(10)
    assert stream.ended()["decision"]["reason"] == "expired"


def test_a_slow_reader_gets_nothing_that_was_held_for_him(siege: Siege) -> None:
    """What lies in our buffers, and in the kernel's behind them, is thrown away with his right."""
    key = siege.new_key("app")
    stream = Stream(siege, "flood", key, buffer=4096)
    siege.until(lambda: _stand_still(stream))
    revoke_key(siege, key)
    event = stream.ended()
    got = stream.read()
    assert stream.asked.gone.wait(10)
    assert event["outcome"]["aborted_by"] == "revocation"
    assert b"[DONE]" not in got
    assert len(got) < 400_000  # what his own kernel held
    assert stream.asked.sent > 500_000


def test_an_answer_that_is_not_streamed_is_not_given_after_the_end(siege: Siege) -> None:
    """The model was still at it: the caller gets the refusal instead."""
    key, mark = siege.new_key("app"), f"mark{next(MARKS)}"
    line = siege.line()
    line.send(siege.chat(f"hold {mark}", key).raw)
    siege.until(lambda: bool(siege.model.find(mark)))
    revoke_key(siege, key)
    answer = line.answer()
    line.close()
    assert (answer.status, answer.json["error"]["code"]) == (403, "permission_denied")
    assert siege.model.find(mark)[0].gone.wait(10)


def test_a_client_that_goes_frees_the_runtime(siege: Siege) -> None:
    """Streamed or not; its entry says that it went."""
    for stream in (True, False):
        mark = f"mark{next(MARKS)}"
        line = siege.line()
        line.send(siege.chat(f"hold {mark}", stream=stream).raw)
        siege.until(lambda m=mark: bool(siege.model.find(m)))  # type: ignore[misc]
        line.close()
        assert siege.model.find(mark)[0].gone.wait(10)
        event = siege.event(lambda e, p=line.port: e["type"] == "inference.aborted" and e["source"].get("port") == p)  # type: ignore[misc]
        assert event["outcome"]["aborted_by"] == "client"


def test_clients_that_do_not_read_hold_little(siege: Siege) -> None:
    """Thirty endless streams that nobody reads: the model is no longer read either, at every hop.

    What they hold is given back: three times as many in turn hold no more than the first.
    """
    processes = [*siege.workers(), siege.pid("sidecar"), siege.pid("recorder")]
    before = {pid: rss_mib(pid) for pid in processes}
    held = []
    for _ in range(3):
        streams = [Stream(siege, "flood", siege.keys["app"], buffer=4096) for _ in range(30)]
        siege.until(lambda some=streams: _stand_still(*some))  # type: ignore[misc]
        held.append({pid: rss_mib(pid) - before[pid] for pid in processes})
        assert siege.ask_raw(siege.chat()).status == 200
        for stream in streams:
            stream.line.close()
        siege.until(lambda some=streams: all(stream.asked.gone.is_set() for stream in some))  # type: ignore[misc]
    assert max(held[0].values()) < 30 * 3, held
    assert all(held[2][pid] - held[0][pid] < 15 for pid in processes), held


def test_uploads_are_held_within_bounds(siege: Siege) -> None:
    """Forty bodies of 4 MiB at once that never end: what is held is bounded, and what the first wave held serves the next."""
    (worker,) = siege.workers()
    before = rss_mib(worker)
    request = siege.chat().but(body=b"", content_length=b"%d" % (6 << 20))
    waves = []
    for _ in range(3):
        lines = [siege.line() for _ in range(40)]
        for line in lines:
            line.send(request.raw + b" " * (4 << 20))
        waves.append(rss_mib(worker) - before)
        assert siege.ask_raw(siege.chat()).status == 200
        for line in lines:
            line.close()
        siege.mark()
    assert max(waves) < 320, waves
    assert waves[2] - waves[0] < 80, waves  # half of what one wave brings: what is kept is used again


def _stand_still(*streams: Stream) -> bool:
    """Whether the model's server cannot send any more on any of them."""
    sent = [stream.asked.sent for stream in streams]
    time.sleep(0.1)
    return all(sent) and sent == [stream.asked.sent for stream in streams]


def _finish(siege: Siege, stream: Stream) -> None:
    """Lets what the model holds back go, and reads the stream to its end."""
    siege.model.release.set()
    data = stream.read(b"0\r\n\r\n")
    siege.model.release.clear()
    assert b"data: [DONE]" in data
    assert stream.ended()["type"] == "inference.completed"
    stream.line.close()
