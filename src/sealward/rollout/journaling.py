"""Activity journaling.

Requests are made, refused and answered ones, and each must have its entry; the journal must verify, and must no longer when an
entry in a copy is changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from sealward.errors import UnreachableError
from sealward.formats.ids import ulid
from sealward.journal.client import ask_owner, read_rows
from sealward.journal.durable import OsDisk
from sealward.journal.reader import Reader
from sealward.keyring.secret import Secret
from sealward.rollout import tampered
from sealward.rollout.asking import Answer, Caller
from sealward.rollout.cast import Actor, Cast
from sealward.rollout.evidence import Evidence, failed, held, left_out
from sealward.rollout.site import Site

Event = Mapping[str, Any]
Entries = Sequence[tuple[int, Event]]


@dataclass(frozen=True, slots=True)
class Made:
    """One request and the entry that it must leave: found by its id or, where nobody was proven, by its target."""

    what: str
    type: str
    request: str = ""
    target: str = ""

    @property
    def patience_s(self) -> float:
        """Of somebody who is not proven it may be written with others, after ten seconds."""
        return WRITTEN_S if self.request else COUNTED_S

    def finds(self, event: Event) -> bool:
        """Its own entry, or the one that counts it with others like it (contracts.md section 5)."""
        if event["type"] != self.type:
            return False
        if self.request:
            return bool(event.get("link", {}).get("request") == self.request)
        refusal, reason = event.get("refusal", {}), event.get("decision", {}).get("reason")
        return bool(refusal.get("target") == self.target or ("count" in refusal and reason == MALFORMED))


def ask(site: Site, cast: Cast, actors: Mapping[str, Actor], now_us: int) -> tuple[list[Made], list[Evidence]]:
    """The requests that were made, and what could not be."""
    made: list[Made] = []
    found: list[Evidence] = []
    for step in (_refused, _denied, _read, _answered):
        try:
            for each in step(site, cast, actors, now_us):
                if isinstance(each, Made):
                    made.append(each)
                else:
                    found.append(each)
        except UnreachableError as error:
            found.append(failed("entries", f"a request was not answered: {error.detail}"))
    made.append(Made("a change: the key of a probe", "apikey.created", actors["consumer"].request))
    return made, found


def judge(site: Site, made: Sequence[Made], entries: Entries) -> list[Evidence]:
    """Whether each has its entry, and what verification says of the last of these."""
    judged = [_judged(each, entries) for each in made]
    last = max((each.entry for each in judged if each.entry is not None), default=None)
    return [*judged, *(_verified(site, last) if last is not None else ())]


def with_entries(evidence: Sequence[Evidence], entries: Entries) -> list[Evidence]:
    """Evidence with the entry of the request that it speaks of, where it has one of its own."""
    index = {event.get("link", {}).get("request", ""): n for n, event in entries}
    return [replace(each, entry=index.get(each.request)) if each.request else each for each in evidence]


def size_of(site: Site) -> int:
    """Of the log now. UnreachableError: no recorder."""
    status = ask_owner(site.recorder, {"op": "status"})
    if status is None:
        raise UnreachableError("the recorder does not answer", remedy="start the deployment: sealward up")
    return int(status["size"])


def wait_for(site: Site, start: int, made: Sequence[Made]) -> Entries:
    """What was written from `start` on, as soon as each has its entry or may have none. Each look is a `journal.read`."""
    began, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        found = _entries(site, start)
        missing = [each for each in made if not any(each.finds(event) for _, event in found)]
        if time.monotonic() - began > max((each.patience_s for each in missing), default=0):
            return found
        time.sleep(pause)
        pause *= 2


def _entries(site: Site, start: int) -> Entries:
    rows = read_rows(site.recorder, {"from": start, "types": sorted(TYPES)})
    if rows is None:
        raise UnreachableError("the recorder does not answer", remedy="start the deployment: sealward up")
    return [(row["index"], row["event"]) for row in rows if "event" in row]


def _refused(site: Site, cast: Cast, actors: Mapping[str, Actor], now_us: int) -> Iterator[Made | Evidence]:
    """Nobody is proven, so nothing but the target tells the entry apart."""
    del cast, actors
    for listener, route in ((site.inference, "/sealward/v1/receipts/{}"), (site.management, "/api/v1/models/{}")):
        target = route.format(ulid(now_us, os.urandom(10)))
        with closing(listener.caller(Secret(b"rollout-probe"))) as caller:
            answer = caller.ask("GET", target)
        if answer.status != HTTPStatus.UNAUTHORIZED:
            yield failed("entries", f"the {listener.name} door answers {answer.status} to what is no credential")
        yield Made(f"a malformed credential at the {listener.name} door", "request.refused", target=target)


def _denied(site: Site, cast: Cast, actors: Mapping[str, Actor], now_us: int) -> Iterator[Made | Evidence]:
    del cast, now_us
    with closing(actors["consumer"].at(site.inference)) as caller:
        yield Made(
            "a model that was not granted", "inference.denied", caller.ask("POST", CHAT, _question("rollout-probe")).request
        )
    with closing(actors["consumer"].at(site.management)) as caller:
        yield Made("administration without the right", "admin.denied", caller.ask("GET", "/api/v1/apikeys").request)


def _read(site: Site, cast: Cast, actors: Mapping[str, Actor], now_us: int) -> Iterator[Made | Evidence]:
    del cast, now_us
    with closing(actors["consumer"].at(site.inference)) as caller:
        yield Made("a list of models", "access.read", caller.ask("GET", "/v1/models").request)
    with closing(actors["auditor"].at(site.management)) as caller:
        yield Made("a read of administration", "access.read", caller.ask("GET", "/api/v1/status").request)


def _answered(site: Site, cast: Cast, actors: Mapping[str, Actor], now_us: int) -> Iterator[Made | Evidence]:
    """One token of the first model that gives one."""
    del now_us
    actor = actors["consumer"]
    models = [row["id"] for row in cast.ask("GET", "models").value if row["stage"] == "deployed"][:MOST_MODELS]
    with ExitStack() as after, closing(actor.at(site.inference)) as caller:
        for model in models:
            cast.grant(actor, model, after)
            try:
                answer = _asked_until_granted(caller, model)
            except UnreachableError:
                continue  # a slow model is no matter of the journal
            if answer.status == HTTPStatus.OK:
                yield Made(f"an answer of {model}, admitted", "inference.admitted", answer.request)
                yield Made(f"an answer of {model}, completed", "inference.completed", answer.request)
                return
    yield left_out("entries", f"no model gave an answer ({', '.join(models) or 'none is deployed'})")


def _asked_until_granted(caller: Caller, model: str) -> Answer:
    """A door that has not heard of the grant yet hears of it within milliseconds."""
    until = time.monotonic() + GRANTED_S
    while True:
        answer = caller.ask("POST", CHAT, _question(model))
        if answer.status != HTTPStatus.FORBIDDEN or time.monotonic() > until:
            return answer
        time.sleep(FIRST_PAUSE_S)


def _judged(made: Made, entries: Entries) -> Evidence:
    for index, event in entries:
        if made.finds(event):
            counted = " (counted with others)" if "count" in event.get("refusal", {}) else ""
            return held("entries", f"{made.what}: {made.type}{counted}", entry=index)
    return failed("entries", f"{made.what}: no {made.type} in the journal")


def _verified(site: Site, index: int) -> list[Evidence]:
    """Once a checkpoint covers the entry: that takes a second at most."""
    disk = OsDisk(site.journal)
    reader, until = Reader(disk, site.log), time.monotonic() + COVERED_S
    while reader.checkpoint()[0].size <= index:
        if time.monotonic() > until:
            return [failed("verification", f"no checkpoint covers entry {index}", entry=index)]
        time.sleep(FIRST_PAUSE_S)
    return tampered.check(disk, site.log, index)


def _question(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "rollout check"}], "max_tokens": 1}


CHAT = "/v1/chat/completions"
MALFORMED = "credential_malformed"
TYPES = frozenset({
    "request.refused", "inference.denied", "admin.denied", "access.read", "apikey.created", "inference.admitted",
    "inference.completed",
})  # fmt: skip
MOST_MODELS = 3
FIRST_PAUSE_S, GRANTED_S = 0.05, 3.0
WRITTEN_S, COUNTED_S, COVERED_S = 3.0, 15.0, 10.0
