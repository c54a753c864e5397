"""CPU a request and CPU a chunk: every subject in turns within each round, so that a noisy minute meets all of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from load import Load, Round
from result import Bar, Result
from subject import Subject


@dataclass(frozen=True, slots=True)
class Costs:
    """Subject → its rounds; the n-th rounds of all subjects are neighbours in time."""

    rounds: Mapping[str, Sequence[Round]]

    def us(self, name: str, parts: Sequence[str]) -> float:
        """Median over the rounds of the CPU of these parts together."""
        return statistics.median(self._each(name, parts))

    def ratio(self, name: str, parts: Sequence[str], peer: str) -> float:
        """Median of the ratios to the peer's neighbouring rounds."""
        pairs = zip(self._each(name, parts), self._each(peer, [peer]), strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    def rows(self, unit: str, peer: str) -> list[dict[str, Any]]:
        """One row a subject, or a group of its parts."""
        return [self._row(label, name, parts, unit, peer) for label, name, parts in self._groups()]

    def units(self, name: str) -> int:
        """Requests or chunks of all rounds."""
        return sum(one.units for one in self.rounds[name])

    def errors(self) -> int:
        """Answers that were not what was asked for."""
        return sum(one.errors for rounds in self.rounds.values() for one in rounds)

    def chart(self) -> dict[str, dict[str, float]]:
        """Subject → part → CPU."""
        return {name: {part: self.us(name, [part]) for part in self._parts(name)} for name in self.rounds}

    def _groups(self) -> list[tuple[str, str, list[str]]]:
        groups = []
        for name in self.rounds:
            parts = self._parts(name)
            if len(parts) == 1:
                groups.append((name, name, parts))
                continue
            groups += [("door", name, ["door"]), ("door + recorder", name, ["door", "recorder"])]
            groups += [(f"· {part}", name, [part]) for part in parts if part != "door"]
            groups.append(("all processes", name, parts))
        return groups

    def _row(self, label: str, name: str, parts: Sequence[str], unit: str, peer: str) -> dict[str, Any]:
        each, rounds = self._each(name, parts), self.rounds[name]
        whole = len(parts) == len(self._parts(name))
        return {
            "part": label,
            f"µs CPU/{unit}": statistics.median(each),
            "lowest": min(each),
            "highest": max(each),
            f"x {peer}": self.ratio(name, parts, peer),
            f"{unit}s/s": statistics.median(one.per_second for one in rounds) if whole else "",
            "core": f"{statistics.median(one.busy for one in rounds):.0%}" if whole else "",
            "PSS MB": sum(rounds[-1].memory_mb[part] for part in parts),
        }

    def _each(self, name: str, parts: Sequence[str]) -> list[float]:
        return [sum(one.cpu_us[part] for part in parts) for one in self.rounds[name]]

    def _parts(self, name: str) -> list[str]:
        return list(self.rounds[name][0].cpu_us)


def run(subjects: Sequence[Subject], load: Load, rounds: int) -> Costs:
    """Check and warm each subject, then `rounds` rounds."""
    for subject in subjects:
        subject.check()
        load.warm(subject)
    found: dict[str, list[Round]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            found[subject.name].append(load.round(subject))
    return Costs(found)


def requests(costs: Costs, entries: int) -> Result:
    """Bars of whole answers: the door, and door and recorder together, beside Envoy; the recorder by itself.

    `entries`: of the journal afterwards, verified. Fewer than two a request, and the run was not of what it says.
    """
    door, both = ["door"], ["door", "recorder"]
    answered = costs.units("sealward")
    bars = [
        Bar("door ≤ 1.2 x Envoy", costs.ratio("sealward", door, "envoy"), 1.2),
        Bar("door + recorder ≤ 2.5 x Envoy", costs.ratio("sealward", both, "envoy"), 2.5),
        Bar("recorder ≤ 60 µs a request: both records and the pass", costs.us("sealward", ["recorder"]), 60),
    ]
    title = "CPU a request: TLS 1.3, 64 connections, 1 KB chat request, 0.6 KB answer"
    rows, missing = costs.rows("request", "envoy"), max(0, 2 * answered - entries)
    notes = [SIDECAR, f"{answered:,} requests answered by sealward in these rounds; its journal: {entries:,} entries, verified."]
    return Result("requests", title, rows, bars, "µs", costs.chart(), notes, errors=costs.errors() + missing)


def streams(costs: Costs) -> Result:
    """The bar of streams: the door beside Envoy, per chunk."""
    bars = [Bar("door, CPU a chunk ≤ 1.2 x Envoy", costs.ratio("sealward", ["door"], "envoy"), 1.2)]
    title = "CPU a chunk: 200 streams, 50 chunks a second each"
    return Result("streams", title, costs.rows("chunk", "envoy"), bars, "µs", costs.chart(), [SIDECAR], errors=costs.errors())


def litellm(costs: Costs) -> Result:
    """The bar beside LiteLLM."""
    ratio = 1 / costs.ratio("sealward", ["door", "recorder"], "litellm")
    bars = [Bar("LiteLLM ≥ 50 x door + recorder", ratio, 50, least=True)]
    title = "CPU a request beside LiteLLM: 16 connections"
    rows = costs.rows("request", "litellm")
    return Result("litellm", title, rows, bars, "µs", costs.chart(), errors=costs.errors())


SIDECAR = "The sidecar is a second hop that no peer has: it is shown apart and counts in no bar."
