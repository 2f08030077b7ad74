"""Keys over the admin API: issued, shown, changed, rotated, revoked."""

import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import time_machine
from django.db import connections

from keys import tokens
from keys.models import APIKey, KeySecret
from keys.services import issue_key, pepper, revoke_key, rotate_key
from tenants.models import Account, Project
from tenants.services import create_tenant

FIELDS = {
    "id",
    "object",
    "tenant",
    "project",
    "account",
    "name",
    "team",
    "key_prefix",
    "status",
    "is_active",
    "source",
    "scopes",
    "allowed_models",
    "allowed_capabilities",
    "allowed_addresses",
    "rate_limits",
    "rate_limit_rpm",
    "daily_limit",
    "burst",
    "rate_limit_tpm",
    "max_concurrency",
    "tokens_budget",
    "tokens_budget_day",
    "tokens_budget_total",
    "cost_budget_usd",
    "cost_budget_day_usd",
    "cost_budget_total_usd",
    "clamp_to_budget",
    "log_content",
    "expires_at",
    "created_at",
    "created_by",
    "revoked_at",
    "revoked_by",
    "revoked_reason",
    "last_used_at",
    "previous_secret_expires_at",
}


def _opens(key_id: UUID, credential: str) -> bool:
    """Whether the credential is a secret of that key that still works."""
    secret = KeySecret.objects.filter(
        key_id=key_id, fingerprint=tokens.fingerprint(pepper()[1], credential)
    ).first()
    return secret is not None and (secret.not_after is None or secret.not_after > datetime.now(UTC))


def test_a_new_key_is_shown_once(api, operator, tenant):
    answer = api.post(f"tenants/{tenant.id}/api-keys", {"name": "first", "team": "blue"})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == FIELDS | {"key"}
    credential = body.pop("key")
    assert tokens.is_well_formed(credential, tokens.Kind.TENANT_KEY)
    assert body["key_prefix"] == credential[:10]
    assert (body["object"], body["status"], body["source"]) == ("key", "active", "admin")
    assert (body["tenant"], body["team"]) == (str(tenant.id), "blue")
    assert body["scopes"] == ["inference", "usage"]
    assert body["created_by"] == {
        "type": "operator",
        "id": str(operator.id),
        "label": "the-operator",
    }
    for later in (
        api.get(f"keys/{body['id']}"),
        api.get("keys"),
        api.get(f"tenants/{tenant.id}/api-keys"),
        api.patch(f"keys/{body['id']}", {"name": "second"}),
        api.post(f"keys/{body['id']}/revoke"),
    ):
        assert later.status_code == 200
        assert credential not in later.content.decode()
    assert api.get(f"keys/{body['id']}").json()["key_prefix"] == body["key_prefix"]


def test_a_key_of_an_unknown_tenant_is_a_404(api):
    assert api.post(f"tenants/{uuid4()}/api-keys", {"name": "first"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "k", "team": "a b"}, "team"),
        ({"name": "k", "team": "x" * 65}, "team"),
        ({"name": "k", "scopes": []}, "scopes"),
        ({"name": "k", "scopes": None}, "scopes"),
        ({"name": "k", "scopes": ["all"]}, "scopes"),
        ({"name": "k", "allowed_models": []}, "allowed_models"),
        ({"name": "k", "allowed_models": ["x" * 129]}, "allowed_models"),
        ({"name": "k", "allowed_models": ["a*b"]}, "allowed_models"),
        ({"name": "k", "allowed_models": ["m"] * 65}, "allowed_models"),
        ({"name": "k", "allowed_addresses": ["here"]}, "allowed_addresses"),
        ({"name": "k", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "k", "expires_at": "2026-01-01T00:00:00"}, "expires_at"),
        ({"name": "k", "expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
        ({"name": "k", "expires_at": 1}, "expires_at"),
        ({"name": "k", "project": str(uuid4())}, "project"),
        ({"name": "k", "project": {"a": 1}}, "project"),
        ({"name": "k", "source": "config"}, "source"),
        ({"name": "k", "is_active": False}, "is_active"),
        ({"name": "k", "created_by": "me"}, "created_by"),
        ({"name": "k", "tenant_id": str(uuid4())}, "tenant_id"),
        ({"name": "k", "revoked_at": None}, "revoked_at"),
    ],
)
def test_a_key_that_cannot_be_is_a_400_that_names_the_field(api, tenant, body, field):
    answer = api.post(f"tenants/{tenant.id}/api-keys", body)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    assert not APIKey.objects.exists()


