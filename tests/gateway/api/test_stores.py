"""Stores over the admin API: a tenant's shops. A credential goes in and never out."""

from uuid import uuid4

import pytest

from providers import store_services
from providers.errors import CredentialUnreadable
from providers.models import Store
from tenants.models import AuditEvent, Tenant
from tests.cast import Api
from tests.gateway.api.test_providers import FORBIDDEN

PLANTED = "shpat-planted-0123456789"
FIELDS = {
    *("id", "object", "tenant", "store_id", "name", "label", "base_url", "has_api_key"),
    *("is_active", "created_at"),
}
HOST = "https://93.184.215.14/admin"


def register(api: Api, tenant: str = "acme", **fields):
    return api.post("stores", {"tenant": tenant, "store_id": "shop-1", **fields})


@pytest.fixture
def store(api, tenant):
    return register(api, api_key=PLANTED, base_url=HOST).json()


def clear(store: dict) -> str | None:
    secret = store_services.credential_of(Store.objects.get(pk=store["id"]))
    return None if secret is None else secret.reveal().decode()


def test_a_store_is_registered_and_its_credential_never_shown(api, tenant):
    answer = register(
        api, name="Corner shop", label="Berlin", base_url=HOST, api_key=PLANTED, is_active=False
    )
    body = answer.json()
    assert answer.status_code == 201, answer.content
    assert set(body) == FIELDS
    assert body["tenant"] == str(tenant.id)
    assert (body["store_id"], body["name"], body["label"]) == ("shop-1", "Corner shop", "Berlin")
    assert (body["object"], body["has_api_key"], body["is_active"]) == ("store", True, False)
    for shown in (answer, api.get(f"stores/{body['id']}"), api.get("stores")):
        assert PLANTED not in shown.content.decode()
    assert api.get("stores").json()["data"] == [body]
    row = Store.objects.get()
    assert PLANTED.encode() not in bytes(row.sealed or b"")
    assert clear(body) == PLANTED
    assert PLANTED not in repr(list(AuditEvent.objects.values_list("details", flat=True)))
    event = AuditEvent.objects.get(action="store.created")
    assert (event.outcome, event.target_id, event.scope) == ("ok", body["id"], str(tenant.id))


def test_a_store_without_a_name_is_called_by_its_id(api, tenant):
    body = register(api).json()
    assert (body["name"], body["label"], body["base_url"]) == ("shop-1", None, None)
    assert (body["has_api_key"], body["is_active"]) == (False, True)


def test_id_and_name_are_given_once_per_tenant(api, store, outsider):
    for fields, field in (
        ({}, "store_id"),
        ({"store_id": "shop-2", "name": "SHOP-1"}, "name"),
    ):
        answer = register(api, **fields)
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (409, [field])
    other = register(api, store_id="Shop-1", name="another").json()
    answer = api.patch(f"stores/{other['id']}", {"name": "Shop-1"})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (409, ["name"])
    assert register(api, "outsider").status_code == 201


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"store_id": None}, "store_id"),
        ({"store_id": "a b"}, "store_id"),
        ({"store_id": "x" * 129}, "store_id"),
        ({"tenant": "nobody"}, "tenant"),
        ({"tenant": None}, "tenant"),
        ({"api_key": ""}, "api_key"),
        ({"api_key": "a b"}, "api_key"),
        ({"name": ""}, "name"),
        ({"is_active": 1}, "is_active"),
        ({"has_api_key": True}, "has_api_key"),
        ({"base_url": "http://127.0.0.1/"}, "base_url"),
    ],
)
def test_a_store_that_cannot_be_is_a_400_that_names_the_field(api, tenant, fields, field):
    answer = register(api, **fields)
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [field])
    assert not Store.objects.exists()


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_store_at_a_forbidden_address_is_refused(api, store, address):
    for answer in (
        register(api, store_id="inner", base_url=address),
        api.patch(f"stores/{store['id']}", {"base_url": address, "api_key": PLANTED}),
    ):
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["base_url"])
    assert api.get("stores").json()["data"] == [store]


