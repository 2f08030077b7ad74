"""Limits over the admin API: the same fields, rules and sentences on everything that a call belongs to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from keys.models import APIKey
from keys.services import Issued
from providers.models import Model, Provider
from tenants.models import Account, AuditEvent, Limited, Project, Tenant
from tests.cast import Api

# Rules of values: what the databases make of them is asked where limits hold.
pytestmark = pytest.mark.sqlite

REQUESTS = ("rate_limit_rpm", "daily_limit", "burst", "max_concurrency")
TOKENS = ("rate_limit_tpm", "tokens_budget", "tokens_budget_day", "tokens_budget_total")
MONEY = ("cost_budget_usd", "cost_budget_day_usd", "cost_budget_total_usd")
FIELDS = ("rate_limits", *REQUESTS, *TOKENS, *MONEY, "clamp_to_budget")
NONE = {**dict.fromkeys(FIELDS), "clamp_to_budget": False}
#: As they are answered.
ALL_SET = {
    "rate_limits": ["10/s", "200/m", "1000000/d"],
    "rate_limit_rpm": 1,
    "daily_limit": 10**6,
    "burst": 5,
    "rate_limit_tpm": 10**12,
    "max_concurrency": 10**6,
    "tokens_budget": 10**12,
    "tokens_budget_day": 1,
    "tokens_budget_total": 7,
    "cost_budget_usd": "5",
    "cost_budget_day_usd": "0.000000001",
    "cost_budget_total_usd": "1000000000",
    "clamp_to_budget": True,
}

_NO_INTEGERS = ("0", "0.5", "10.0", '"10"', "true", "-1", "NaN", "1e3", "10000000000000", "[1]")
BAD = {
    **dict.fromkeys(REQUESTS, (*_NO_INTEGERS, "1000001")),
    **dict.fromkeys(TOKENS, (*_NO_INTEGERS, "1000000000001")),
    **dict.fromkeys(
        MONEY,
        (
            *("0", '"0"', '"0.000"', "0.5", "10.0", "true", "-1", '"-1"', "NaN", '"NaN"', "[]"),
            *('"1e3"', '"0.0000000001"', '" 5"', '"+5"', '"5."', '".5"', '"٣"', '""', '"1,5"'),
            *("10000000000000", '"1000000001"', '"1000000000.000000001"'),
        ),
    ),
    "rate_limits": (
        *("5", '"60/m"', "[]", '["60"]', '["60/"]', '["/m"]', '["0/m"]', '["-1/m"]', '["01/m"]'),
        *('["60/min"]', '["60/w"]', '["60/M"]', '["60 /m"]', '["6.5/m"]', '["٣/m"]', '["1e3/m"]'),
        *('["60/m\\n"]', '["1000001/m"]', "[60]", "[null]", '[["60/m"]]', '{"60":"m"}', "true"),
        *(
            '["60/m","70/m"]',
            '["1/s","2/m","3/h","4/d","5/s"]',
            "[" + ",".join(['"1/s"'] * 9) + "]",
        ),
    ),
    "clamp_to_budget": ("1", '"true"', "0", "[]"),
}


@dataclass(frozen=True)
class Resource:
    """One of each thing that can be limited, and where more are made."""

    kind: str
    rows: type[Limited]
    made_at: str
    needs: dict[str, Any]
    place: str

    def row(self) -> Any:
        return self.rows._default_manager.order_by("-created_at").first()


@pytest.fixture(params=["key", "project", "account", "tenant", "model", "provider"])
def resource(request: pytest.FixtureRequest, api: Api, tenant: Tenant, key: Issued) -> Resource:
    """Made without any limit, the tenant's requests per minute included."""
    keys = f"tenants/{tenant.id}/api-keys"
    doors: dict[str, tuple[type[Limited], str, dict[str, Any], Callable[[Any], str]]] = {
        "key": (APIKey, keys, {"name": "k"}, lambda made: f"keys/{made['id']}"),
        "project": (
            Project,
            "projects",
            {"name": "p", "tenant": "acme"},
            lambda made: f"projects/{made['id']}",
        ),
        "account": (
            Account,
            "users",
            {"username": "u", "tenant": str(tenant.id)},
            lambda made: f"users/{made['id']}",
        ),
        "tenant": (Tenant, "tenants", {"name": "T"}, lambda made: f"tenants/{made['id']}"),
        "model": (Model, "models", {"id": "m/x"}, lambda made: f"models/{made['id']}"),
        "provider": (
            Provider,
            "providers",
            {"name": "x", "kind": "openai"},
            lambda made: f"providers/{made['id']}",
        ),
    }
    rows, made_at, needs, place_of = doors[request.param]
    unlimited = {"rate_limit_rpm": None} if request.param == "tenant" else {}
    answer = api.post(made_at, {**needs, **unlimited})
    assert answer.status_code == 201, answer.content
    return Resource(request.param, rows, made_at, needs, place_of(answer.json()))


