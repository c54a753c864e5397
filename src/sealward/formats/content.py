"""What a caller sees of an answer: the texts by choice and the tool calls, as digests of a statement (contracts.md section 3).

Digests are of what is delivered, after redaction. Reasoning and refusals are in neither list; both hold 1 to 16 values, else
they are left out. Usage and finish reasons are read on the way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson

from sealward.formats.fault import FormatError

if TYPE_CHECKING:
    from hashlib import _Hash

Document = dict[str, Any]


class Collector:
    """Reads one answer of `family`: chat, completions, responses, anthropic, ollama-chat, ollama-generate, embeddings.

    Give it either parsed documents (`see`: the whole answer, or each event of a stream as it is delivered) or the delivered
    bytes in any pieces (`feed`, then `end`).
    """

    __slots__ = ("_calls", "_held", "_read", "_spoiled", "_streamed", "_texts", "finish_reasons", "usage")

    def __init__(self, family: str, streamed: bool) -> None:
        self._read, self._streamed = READERS[family], streamed
        self._texts: dict[int, _Text] = {}
        self._calls: dict[tuple[int, int], _Call] = {}
        self._held = b""
        self._spoiled = False
        self.finish_reasons: dict[int, str] = {}
        """By choice; chat and completions only."""
        self.usage: Document = {}
        """As the runtime gave it last; empty if it never did."""

    def see(self, document: Document) -> None:
        """One parsed document. Never raises: of an answer whose shape is not the family's the digests are left out."""
        try:
            self._read(self, document)
        except (AttributeError, KeyError, TypeError, ValueError):
            self._spoiled = True

    def feed(self, data: bytes) -> None:
        """Delivered content. FormatError("malformed"): a document that is no JSON object."""
        self._held += data
        if not self._streamed:
            return
        *lines, self._held = self._held.split(b"\n")
        for line in lines:
            document = line.strip()
            if self._read not in NDJSON:
                document = document[5:].lstrip() if document.startswith(b"data:") else b""
            if document and document != b"[DONE]":
                self.see(_parse(document))

    def end(self) -> None:
        """The content is complete, or was cut here."""
        if not self._streamed and self._held:
            self.see(_parse(self._held))
            self._held = b""

    def digests(self) -> tuple[list[str] | None, list[str] | None]:
        """`text_sha256` and `tools_sha256`, each None where it is left out."""
        if self._spoiled:
            return None, None
        known = self._texts
        texts = [known[n].digest() if n in known else EMPTY for n in range(max(known) + 1)] if known else []
        tools = [self._calls[place].digest() for place in sorted(self._calls)] if self._calls else []
        return (texts if 0 < len(texts) <= MOST else None), (tools if 0 < len(tools) <= MOST else None)

    @property
    def tool_names(self) -> list[str]:
        """In the order of `tools_sha256`, however many."""
        return ["".join(self._calls[place].name) for place in sorted(self._calls)]

    def text(self, choice: int, words: str | None) -> None:
        """A reader's: more visible text of a choice; None and "" make it known."""
        found = self._texts.get(choice)
        if found is None:
            if type(choice) is not int or choice < 0:
                raise ValueError(choice)
            place = min(choice, MOST)  # one too many is enough to leave all out
            found = self._texts.get(place)
            if found is None:
                found = self._texts[place] = _Text()
        if words:
            if type(words) is not str:
                raise TypeError
            found.add(words)

    def call(self, choice: int, n: int, name: Any, arguments: Any) -> None:
        """A reader's: a tool call, or a fragment of it; an object's text is the one `orjson` writes, or as it stood in `feed`."""
        found = self._calls.get((choice, n))
        if found is None:
            if type(choice) is not int or type(n) is not int:
                raise ValueError(n)
            if len(self._calls) >= MOST_CALLS:
                return
            found = self._calls[choice, n] = _Call()
        if name:
            if type(name) is not str:
                raise TypeError
            found.name.append(name)
        if arguments is not None:
            found.arguments.append(arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode())

    def another(self, name: Any, arguments: Any) -> None:
        """A reader's: the next whole call of the only choice."""
        self.call(0, len(self._calls), name, arguments)


class _Text:
    """The running digest of one text; short pieces are gathered first."""

    __slots__ = ("_hash", "_pieces")

    def __init__(self) -> None:
        self._hash: _Hash | None = None
        self._pieces: list[str] = []

    def add(self, words: str) -> None:
        self._pieces.append(words)
        if len(self._pieces) >= GATHERED:
            self._folded()

    def digest(self) -> str:
        return self._folded().hexdigest()

    def _folded(self) -> _Hash:
        words = "".join(self._pieces).encode()
        self._pieces.clear()
        if self._hash is None:
            self._hash = sha256(words)
        else:
            self._hash.update(words)
        return self._hash


class _Call:
    """One tool call; its fragments are joined at the end."""

    __slots__ = ("arguments", "name")

    def __init__(self) -> None:
        self.name: list[str] = []
        self.arguments: list[str] = []

    def digest(self) -> str:
        return sha256(("".join(self.name) + "\0" + "".join(self.arguments)).encode()).hexdigest()