def test_project_and_account_must_be_the_tenant_s_own(api, tenant, outsider):
    own = Project.objects.create(tenant=tenant, name="p")
    foreign = Project.objects.create(tenant=outsider, name="p")
    payer = Account.objects.create(tenant=outsider, username="payer")
    path = f"tenants/{tenant.id}/api-keys"
    unknown = api.post(path, {"name": "k", "project": str(uuid4())}).json()["error"]
    assert api.post(path, {"name": "k", "project": str(foreign.id)}).json()["error"] == unknown
    assert api.post(path, {"name": "k", "account": str(payer.id)}).status_code == 400
    body = api.post(path, {"name": "k", "project": str(own.id)}).json()
    assert body["project"] == str(own.id)


def test_keys_are_listed_without_any_form_of_their_secret(api, tenant, key):
    secret = KeySecret.objects.get()
    text = api.get(f"tenants/{tenant.id}/api-keys").content.decode()
    text += api.get("keys").content.decode() + api.get(f"keys/{key.key.id}").content.decode()
    assert key.credential.reveal().decode() not in text
    assert bytes(secret.fingerprint).hex() not in text
    assert "fingerprint" not in text
    assert "hash" not in text
    assert str(secret.id) not in text


def test_the_list_of_a_tenant_holds_its_keys_and_no_other(api, tenant, outsider, key, staging):
    issue_key(actor=staging, tenant_id=outsider.id, name="theirs")
    body = api.get(f"tenants/{tenant.id}/api-keys").json()
    assert [row["id"] for row in body["data"]] == [str(key.key.id)]
    assert body["total"] == 1


def test_keys_are_found_by_tenant_team_project_account_and_life(api, tenant, outsider, staging):
    project = Project.objects.create(tenant=tenant, name="rocket")
    payer = Account.objects.create(tenant=tenant, username="payer")
    wanted: dict[str, dict] = {
        "plain": {},
        "teamed": {"team": "blue"},
        "projected": {"project": str(project.id)},
        "paid": {"account": str(payer.id)},
        "expired": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)},
        "expiring": {"expires_at": datetime.now(UTC) + timedelta(hours=1)},
        "paused": {},
        "revoked": {},
        "foreign": {},
    }
    made = {
        name: issue_key(
            actor=staging,
            tenant_id=outsider.id if name == "foreign" else tenant.id,
            name=name,
            **fields,
        ).key
        for name, fields in wanted.items()
    }
    api.patch(f"keys/{made['paused'].id}", {"is_active": False})
    revoke_key(actor=staging, key_id=made["revoked"].id)

    def found(query: str) -> set[str]:
        return {row["name"] for row in api.get(f"keys?{query}").json()["data"]}

    assert found("") == set(made)
    assert found("tenant=acme") == found(f"tenant={tenant.id}") == set(made) - {"foreign"}
    assert found("team=blue") == {"teamed"}
    assert found("project=rocket") == found(f"project={project.id}") == {"projected"}
    assert found("account=payer") == found(f"account={payer.id}") == {"paid"}
    assert found("active_only=true") == set(made) - {"expired", "paused", "revoked"}
    assert found("active_only=false") == set(made)
    assert found("tenant=nobody") == set()
    assert found("tenant=acme&team=blue&active_only=true") == {"teamed"}
    assert api.get("keys?active_only=1").status_code == 400
    states = {row["name"]: row["status"] for row in api.get("keys").json()["data"]}
    assert states["expired"] == "expired"
    assert (states["paused"], states["revoked"]) == ("paused", "revoked")