def test_absent_stays_null_clears_and_a_value_sets(api, store):
    path = f"stores/{store['id']}"
    assert api.patch(path, {"label": "x", "is_active": False}).json()["has_api_key"] is True
    assert clear(store) == PLANTED
    assert api.patch(path, {"label": None}).json()["label"] is None
    api.patch(path, {"api_key": "shpat-second-0123"})
    assert clear(store) == "shpat-second-0123"
    assert api.patch(path, {"api_key": None}).json()["has_api_key"] is False
    assert clear(store) is None
    for body in ({}, {"store_id": "other"}, {"tenant": "outsider"}, {"sealed": "x"}):
        assert api.patch(path, body).status_code == 400


def test_a_credential_opens_for_its_row_and_its_host_alone(api, store):
    path = f"stores/{store['id']}"
    moved = {"base_url": "https://93.184.215.15/admin"}
    refused = api.patch(path, moved)
    assert (refused.status_code, list(refused.json()["error"]["fields"])) == (400, ["api_key"])
    assert api.patch(path, {"base_url": f"{HOST}/v2"}).status_code == 200
    assert clear(store) == PLANTED
    other = register(api, store_id="shop-2", api_key="shpat-other-0123", base_url=HOST).json()
    sealed = Store.objects.get(pk=other["id"]).sealed
    Store.objects.filter(pk=store["id"]).update(sealed=sealed)
    with pytest.raises(CredentialUnreadable):
        clear(store)
    Store.objects.filter(pk=other["id"]).update(base_url="https://93.184.215.15/")
    with pytest.raises(CredentialUnreadable):
        clear(other)
    assert api.patch(path, {**moved, "api_key": PLANTED}).status_code == 200
    assert clear(store) == PLANTED


def test_a_store_is_deleted(api, store):
    path = f"stores/{store['id']}"
    assert api.delete(path).status_code == 204
    for answer in (api.get(path), api.patch(path, {"name": "x"}), api.delete(path)):
        assert answer.status_code == 404
    assert api.get(f"stores/{uuid4()}").status_code == 404


def test_an_ended_tenants_stores_are_gone_and_what_was_sealed_for_them_opens_nowhere(
    api, tenant, store
):
    kept = Store.objects.get()
    assert api.delete(f"tenants/{tenant.id}?confirm=true").status_code == 204
    assert not Store.objects.exists()
    # The same row, from a copy of the database, in a tenant of the same id.
    kept.tenant = Tenant.objects.create(id=tenant.id, name="Acme", slug="acme")
    kept.save(force_insert=True)
    with pytest.raises(CredentialUnreadable):
        clear(store)


def test_stores_are_listed_by_tenant(api, store, outsider):
    register(api, "outsider", store_id="theirs")
    assert api.get("stores").json()["total"] == 2
    for name, ids in (("acme", ["shop-1"]), ("outsider", ["theirs"])):
        found = api.get(f"stores?tenant={name}").json()["data"]
        assert [each["store_id"] for each in found] == ids
    assert api.get("stores?tenant=nobody").status_code == 400


def test_a_tenants_people_have_their_own_and_no_others(
    store, api, tenant_owner, tenant_member, foreign_owner
):
    path = f"stores/{store['id']}"
    theirs, member, stranger = (
        Api().signed_in(user) for user in (tenant_owner, tenant_member, foreign_owner)
    )
    assert member.get(path).json() == store
    assert member.patch(path, {"label": "x"}).status_code == 403
    assert theirs.patch(path, {"label": "x"}).json()["label"] == "x"
    unknown = stranger.get(f"stores/{uuid4()}")
    for answer in (
        stranger.get(path),
        stranger.patch(path, {"label": "y"}),
        stranger.delete(path),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"] == unknown.json()["error"]
    assert stranger.get("stores").json()["data"] == []
    assert register(stranger, "acme", store_id="z").status_code == 400
    assert register(stranger, "outsider", store_id="z").status_code == 201
    assert theirs.delete(path).status_code == 204
