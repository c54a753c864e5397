"""One run of the checks against a site: the probes in turn, then one look into the journal for the entries of them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import closing

from sealward.identity.roles import BUILT_IN
from sealward.rollout import endpoints, journaling, matrix
from sealward.rollout.asking import Caller, over_unix
from sealward.rollout.cast import Cast
from sealward.rollout.evidence import Evidence
from sealward.rollout.site import Site
from sealward.rollout.tasks import Check


def run(site: Site, wanted: Collection[Check], now_us: int) -> Mapping[Check, list[Evidence]]:
    """What each wanted check has seen.

    UnreachableError: the deployment does not answer its owner, so nothing can be said. Refused: he may not make probes.
    """
    if not wanted:
        return {}
    start = journaling.size_of(site)
    made: list[journaling.Made] = []
    found: dict[Check, list[Evidence]] = {}
    with closing(Caller(over_unix(site.control), "control")) as owner:
        cast = Cast(owner, now_us)
        with cast.on_stage(list(BUILT_IN), site.management.source()) as actors:
            if Check.JOURNAL in wanted:  # first: what is refused too often is only counted, and the others refuse a lot
                made, found[Check.JOURNAL] = journaling.ask(site, cast, actors, now_us)
            if Check.ENDPOINTS in wanted:
                found[Check.ENDPOINTS] = endpoints.check(site)
            if Check.ROLES in wanted:
                found[Check.ROLES] = matrix.check(site, cast, actors)
    entries = journaling.wait_for(site, start, made)
    found = {check: journaling.with_entries(evidence, entries) for check, evidence in found.items()}
    if Check.JOURNAL in wanted:
        found[Check.JOURNAL] += journaling.judge(site, made, entries)
    return found
