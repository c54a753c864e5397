"""A chat request through the whole pipeline."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from doors import CHAT, RUN, STREAM, STREAM_HEAD, Asked, chunk, event, house, json_answer, later, run, until, whole
from sealward.gateway.limits import Limits


def test_a_whole_answer_is_written_anew_and_closed_by_an_entry_first(tmp_path: Path) -> None:
    """The caller reads our serialisation under the model's own name; the statement hashes what he sent and what he read."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 200
            assert answer.json()["model"] == "m1"
            assert "timings" not in answer.json()
            assert "prompt_tokens_details" not in answer.json()["usage"]
            request = answer.headers["x-sealward-request"]
            closed = home.recorder.closed[request]
            statement = closed["event"]["statement"]
            assert closed["outcome"] == "completed"
            assert home.recorder.admitted[request]["input"] == hashlib.sha256(CHAT).hexdigest()
            assert home.recorder.admitted[request]["body"] == hashlib.sha256(home.sidecar.asked[0].body).hexdigest()
            assert statement["output_sha256"] == hashlib.sha256(answer.content).hexdigest()
            assert statement["text_sha256"] == [hashlib.sha256(b"Hello").hexdigest()]
            assert home.sidecar.asked[0].headers[b"x-sealward-pass"].decode() == answer.headers["x-sealward-receipt"]

    run(scenario)


def test_a_request_with_unknown_fields_is_served_and_its_admission_names_them(tmp_path: Path) -> None:
    """SDKs add fields with every release: they are dropped and recorded, never a reason to fail."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            answer = await home.ask("POST", "/v1/chat/completions", orjson.dumps(orjson.loads(CHAT) | {"user": "u-1"}))
            assert answer.status == 200
            admitted = home.recorder.admitted[answer.headers["x-sealward-request"]]
            assert admitted["event"]["request"]["dropped_fields"] == ["user"]

    run(scenario)


def test_a_stream_is_passed_on_as_it_comes_and_ends_after_its_entry(tmp_path: Path) -> None:
    """The usage chunk that nobody asked for is dropped; the hash is of the content as delivered, `[DONE]` included."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            answer = await home.ask("POST", "/v1/chat/completions", STREAM)
            assert answer.complete
            datas = [line[6:] for line in answer.content.split(b"\n") if line]
            assert datas[-1] == b"[DONE]"
            texts = [orjson.loads(data)["choices"][0]["delta"].get("content") for data in datas[:-1]]
            assert texts == ["Hel", "lo", None]
            closed = home.recorder.closed[answer.headers["x-sealward-request"]]
            assert closed["event"]["statement"]["output_sha256"] == hashlib.sha256(answer.content).hexdigest()
            assert closed["event"]["outcome"]["output_tokens"] == 2

    run(scenario)


def test_usage_goes_to_whoever_asked_for_it_without_the_cache_counters(tmp_path: Path) -> None:
    """`cached_tokens` tells whether somebody else sent the same prompt (knowledge/gateway.md section 3)."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            body = orjson.dumps(orjson.loads(STREAM) | {"stream_options": {"include_usage": True}})
            answer = await home.ask("POST", "/v1/chat/completions", body)
            last = answer.content.split(b"\n\n")[-3]
            assert orjson.loads(last[6:])["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}

    run(scenario)


def test_the_last_bytes_wait_for_the_closing_entry(tmp_path: Path) -> None:
    """Until the recorder answers, the caller has the text but neither `[DONE]` nor the end of the chunks."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.silent.add("close")
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", STREAM)
            await until(lambda: home.recorder.unanswered)
            await caller.head()
            early = await caller.reader.read(1 << 16)
            assert b"lo" in early
            assert b"[DONE]" not in early
            home.recorder.reply(home.recorder.unanswered[0], home.recorder.writers[0])
            assert (await asyncio.wait_for(caller.reader.readuntil(b"0\r\n\r\n"), 5)).count(b"[DONE]") == 1

    run(scenario)


