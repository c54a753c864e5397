"""A continuous export loses nothing to a receiver that breaks off, a crash of its own, a recorder that ends."""

from __future__ import annotations

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from journals import VALID, event
from receivers import Reads, Tls, early, reset, syslog, web
from recorder_desk import closing
from recorder_process import recorder
from sealward.errors import ConfigurationError, UnreachableError
from sealward.journal.durable import OsDisk
from sealward.journal.exports import receivers
from sealward.journal.exports.formats import FORMATS, WHOLE
from sealward.journal.exports.receivers import Credentials, File, is_loopback, receiver
from sealward.journal.exports.shipping import Shipping, State
from sealward.keyring.secret import Secret

Json = dict[str, Any]
ORIGIN = "journal.test/shipping"
LOGIN = event("auth.login")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """One authority for all."""
    return Tls(tmp_path_factory.mktemp("tls"))


def rows(count: int, erased: int = -1) -> Callable[[int], Iterator[Json]]:
    """A journal of logins."""

    def read(start: int) -> Iterator[Json]:
        for index in range(start, count):
            if index == erased:
                yield {"index": index, "erased": True, "header": {"time": "2026-11-23T09:00:00Z"}}
            else:
                yield {"index": index, "event": LOGIN | {"origin": ORIGIN, "seq": index}, "leaf": f"{index:064x}"}

    return read


def shipped(to: str, state: State, source: Callable[[int], Iterator[Json]], name: str, credentials: Credentials) -> int:
    """How often it had to be begun again until all was taken."""
    with contextlib.closing(receiver(to, FORMATS[name], credentials)) as whom:
        shipping = Shipping(source, whom, state, print)
        for begun in range(20):
            try:
                shipping.once()
            except UnreachableError:
                continue
            return begun
    raise AssertionError("never taken")


@pytest.mark.parametrize(
    "broken", [reset(1), reset(5000), early(1), early(5000)], ids=["reset", "reset later", "early", "early later"]
)
def test_a_batch_that_was_not_read_to_its_end_is_sent_again(tls: Tls, broken: Reads) -> None:
    """Syslog acknowledges nothing: only a connection that ended well counts. Doubles are told apart by their index."""
    with syslog(tls.context(), broken, broken) as found:
        state = State(ORIGIN)
        begun = shipped(f"syslog+tls://127.0.0.1:{found.port}", state, rows(1500, erased=3), "cef", Credentials(tls.ca))
        assert begun == 2
        assert state.next == 1500
    assert [index for one in found.seen[2:] for index in one] == [*range(3), *range(4, 1500)]


def test_only_a_receiver_we_can_check_gets_anything(tls: Tls, tmp_path: Path) -> None:
    """Another authority, an older TLS, another name, a receiver that wants a certificate of ours: not a byte."""
    old, wants = tls.context(), tls.context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    wants.verify_mode = ssl.CERT_REQUIRED
    wants.load_verify_locations(tls.ca)
    other = Tls(tmp_path)
    for context, host, ca in (
        (tls.context(), "127.0.0.1", other.ca),
        (old, "127.0.0.1", tls.ca),
        (wants, "127.0.0.1", tls.ca),
        (tls.context(), "localhost", tls.ca),
    ):
        with syslog(context) as found:
            state = State(ORIGIN)
            form = FORMATS["cef"]
            with pytest.raises(UnreachableError):
                Shipping(rows(3), receiver(f"syslog+tls://{host}:{found.port}", form, Credentials(ca)), state, print).once()
            assert (state.next, found.indices) == (0, [])
    with syslog(wants) as found:
        ours = Credentials(tls.ca, tls.chain)
        with pytest.raises(UnreachableError):  # a server's certificate is none for a client
            Shipping(rows(3), receiver(f"syslog+tls://127.0.0.1:{found.port}", FORMATS["cef"], ours), State(ORIGIN), print).once()


