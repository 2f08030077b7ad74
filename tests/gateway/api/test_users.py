"""Projects and users over the admin API: made, shown, changed, ended; and what users paid in."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from keys.models import APIKey
from keys.services import issue_key
from tenants.models import Account, AuditEvent, Project
from tests.gateway.api.test_limits import FIELDS
from usage.models import Balance, Credit

PROJECT = {"id", "object", "tenant", "name", "created_at", *FIELDS}
USER = {
    *("id", "object", "tenant", "username", "email", "organization", "balance_usd", "held_usd"),
    *("is_active", "deleted_at", "created_at"),
    *FIELDS,
}


@pytest.fixture
def user(api, tenant):
    return api.post("users", {"tenant": "acme", "username": "payer"}).json()


def test_a_project_is_made_found_renamed_and_removed(api, tenant, outsider):
    answer = api.post("projects", {"tenant": "acme", "name": "Web", "tokens_budget": 5})
    body = answer.json()
    assert (answer.status_code, set(body), body["object"]) == (201, PROJECT, "project")
    assert (body["tenant"], body["tokens_budget"]) == (str(tenant.id), 5)
    api.post("projects", {"tenant": str(outsider.id), "name": "Web"})
    assert api.get("projects?tenant=acme").json()["data"] == [body]
    assert api.get("projects").json()["total"] == 2
    place = f"projects/{body['id']}"
    assert api.patch(place, {"name": "Site"}).json() == {**body, "name": "Site"}
    assert api.get(place).json()["name"] == "Site"
    assert api.patch(place, {"tenant": "outsider"}).status_code == 400
    assert api.post("projects", {"tenant": "acme", "name": "SITE"}).status_code == 409
    assert api.delete(place).status_code == 204
    assert (api.get(place).status_code, api.delete(place).status_code) == (404, 404)


def test_a_user_is_made_found_changed_and_hidden(api, tenant, outsider):
    given = {"username": "sam", "email": "sam@example.com", "organization": "Acme"}
    answer = api.post("users", {"tenant": "acme", **given, "cost_budget_usd": "5"})
    body = answer.json()
    assert (answer.status_code, set(body), body["object"]) == (201, USER, "user")
    assert {name: body[name] for name in given} == given
    assert (body["balance_usd"], body["held_usd"], body["is_active"]) == ("0", "0", True)
    api.post("users", {"tenant": "outsider", "username": "sam"})
    assert api.get("users?tenant=acme").json()["data"] == [body]
    place = f"users/{body['id']}"
    assert api.patch(place, {"email": None, "is_active": False}).json()["email"] is None
    for fixed in ("balance_usd", "tenant", "id", "deleted_at", "held_usd"):
        assert api.patch(place, {fixed: "1"}).status_code == 400, fixed
    assert api.post("users", {"tenant": "acme", "username": "SAM"}).status_code == 409
    assert api.delete(place).status_code == 204
    assert api.get("users?tenant=acme").json()["data"] == []
    assert api.get(place).json()["deleted_at"].endswith("Z")
    for refused in (
        api.patch(place, {"email": None}),
        api.delete(place),
        api.post(f"{place}/top-up", {"amount_usd": "1"}),
    ):
        assert refused.status_code == 404


@pytest.mark.parametrize("place", ["projects", "users"])
@pytest.mark.parametrize("reference", [None, "nobody", 7, "", "\u202e"])
def test_a_thing_of_a_tenant_needs_a_tenant_that_there_is(api, tenant, place, reference):
    body = {"name": "x"} if place == "projects" else {"username": "x"}
    for given in ({**body, "tenant": reference}, body):
        answer = api.post(place, given)
        assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["tenant"])
    assert not Project.objects.exists()
    assert not Account.objects.exists()


def test_what_is_paid_in_adds_up_exactly_and_every_payment_stays_an_entry(api, user, operator):
    place = f"users/{user['id']}/top-up"
    for amount in ("0.000000001", 10, "0.10", "0.20", "999999.999999999"):
        answer = api.post(place, {"amount_usd": amount, "note": "by bank"})
        assert answer.status_code == 200, answer.content
    assert set(answer.json()) == USER
    assert answer.json()["balance_usd"] == api.get(f"users/{user['id']}").json()["balance_usd"]
    assert answer.json()["balance_usd"] == "1000010.3"
    paid = Credit.objects.order_by("created_at", "id")
    assert sum(paid.values_list("nano_usd", flat=True)) == 1_000_010_300_000_000
    assert {(it.actor_label, it.note) for it in paid} == {("the-operator", "by bank")}
    rows = AuditEvent.objects.filter(action="account.topped_up").order_by("seq")
    assert [row.details["amount_usd"] for row in rows][:3] == ["0.000000001", "10", "0.1"]
    assert all(row.target_id == user["id"] and row.actor_id == str(operator.id) for row in rows)


def test_a_balance_is_what_was_paid_in_less_what_was_used_and_says_what_is_set_aside(api, user):
    api.post(f"users/{user['id']}/top-up", {"amount_usd": "5"})
    Balance.objects.filter(level_id=user["id"]).update(spent=1_250_000_000, held=750_000_000)
    body = api.get(f"users/{user['id']}").json()
    assert (body["balance_usd"], body["held_usd"]) == ("3.75", "0.75")
    body = api.post(f"users/{user['id']}/top-up", {"amount_usd": "1"}).json()
    assert (body["balance_usd"], body["held_usd"]) == ("4.75", "0.75")


@pytest.mark.parametrize(
    "literal",
    [
        *("null", "0", '"0"', '"-1"', "-1", "0.5", "10.0", "true", "NaN", '"NaN"', '"1e3"', '""'),
        *('"0.0000000001"', "10000000000000", '" 5"', '"1,5"', "[]", "{}"),
    ],
)
def test_what_is_no_amount_is_refused_and_pays_nothing_in(api, user, literal):
    answer = api.call(
        "POST", f"users/{user['id']}/top-up", raw=f'{{"amount_usd":{literal}}}'.encode()
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert not Credit.objects.exists()


def test_a_top_up_of_nobody_or_with_more_than_it_takes_is_refused(api, user):
    assert api.post(f"users/{uuid4()}/top-up", {"amount_usd": "1"}).status_code == 404
    for body in ({}, {"amount_usd": "1", "balance_usd": "9"}, {"amount_usd": "1", "note": "a\nb"}):
        assert api.post(f"users/{user['id']}/top-up", body).status_code == 400, body
    assert not Credit.objects.exists()
    assert api.post(f"users/{user['id']}/top-up", {"amount_usd": 10**9}).status_code == 200
    assert api.post(f"users/{user['id']}/top-up", {"amount_usd": "1"}).status_code == 409


def test_an_account_of_another_tenant_pays_for_no_key(api, tenant, outsider, user, staging):
    theirs = issue_key(actor=staging, tenant_id=outsider.id, name="theirs")
    unknown = api.patch(f"keys/{theirs.key.id}", {"account": str(uuid4())})
    foreign = api.patch(f"keys/{theirs.key.id}", {"account": user["id"]})
    assert (foreign.status_code, foreign.json()["error"]) == (400, unknown.json()["error"])
    answer = api.post(f"tenants/{outsider.id}/api-keys", {"name": "k", "account": user["id"]})
    assert answer.status_code == 400
    assert not APIKey.objects.filter(account__isnull=False).exists()
    assert api.get("users?tenant=outsider").json()["data"] == []
    assert api.get(f"keys?account={user['id']}").json()["data"] == []


def test_a_list_of_users_costs_as_many_queries_as_a_list_of_one(api, tenant, user):
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert api.get("users?limit=200").status_code == 200
        return len(captured)

    before = queries()
    Account.objects.bulk_create(Account(tenant=tenant, username=f"u{n}") for n in range(60))
    assert queries() == before


def test_the_usage_of_a_key_tells_its_budgets_and_what_is_left(api, key):
    place = f"keys/{key.key.id}"
    api.patch(place, {"tokens_budget": 1000, "cost_budget_usd": "2", "rate_limit_rpm": 7})
    body = api.get(f"{place}/usage").json()
    assert (body["tokens_budget"], body["remaining"]) == (1000, 1000)
    assert (body["cost_budget_usd"], body["rate_limit_rpm"]) == ("2", 7)
    window = f"month:{datetime.now(UTC):%Y-%m}"
    Balance.objects.create(
        level_kind="key", level_id=key.key.id, unit="tokens", window=window, spent=300, held=50,
        ceiling=1000,
    )  # fmt: skip
    assert api.get(f"{place}/usage").json()["remaining"] == 650
    api.patch(place, {"tokens_budget": 100})
    assert api.get(f"{place}/usage").json()["remaining"] == 0
    with CaptureQueriesContext(connection) as captured:
        api.get(f"{place}/usage")
    assert len(captured) <= 12
