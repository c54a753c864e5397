"""Attack: reach more than was granted: other models, other people's receipts, administration (rows 91 to 97, 101)."""

from __future__ import annotations

import pytest

from sealward.identity.admin_routes import ROUTES, AdminRoute
from sealward.identity.roles import BUILT_IN
from siege import Siege
from siege_wire import Answer, Request

ALIASES = [
    "hidden", "nothing", "mock:latest", "library/mock", "Mock", "MOCK", "mock ", " mock", "mock\t", "mock.", "mock/", "./mock",
    "../mock", "mock/../hidden", "hidden/../mock", "mock@v1", "mock:hidden", "mock,hidden", "mock|hidden", "mock;hidden", "*",
    "%", "mo%63k", "openai/mock", "ollama/mock", "hf.co/mock", "http://127.0.0.1/mock", "mock\u200b", "mo\u00adck", "m\u043eck",
    "\uff4dock", "mock\u0301", "\u202emock", "mock#1", "mock?x", "mock-lora", "default", "auto", "router", "gpt-4o",
    "smollm2:cloud", "mock-cloud", "null", "undefined", "0", "true", "/srv/m.gguf", "mock\n", "m\u00f3ck",
    "sha256:" + "1" * 64,
]  # fmt: skip


@pytest.mark.parametrize("name", ALIASES)
def test_only_the_exact_id_of_a_granted_model_is_served(siege: Siege, name: str) -> None:
    """No folding, no normalisation, no tag: what is not exactly a granted id is as good as hidden; class C."""
    siege.refused(siege.chat(model=name), 403, "model_not_granted")


def test_hidden_and_unknown_models_look_the_same(siege: Siege) -> None:
    """Byte for byte but for the request's own id: in chat, in a stream, in the list's detail; alike for who may nothing."""
    for key in (siege.keys["app"], siege.keys["idle"]):
        answers = [siege.refused(siege.chat(key=key, model=name), 403, "model_not_granted") for name in ("hidden", "nothing")]
        answers += [
            siege.refused(siege.chat(key=key, model=name, stream=True), 403, "model_not_granted") for name in ("hidden", "x")
        ]
        answers += [siege.refused(siege.get(f"/v1/models/{name}", key), 403, "model_not_granted") for name in ("hidden", "x")]
        assert len({seen(answer) for answer in answers}) == 1


@pytest.mark.parametrize(
    ("name", "models"), [("app", ["mock"]), ("other", ["hidden", "mock"]), ("idle", []), ("adm", []), ("aud", [])]
)
def test_the_list_shows_what_the_caller_may_use(siege: Siege, name: str, models: list[str]) -> None:
    """And leaves its entry, as every read that the door answers itself."""
    with siege.watch() as watch:
        line = siege.line()
        line.send(siege.get("/v1/models", siege.keys[name]).raw)
        answer = line.answer(b"GET")
        line.close()
    assert [row["id"] for row in answer.json["data"]] == models
    assert [(event["type"], event["subject"]["id"]) for event in watch.of(line.port)] == [("access.read", name)]


def test_a_grant_without_a_role_gives_nothing(siege: Siege) -> None:
    """The role says what kind of acts, the grant on which model: it takes both."""
    grant = siege.admin("POST", "grants", {"to": "subject:idle", "model": "mock"})["id"]
    siege.refused(siege.chat(key=siege.keys["idle"]), 403, "action_not_granted")
    siege.admin("DELETE", f"grants/{grant}")
    siege.refused(siege.chat(key=siege.keys["idle"]), 403, "model_not_granted")


def test_administrators_may_not_use_models(siege: Siege) -> None:
    """Nor operators, nor auditors: duties are apart."""
    for name in ("adm", "ops", "aud"):
        siege.refused(siege.chat(key=siege.keys[name]), 403, "model_not_granted")


def test_a_retired_model_answers_nobody(siege: Siege) -> None:
    """Its grants are still there; the entry names why."""
    key = siege.keys["app"]
    grant = siege.admin("POST", "grants", {"to": "subject:app", "model": "spare"})["id"]
    assert siege.ask_raw(siege.chat(model="spare")).status == 200
    siege.admin("POST", "models/spare/retire")
    siege.refused(siege.chat(key=key, model="spare"), 403, "model_withdrawn")
    siege.admin("POST", "models/spare/approve")
    assert siege.ask_raw(siege.chat(model="spare")).status == 200
    siege.admin("DELETE", f"grants/{grant}")
    siege.refused(siege.chat(key=key, model="spare"), 403, "model_not_granted")


def test_another_digest_behind_an_approved_name_is_not_served(siege: Siege) -> None:
    """What was approved is not what stands there: no pass is asked for, no byte goes to the runtime."""
    digest = next(row["digest"] for row in siege.admin("GET", "models") if row["id"] == "spare")
    grant = siege.admin("POST", "grants", {"to": "subject:app", "model": "spare"})["id"]
    siege.admin("POST", "models/spare/approve", {"digest": "sha256:" + "5" * 64})
    siege.refused(siege.chat(model="spare"), 403, "model_digest")
    siege.admin("POST", "models/spare/approve", {"digest": digest})
    assert siege.ask_raw(siege.chat(model="spare")).status == 200
    siege.admin("DELETE", f"grants/{grant}")


