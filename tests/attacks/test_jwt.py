"""Attack: forge, bend or borrow a signed token (rows 1 to 30 and 34).

Each test leaves from a token that is accepted (`refused` proves it) and changes one thing.
"""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from forge import (
    DOOR,
    IDP,
    NOW_S,
    OURS,
    PIPELINE,
    POD,
    PROVIDER,
    b64,
    ed25519_key,
    issuers,
    jwk,
    p256,
    pinned,
    proven,
    refused,
    rsa_key,
    rules,
)  # fmt: skip
from people import NOW
from sealward.errors import Reason, Refused
from sealward.identity.access import Access
from sealward.identity.jwt import UnknownKey
from shared import vector

EVIL = "https://evil.example/keys"
RSA_ROW = {"keys": pinned(jwk(p256("idp"), "k1", "ES256"), jwk(rsa_key(), "r1", "RS256"))}


def hs256(secret: bytes, kid: str) -> bytes:
    """The classic confusion: an HMAC whose secret is the public key."""
    signed = f"{b64({**PROVIDER.header, 'alg': 'HS256', 'kid': kid})}.{b64(dict(PROVIDER.claims))}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}".encode()


# -- rows 1 to 6: the algorithm --


def test_alg_none_without_a_signature_has_not_the_form_of_a_token() -> None:
    """Row 1: `{"alg":"none"}` and nothing behind the second dot."""
    token = PROVIDER.token({"alg": "none"})
    refused(token.rpartition(b".")[0] + b".", "credential_malformed")


def test_alg_none_with_a_good_signature_is_not_believed() -> None:
    """Row 1: the header alone says none; the bytes behind it are a real signature."""
    refused(PROVIDER.token({"alg": "none"}), "token_invalid")


def test_alg_none_in_odd_case_is_not_believed() -> None:
    """Row 2: `nOnE` slips past filters that compare exactly."""
    refused(PROVIDER.token({"alg": "nOnE"}), "token_invalid")


def test_a_header_without_alg_is_not_believed() -> None:
    """Row 3: some libraries fall back to the key's."""
    refused(PROVIDER.token(drop="alg"), "token_invalid")


def test_an_empty_alg_is_not_believed() -> None:
    """Row 3."""
    refused(PROVIDER.token({"alg": ""}), "token_invalid")


def test_alg_as_a_list_is_not_believed() -> None:
    """Row 3: `alg in ["ES256"]` is true in a careless check."""
    refused(PROVIDER.token({"alg": ["ES256"]}), "token_invalid")


def test_hs256_with_the_public_pem_as_secret_is_not_believed() -> None:
    """Row 4: everybody knows the secret."""
    pem = rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    refused(hs256(pem, "r1"), "token_invalid", rules(issuers(idp=RSA_ROW)))


def test_hs256_with_the_jwk_as_secret_is_not_believed() -> None:
    """Row 5: CVE-2026-48526."""
    refused(hs256(json.dumps(jwk(p256("idp"), "k1", "ES256")).encode(), "k1"), "token_invalid")


def test_hs256_with_an_empty_secret_is_not_believed() -> None:
    """Row 6."""
    refused(hs256(b"", "k1"), "token_invalid")


def test_another_curve_than_the_keys_is_not_believed() -> None:
    """ES384 named over a P-256 key."""
    refused(PROVIDER.token({"alg": "ES384"}), "token_invalid")


def test_pss_over_a_key_for_pkcs1_is_not_believed() -> None:
    """One algorithm a key: an RS256 key never speaks PS256."""
    found = rules(issuers(idp=RSA_ROW))
    assert proven(PROVIDER.token({"alg": "RS256", "kid": "r1"}, key=rsa_key()), found).id == "ann"
    refused(PROVIDER.token({"alg": "PS256", "kid": "r1"}, key=rsa_key()), "token_invalid", found)


def test_the_older_name_of_ed25519_means_the_same_key_and_no_other() -> None:
    """EdDSA is taken for an Ed25519 key (RFC 9864), not as a wildcard: not over the P-256 key beside it."""
    found = rules(issuers(idp={"keys": pinned(jwk(ed25519_key("e"), "e1", "Ed25519"), jwk(p256("idp"), "k1", "ES256"))}))
    for name in ("EdDSA", "Ed25519"):
        assert proven(PROVIDER.token({"alg": name, "kid": "e1"}, key=ed25519_key("e")), found).id == "ann"
    refused(PROVIDER.token({"alg": "EdDSA"}), "token_invalid", found)


