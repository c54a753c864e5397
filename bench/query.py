"""The questions people ask of a journal of a million entries: built, indexed, asked again and again, and one person erased.

As the reader's process answers them: columns of the side index, then the entries themselves, opened out of the log.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from result import Bar, Result
from rig import Rig

from sealward.clock import SystemClock
from sealward.formats.ids import rfc3339, ulid
from sealward.journal.durable import OsDisk
from sealward.journal.index import Index
from sealward.journal.keys import load_keys
from sealward.journal.publisher import Publisher
from sealward.journal.query import Find
from sealward.journal.writer import Draft, Writer

Json = dict[str, Any]


def measure(rig: Rig, entries: int, seconds: float) -> Result:
    """A journal of `entries`, or of as many as are written within `seconds`."""
    folder = rig.folder / "journal-query"
    subprocess.run([*INIT, str(folder)], check=True, capture_output=True)
    writer = Writer.open(OsDisk(folder), load_keys(folder), clock=SystemClock(), random=os.urandom)
    with rig.on_proxy_core():
        requests = _written(writer, entries, seconds)
        built, index = _built(folder, writer)
        rows = [_asked(name, questions, index, writer) for name, questions in _questions(requests)]
        erased_ms = _erased(index, writer)
        opened_ms = _timed(lambda: _index(folder, writer).counts({}, 1, END, ["hour"]))[1]
    size = writer.size
    writer.close()
    millis = [took for row in rows for took in row.pop("all")]
    worst = statistics.quantiles(millis, n=20)[-1]
    bars = [
        Bar(f"usual questions p95 at {size:,} entries, ms", worst, 100.0),
        Bar("one person leaves the side index, ms", erased_ms, 1000.0),
    ]
    made = (
        f"Made anew from the log: {size / built:,.0f} entries/s; opened from disk, with one count over all: {opened_ms:,.0f} ms."
    )
    notes = [made, "The first bar is over all questions together; each was asked with other words every time."]
    chart = {row["question"]: {"p95 ms": row["p95 ms"]} for row in rows}
    return Result("query", f"Questions to a journal of {size:,} entries", rows, bars, "ms", chart, notes)


def _written(writer: Writer, entries: int, seconds: float) -> list[str]:
    """Fourteen days of requests of a thousand callers at twenty models; some ids of requests."""
    chance, until, seen = random.Random(1), time.monotonic() + seconds, []
    publisher = Publisher(writer)
    step = DAYS * DAY_US // entries
    for start in range(0, entries, 2 * BATCH):
        if time.monotonic() > until:
            break
        made = [_request(START_US + (start + 2 * n) * step, chance) for n in range(BATCH)]
        writer.commit([Draft(admitted) for admitted, _ in made])
        writer.commit([Draft(closed) for _, closed in made])
        seen.append(made[0][1]["link"]["request"])
    publisher.stop()
    writer.publish()
    return seen


def _request(us: int, chance: random.Random) -> tuple[Json, Json]:
    """Admitted and completed; now and then a login and a refusal instead."""
    who, request = f"u{int(chance.paretovariate(1.2)) % 1000}", ulid(us, os.urandom(10))
    common = {
        "v": 1,
        "time": rfc3339(us),
        "instance": "door-1",
        "tenant": "default",
        "subject": {"id": who, "kind": "human", "key_id": f"k-{who}", "groups": ["staff"], "authn": "apikey"},
        "source": {"addr": f"10.0.{chance.randrange(4)}.{chance.randrange(250)}", "port": 40000, "tls_version": "1.3"},
        "decision": {"outcome": "allow", "policy_digest": "sha256:" + "a" * 64, "policy_ids": ["p1"], "epoch": us // 1_000_000},
        "operation": {"name": "chat", "route": "/v1/chat/completions", "method": "POST", "stream": False},
        "model": {"alias": f"m{chance.randrange(20)}", "id": f"m{chance.randrange(20)}", "digest": "sha256:" + "b" * 64},
        "link": {"request": request},
    }
    first, second = ({"id": ulid(us, os.urandom(10))} for _ in range(2))
    if chance.random() < REFUSED:
        denied = {"outcome": "deny", "reason": chance.choice(["model_not_granted", "limit_requests", "limit_tokens"])}
        login = {name: common[name] for name in ("v", "time", "instance", "tenant", "subject", "source")}
        return login | first | {"type": "auth.login"}, common | second | {
            "type": "inference.denied",
            "decision": denied,
        }
    admission = {"body": "c" * 64, "input": "d" * 64, "path": "/v1/chat/completions", "sidecar": "local:5f3c9a1e77d04b26"}
    outcome = {"status": 200, "input_tokens": 123, "output_tokens": 456, "ttft_us": 41000, "total_us": 1234000}
    detectors = [
        {"name": "prompt", "version": "1", "target": "input", "verdict": "flag" if chance.random() < REFUSED else "pass"}
    ]
    closed = {"type": "inference.completed", "outcome": outcome, "statement": {"input_sha256": "d" * 64}, "detectors": detectors}
    return common | first | {"type": "inference.admitted", "admission": admission}, common | second | closed


def _questions(requests: list[str]) -> Iterator[tuple[str, list[Json]]]:
    chance = random.Random(2)
    people = [f"u{n}" for n in chance.sample(range(1, 60), ASKED)]
    models = [f"m{n % 20}" for n in range(ASKED)]
    days = [START_US + chance.randrange((DAYS - 1) * DAY_US) for _ in range(ASKED)]
    yield "the last 100 entries of a person", [{"where": {"principal": [who]}} for who in people]
    yield "a request, both entries", [{"where": {"request": [one]}} for one in chance.sample(requests, min(ASKED, len(requests)))]
    yield "the last 100 denials of a day", [{"where": {"outcome": ["deny"]}, "since": day, "until": day + DAY_US} for day in days]
    yield "flagged requests at a model", [{"where": {"verdict": ["flag", "block"], "model": [model]}} for model in models]
    yield (
        "how many requests a person made",
        [{"where": {"principal": [who], "type": ["inference.completed"]}, "count": True} for who in people],
    )
    yield "denials by reason and hour", [{"where": {"outcome": ["deny"], "model": [m]}, "by": ["hour", "reason"]} for m in models]
    yield (
        "completed requests by model",
        [{"where": {"type": ["inference.completed"]}, "by": ["model"], "until": END - n} for n in range(ASKED)],
    )
    yield "everything by person", [{"by": ["principal"], "since": day} for day in days]
    yield (
        "a person's entries with a free member",
        [{"where": {"principal": [who], "outcome.status": ["200"]}, "limit": 20} for who in people],
    )


def _asked(name: str, questions: list[Json], index: Index, writer: Writer) -> dict[str, Any]:
    finds = [Find.parse(question) for question in questions]
    lengths, took = zip(
        *[_timed(lambda find=find: sum(1 for _ in find.answer(index, writer.reader))) for find in finds], strict=True
    )
    return {
        "question": name,
        "asked": len(took),
        "rows": statistics.median(lengths),
        "p50 ms": statistics.median(took),
        "p95 ms": statistics.quantiles(took, n=20)[-1],
        "all": took,
    }


def _built(folder: Path, writer: Writer) -> tuple[float, Index]:
    index = _index(folder, writer)
    _, took = _timed(lambda: index.catch_up(writer.size))
    index.save(last=True)
    return took / 1000, index


def _index(folder: Path, writer: Writer) -> Index:
    purpose = load_keys(folder).events
    return Index(OsDisk(folder), writer.reader, purpose, writer.reader.erased, os.urandom, writer.size)


def _erased(index: Index, writer: Writer) -> float:
    kids = writer.kids_of("u2")
    return _timed(lambda: index.on_erased(kids))[1]


def _timed(step: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = step()
    return result, (time.perf_counter() - begin) * 1000


BATCH = 128
ASKED = 25
REFUSED = 0.03
START_US, DAYS, DAY_US = 1_793_000_000_000_000, 14, 86_400_000_000
END = 1 << 60
INIT = (sys.executable, "-m", "sealward", "journal", "init", "--origin", "bench.test/query")