def test_http_takes_a_batch_with_2xx_only(tls: Tls) -> None:
    """Errors and redirects are not receipts; the next request carries the same rows. Headers come from a file's secrets."""
    with web((503, b""), (302, b""), (400, b"no"), context=tls.context()) as found:
        state, token = State(ORIGIN), Credentials(tls.ca, headers={"authorization": Secret(b"Bearer t0ken")})
        assert shipped(f"https://127.0.0.1:{found.port}/v1/logs", state, rows(1500), "otlp", token) == 3
    assert {path for path, _, _ in found.got} == {"/v1/logs"}
    assert {headers["authorization"] for _, headers, _ in found.got} == {"Bearer t0ken"}
    groups = [group for _, _, body in found.got for group in body["resourceLogs"]]
    attributes = [each["attributes"] for group in groups for each in group["scopeLogs"][0]["logRecords"]]
    indices = [int(one["value"]["intValue"]) for each in attributes for one in each if one["key"] == "sealward.log.index"]
    assert indices == [*range(1500)]


def test_a_body_that_is_too_large_goes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By our own bound, or by the receiver's 413; one record alone is sent whatever its size."""
    monkeypatch.setattr(receivers, "LARGEST", 2000)
    with web((413, b"")) as found:
        assert shipped(f"http://127.0.0.1:{found.port}/in", State(ORIGIN), rows(40), "native", Credentials()) == 0
    parts = [len(body) for _, _, body in found.got]
    assert sum(parts) == 40
    assert len(parts) > 8
    monkeypatch.setattr(receivers, "LARGEST", 1)
    with web() as found:
        assert shipped(f"http://127.0.0.1:{found.port}/in", State(ORIGIN), rows(3), "native", Credentials()) == 0
    assert [len(body) for _, _, body in found.got] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("native", "application/x-ndjson"),
        ("ocsf", "application/json"),
        ("cloudevents", "application/cloudevents-batch+json"),
        ("cef", "text/plain; charset=utf-8"),
    ],
)
def test_each_format_goes_over_http(name: str, kind: str) -> None:
    """As one request a batch, with its type."""
    with web() as found:
        shipped(f"http://127.0.0.1:{found.port}/in", State(ORIGIN), rows(3), name, Credentials())
    ((_, headers, body),) = found.got
    assert (headers["content-type"], len(body)) == (kind, 3)