# -- rows 7 to 14: what a header says about keys --


def test_the_attackers_key_in_the_header_is_not_used() -> None:
    """Row 7: CVE-2026-27962; signed by the key that the header brings along."""
    stranger = p256("stranger")
    refused(PROVIDER.token({"jwk": jwk(stranger, "k1", "ES256")}, key=stranger), "token_invalid")


def test_a_key_set_address_in_the_header_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 8: `jku` of another host; no socket is even made."""
    monkeypatch.setattr("socket.socket", None)
    refused(PROVIDER.token({"jku": EVIL}, key=p256("stranger")), "token_invalid")


def test_a_certificate_address_in_the_header_is_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 8: `x5u`."""
    monkeypatch.setattr("socket.socket", None)
    refused(PROVIDER.token({"x5u": "https://evil.example/c.pem"}, key=p256("stranger")), "token_invalid")


def test_a_good_signature_does_not_excuse_a_jwk_member() -> None:
    """Row 9: whoever reads the token after us may use it."""
    refused(PROVIDER.token({"jwk": jwk(p256("idp"), "k1", "ES256")}), "token_invalid")


def test_a_good_signature_does_not_excuse_a_jku_member() -> None:
    """Row 9."""
    refused(PROVIDER.token({"jku": EVIL}), "token_invalid")


def test_a_good_signature_does_not_excuse_a_certificate_chain() -> None:
    """Row 9: `x5c`."""
    refused(PROVIDER.token({"x5c": ["MIIB"]}), "token_invalid")


def test_a_kid_that_is_a_path_is_an_unknown_key() -> None:
    """Row 10: `../../dev/null` as a file of an empty secret."""
    refused(PROVIDER.token({"kid": "../../dev/null"}), "token_invalid")


def test_a_kid_that_is_sql_is_an_unknown_key() -> None:
    """Row 10."""
    refused(PROVIDER.token({"kid": "k1'/**/OR/**/'1'='1"}), "token_invalid")


def test_a_kid_with_spaces_is_no_name() -> None:
    """Row 10: `k1 ` is not `k1`."""
    refused(PROVIDER.token({"kid": "k1 "}), "token_invalid")


def test_a_kid_that_is_a_number_is_no_name() -> None:
    """Row 10: `1 == True` in many languages."""
    refused(PROVIDER.token({"kid": 1}), "token_invalid")


def test_a_kid_that_is_null_is_no_name() -> None:
    """Row 10."""
    refused(PROVIDER.token({"kid": None}), "token_invalid")


def test_a_kid_that_is_a_list_is_no_name() -> None:
    """Row 10: an unhashable value is refused, not a crash."""
    refused(PROVIDER.token({"kid": ["k1"]}), "token_invalid")


def test_an_unknown_kid_is_refused_though_the_key_is_right() -> None:
    """Row 11: no key is tried because there is only one. Pinned keys are not fetched anew."""
    caught = refused(PROVIDER.token({"kid": "k2"}), "token_invalid")
    assert isinstance(caught, UnknownKey)
    assert caught.issuer == ""


def test_no_kid_is_refused_where_there_are_two_keys() -> None:
    """Row 12: nobody guesses."""
    refused(PROVIDER.token(drop="kid"), "token_invalid", rules(issuers(idp=RSA_ROW)))


def test_no_kid_is_refused_where_there_is_one_key() -> None:
    """Row 12: nor when guessing would be easy."""
    refused(PROVIDER.token(drop="kid"), "token_invalid")


def test_a_critical_member_that_nobody_knows_is_refused() -> None:
    """Row 13: RFC 7515 section 4.1.11."""
    refused(PROVIDER.token({"crit": ["exp2"], "exp2": 1}), "token_invalid")


def test_an_empty_list_of_critical_members_is_refused() -> None:
    """Row 13."""
    refused(PROVIDER.token({"crit": []}), "token_invalid")


