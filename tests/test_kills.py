"""kill -9 of every kind of process, again and again, under load: served ⊆ admitted ⊆ authorised, and each admission ends once."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from siege import Event, Siege
from siege_wire import Line
from uids import open_folder

SEED, SECONDS, CALLERS = 20_261_124, 15.0, 6
ENDINGS = {"inference.completed", "inference.aborted"}


@dataclass(frozen=True)
class Got:
    """What a caller holds of one request: its id, the hash of the content, and whether that is whole."""

    request: str
    output: str
    whole: bool


class Load:
    """Callers that go on whatever happens, with keys that come and go. `answers` and `revoked` grow until `stop`."""

    def __init__(self, siege: Siege) -> None:
        self._siege, self._over = siege, threading.Event()
        self.answers: list[Got] = []
        self.key = siege.keys["app"]
        self.revoked: list[str] = []
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(CALLERS)]
        self._threads.append(threading.Thread(target=self._administer))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _call(self, number: int) -> None:
        line: Line | None = None
        asked = 0
        while not self._over.is_set():
            asked += 1
            try:
                line = line or self._line()
                line.send(self._siege.chat(f"hello m{number}-{asked}", self.key, stream=bool(asked % 2)).raw)
                self._read(line)
            except (OSError, http.client.HTTPException):
                if line is not None:
                    line.close()
                line = None
                self._over.wait(0.05)
        if line is not None:
            line.close()

    def _line(self) -> Line:
        line = Line(self._siege.ports["inference"], self._siege.tls)
        line.sock.settimeout(8)
        return line

    def _read(self, line: Line) -> None:
        response = http.client.HTTPResponse(line.sock, method="POST")
        response.begin()
        request, content, whole = response.headers["x-sealward-request"], b"", True
        try:
            content = response.read()
        except http.client.IncompleteRead as cut:
            content, whole = cut.partial, False
        if response.status == 200:
            done = b"[DONE]" in content or response.headers["content-type"] == "application/json"
            self.answers.append(Got(request, hashlib.sha256(content).hexdigest(), whole and done))
        else:
            self._over.wait(0.02)
        if not whole or response.will_close:
            raise ConnectionResetError

    def _administer(self) -> None:
        """A new key every second; the one before is revoked while it is in use."""
        while not self._over.wait(1.0):
            with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
                old, self.key = self.key, self._siege.new_key("app")
                self._siege.admin("POST", f"apikeys/{old[9:20]}/revoke")
                self.revoked.append(old[9:20])


def test_killed_processes_keep_the_promise() -> None:
    """Door worker, door master, recorder, control, signer, sidecar at moments of a seeded clock."""
    with open_folder() as folder:
        siege = Siege(folder / "ai", workers=2)
        siege.begin()
        siege.well()
        load = Load(siege)
        killed = kill(siege, Random(SEED))
        load.stop()
        siege.keys["app"] = siege.new_key("app")
        siege.well()
        siege.until(lambda: bool(siege.status()["ok"]))
        rows = siege.rows(0)
        report = json.loads(siege.sealward("journal", "verify", "--json"))
        siege.check_log()
        siege.close()
    assert report["ok"], report
    assert min(killed.values()) >= 1, killed
    judge(rows, load, siege)


def kill(siege: Siege, random: Random) -> Counter[str]:
    """How many of each were killed."""
    victims = ["worker", "door", "recorder", "control", "signer", "sidecar"]
    killed: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    round_ = random.sample(victims, len(victims))
    while time.monotonic() < end:
        if not round_:
            round_ = random.sample(victims, len(victims))
        time.sleep(random.uniform(0.1, 1.2))
        victim = round_.pop()
        with contextlib.suppress(OSError, IndexError):  # it is just being started again
            os.kill(random.choice(siege.workers()) if victim == "worker" else siege.pid(victim), signal.SIGKILL)
            killed[victim] += 1
    return killed


def judge(rows: list[tuple[int, Event]], load: Load, siege: Siege) -> None:
    """The journal against what the model saw and what the callers hold."""
    admitted = {index: event for index, event in rows if event["type"] == "inference.admitted"}
    endings = [event for _, event in rows if event["type"] in ENDINGS]
    assert len(admitted) > 200, "there was no load"

    served = Counter(asked.sha256 for asked in siege.model.asked)
    allowed = Counter(event["admission"]["body"] for event in admitted.values())
    assert not served - allowed, "served without an admission"

    assert Counter(event["link"]["of"] for event in endings) == Counter(dict.fromkeys(admitted, 1)), "each ends exactly once"
    for event in endings:
        assert event["link"]["request"] == admitted[event["link"]["of"]]["link"]["request"]

    completed = {event["link"]["request"]: event["statement"] for event in endings if event["type"] == "inference.completed"}
    whole = [got for got in load.answers if got.whole]
    assert len(whole) > 200, "nobody was served"
    for got in whole:
        assert completed[got.request]["output_sha256"] == got.output, "an answer that the journal does not know"

    published = {event["snapshot"]["intent"]: event["snapshot"] for _, event in rows if event["type"] == "snapshot.published"}
    ended = {
        event["change"]["target"].removeprefix("apikey:"): published[index]["epoch"]
        for index, event in rows
        if event["type"] == "apikey.revoked" and index in published
    }
    assert ended.keys() >= set(load.revoked)
    assert len(ended) > 3
    for event in admitted.values():
        assert event["subject"]["id"] == "app"
        assert event["decision"]["outcome"] == "allow"
        assert event["decision"]["epoch"] < ended.get(event["subject"]["key_id"], 1 << 60), "admitted by a key that had ended"
