"""Attack: be another workload (rows 31 to 33, 38, 86): cluster and CI tokens, SPIFFE tokens and certificates, key sets that lie.

`refused` proves that the same hand's control is accepted, then judges the one thing that was changed.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from forge import (
    CLUSTER,
    DOMAIN,
    DOOR,
    NOW_S,
    OTHER_DOOR,
    PIPELINE,
    POD,
    SVID,
    WORKFLOW,
    b64,
    certificate,
    client,
    issuers,
    jwk,
    p256,
    pinned,
    proven,
    refused,
    rsa_key,
    rules,
)
from people import DAY, NOW
from sealward.errors import Refused
from sealward.formats.fault import FormatError
from sealward.formats.ids import rfc3339
from sealward.identity.access import Access
from sealward.identity.jwk import read_key_set
from sealward.identity.jwt import UnknownKey

# -- Kubernetes service accounts --


def pod(**account: str) -> bytes:
    """The control with another service account."""
    told = {"namespace": "prod", "serviceaccount": {"name": "bot", "uid": "uid-1"}}
    told = {**told, "namespace": account.pop("namespace", "prod")}
    return POD.token(**{"kubernetes.io": told | {"serviceaccount": {"name": "bot", "uid": "uid-1"} | account}})


def test_a_service_account_that_was_deleted_and_made_again_is_another() -> None:
    """Row 38: same namespace, same name, another uid."""
    refused(pod(uid="uid-2"), "credential_unknown", by=POD)


def test_a_service_account_of_the_same_name_in_another_namespace_is_another() -> None:
    """Row 38."""
    refused(pod(namespace="dev"), "credential_unknown", by=POD)


def test_a_service_account_of_another_name_is_another() -> None:
    """Row 38."""
    refused(pod(name="admin"), "credential_unknown", by=POD)


def test_a_cluster_token_for_the_cluster_itself_is_refused() -> None:
    """Row 38: every pod has one; its audience is the API server."""
    refused(POD.token(aud=[CLUSTER]), "token_audience", by=POD)


def test_a_default_cluster_token_that_lives_for_a_year_is_refused() -> None:
    """Row 38: `expirationSeconds` was not asked for."""
    refused(POD.token(exp=NOW_S + 31_536_000), "token_invalid", by=POD)


def test_a_legacy_cluster_token_without_an_end_is_refused() -> None:
    """Row 38: the secret-based tokens of old clusters."""
    refused(POD.token(drop="exp"), "token_invalid", by=POD)


def test_a_cluster_token_with_a_type_is_not_the_clusters() -> None:
    """No Kubernetes writes one."""
    refused(POD.token({"typ": "JWT"}), "token_invalid", by=POD)


def test_a_cluster_token_whose_pins_are_only_spelled_with_dots_is_ambiguous() -> None:
    """A flat claim beside the nested one: two readings of one path."""
    refused(POD.token(**{"kubernetes.io.serviceaccount.uid": "uid-1"}), "token_invalid", by=POD)


def test_a_cluster_token_without_its_service_account_is_nobodys() -> None:
    """The pins must be there, not merely undisputed."""
    refused(POD.token(**{"kubernetes.io": {"namespace": "prod"}}), "credential_unknown", by=POD)


def test_a_pinned_number_is_not_the_text_of_it() -> None:
    """`uid: 1` is not `"1"`: pins are texts, exactly."""
    found = {"namespace": "prod", "serviceaccount": {"name": "bot", "uid": 1}}
    refused(POD.token(**{"kubernetes.io": found}), "credential_unknown", by=POD)


def test_a_row_that_pins_names_alone_proves_nobody() -> None:
    """Whoever writes such a row believes whoever comes next under that name."""
    row = {"principals": [{"pins": {"kubernetes.io.namespace": "prod"}, "subject": "bot"}]}
    refused(POD.token(), "token_issuer", rules(issuers(cluster=row)), by=POD)


# -- CI pipelines --


def test_a_repository_of_the_same_name_with_another_id_is_another() -> None:
    """Row 38: deleted and registered again by a stranger."""
    refused(PIPELINE.token(repository_id="43"), "credential_unknown", by=PIPELINE)


def test_an_owner_of_the_same_name_with_another_id_is_another() -> None:
    """Row 38."""
    refused(PIPELINE.token(repository_owner_id="8"), "credential_unknown", by=PIPELINE)


def test_a_fork_is_another_repository() -> None:
    """Row 38: its own id and owner, the same workflow file."""
    refused(PIPELINE.token(repository_id="99", repository_owner_id="66"), "credential_unknown", by=PIPELINE)


def test_another_reusable_workflow_is_another_pipeline() -> None:
    """Row 38: swapped for one of the same repository."""
    other = WORKFLOW.replace("release.yml", "lint.yml")
    refused(PIPELINE.token(job_workflow_ref=other), "credential_unknown", by=PIPELINE)


def test_the_same_workflow_of_another_branch_is_another_pipeline() -> None:
    """Row 38: whoever may push a branch may change the file there."""
    other = WORKFLOW.replace("heads/main", "heads/feature")
    refused(PIPELINE.token(job_workflow_ref=other), "credential_unknown", by=PIPELINE)


def test_a_workflow_of_a_pull_request_is_nobody() -> None:
    """Row 38: anybody's code under our repository's name."""
    refused(PIPELINE.token(event_name="pull_request"), "credential_unknown", by=PIPELINE)


def test_a_workflow_on_the_words_of_a_pull_request_is_nobody() -> None:
    """Row 38: `pull_request_target` runs our code on anybody's input."""
    refused(PIPELINE.token(event_name="pull_request_target"), "credential_unknown", by=PIPELINE)


