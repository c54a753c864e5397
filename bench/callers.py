"""What it costs to know who asks and whether he may, in process: warm, with Cedar, with a token never seen, with much to know.

python bench/run.py --only identity
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from joserfc import jwt as peer
from joserfc.jwk import ECKey
from result import Bar, Result
from rig import Rig

from sealward.formats.ids import rfc3339
from sealward.formats.snapshot import Snapshot
from sealward.identity.access import Access
from sealward.identity.apikey import ApiKey, issue, stored_digest
from sealward.identity.policies import packaged
from sealward.identity.roles import BUILT_IN
from sealward.keyring.secret import Secret

Question = Callable[[], Iterator[float]]
NOW = time.time_ns() // 1000
PEPPER, DOOR = Secret(os.urandom(32)), "https://gate.example"
KEY, HAND = issue("live"), ECKey.generate_key("P-256", parameters={"kid": "k1", "alg": "ES256"})
MODEL = {"digest": "sha256:" + "1" * 64, "stage": "deployed", "kind": "openai", "sidecars": ["local"], "capture": "digest",
         "prefix_cache": "off", "max_output": 1024}  # fmt: skip
AUDIENCE_RULES: dict[str, Any] = {"essential": True, "value": DOOR}


def measure(rig: Rig, rounds: int) -> Result:
    """Medians of `rounds` rounds; growth is the median of the ratios of neighbouring rounds."""
    with rig.on_proxy_core():
        small, models, keys = access(10, 10), access(1000, 10), access(10, 100_000)
        rows = [_row(name, _rounds(action, rounds)) for name, action in _questions(small).items()]
        rows.append(_row("joserfc alone: signature and registered claims", _rounds(_peer(), rounds)))
        growth = {
            "10 → 1,000 models, Cedar evaluated": _ratio(decided(small, anew=True), decided(models, anew=True), rounds),
            "10 → 100,000 keys, key never seen": _ratio(keyed(small), keyed(keys), rounds),
        }
    by_name = {row["question"]: row["p50 µs"] for row in rows}
    bars = [Bar(f"{name} (p50, µs)", by_name[name], limit) for name, limit in LIMITS.items()]
    bars += [Bar(f"growth {name}", value, MOST_GROWTH) for name, value in growth.items()]
    title = "Identity: who asks, and may he; authentication and decision together, in process"
    chart = {name: {"µs": value} for name, value in by_name.items()}
    note = (
        "ES256 tokens of 0.5 KB, each seen once; policies as `init` writes them. Cedar evaluated: a caller and a model that met "
        "before, as after every change; the first time their entities are parsed too."
    )
    return Result("identity", title, rows, bars, "µs", chart, [note])


def access(models: int, keys: int) -> Access:
    """A door's rules with so many models, each granted to a group, and so many keys of other callers."""
    others = {f"{n:011d}": _key_row(KEY) | {"hmac": f"{n:064x}"} for n in range(keys - 1)}
    public = {
        name: str(value) for name, value in HAND.as_dict(private=False).items() if name in {"kty", "kid", "alg", "crv", "x", "y"}
    }
    issuer = {"profile": "rfc9068", "issuer": "https://idp.example", "audience": DOOR, "keys": {"jwks": [public]}, "max_age": 900}
    issuer |= {"principals": [{"pins": {"sub": "u-1"}, "subject": "ann"}]}
    rows: dict[str, dict[str, Any]] = {
        "subjects": {"ann": {"kind": "human", "groups": ["staff"], "roles": ["consumer"]}},
        "keys": {**others, KEY.id: _key_row(KEY)},
        "issuers": {"idp": issuer},
        "roles": {name: {"actions": list(actions)} for name, actions in BUILT_IN.items()},
        "grants": {
            f"g-{n}": {"to": "group:staff", "model": f"m{n}", "actions": ["model:chat", "model:list"]} for n in range(models)
        },
        "models": {f"m{n}": MODEL for n in range(models)},
        "policies": packaged(90),
    }
    return Access.build(Snapshot.of(1, rfc3339(NOW), "sha256:" + "0" * 64, rows), PEPPER, "live")