def test_what_an_otlp_receiver_rejects_is_told_and_not_sent_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The protocol says so; the place in the log stays readable there."""
    with web((200, b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}')) as found:
        assert shipped(f"http://127.0.0.1:{found.port}/v1/logs", State(ORIGIN), rows(3), "otlp", Credentials()) == 0
    assert "did not keep" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "to",
    [
        "http://siem.example/v1/logs", "https://user:pass@siem.example/", "https://siem.example/?token=x", "ftp://siem.example/",
        "syslog://siem.example", "syslog+tls://siem.example", "file:", "siem.example", "https:///x",
    ],
)  # fmt: skip
def test_other_ways_are_refused(to: str) -> None:
    """In clear beyond this machine, with credentials in the address, or OTLP over syslog."""
    with pytest.raises(ConfigurationError):
        receiver(to, FORMATS["otlp"], Credentials())


def test_loopback_is_told_by_address() -> None:
    """Not by how a name begins."""
    assert [is_loopback(host) for host in ("localhost", "127.8.9.1", "::1")] == [True] * 3
    assert [is_loopback(host) for host in ("127.0.0.1.example", "localhost.example", "10.0.0.1", "")] == [False] * 4


def test_a_file_ends_with_whole_lines(tmp_path: Path) -> None:
    """Half a line that a crash left is cut off and its row written again; each line is durable before it counts."""
    path = tmp_path / "out.jsonl"
    for torn in (b"", b'{"index":0}\n{"ind', b'{"ind'):
        path.write_bytes(torn)
        with contextlib.closing(File(path, FORMATS["native"])) as file:
            file.take(list(rows(2)(0)))
        lines = path.read_bytes().splitlines()
        assert [json.loads(line)["index"] for line in lines] == [0] * torn.count(b"\n") + [0, 1]


def test_the_state_is_of_one_log(tmp_path: Path) -> None:
    """And a file that is no state is not taken for the beginning."""
    path = tmp_path / "state"
    State.load(path, ORIGIN, 5).advance(9)
    assert State.load(path, ORIGIN, 5).next == 9
    for text in (path.read_bytes().replace(b"shipping", b"another"), b"{}", b"[]", b"7", b"", b'{"v":1,"origin":"x","next":"9"}'):
        path.write_bytes(text)
        with pytest.raises(ConfigurationError):
            State.load(path, ORIGIN, 5)


def test_the_owners_own_lines_are_whole() -> None:
    """Native lines on stdout are what receipts are made from; what is shipped has no salt."""
    secret = {"index": 1, "event": next(one for one in VALID if "salt" in one.get("change", {}))}
    assert json.loads(WHOLE.lines([secret])) == secret
    assert "salt" not in json.loads(FORMATS["native"].lines([secret]))["event"]["change"]


# -- as a process --


@contextlib.contextmanager
def exporting(directory: Path, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """`sealward journal export --follow`, until the end of the block at the latest."""
    command = [sys.executable, "-m", "sealward", "journal", "export", str(directory), "--follow", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for it, 20 s at most."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)  # for a condition


def test_killed_and_started_again_it_goes_on_where_the_receiver_is(tls: Tls, tmp_path: Path) -> None:
    """Kill -9 between batches and a receiver that breaks off in one of them: every entry arrives, also those that come later."""
    journal, state = tmp_path / "j", tmp_path / "state"
    ours = [sys.executable, "-m", "sealward", "journal"]
    subprocess.run([*ours, "init", journal, "--origin", ORIGIN], check=True, capture_output=True)
    lines = (json.dumps(LOGIN).encode() + b"\n") * 1100
    subprocess.run([*ours, "append", journal, "--jsonl", "-"], input=lines, check=True, capture_output=True)
    with syslog(tls.context(), reset(9000)) as found:
        asked = ["--format", "cef", "--to", f"syslog+tls://127.0.0.1:{found.port}", "--ca-file", tls.ca, "--state", state]
        with exporting(journal, *asked):
            until(state.exists, "a batch is taken")
        with exporting(journal, *asked) as second:
            until(lambda: set(found.indices) >= set(range(1100)), "all that was there")
            more = lines[: len(lines) // 1100 * 5]
            subprocess.run([*ours, "append", journal, "--jsonl", "-"], input=more, check=True, capture_output=True)
            until(lambda: set(found.indices) >= set(range(1105)), "all that came")
            until(lambda: json.loads(state.read_bytes())["next"] >= 1105, "the state says so")
            second.send_signal(signal.SIGINT)
            assert second.wait(20) == 130


def test_a_recorder_that_ends_is_waited_for(tmp_path: Path) -> None:
    """The export never takes the recorder's place in a deployment; when it is back, it goes on without a gap."""
    with recorder() as process:
        (process.folder / "sealward.yaml").touch()
        path = tmp_path / "out.jsonl"
        asked = ["--to", f"file:{path}", "--state", tmp_path / "state"]
        with exporting(process.folder / "journal", *asked) as export:
            door = process.line("door")
            first = process.admitted(door)["req"]
            door.ask(closing(first))
            until(lambda: path.exists() and first.encode() in path.read_bytes(), "the first request")
            process.end(signal.SIGTERM)
            process.start()
            door = process.line("door")
            second = process.admitted(door)["req"]
            door.ask(closing(second))
            until(lambda: path.read_bytes().count(second.encode()) >= 2, "the second request")
            export.send_signal(signal.SIGINT)
            _, words = export.communicate()
        assert b"waiting" in words
        found = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert {row["index"] for row in found} == set(range(max(row["index"] for row in found) + 1))
        assert all(row["leaf"] and row["event"]["origin"] and "statement" not in row["event"] for row in found)
        reads = [row["event"]["read"]["query"] for row in found if row["event"]["type"] == "journal.read"]
        assert len(reads) == 2
        assert all(f'"recipient":"file:{path}"' in query for query in reads)
        assert path.stat().st_mode & 0o077 == 0
        assert OsDisk(tmp_path).read("state")
