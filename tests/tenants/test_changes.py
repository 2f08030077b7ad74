"""A change, its audit row and its epoch are one thing: all of them happen, or none."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, transaction

from keys import services as keys
from keys.services import Issued
from providers import model_services as models
from providers import services as providers
from providers.models import Model, Provider
from tenants import (
    audit,
    bus,
    changes,
    invitation_services,
    member_services,
    operator_services,
    service_tokens,
    session_services,
    sign_in,
)
from tenants import services as tenants
from tenants.actor import Actor, system_actor
from tenants.audit import Target
from tenants.changes import change
from tenants.errors import Conflict, Invalid, ServiceError
from tenants.invitation_services import Invited
from tenants.models import AuditEvent, ConfigChange, Membership, ServiceToken, Session, Tenant, User
from tests.cast import PASSWORD
from tests.support.contents import contents
from tests.support.threads import at_once

HERE = system_actor("story")


@dataclass
class Stage:
    """One of everything that can be changed."""

    tenant: Tenant
    key: Issued
    provider: Provider
    model: Model
    user: User
    session: Session
    place: Membership
    invited: Invited
    token: ServiceToken


@pytest.fixture
def stage(
    tenant: Tenant, key: Issued, operator: User, owner: User, tenant_owner: User, staging: Actor
) -> Stage:
    provider = providers.create_provider(
        actor=staging, name="main", kind="openai", api_key="sk-first-0123456789"
    )
    model = models.create_model(
        actor=staging, id="m", targets=[{"provider": "main", "upstream_model": "m-1"}]
    )
    providers.set_provider_config(
        actor=staging, tenant_id=tenant.id, provider="openai", api_key="sk-own-0123456789"
    )
    session = sign_in.sign_in(actor=staging, username=operator.username, password=PASSWORD).session
    place = member_services.create_member(
        actor=staging, tenant_id=tenant.id, username="a member", password=PASSWORD
    )
    invited = invitation_services.invite(actor=staging, tenant_id=tenant.id)
    token = service_tokens.issue_token(actor=staging, user=operator, name="nightly").token
    return Stage(tenant, key, provider, model, operator, session, place, invited, token)


#: Every function that changes something, as it succeeds on the stage.
MUTATIONS: dict[str, Callable[[Stage], object]] = {
    "tenant.created": lambda it: tenants.create_tenant(actor=HERE, name="New"),
    "tenant.updated": lambda it: tenants.update_tenant(
        actor=HERE, tenant_id=it.tenant.id, rate_limit_rpm=7
    ),
    "tenant.suspended": lambda it: tenants.update_tenant(
        actor=HERE, tenant_id=it.tenant.id, status="inactive"
    ),
    "tenant.deleted": lambda it: tenants.delete_tenant(actor=HERE, tenant_id=it.tenant.id),
    "key.issued": lambda it: keys.issue_key(actor=HERE, tenant_id=it.tenant.id, name="k"),
    "key.updated": lambda it: keys.update_key(actor=HERE, key_id=it.key.key.id, name="other"),
    "key.paused": lambda it: keys.update_key(actor=HERE, key_id=it.key.key.id, is_active=False),
    "key.rotated": lambda it: keys.rotate_key(
        actor=HERE, key_id=it.key.key.id, grace_period_seconds=60
    ),
    "key.revoked": lambda it: keys.revoke_key(actor=HERE, key_id=it.key.key.id),
    "key.deleted": lambda it: keys.delete_key(actor=HERE, key_id=it.key.key.id),
    "provider.created": lambda it: providers.create_provider(
        actor=HERE, name="second", kind="openai", api_key="sk-second-0123456789"
    ),
    "provider.updated": lambda it: providers.update_provider(
        actor=HERE, provider_id=it.provider.id, is_active=False
    ),
    "provider.credential_rotated": lambda it: providers.rotate_credential(
        actor=HERE, provider_id=it.provider.id, api_key="sk-third-0123456789"
    ),
    "provider.deleted": lambda it: providers.delete_provider(
        actor=HERE, provider_id=it.provider.id, unlink=True
    ),
    "provider_config.set": lambda it: providers.set_provider_config(
        actor=HERE, tenant_id=it.tenant.id, provider="openai", api_key="sk-next-0123456789"
    ),
    "provider_config.removed": lambda it: providers.remove_provider_config(
        actor=HERE, tenant_id=it.tenant.id
    ),
    "model.created": lambda it: models.create_model(actor=HERE, id="n"),
    "model.updated": lambda it: models.update_model(
        actor=HERE, model_id=it.model.id, context_window=4096
    ),
    "model.deleted": lambda it: models.delete_model(actor=HERE, model_id=it.model.id),
    "operator.created": lambda it: operator_services.create_operator(
        actor=HERE, username="new", password=PASSWORD
    ),
    "operator.sign_in": lambda it: sign_in.sign_in(
        actor=HERE, username=it.user.username, password=PASSWORD
    ),
    "operator.sign_out": lambda it: sign_in.sign_out(actor=HERE, session=it.session),
    "operator.password_changed": lambda it: sign_in.change_password(
        actor=HERE, user=it.user, current=PASSWORD, new="another lamp, another window", keep=None
    ),
    "operator.password_reset": lambda it: operator_services.reset_password(
        actor=HERE, username=it.user.username, password="another lamp, another window"
    ),
    "operator.updated": lambda it: operator_services.update_operator(
        actor=HERE, operator_id=it.user.id, role="viewer"
    ),
    "operator.removed": lambda it: operator_services.remove_operator(
        actor=HERE, operator_id=it.user.id
    ),
    "operator.signed_out": lambda it: operator_services.sign_out_everywhere(
        actor=HERE, user_id=it.user.id
    ),
    "session.ended": lambda it: session_services.end_session(
        actor=HERE, session_id=it.session.id, among=Session.objects.all()
    ),
    "service_token.issued": lambda it: service_tokens.issue_token(
        actor=HERE, user=it.user, name="hourly"
    ),
    "service_token.revoked": lambda it: service_tokens.revoke_token(
        actor=HERE, token_id=it.token.id, among=ServiceToken.objects.all()
    ),
    "member.created": lambda it: member_services.create_member(
        actor=HERE, tenant_id=it.tenant.id, username="another", password=PASSWORD
    ),
    "member.added": lambda it: member_services.add_member(
        actor=HERE, tenant_id=it.tenant.id, user=str(it.user.id)
    ),
    "member.updated": lambda it: member_services.update_member(
        actor=HERE, tenant_id=it.tenant.id, member_id=it.place.id, role="owner"
    ),
    "member.removed": lambda it: member_services.remove_member(
        actor=HERE, tenant_id=it.tenant.id, member_id=it.place.id
    ),
    "invitation.made": lambda it: invitation_services.invite(actor=HERE, tenant_id=it.tenant.id),
    "invitation.revoked": lambda it: invitation_services.revoke_invitation(
        actor=HERE, invitation_id=it.invited.invitation.id
    ),
    "invitation.accepted": lambda it: invitation_services.accept(
        actor=HERE,
        secret=it.invited.secret.reveal().decode(),
        username="a guest",
        password=PASSWORD,
    ),
    "operator.disabled": lambda it: operator_services.disable_operator(
        actor=HERE, username=it.user.username
    ),
}

#: No worker knows of sessions, members or service tokens, so these move no epoch.
QUIET = {
    *("operator.sign_in", "operator.sign_out", "operator.signed_out", "session.ended"),
    *(name for name in MUTATIONS if name.partition(".")[0] in ("service_token", "member")),
    *(name for name in MUTATIONS if name.startswith("invitation.")),
}
#: Who shows only then who they are, and is named from then on.
NAMED = {
    "operator.sign_in": ("operator", "the-operator"),
    "invitation.accepted": ("member", "a guest"),
}

every_mutation = pytest.mark.parametrize("action", MUTATIONS)


def rows_since(before: int) -> list[AuditEvent]:
    return list(AuditEvent.objects.order_by("created_at", "id")[before:])


@every_mutation
def test_a_change_leaves_exactly_one_row(stage, action):
    before = AuditEvent.objects.count()
    MUTATIONS[action](stage)
    (row,) = rows_since(before)
    assert (row.action, row.outcome, row.error_code) == (action, "ok", "")
    assert (row.actor_type, row.actor_label, row.method, row.source) == (
        *NAMED.get(action, ("system", "story")),
        "none",
        "system",
    )
    assert row.request_id == HERE.request_id
    assert row.target_id not in ("", "new", "unknown")
    assert audit.verify().findings == []


@every_mutation
def test_what_workers_must_read_anew_moves_the_epoch(stage, action):
    before = changes.epoch()
    MUTATIONS[action](stage)
    assert (changes.epoch() == before) is (action in QUIET)
    seqs = list(ConfigChange.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))


@every_mutation
@pytest.mark.parametrize("fault", [OperationalError("full"), IntegrityError("taken")])
def test_without_its_row_nothing_is_changed(stage, action, fault, monkeypatch):
    before = contents()

    def fail(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr(AuditEvent, "save", fail)
    with pytest.raises(DatabaseError), transaction.atomic():
        MUTATIONS[action](stage)
    assert contents() == before


@pytest.mark.parametrize("action", [name for name in MUTATIONS if name not in QUIET])
def test_without_its_epoch_nothing_is_changed(stage, action, monkeypatch):
    before = contents()

    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("full")

    monkeypatch.setattr(ConfigChange.objects, "bulk_create", fail)
    with pytest.raises(DatabaseError), transaction.atomic():
        MUTATIONS[action](stage)
    assert contents() == before


GONE = uuid4()
REFUSED: dict[str, tuple[Callable[[Stage], object], str]] = {
    "a tenant without a name": (
        lambda it: tenants.create_tenant(actor=HERE, name=""),
        "invalid_request",
    ),
    "a taken slug": (lambda it: tenants.create_tenant(actor=HERE, name="Acme"), "conflict"),
    "a second field that is wrong": (
        lambda it: tenants.update_tenant(
            actor=HERE, tenant_id=it.tenant.id, name="Renamed", rate_limit_rpm=0
        ),
        "invalid_request",
    ),
    "a patch of nothing": (
        lambda it: tenants.update_tenant(actor=HERE, tenant_id=it.tenant.id),
        "invalid_request",
    ),
    "an unknown tenant": (
        lambda it: keys.issue_key(actor=HERE, tenant_id=GONE, name="k"),
        "not_found",
    ),
    "an unknown key": (lambda it: keys.revoke_key(actor=HERE, key_id=GONE), "not_found"),
    "a grace that is no number": (
        lambda it: keys.rotate_key(actor=HERE, key_id=it.key.key.id, grace_period_seconds="1"),
        "invalid_request",
    ),
    "a reason that is no text": (
        lambda it: keys.revoke_key(actor=HERE, key_id=it.key.key.id, reason=5),
        "invalid_request",
    ),
    "a taken provider": (
        lambda it: providers.create_provider(actor=HERE, name="main", kind="openai"),
        "conflict",
    ),
    "a provider in use": (
        lambda it: providers.delete_provider(actor=HERE, provider_id=it.provider.id),
        "provider_in_use",
    ),
    "a credential with a line break": (
        lambda it: providers.rotate_credential(
            actor=HERE, provider_id=it.provider.id, api_key="sk-1\r\nx: y"
        ),
        "invalid_request",
    ),
    "a target that is not there": (
        lambda it: models.update_model(
            actor=HERE,
            model_id=it.model.id,
            context_window=1,
            targets=[{"provider": "nobody", "upstream_model": "x"}],
        ),
        "invalid_request",
    ),
    "a weak password": (
        lambda it: operator_services.create_operator(actor=HERE, username="new", password="short"),
        "invalid_request",
    ),
    "a wrong password": (
        lambda it: sign_in.sign_in(actor=HERE, username=it.user.username, password="wrong"),
        "invalid_credentials",
    ),
    "an unknown name": (
        lambda it: sign_in.sign_in(actor=HERE, username="nobody", password="wrong"),
        "invalid_credentials",
    ),
    "a wrong current password": (
        lambda it: sign_in.change_password(
            actor=HERE, user=it.user, current="wrong", new="another lamp", keep=None
        ),
        "invalid_credentials",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_leaves_one_refused_row_and_nothing_else(stage, case):
    attempt, code = REFUSED[case]
    audit_tables = ("tenants_auditevent", "tenants_audithead", "tenants_signintry")
    before, rows = contents(*audit_tables), AuditEvent.objects.count()
    with pytest.raises(ServiceError):
        attempt(stage)
    assert contents(*audit_tables) == before
    (row,) = rows_since(rows)
    assert (row.outcome, row.error_code) == ("refused", code)
    assert audit.verify().findings == []


def test_a_refusal_that_cannot_be_written_down_still_reaches_the_caller(tenant, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise OperationalError("full")

    before = contents()
    monkeypatch.setattr(AuditEvent, "save", fail)
    with pytest.raises(Invalid):
        tenants.update_tenant(actor=HERE, tenant_id=tenant.id)
    assert contents() == before


@pytest.mark.django_db(transaction=True)
def test_what_fails_in_the_middle_leaves_nothing_at_all():
    """Neither refused nor done: the program itself was wrong, and the log of the process says so."""
    tenants.create_tenant(actor=HERE, name="Acme")
    before = contents()
    with pytest.raises(ZeroDivisionError):
        _change_that_fails()
    assert contents() == before


def _change_that_fails() -> None:
    with change(HERE, "tenant.updated", Target("tenant", "x")) as it:
        Tenant.objects.update(name="Renamed")
        it.touch("tenant", GONE, None)
        _ = 1 // 0


@pytest.mark.django_db(transaction=True)
def test_the_row_goes_into_the_chain_of_the_tenant_that_it_is_about():
    tenant = tenants.create_tenant(actor=HERE, name="Acme")
    keys.issue_key(actor=HERE, tenant_id=tenant.id, name="k")
    issued = keys.issue_key(actor=HERE, tenant_id=tenant.id, name="k")
    keys.revoke_key(actor=HERE, key_id=issued.key.id)
    providers.create_provider(actor=HERE, name="shared", kind="demo")
    scopes = AuditEvent.objects.order_by("created_at", "id").values_list("scope", flat=True)
    assert list(scopes) == [str(tenant.id)] * 4 + [audit.PLATFORM]


# --- the epoch --------------------------------------------------------------------------------------------------------


def _touching(number: int) -> Callable[[], list[int]]:
    """Five changes; returns what the epoch was right after each commit."""

    def work() -> list[int]:
        seen = []
        for _ in range(5):
            with change(HERE, "x", Target("x", str(number))) as it:
                for _ in range(random.randint(1, 3)):
                    it.touch("x", uuid4(), None)
            seen.append(changes.epoch())
        return seen

    return work


@pytest.mark.django_db(transaction=True)
def test_eight_writers_make_an_epoch_without_gaps_and_a_reader_misses_none():
    def read() -> list[int]:
        """What a worker sees that always asks for what came after the last it saw."""
        seen: list[int] = []
        for _ in range(200):
            last = seen[-1] if seen else 0
            newer = ConfigChange.objects.filter(seq__gt=last).order_by("seq")
            seen += newer.values_list("seq", flat=True)
        return seen

    *_, seen = at_once(*(_touching(number) for number in range(8)), read)
    total = ConfigChange.objects.count()
    seqs = list(ConfigChange.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, total + 1))
    assert changes.epoch() == total
    assert seen == list(range(1, len(seen) + 1))
    assert audit.verify().findings == []


@pytest.mark.django_db(transaction=True)
def test_no_two_locks_cross_when_everybody_changes_everything():
    """Different tables in different orders: without the queue, PostgreSQL would call a deadlock."""
    tenant = tenants.create_tenant(actor=HERE, name="Acme")
    issued = [keys.issue_key(actor=HERE, tenant_id=tenant.id, name=f"k{n}") for n in range(2)]

    def forth() -> None:
        for _ in range(6):
            keys.rotate_key(actor=HERE, key_id=issued[0].key.id)
            tenants.update_tenant(actor=HERE, tenant_id=tenant.id, rate_limit_rpm=5)

    def back() -> None:
        for _ in range(6):
            tenants.update_tenant(actor=HERE, tenant_id=tenant.id, rate_limit_rpm=6)
            keys.update_key(actor=HERE, key_id=issued[1].key.id, rate_limit_rpm=6)

    at_once(forth, back, forth, back)
    assert AuditEvent.objects.filter(outcome="ok").count() == 3 + 4 * 12
    assert audit.verify().findings == []


# --- telling others ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0",
        "redis://user:hunter2@256.256.256.256:6379/0",
        "redis://127.0.0.1:notaport/0",
        "nonsense",
        "unix:///nowhere/redis.sock",
    ],
)
def test_a_broken_redis_never_fails_a_change(settings, url, caplog):
    settings.REDIS_URL = url
    tenant = tenants.create_tenant(actor=HERE, name="Acme")
    assert Tenant.objects.filter(pk=tenant.pk).exists()
    assert changes.epoch() == 1
    assert "not announced" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_whatever_goes_wrong_in_telling_others_the_change_is_made(monkeypatch, caplog):
    def fail(epoch: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bus, "announce", fail)
    tenants.create_tenant(actor=HERE, name="Acme")
    assert Tenant.objects.filter(slug="acme").exists()
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
def test_the_epoch_is_told_after_the_commit_and_a_refusal_tells_nothing(settings, redis_space):
    settings.REDIS_URL, settings.REDIS_PREFIX = redis_space.url, redis_space.prefix
    with redis_space.client() as client, client.pubsub() as subscription:
        subscription.subscribe(bus.channel())
        assert subscription.get_message(timeout=5)["type"] == "subscribe"
        tenants.create_tenant(actor=HERE, name="Acme")
        message = subscription.get_message(timeout=5)
        assert (message["channel"].decode(), int(message["data"])) == (
            f"{redis_space.prefix}epoch",
            changes.epoch(),
        )
        with pytest.raises(Conflict):
            tenants.create_tenant(actor=HERE, name="Acme")
        assert subscription.get_message(timeout=0.2) is None


@pytest.mark.django_db(transaction=True)
def test_nothing_is_told_of_a_change_that_is_rolled_back(settings, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(bus, "announce", told.append)
    with transaction.atomic():
        tenants.create_tenant(actor=HERE, name="Acme")
        transaction.set_rollback(True)
    assert told == []
    assert not Tenant.objects.filter(slug="acme").exists()
    tenants.create_tenant(actor=HERE, name="Acme")
    assert told == [changes.epoch()]


@pytest.mark.django_db
def test_a_change_without_anything_to_read_anew_leaves_the_epoch():
    with change(HERE, "x", Target("x", "x")):
        pass
    assert changes.epoch() == 0
