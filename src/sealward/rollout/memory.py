"""What the last checks found, in a file of the owner: since when a task is as it is, and whether it was ever done."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from sealward.errors import ConfigurationError, SealwardError
from sealward.keyring.disk import Folder
from sealward.process import User
from sealward.rollout.evidence import Evidence, Result, State

Task = tuple[str, str]  # id of its phase, its words


@dataclass(frozen=True, slots=True)
class Standing:
    """How a task stands. `since`: when this state began; empty before the first check. `was_done`: ever before."""

    state: State
    since: str = ""
    was_done: bool = False
    evidence: tuple[Evidence, ...] = ()

    def next(self, found: State, evidence: tuple[Evidence, ...], now: str) -> Standing:
        """After a check. What was done and is not any more is regressed until it is done again."""
        state = State.REGRESSED if self.was_done and found in {State.PARTIAL, State.NOT_DONE} else found
        same = state is self.state and self.since
        return Standing(state, self.since if same else now, self.was_done or state is State.DONE, evidence)


class Memory:
    """`path` lies in a folder that only `owner` writes."""

    def __init__(self, path: Path, owner: User) -> None:
        self._path, self._owner = path, owner

    def recall(self) -> dict[Task, Standing]:
        """Empty before the first check. ConfigurationError: the file is not ours."""
        try:
            rows = orjson.loads(self._path.read_bytes())["tasks"]
            return {(row["phase"], row["name"]): _standing(row) for row in rows}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            remedy = f"move {self._path} away: the next check begins anew, and knows no longer what was done"
            raise ConfigurationError(f"{self._path.name} is damaged", remedy=remedy) from error

    def keep(self, standings: Mapping[Task, Standing]) -> None:
        """Durable on return."""
        rows = [_row(task, standing) for task, standing in standings.items()]
        Folder(self._path.parent).replace(self._path.name, orjson.dumps({"v": 1, "tasks": rows}, option=orjson.OPT_INDENT_2))
        self._hand_over(self._path)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One check at a time: a second one would take the first one's probes away."""
        lock = self._path.with_suffix(".lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._hand_over(lock)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SealwardError("another check is running", remedy="wait for its end") from error
            yield
        finally:
            os.close(descriptor)

    def _hand_over(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._owner.uid, self._owner.gid, follow_symlinks=False)


def _standing(row: Mapping[str, Any]) -> Standing:
    evidence = (Evidence(each["check"], Result(each["result"]), each["detail"], each["entry"]) for each in row["evidence"])
    return Standing(State(row["state"]), row["since"], row["was_done"], tuple(evidence))


def _row(task: Task, standing: Standing) -> dict[str, Any]:
    phase, name = task
    told = [each.as_json() for each in standing.evidence]
    named = {"phase": phase, "name": name, "state": standing.state, "since": standing.since}
    return named | {"was_done": standing.was_done, "evidence": told}
