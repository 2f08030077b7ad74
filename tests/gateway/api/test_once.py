"""`Idempotency-Key` on changes: made once, and who asks again gets the first answer."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from unittest import mock
from uuid import UUID

import pytest
import time_machine
from django.contrib.auth.hashers import make_password
from django.db import connections

from gateway.api import schema
from gateway.api import users as user_views
from gateway.api.once import REPLAY
from keys.models import APIKey
from keys.services import update_key
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, Membership, Tenant, User
from tenants.services import create_tenant
from tests.cast import PASSWORD, Api
from tests.gateway.views.managing import Holder, holder_of, key_of
from usage import idempotency
from usage.models import Credit, IdempotentCall

NAME = {"idempotency-key": "an order of ours"}


@pytest.fixture
def user(api, tenant):
    return api.post("users", {"tenant": "acme", "username": "payer"}).json()


def top_up(api: Api, user, amount="5", **headers):
    body = {"amount_usd": amount, "note": "paid"}
    return api.post(f"users/{user['id']}/top-up", body, headers={**NAME, **headers})


def code_of(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_top_up_under_one_name_is_credited_once_and_answered_alike(api, user):
    first, again = top_up(api, user), top_up(api, user)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert REPLAY not in first.headers
    assert again.headers[REPLAY] == "true"
    assert again.headers["cache-control"] == first.headers["cache-control"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert api.get(f"users/{user['id']}").json()["balance_usd"] == "5"
    assert Credit.objects.count() == 1
    assert AuditEvent.objects.filter(request_id=first.headers["x-request-id"]).count() == 1
    assert not AuditEvent.objects.filter(request_id=again.headers["x-request-id"]).exists()


def test_without_the_name_each_is_credited(api, user):
    for _ in range(2):
        api.post(f"users/{user['id']}/top-up", {"amount_usd": "5"})
    assert api.get(f"users/{user['id']}").json()["balance_usd"] == "10"


def test_another_change_under_the_same_name_is_refused(api, user):
    assert top_up(api, user).status_code == 200
    assert code_of(top_up(api, user, "6")) == (422, "idempotency_mismatch")
    elsewhere = api.post("users", {"tenant": "acme", "username": "other"}, headers=NAME)
    assert code_of(elsewhere) == (422, "idempotency_mismatch")
    assert api.get(f"users/{user['id']}").json()["balance_usd"] == "5"


def test_a_body_is_what_it_says_not_how_it_is_written(api, user):
    place = f"users/{user['id']}/top-up"
    one = api.call("POST", place, raw=b'{"amount_usd":"5","note":"x"}', headers=NAME)
    other = api.call("POST", place, raw=b'{ "note": "x", "amount_usd": "5" }', headers=NAME)
    assert other.content == one.content
    assert other.headers[REPLAY] == "true"


def test_a_name_is_its_askers_own(api, user, owner):
    other = Api().signed_in(owner)
    assert top_up(api, user).status_code == 200
    assert REPLAY not in top_up(other, user).headers
    assert api.get(f"users/{user['id']}").json()["balance_usd"] == "10"


def test_after_a_day_a_name_is_good_for_another_change(api, user):
    assert top_up(api, user).status_code == 200
    with time_machine.travel(SYSTEM.now() + timedelta(hours=24, seconds=1)):
        assert REPLAY not in top_up(Api(admin_key=None, token=api.token), user, "6").headers


def test_what_was_refused_is_written_down_and_may_be_asked_again(api, tenant):
    body = {"tenant": "acme", "name": "Web"}
    first = api.post("projects", body).json()
    refused = api.post("projects", body, headers=NAME)
    assert code_of(refused) == (409, "conflict")
    (row,) = AuditEvent.objects.filter(request_id=refused.headers["x-request-id"])
    assert row.outcome == AuditEvent.Outcome.REFUSED
    assert not IdempotentCall.objects.exists()
    assert api.delete(f"projects/{first['id']}").status_code == 204
    assert api.post("projects", body, headers=NAME).status_code == 201


def test_where_the_house_fails_nothing_is_left_and_the_same_may_be_asked_again(api, user):
    with mock.patch.object(user_views, "_body", side_effect=RuntimeError):
        assert top_up(api, user).status_code == 500
    assert (Credit.objects.count(), IdempotentCall.objects.count()) == (0, 0)
    assert top_up(api, user).status_code == 200
    assert api.get(f"users/{user['id']}").json()["balance_usd"] == "5"


def test_a_key_that_is_shown_once_is_shown_again_to_who_made_it(api, tenant):
    place = f"tenants/{tenant.id}/api-keys"
    made = [api.post(place, {"name": "k"}, headers=NAME) for _ in range(2)]
    assert made[0].status_code == 201
    assert made[1].content == made[0].content
    assert APIKey.objects.count() == 1
    (kept,) = IdempotentCall.objects.all()
    assert made[0].json()["key"].encode() not in bytes(kept.sealed or b"")
    assert kept.tenant_id == UUID(int=0)


def test_who_lost_a_right_is_not_given_what_it_had_made(db, staging):
    there, here = (create_tenant(actor=staging, name=name) for name in ("There", "Here"))
    user = User.objects.create(username="mia", password=make_password(PASSWORD), role="")
    place = Membership.objects.create(user=user, tenant=there, role="owner")
    Membership.objects.create(user=user, tenant=here, role="owner")
    api = Api().signed_in(user)
    keys = f"tenants/{there.id}/api-keys"
    assert api.post(keys, {"name": "k"}, headers=NAME).status_code == 201
    assert api.post(keys, {"name": "k"}, headers=NAME).headers[REPLAY] == "true"
    place.delete()
    assert api.post(keys, {"name": "k"}).status_code == 404
    assert code_of(api.post(keys, {"name": "k"}, headers=NAME)) == (422, "idempotency_mismatch")


def test_an_answer_too_large_to_be_kept_is_not_made_again(api, user, monkeypatch):
    monkeypatch.setattr(idempotency, "MAX_ANSWER", 20)
    assert top_up(api, user).status_code == 200
    assert code_of(top_up(api, user)) == (409, "not_replayable")
    assert api.get(f"users/{user['id']}").json()["balance_usd"] == "5"


@pytest.mark.parametrize("name", ["", " ", "x" * 256, "ümlaut", "tab\there"])
def test_a_name_that_is_none_is_refused(api, user, name):
    answer = top_up(api, user, **{"idempotency-key": name})
    assert code_of(answer) == (400, "invalid_request")
    assert "Idempotency-Key" in answer.json()["error"]["message"]


def test_who_shows_nothing_gets_no_answer_of_others(api, user):
    assert top_up(api, user).status_code == 200
    assert code_of(top_up(Api(), user))[0] == 401


def test_doors_that_no_transaction_can_wait_for_take_no_notice():
    views = {route.view for route in schema.routes() if route.method == "POST"}
    heedless = {view.__name__ for view in views if not view.is_made_once}
    assert heedless == {
        "ApplyView",
        "ChangePasswordView",
        "MembersView",
        "OperatorsView",
        "ProvidersView",
        "RollbackView",
        "ImportModelsView",
        "ImportView",
        "LogoutView",
        "PlanView",
        "SimulateView",
        "TestProviderView",
    }


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_is_made_and_all_get_its_answer(staging, owner):
    create_tenant(actor=staging, name="Acme")
    api = Api().signed_in(owner)
    user = api.post("users", {"tenant": "acme", "username": "payer"}).json()

    def ask(_):
        try:
            return top_up(api, user)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as crowd:
        answers = list(crowd.map(ask, range(8)))
    assert {it.status_code for it in answers} == {200}
    assert len({it.content for it in answers}) == 1
    assert sum(REPLAY in it.headers for it in answers) == 7
    assert Credit.objects.count() == 1


# --- a tenant's own doors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "body"),
    [("keys", {"name": "new"}), ("projects", {"name": "Web"})],
)
def test_a_tenants_key_makes_things_once(tenant: Tenant, place, body):
    holder = holder_of(key_of(tenant))
    made = [holder.call("POST", place, body, **NAME) for _ in range(2)]
    assert made[0].status_code == 201
    assert made[1].content == made[0].content
    assert made[1].headers[REPLAY] == "true"
    names = [it["name"] for it in holder.get(place).json()["data"]]
    assert names.count(body["name"]) == 1
    other = holder.call("POST", place, {"name": "Another"}, **NAME)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_mismatch")
    bad = holder.call("POST", place, body, **{"idempotency-key": "x" * 300})
    assert (bad.status_code, bad.json()["error"]["code"]) == (400, "invalid_request")


def test_a_rotation_under_one_name_leaves_the_secret_that_it_answered(tenant: Tenant):
    manager, other = key_of(tenant), key_of(tenant, name="other")
    made = [
        holder_of(manager).call("POST", f"keys/{other.key.id}/rotate", {}, **NAME) for _ in range(2)
    ]
    assert made[1].content == made[0].content
    assert made[1].headers[REPLAY] == "true"
    assert Holder(made[1].json()["key"]).get("key").status_code == 200


def test_a_key_that_was_narrowed_is_not_given_what_it_had_made(staging, tenant: Tenant):
    manager = key_of(tenant)
    first = holder_of(manager).call("POST", "keys", {"name": "new"}, **NAME)
    assert first.status_code == 201
    scopes = ["inference", "keys"]
    update_key(actor=staging, key_id=manager.key.id, scopes=scopes)
    again = holder_of(manager).call("POST", "keys", {"name": "new"}, **NAME)
    assert (again.status_code, again.json()["error"]["code"]) == (422, "idempotency_mismatch")