def test_an_unencoded_payload_is_refused() -> None:
    """Row 14: `b64: false` lets two readers see two payloads (RFC 7797)."""
    refused(PROVIDER.token({"b64": False, "crit": ["b64"]}), "token_invalid")


def test_a_compressed_payload_is_refused() -> None:
    """`zip` belongs to encryption: a bomb in a signed token."""
    refused(PROVIDER.token({"zip": "DEF"}), "token_invalid")


# -- rows 15 and 16, 30: JSON with two readings --


def test_a_header_member_twice_is_refused() -> None:
    """Row 15: the first says none, the last what is checked."""
    raw = b'{"alg":"none","alg":"ES256","kid":"k1","typ":"at+jwt"}'
    refused(PROVIDER.token(raw_header=raw), "token_invalid")


def test_a_claim_twice_is_refused() -> None:
    """Row 16: `sub` of somebody else beside one's own."""
    raw = PROVIDER.claims_text().replace('"sub": "u-1"', '"sub": "u-1", "sub": "admin"').encode()
    refused(PROVIDER.token(raw_claims=raw), "token_invalid")


def test_a_claim_twice_inside_an_object_is_refused() -> None:
    """Row 16: at any depth."""
    text = json.dumps(dict(POD.claims)).replace('"name": "bot"', '"name": "bot", "name": "bot"')
    refused(POD.token(raw_claims=text.encode()), "token_invalid", by=POD)


def test_a_claim_twice_under_an_escaped_name_is_refused() -> None:
    """Whoever decodes escapes first sees one name, whoever compares bytes two."""
    raw = PROVIDER.claims_text().replace('"sub": "u-1"', '"sub": "u-1", "\\u0073ub": "admin"').encode()
    refused(PROVIDER.token(raw_claims=raw), "token_invalid")


def test_a_payload_that_is_a_list_is_refused() -> None:
    """Not an object."""
    refused(PROVIDER.token(raw_claims=b"[1]"), "token_invalid")


def test_a_payload_that_is_no_json_is_refused() -> None:
    """`xx`."""
    refused(PROVIDER.token(raw_claims=b"xx"), "token_invalid")


def test_a_payload_in_utf16_is_refused() -> None:
    """`json.loads` of bytes would guess it."""
    refused(PROVIDER.token(raw_claims=PROVIDER.claims_text().encode("utf-16")), "token_invalid")


def test_a_payload_behind_a_byte_order_mark_is_refused() -> None:
    """Two readers, two first characters."""
    refused(PROVIDER.token(raw_claims=b"\xef\xbb\xbf" + PROVIDER.claims_text().encode()), "token_invalid")


def test_a_payload_of_invalid_utf8_is_refused() -> None:
    """An overlong `/`."""
    refused(PROVIDER.token(raw_claims=b'{"sub":"\xc0\xaf"}'), "token_invalid")


def test_bytes_behind_the_payload_are_refused() -> None:
    """Two objects: which of them is meant."""
    refused(PROVIDER.token(raw_claims=PROVIDER.claims_text().encode() * 2), "token_invalid")


def test_json_nested_thousands_deep_is_refused_and_not_a_crash() -> None:
    """Row 30: 5 KB of brackets are a RecursionError in Python's parser."""
    refused(PROVIDER.token(raw_claims=b"[" * 5000 + b"]" * 400), "token_invalid")


def test_a_token_of_200_kb_is_refused_by_its_size() -> None:
    """Row 30: before anything of it is parsed."""
    refused(PROVIDER.token(x="a" * 200_000), "credential_malformed")


def test_a_token_of_one_byte_too_many_is_refused() -> None:
    """8 KiB with the scheme."""
    refused(PROVIDER.token(x="a" * 6200), "credential_malformed")


# -- rows 17 and 18: kinds of tokens --


def test_an_id_token_is_no_access_token() -> None:
    """Row 17: `typ: JWT`, as providers write ID tokens."""
    refused(PROVIDER.token({"typ": "JWT"}), "token_invalid")


def test_a_token_without_typ_is_no_access_token() -> None:
    """Row 17."""
    refused(PROVIDER.token(drop="typ"), "token_invalid")


