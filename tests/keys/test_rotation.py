"""Rotation replaces the secret and nothing else, also when two rotate at once, or something else happens to the key."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine

from keys import tokens
from keys.chain import load_identity
from keys.errors import KeyRevoked
from keys.models import APIKey, KeySecret
from keys.services import (
    MAX_GRACE_SECONDS,
    Issued,
    delete_key,
    issue_key,
    pepper,
    previous_secret_expires_at,
    revoke_key,
    rotate_key,
    update_key,
)
from tenants import audit
from tenants.actor import system_actor
from tenants.errors import Conflict, Invalid, NotFound, ServiceError
from tenants.models import Account, AuditEvent, Project
from tenants.sealing import Secret
from tenants.services import create_tenant
from tests.support.threads import at_once

HERE = system_actor("story")
T0 = datetime(2026, 6, 1, tzinfo=UTC)


def opens(credential: Secret) -> bool:
    value = tokens.fingerprint(pepper()[1], credential.reveal().decode())
    return load_identity(value) is not None


def current_secrets(key_id: UUID) -> int:
    return KeySecret.objects.filter(key_id=key_id, not_after=None).count()


# --- one at a time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grace", [0, 60])
@pytest.mark.parametrize("paused", [False, True])
def test_a_rotated_key_is_the_same_key(tenant, grace, paused):
    issued = issue_key(
        actor=HERE,
        tenant_id=tenant.id,
        name="k",
        team="blue",
        project=str(Project.objects.create(tenant=tenant, name="Web").id),
        account=str(Account.objects.create(tenant=tenant, username="payer").id),
        scopes=["inference"],
        allowed_models=["gpt-*"],
        allowed_capabilities=["chat"],
        allowed_addresses=["10.0.0.0/8"],
        rate_limit_rpm=5,
        max_concurrency=2,
        log_content=True,
        expires_at=datetime.now(UTC) + timedelta(days=9),
    )
    if paused:
        update_key(actor=HERE, key_id=issued.key.id, is_active=False)
    before = APIKey.objects.values().get()
    rotated = rotate_key(actor=HERE, key_id=issued.key.id, grace_period_seconds=grace)
    assert APIKey.objects.values().get() == before
    assert rotated.key.id == issued.key.id
    assert opens(rotated.credential) is not paused
    assert opens(issued.credential) is (grace > 0 and not paused)


def test_without_grace_nothing_of_the_old_secret_is_left(key):
    rotated = rotate_key(actor=HERE, key_id=key.key.id)
    assert KeySecret.objects.get().prefix == rotated.credential.reveal()[:10].decode()
    assert rotated.previous_secret_expires_at is None


def test_grace_ends_when_it_was_said_to_end(key):
    with time_machine.travel(T0, tick=False):
        rotated = rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=60)
        assert rotated.previous_secret_expires_at == T0 + timedelta(seconds=60)
        assert previous_secret_expires_at(rotated.key, T0) == T0 + timedelta(seconds=60)
    for seconds, is_open in ((59.999, True), (60, False)):
        with time_machine.travel(T0 + timedelta(seconds=seconds), tick=False):
            assert opens(key.credential) is is_open
            assert opens(rotated.credential)


def test_a_second_rotation_does_not_prolong_the_grace_of_the_first(key):
    with time_machine.travel(T0, tick=False):
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=60)
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=600)
    with time_machine.travel(T0 + timedelta(seconds=61), tick=False):
        assert not opens(key.credential)


def test_a_rotation_without_grace_leaves_a_grace_that_was_promised(key):
    """Who asks for an immediate end of the current secret; the promise to the one before it was made by another rotation."""
    with time_machine.travel(T0, tick=False):
        second = rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=60)
        third = rotate_key(actor=HERE, key_id=key.key.id)
        assert (opens(key.credential), opens(second.credential), opens(third.credential)) == (
            True,
            False,
            True,
        )


def test_secrets_that_ended_are_swept_away_by_the_next_rotation(key):
    with time_machine.travel(T0, tick=False):
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=60)
    with time_machine.travel(T0 + timedelta(seconds=61), tick=False):
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=60)
    assert KeySecret.objects.count() == 2


def test_a_key_has_no_more_than_eleven_secrets(key):
    for _ in range(9):
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=600)
    assert KeySecret.objects.count() == 10
    with pytest.raises(Conflict):
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=600)
    assert KeySecret.objects.count() == 10
    assert current_secrets(key.key.id) == 1
    rotated = rotate_key(actor=HERE, key_id=key.key.id)
    assert opens(rotated.credential)


@pytest.mark.parametrize("grace", [-1, MAX_GRACE_SECONDS + 1, 1.0, "1", None, True, [], 10**30])
def test_what_is_no_grace_rotates_nothing(key, grace):
    with pytest.raises(Invalid):
        rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=grace)
    assert opens(key.credential)
    assert KeySecret.objects.count() == 1


def test_a_revoked_key_is_not_revived_by_what_is_still_in_its_grace(key):
    rotated = rotate_key(actor=HERE, key_id=key.key.id, grace_period_seconds=600)
    revoke_key(actor=HERE, key_id=key.key.id)
    assert not opens(key.credential)
    assert not opens(rotated.credential)


# --- at once ----------------------------------------------------------------------------------------------------------


def _new_key() -> Issued:
    tenant = create_tenant(actor=HERE, name="Busy")
    return issue_key(actor=HERE, tenant_id=tenant.id, name="k", rate_limit_rpm=5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("grace", [0, 600])
def test_of_four_rotations_at_once_one_secret_is_current(grace):
    issued = _new_key()
    rotated = at_once(
        *[lambda: rotate_key(actor=HERE, key_id=issued.key.id, grace_period_seconds=grace)] * 4
    )
    assert current_secrets(issued.key.id) == 1
    working = [one for one in rotated if opens(one.credential)]
    assert len(working) == (4 if grace else 1)
    assert opens(issued.credential) is bool(grace)
    assert APIKey.objects.get().rate_limit_rpm == 5
    assert AuditEvent.objects.filter(action="key.rotated", outcome="ok").count() == 4
    assert audit.verify().findings == []


def _or_refusal(job: Callable[[], Any]) -> Callable[[], Any]:
    def work() -> Any:
        try:
            return job()
        except ServiceError as refusal:
            return refusal

    return work


@pytest.mark.django_db(transaction=True)
def test_a_rotation_against_a_revocation_never_leaves_a_working_secret():
    tenant = create_tenant(actor=HERE, name="Busy")
    for _ in range(5):
        _rotate_against_revoke(issue_key(actor=HERE, tenant_id=tenant.id, name="k"))


def _rotate_against_revoke(issued: Issued) -> None:
    key_id = issued.key.id
    rotated, revoked = at_once(
        _or_refusal(lambda: rotate_key(actor=HERE, key_id=key_id, grace_period_seconds=600)),
        _or_refusal(lambda: revoke_key(actor=HERE, key_id=key_id)),
    )
    assert isinstance(revoked, APIKey)
    assert not opens(issued.credential)
    if isinstance(rotated, ServiceError):
        assert isinstance(rotated, KeyRevoked)
    else:
        assert not opens(rotated.credential)


@pytest.mark.django_db(transaction=True)
def test_of_two_revocations_at_once_one_counts_and_the_other_is_told():
    issued = _new_key()
    results = at_once(*[_or_refusal(lambda: revoke_key(actor=HERE, key_id=issued.key.id))] * 2)
    assert sorted(type(result).__name__ for result in results) == ["APIKey", "KeyRevoked"]
    outcomes = AuditEvent.objects.filter(action="key.revoked").values_list("outcome", flat=True)
    assert sorted(outcomes) == ["ok", "refused"]


@pytest.mark.django_db(transaction=True)
def test_a_rotation_against_a_deletion_leaves_no_secret():
    issued = _new_key()
    rotated, _ = at_once(
        _or_refusal(lambda: rotate_key(actor=HERE, key_id=issued.key.id)),
        _or_refusal(lambda: delete_key(actor=HERE, key_id=issued.key.id)),
    )
    assert not KeySecret.objects.exists()
    if isinstance(rotated, ServiceError):
        assert isinstance(rotated, NotFound)


@pytest.mark.django_db(transaction=True)
def test_changes_of_different_fields_at_once_are_all_kept():
    issued = _new_key()
    at_once(
        lambda: update_key(actor=HERE, key_id=issued.key.id, name="renamed"),
        lambda: update_key(actor=HERE, key_id=issued.key.id, rate_limit_rpm=7),
        lambda: update_key(actor=HERE, key_id=issued.key.id, log_content=True),
        lambda: update_key(actor=HERE, key_id=issued.key.id, is_active=False),
    )
    key = APIKey.objects.get()
    assert (key.name, key.rate_limit_rpm, key.log_content, key.is_active) == (
        "renamed",
        7,
        True,
        False,
    )


@pytest.mark.django_db(transaction=True)
def test_a_change_against_a_revocation_is_told_or_was_before_it():
    tenant = create_tenant(actor=HERE, name="Busy")
    for _ in range(5):
        _change_against_revoke(issue_key(actor=HERE, tenant_id=tenant.id, name="k"))
    assert audit.verify().findings == []


def _change_against_revoke(issued: Issued) -> None:
    key_id = issued.key.id
    changed, revoked = at_once(
        _or_refusal(lambda: update_key(actor=HERE, key_id=key_id, name="changed")),
        _or_refusal(lambda: revoke_key(actor=HERE, key_id=key_id)),
    )
    key = APIKey.objects.get(pk=key_id)
    assert isinstance(revoked, APIKey)
    assert key.revoked_at is not None
    assert not opens(issued.credential)
    rows = AuditEvent.objects.filter(target_id=str(key_id)).exclude(action="key.issued")
    in_order = list(rows.order_by("seq").values_list("action", "outcome"))
    if isinstance(changed, ServiceError):
        assert isinstance(changed, KeyRevoked)
        assert changed.facts["revoked_at"]
        assert key.name == "k"
        assert in_order == [("key.revoked", "ok"), ("key.updated", "refused")]
    else:
        assert key.name == "changed"
        assert in_order == [("key.updated", "ok"), ("key.revoked", "ok")]


@pytest.mark.django_db(transaction=True)
def test_a_resumption_against_a_revocation_opens_nothing():
    tenant = create_tenant(actor=HERE, name="Busy")
    for _ in range(3):
        _resume_against_revoke(issue_key(actor=HERE, tenant_id=tenant.id, name="k"))


def _resume_against_revoke(issued: Issued) -> None:
    key_id = issued.key.id
    update_key(actor=HERE, key_id=key_id, is_active=False)
    at_once(
        _or_refusal(lambda: update_key(actor=HERE, key_id=key_id, is_active=True)),
        _or_refusal(lambda: revoke_key(actor=HERE, key_id=key_id)),
    )
    assert not opens(issued.credential)