def test_nobody_gets_anothers_receipt(siege: Siege) -> None:
    """404 for others' as for what never was; the owner gets it."""
    mine = siege.ask_raw(siege.chat()).headers["x-sealward-request"]
    target = f"/sealward/v1/receipts/{mine}"
    siege.until(lambda: siege.ask_raw(siege.get(target)).status == 200)
    others = [
        siege.ask_raw(siege.get(target, siege.keys["other"])),
        siege.ask_raw(siege.get("/sealward/v1/receipts/" + "0" * 26, siege.keys["other"])),
        siege.ask_raw(siege.get("/sealward/v1/receipts/" + "Z" * 26, siege.keys["other"])),
        siege.ask_raw(siege.get("/sealward/v1/receipts/x", siege.keys["other"])),
    ]
    assert [answer.status for answer in others] == [404] * 4
    assert len({seen(answer) for answer in others}) == 1


def test_who_has_no_role_reads_no_receipt(siege: Siege) -> None:
    """Not even of what he could not have asked."""
    for name in ("idle", "adm", "aud"):
        siege.refused(siege.get("/sealward/v1/receipts/" + "0" * 26, siege.keys[name]), 403, "action_not_granted")


ROLES = {"app": "consumer", "ops": "operator", "aud": "auditor", "idle": ""}


@pytest.mark.parametrize("route", [pytest.param(route, id=route.name) for route in ROUTES])
@pytest.mark.parametrize("name", ROLES)
def test_each_role_may_what_its_table_says_and_no_more(siege: Siege, name: str, route: AdminRoute) -> None:
    """Every admin route with the key of every role: class C and one `admin.denied` where the table does not list the act."""
    if route.action in BUILT_IN.get(ROLES[name], ()):
        if not route.changes:
            assert siege.ask_raw(admin(siege, route, siege.keys[name]), "management").status in {200, 404}
        return
    answer = siege.refused(admin(siege, route, siege.keys[name]), 403, "action_not_granted", door="management")
    assert answer.json["code"] == "access_denied"


@pytest.mark.parametrize("name", ROLES)
def test_nobody_makes_himself_an_administrator(siege: Siege, name: str) -> None:
    """By a role, by a key of one, by enabling one, by a grant; and through the door or at control's own socket."""
    key = siege.keys[name]
    for method, path, body in (
        ("POST", "/api/v1/roles/model-admin/subjects", {"subject": name}),
        ("POST", "/api/v1/apikeys", {"owner": "adm"}),
        ("POST", "/api/v1/users/adm/enable", {}),
        ("POST", "/api/v1/grants", {"to": f"subject:{name}", "model": "hidden"}),
        ("PUT", f"/api/v1/limits/subject:{name}", {"requests_per_minute": 10**6}),
    ):
        request = siege.change(method, path, body, key)
        refused = siege.refused(request, 403, "action_not_granted", door="management")
        assert seen(siege.at_control(request))[0] == refused.status
    assert name not in next(row["subjects"] for row in siege.admin("GET", "roles") if row["id"] == "model-admin")


def test_a_forbidden_admin_route_tells_nothing_of_its_target(siege: Siege) -> None:
    """A key, a user, a model that is there and one that is not."""
    for path in ("apikeys/{}/revoke", "users/{}/disable", "models/{}/approve"):
        answers = [
            siege.ask_raw(siege.change("POST", f"/api/v1/{path.format(ident)}", {}, siege.keys["app"]), "management")
            for ident in ("adm", "mock", "nothing", siege.keys["app"][9:20])
        ]
        assert {answer.status for answer in answers} == {403}
        assert len({(answer.status, len(answer.body)) for answer in answers}) == 1


def test_a_limit_is_the_callers_own_and_is_recorded(siege: Siege) -> None:
    """429 with the moment to come back; the next caller is not touched."""
    siege.admin("PUT", "limits/subject:other", {"requests_per_minute": 2})
    key = siege.keys["other"]
    try:
        siege.until(lambda: siege.ask_raw(siege.chat(key=key)).status == 429, 30)
        answer = siege.refused(siege.chat(key=key), 429, "limit_requests")
        assert int(answer.headers["retry-after"]) > 0
        assert siege.ask_raw(siege.chat()).status == 200
    finally:
        siege.admin("DELETE", "limits/subject:other")
    assert siege.ask_raw(siege.chat(key=key)).status == 200


def test_concurrent_requests_are_limited_while_they_run(siege: Siege) -> None:
    """The second is refused until the first has ended, however that ends."""
    siege.admin("PUT", "limits/subject:other", {"concurrent": 1})
    key = siege.keys["other"]
    try:
        line = siege.line()
        line.send(siege.chat("hold", key, stream=True).raw)
        assert next(line.lines()).startswith(b"HTTP/1.1 200")
        siege.refused(siege.chat(key=key), 429, "limit_concurrent")
        line.close()
        siege.until(lambda: siege.ask_raw(siege.chat(key=key)).status == 200)
    finally:
        siege.admin("DELETE", "limits/subject:other")


def admin(siege: Siege, route: AdminRoute, key: str) -> Request:
    """A sound request of an admin route, of things that are not there."""
    target = route.path.replace("{", "").replace("}", "")
    if route.method in {"GET", "DELETE"}:
        return siege.get(target, key).to(target.encode(), route.method.encode())
    return siege.change(route.method, target, {}, key)


def seen(answer: Answer) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    """All that a caller can tell one answer from another by, but for the ids of the requests."""
    told = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "x-sealward-request"}}
    return answer.status, tuple(sorted(told.items())), answer.body
