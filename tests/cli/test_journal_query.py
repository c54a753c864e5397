"""`sealward journal query` and `tail -f`: by hand over a directory, and through a running recorder."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from journals import event, request_id
from recorder_desk import closing
from recorder_process import recorder
from sealward.cli import run
from sealward.cli.journal_lines import line_of
from sealward.cli.journal_query import moment
from sealward.errors import UsageError

OURS = [sys.executable, "-m", "sealward", "journal"]


def ours(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """One command line."""
    return subprocess.run([*OURS, *map(str, arguments)], input=data, capture_output=True, check=False, timeout=60)


def lines(done: subprocess.CompletedProcess[bytes]) -> list[Any]:
    """Of JSON on stdout."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def here(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The same as `ours`, in this process: most of a command line's time is Python's start."""

    def inside(*arguments: object) -> subprocess.CompletedProcess[bytes]:
        code = run(["journal", *map(str, arguments)])
        out, err = capfdbinary.readouterr()
        return subprocess.CompletedProcess([], code, out, err)

    return inside


Here = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logins of three people and refusals of one."""
    folder = tmp_path_factory.mktemp("query") / "j"
    assert ours("init", folder, "--origin", "journal.test/query").returncode == 0
    events = [event("auth.login", subject={"id": f"u-{n % 3}", "kind": "human"}) for n in range(9)]
    events += [
        event("inference.denied", subject={"id": "u-1", "kind": "human"}, link={"request": request_id()}) for _ in range(2)
    ]
    data = b"".join(json.dumps(each).encode() + b"\n" for each in events)
    assert ours("append", folder, "--jsonl", "-", data=data).returncode == 0
    return folder


def test_by_hand_it_finds_counts_and_records_the_question(folder: Path, here: Here) -> None:
    """As JSON lines, as a number, as a table; the index it leaves is sealed and used by the next question."""
    found = lines(here("query", folder, "--principal", "u-1", "--type", "auth.*", "--json"))
    assert [row["index"] for row in found] == [1, 4, 7]
    assert (folder / "private/index/manifest").exists()
    assert b"u-1" not in b"".join(path.read_bytes() for path in (folder / "private/index").iterdir())
    assert lines(here("query", folder, "--outcome", "deny", "--field", "subject.kind=human", "--count", "--json")) == [
        {"count": 2}
    ]
    table = here("query", folder, "--group-by", "principal,type", "--since", "2026-11-23", "--type", "auth.login").stdout.decode()
    assert [line.split() for line in table.splitlines()] == [
        ["PRINCIPAL", "TYPE", "COUNT"],
        *[[f"u-{n}", "auth.login", "3"] for n in range(3)],
    ]
    done = here("query", folder, "--limit", "2")
    assert len(done.stdout.splitlines()) == 2
    assert b"the newest 2 entries" in done.stderr
    done = here("query", folder, "--principal", "nobody", "--until", "2026-11-23T09:14Z")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"no entry says this\n")
    reads = [row["event"]["read"]["query"] for row in lines(here("query", folder, "--type", "journal.read", "--json"))]
    assert len(reads) == 5
    assert json.loads(reads[0]) == {"limit": 100, "where": {"principal": ["u-1"], "type": ["auth.*"]}}


@pytest.mark.parametrize(
    "wrong",
    [
        ["--group-by", "colour"],
        ["--group-by", "type,type"],
        ["--field", "subject.kind"],
        ["--field", "Subject=x"],
        ["--since", "soon"],
        ["--since", "99999999d"],
        ["--limit", "0"],
        ["--principal", "x" * 300],
    ],
)
def test_what_it_cannot_mean_is_a_usage_error(folder: Path, wrong: list[str]) -> None:
    """Exit 2, with a remedy, and nothing is recorded."""
    before = (folder / "checkpoint").read_bytes()
    assert run(["journal", "query", str(folder), *wrong]) == 2
    assert (folder / "checkpoint").read_bytes() == before


def test_erasing_by_hand_reaches_the_index(tmp_path: Path, here: Here) -> None:
    """The side index on disk forgets with the keys, in the same call."""
    folder = tmp_path / "j"
    here("init", folder, "--origin", "journal.test/erase")
    data = b"".join(
        json.dumps(event("auth.login", subject={"id": who, "kind": "human"})).encode() + b"\n" for who in ("ann", "bob")
    )
    ours("append", folder, "--jsonl", "-", data=data)
    assert lines(here("query", folder, "--principal", "ann", "--count", "--json")) == [{"count": 1}]
    before = {path.name: path.read_bytes() for path in (folder / "private/index").iterdir()}
    assert here("erase", folder, "--subject", "ann").returncode == 0
    after = {path.name: path.read_bytes() for path in (folder / "private/index").iterdir()}
    assert all(after[name] != before[name] for name in before)
    assert lines(here("query", folder, "--principal", "ann", "--count", "--json")) == [{"count": 0}]


def test_moments() -> None:
    """A date, a time, UTC where nothing is said, or a span before now."""
    day = datetime(2026, 11, 23, tzinfo=UTC)
    micros = int(day.timestamp()) * 1_000_000
    assert moment("2026-11-23") == micros
    assert (
        moment("2026-11-23T09:14") == moment("2026-11-23T09:14Z") == moment("2026-11-23T10:14+01:00") == micros + 33_240_000_000
    )
    ago = moment("90m")
    assert abs(datetime.now(UTC).timestamp() - timedelta(minutes=90).total_seconds() - ago / 1e6) < 60
    with pytest.raises(UsageError):
        moment("09:14")


def test_a_running_recorder_answers_and_follows(here: Here) -> None:
    """The same questions through its socket; `tail -f` shows what comes, in colour on a terminal, with one `journal.read`."""
    with recorder() as process:
        journal, door = process.folder / "journal", process.line("door")
        first = process.admitted(door)["req"]
        door.ask(closing(first))
        found = lines(here("query", journal, "--request", first, "--json"))
        assert [row["event"]["type"] for row in found] == ["inference.admitted", "inference.completed"]
        assert lines(here("query", journal, "--principal", "ann", "--group-by", "type", "--json")) == [
            [{"type": "inference.admitted", "count": 1}, {"type": "inference.completed", "count": 1}]
        ]
        assert here("query", journal, "--field", "A=b").returncode == 2
        until = time.monotonic() + 20
        while (receipt := here("receipt", first, "--dir", journal)).returncode:
            assert time.monotonic() < until, receipt
            time.sleep(0.1)  # until a checkpoint covers it
        assert json.loads(receipt.stdout)["statement"]["request"] == first
        terminal, screen = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color"}
        environment.pop("NO_COLOR", None)
        with subprocess.Popen([*OURS, "tail", str(journal), "-f", "-n", "999"], stdout=screen, env=environment) as tail:
            try:
                os.close(screen)
                shown = watched(terminal, first)
                second = process.admitted(door)["req"]
                door.ask(closing(second))
                shown += watched(terminal, f"ann  m1  allow  {second}")
                assert f"{chr(27)}[32minference.completed" in shown
                tail.send_signal(signal.SIGINT)
                assert tail.wait(20) == 130
            finally:
                tail.kill()
        os.close(terminal)
        reads = [each["read"]["query"] for each in process.events() if each["type"] == "journal.read"]
        assert [query for query in reads if "follow" in query] == ['{"follow":true,"last":999}']


def watched(terminal: int, wanted: str) -> str:
    """What the screen shows until it shows this."""
    shown, until = "", time.monotonic() + 20
    while wanted not in shown:
        assert time.monotonic() < until, shown
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 1 << 16).decode()
    return shown


def test_a_line_holds_what_matters() -> None:
    """When, what, who, on what, why; an erased entry says that it was."""
    refused = event("request.refused") | {"refusal": {"stage": "http", "count": 12, "first": "x", "last": "y"}}
    assert line_of({"index": 7, "event": refused}).split()[2:] == [
        "request.refused",
        "anonymous",
        refused["decision"]["reason"],
        "x12",
    ]
    assert line_of({"index": 7, "erased": True, "header": {"time": "2026-11-23T09:00:00Z"}}).split() == [
        "7",
        "2026-11-23T09:00:00Z",
        "erased",
    ]
