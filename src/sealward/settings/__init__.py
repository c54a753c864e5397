"""`sealward.yaml`: one frozen type, and every fault of the file at once with its line (contracts.md section 10).

Unknown keys are errors with a suggestion; what is not built yet is refused in these words, never accepted in silence.
No setting holds a secret: keys and passwords are named by `*_file`. Relative paths start at the deployment's folder.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sealward.errors import ConfigurationError
from sealward.formats.fault import FormatError
from sealward.formats.note import COSIGNATURE, MLDSA44, Verifier
from sealward.settings.file import Fault, SettingsError, faults_of, read
from sealward.settings.issuers import OWN, Issuer
from sealward.settings.kinds import Count, File, Id, Name, Seconds, Section


class Address(NamedTuple):
    """Where a door listens; port 0 lets the system choose (the supervisor's status names the port)."""

    host: str
    port: int


def _address(value: object) -> object:
    if isinstance(value, Address):
        return value
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^:\s]+)):([0-9]{1,5})", value) if isinstance(value, str) else None
    if match is None or int(match[3]) > 65535:  # noqa: PLR2004 - the last port
        raise PydanticCustomError("address", 'write an address and a port, such as "127.0.0.1:8443" or "[::1]:8443"')
    return Address(match[1] or match[2], int(match[3]))


def _is_local(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path.startswith("/") and not parts.netloc
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not host:
        return False
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _cosigner(text: str) -> str:
    try:
        key = Verifier.parse(text)
    except FormatError as error:
        raise PydanticCustomError("vkey", "not a verifier key: {detail}", {"detail": error.detail}) from error
    if key.kind not in {COSIGNATURE, MLDSA44}:
        raise PydanticCustomError("vkey_kind", "the key of a log, not of a witness: `sealward witness show` prints the right one")
    return text


def _witness_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.query or parts.fragment or parts.username is not None or (parts.scheme != "https" and not _is_local(url)):
        raise PydanticCustomError("witness_url", "write https://…; http:// only on loopback, or unix:/path")
    if parts.scheme == "https" and not parts.hostname:
        raise PydanticCustomError("witness_url", "the address names no host")
    return url.rstrip("/")


def _only(*now: object) -> BeforeValidator:
    """What is built: these values. Anything else is in the contract, but not in this version."""

    def check(value: object) -> object:
        if value not in now:
            words = "".join(f" or write {word}" for word in now if isinstance(word, str | int))
            raise PydanticCustomError("not_built", "not built yet; leave it out{words}", {"words": words})
        return value

    return BeforeValidator(check)


Listen = Annotated[Address, BeforeValidator(_address), WithJsonSchema({"type": "string"})]
Workers = Annotated[
    StrictInt,
    Field(ge=1, le=64),
    BeforeValidator(lambda value: min(64, len(os.sched_getaffinity(0))) if value == "auto" else value),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 64}]}),
]
Later = Annotated[None, _only(None)]


class Door(Section):
    """One listener. Without files of its own it uses the deployment's certificate.

    `client_ca_file`: whose client certificates may finish a handshake. `url`: how callers write this door, which is the audience
    of tokens for it; by default its first name and port.
    """

    listen: Listen
    certificate_file: File | None = None
    key_file: File | None = None
    client_ca_file: File | None = None
    url: Annotated[str, Field(pattern=r"^https://[A-Za-z0-9.:\[\]-]+$", max_length=255)] | None = None
    workers: Workers = Field(default_factory=lambda: len(os.sched_getaffinity(0)))


class Doors(Section):
    """`names`: host names beyond localhost under which the doors are reached (certificate and Host header)."""

    inference: Door = Door(listen=Address("127.0.0.1", 8443))
    management: Door = Door(listen=Address("127.0.0.1", 9443))
    names: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.inference.listen == self.management.listen and self.inference.listen.port:
            raise PydanticCustomError("same_address", "inference and management listen on the same address")
        return self

    def audience(self, door: Literal["inference", "management"]) -> str:
        """What a token must name to be taken at this door. Never the same for both, whatever they are called."""
        found = self.inference if door == "inference" else self.management
        host, port = self.names[0] if self.names else "localhost", found.listen.port
        base = found.url or f"https://{host}" + (f":{port}" if port not in {0, HTTPS} else "")
        return base if door == "inference" else f"{base}/api/v1"


class Runtime(Section):
    """What serves a model: started by the sidecar (`start`), or by others (`url`: loopback or `unix:/path`)."""

    kind: Annotated[Literal["llamacpp", "openai", "ollama"], _only("llamacpp", "openai")] = "llamacpp"
    start: Literal["xllamacpp"] | None = None
    url: str | None = None
    sidecar: Annotated[Literal["local"], _only("local")] = "local"
    context: Count = 4096
    slots: Annotated[StrictInt, Field(ge=1, le=64)] = 2
    threads: Annotated[StrictInt, Field(ge=1, le=256)] = 1
    danger_direct: StrictBool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.start is None) == (self.url is None):
            raise PydanticCustomError("one_way", "give either `start` or `url`")
        if self.start and self.kind != "llamacpp":
            raise PydanticCustomError("start_kind", "`start: xllamacpp` is for `kind: llamacpp`")
        if self.url and not self.danger_direct and not _is_local(self.url):
            raise PydanticCustomError("not_local", "`url` must be on loopback or unix:/path; other hosts need a sidecar there")
        return self


