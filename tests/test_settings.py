"""sealward.yaml: every fault is named with its line; nothing is accepted that is not kept."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import jsonschema
import pytest
import yaml

from sealward.errors import ConfigurationError
from sealward.settings import Address, Settings, SettingsError

TODAY = dt.date(2026, 11, 24)
LEAST = "version: 1\njournal: {origin: example.org/log}\n"


def parse(text: str) -> Settings:
    """The settings in `text`, as if it stood in /srv/ai."""
    return Settings.parse(text, Path("/srv/ai/sealward.yaml"), TODAY)


def faults(text: str) -> list[tuple[str, int, str]]:
    """What is wrong with `text`: (path, line, words)."""
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert caught.value.exit_code == 3
    return [tuple(fault) for fault in caught.value.faults]


def test_the_least_file_is_closed_by_default() -> None:
    """Two lines are a deployment: loopback doors, limits, enforcement, keys that end."""
    settings = parse(LEAST)
    assert settings.home == Path("/srv/ai")
    assert settings.doors.inference.listen == Address("127.0.0.1", 8443)
    assert settings.limits["default"].concurrent == 32
    assert settings.modes.network == "enforce"
    assert settings.identity.apikey.max_age == 90 * 86400


def test_paths_start_at_the_folder_and_durations_are_seconds() -> None:
    """Nobody has to write absolute paths or count seconds."""
    text = LEAST + "keyring: {lease: 2m}\nmodels:\n  a: {weights: w/a.gguf, runtime: {start: xllamacpp}}\n"
    settings = parse(text)
    assert settings.models["a"].weights == Path("/srv/ai/w/a.gguf")
    assert settings.keyring.lease == 120


def test_an_unknown_key_is_an_error_with_a_suggestion() -> None:
    """A misspelt safety setting must not be silently off."""
    text = LEAST + "doors:\n  inference:\n    listen: 127.0.0.1:1\n    certificate: x\n"
    assert faults(text) == [("doors.inference.certificate", 6, "unknown key; did you mean `doors.inference.certificate_file`?")]
    assert "`limits.default.requests_per_minute`" in faults(LEAST + "limits: {default: {request_per_minute: 5}}\n")[0][2]
    assert faults(LEAST + "zzz: 1\n")[0][2].startswith("unknown key; known here: version, home")


def test_every_fault_is_named_at_once() -> None:
    """One run of `config check` is enough."""
    text = "version: 1\ndoors: {inference: {listen: here, workers: 99}}\nmodes: {inspection: later}\n"
    assert [fault[:2] for fault in faults(text)] == [
        ("journal", 0),
        ("doors.inference.listen", 2),
        ("doors.inference.workers", 2),
        ("modes.inspection", 3),
    ]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (LEAST + "version: 1\n", "stands twice"),
        (LEAST + "limits: {default: {concurrent: 0443}}\n", "octal"),
        (LEAST + "limits: {default: {concurrent: 0x10}}\n", "octal or hexadecimal"),
        (LEAST + 'limits: {default: {concurrent: "5"}}\n', "valid integer"),
        (LEAST + "identity: {local_admin: yes}\n", "valid boolean"),
        (LEAST + "models: {a: &a {runtime: {start: xllamacpp}, weights: w}, b: *a}\n", "aliases"),
        (LEAST + "1: x\n", "not text"),
        ("- a\n", "mapping"),
        ("", "mapping"),
        ("a: [", "expected"),
        ("a: \x07\n", "characters"),
        ("!!python/object/apply:os.system [id]\n", "could not determine a constructor"),
    ],
)
def test_traps_of_yaml_are_errors(text: str, word: str) -> None:
    """What stands there is what is meant: duplicates, octal numbers, aliases, tags and yes/no are refused."""
    assert word in faults(text)[0][2]


def test_off_and_sexagesimal_numbers_are_text() -> None:
    """YAML 1.1 reads `off` as false and 12:30 as 750."""
    assert parse("version: 1\njournal: {origin: 12:30}\ninspection: {prompt: off}\n").journal.origin == "12:30"


@pytest.mark.parametrize(
    "line",
    [
        "inspection: {prompt: flag}",
        "identity: {saml: {}}",
        "keyring: {provider: {kind: vault}}",
        "models: {a: {runtime: {kind: ollama, url: 'http://127.0.0.1:1'}}}",
        "models: {a: {capture: body, runtime: {url: 'http://127.0.0.1:1'}}}",
    ],
)
def test_what_is_not_built_yet_is_refused_in_these_words(line: str) -> None:
    """A setting that would not be kept is not accepted."""
    text = "version: 1\n" + ("" if line.startswith("journal") else "journal: {origin: a}\n") + line + "\n"
    assert faults(text)[0][2].startswith("not built yet")


def issuer(more: str, *, pins: str = "{sub: ann}", name: str = "https://idp.example", ident: str = "idp") -> str:
    """One trusted issuer."""
    return f"identity: {{issuers: [{{id: {ident}, issuer: '{name}', {more}, principals: [{{subject: ann, pins: {pins}}}]}}]}}"


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("doors: {inference: {listen: '0.0.0.0:1'}, management: {listen: '0.0.0.0:1'}}", "same address"),
        ("models: {a: {runtime: {kind: openai, url: 'http://gpu1:80'}}}", "loopback"),
        ("models: {a: {runtime: {kind: openai, url: 'http://127.0.0.1.example.org'}}}", "loopback"),
        ("models: {a: {runtime: {kind: openai}}}", "either"),
        ("models: {a: {runtime: {start: xllamacpp}}}", "weights"),
        ("models: {a: {weights: w, runtime: {kind: openai, start: xllamacpp}}}", "kind"),
        ("models: {a: {weights: w, aliases: [b], runtime: {start: xllamacpp}}, b: {runtime: {url: 'unix:/x'}}}", "share"),
        ("modes: {network: {observe: 2027-02-23}}", "90 days"),
        ("home: /elsewhere", "home"),
        (issuer("profile: rfc9068", pins="{aud: me}"), "no claim is pinned"),
        (issuer("profile: github", pins="{repository_id: '1', repository_owner_id: '2'}"), "job_workflow_ref"),
        (issuer("profile: kubernetes", pins="{sub: 'system:serviceaccount:a:b'}"), "not pinned"),
        (issuer("profile: x509-svid"), "bundle_file"),
        (issuer("profile: rfc9068, bundle_file: b.pem"), "bundle_file"),
        (issuer("profile: rfc9068, jwks_file: k.json, jwks_url: 'https://idp.example/keys'"), "not both"),
        (issuer("profile: rfc9068, jwks_url: 'http://idp.example/keys'"), "pattern"),
        (issuer("profile: rfc9068", name="idp"), "https://"),
        (issuer("profile: rfc9068, algorithms: [RS256, PS256]"), "one algorithm a type"),
        (issuer("profile: rfc9068, max_age: 2h"), "3700"),
        (issuer("profile: rfc9068", ident="sealward"), "sealward"),
        ("identity: {tokens: {lifetime: 16m}}", "900"),
        ("doors: {inference: {listen: '0.0.0.0:1', url: 'http://gate.example'}}", "pattern"),
    ],
)
def test_settings_that_contradict_are_errors(line: str, word: str) -> None:
    """Found when read, not when the first request comes."""
    assert word in faults(LEAST + line + "\n")[0][2]


def test_an_error_never_shows_a_value() -> None:
    """Somebody will paste a secret where a file name belongs; the message must not carry it into a log."""
    text = LEAST + "identity: {apikey: {max_age: hunter2}, local_admin: hunter2}\nkeyring: {password: hunter2}\n"
    with pytest.raises(SettingsError) as caught:
        parse(text)
    assert "hunter2" not in str(caught.value)


def test_a_folder_without_the_file_says_what_to_do(tmp_path: Path) -> None:
    """The first mistake of a new user has a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(tmp_path)
    assert "sealward init" in caught.value.remedy