def test_a_pipeline_token_without_its_workflow_is_nobodys() -> None:
    """Row 38: an older kind of job has none."""
    refused(PIPELINE.token(drop="job_workflow_ref"), "credential_unknown", by=PIPELINE)


def test_a_pipeline_token_for_the_providers_cloud_is_refused() -> None:
    """The default audience is the repository owner's address."""
    refused(PIPELINE.token(aud="https://github.com/acme"), "token_audience", by=PIPELINE)


def test_a_row_that_pins_the_repositorys_name_alone_proves_nobody() -> None:
    """`repository: acme/app`."""
    row = {"principals": [{"pins": {"repository": "acme/app"}, "subject": "bot"}]}
    refused(PIPELINE.token(), "token_issuer", rules(issuers(ci=row)), by=PIPELINE)


# -- SPIFFE tokens --


def test_a_spiffe_token_of_another_path_is_another_workload() -> None:
    """Row 38: exact, not a prefix."""
    refused(SVID.token(sub=f"spiffe://{DOMAIN}/bot/child"), "credential_unknown", by=SVID)


def test_a_spiffe_token_of_another_trust_domain_is_another_workload() -> None:
    """The same path elsewhere."""
    refused(SVID.token(sub="spiffe://evil.example/bot"), "credential_unknown", by=SVID)


def test_a_spiffe_token_whose_subject_is_no_spiffe_id_is_refused() -> None:
    """`sub: bot`."""
    refused(SVID.token(sub="bot"), "token_invalid", by=SVID)


def test_a_spiffe_token_for_two_audiences_is_refused() -> None:
    """The other one could replay it."""
    refused(SVID.token(aud=[DOOR, OTHER_DOOR]), "token_audience", by=SVID)


def test_a_spiffe_token_without_iat_is_bounded_by_its_end() -> None:
    """The standard makes `iat` optional: 3,700 s from now, no more."""
    assert proven(SVID.token(drop="iat")).id == "bot"
    refused(SVID.token(drop="iat", exp=NOW_S + 3701), "token_invalid", by=SVID)


def test_a_token_of_unknown_age_is_refused_once_old_ones_are_revoked() -> None:
    """`not_before` cannot be compared with what is not there."""
    found = rules(issuers(spire={"not_before": rfc3339(NOW - DAY)}))
    assert proven(SVID.token(), found).id == "bot"
    refused(SVID.token(drop="iat"), "credential_revoked", found, by=SVID)


# -- X.509-SVIDs (row 86) --


def shown(*chain: x509.Certificate, found: Access | None = None, **more: Any) -> str:
    """Whom the certificate proves; its control is a sound SVID."""
    assert proven(b"", certificate=client(certificate("leaf"))).id == "bot"
    return proven(b"", found, certificate=client(*chain), **more).id


