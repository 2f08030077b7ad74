"""A key's holder sees the figures of that key's calls, and of no other's."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from keys.services import Issued, issue_key
from tenants.account_services import create_account
from tenants.actor import Actor
from tenants.models import Tenant
from tenants.services import update_tenant
from tests.cast import Api
from tests.gateway.api.calls import attempt, line, log_row
from tests.gateway.views.test_state import ask, code_of
from usage.models import Balance, RequestLog
from usage.records import Why, why_text

FIGURES = ("usage", "analytics/summary", "analytics/timeseries", "analytics/models")


def made(key: Issued, **fields: Any) -> RequestLog:
    return log_row(key_id=key.key.id, tenant_id=key.key.tenant_id, **fields)


def timeless(body: Any) -> Any:
    """Without when it was asked for."""
    rows = [{**row, "start": None} for row in body.get("data", ())]
    return {**body, "since": None, "until": None, "data": rows}


@pytest.mark.parametrize("path", FIGURES)
def test_the_figures_are_those_of_this_key_alone_and_what_the_house_sees_of_it(
    path: str, key: Issued, tenant: Tenant, staging: Actor, api: Api
) -> None:
    sibling = issue_key(actor=staging, tenant_id=tenant.id, name="sibling")
    now = datetime.now(UTC)
    for number in range(5):
        made(key, created_at=now - timedelta(hours=number), status=500 if number == 3 else 200)
    made(key, created_at=now - timedelta(days=40))
    made(sibling, tokens_in=10**6)
    log_row(tokens_in=10**6)
    body = ask(f"/v1/{path}", key).json()
    found = body.get("data", [body])
    assert sum(it["requests"] for it in found) == 5
    assert sum(it["tokens_in"] for it in found) == 50
    assert sum(it["errors"] for it in found) == 1
    assert ask(f"/v1/{path}?window=30d", key).json()["window"] == "30d"
    if path != "usage":
        RequestLog.objects.exclude(key_id=key.key.id).delete()
        assert timeless(api.get(path).json()) == timeless(body)


def test_a_summary_has_the_times_of_the_calls_and_nothing_of_nothing_is_null(key: Issued) -> None:
    nothing = {"avg": None, "p50": None, "p95": None, "p99": None}
    body = ask("/v1/analytics/summary", key).json()
    assert (body["latency_ms"], body["error_rate"], body["cost_usd"]) == (nothing, 0, "0")
    for micros in range(1, 101):
        made(key, duration_us=micros * 1000, ttfb_us=None, usage_source="estimated")
    body = ask("/v1/analytics/summary", key).json()
    assert body["latency_ms"] == {"avg": 50.5, "p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert body["ttfb_ms"] == nothing
    assert body["overhead_ms"]["p95"] == 0.35
    assert (body["estimated_share"], body["error_rate"]) == (1, 0)


@pytest.mark.parametrize(
    ("window", "buckets", "seconds"),
    [("1h", 12, 300), ("6h", 12, 1800), ("24h", 24, 3600), ("7d", 28, 21600), ("30d", 30, 86400)],
)
def test_a_time_series_has_every_bucket_and_the_newest_call_is_in_the_last(
    window: str, buckets: int, seconds: int, key: Issued
) -> None:
    made(key)
    body = ask(f"/v1/analytics/timeseries?window={window}", key).json()
    assert (len(body["data"]), body["bucket_seconds"]) == (buckets, seconds)
    assert [it["requests"] for it in body["data"]] == [*[0] * (buckets - 1), 1]
    starts = [datetime.fromisoformat(it["start"]) for it in body["data"]]
    assert body["since"] == body["data"][0]["start"]
    steps = {after - before for before, after in pairwise(starts)}
    assert steps == {timedelta(seconds=seconds)}


@pytest.mark.parametrize("path", [f"/v1/{path}" for path in FIGURES])
def test_a_window_that_is_none_is_named(path: str, key: Issued) -> None:
    for query in ("window=2h", "window=24h&window=24h", "tenant=acme", "since=2026-01-01"):
        answer = ask(f"{path}?{query}", key)
        assert code_of(answer) == (400, "invalid_request")
        assert answer.json()["error"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("path", [*(f"/v1/{path}" for path in FIGURES), f"/v1/traces/{uuid4()}"])
def test_who_has_no_right_to_it_gets_none(path: str, tenant: Tenant, staging: Actor) -> None:
    narrow = issue_key(actor=staging, tenant_id=tenant.id, name="n", scopes=["inference"])
    assert code_of(ask(path, narrow)) == (403, "scope_missing")
    assert code_of(ask(path, None)) == (401, "missing_api_key")


# --- GET /v1/key ------------------------------------------------------------------------------------------------------


def test_a_key_shows_how_each_budget_that_bounds_it_stands(tenant: Tenant, staging: Actor) -> None:
    account = create_account(actor=staging, tenant_id=tenant.id, username="payer")
    update_tenant(actor=staging, tenant_id=tenant.id, cost_budget_day_usd="5")
    key = issue_key(
        actor=staging,
        tenant_id=tenant.id,
        name="k",
        account=str(account.id),
        tokens_budget=1000,
        cost_budget_usd="2",
    )
    month = f"month:{datetime.now(UTC):%Y-%m}"
    _balance("key", key.key.id, "nano_usd", month, 500_000_000, 250_000_000, 2 * 10**9)
    _balance("account", account.id, "nano_usd", "prepaid", 10**9, 10**8, 3 * 10**9)
    log_row(tenant_id=tenant.id, cost_nano_usd=10**9)
    body = ask("/v1/key", key).json()
    told = {(it["level"], it["unit"], it["window"]): it for it in body["budgets"]}
    assert set(told) == {
        ("key", "tokens", "month"),
        ("key", "usd", "month"),
        ("account", "usd", "prepaid"),
        ("tenant", "usd", "day"),
    }
    own = told["key", "usd", "month"]
    assert (own["limit"], own["spent"], own["held"], own["remaining"]) == (
        *("2", "0.5", "0.25"),
        "1.25",
    )
    assert own["resets_at"] == body["reset_at"]
    # What others spend of the same is theirs; what is left is everybody's business.
    shared = [told["account", "usd", "prepaid"], told["tenant", "usd", "day"]]
    assert [(it["spent"], it["held"], it["remaining"]) for it in shared] == [
        (None, None, "1.9"),
        (None, None, "4"),
    ]
    assert body["remaining"] == {"tokens": 1000, "cost_usd": "1.25"}


def _balance(kind: str, id: Any, unit: str, window: str, spent: int, held: int, most: int) -> None:
    Balance.objects.create(
        level_kind=kind,
        level_id=id,
        unit=unit,
        window=window,
        spent=spent,
        held=held,
        ceiling=most,
        credited=most if window == "prepaid" else 0,
    )


# --- GET /v1/traces/{request_id} --------------------------------------------------------------------------------------


def test_a_call_tells_its_holder_why_it_went_as_it_did(key: Issued, staging: Actor) -> None:
    taken = (("key", "requests 60s", 60, 3, 4), ("key", "nano_usd month", 10**10, 0, 5 * 10**8))
    row = made(key, why=why_text(Why("ab", ("main/gpt-4.1", "other/gpt"), taken)))
    attempt(row, 1)
    line(row, 1)
    body = ask(f"/v1/traces/{row.correlation_id}", key).json()
    assert {it["outcome"] for it in body["checks"]} == {"passed"}
    assert body["candidates"] == ["main/gpt-4.1", "other/gpt"]
    assert [(it["level"], it["before"], it["after"]) for it in body["limits"]] == [
        ("key", 3, 4),
        ("key", "0", "0.5"),
    ]
    assert len(body["attempts"]) == len(body["ledger"]) == 1
    assert not {"provider_id", "tenant_id"} & {*body, *body["attempts"][0]}
    assert ask(f"/v1/traces/{row.request_id}", key).json() == body


def test_another_keys_call_is_nobodys(key: Issued, tenant: Tenant, staging: Actor) -> None:
    sibling = issue_key(actor=staging, tenant_id=tenant.id, name="sibling")
    row = made(sibling, correlation_id="the-same-name")
    for name in (row.request_id, "the-same-name", uuid4(), "x", "a" * 65):
        assert code_of(ask(f"/v1/traces/{name}", key)) == (404, "not_found")
    own = made(key, correlation_id="the-same-name", created_at=row.created_at - timedelta(1))
    assert ask("/v1/traces/the-same-name", key).json()["id"] == str(own.request_id)