def test_a_logout_token_is_no_access_token() -> None:
    """Row 18."""
    refused(PROVIDER.token({"typ": "logout+jwt"}), "token_invalid")


def test_a_dpop_proof_is_no_access_token() -> None:
    """It is signed by its holder, whoever that is."""
    refused(PROVIDER.token({"typ": "dpop+jwt"}), "token_invalid")


def test_typ_in_another_case_and_with_its_prefix_means_the_same() -> None:
    """The control of the rows above (RFC 7515 section 4.1.9)."""
    for typ in ("AT+JWT", "application/at+jwt", "Application/AT+jwt"):
        assert proven(PROVIDER.token({"typ": typ})).id == "ann"


def test_typ_null_is_not_typ_absent() -> None:
    """`null` where a cluster's tokens have no `typ` at all."""
    refused(POD.token({"typ": None}), "token_invalid", by=POD)


# -- rows 19 to 23: audience and issuer --


def test_a_token_for_another_audience_is_refused() -> None:
    """Row 19."""
    refused(PROVIDER.token(aud="https://other.example"), "token_audience")


def test_a_token_without_an_audience_is_refused() -> None:
    """Row 20."""
    refused(PROVIDER.token(drop="aud"), "token_invalid")


def test_an_audience_that_begins_like_ours_is_refused() -> None:
    """Row 21: `startswith` is no comparison."""
    refused(PROVIDER.token(aud=DOOR + ".evil.example"), "token_audience")


def test_an_audience_with_a_trailing_slash_is_refused() -> None:
    """Row 21."""
    refused(PROVIDER.token(aud=DOOR + "/"), "token_audience")


def test_an_audience_in_another_case_is_refused() -> None:
    """Row 21."""
    refused(PROVIDER.token(aud=DOOR.upper()), "token_audience")


def test_one_of_several_audiences_is_refused() -> None:
    """Row 21: whoever else is named could replay it here."""
    refused(PROVIDER.token(aud=["https://other.example", DOOR]), "token_audience")


def test_a_list_of_one_is_refused_where_the_profile_says_text() -> None:
    """Row 21."""
    refused(PROVIDER.token(aud=[DOOR]), "token_audience")


def test_a_list_of_one_is_right_where_the_profile_says_so() -> None:
    """Row 21: the control; a cluster writes lists. Of two it is refused there too."""
    assert proven(POD.token()).id == "bot"
    refused(POD.token(aud=[DOOR, "https://kubernetes.default.svc"]), "token_audience", by=POD)


def test_an_empty_list_of_audiences_is_refused() -> None:
    """Nobody is not everybody."""
    refused(POD.token(aud=[]), "token_audience", by=POD)


def test_an_audience_that_is_an_object_is_refused() -> None:
    """Row 21."""
    refused(PROVIDER.token(aud={DOOR: True}), "token_audience")


def test_an_issuer_with_a_trailing_slash_is_another_issuer() -> None:
    """Row 22."""
    refused(PROVIDER.token(iss=IDP + "/"), "token_issuer")


def test_an_issuer_in_another_case_is_another_issuer() -> None:
    """Row 22."""
    refused(PROVIDER.token(iss="https://IDP.example"), "token_issuer")


def test_a_token_without_an_issuer_is_refused() -> None:
    """Nobody's keys may speak."""
    refused(PROVIDER.token(drop="iss"), "token_issuer")


def test_an_issuer_that_is_a_list_is_refused() -> None:
    """An unhashable value is refused, not a crash."""
    refused(PROVIDER.token(iss=[IDP]), "token_issuer")


def test_an_issuer_speaks_only_with_its_own_keys() -> None:
    """Row 23: another issuer's key, under that key's own kid: keys are per issuer, never a pool."""
    refused(PROVIDER.token({"kid": "g1"}, key=p256("ci")), "token_invalid")


def test_two_issuers_with_the_same_kid_do_not_share_a_key() -> None:
    """Row 23: the neighbour's key renamed to ours."""
    found = rules(issuers(ci={"keys": pinned(jwk(p256("ci"), "k1", "ES256"))}))
    assert proven(PIPELINE.token({"kid": "k1"}), found).id == "bot"
    refused(PROVIDER.token(key=p256("ci")), "token_invalid", found)