def unshown(reason: str, *chain: x509.Certificate, **more: Any) -> None:
    """Why it proves nobody."""
    with pytest.raises(Refused) as caught:
        shown(*chain, **more)
    assert caught.value.reason == reason, caught.value.detail


def test_a_sound_svid_is_its_workload_and_ends_with_its_certificate() -> None:
    """The control; the certificate's end is when a stream on it is cut."""
    found = proven(b"", certificate=client(certificate("leaf")))
    assert (found.id, found.authn, found.spiffe_id) == ("bot", "spiffe", f"spiffe://{DOMAIN}/bot")
    assert found.expires_us == NOW + 3600 * 1_000_000


def test_a_certificate_with_two_uri_names_is_refused() -> None:
    """Row 86: which of them is meant."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN}/bot", f"spiffe://{DOMAIN}/admin")))


def test_a_certificate_with_the_same_uri_name_twice_is_refused() -> None:
    """Row 86: exactly one."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN}/bot",) * 2))


def test_a_certificate_without_a_uri_name_is_refused() -> None:
    """Row 86: a host's certificate of the same domain."""
    unshown("credential_malformed", certificate("leaf", uris=(), dns=("bot.prod.example",)))


def test_a_certificate_whose_common_name_is_a_spiffe_id_is_refused() -> None:
    """Only the alternative name counts."""
    unshown("credential_malformed", certificate("leaf", uris=(), common=f"spiffe://{DOMAIN}/bot"))


def test_a_uri_name_of_another_scheme_is_refused() -> None:
    """`https://prod.example/bot`."""
    unshown("credential_malformed", certificate("leaf", uris=(f"https://{DOMAIN}/bot",)))


def test_a_spiffe_id_with_a_query_is_refused() -> None:
    """The standard has none."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN}/bot?admin",)))


def test_a_spiffe_id_with_dot_segments_is_refused() -> None:
    """`/x/../bot` is `/bot` to whoever resolves it."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN}/x/../bot",)))


def test_a_spiffe_id_with_a_user_is_refused() -> None:
    """`spiffe://prod.example@evil.example/bot` reads both ways."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN}@evil.example/bot",)))


def test_a_trust_domain_in_another_case_is_refused() -> None:
    """Trust domains are lower case."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN.upper()}/bot",)))


def test_an_id_of_the_domain_itself_is_no_workload() -> None:
    """It is the name of its authorities."""
    unshown("credential_malformed", certificate("leaf", uris=(f"spiffe://{DOMAIN}",)))


def test_a_certificate_of_another_trust_domain_is_refused() -> None:
    """Row 86: no row, no belief."""
    unshown("credential_unknown", certificate("leaf", uris=("spiffe://evil.example/bot",)))


def test_one_domains_authority_cannot_name_another_domains_workload() -> None:
    """Row 86: both domains have rows; the bundle of the other one signed it."""
    rows = issuers()
    other = b64(certificate("other-root", "other-root", ca=True, uris=("spiffe://other.example",)).public_bytes(Encoding.DER))
    pins = [{"pins": {"sub": "spiffe://other.example/x"}, "subject": "ann"}]
    rows["other"] = rows["domain"] | {"issuer": "other.example", "keys": {"certificates": [other]}, "principals": pins}
    found = rules(rows)
    assert shown(certificate("l2", "other-root", uris=("spiffe://other.example/x",)), found=found) == "ann"
    unshown("credential_unknown", certificate("leaf", "other-root"), found=found)


def test_a_self_signed_certificate_is_refused() -> None:
    """Row 86."""
    unshown("credential_unknown", certificate("leaf", "leaf"))


def test_a_root_of_the_same_name_with_another_key_is_another() -> None:
    """Row 86: names in certificates are only words."""
    unshown("credential_unknown", certificate("leaf", "root-2"))


def test_a_leaf_cannot_sign_another_leaf() -> None:
    """Row 86: basic constraints, the flaw of 2002 and of many since."""
    unshown("credential_unknown", certificate("child", "leaf"), certificate("leaf"))


def test_a_certificate_that_may_sign_others_is_no_workload() -> None:
    """An authority that acts as a caller."""
    unshown("credential_malformed", certificate("leaf", signs=True))