def test_the_json_schema_accepts_the_file_of_the_contract() -> None:
    """Editors check the same file."""
    schema = Settings.schema_of_file()
    value = yaml.safe_load(LEAST + "keyring: {lease: 5m}\ndoors: {inference: {listen: '0.0.0.0:8443', workers: auto}}\n")
    jsonschema.validate(value, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value | {"doors": {"inferenz": {}}}, schema)


def test_a_door_is_named_by_its_url_or_by_its_first_name_and_port() -> None:
    """What tokens must say to be taken there."""
    named = "doors: {names: [gate.example], inference: {listen: '0.0.0.0:443'}, management: {listen: '0.0.0.0:9443', url: %s}}\n"
    text = "version: 1\njournal: {origin: a}\n"
    doors = Settings.parse(text + named % "'https://admin.example'", Path("sealward.yaml"), TODAY).doors
    assert (doors.audience("inference"), doors.audience("management")) == (
        "https://gate.example", "https://admin.example/api/v1",
    )  # fmt: skip
    assert Settings.parse(text, Path("sealward.yaml"), TODAY).doors.audience("inference") == "https://localhost:8443"


def test_the_two_doors_are_never_one_audience() -> None:
    """A token for models must administer nothing, even where both doors have one name or let the system choose their ports."""
    text = "version: 1\njournal: {origin: a}\ndoors: {inference: {listen: '[::1]:0'%s}, management: {listen: '[::1]:0'%s}}\n"
    for url in ("", ", url: 'https://gate.example'"):
        doors = Settings.parse(text % (url, url), Path("sealward.yaml"), TODAY).doors
        assert doors.audience("inference") != doors.audience("management")