def test_a_neighbour_cannot_name_our_own_issuer() -> None:
    """Row 23: a CI token that says it is ours would choose its own subject."""
    refused(OURS.token({"kid": "g1"}, key=p256("ci")), "token_invalid", by=OURS)


def test_an_issuer_in_two_rows_is_believed_in_neither() -> None:
    """Whose keys are meant would be a matter of order."""
    rows = issuers()
    rows["again"] = rows["idp"] | {"keys": pinned(jwk(p256("stranger"), "k1", "ES256"))}
    refused(PROVIDER.token(), "token_issuer", rules(rows))


# -- rows 24 to 28: times --


def test_an_expired_token_is_refused() -> None:
    """Row 24: the second it ends, without any skew."""
    assert proven(PROVIDER.token(), now=NOW + 299_999_999).id == "ann"
    refused(PROVIDER.token(), "token_expired", now=NOW + 300_000_000)


def test_a_token_without_an_end_is_refused() -> None:
    """Row 25."""
    refused(PROVIDER.token(drop="exp"), "token_invalid")


def test_an_end_that_is_text_is_refused() -> None:
    """Row 26."""
    refused(PROVIDER.token(exp=str(NOW_S + 300)), "token_invalid")


def test_an_endless_end_is_refused() -> None:
    """Row 26: `Infinity` is JSON to Python alone."""
    refused(PROVIDER.token(exp=float("inf")), "token_invalid")


def test_an_end_that_overflows_to_infinity_is_refused() -> None:
    """Row 26: 1e999."""
    raw = PROVIDER.claims_text().replace(f'"exp": {NOW_S + 300}', '"exp": 1e999').encode()
    refused(PROVIDER.token(raw_claims=raw), "token_invalid")


def test_an_end_that_is_no_number_is_refused() -> None:
    """Row 26: NaN compares false with everything, so `exp < now` is false."""
    refused(PROVIDER.token(exp=float("nan")), "token_invalid")


def test_an_end_that_is_true_is_refused() -> None:
    """A bool is an int in Python."""
    refused(PROVIDER.token(exp=True), "token_invalid")


def test_an_end_with_a_fraction_is_refused() -> None:
    """Whole seconds, as every issuer of ours writes them."""
    refused(PROVIDER.token(exp=NOW_S + 300.5), "token_invalid")


def test_a_negative_end_is_refused() -> None:
    """Row 26."""
    refused(PROVIDER.token(exp=-1), "token_invalid")


def test_an_end_in_ten_years_is_refused() -> None:
    """Row 27: a bearer token for life."""
    refused(PROVIDER.token(exp=NOW_S + 315_360_000), "token_invalid")


def test_an_end_beyond_every_calendar_is_refused() -> None:
    """Row 27: 2^63."""
    refused(PROVIDER.token(exp=2**63), "token_invalid")


def test_a_token_that_ends_before_it_begins_is_refused() -> None:
    """`iat` after `exp`, within the skew."""
    refused(PROVIDER.token(iat=NOW_S + 4, exp=NOW_S + 2), "token_invalid")


def test_a_life_of_one_second_more_than_the_profile_is_refused() -> None:
    """900 s for access tokens, whatever the row allows."""
    assert proven(PROVIDER.token(exp=NOW_S + 900)).id == "ann"
    refused(PROVIDER.token(exp=NOW_S + 901), "token_invalid")


def test_a_row_may_demand_shorter_lives_than_its_profile() -> None:
    """`max_age`."""
    refused(PROVIDER.token(), "token_invalid", rules(issuers(idp={"max_age": 299})))


def test_a_token_of_the_future_is_refused_beyond_the_skew() -> None:
    """Row 28: `nbf` 4 s ahead is a clock, 6 s is not."""
    assert proven(PROVIDER.token(nbf=NOW_S + 4)).id == "ann"
    refused(PROVIDER.token(nbf=NOW_S + 6), "token_invalid")


def test_a_token_made_in_the_future_is_refused_beyond_the_skew() -> None:
    """Row 28: `iat` likewise."""
    assert proven(PROVIDER.token(iat=NOW_S + 4)).id == "ann"
    refused(PROVIDER.token(iat=NOW_S + 6), "token_invalid")