def test_an_authority_certificate_is_no_workload() -> None:
    """Its own URI name is that of a workload."""
    unshown("credential_malformed", certificate("middle", ca=True, uris=(f"spiffe://{DOMAIN}/bot",)))


def test_a_servers_certificate_is_no_clients() -> None:
    """Row 86: wrong extended key usage."""
    unshown("credential_malformed", certificate("leaf", purposes=("server",)))


def test_a_certificate_without_a_purpose_is_refused() -> None:
    """Row 86: absent is not any."""
    unshown("credential_malformed", certificate("leaf", purposes=()))


def test_a_certificate_for_both_sides_is_a_clients_too() -> None:
    """The control of the two rows above: SPIRE's certificates are for both."""
    assert shown(certificate("leaf", purposes=("client", "server"))) == "bot"


def test_an_expired_certificate_is_refused() -> None:
    """Row 86."""
    unshown("credential_expired", certificate("leaf", life=(-7200, -3600)))


def test_a_certificate_that_is_not_valid_yet_is_refused() -> None:
    """Row 86."""
    unshown("credential_expired", certificate("leaf", life=(3600, 7200)))


def test_a_certificate_that_was_good_before_it_ended_is_refused_afterwards() -> None:
    """What was proven is kept by the digest of the chain, and ends with it."""
    found = rules()
    assert shown(certificate("leaf"), found=found) == "bot"
    unshown("credential_expired", certificate("leaf"), found=found, now=NOW + 3600 * 1_000_000)


def test_a_certificate_of_a_workload_that_nobody_pinned_is_refused() -> None:
    """A genuine one, of the same domain."""
    unshown("credential_unknown", certificate("leaf", uris=(f"spiffe://{DOMAIN}/other",)))


def test_a_certificate_is_good_at_one_door() -> None:
    """The row names the inference door."""
    unshown("token_audience", certificate("leaf"), audience=OTHER_DOOR)


def test_a_certificate_beside_a_header_proves_nobody_by_itself() -> None:
    """One credential counts: a bad key with a good certificate is a bad key."""
    with pytest.raises(Refused) as caught:
        proven(b"x", certificate=client(certificate("leaf")))
    assert caught.value.reason == "credential_malformed"


def test_a_disabled_workload_is_refused() -> None:
    """Its certificate lives on, its row does not."""
    gone = {"bot": {"kind": "service", "groups": [], "roles": ["consumer"], "disabled": True}}
    unshown("credential_revoked", certificate("leaf"), found=rules(subjects=gone))


# -- key sets that lie (row 31) --


def key_set(*rows: dict[str, Any], **more: Any) -> bytes:
    """A document as an issuer publishes it."""
    return json.dumps({"keys": list(rows)} | more).encode()


GOOD = jwk(p256("idp"), "k1", "ES256")


def unread(reason: str, document: bytes, detail: str = "") -> None:
    """It is refused as a whole, so the old keys stay; the control is read."""
    assert [row["kid"] for row in read_key_set(key_set(GOOD), ["ES256"])] == ["k1"]
    with pytest.raises(FormatError) as caught:
        read_key_set(document, ["ES256", "RS256"])
    assert caught.value.reason == reason
    assert detail in caught.value.detail


def test_a_key_set_with_a_private_key_is_refused_as_a_whole() -> None:
    """Row 31: everybody can sign as that issuer now."""
    unread("key", key_set(GOOD, GOOD | {"kid": "k2", "d": "AAAA"}), "private")


def test_a_key_set_with_a_shared_secret_is_refused_as_a_whole() -> None:
    """Row 31: `kty: oct`."""
    unread("key", key_set(GOOD, {"kty": "oct", "kid": "s", "k": "AAAA"}), "private")


def test_a_key_set_of_21_keys_is_refused() -> None:
    """Row 31."""
    unread("key", key_set(*(GOOD | {"kid": f"k{n}"} for n in range(21))), "1 to 20")


def test_a_key_set_above_64_kib_is_refused_before_it_is_parsed() -> None:
    """Row 31."""
    unread("size", key_set(GOOD, padding="a" * 65_536))


