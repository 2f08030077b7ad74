"""Tenants over the admin API."""

from datetime import datetime
from uuid import uuid4

import pytest

from keys.models import APIKey
from keys.services import issue_key, revoke_key
from tenants.models import AuditEvent, RootSecret, Tenant

FIELDS = {
    "id",
    "object",
    "name",
    "slug",
    "status",
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
    "allowed_models",
    "allowed_addresses",
    "content_logging",
    "content_retention_days",
    "oidc_issuer",
    "oidc_audience",
    "oidc_default_scopes",
    "created_at",
}


def test_a_tenant_is_made_with_its_defaults(api):
    answer = api.post("tenants", {"name": "Blue Heron"})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == FIELDS
    assert (body["name"], body["slug"], body["status"]) == ("Blue Heron", "blue-heron", "active")
    assert (body["rate_limit_rpm"], body["max_concurrency"]) == (120, None)
    assert (body["content_logging"], body["content_retention_days"]) == (False, 30)
    assert body["created_at"].endswith("Z")


def test_a_tenant_is_made_with_every_field(api):
    fields = {
        "name": "Blue",
        "slug": "blue",
        "status": "inactive",
        "rate_limit_rpm": None,
        "max_concurrency": 7,
        "allowed_models": ["gpt-*"],
        "allowed_addresses": ["10.0.0.0/8"],
        "content_logging": True,
        "content_retention_days": 7,
        "tokens_budget": None,
        "cost_budget_usd": "12.5",
    }
    body = api.post("tenants", fields).json()
    assert {name: body[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "a\u202eb"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "Blue", "slug": "Not A Slug"}, "slug"),
        ({"name": "Blue", "slug": None}, "slug"),
        ({"name": "Blue", "status": "gone"}, "status"),
        ({"name": "Blue", "status": ["active"]}, "status"),
        ({"name": "Blue", "allowed_models": []}, "allowed_models"),
        ({"name": "Blue", "content_logging": 1}, "content_logging"),
        ({"name": "Blue", "content_retention_days": 0}, "content_retention_days"),
        ({"name": "Blue", "rate_limit_rpm": 0}, "rate_limit_rpm"),
        ({"name": "Blue", "colour": "blue"}, "colour"),
        ({"name": "Blue", "id": str(uuid4())}, "id"),
        ({"name": "Blue", "actor": "me"}, "actor"),
        ({"name": "Blue", "tenant_id": str(uuid4())}, "tenant_id"),
    ],
)
def test_a_tenant_that_cannot_be_is_a_400_that_names_the_field(api, body, field):
    before = Tenant.objects.count()
    answer = api.post("tenants", body)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    assert Tenant.objects.count() == before


def test_all_faults_are_told_together(api):
    answer = api.post("tenants", {"name": "", "status": "x", "max_concurrency": -1})
    assert set(answer.json()["error"]["fields"]) == {"name", "status", "max_concurrency"}


def test_a_slug_is_given_once(api, tenant):
    answer = api.post("tenants", {"name": "Second", "slug": "acme"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    assert answer.json()["error"]["fields"] == {"slug": "is taken."}


def test_tenants_are_listed_newest_first(api, tenant, outsider):
    body = api.get("tenants").json()
    assert body["object"] == "list"
    assert body["total"] == len(body["data"]) == Tenant.objects.count()
    assert (body["has_more"], body["next_cursor"]) == (False, None)
    assert {"acme", "outsider", "default"} == {row["slug"] for row in body["data"]}
    moments = [datetime.fromisoformat(row["created_at"]) for row in body["data"]]
    assert moments == sorted(moments, reverse=True)


def test_tenants_are_listed_by_status(api, tenant, outsider):
    api.patch(f"tenants/{tenant.id}", {"status": "inactive"})
    inactive = api.get("tenants?status=inactive").json()
    assert [row["slug"] for row in inactive["data"]] == ["acme"]
    assert inactive["total"] == 1
    assert "acme" not in {row["slug"] for row in api.get("tenants?status=active").json()["data"]}
    assert api.get("tenants?status=gone").status_code == 400


def test_a_tenant_is_shown_with_its_key_count_and_provider(api, tenant, key, staging):
    gone = issue_key(actor=staging, tenant_id=tenant.id, name="gone").key
    revoke_key(actor=staging, key_id=gone.id)
    api.put(
        f"tenants/{tenant.id}/provider-config", {"provider": "openai", "api_key": "sk-planted-one"}
    )
    body = api.get(f"tenants/{tenant.id}").json()
    assert set(body) == FIELDS | {"api_key_count", "provider_config"}
    assert body["api_key_count"] == 1
    assert body["provider_config"] == {
        "provider": "openai",
        "base_url": None,
        "deployment": None,
        "api_version": None,
        "has_api_key": True,
    }


@pytest.mark.parametrize("reference", [str(uuid4()), "acme", "1", "../tenants", "%00"])
def test_an_unknown_tenant_is_a_404(api, tenant, reference):
    for answer in (
        api.get(f"tenants/{reference}"),
        api.patch(f"tenants/{reference}", {"name": "x"}),
        api.delete(f"tenants/{reference}?confirm=true"),
        api.get(f"tenants/{reference}/api-keys"),
        api.get(f"tenants/{reference}/provider-config"),
        api.delete(f"tenants/{reference}/provider-config"),
    ):
        assert answer.status_code == 404


def test_a_tenant_is_renamed_and_the_rest_stays(api, tenant):
    before = api.get(f"tenants/{tenant.id}").json()
    after = api.patch(f"tenants/{tenant.id}", {"name": "Acme Ltd"})
    assert after.status_code == 200
    assert api.get(f"tenants/{tenant.id}").json() == {**before, "name": "Acme Ltd"}


def test_a_tenant_is_stopped_and_started(api, tenant):
    for status in ("inactive", "active"):
        assert api.patch(f"tenants/{tenant.id}", {"status": status}).json()["status"] == status
    actions = AuditEvent.objects.filter(scope=str(tenant.id)).order_by("seq")
    assert list(actions.values_list("action", flat=True))[-2:] == [
        "tenant.suspended",
        "tenant.activated",
    ]


@pytest.mark.parametrize("body", [{}, {"id": str(uuid4())}, {"created_at": None}, {"nonsense": 1}])
def test_a_change_of_nothing_or_of_what_is_fixed_is_a_400(api, tenant, body):
    assert api.patch(f"tenants/{tenant.id}", body).status_code == 400


@pytest.mark.parametrize(
    "query", ["", "?confirm=false", "?confirm=yes", "?confirm=TRUE", "?Confirm=true"]
)
def test_a_tenant_is_not_ended_without_confirmation(api, tenant, query):
    assert api.delete(f"tenants/{tenant.id}{query}").status_code == 400
    assert Tenant.objects.filter(pk=tenant.id).exists()


def test_a_confirmed_end_takes_keys_and_wrapped_secret_and_leaves_the_audit(api, tenant, key):
    answer = api.delete(f"tenants/{tenant.id}?confirm=true")
    assert (answer.status_code, answer.content) == (204, b"")
    assert not APIKey.objects.filter(tenant_id=tenant.id).exists()
    assert not RootSecret.objects.filter(tenant_id=tenant.id).exists()
    assert api.get(f"tenants/{tenant.id}").status_code == 404
    assert AuditEvent.objects.filter(scope=str(tenant.id), action="tenant.deleted").exists()
    assert AuditEvent.objects.filter(scope=str(tenant.id), action="key.issued").exists()