def test_a_closing_entry_that_never_comes_leaves_a_whole_answer_unsent(tmp_path: Path) -> None:
    """No entry, no service: 503, and not a word of the answer."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(close_s=0.1)) as home:
            home.recorder.silent.add("close")
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 503
            assert b"Hello" not in answer.content

    run(scenario)


@pytest.mark.parametrize(("reason", "status"), [("limit_requests", 429), ("limit_concurrent", 429), ("model_withdrawn", 403)])
def test_what_the_recorder_refuses_reaches_no_model_and_is_not_written_twice(tmp_path: Path, reason: str, status: int) -> None:
    """The recorder writes a decided refusal of `admit` itself."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.refuse = reason
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == status
            assert "x-sealward-receipt" not in answer.headers
            assert home.sidecar.asked == []
            assert home.recorder.closed == {}
            assert home.recorder.events == []

    run(scenario)


def test_a_stale_epoch_is_decided_anew_and_asked_again(tmp_path: Path) -> None:
    """The recorder is ahead: the door fetches, decides by the new snapshot and asks once more, with its epoch."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.recorder.refuse = "stale_epoch"
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", CHAT)
            await until(lambda: home.snapshots.asked)
            home.recorder.refuse = ""
            home.change(later(home.snapshots.held))
            answer = await caller.answer()
            assert answer.status == 200
            assert home.recorder.admitted[answer.headers["x-sealward-request"]]["epoch"] == 8

    run(scenario)


def test_a_stale_epoch_that_lasts_is_refused_within_its_second(tmp_path: Path) -> None:
    """Nothing is written for it: neither side decided anything."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(admit_s=0.2)) as home:
            home.recorder.refuse = "stale_epoch"
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert home.recorder.events == []

    run(scenario)


def test_a_pass_that_comes_too_late_is_closed(tmp_path: Path) -> None:
    """The question was given up: 503 to the caller, and the admission does not stay open."""

    async def scenario() -> None:
        async with house(tmp_path, limits=Limits(admit_s=0.1)) as home:
            home.recorder.silent.add("admit")
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 503
            assert home.recorder.closed == {}
            home.recorder.reply(home.recorder.unanswered[0], home.recorder.writers[0])
            request = answer.headers["x-sealward-request"]
            await until(lambda: request in home.recorder.closed)
            assert home.recorder.closed[request]["event"]["outcome"]["aborted_by"] == "door"
            assert home.sidecar.asked == []

    run(scenario)


def test_a_recorder_that_goes_cuts_what_runs_and_is_found_again(tmp_path: Path) -> None:
    """What runs could no longer be closed by an entry; new requests are served when the link is back."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.script = endless
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", STREAM)
            await caller.head()
            await caller.reader.readuntil(b"word")
            home.recorder.writers[0].transport.abort()
            assert b"0\r\n\r\n" not in await caller.rest()
            await until(home.sidecar.asked[0].gone.is_set)
            home.sidecar.script = whole
            await until(lambda: home.worker.ready)
            assert (await home.ask("POST", "/v1/chat/completions", CHAT)).status == 200

    run(scenario)


async def endless(asked: Asked) -> AsyncIterator[bytes]:
    """A stream that goes on for as long as somebody reads it."""
    yield STREAM_HEAD
    for n in itertools.count():
        yield chunk(event(f"word{n} "))
        await asyncio.sleep(0.002)


def test_a_caller_who_leaves_ends_the_runtime_s_work(tmp_path: Path) -> None:
    """His connection's end closes the sidecar's, which is what frees the slot; the entry says `client`."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.script = endless
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", STREAM)
            _, headers = await caller.head()
            caller.writer.transport.abort()
            await until(home.sidecar.asked[0].gone.is_set)
            await until(lambda: home.recorder.closed)
            closed = home.recorder.closed[headers["x-sealward-request"]]
            assert closed["outcome"] == "aborted"
            assert closed["event"]["outcome"]["aborted_by"] == "client"

    run(scenario)


