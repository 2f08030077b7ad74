"""The life of keys at random, beside a model that only remembers what was decided: who opens, with which grants, on what record.

`make fuzz-keys` runs it for longer; docs/evidence/key-life.md has what came of that.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import time_machine
from django.core import serializers
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from keys import tokens
from keys.chain import load_identity
from keys.errors import KeyRevoked, ManagedByConfig
from keys.models import APIKey, KeySecret
from keys.services import (
    SCOPES,
    delete_key,
    issue_key,
    pepper,
    revoke_key,
    rotate_key,
    update_key,
)
from tenants import audit
from tenants.actor import system_actor
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.limits import BudgetLimit, LimitSet, Rate
from tenants.models import AuditEvent
from tenants.sealing import Secret
from tenants.services import create_tenant
from tests.gateway.api.calls import rollup
from usage import spending

HERE = system_actor("story")
T0 = datetime(2026, 6, 1, tzinfo=UTC)
EXAMPLES = int(os.environ.get("KEY_LIFE_EXAMPLES", "10"))
STEPS = int(os.environ.get("KEY_LIFE_STEPS", "15"))
#: What the longer run did, told at its end.
DONE: Counter[str] = Counter()

LIMIT = st.none() | st.integers(1, 10**6)
GRANTS: dict[str, st.SearchStrategy[Any]] = {
    "rate_limit_rpm": LIMIT,
    "tokens_budget": LIMIT,
    "scopes": st.lists(st.sampled_from(SCOPES), min_size=1, unique=True),
    "allowed_models": st.none() | st.lists(st.sampled_from(["gpt-*", "o3", "*"]), min_size=1),
    "allowed_capabilities": st.none() | st.sampled_from([["chat"], ["chat", "embedding"]]),
    "allowed_addresses": st.none() | st.sampled_from([["10.0.0.0/8"], ["::1/128"]]),
}
#: Each field absent or there; null where it is a value.
EDITS = st.fixed_dictionaries({}, optional=GRANTS)
#: One of them cannot be.
WRONG = st.sampled_from(
    [
        *({"rate_limit_rpm": it} for it in (0, -1, 0.5, 10.0, True, "5", 10**7, float("nan"))),
        *({"scopes": it} for it in ([], None, ["admin"], ["all"], "usage")),
        *({"allowed_models": it} for it in ([], ["a*b"], [""], ["x" * 129], "gpt")),
        *({"team": "x"}, {"source": "admin"}, {"id": "x"}, {"key": "x"}, {"is_active": None}),
        {},
    ]
)


@dataclass
class Told:
    """What was decided about a key."""

    id: UUID
    grants: dict[str, Any]
    ends: datetime | None
    is_config: bool = False
    paused: bool = False
    revoked: bool = False
    secrets: list[tuple[Secret, datetime | None]] = field(default_factory=list)
    spent: int = 0

    @property
    def limits(self) -> LimitSet:
        rpm, budget = self.grants["rate_limit_rpm"], self.grants["tokens_budget"]
        return LimitSet(
            rates=() if rpm is None else (Rate(rpm, 60),),
            budgets=() if budget is None else (BudgetLimit("tokens", "month", budget),),
        )

    def is_open(self, until: datetime | None, now: datetime) -> bool:
        ends = [moment for moment in (until, self.ends) if moment is not None]
        return not self.paused and not self.revoked and all(moment > now for moment in ends)

    def refusal(self) -> type[ServiceError] | None:
        """Of a change or a rotation."""
        if self.revoked:
            return KeyRevoked
        return ManagedByConfig if self.is_config else None


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
        self.rows: Counter[str] = Counter(ok=1)  # the tenant itself is a change
        self.shown: list[str] = []
        DONE["stories"] += 1

    def teardown(self) -> None:
        try:
            self.what_was_spent_stays_spent()
            self.no_credential_is_anywhere()
        finally:
            self.clock.stop()

    def attempt(self, work: Callable[[], Any], refused: type[ServiceError] | None) -> Any:
        DONE["steps"] += 1
        self.rows["refused" if refused else "ok"] += 1
        if refused is None:
            return work()
        with pytest.raises(refused):
            work()
        return None

    def show(self, credential: Secret) -> Secret:
        """The one sight of it."""
        text = credential.reveal().decode()
        assert text not in self.shown
        self.shown.append(text)
        return credential

    # --- what can happen

    @rule(
        target=keys,
        grants=st.fixed_dictionaries(GRANTS),
        seconds=st.none() | st.integers(1, 500),
        is_config=st.sampled_from([False, False, False, True]),
    )
    def issue(self, grants, seconds, is_config):
        ends = None if seconds is None else self.now + timedelta(seconds=seconds)
        issued = self.attempt(
            lambda: issue_key(
                actor=HERE,
                tenant_id=self.tenant.id,
                name="k",
                source="config" if is_config else "admin",
                expires_at=ends,
                **grants,
            ),
            None,
        )
        told = Told(issued.key.id, grants, ends, is_config)
        told.secrets.append((self.show(issued.credential), None))
        self.told.append(told)
        return told

    @rule(told=keys, edits=EDITS)
    def edit(self, told, edits):
        refused = told.refusal() or (None if edits else Invalid)
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, **edits), refused)
        if refused is None:
            told.grants = {**told.grants, **edits}

    @rule(told=keys, wrong=WRONG, edits=EDITS)
    def edit_wrongly(self, told, wrong, edits):
        """Nothing of it is done, also not what was right."""
        fields = {**edits, **wrong} if wrong else {}
        refused = told.refusal() or Invalid
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, **fields), refused)

    @rule(told=keys, paused=st.booleans())
    def pause_or_resume(self, told, paused):
        refused = told.refusal()
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, is_active=not paused), refused)
        told.paused = told.paused if refused else paused

    @rule(told=keys, grace=st.sampled_from([0, 1, 60, 600]))
    def rotate(self, told, grace):
        superseded = [
            (credential, until if until is not None else self.now + timedelta(seconds=grace))
            for credential, until in told.secrets
        ]
        live = [pair for pair in superseded if pair[1] > self.now]
        refused = told.refusal() or (Conflict if len(live) >= 10 else None)
        issued = self.attempt(
            lambda: rotate_key(actor=HERE, key_id=told.id, grace_period_seconds=grace), refused
        )
        if refused is None:
            told.secrets = [*superseded, (self.show(issued.credential), None)]

    @rule(told=keys)
    def revoke(self, told):
        refused = KeyRevoked if told.revoked else None
        self.attempt(lambda: revoke_key(actor=HERE, key_id=told.id), refused)
        told.revoked = True

    @rule(told=keys, seconds=st.none() | st.integers(-100, 500))
    def expire(self, told, seconds):
        refused = told.refusal()
        ends = None if seconds is None else self.now + timedelta(seconds=seconds)
        self.attempt(lambda: update_key(actor=HERE, key_id=told.id, expires_at=ends), refused)
        told.ends = told.ends if refused else ends

    @rule(target=keys, told=consumes(keys))
    def delete(self, told):
        refused = ManagedByConfig if told.is_config else None
        self.attempt(lambda: delete_key(actor=HERE, key_id=told.id), refused)
        if refused:
            return told
        told.revoked = True  # nothing of it opens again
        return multiple()

    @rule(told=keys, tokens_in=st.integers(1, 1000))
    def spend(self, told, tokens_in):
        DONE["steps"] += 1
        values = {"requests": 1, "tokens_in": tokens_in, "tokens_out": 0, "model": f"m{told.spent}"}
        rollup(f"{self.now:%Y-%m}", told.id, tenant_id=self.tenant.id, **values)
        told.spent += tokens_in
        self.what_was_spent_stays_spent()

    @rule(seconds=st.sampled_from([1, 30, 60, 601]))
    def wait(self, seconds):
        DONE["steps"] += 1
        self.now += timedelta(seconds=seconds)
        self.traveller.move_to(self.now)

    # --- what is always so

    @invariant()
    def every_secret_opens_exactly_when_it_should_and_grants_exactly_what_was_decided(self):
        pepper_key = pepper()[1]
        for told in self.told:
            for credential, until in told.secrets:
                value = tokens.fingerprint(pepper_key, credential.reveal().decode())
                identity = load_identity(value)
                assert (identity is not None) is told.is_open(until, self.now)
                if identity is None:
                    continue
                assert (identity.key_id, identity.key_limits) == (told.id, told.limits)
                assert identity.scopes == frozenset(told.grants["scopes"])
                models = told.grants["allowed_models"]
                assert identity.allowed_models == (
                    () if models is None else (tuple(dict.fromkeys(models)),)
                )
                capabilities = told.grants["allowed_capabilities"]
                assert identity.allowed_capabilities == (
                    None if capabilities is None else frozenset(capabilities)
                )
                addresses = told.grants["allowed_addresses"]
                assert len(identity.allowed_networks) == (addresses is not None)

    def what_was_spent_stays_spent(self):
        for told in self.told:
            assert spending.standing_of(told.id, self.now).spent.tokens == told.spent

    @invariant()
    def every_change_left_one_row_and_every_key_one_current_secret(self):
        rows = AuditEvent.objects.filter(scope=str(self.tenant.id))
        for outcome in ("ok", "refused"):
            assert rows.filter(outcome=outcome).count() == self.rows[outcome]
        for told in self.told:
            current = KeySecret.objects.filter(key_id=told.id, not_after=None).count()
            assert current == APIKey.objects.filter(pk=told.id).count()

    def no_credential_is_anywhere(self):
        rows = [*APIKey.objects.all(), *KeySecret.objects.all(), *AuditEvent.objects.all()]
        text = serializers.serialize("json", rows)
        assert not [shown for shown in self.shown if shown in text]


@pytest.mark.slow
@pytest.mark.django_db
def test_whatever_happens_to_keys_only_the_right_secrets_open_and_grants_are_what_was_decided():
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert audit.verify().findings == []
    assert DONE["stories"] >= EXAMPLES
    print(f"{DONE['stories']:,} stories, {DONE['steps']:,} steps")  # noqa: T201 - read with -s
