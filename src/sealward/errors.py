"""Every refusal and failure that leaves sealward.

    SealwardError                 cause, remedy, exit code
    ├── Refused                   a decision: reason code of the closed list below (contracts.md section 11)
    ├── UsageError                the command line was misused                             exit 2
    ├── ConfigurationError        sealward.yaml or the deployment's files are wrong        exit 3
    ├── UnreachableError          a process, provider or peer does not answer              exit 4
    └── IntegrityError            journal or key material is not what it must be           exit 5

`REASONS` is the one table from reason to HTTP status, to the face each API family shows, and to the exit code.
What a caller reads says nothing about what exists; what an operator reads (`detail`) never leaves the house.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """The closed list of reason codes."""

    TLS_VERSION = "tls_version"
    TLS_PLAINTEXT = "tls_plaintext"
    TLS_CERTIFICATE = "tls_certificate"
    HTTP_MALFORMED = "http_malformed"
    HTTP_TOO_LARGE = "http_too_large"
    HTTP_TIMEOUT = "http_timeout"
    ROUTE_UNKNOWN = "route_unknown"
    ROUTE_METHOD = "route_method"
    ROUTE_NOT_SUPPORTED = "route_not_supported"
    HOST_UNKNOWN = "host_unknown"
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_MALFORMED = "credential_malformed"
    CREDENTIAL_UNKNOWN = "credential_unknown"
    CREDENTIAL_EXPIRED = "credential_expired"
    CREDENTIAL_REVOKED = "credential_revoked"
    CREDENTIAL_RETIRED = "credential_retired"
    CREDENTIAL_BINDING = "credential_binding"
    CREDENTIAL_MULTIPLE = "credential_multiple"
    PASS_MISSING = "pass_missing"  # noqa: S105 - a reason code, not a password
    PASS_INVALID = "pass_invalid"  # noqa: S105 - the same
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - the same
    TOKEN_ISSUER = "token_issuer"  # noqa: S105 - the same
    TOKEN_AUDIENCE = "token_audience"  # noqa: S105 - the same
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - the same
    TOKEN_BINDING = "token_binding"  # noqa: S105 - the same
    TOKEN_REPLAYED = "token_replayed"  # noqa: S105 - the same
    BODY_MALFORMED = "body_malformed"
    BODY_DUPLICATE_KEY = "body_duplicate_key"
    BODY_FIELD = "body_field"
    BODY_TOO_LARGE = "body_too_large"
    MODEL_NOT_GRANTED = "model_not_granted"
    ACTION_NOT_GRANTED = "action_not_granted"
    POLICY_DENIED = "policy_denied"
    POLICY_ERROR = "policy_error"
    APPROVAL_REQUIRED = "approval_required"
    SELF_APPROVAL = "self_approval"
    LIMIT_REQUESTS = "limit_requests"
    LIMIT_TOKENS = "limit_tokens"
    LIMIT_CONCURRENT = "limit_concurrent"
    LIMIT_BUDGET = "limit_budget"
    INSPECTION_BLOCKED = "inspection_blocked"
    INSPECTION_FAILED = "inspection_failed"
    MODEL_UNSIGNED = "model_unsigned"
    MODEL_UNAPPROVED = "model_unapproved"
    MODEL_WITHDRAWN = "model_withdrawn"
    MODEL_DIGEST = "model_digest"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    JOURNAL_FULL = "journal_full"
    JOURNAL_IO = "journal_io"
    JOURNAL_STALLED = "journal_stalled"
    JOURNAL_DAMAGED = "journal_damaged"
    STALE_EPOCH = "stale_epoch"
    NO_HEARTBEAT = "no_heartbeat"
    NO_SNAPSHOT = "no_snapshot"
    KEY_UNAVAILABLE = "key_unavailable"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    REVOKED = "revoked"
    EXPIRED = "expired"
    CLIENT_GONE = "client_gone"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `REASONS`: `status` 0 = the connection just ends; `kind` and `code` are OpenAI's error members."""

    status: int
    kind: str
    code: str
    message: str
    exit: int = 1


