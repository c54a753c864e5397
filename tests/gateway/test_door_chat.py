"""A chat request through the whole pipeline."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson

from doors import CHAT, STREAM, house, run


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