def limits_in(body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in FIELDS}


def test_a_limit_that_cannot_be_is_a_400_that_names_it_and_changes_nothing(api, resource):
    made, rows = api.get(resource.place).json(), resource.rows._default_manager.count()
    for field, literals in BAD.items():
        for literal in literals:
            raw = f'{{"{field}":{literal}}}'.encode()
            answer = api.call("PATCH", resource.place, raw=raw)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (400, "invalid_request"), (field, literal)
            assert error["message"].endswith("."), error
            # NaN is no JSON, so there is no field to name.
            if literal != "NaN":
                assert list(error["fields"]) == [field], (literal, error)
                assert error["message"].startswith(f"{field}: ")
    bad = dict.fromkeys(FIELDS, 0)
    answer = api.post(resource.made_at, {**resource.needs, **bad})
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (400, set(FIELDS))
    assert api.get(resource.place).json() == made
    assert resource.rows._default_manager.count() == rows


def test_absent_is_untouched_null_clears_and_a_value_sets(api, resource):
    assert limits_in(api.get(resource.place).json()) == NONE
    assert limits_in(api.patch(resource.place, ALL_SET).json()) == ALL_SET
    assert limits_in(api.get(resource.place).json()) == ALL_SET
    some = {"rate_limit_rpm": None, "cost_budget_day_usd": None, "rate_limits": ["3/h"]}
    assert limits_in(api.patch(resource.place, some).json()) == ALL_SET | some
    others = {"is_active": True} if resource.kind in {"key", "model"} else {"name": "renamed"}
    others = {"username": "renamed"} if resource.kind == "account" else others
    assert limits_in(api.patch(resource.place, others).json()) == ALL_SET | some
    assert limits_in(api.patch(resource.place, dict.fromkeys(FIELDS)).json()) == NONE


def test_what_is_made_with_limits_has_them(api, resource):
    label = {"model": "id", "account": "username"}.get(resource.kind, "name")
    answer = api.post(resource.made_at, {**resource.needs, label: "second", **ALL_SET})
    assert answer.status_code == 201, answer.content
    assert limits_in(answer.json()) == ALL_SET
    row = resource.row()
    assert (row.cost_budget_nano, row.cost_budget_day_nano) == (5_000_000_000, 1)
    assert row.cost_budget_total_nano == 10**18


def test_a_changed_limit_is_one_audit_row_with_both_values(api, resource):
    api.patch(resource.place, {"cost_budget_usd": "5.00", "rate_limits": ["9/s"]})
    before = AuditEvent.objects.count()
    api.patch(resource.place, {"cost_budget_usd": 2, "rate_limits": None, "tokens_budget": 8})
    assert AuditEvent.objects.count() == before + 1
    row = AuditEvent.objects.order_by("-created_at", "-seq").first()
    assert row is not None
    assert (row.action, row.actor_label) == (f"{resource.kind}.updated", "the-operator")
    assert row.details == {
        "cost_budget_usd": {"from": "5", "to": "2"},
        "rate_limits": {"from": ["9/s"], "to": None},
        "tokens_budget": {"from": None, "to": 8},
    }


def test_a_tenant_has_120_requests_a_minute_unless_it_is_told_otherwise(api):
    for given, has in (({}, 120), ({"rate_limit_rpm": None}, None), ({"rate_limit_rpm": 9}, 9)):
        assert api.post("tenants", {"name": f"T{has}", **given}).json()["rate_limit_rpm"] == has