def test_a_caller_who_leaves_before_the_answer_ends_the_runtime_s_work_too(tmp_path: Path) -> None:
    """Also while nothing has been written to him."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.script = silent
            caller = await home.connect()
            await caller.send("POST", "/v1/chat/completions", CHAT)
            await until(lambda: home.sidecar.asked)
            caller.writer.transport.abort()
            await until(home.sidecar.asked[0].gone.is_set)
            await until(lambda: home.recorder.closed)
            assert next(iter(home.recorder.closed.values()))["event"]["outcome"]["aborted_by"] == "client"

    run(scenario)


async def silent(asked: Asked) -> AsyncIterator[bytes]:
    """A runtime that thinks for ever."""
    await asked.gone.wait()
    yield b""


def test_a_reader_who_stops_stops_the_runtime_and_memory_stays(tmp_path: Path) -> None:
    """Back-pressure goes through: of an endless fast stream only what the buffers on the way hold is taken."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            written = 0

            async def fast(asked: Asked) -> AsyncIterator[bytes]:
                nonlocal written
                yield STREAM_HEAD
                while written < 64 << 20:
                    written += 16 << 10
                    yield chunk(event("x" * (16 << 10)))
                    await asyncio.sleep(0)

            home.sidecar.script = fast
            caller = await home.connect(limit=4096)
            await caller.send("POST", "/v1/chat/completions", STREAM)
            await until(lambda: written > 1 << 20)
            connection = next(iter(home.worker._connections))
            await until(lambda: connection.paused)
            held = -1
            while held != written:
                held = written
                await asyncio.sleep(0.05)
            assert written < 24 << 20
            assert connection.unsent < 1 << 20

    run(scenario)


async def answers_500(asked: Asked) -> AsyncIterator[bytes]:
    """A runtime's own error, with what must not leave the house."""
    yield json_answer({"error": "no such file: /weights/secret.gguf"}, 500)


async def redirects(asked: Asked) -> AsyncIterator[bytes]:
    """A runtime that points elsewhere."""
    yield b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"


async def garbage(asked: Asked) -> AsyncIterator[bytes]:
    """Not HTTP at all."""
    yield b"\x00\x01\x02 not http\r\n\r\n"


async def half(asked: Asked) -> AsyncIterator[bytes]:
    """Less than it promised."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\nconnection: close\r\n\r\n{"
    asked.gone.set()
    CONNECTIONS[-1].transport.close()


async def no_json(asked: Asked) -> AsyncIterator[bytes]:
    """A page instead of an answer."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\n\r\n<html"


async def a_page(asked: Asked) -> AsyncIterator[bytes]:
    """Another media type."""
    yield b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}"


CONNECTIONS: list[Any] = []


@pytest.mark.parametrize("script", [answers_500, redirects, garbage, half, no_json, a_page])
def test_what_a_runtime_does_wrong_is_replaced_and_closed_as_upstream(tmp_path: Path, script: Any) -> None:
    """Its words, addresses and file names stay inside: the caller reads our own 502."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            CONNECTIONS[:] = home.sidecar.connections
            home.sidecar.script = script
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 502
            assert answer.json()["error"]["code"] == "upstream_error"
            assert b"secret" not in answer.content
            assert "location" not in answer.headers
            closed = home.recorder.closed[answer.headers["x-sealward-request"]]
            assert closed["event"]["outcome"]["aborted_by"] == "upstream"
            home.sidecar.script = whole
            assert (await home.ask("POST", "/v1/chat/completions", CHAT)).status == 200

    run(scenario)


async def no_done(asked: Asked) -> AsyncIterator[bytes]:
    """Ends well-framed, but the answer is not whole."""
    yield STREAM_HEAD + chunk(event("Hel")) + b"0\r\n\r\n"


async def an_error_event(asked: Asked) -> AsyncIterator[bytes]:
    """llama.cpp's way of failing in the middle."""
    yield STREAM_HEAD + chunk(event("Hel")) + chunk(b'data: {"error":{"message":"/weights/secret.gguf"}}\n\n')


async def goes_on(asked: Asked) -> AsyncIterator[bytes]:
    """An event after the last one."""
    yield STREAM_HEAD + chunk(event("Hel")) + chunk(b"data: [DONE]\n\n") + chunk(event("lo")) + b"0\r\n\r\n"


async def breaks(asked: Asked) -> AsyncIterator[bytes]:
    """The connection ends in the middle of a chunk."""
    yield STREAM_HEAD + chunk(event("Hel")) + b"fff\r\ndata: {"
    asked.gone.set()
    CONNECTIONS[-1].transport.close()