def decided(found: Access, *, anew: bool = False) -> Question:
    """A known caller and a decision that is made again, as after every change; `anew`: as if they had never met."""
    return _timed(found, lambda: [b"Bearer " + KEY.secret.reveal()], before=_forget_decisions(found, entities=anew))


def keyed(found: Access) -> Question:
    """A key never seen, a decision made before."""
    return _timed(found, lambda: [b"Bearer " + KEY.secret.reveal()], before=found._keys._proven.clear)  # noqa: SLF001 - the same


def _forget_decisions(found: Access, *, entities: bool = False) -> Callable[[], None]:
    def forget() -> None:
        found._decided.clear()  # noqa: SLF001 - what was not forgotten is not measured
        if entities:
            found.policies._parsed.clear()  # noqa: SLF001 - the same

    return forget


def _questions(found: Access) -> dict[str, Question]:
    known = _token()

    def unseen() -> list[bytes]:
        return [b"Bearer " + _token()]

    return {
        "API key, all cached": _timed(found, lambda: [b"Bearer " + KEY.secret.reveal()]),
        "token, all cached": _timed(found, lambda: [b"Bearer " + known]),
        "API key, Cedar evaluated": decided(found),
        "API key, Cedar evaluated, caller and model never met": decided(found, anew=True),
        "token never seen": _timed(found, unseen),
        "token never seen, Cedar evaluated": _timed(found, unseen, before=_forget_decisions(found, entities=True)),
    }


def _timed(found: Access, headers: Callable[[], list[bytes]], before: Callable[[], object] = bool) -> Question:
    def samples() -> Iterator[float]:
        for _ in range(SAMPLES):
            presented = headers()
            before()
            start = time.perf_counter_ns()
            principal = found.authenticate(presented, source_addr="10.0.0.7", now_us=NOW, audience=DOOR)
            found.decide(principal, "model:chat", "m3", now_us=NOW)
            yield (time.perf_counter_ns() - start) / 1000

    return samples


def _peer() -> Question:
    """The library that does our signatures, used as its documentation says: no rule about form, key, type or issuer."""
    public, registry = HAND.as_dict(private=False), peer.JWTClaimsRegistry(aud=AUDIENCE_RULES, exp={"essential": True})  # type: ignore[arg-type]
    key = ECKey.import_key(public)

    def samples() -> Iterator[float]:
        for _ in range(SAMPLES):
            token = _token()
            start = time.perf_counter_ns()
            registry.validate(peer.decode(token, key, algorithms=["ES256"]).claims)
            yield (time.perf_counter_ns() - start) / 1000

    return samples


def _token() -> bytes:
    now = NOW // 1_000_000
    claims = {"iss": "https://idp.example", "aud": DOOR, "sub": "u-1", "client_id": "cli", "jti": os.urandom(12).hex()}
    claims |= {"iat": now, "exp": now + 300}
    return peer.encode({"alg": "ES256", "kid": "k1", "typ": "at+jwt"}, claims, HAND).encode()


def _key_row(key: ApiKey) -> dict[str, Any]:
    times = {"created": rfc3339(NOW - 86_400_000_000), "expires": rfc3339(NOW + 86_400_000_000)}
    return {"owner": "ann", "environment": "live", "hmac": stored_digest(PEPPER, key.secret.reveal()).hex()} | times


def _rounds(samples: Question, rounds: int) -> list[list[float]]:
    list(samples())  # warm
    return [sorted(samples()) for _ in range(rounds)]


def _row(name: str, rounds: list[list[float]]) -> dict[str, Any]:
    return {
        "question": name,
        "p50 µs": statistics.median(each[len(each) // 2] for each in rounds),
        "p99 µs": statistics.median(each[len(each) * 99 // 100] for each in rounds),
    }


def _ratio(small: Question, large: Question, rounds: int) -> float:
    list(small()), list(large())
    return statistics.median(statistics.median(large()) / statistics.median(small()) for _ in range(rounds))


SAMPLES = 2000
LIMITS = {"API key, all cached": 15.0, "token, all cached": 15.0, "API key, Cedar evaluated": 80.0, "token never seen": 200.0}
MOST_GROWTH = 1.2
