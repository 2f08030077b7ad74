"""Whom a shared provider or model is for, and how long a provider may take, as the admin API takes and shows them."""

import pytest

from providers.models import Model, Provider
from tenants.models import AuditEvent, ConfigChange

PATHS = ("providers", "models")


def _make(api, kind: str, **fields):
    body = {"providers": {"name": "the-one", "kind": "openai"}, "models": {"id": "the-one"}}[kind]
    return api.post(kind, {**body, **fields})


def _at(kind: str, body) -> str:
    return f"{kind}/{body['id']}"


@pytest.mark.parametrize("kind", PATHS)
def test_what_is_shared_is_for_all_unless_tenants_are_named(api, tenant, outsider, kind):
    made = _make(api, kind, tenants=["acme", str(outsider.id), "acme"])
    assert made.status_code == 201, made.content
    both = sorted([str(tenant.id), str(outsider.id)])
    assert made.json()["tenants"] == both
    path = _at(kind, made.json())
    assert api.get(path).json()["tenants"] == both
    assert api.get(kind).json()["data"][0]["tenants"] == both
    before = ConfigChange.objects.count()
    assert api.patch(path, {"tenants": ["acme"]}).json()["tenants"] == [str(tenant.id)]
    assert ConfigChange.objects.count() == before + 1
    assert AuditEvent.objects.latest("seq", "created_at").details["tenants"] == ["acme"]
    assert api.patch(path, {"is_active": False}).json()["tenants"] == [str(tenant.id)]
    assert api.patch(path, {"tenants": []}).json()["tenants"] == []
    assert api.patch(path, {"tenants": None}).json()["tenants"] is None


@pytest.mark.parametrize("kind", PATHS)
def test_a_grant_ends_with_its_tenant_and_never_becomes_one_to_all(api, tenant, kind):
    path = _at(kind, _make(api, kind, tenants=["acme"]).json())
    assert api.delete(f"tenants/{tenant.id}?confirm=true").status_code == 204
    assert api.get(path).json()["tenants"] == []


@pytest.mark.parametrize("kind", PATHS)
def test_a_tenants_own_is_granted_to_nobody_else(api, tenant, outsider, kind):
    answer = _make(api, kind, tenant="acme", tenants=["outsider"])
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["tenants"])
    assert not (Provider if kind == "providers" else Model).objects.exists()
    own = _make(api, kind, tenant="acme", tenants=None).json()
    path = f"{_at(kind, own)}{'?tenant=acme' if kind == 'models' else ''}"
    assert api.patch(path, {"tenants": ["outsider"]}).status_code == 400


def test_a_tenants_model_cannot_lead_to_a_provider_that_is_not_granted_to_it(api, tenant, outsider):
    provider = _make(api, "providers", tenants=["acme"]).json()
    target = {"provider": provider["id"], "upstream_model": "m"}
    body = {"id": "m", "targets": [target]}
    assert api.post("models", {**body, "tenant": "acme"}).status_code == 201
    for reference in (provider["id"], "the-one"):
        target["provider"] = reference
        refused = api.post("models", {**body, "tenant": "outsider"})
        unknown = api.post(
            "models", {**body, "tenant": "outsider", "targets": [{**target, "provider": "zz"}]}
        )
        assert (refused.status_code, unknown.status_code) == (400, 400)
        told = [each.json()["error"]["fields"]["targets"] for each in (refused, unknown)]
        assert told[0].replace(reference, "zz") == told[1]


def test_how_long_a_call_may_take_is_set_kept_and_cleared(api):
    body = _make(api, "providers", timeout_seconds=90).json()
    path = _at("providers", body)
    assert body["timeout_seconds"] == 90
    assert api.patch(path, {"name": "q"}).json()["timeout_seconds"] == 90
    assert api.patch(path, {"timeout_seconds": None}).json()["timeout_seconds"] is None


@pytest.mark.parametrize(
    ("field", "value"), [("strategy", "weighted"), ("fallbacks", ["other"]), ("fallbacks", "x")]
)
def test_a_way_of_routing_that_is_not_there_yet_is_refused_with_a_sentence(api, field, value):
    answer = _make(api, "models", **{field: value})
    assert answer.status_code == 400
    assert "in this release." in answer.json()["error"]["fields"][field]
    for name, true in (("fallbacks", None), ("fallbacks", []), ("strategy", "priority")):
        assert api.delete("models/the-one").status_code in {204, 404}
        made = _make(api, "models", **{name: true}).json()
        assert (made["fallbacks"], made["strategy"]) == ([], "priority")
