"""What stands under measurement, and what is asked of it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from counters import descendants


@dataclass(frozen=True, slots=True)
class Subject:
    """One proxy in front of the mock. `parts`: name of a part → its processes; a peer is one part named like itself."""

    name: str
    does: str
    url: str
    authorization: str
    parts: Mapping[str, tuple[int, ...]]

    def check(self) -> None:
        """An allowed request answers 200, one without a credential is refused. A fast error is the commonest wrong figure."""
        if (status := self._ask({"Authorization": self.authorization})) != 200:
            raise SystemExit(f"{self.name}: {status} for an allowed request")
        if (status := self._ask({})) < 400:  # LiteLLM says 500
            raise SystemExit(f"{self.name}: {status} without a credential")

    def _ask(self, headers: Mapping[str, str]) -> int:
        url = urlsplit(self.url)
        if url.scheme == "https":
            plain = ssl._create_unverified_context()  # noqa: SLF001 - a peer's certificate is made for this run
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(url.netloc, timeout=30, context=plain)
        else:
            connection = http.client.HTTPConnection(url.netloc, timeout=30)
        connection.request("POST", PATH, chat(streamed=False), {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status


def whole(pid: int, name: str) -> dict[str, tuple[int, ...]]:
    """A peer as one part: its process and all it started."""
    return {name: tuple(descendants(pid))}


def chat(*, streamed: bool) -> bytes:
    """A chat request of 1,006 bytes for the model `mock`."""
    passage = "The gateway verifies the caller, checks the policy, forwards the request and writes the journal. " * 8
    system = {"role": "system", "content": "You are a careful assistant."}
    user = {"role": "user", "content": "Summarise the following passage for an operator: " + passage}
    body = {"model": MODEL, "messages": [system, user], "temperature": 0.2, "max_tokens": 256, "user": "u-1"}
    return json.dumps(body | ({"stream": True} if streamed else {})).encode()


MODEL = "mock"
PATH = "/v1/chat/completions"