def test_a_key_is_revoked_once_and_stays_to_be_seen(api, operator, tenant, key):
    path = f"tenants/{tenant.id}/api-keys/{key.key.id}"
    first = api.delete(path)
    assert (first.status_code, first.content) == (204, b"")
    shown = api.get(f"keys/{key.key.id}").json()
    assert shown["status"] == "revoked"
    assert shown["revoked_by"] == {
        "type": "operator",
        "id": str(operator.id),
        "label": "the-operator",
    }
    again = api.delete(path)
    error = again.json()["error"]
    assert (again.status_code, error["code"]) == (409, "key_revoked")
    assert error["revoked_at"] == shown["revoked_at"]


def test_a_key_is_revoked_with_a_reason(api, key):
    answer = api.post(f"keys/{key.key.id}/revoke", {"reason": "leaked"})
    body = answer.json()
    assert (answer.status_code, set(body), body["ok"]) == (200, {"ok", "revoked_at"}, True)
    shown = api.get(f"keys/{key.key.id}").json()
    assert (shown["revoked_reason"], shown["revoked_at"]) == ("leaked", body["revoked_at"])
    again = api.post(f"keys/{key.key.id}/revoke")
    assert (again.status_code, again.json()["error"]["revoked_at"]) == (409, body["revoked_at"])


@pytest.mark.parametrize("body", [{"reason": 7}, {"reason": "x" * 257}, {"why": "x"}])
def test_a_bad_reason_revokes_nothing(api, key, body):
    assert api.post(f"keys/{key.key.id}/revoke", body).status_code == 400
    assert api.get(f"keys/{key.key.id}").json()["status"] == "active"


def test_a_key_is_deleted_for_good(api, tenant, key):
    path = f"tenants/{tenant.id}/api-keys/{key.key.id}?permanent=true"
    assert api.delete(path).status_code == 204
    assert api.get(f"keys/{key.key.id}").status_code == 404
    assert api.delete(path).status_code == 404
    assert not KeySecret.objects.exists()


def test_a_tenant_cannot_end_the_key_of_another(api, outsider, key):
    for query in ("", "?permanent=true"):
        assert api.delete(f"tenants/{outsider.id}/api-keys/{key.key.id}{query}").status_code == 404
    assert api.get(f"keys/{key.key.id}").json()["status"] == "active"


def test_a_revoked_key_can_neither_be_changed_nor_rotated(api, key):
    api.post(f"keys/{key.key.id}/revoke")
    for answer in (
        api.patch(f"keys/{key.key.id}", {"name": "x"}),
        api.post(f"keys/{key.key.id}/rotate"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "key_revoked")
        assert answer.json()["error"]["revoked_at"]


def test_in_a_patch_absent_stays_null_clears_and_a_value_sets(api, key):
    path = f"keys/{key.key.id}"
    moment = "2030-01-31T12:00:00Z"
    values = {
        "rate_limit_rpm": 7,
        "max_concurrency": 3,
        "allowed_models": ["gpt-*", "o1"],
        "allowed_capabilities": ["chat"],
        "allowed_addresses": ["192.0.2.0/24"],
        "expires_at": moment,
    }
    before = api.get(path).json()
    assert api.patch(path, values).json() == {**before, **values}
    assert api.patch(path, {"name": "renamed"}).json() == {**before, **values, "name": "renamed"}
    cleared = dict.fromkeys(values)
    assert api.patch(path, cleared).json() == {**before, "name": "renamed"}


def test_pausing_is_reversible_and_survives_rotation(api, key):
    path = f"keys/{key.key.id}"
    assert api.patch(path, {"is_active": False}).json()["status"] == "paused"
    assert api.post(f"{path}/rotate").json()["status"] == "paused"
    assert api.patch(path, {"is_active": True}).json()["status"] == "active"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": str(uuid4())},
        {"tenant": "acme"},
        {"team": "red"},
        {"source": "config"},
        {"created_by": None},
        {"status": "active"},
        {"revoked_at": None},
        {"last_used_at": None},
        {"name": None},
        {"scopes": None},
        {"is_active": None},
        {"is_active": []},
        {"is_active": 1},
        {"log_content": None},
        {"key_id": str(uuid4())},
        {"actor": None},
    ],
)
def test_a_patch_of_nothing_or_of_what_is_fixed_is_a_400(api, key, body):
    before = api.get(f"keys/{key.key.id}").json()
    answer = api.patch(f"keys/{key.key.id}", body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) == set(body)
    assert api.get(f"keys/{key.key.id}").json() == before


