"""What a refused caller reads (gateway.md section 5, attack catalogue's answer classes)."""

from __future__ import annotations

import orjson
import pytest

from sealward.errors import REASONS, Reason, Refused
from sealward.gateway.faces import FAMILIES, answer, in_stream


@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_model_looks_like_a_forbidden_one(family: str) -> None:
    """Class C: byte for byte the same for "unknown", "not granted", "not approved" and "policy"."""
    faces = {
        answer(family, Refused(reason, f"secret detail {reason}"))
        for reason in (Reason.MODEL_NOT_GRANTED, Reason.MODEL_UNAPPROVED, Reason.MODEL_WITHDRAWN, Reason.POLICY_DENIED)
    }
    assert len(faces) == 1
    assert faces.pop().status == 403


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_face_without_its_detail(family: str, reason: Reason) -> None:
    """What an operator reads never leaves the house; only the name of a field of our own tables does."""
    status, headers, body = answer(family, Refused(reason, "operator's words"))
    assert status == REASONS[reason].status
    assert all(b"operator" not in part for pair in headers for part in pair)
    assert (b"operator" in body) == (reason is Reason.BODY_FIELD and family == "openai")
    assert isinstance(orjson.loads(body), dict)


def test_the_openai_error_has_its_four_members() -> None:
    """SDKs read message, type, param and code."""
    error = orjson.loads(answer("openai", Refused(Reason.BODY_FIELD, "n_predict")).body)["error"]
    assert error == {
        "message": "The request is not well formed.",
        "type": "invalid_request_error",
        "param": "n_predict",
        "code": "invalid_request",
    }


def test_a_401_says_whether_a_credential_came() -> None:
    """Class B: `error="invalid_token"` unless none was sent (RFC 6750 section 3)."""
    missing, wrong = (
        dict(answer("openai", Refused(reason)).headers)[b"www-authenticate"]
        for reason in (Reason.CREDENTIAL_MISSING, Reason.CREDENTIAL_UNKNOWN)
    )
    assert (missing, wrong) == (b"Bearer", b'Bearer error="invalid_token"')


def test_the_admin_face_is_a_problem() -> None:
    """RFC 9457 with the status in the body, `access_denied` for class C."""
    status, headers, body = answer("admin", Refused(Reason.ACTION_NOT_GRANTED))
    assert (b"content-type", b"application/problem+json") in headers
    assert orjson.loads(body).items() >= {"status": status, "code": "access_denied"}.items()


def test_busy_answers_say_when_to_come_back() -> None:
    """429 and 503 carry retry-after in whole seconds."""
    for reason in Reason:
        status, headers, _ = answer("openai", Refused(reason))
        assert (b"retry-after" in dict(headers)) == (status in {429, 503})


def test_a_more_precise_status_wins() -> None:
    """415 and 411 are bad bodies too, but HTTP has a word for them."""
    assert answer("openai", Refused(Reason.BODY_MALFORMED, status=415)).status == 415


def test_a_cut_stream_ends_in_an_error_event() -> None:
    """`data: {"error":…}` and no [DONE]: an SDK raises instead of taking half an answer for a whole one."""
    event = in_stream("openai", Refused(Reason.REVOKED))
    assert event.startswith(b'data: {"error":')
    assert event.endswith(b"}\n\n")
    assert in_stream("admin", Refused(Reason.REVOKED)) == b""
