"""Providers over the admin API, and a tenant's own default one. A credential goes in and never out."""

from uuid import uuid4

import pytest

from providers import discovery
from providers.discovery import ImportResult, TestResult
from providers.models import Credential, Model, Provider, Target
from tenants.models import AuditEvent

PLANTED = "sk-planted-in-the-story-1"

#: Addresses that no provider may have. Names are left out: what they resolve to is the address filter's own test.
FORBIDDEN = [
    "http://127.0.0.1/v1",
    "https://127.0.0.1:8443/v1",
    "http://169.254.169.254/latest/meta-data",
    "https://10.1.2.3/v1",
    "http://[::1]/v1",
    "https://[::ffff:10.0.0.1]/v1",
    "https://[64:ff9b::7f00:1]/v1",
    "https://[64:ff9b::a9fe:a9fe]/v1",
    "https://0.0.0.0/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/",
    "https://user:pass@api.openai.com/v1",
    "https://",
    "not an address",
]

FIELDS = {
    "id",
    "object",
    "name",
    "kind",
    "base_url",
    "has_api_key",
    "deployment",
    "api_version",
    "tenant",
    "tenants",
    "is_tenant_default",
    "is_active",
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
    "timeout_seconds",
    "disconnect_policy",
    "health",
    "created_at",
}


@pytest.fixture
def provider(api):
    return api.post("providers", {"name": "main", "kind": "openai", "api_key": PLANTED}).json()


def _current() -> Credential:
    return Credential.objects.get(retired_at__isnull=True)


# Providers


def test_a_provider_is_made_and_its_credential_never_shown(api):
    answer = api.post("providers", {"name": "main", "kind": "openai", "api_key": PLANTED})
    body = answer.json()
    assert answer.status_code == 201
    assert set(body) == FIELDS
    assert (body["has_api_key"], body["tenant"], body["disconnect_policy"]) == (
        True,
        None,
        "cancel",
    )
    assert body["health"] == {
        "state": "unknown",
        "checked_at": None,
        "latency_ms": None,
        "last_error": None,
        "in_flight": 0,
        "max_slots": None,
    }
    for shown in (answer, api.get(f"providers/{body['id']}"), api.get("providers")):
        assert PLANTED not in shown.content.decode()
        assert '"api_key"' not in shown.content.decode()
    assert api.get("providers").json()["data"] == [body]
    assert PLANTED.encode() not in bytes(_current().sealed)


def test_a_provider_of_one_tenant_is_named_by_id_or_slug(api, tenant):
    for name, reference in (("a", "acme"), ("b", str(tenant.id))):
        body = api.post("providers", {"name": name, "kind": "openai", "tenant": reference}).json()
        assert body["tenant"] == str(tenant.id)
    api.post("providers", {"name": "shared", "kind": "openai"})
    assert {row["name"] for row in api.get("providers?tenant=acme").json()["data"]} == {"a", "b"}
    assert api.get("providers").json()["total"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "openai"}, "name"),
        ({"name": "x"}, "kind"),
        ({"name": "x", "kind": "telepathy"}, "kind"),
        ({"name": "x", "kind": ["openai"]}, "kind"),
        ({"name": "x", "kind": "openai", "api_key": ""}, "api_key"),
        ({"name": "x", "kind": "openai", "api_key": "a b"}, "api_key"),
        ({"name": "x", "kind": "openai", "api_key": "clé"}, "api_key"),
        ({"name": "x", "kind": "openai", "api_key": 7}, "api_key"),
        ({"name": "x", "kind": "openai", "tenant": "nobody"}, "tenant"),
        ({"name": "x", "kind": "openai", "tenant": 7}, "tenant"),
        ({"name": "x", "kind": "openai", "tenant_id": str(uuid4())}, "tenant_id"),
        ({"name": "x", "kind": "openai", "is_tenant_default": True}, "is_tenant_default"),
        ({"name": "x", "kind": "openai", "timeout_seconds": 0}, "timeout_seconds"),
        ({"name": "x", "kind": "openai", "timeout_seconds": 10.0}, "timeout_seconds"),
        ({"name": "x", "kind": "openai", "timeout_seconds": 86_401}, "timeout_seconds"),
        ({"name": "x", "kind": "openai", "tenants": "acme"}, "tenants"),
        ({"name": "x", "kind": "openai", "tenants": ["nobody"]}, "tenants"),
        ({"name": "x", "kind": "openai", "tenants": [7]}, "tenants"),
        ({"name": "x", "kind": "openai", "tenants": ["default"] * 65}, "tenants"),
        ({"name": "x", "kind": "openai", "disconnect_policy": "linger"}, "disconnect_policy"),
    ],
)
def test_a_provider_that_cannot_be_is_a_400_that_names_the_field(api, body, field):
    answer = api.post("providers", body)
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]
    assert not Provider.objects.exists()


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_provider_at_a_forbidden_address_is_refused(api, provider, address):
    fields = {"name": "inner", "kind": "openai-compatible", "base_url": address}
    for answer in (
        api.post("providers", fields),
        api.patch(f"providers/{provider['id']}", {"base_url": address, "api_key": PLANTED}),
    ):
        assert answer.status_code == 400
        assert list(answer.json()["error"]["fields"]) == ["base_url"]
    assert api.get("providers").json()["data"] == [provider]