def test_a_key_of_the_configuration_file_can_only_be_revoked(api, tenant, staging):
    made = issue_key(actor=staging, tenant_id=tenant.id, name="k", source="config").key
    for answer in (
        api.patch(f"keys/{made.id}", {"name": "x"}),
        api.post(f"keys/{made.id}/rotate"),
        api.delete(f"tenants/{tenant.id}/api-keys/{made.id}?permanent=true"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "managed_by_config")
    assert api.post(f"keys/{made.id}/revoke").status_code == 200


def test_rotation_keeps_the_id_and_everything_but_the_secret(api, key):
    path = f"keys/{key.key.id}"
    api.patch(path, {"rate_limit_rpm": 9, "allowed_models": ["o1"], "scopes": ["inference"]})
    before = api.get(path).json()
    answer = api.post(f"{path}/rotate")
    body = answer.json()
    credential = body.pop("key")
    assert answer.status_code == 201
    assert body == {**before, "key_prefix": credential[:10]}
    assert body == api.get(path).json()
    assert _opens(key.key.id, credential)
    assert not _opens(key.key.id, key.credential.reveal().decode())


def test_the_old_secret_works_on_for_the_grace_period(api, operator, key):
    old = key.credential.reveal().decode()
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC), tick=False):
        api = api.signed_in(operator)
        body = api.post(f"keys/{key.key.id}/rotate", {"grace_period_seconds": 60}).json()
        assert body["previous_secret_expires_at"] == "2030-01-01T00:01:00Z"
        assert _opens(key.key.id, old)
    with time_machine.travel(datetime(2030, 1, 1, 0, 1, 1, tzinfo=UTC)):
        assert not _opens(key.key.id, old)
        assert api.get(f"keys/{key.key.id}").json()["previous_secret_expires_at"] is None


@pytest.mark.parametrize("value", [-1, 604_801, 1.0, "60", True, None, []])
def test_a_grace_beyond_seven_days_or_no_integer_is_a_400(api, key, value):
    answer = api.post(f"keys/{key.key.id}/rotate", {"grace_period_seconds": value})
    assert answer.status_code == 400
    assert _opens(key.key.id, key.credential.reveal().decode())


def test_of_two_rotations_the_last_wins(api, key):
    first, second = (api.post(f"keys/{key.key.id}/rotate").json()["key"] for _ in range(2))
    assert not _opens(key.key.id, first)
    assert _opens(key.key.id, second)
    assert KeySecret.objects.filter(key_id=key.key.id).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_rotations_at_once_leave_one_live_secret(staging):
    tenant = create_tenant(actor=staging, name="Busy")
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="k", rate_limit_rpm=5)
    made: list[str] = []
    ready = threading.Barrier(2)

    def rotate() -> None:
        try:
            ready.wait(10)
            made.append(
                rotate_key(actor=staging, key_id=issued.key.id).credential.reveal().decode()
            )
        finally:
            connections.close_all()

    threads = [threading.Thread(target=rotate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 2
    assert [_opens(issued.key.id, credential) for credential in made].count(True) == 1
    assert not _opens(issued.key.id, issued.credential.reveal().decode())
    assert APIKey.objects.get(pk=issued.key.id).rate_limit_rpm == 5


@pytest.mark.parametrize("path", ["keys/{id}", "keys/{id}/usage"])
@pytest.mark.parametrize("reference", [uuid4(), "1", "first", "%00", "gwk_abcdef"])
def test_an_unknown_key_is_a_404(api, key, path, reference):
    assert api.get(path.format(id=reference)).status_code == 404
