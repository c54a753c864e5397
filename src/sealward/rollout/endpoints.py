"""Authentication on all endpoints.

Every route of every door is asked by a caller without a credential, every socket of ours and every model server is tried by a
stranger on this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from sealward.errors import UnreachableError
from sealward.rollout.asking import Answer, Caller, over_unix
from sealward.rollout.evidence import Evidence, Result, failed, held, left_out
from sealward.rollout.site import Listener, Route, Runtime, Site
from sealward.rollout.strangers import listening, over_tcp, try_socket


def check(site: Site) -> list[Evidence]:
    """Everything that answers, and whether it asks who is there first."""
    found: list[Evidence] = []
    for listener in site.listeners:
        found += _door(listener)
    found += _summed("sockets", [try_socket("sockets", path, owner) for path, owner in site.sockets.items()])
    found += _sidecar(site)
    found += _runtimes(site)
    if not site.users:
        found.append(left_out("users", "all processes are one user: nobody else could be tried, and who takes one has them all"))
    return found + list(_unknown_listeners(site))


def _door(listener: Listener) -> list[Evidence]:
    """What is public tells its few words and nothing else; every other route refuses before it does anything."""
    check, refused, last = f"{listener.name} door", 0, ""
    caller, wrong = listener.caller(), []
    try:
        for route in listener.routes:
            answer = caller.ask(route.method, route.path(NOTHING), media=route.media)
            if str(route) in PUBLIC and _tells_no_more(answer, PUBLIC[str(route)]):
                continue
            if answer.status == HTTPStatus.UNAUTHORIZED:
                refused, last = refused + 1, answer.request
            else:
                wrong.append(failed(check, f"{route} answers {answer.status} without a credential", request=answer.request))
    except UnreachableError as error:
        wrong.append(failed(check, f"does not answer: {error.detail}"))
    finally:
        caller.close()
    whole = [held(check, f"{refused} routes refuse a caller without a credential", request=last)] if refused else []
    return [*wrong, *whole]


def _tells_no_more(answer: Answer, members: AbstractSet[str]) -> bool:
    nothing = answer.status == HTTPStatus.NOT_FOUND
    return nothing or (isinstance(answer.value, dict) and answer.value.keys() <= members)


def _sidecar(site: Site) -> list[Evidence]:
    """Whoever gets as far as the sidecar's socket still needs a pass. Only who may open it can ask."""
    if not os.access(site.sidecar, os.W_OK):
        return []
    caller, route = Caller(over_unix(site.sidecar), "sidecar"), Route("POST", "/v1/chat/completions", "")
    try:
        status = caller.ask(route.method, route.template).status
    except UnreachableError as error:
        return [failed("sidecar", f"does not answer: {error.detail}")]
    finally:
        caller.close()
    if status == HTTPStatus.UNAUTHORIZED:
        return [held("sidecar", f"{route} without a pass is refused")]
    return [failed("sidecar", f"{route} without a pass is answered {status}")]


def _runtimes(site: Site) -> list[Evidence]:
    found = [try_socket("runtimes", path) for path in sorted(site.runtime_folder.glob("*.sock"))]
    if not os.access(site.runtime_folder, os.R_OK | os.X_OK):
        found.append(held("runtimes", f"{site.runtime_folder.name}: out of reach of uid {os.geteuid()}"))
    return _summed("runtimes", found + [_runtime(runtime) for runtime in site.runtimes if runtime.url is not None])


def _runtime(runtime: Runtime) -> Evidence:
    """A server that others have started: it must be closed to a stranger, or ask who is there."""
    where = urlsplit(runtime.url or "")
    name = f"the model server of {runtime.model} at {runtime.url}"
    if runtime.direct:
        return failed("runtimes", f"{name} is asked without a sidecar (danger_direct): nobody checks passes there")
    if where.scheme == "unix":
        return try_socket("runtimes", Path(where.path))
    caller = Caller(lambda: over_tcp(where.hostname or "", where.port or HTTP), where.netloc)
    try:
        status = caller.ask("GET", "/v1/models").status
    except UnreachableError as error:
        closed = isinstance(error.__cause__, PermissionError)
        return held("runtimes", f"{name} is out of reach") if closed else left_out("runtimes", f"{name} does not answer")
    finally:
        caller.close()
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return held("runtimes", f"{name} asks for a credential")
    return failed(
        "runtimes", f"{name} answers anybody on this machine ({status}): give it a unix socket that only its sidecar opens"
    )


def _unknown_listeners(site: Site) -> Iterator[Evidence]:
    known = {listener.address[1] for listener in site.listeners}
    known |= {urlsplit(runtime.url).port or HTTP for runtime in site.runtimes if runtime.url}
    for port, uid in listening(site.users).items():
        if port not in known:
            yield failed("listeners", f"uid {uid} of this deployment listens on TCP port {port}, which no route table knows")


def _summed(check: str, found: list[Evidence]) -> list[Evidence]:
    """What failed or was left out one by one, what held in one line."""
    good = [each for each in found if each.result is Result.PASS]
    bad = [each for each in found if each.result is not Result.PASS]
    if len(good) > 1:
        names = ", ".join(each.detail.partition(":")[0] for each in good)
        good = [held(check, f"{len(good)} are closed to a stranger: {names}")]
    return [*bad, *good]


NOTHING = "rollout-probe"  # what stands in the place of an id: nothing is called so
PUBLIC = {  # what may be answered to anybody: contracts.md section 5, RFC 9728
    "GET /livez": frozenset({"status"}),
    "GET /readyz": frozenset({"status"}),
    "GET /.well-known/oauth-protected-resource": frozenset({
        "resource", "authorization_servers", "bearer_methods_supported", "scopes_supported",
        "tls_client_certificate_bound_access_tokens",
    }),
}  # fmt: skip
HTTP = 80