@pytest.mark.parametrize("script", [no_done, an_error_event, goes_on, breaks])
def test_a_stream_that_fails_ends_with_an_error_and_no_done(tmp_path: Path, script: Any) -> None:
    """SDKs stop at `[DONE]` and take what came before for the whole answer: it is never sent for a part of one."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            CONNECTIONS[:] = home.sidecar.connections
            home.sidecar.script = script
            answer = await home.ask("POST", "/v1/chat/completions", STREAM)
            assert answer.status == 200
            assert not answer.complete
            assert b"[DONE]" not in answer.content
            assert b"secret" not in answer.content
            last = answer.content.split(b"\n\n")[-2]
            assert orjson.loads(last[6:])["error"]["code"] == "upstream_error"
            closed = home.recorder.closed[answer.headers["x-sealward-request"]]["event"]
            assert closed["outcome"]["aborted_by"] == "upstream"
            sent = answer.content[: -len(last) - 2]
            assert closed["statement"].get("output_sha256") == (hashlib.sha256(sent).hexdigest() if sent else None)

    run(scenario)


def test_half_a_surrogate_pair_leaves_as_the_replacement_character(tmp_path: Path) -> None:
    """contracts.md section 3: what no UTF-8 can hold is U+FFFD in what is delivered and in what is hashed."""

    async def scenario() -> None:
        async with house(tmp_path) as home:

            async def odd(asked: Asked) -> AsyncIterator[bytes]:
                yield STREAM_HEAD + chunk(event("A").replace(b'"A"', b'"a\\ud83d"')) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

            home.sidecar.script = odd
            answer = await home.ask("POST", "/v1/chat/completions", STREAM)
            assert "a\ufffd" in answer.content.decode()
            closed = home.recorder.closed[answer.headers["x-sealward-request"]]["event"]
            assert closed["statement"]["text_sha256"] == [hashlib.sha256("a\ufffd".encode()).hexdigest()]

    run(scenario)


def test_a_reply_stage_may_hold_back_and_is_asked_for_the_rest_at_the_end(tmp_path: Path) -> None:
    """What it gives last is hashed and sent with the last bytes."""

    class OneBehind:
        def __init__(self) -> None:
            self.held: list[Any] = []

        def take(self, given: Any) -> list[Any]:
            out, self.held = self.held, [given]
            return out

        def end(self) -> list[Any]:
            return self.held

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.worker.stages = (OneBehind(),)
            answer = await home.ask("POST", "/v1/chat/completions", STREAM)
            assert answer.content.count(b"data: {") == 3
            closed = home.recorder.closed[answer.headers["x-sealward-request"]]["event"]
            assert closed["statement"]["output_sha256"] == hashlib.sha256(answer.content).hexdigest()
            assert closed["statement"]["text_sha256"] == [hashlib.sha256(b"Hello").hexdigest()]

    run(scenario)


def test_a_sidecar_that_restarted_is_asked_with_a_pass_of_its_new_run(tmp_path: Path) -> None:
    """Before a byte of the answer: the first admission is closed as `upstream`, the second one has the same request."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            heard = home.recorder.hear
            passes: list[str] = []

            def hear(message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
                if message["op"] == "admit":
                    passes.append(message["sidecar"])
                heard(message, writer)

            async def dies(asked: Asked) -> AsyncIterator[bytes]:
                home.sidecar.run, home.sidecar.script = "f" * 16, whole
                asked.gone.set()
                for connection in home.sidecar.connections:
                    connection.transport.close()
                yield b""

            home.recorder.hear = hear  # type: ignore[method-assign]
            home.sidecar.script = dies
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 200
            assert passes == [f"local:{RUN}", "local:" + "f" * 16]
            assert [message["outcome"] for message in home.recorder.all_closed] == ["aborted", "completed"]

    run(scenario)


def test_no_sidecar_no_admission(tmp_path: Path) -> None:
    """A model that nobody serves is refused before anything is counted."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            home.sidecar.state = "loading"
            await until(lambda: not home.worker.sidecars.ready)
            answer = await home.ask("POST", "/v1/chat/completions", CHAT)
            assert answer.status == 503
            assert home.recorder.admitted == {}
            await until(lambda: home.recorder.reasons("inference.denied") == ["upstream_unavailable"])

    run(scenario)


def test_connections_to_the_sidecar_are_used_again(tmp_path: Path) -> None:
    """One after the other on one connection: asked too late, `should_keep_alive` would open one for each request."""

    async def scenario() -> None:
        async with house(tmp_path) as home:
            caller = await home.connect()
            for _ in range(20):
                assert (await caller.ask("POST", "/v1/chat/completions", CHAT)).status == 200
            assert len(home.sidecar.connections) <= 2  # its health is asked on the same pool

    run(scenario)
