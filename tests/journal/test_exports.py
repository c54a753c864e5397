"""Entries in the words of other systems: known answers, valid by the others' schema, and never a salt."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema
import orjson
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from journals import VALID
from sealward.formats.event import SCHEMA
from sealward.formats.ids import rfc3339
from sealward.journal.exports.cef import _head, cef, syslog
from sealward.journal.exports.cloudevents import cloudevent
from sealward.journal.exports.ocsf import ocsf
from sealward.journal.exports.otlp import otlp
from sealward.journal.exports.record import MAPPED, Record
from shared import VECTORS, case_name, vector

GOLDEN = VECTORS / "journal" / "exports"
ORIGIN, LEAF = "journal.acme.example/door-1", "9f2c" + "0" * 60
SALT = "e7" * 32


def record(event: dict[str, Any], index: int = 1043, leaf: str = LEAF) -> Record:
    """As the recorder's rows come."""
    found = Record.of({"index": index, "event": event | {"origin": ORIGIN, "seq": index}, "leaf": leaf})
    assert found is not None
    return found


def completed() -> dict[str, Any]:
    """The request of the golden files."""
    event: dict[str, Any] = vector("journal", "exports", "cloudevent.json")["data"]
    return event | {"statement": {"salt": SALT, "input_sha256": "a1" * 32}}


def denied(**members: Any) -> dict[str, Any]:
    """The refusal of the golden files."""
    event = {name: value for name, value in completed().items() if name not in {"outcome", "content"}}
    decision = {
        "outcome": "deny",
        "reason": "model_not_granted",
        "epoch": 881,
        "policy_digest": event["decision"]["policy_digest"],
    }
    when = {"id": "01KAQ90RZ8T1V3X5Z7B9D2F4H6", "time": "2026-11-23T09:15:00.000417Z", "type": "inference.denied"}
    return event | when | {"decision": decision} | members


def alert() -> dict[str, Any]:
    """The alert of the golden files."""
    return next(event for event in VALID if event["type"] == "monitor.alert")


def test_cloudevent() -> None:
    """The envelope, and the event without what the log alone may hold."""
    assert cloudevent(record(completed())) == vector("journal", "exports", "cloudevent.json")


def test_ocsf() -> None:
    """A completed request, a denied one, an alert."""
    made = [ocsf(record(completed())), ocsf(record(denied())), ocsf(record(alert(), 1060, ""))]
    assert made == vector("journal", "exports", "ocsf-1.8.json")


def test_otlp() -> None:
    """Names, order, and numbers as the protocol's JSON wants them."""
    assert otlp([record(completed())]) == vector("journal", "exports", "otlp-logs.json")


def test_cef() -> None:
    """Escapes of the header and of the extension; without the leaf, which the golden lines do not have."""
    lines = (GOLDEN / "cef.txt").read_text().splitlines()
    strange = denied(subject={"id": "a=b|c\\d\ne", "kind": "human"})
    made = [cef(record(event, leaf="")) for event in (completed(), denied(), strange)]
    made[2] = made[2].replace("Inference denied", _head("Name with | and \\"))
    assert made == lines


def test_syslog() -> None:
    """Length in front, facility 13, no byte order mark."""
    made = syslog(record(completed(), leaf="")) + syslog(record(denied(), leaf=""))
    assert made == (GOLDEN / "syslog-octet-counted.bin").read_bytes()


def test_otlp_groups_by_process() -> None:
    """Records of one process are under one resource, in order of the log."""
    records = [record(denied(instance=name), index) for index, name in enumerate(["door-1", "door-1", "control"])]
    found = otlp(records)["resourceLogs"]
    assert [len(each["scopeLogs"][0]["logRecords"]) for each in found] == [2, 1]


# -- every type --