class Model(Section):
    """One model, by its id. `weights` is hashed when the sidecar starts; without it the digest proves nothing."""

    runtime: Runtime
    weights: File | None = None
    max_output: Count = 1024
    capture: Annotated[Literal["none", "digest", "body"], _only("none", "digest")] = "digest"
    prefix_cache: Annotated[Literal["off", "subject", "shared"], _only("off")] = "off"
    aliases: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _weights_to_start(self) -> Self:
        if self.runtime.start and self.weights is None:
            raise PydanticCustomError("weights", "`runtime.start` needs `weights`")
        return self


class ApiKeys(Section):
    """How long a key lives at most, and how long before its end it is warned of."""

    max_age: Seconds = 90 * 86400
    warn: Seconds = 14 * 86400


class Tokens(Section):
    """Our own tokens: how long one lives that does not ask for less; 15 minutes at most."""

    lifetime: Annotated[Seconds, Field(ge=1, le=900)] = 300


class Identity(Section):
    """Who may ask. There is no anonymous mode."""

    environment: Literal["live", "test"] = "live"
    local_admin: StrictBool = True
    apikey: ApiKeys = ApiKeys()
    tokens: Tokens = Tokens()
    issuers: Annotated[tuple[Issuer, ...], Field(max_length=64)] = ()
    saml: Later = None

    @model_validator(mode="after")
    def _issuers_apart(self) -> Self:
        ids, names = [each.id for each in self.issuers], [each.issuer for each in self.issuers]
        if len(ids) != len(set(ids)) or len(names) != len(set(names)) or OWN in ids:
            raise PydanticCustomError("issuer_twice", "two issuers share an id or a name, or one is called `sealward`")
        return self