def test_a_key_set_without_keys_is_refused() -> None:
    """An empty answer must not disarm nor empty anything."""
    unread("key", key_set())


def test_a_key_set_of_encryption_keys_alone_is_refused() -> None:
    """Nothing in it may sign."""
    unread("empty", key_set(GOOD | {"use": "enc"}))


def test_an_encryption_key_beside_a_signing_key_is_passed_over() -> None:
    """The control: Keycloak publishes both."""
    assert [row["kid"] for row in read_key_set(key_set(GOOD | {"kid": "e", "use": "enc"}, GOOD), ["ES256"])] == ["k1"]


def test_a_kid_twice_in_a_key_set_is_refused() -> None:
    """Which of them verifies would be a matter of order."""
    unread("key", key_set(GOOD, jwk(p256("stranger"), "k1", "ES256")), "two keys")


def test_an_rsa_key_of_1024_bits_is_refused() -> None:
    """It can be factored."""
    unread("key", key_set(jwk(rsa_key(1024), "r", "RS256")), "size")


def test_an_rsa_key_with_exponent_one_is_refused() -> None:
    """Every message is its own signature."""
    unread("key", key_set(jwk(rsa_key(), "r", "RS256") | {"e": "AQ"}), "exponent")


def test_a_point_that_is_not_on_its_curve_is_refused() -> None:
    """An invalid curve."""
    unread("key", key_set(GOOD | {"y": GOOD["x"]}))


def test_a_key_without_a_kid_is_refused() -> None:
    """Nobody guesses which key was meant."""
    unread("key", key_set({name: value for name, value in GOOD.items() if name != "kid"}), "missing")


def test_a_key_set_that_is_a_list_is_refused() -> None:
    """Not an object."""
    unread("json", b"[]")


def test_a_key_set_with_two_lists_of_keys_is_refused() -> None:
    """Two readings."""
    unread("json", key_set(GOOD)[:-1] + b', "keys": []}')


def test_a_key_set_that_is_html_is_refused() -> None:
    """A login page of a captive portal."""
    unread("json", b"<html>")


# -- fetched keys (rows 32, 33) --


def fetched(until_us: int, *rows: dict[str, str]) -> Access:
    """The cluster's keys were fetched by control, and stop at `until_us`."""
    keys = {"jwks_url": "https://k8s.example/keys", "algorithms": ["ES256"], "jwks": list(rows), "until": rfc3339(until_us)}
    return rules(issuers(cluster={"keys": keys}))


def test_keys_that_were_fetched_stop_at_their_age() -> None:
    """Row 33: also when issuer and control are silent: the door itself drops them."""
    found = fetched(NOW + 1_000_000, jwk(p256("cluster"), "c1", "ES256"))
    assert proven(POD.token(), found).id == "bot"
    again = fetched(NOW + 1_000_000, jwk(p256("cluster"), "c1", "ES256"))
    caught = refused(POD.token(), "token_invalid", again, by=POD, now=NOW + 1_000_000)
    assert isinstance(caught, UnknownKey)


def test_an_unknown_key_of_a_fetched_issuer_names_whom_to_ask() -> None:
    """Row 32: the row's id, from our own snapshot; nothing of the token decides where anybody connects to."""
    caught = refused(POD.token({"kid": "new"}), "token_invalid", fetched(NOW + DAY, jwk(p256("cluster"), "c1", "ES256")), by=POD)
    assert isinstance(caught, UnknownKey)
    assert caught.issuer == "cluster"


def test_a_key_that_was_withdrawn_proves_nobody_any_more() -> None:
    """Row 33: rotated away in the snapshot of now."""
    found = rules(issuers(cluster={"keys": pinned(jwk(p256("next"), "c2", "ES256"))}))
    refused(POD.token(), "token_invalid", found, by=POD)


def test_a_key_that_replaced_another_under_its_kid_ends_what_ran_on_the_old() -> None:
    """A stream that began under the old key is cut by the epoch that brings the new one."""
    before = proven(POD.token())
    after = rules(issuers(cluster={"keys": pinned(jwk(p256("next"), "c1", "ES256"))}))
    with pytest.raises(Refused) as caught:
        after.renew(before, now_us=NOW)
    assert caught.value.reason == "credential_revoked"