def _chat(seen: Collector, document: Document) -> None:
    for choice in document.get("choices", ()):
        index = choice.get("index", 0)
        message = choice.get("delta") or choice.get("message") or _NOTHING
        seen.text(index, message.get("content"))
        for n, call in enumerate(message.get("tool_calls") or ()):
            function = call.get("function") or _NOTHING
            seen.call(index, call.get("index", n), function.get("name"), function.get("arguments"))
        if choice.get("finish_reason"):
            seen.finish_reasons[index] = choice["finish_reason"]
    if document.get("usage"):
        seen.usage = document["usage"]


def _completions(seen: Collector, document: Document) -> None:
    for choice in document.get("choices", ()):
        seen.text(choice.get("index", 0), choice.get("text"))
        if choice.get("finish_reason"):
            seen.finish_reasons[choice.get("index", 0)] = choice["finish_reason"]
    if document.get("usage"):
        seen.usage = document["usage"]


def _responses(seen: Collector, document: Document) -> None:
    """Streamed, the text is in the deltas and comes back whole in `.done`; the calls are taken from where they are whole."""
    seen.text(0, None)
    kind = document.get("type")
    if kind == "response.output_text.delta":
        seen.text(0, document["delta"])
    elif kind == "response.output_item.done":
        _response_call(seen, document["item"])
    elif document.get("object") == "response":
        for item in document.get("output", ()):
            _response_call(seen, item)
            for part in item.get("content", ()) if item.get("type") == "message" else ():
                if part.get("type") == "output_text":
                    seen.text(0, part["text"])
    usage = document.get("usage") or document.get("response", _NOTHING).get("usage")
    if usage:
        seen.usage = usage


def _response_call(seen: Collector, item: Document) -> None:
    if item.get("type") == "function_call":
        seen.another(item["name"], item["arguments"])


def _anthropic(seen: Collector, document: Document) -> None:
    """Whole: blocks of `content`. Streamed: blocks by `index`, an object in fragments of its text."""
    seen.text(0, None)
    for block in document.get("content", ()):
        if block.get("type") == "text":
            seen.text(0, block["text"])
        elif block.get("type") == "tool_use":
            seen.another(block["name"], block["input"])
    block, delta, at = document.get("content_block", _NOTHING), document.get("delta", _NOTHING), document.get("index", 0)
    if block.get("type") == "tool_use":
        seen.call(0, at, block["name"], None)
    if delta.get("type") == "text_delta":
        seen.text(0, delta["text"])
    elif delta.get("type") == "input_json_delta":
        seen.call(0, at, None, delta["partial_json"])
    if document.get("usage"):
        seen.usage = document["usage"]


def _ollama_chat(seen: Collector, document: Document) -> None:
    message = document.get("message", _NOTHING)
    seen.text(0, message.get("content"))
    for call in message.get("tool_calls") or ():
        seen.another(call["function"]["name"], call["function"]["arguments"])


def _ollama_generate(seen: Collector, document: Document) -> None:
    seen.text(0, document.get("response"))


def _embeddings(seen: Collector, document: Document) -> None:
    """Numbers are no text."""
    if document.get("usage"):
        seen.usage = document["usage"]


def _parse(data: bytes) -> Document:
    """A JSON object in which the objects that are arguments stay the text they were."""
    try:
        value = orjson.loads(data)  # strict: no surrogates, no second encoding
        if any(name in data for name in ARGUMENTS):
            value, _ = _value(data.decode().strip(), 0, "", MAX_DEPTH)
    except (ValueError, IndexError):
        raise FormatError("malformed") from None
    if type(value) is not dict:
        raise FormatError("malformed")
    return value


def _value(text: str, at: int, name: str, depth: int) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends. The text is known to be JSON."""
    if text[at] not in "{[" or name in AS_IT_STANDS or not depth:
        value, end = _DECODER.raw_decode(text, at)
        return (text[at:end] if name in AS_IT_STANDS and type(value) is dict else value), end
    whole: dict[str, Any] | list[Any] = {} if text[at] == "{" else []
    at = _after_space(text, at + 1)
    while text[at] not in "}]":
        if type(whole) is dict:
            member, at = _DECODER.raw_decode(text, at)
            whole[member], at = _value(text, _after_space(text, at), member, depth - 1)
        elif type(whole) is list:
            item, at = _value(text, at, "", depth - 1)
            whole.append(item)
        at = _after_space(text, at)
    return whole, at + 1


def _after_space(text: str, at: int) -> int:
    """Past white space and the one separator that may stand in it."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


MOST = 16
MOST_CALLS = 1024
GATHERED = 256
MAX_DEPTH = 16  # deeper than any family puts its calls
EMPTY = sha256().hexdigest()
AS_IT_STANDS = frozenset({"arguments", "input"})
ARGUMENTS = (b"arguments", b"input")
_NOTHING: Document = {}
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[ \t\r\n]*[,:]?[ \t\r\n]*")
READERS: Mapping[str, Callable[[Collector, Document], None]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "anthropic": _anthropic,
    "ollama-chat": _ollama_chat,
    "ollama-generate": _ollama_generate,
    "embeddings": _embeddings,
}
NDJSON = frozenset({_ollama_chat, _ollama_generate})