class SealwardError(Exception):
    """Root of the tree. `remedy` says what to do next, in words an operator can follow."""

    exit_code = 1

    def __init__(self, detail: str, *, remedy: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy


class Refused(SealwardError):  # noqa: N818 - the word for a decision, not for a fault
    """A decision against a caller. `status` overrides the table's where HTTP has a more precise one (411, 415, 431, …)."""

    def __init__(self, reason: Reason, detail: str = "", *, status: int = 0, remedy: str = "") -> None:
        super().__init__(detail or reason.value, remedy=remedy)
        self.reason = reason
        self.row = REASONS[reason]
        self.status = status or self.row.status
        self.exit_code = self.row.exit


class UsageError(SealwardError):
    """The command line was misused."""

    exit_code = 2


class ConfigurationError(SealwardError):
    """The settings or the deployment's files are wrong."""

    exit_code = 3


class UnreachableError(SealwardError):
    """A process, provider or peer does not answer."""

    exit_code = 4


class IntegrityError(SealwardError):
    """Journal or key material is not what it must be; `code` is the machine's word for it."""

    exit_code = 5

    def __init__(self, code: str, detail: str = "", *, remedy: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code, remedy=remedy)
        self.code = code


def _table() -> dict[Reason, Row]:
    bad, auth, deny, busy = "invalid_request_error", "authentication_error", "permission_error", "server_error"
    anonymous = (auth, "invalid_api_key", "The credential is missing or not valid.")
    forbidden = (deny, "permission_denied", "This is not permitted.")
    limited = ("rate_limit_error", "rate_limit_exceeded", "The rate limit is reached. Try again later.")
    unavailable = (busy, "service_unavailable", "The service cannot answer now. Try again later.")
    missing = (bad, "not_found", "There is nothing here.")
    malformed = (bad, "invalid_request", "The request is not well formed.")
    groups: dict[tuple[int, tuple[str, str, str], int], str] = {
        (0, malformed, 1): "tls_version tls_plaintext tls_certificate client_gone",
        (400, malformed, 1): "http_malformed body_malformed body_duplicate_key body_field credential_multiple",
        (400, (bad, "content_filter", "The content was refused by policy."), 1): "inspection_blocked",
        (401, anonymous, 1): (
            "credential_missing credential_malformed credential_unknown credential_expired credential_revoked "
            "credential_retired credential_binding pass_missing pass_invalid token_invalid token_issuer token_audience "
            "token_expired token_binding token_replayed expired"
        ),
        (403, forbidden, 1): (
            "model_not_granted action_not_granted policy_denied policy_error self_approval model_unsigned "
            "model_unapproved model_withdrawn model_digest revoked"
        ),
        (404, missing, 1): "route_unknown route_not_supported",
        (405, (bad, "method_not_allowed", "This method is not allowed here."), 1): "route_method",
        (408, (bad, "timeout", "The request took too long to arrive."), 1): "http_timeout",
        (409, (bad, "approval_required", "A second person must approve this."), 1): "approval_required",
        (413, (bad, "request_too_large", "The body is too large."), 1): "body_too_large",
        (421, (bad, "misdirected_request", "This host is not served here."), 1): "host_unknown",
        (429, limited, 1): "limit_requests limit_tokens limit_concurrent",
        (429, ("insufficient_quota", "insufficient_quota", "The budget is used up."), 1): "limit_budget",
        (431, (bad, "headers_too_large", "The request head is too large."), 1): "http_too_large",
        (502, (busy, "upstream_error", "The model server did not answer properly."), 4): "upstream_error",
        (503, unavailable, 4): "upstream_unavailable stale_epoch no_heartbeat no_snapshot overloaded draining inspection_failed",
        (503, unavailable, 5): "journal_full journal_io journal_stalled journal_damaged key_unavailable",
        (504, (busy, "upstream_timeout", "The model server took too long."), 4): "upstream_timeout",
    }
    return {
        Reason(name): Row(status, *face, exit_code)
        for (status, face, exit_code), names in groups.items()
        for name in names.split()
    }


REASONS = _table()