@functools.cache
def validator(uid: int, profiles: tuple[str, ...]) -> jsonschema.Draft202012Validator:
    """The class's own schema, as OCSF publishes it."""
    schemas = ocsf_schemas()
    return jsonschema.Draft202012Validator(schemas.get_class_schema(schemas.lookup_class_name_from_uid(uid), list(profiles)))


@functools.cache
def ocsf_schemas() -> OcsfJsonSchemaEmbedded:
    """Version 1.8.0."""
    return OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))


def test_the_golden_ocsf_is_valid() -> None:
    """The judge of the next test accepts what it must."""
    for event in vector("journal", "exports", "ocsf-1.8.json"):
        validator(event["class_uid"], tuple(event["metadata"].get("profiles", ()))).validate(event)


def test_each_type_is_valid_ocsf() -> None:
    """All valid events of our vectors, by the class that they say they are of, whose caption each activity has."""
    captions = {
        each["uid"]: {int(number): one["caption"] for number, one in each["attributes"]["activity_id"]["enum"].items()}
        for each in get_ocsf_schema("1.8.0")["classes"].values()
        if "activity_id" in each["attributes"]
    }
    seen = set()
    for event in VALID:
        made = ocsf(record(event))
        seen.add(event["type"])
        validator(made["class_uid"], tuple(made["metadata"].get("profiles", ()))).validate(made)
        assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
        if made["activity_id"] != 99:
            assert made["activity_name"] == captions[made["class_uid"]][made["activity_id"]]
    assert seen == set(SCHEMA["properties"]["type"]["enum"])


FORMATS = {
    "ocsf": lambda one: json.dumps(ocsf(one)),
    "otlp": lambda one: json.dumps(otlp([one])),
    "cloudevents": lambda one: json.dumps(cloudevent(one)),
    "cef": cef,
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_type_says_where_it_stands_and_holds_no_salt(name: str) -> None:
    """Index, origin and leaf in every record of every type; no statement, admission or salt in any."""
    for event in VALID:
        secret = event | {"statement": {"salt": SALT}, "admission": {"salt": SALT, "body": SALT}}
        if "change" in event:
            secret["change"] = event["change"] | {"salt": SALT}
        text = FORMATS[name](record(secret))
        assert SALT not in text
        assert "\n" not in text
        assert all(part in text for part in (ORIGIN, LEAF, "1043", event["id"])), event["type"]


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_type_is_about_is_carried_over(name: str) -> None:
    """Not only the groups of requests: the target of a change, the keys of an erasure, the reason of a gap."""
    groups = {group for event in VALID for group in event} - MAPPED - {"statement", "admission", "truncated", "ext", "refusal"}
    for group in sorted(groups - {"alert"}):
        event = next(event for event in VALID if group in event)
        word = record(event).target if name == "cef" else next(value for value in event[group].values() if isinstance(value, str))
        assert word.replace("=", "\\=" if name == "cef" else "=") in FORMATS[name](record(event)), group


@pytest.mark.parametrize("event", [event for event in VALID if "refusal" in event][:4], ids=case_name)
def test_an_aggregate_says_how_many(event: dict[str, Any]) -> None:
    """Otherwise a flood would look like one request."""
    count = event["refusal"].get("count")
    if count is not None:
        assert ocsf(record(event))["count"] == count
        assert f"cnt={count} " in cef(record(event))


def test_an_erased_entry_is_no_record() -> None:
    """There is nothing left to say about it."""
    assert Record.of({"index": 3, "erased": True, "header": {"time": rfc3339(0)}}) is None


def test_reasons_of_later_releases_do_not_stop_an_export() -> None:
    """Readers ignore what they do not know (knowledge/journal.md section 3)."""
    strange = denied(type="inference.pondered", decision={"outcome": "deny", "reason": "not_yet_known"}, novel={"x": "y"})
    made = [ocsf(record(strange)), otlp([record(strange)]), cloudevent(record(strange))]
    assert all(b"not_yet_known" in orjson.dumps(each) for each in made)
    assert "reason=not_yet_known" in cef(record(strange))