def test_a_token_without_the_time_it_was_made_is_refused() -> None:
    """How long it lives could not be told."""
    refused(PROVIDER.token(drop="iat"), "token_invalid")


# -- row 29: form --


def test_a_truncated_signature_is_refused() -> None:
    """Row 29."""
    signed, _, signature = PROVIDER.token().rpartition(b".")
    refused(signed + b"." + signature[:-6], "token_invalid")


def test_a_signature_of_zeros_is_refused() -> None:
    """Row 29: r = s = 0 verified in Java 15 to 18 (CVE-2022-21449)."""
    refused(PROVIDER.token().rpartition(b".")[0] + b"." + b64(bytes(64)).encode(), "token_invalid")


def test_an_overlong_signature_is_refused() -> None:
    """Row 29: a good one with bytes behind it."""
    signed, _, signature = PROVIDER.token().rpartition(b".")
    refused(signed + b"." + signature + b"AAAA", "token_invalid")


def test_a_signature_in_der_is_refused() -> None:
    """Row 29: JWS wants r and s side by side."""
    signed = PROVIDER.token().rpartition(b".")[0]
    der = p256("idp").sign(signed, ec.ECDSA(hashes.SHA256()))
    refused(signed + b"." + b64(der).encode(), "token_invalid")


def test_a_signature_over_another_payload_is_refused() -> None:
    """Row 29: cut from one good token, pasted to another."""
    signature = PROVIDER.token().rpartition(b".")[2]
    refused(PROVIDER.token(jti="j-2").rpartition(b".")[0] + b"." + signature, "token_invalid")


def test_unused_bits_in_the_last_character_are_refused() -> None:
    """Row 29: a second spelling of the same signature passes a deny list of tokens."""
    token = PROVIDER.token()
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = alphabet[alphabet.index(token[-1]) ^ 1]
    refused(token[:-1] + bytes([other]), "credential_malformed")


def test_padding_is_refused() -> None:
    """Row 29."""
    refused(PROVIDER.token() + b"==", "credential_malformed")


def test_the_standard_alphabet_is_refused() -> None:
    """Row 29: `+` and `/` where `-` and `_` belong."""
    signed, _, _ = PROVIDER.token().rpartition(b".")
    refused(signed + b"." + b"+/" * 43, "credential_malformed")


def test_white_space_around_a_token_is_refused() -> None:
    """Row 29."""
    refused(b" " + PROVIDER.token() + b"\t", "credential_malformed")


def test_white_space_inside_a_token_is_refused() -> None:
    """Row 29."""
    refused(PROVIDER.token().replace(b".", b" .", 1), "credential_malformed")


def test_json_serialization_is_refused() -> None:
    """Row 29."""
    refused(json.dumps({"payload": PROVIDER.token().decode()}).encode(), "credential_malformed")


def test_an_encrypted_token_is_refused() -> None:
    """Row 29: five parts."""
    refused(b"aaaa.bbbb.cccc.dddd.eeee", "credential_malformed")


def test_a_fourth_part_is_refused() -> None:
    """Row 29."""
    refused(PROVIDER.token() + b".eA", "credential_malformed")


def test_two_tokens_in_one_header_are_refused() -> None:
    """Row 29: comma-joined, whichever a later reader takes."""
    refused(PROVIDER.token() + b"," + PROVIDER.token(), "credential_multiple")


def test_two_headers_with_one_token_each_are_refused() -> None:
    """Even when they are the same."""
    bearer = b"Bearer " + PROVIDER.token()
    refused(b"", "credential_multiple", headers=[bearer, bearer])


# -- claims --


def test_a_subject_that_is_a_list_is_refused() -> None:
    """`["u-1"]`."""
    refused(PROVIDER.token(sub=["u-1"]), "token_invalid")


def test_a_subject_with_a_control_character_is_refused() -> None:
    """It would be written into logs."""
    refused(PROVIDER.token(sub="u-1\n"), "token_invalid")


def test_a_subject_of_look_alike_letters_is_refused() -> None:
    """A Cyrillic letter in the place of an `a`: no name of ours has it."""
    refused(OURS.token(sub="\u0430nn"), "token_invalid", by=OURS)