class Limit(Section):
    """What one subject, key, group or model may use."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    tokens_per_day: Count | None = None
    concurrent: Count | None = None


class Inspection(Section):
    """What is looked for in prompts and replies."""

    prompt: Annotated[Literal["off", "observe", "flag", "redact", "block"], _only("off")] = "off"
    reply: Annotated[Literal["off", "observe", "flag", "redact", "block"], _only("off")] = "off"
    on_failure: Literal["closed"] = "closed"


class Witness(Section):
    """Who cosigns this log. `vkey`: its Ed25519 cosignature key, its ML-DSA-44 key, or both; `name` is ours for it."""

    name: Id
    vkey: Annotated[
        tuple[Annotated[str, AfterValidator(_cosigner)], ...],
        BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
        Field(min_length=1, max_length=2),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2}]}
        ),
    ]
    url: Annotated[str, AfterValidator(_witness_url)]
    ca_file: File | None = None

    @property
    def keys(self) -> tuple[Verifier, ...]:
        return tuple(Verifier.parse(text) for text in self.vkey)


class WitnessPolicy(Section):
    """`quorum`: how many of the witnesses are enough; `any`, `all` or a number."""

    quorum: Literal["any", "all"] | Count | None = None


class Journal(Section):
    """`origin` is the log's name for ever: its key and every entry carry it. `retention`: what is older may be archived.

    `witness_freshness`: while no quorum has cosigned for so long nothing is admitted (`journal_stalled`); off by default.
    """

    origin: Annotated[str, Field(pattern=r"^[!-*,-~]{1,128}$")]
    witnesses: Annotated[tuple[Witness, ...], Field(max_length=32)] = ()
    policy: WitnessPolicy = WitnessPolicy()
    witness_freshness: Annotated[Seconds, Field(ge=5)] | None = None
    retention: Annotated[Seconds, Field(ge=86400)] | None = None

    @model_validator(mode="after")
    def _fits_its_witnesses(self) -> Self:
        names = [witness.name for witness in self.witnesses]
        keys = [key.public for witness in self.witnesses for key in witness.keys]
        if len(names) != len(set(names)) or len(keys) != len(set(keys)):
            raise PydanticCustomError("witness_twice", "two witnesses share a name or a key")
        if self.origin in {key.name for witness in self.witnesses for key in witness.keys}:
            raise PydanticCustomError("own_witness", "a log cannot be its own witness")
        if isinstance(self.policy.quorum, int) and self.policy.quorum > len(self.witnesses):
            raise PydanticCustomError("quorum", "the quorum is larger than the number of witnesses")
        if self.witness_freshness and not self.witnesses:
            raise PydanticCustomError("no_witness", "`witness_freshness` needs witnesses")
        return self

    @property
    def quorum(self) -> int:
        """How many witnesses are enough: more than half where nothing is said; 0 where there are none."""
        count, wanted = len(self.witnesses), self.policy.quorum
        if isinstance(wanted, int):
            return wanted
        return {"any": min(count, 1), "all": count}[wanted] if wanted else (count // 2 + 1 if count else 0)


class Provider(Section):
    """Who holds the key-encryption keys."""

    kind: Annotated[Literal["file"], _only("file")] = "file"


class Keyring(Section):
    """`lease`: how long a purpose key serves before the provider is asked again."""

    provider: Provider = Provider()
    lease: Annotated[Seconds, Field(ge=1, le=86400)] = 300


class Observe(Section):
    """Record violations and serve, until the date."""

    observe: dt.date


Mode = Annotated[
    Annotated[Literal["enforce"], Tag("enforce")] | Annotated[Observe, Tag("observe")],
    Discriminator(lambda value: "observe" if isinstance(value, dict | Observe) else "enforce"),
]


class Modes(Section):
    """Adopt first, enforce with a date (contracts.md section 8)."""

    model_signatures: Mode = "enforce"
    inspection: Mode = "enforce"
    network: Mode = "enforce"

    @field_validator("*")
    @classmethod
    def _soon(cls, mode: Literal["enforce"] | Observe, info: ValidationInfo) -> Literal["enforce"] | Observe:
        today = (info.context or {}).get("today")
        if isinstance(mode, Observe) and today and mode.observe > today + dt.timedelta(days=MAX_OBSERVE_DAYS):
            raise PydanticCustomError("too_far", "the date is more than {days} days ahead", {"days": MAX_OBSERVE_DAYS})
        return mode


class Refusals(Section):
    """Buckets of recorded refusals (contracts.md section 5): a burst, then so many a second; `sources` bounds the table."""

    burst: Count = 20
    per_second: Count = 1
    anonymous_per_second: Count = 200
    proven_per_second: Count = 200
    sources: Count = 10_000


class Settings(Section):
    """The whole file. `home` is the folder it was read from; relative paths start where it lies (it may be a link)."""

    version: Annotated[Literal[1], _only(1)]
    home: Path
    doors: Doors = Doors()
    models: dict[Id, Model] = Field(default_factory=dict)
    identity: Identity = Identity()
    limits: dict[Annotated[str, Field(pattern=r"^(default|(subject|key|group|model):[A-Za-z0-9].{0,119})$")], Limit] = Field(
        default_factory=lambda: {"default": Limit(requests_per_minute=600, tokens_per_minute=200_000, concurrent=32)}
    )
    inspection: Inspection = Inspection()
    journal: Journal
    keyring: Keyring = Keyring()
    modes: Modes = Modes()
    refusals: Refusals = Refusals()

    @model_validator(mode="after")
    def _names_apart(self) -> Self:
        names = [*self.models, *(alias for model in self.models.values() for alias in model.aliases)]
        if len(names) != len(set(names)):
            raise PydanticCustomError("names", "two models share a name or alias")
        return self

    @classmethod
    def load(cls, home: Path, today: dt.date | None = None) -> Settings:
        """The settings of the deployment in `home`. SettingsError names every fault; ConfigurationError: there is no file."""
        file = home / FILE
        try:
            text = file.read_text("utf-8")
        except FileNotFoundError as error:
            remedy = "give the deployment's folder by --home or SEALWARD_HOME, or make one: `sealward init DIR`"
            raise ConfigurationError(f"no {FILE} in {home}", remedy=remedy) from error
        except UnicodeDecodeError as error:
            raise SettingsError(file, [Fault("", 0, "not UTF-8")]) from error
        return cls.parse(text, file, today or dt.datetime.now(dt.UTC).date())

    @classmethod
    def parse(cls, text: str, file: Path, today: dt.date) -> Settings:
        """The settings in `text`, which stands in `file`."""
        value, lines = read(text, file)
        folder = file.resolve().parent
        if "home" in value and Path(str(value["home"])).resolve() != folder:
            raise SettingsError(file, [Fault("home", lines.get(("home",), 0), f"this file's folder is the home: {folder}")])
        try:
            return cls.model_validate(value | {"home": file.parent}, context={"home": folder, "today": today})
        except ValidationError as error:
            raise SettingsError(file, faults_of(error.errors(include_input=False, include_url=False), cls, lines)) from error

    @classmethod
    def schema_of_file(cls) -> dict[str, Any]:
        """The JSON Schema of `sealward.yaml`, for editors."""
        schema = cls.model_json_schema()
        schema["required"].remove("home")
        return schema


__all__ = ["FILE", "Address", "Fault", "Model", "Modes", "Observe", "Seconds", "Settings", "SettingsError"]
FILE = "sealward.yaml"
HTTPS = 443
MAX_OBSERVE_DAYS = 90
