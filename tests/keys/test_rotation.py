"""Rotation replaces the secret and nothing else, also when two rotate at once; and a story of everything at random."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

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
from tenants.limits import NO_LIMITS, BudgetLimit, LimitSet, Rate
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


# --- everything at random ---------------------------------------------------------------------------------------------


class Told:
    """What we believe of a key."""

    def __init__(self, key_id: UUID, limit: int | None, ends: datetime | None) -> None:
        self.id, self.limit, self.ends = key_id, limit, ends
        self.paused = self.revoked = False
        self.secrets: list[tuple[Secret, datetime | None]] = []

    @property
    def limits(self) -> LimitSet:
        if self.limit is None:
            return NO_LIMITS
        budgets = (BudgetLimit("tokens", "month", self.limit),)
        return LimitSet(rates=(Rate(self.limit, 60),), budgets=budgets)

    def is_open(self, until: datetime | None, now: datetime) -> bool:
        ends = [moment for moment in (until, self.ends) if moment is not None]
        return not self.paused and not self.revoked and all(moment > now for moment in ends)


limits = st.none() | st.integers(1, 10**6)


#: Not `random`: Hypothesis begins that anew with every story.
_NUMBERS = itertools.count(1)


class Life(RuleBasedStateMachine):
    """Keys of one tenant, and a clock that only we move."""

    keys = Bundle("keys")

    def __init__(self) -> None:
        super().__init__()
        self.clock = time_machine.travel(T0, tick=False)
        self.traveller = self.clock.start()
        self.now = T0
        self.tenant = create_tenant(actor=HERE, name="x", slug=f"life-{next(_NUMBERS)}")
        self.told: list[Told] = []
        self.done, self.refused = 1, 0  # the tenant itself is a change

    def teardown(self) -> None:
        self.clock.stop()

    def attempt(self, work: Callable[[], Any], refused: type[ServiceError] | None) -> Any:
        if refused is None:
            self.done += 1
            return work()
        self.refused += 1
        with pytest.raises(refused):
            work()
        return None

    @rule(target=keys, limit=limits, seconds=st.none() | st.integers(1, 500))
    def issue(self, limit, seconds):
        ends = None if seconds is None else self.now + timedelta(seconds=seconds)
        issued = self.attempt(
            lambda: issue_key(
                actor=HERE,
                tenant_id=self.tenant.id,
                name="k",
                rate_limit_rpm=limit,
                tokens_budget=limit,
                expires_at=ends,
            ),
            None,
        )
        told = Told(issued.key.id, limit, ends)
        told.secrets.append((issued.credential, None))
        self.told.append(told)
        return told

    @rule(told=keys, limit=limits)
    def patch(self, told, limit):
        refused = KeyRevoked if told.revoked else None
        limits = {"rate_limit_rpm": limit, "tokens_budget": limit}
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, **limits), refused)
        told.limit = told.limit if refused else limit

    @rule(told=keys, paused=st.booleans())
    def pause_or_resume(self, told, paused):
        refused = KeyRevoked if told.revoked else None
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, is_active=not paused), refused)
        told.paused = told.paused if refused else paused

    @rule(told=keys, grace=st.sampled_from([0, 1, 60, 600]))
    def rotate(self, told, grace):
        superseded = [
            (credential, until if until is not None else self.now + timedelta(seconds=grace))
            for credential, until in told.secrets
        ]
        live = [pair for pair in superseded if pair[1] > self.now]
        refused: type[ServiceError] | None = None
        if told.revoked:
            refused = KeyRevoked
        elif len(live) >= 10:
            refused = Conflict
        issued = self.attempt(
            lambda: rotate_key(actor=HERE, key_id=told.id, grace_period_seconds=grace), refused
        )
        if refused is None:
            told.secrets = [*superseded, (issued.credential, None)]

    @rule(told=keys)
    def revoke(self, told):
        refused = KeyRevoked if told.revoked else None
        self.attempt(lambda: revoke_key(actor=HERE, key_id=told.id), refused)
        told.revoked = True

    @rule(told=keys, seconds=st.none() | st.integers(-100, 500))
    def expire(self, told, seconds):
        refused = KeyRevoked if told.revoked else None
        ends = None if seconds is None else self.now + timedelta(seconds=seconds)
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, expires_at=ends), refused)
        told.ends = told.ends if refused else ends

    @rule(told=consumes(keys))
    def delete(self, told):
        self.attempt(lambda: delete_key(actor=HERE, key_id=told.id), None)
        told.revoked = True  # nothing of it opens again

    @rule(seconds=st.sampled_from([1, 30, 60, 601]))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.traveller.move_to(self.now)

    @invariant()
    def every_secret_opens_exactly_when_it_should(self):
        for told in self.told:
            for credential, until in told.secrets:
                value = tokens.fingerprint(pepper()[1], credential.reveal().decode())
                identity = load_identity(value)
                assert (identity is not None) is told.is_open(until, self.now)
                if identity is not None:
                    assert (identity.key_id, identity.key_limits) == (told.id, told.limits)

    @invariant()
    def every_change_left_one_row_and_every_key_one_current_secret(self):
        rows = AuditEvent.objects.filter(scope=str(self.tenant.id))
        assert rows.filter(outcome="ok").count() == self.done
        assert rows.filter(outcome="refused").count() == self.refused
        for told in self.told:
            assert current_secrets(told.id) == APIKey.objects.filter(pk=told.id).count()


@pytest.mark.slow
@pytest.mark.django_db
def test_whatever_happens_to_keys_only_the_right_secrets_open_and_limits_stay():
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert audit.verify().findings == []