def test_a_subject_of_256_characters_is_refused() -> None:
    """OpenID Connect Core: 255."""
    refused(PROVIDER.token(sub="u" * 256), "token_invalid")


def test_a_token_id_that_is_a_number_is_refused() -> None:
    """A deny list of texts would never hold it."""
    refused(PROVIDER.token(jti=7), "token_invalid")


def test_a_scope_that_is_a_list_is_refused() -> None:
    """Some issuers write one; an access token of RFC 9068 does not."""
    refused(PROVIDER.token(scope=["model:chat"]), "token_invalid")


def test_a_scope_with_an_odd_space_is_refused() -> None:
    """U+2003: `str.split()` would see two words where the issuer wrote one."""
    refused(PROVIDER.token(scope="model:chat\u2003admin"), "token_invalid")


def test_an_access_token_without_a_token_id_is_refused() -> None:
    """It could not be revoked."""
    refused(PROVIDER.token(drop="jti"), "token_invalid")


def test_an_access_token_without_a_client_is_refused() -> None:
    """RFC 9068 section 2.2: an ID token has none."""
    refused(PROVIDER.token(drop="client_id"), "token_invalid")


# -- the cache --


def test_a_token_that_shares_a_long_prefix_with_a_proven_one_is_another_token() -> None:
    """Row 34: CVE-2026-35030, a cache keyed by a part of the token; here all but the last bytes of the signature are the same."""
    found, token = rules(), PROVIDER.token()
    assert proven(token, found).id == "ann"
    signed, _, signature = token.rpartition(b".")
    tail = b64(bytes(64))[-4:].encode()
    refused(signed + b"." + signature[:-4] + tail, "token_invalid", found)


def test_a_token_with_a_proven_ones_signature_is_another_token() -> None:
    """Row 34: a cache keyed by the signature alone."""
    found, token = rules(), PROVIDER.token()
    assert proven(token, found).id == "ann"
    refused(PROVIDER.token(sub="u-2").rpartition(b".")[0] + b"." + token.rpartition(b".")[2], "token_invalid", found)


def test_a_proven_token_is_expired_all_the_same() -> None:
    """Row 34: the entry of the cache ends with the token."""
    found = rules()
    assert proven(PROVIDER.token(), found).id == "ann"
    refused(PROVIDER.token(), "token_expired", found, now=NOW + 300_000_000)


def test_a_refused_token_is_refused_again() -> None:
    """Nothing about it is kept."""
    found = rules()
    for _ in range(2):
        refused(PROVIDER.token(aud="https://other.example"), "token_audience", found)


# -- the 46 --


def test_all_hostile_tokens_of_the_vectors_are_refused_and_the_control_is_not() -> None:
    """identity/jwt-attacks.json: every refusal is ours, none a library's error that happens to be caught."""
    data = vector("identity", "jwt-attacks.json")
    keys = pinned(*({**row, "alg": "Ed25519" if row["alg"] == "EdDSA" else row["alg"]} for row in data["keys"]["keys"]))
    keys["jwks"] = [{name: value for name, value in row.items() if name != "use"} for row in keys["jwks"]]
    row = {"issuer": "https://cp.example", "audience": "https://gw.example", "keys": keys, "max_age": 900}
    row |= {"principals": [{"pins": {"sub": "u"}, "subject": "ann"}], "profile": "rfc9068"}
    found, now = rules({"cp": row}), data["now"] * 1_000_000
    told = {name: outcome(found, token.encode(), now) for name, token in data["cases"].items()}
    assert [name for name, reason in told.items() if reason is None] == ["control"]
    assert set(told.values()) <= {None, *REASONS}
    assert len(told) == 47


def outcome(found: Access, token: bytes, now: int) -> Reason | None:
    """Why it is refused; None: it is not."""
    try:
        proven(token, found, now=now, audience="https://gw.example")
    except Refused as caught:
        return caught.reason
    return None


REASONS = {
    Reason.CREDENTIAL_MALFORMED, Reason.CREDENTIAL_MULTIPLE, Reason.TOKEN_INVALID, Reason.TOKEN_ISSUER, Reason.TOKEN_AUDIENCE,
    Reason.TOKEN_EXPIRED,
}  # fmt: skip
