"""From phases to states: what `sealward rollout status` shows, and `check` finds anew and records where it changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sealward.errors import UnreachableError
from sealward.events import Event
from sealward.formats.ids import rfc3339, ulid
from sealward.journal.client import ask_owner
from sealward.rollout.evidence import Evidence, State, left_out, state_of
from sealward.rollout.memory import Memory, Standing, Task
from sealward.rollout.plan import Phase
from sealward.rollout.run import run
from sealward.rollout.site import Site
from sealward.rollout.tasks import Check, check_of

Found = Mapping[Check, Sequence[Evidence]]


@dataclass(frozen=True, slots=True)
class Progress:
    """The phases with the standing of each of their tasks."""

    phases: Sequence[Phase]
    standings: Mapping[Task, Standing]

    @property
    def ok(self) -> bool:
        """Every task that a check is built for is done, and there is one."""
        states = {standing.state for standing in self.standings.values()} - {State.NOT_BUILT}
        return states == {State.DONE}

    def as_json(self) -> dict[str, Any]:
        """`rollout status --json` (contracts.md section 12); `since` is null for what was never checked."""
        return {"ok": self.ok, "phases": [self._phase(phase) for phase in self.phases]}

    def _phase(self, phase: Phase) -> dict[str, Any]:
        return {"id": phase.id, "name": phase.name, "tasks": [self._task(phase, name) for name in phase.tasks]}

    def _task(self, phase: Phase, name: str) -> dict[str, Any]:
        standing = self.standings[phase.id, name]
        told = {"name": name, "matched": check_of(name), "state": standing.state, "since": standing.since or None}
        return told | {"evidence": [each.as_json() for each in standing.evidence]}


def status(phases: Sequence[Phase], memory: Memory) -> Progress:
    """As the last checks left it; nothing is tried."""
    known = memory.recall()
    return Progress(phases, {task: known.get(task, _unchecked(task)) for task in _tasks(phases)})


def check(phases: Sequence[Phase], memory: Memory, site: Site, now: Callable[[], int]) -> Progress:
    """As it is now. `now`: the clock's; each change of a state leaves a `rollout.task`."""
    with memory.alone():
        known = memory.recall()
        wanted = {each for _, name in _tasks(phases) if (each := check_of(name)) is not None}
        found = run(site, wanted, now())
        time = rfc3339(now())
        standings = {task: _settled(task, known.get(task, _unchecked(task)), found, time) for task in _tasks(phases)}
        for task, standing in standings.items():
            before = known.get(task)
            if standing.state is not State.NOT_BUILT and (before is None or before.state is not standing.state):
                _record(site, _event(task, standing, before, now()))
        memory.keep({**known, **standings})
    return Progress(phases, standings)


def _tasks(phases: Sequence[Phase]) -> list[Task]:
    return [(phase.id, name) for phase in phases for name in phase.tasks]


def _unchecked(task: Task) -> Standing:
    return NOT_BUILT if check_of(task[1]) is None else Standing(State.NOT_DONE)


def _settled(task: Task, before: Standing, found: Found, time: str) -> Standing:
    matched = check_of(task[1])
    if matched is None:
        return before.next(State.NOT_BUILT, NOT_BUILT.evidence, time)
    evidence = found[matched]
    return before.next(state_of(evidence), tuple(evidence), time)


def _event(task: Task, standing: Standing, before: Standing | None, now_us: int) -> Event:
    phase, name = task
    told = {"phase": phase, "name": name, "state": standing.state.value} | ({"before": before.state.value} if before else {})
    return {
        "v": 1,
        "id": ulid(now_us, os.urandom(10)),
        "type": "rollout.task",
        "time": rfc3339(now_us),
        "tenant": "default",
        "subject": {"id": "owner", "kind": "human", "authn": "local"},
        "task": told,
    }


def _record(site: Site, event: Event) -> None:
    if ask_owner(site.recorder, {"op": "record", "event": event}) is None:
        raise UnreachableError("the recorder does not answer", remedy="sealward status")


NOT_BUILT = Standing(State.NOT_BUILT, evidence=(left_out("none", "no check of this version knows this task"),))