def test_a_name_is_given_once(api, provider):
    answer = api.post("providers", {"name": "main", "kind": "openai"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")


def test_an_omitted_credential_stays_and_null_clears_it(api, provider):
    path = f"providers/{provider['id']}"
    before = _current().id
    assert api.patch(path, {"name": "renamed"}).json()["has_api_key"] is True
    assert _current().id == before
    assert api.patch(path, {"api_key": "sk-planted-second"}).json()["has_api_key"] is True
    assert _current().id != before
    assert api.patch(path, {"api_key": None}).json()["has_api_key"] is False
    assert not Credential.objects.filter(retired_at__isnull=True).exists()


def test_a_new_host_needs_the_credential_again(api, provider):
    path = f"providers/{provider['id']}"
    moved = {"base_url": "https://93.184.215.14/v1"}
    refused = api.patch(path, moved)
    assert (refused.status_code, list(refused.json()["error"]["fields"])) == (400, ["api_key"])
    assert api.get(path).json() == provider
    assert api.patch(path, {**moved, "api_key": PLANTED}).status_code == 200


@pytest.mark.parametrize(
    "body", [{}, {"kind": "demo"}, {"tenant": None}, {"has_api_key": False}, {"provider_id": 1}]
)
def test_a_patch_of_nothing_or_of_what_is_fixed_is_a_400(api, provider, body):
    assert api.patch(f"providers/{provider['id']}", body).status_code == 400


def test_a_credential_is_rotated(api, provider):
    path = f"providers/{provider['id']}/rotate-credential"
    before = _current().version
    answer = api.post(path, {"api_key": "sk-planted-second"})
    assert (answer.status_code, answer.json()["has_api_key"]) == (200, True)
    assert "planted" not in answer.content.decode()
    assert _current().version == before + 1
    for body in ({}, {"api_key": None}, {"api_key": ""}):
        assert api.post(path, body).status_code == 400
    assert _current().version == before + 1


def test_a_provider_in_use_stays_unless_it_is_unlinked(api, provider):
    api.post(
        "models",
        {"id": "gpt", "targets": [{"provider": provider["id"], "upstream_model": "gpt-4.1"}]},
    )
    path = f"providers/{provider['id']}"
    refused = api.delete(path)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["models"]) == (
        409,
        "provider_in_use",
        ["gpt"],
    )
    assert api.delete(f"{path}?unlink=true").status_code == 204
    assert Target.objects.get().provider_id is None
    assert api.get(path).status_code == 404
    assert api.get("models/gpt").json()["targets"][0]["provider"] is None


def test_an_unused_provider_is_deleted(api, provider):
    assert api.delete(f"providers/{provider['id']}").status_code == 204
    assert not Credential.objects.exists()


@pytest.mark.parametrize("reference", [uuid4(), "main", "1"])
def test_an_unknown_provider_is_a_404(api, provider, reference):
    path = f"providers/{reference}"
    for answer in (
        api.get(path),
        api.patch(path, {"name": "x"}),
        api.delete(path),
        api.post(f"{path}/rotate-credential", {"api_key": PLANTED}),
        api.post(f"{path}/test"),
        api.post(f"{path}/import-models"),
    ):
        assert answer.status_code == 404


def test_a_provider_is_tested(api, operator, provider, monkeypatch):
    asked = {}

    def answer(**kwargs):
        asked.update(kwargs)
        return TestResult(False, 401, 12, "The upstream answered with status 401.", [])

    monkeypatch.setattr(discovery, "test_provider", answer)
    reply = api.post(f"providers/{provider['id']}/test")
    assert reply.status_code == 200
    assert reply.json() == {
        "ok": False,
        "status": 401,
        "latency_ms": 12,
        "sentence": "The upstream answered with status 401.",
        "models": [],
    }
    assert str(asked["provider_id"]) == provider["id"]
    assert asked["actor"].id == str(operator.id)


def test_models_are_imported_by_a_pattern(api, provider, monkeypatch):
    asked = {}

    def answer(**kwargs):
        asked.update(kwargs)
        return ImportResult(["main/gpt"], ["main/old"])

    monkeypatch.setattr(discovery, "import_models", answer)
    reply = api.post(f"providers/{provider['id']}/import-models", {"match": "gpt*"})
    assert reply.status_code == 200
    assert (reply.json()["added"], reply.json()["skipped"]) == (["main/gpt"], ["main/old"])
    assert asked["match"] == "gpt*"
    assert api.post(f"providers/{provider['id']}/import-models", {"all": 1}).status_code == 400


# A tenant's own


def test_a_provider_config_is_set_and_its_key_not_shown(api, tenant):
    path = f"tenants/{tenant.id}/provider-config"
    answer = api.put(path, {"provider": "openai", "api_key": PLANTED})
    expected = {
        "provider": "openai",
        "base_url": None,
        "deployment": None,
        "api_version": None,
        "has_api_key": True,
    }
    assert (answer.status_code, answer.json()) == (200, expected)
    assert api.get(path).json() == expected
    assert api.get(f"tenants/{tenant.id}").json()["provider_config"] == expected
    assert PLANTED not in answer.content.decode() + api.get(path).content.decode()


def test_an_omitted_key_keeps_the_one_of_the_same_host(api, tenant):
    path = f"tenants/{tenant.id}/provider-config"
    api.put(path, {"provider": "openai", "api_key": PLANTED})
    before = _current().id
    assert api.put(path, {"provider": "openai"}).json()["has_api_key"] is True
    assert _current().id == before
    moved = {"provider": "openai-compatible", "base_url": "https://93.184.215.14/v1"}
    assert api.put(path, moved).json()["has_api_key"] is False
    assert not Credential.objects.filter(retired_at__isnull=True).exists()


def test_a_removed_provider_config_is_gone_from_everywhere(api, tenant):
    path = f"tenants/{tenant.id}/provider-config"
    api.put(path, {"provider": "openai", "api_key": PLANTED})
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert api.delete(path).status_code == 404
    assert api.get(f"tenants/{tenant.id}").json()["provider_config"] is None
    assert not Credential.objects.exists()


def test_two_tenants_have_each_their_own(api, tenant, outsider):
    api.put(f"tenants/{tenant.id}/provider-config", {"provider": "openai", "api_key": PLANTED})
    assert api.get(f"tenants/{outsider.id}/provider-config").status_code == 404
    assert api.delete(f"tenants/{outsider.id}/provider-config").status_code == 404
    assert api.get(f"tenants/{tenant.id}/provider-config").status_code == 200


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_provider_config_at_a_forbidden_address_is_refused(api, tenant, address):
    path = f"tenants/{tenant.id}/provider-config"
    answer = api.put(path, {"provider": "openai-compatible", "base_url": address})
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == ["base_url"]
    assert api.get(path).status_code == 404
    assert AuditEvent.objects.latest("created_at").outcome == "refused"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "provider"),
        ({"provider": "telepathy"}, "provider"),
        ({"provider": "openai", "name": "x"}, "name"),
        ({"provider": "openai", "tenant_id": str(uuid4())}, "tenant_id"),
        ({"provider": "openai", "is_active": False}, "is_active"),
        ({"provider": "openai", "deployment": "d"}, "deployment"),
    ],
)
def test_a_provider_config_that_cannot_be_is_a_400(api, tenant, body, field):
    answer = api.put(f"tenants/{tenant.id}/provider-config", body)
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [field])
    assert not Provider.objects.exists()
    assert not Model.objects.exists()
