"""What can be done to keys: issued, found, changed, ended; each on record, and nothing that another tenant owns in reach."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest
import time_machine

from keys import tokens
from keys.chain import load_identity
from keys.errors import KeyRevoked, ManagedByConfig
from keys.models import APIKey, KeySecret
from keys.services import (
    SCOPES,
    current_prefix,
    delete_key,
    find_key,
    issue_key,
    pepper,
    revoke_key,
    rotate_key,
    status_of,
    update_key,
)
from tenants.actor import system_actor
from tenants.errors import Conflict, Invalid, NotFound
from tenants.models import Account, AuditEvent, ConfigChange, Project
from tests.gateway.api.calls import line, log_row, rollup
from tests.support.contents import contents
from usage.models import LedgerEntry, RequestLog, Rollup

HERE = system_actor("story")
FULL: dict[str, Any] = {
    "team": "blue",
    "scopes": ["inference", "keys"],
    "allowed_models": ["gpt-*", "m"],
    "allowed_capabilities": ["chat"],
    "allowed_addresses": ["10.0.0.0/8"],
    "rate_limit_rpm": 5,
    "max_concurrency": 2,
    "log_content": True,
}


# --- issuing ----------------------------------------------------------------------------------------------------------


def test_of_a_credential_only_its_hmac_and_ten_characters_are_kept(tenant):
    issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k")
    text = issued.credential.reveal().decode()
    secret = KeySecret.objects.get()
    assert bytes(secret.fingerprint) == tokens.fingerprint(pepper()[1], text)
    assert (secret.pepper_version, secret.prefix, secret.not_after) == (1, text[:10], None)
    assert text[10:] not in repr(contents())
    assert current_prefix(issued.key) == text[:10]


def test_a_key_has_what_it_was_issued_with(tenant):
    issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", **FULL)
    issued.key.refresh_from_db()
    assert {name: getattr(issued.key, name) for name in FULL} == FULL
    assert (issued.key.created_by_type, issued.key.created_by_label) == ("system", "story")
    assert (issued.key.source, issued.key.is_active) == ("admin", True)


def test_scopes_are_stored_once_each_and_in_one_order(tenant):
    issued = issue_key(
        actor=HERE, tenant_id=tenant.id, name="k", scopes=["keys", "inference", "keys"]
    )
    assert issued.key.scopes == ["inference", "keys"]
    assert issued.key.scopes == [scope for scope in SCOPES if scope in issued.key.scopes]


@pytest.mark.parametrize("kind", [Project, Account])
def test_what_is_of_another_tenant_does_not_exist_here(tenant, outsider, kind):
    name = {"name": "x"} if kind is Project else {"username": "x"}
    foreign = kind.objects.create(tenant=outsider, **name)
    field = kind.__name__.lower()
    texts = set()
    for reference in (foreign.id, uuid4(), "x", "", 5, "\0"):
        fields: dict[str, Any] = {field: reference}
        with pytest.raises(Invalid) as refusal:
            issue_key(actor=HERE, tenant_id=tenant.id, name="k", **fields)
        texts.add(refusal.value.fields[field])
    assert len(texts) == 1
    assert not APIKey.objects.exists()


def test_a_deleted_payer_gets_no_keys(tenant):
    gone = Account.objects.create(tenant=tenant, username="x", deleted_at=datetime.now(UTC))
    with pytest.raises(Invalid):
        issue_key(actor=HERE, tenant_id=tenant.id, name="k", account=str(gone.id))


def test_the_row_of_an_issued_key_says_what_it_was_given_and_not_its_credential(tenant):
    project = Project.objects.create(tenant=tenant, name="Web")
    issued = issue_key(
        actor=HERE, tenant_id=tenant.id, name="k", project=str(project.id), rate_limit_rpm=5
    )
    row = AuditEvent.objects.get(action="key.issued")
    assert row.details == {"name": "k", "project": "Web", "rate_limit_rpm": 5}
    assert (row.target_id, row.target_label) == (str(issued.key.id), "k")
    line_ = ConfigChange.objects.latest("seq")
    assert (line_.kind, line_.object_id, line_.tenant_id) == ("api_key", issued.key.id, tenant.id)


# --- finding ----------------------------------------------------------------------------------------------------------


def test_a_key_is_found_by_id_or_visible_prefix(tenant, outsider, key):
    prefix = key.credential.reveal()[:10].decode()
    assert find_key(key.key.id) == find_key(str(key.key.id)) == find_key(prefix) == key.key
    assert find_key(prefix, tenant) == key.key
    for reference, whose in ((prefix, outsider), (key.key.id, outsider), (uuid4(), None)):
        with pytest.raises(NotFound):
            find_key(reference, whose)
    for reference in ("", "gwk_", prefix[:-1], "first", "\0", "\ud800", key.credential):
        with pytest.raises(NotFound) as refusal:
            find_key(str(reference))
        assert key.credential.reveal().decode() not in refusal.value.message


def test_an_ambiguous_prefix_finds_nothing(tenant, key):
    other = issue_key(actor=HERE, tenant_id=tenant.id, name="k")
    KeySecret.objects.update(prefix="gwk_same00")
    with pytest.raises(Conflict):
        find_key("gwk_same00")
    other.key.delete()
    assert find_key("gwk_same00") == key.key


def test_a_full_credential_given_as_reference_is_not_repeated(key):
    """Somebody pastes the key itself where its id belongs."""
    text = key.credential.reveal().decode()
    with pytest.raises(NotFound):
        find_key(text)


# --- changing ---------------------------------------------------------------------------------------------------------


def test_absent_stays_null_clears_and_a_value_sets(tenant):
    issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", **FULL)
    update_key(actor=HERE, key_id=issued.key.id, name="renamed")
    issued.key.refresh_from_db()
    assert {name: getattr(issued.key, name) for name in FULL} == FULL
    nullable = ("allowed_models", "allowed_capabilities", "allowed_addresses", "rate_limit_rpm")
    update_key(actor=HERE, key_id=issued.key.id, **dict.fromkeys(nullable))
    issued.key.refresh_from_db()
    assert {name: getattr(issued.key, name) for name in nullable} == dict.fromkeys(nullable)
    assert (issued.key.max_concurrency, issued.key.log_content) == (2, True)
    update_key(actor=HERE, key_id=issued.key.id, rate_limit_rpm=9, log_content=False)
    issued.key.refresh_from_db()
    assert (issued.key.rate_limit_rpm, issued.key.log_content) == (9, False)


@pytest.mark.parametrize("field", ["name", "scopes", "is_active", "log_content"])
def test_what_must_be_something_cannot_be_cleared(key, field):
    with pytest.raises(Invalid) as refusal:
        update_key(actor=HERE, key_id=key.key.id, **{field: None})
    assert list(refusal.value.fields) == [field]


@pytest.mark.parametrize("field", ["team", "id", "tenant_id", "source", "revoked_at", "secrets"])
def test_what_is_fixed_cannot_be_changed(key, field):
    with pytest.raises(Invalid):
        update_key(actor=HERE, key_id=key.key.id, **cast(Any, {field: "x"}))


def test_the_row_of_a_change_says_from_what_to_what(key):
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    update_key(actor=HERE, key_id=key.key.id, rate_limit_rpm=5, expires_at=moment)
    row = AuditEvent.objects.get(action="key.updated")
    assert row.details == {
        "rate_limit_rpm": {"from": None, "to": 5},
        "expires_at": {"from": None, "to": str(moment)},
    }


def test_one_wrong_field_changes_none(key):
    with pytest.raises(Invalid) as refusal:
        update_key(actor=HERE, key_id=key.key.id, name="other", rate_limit_rpm=0, scopes=[])
    assert set(refusal.value.fields) == {"rate_limit_rpm", "scopes"}
    key.key.refresh_from_db()
    assert key.key.name == "first"


# --- ending -----------------------------------------------------------------------------------------------------------


def test_a_second_revocation_says_when_the_first_was(key):
    moment = datetime(2026, 6, 1, 12, 0, 0, 123_456, tzinfo=UTC)
    with time_machine.travel(moment, tick=False):
        revoked = revoke_key(actor=HERE, key_id=key.key.id, reason="leaked")
    assert (revoked.revoked_at, revoked.revoked_reason) == (moment, "leaked")
    assert (revoked.revoked_by_type, revoked.revoked_by_label) == ("system", "story")
    for again in (
        lambda: revoke_key(actor=system_actor("other"), key_id=key.key.id, reason="other"),
        lambda: rotate_key(actor=HERE, key_id=key.key.id),
        lambda: update_key(actor=HERE, key_id=key.key.id, is_active=True),
    ):
        with pytest.raises(KeyRevoked) as refusal:
            again()
        assert refusal.value.code == "key_revoked"
        assert refusal.value.facts == {"revoked_at": "2026-06-01T12:00:00.123456Z"}
    revoked.refresh_from_db()
    assert (revoked.revoked_at, revoked.revoked_reason) == (moment, "leaked")
    assert revoked.revoked_by_label == "story"


def test_a_key_of_the_configuration_file_can_be_revoked_and_nothing_else(tenant):
    issued = issue_key(actor=HERE, tenant_id=tenant.id, name="k", source="config")
    key_id, before = issued.key.id, contents("tenants_auditevent", "tenants_audithead")
    for refused in (
        lambda: update_key(actor=HERE, key_id=key_id, name="other"),
        lambda: rotate_key(actor=HERE, key_id=key_id),
        lambda: delete_key(actor=HERE, key_id=key_id),
    ):
        with pytest.raises(ManagedByConfig) as refusal:
            refused()
        assert refusal.value.code == "managed_by_config"
    assert contents("tenants_auditevent", "tenants_audithead") == before
    assert revoke_key(actor=HERE, key_id=key_id).revoked_at is not None


def test_a_deleted_key_leaves_its_history(tenant, key):
    key_id = key.key.id
    row = log_row(tenant_id=tenant.id, key_id=key_id)
    line(row, 1, key_id=key_id)
    rollup("2026-11", key_id)
    kept = (RequestLog, LedgerEntry, Rollup)
    before = {model: list(model.objects.filter(key_id=key_id).values()) for model in kept}
    assert all(before.values())
    written = AuditEvent.objects.filter(target_id=str(key_id)).count()
    delete_key(actor=HERE, key_id=key_id)
    assert not APIKey.objects.exists()
    assert not KeySecret.objects.exists()
    assert {model: list(model.objects.filter(key_id=key_id).values()) for model in kept} == before
    assert AuditEvent.objects.filter(target_id=str(key_id)).count() == written + 1
    with pytest.raises(NotFound):
        delete_key(actor=HERE, key_id=key_id)


def test_a_deleted_key_is_nobody(key):
    value = tokens.fingerprint(pepper()[1], key.credential.reveal().decode())
    delete_key(actor=HERE, key_id=key.key.id)
    assert load_identity(value) is None


def test_the_strongest_status_is_told(tenant):
    now = datetime.now(UTC)
    key = APIKey(tenant=tenant)
    assert status_of(key, now) == "active"
    key.is_active = False
    assert status_of(key, now) == "paused"
    key.expires_at = now
    assert status_of(key, now) == "expired"
    assert status_of(key, now - timedelta(microseconds=1)) == "paused"
    key.revoked_at = now
    assert status_of(key, now) == "revoked"
