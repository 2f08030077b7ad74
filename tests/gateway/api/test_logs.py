"""Logs and the usage of keys over the admin API."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import time_machine
from django.db import connection

from gateway.api import logs
from tests.gateway.api.calls import attempt, line, log_row, rollup
from usage.models import NOBODY, Hold, RequestLog

FIELDS = {
    "id",
    "object",
    "request_id",
    "created_at",
    "kind",
    "tenant",
    "project",
    "account",
    "key_id",
    "key_prefix",
    "team",
    "model",
    "provider",
    "target",
    "dialect_in",
    "dialect_out",
    "stream",
    "status",
    "error_code",
    "dispatched",
    "attempts",
    "tokens_in",
    "tokens_cached",
    "tokens_out",
    "tokens_reasoning",
    "cost_usd",
    "cost_estimate_usd",
    "usage_source",
    "duration_ms",
    "ttfb_ms",
    "overhead_ms",
    "idempotent_replay",
    "trace_id",
}


def test_a_call_is_shown_with_every_field(api):
    made = log_row()
    (row,) = api.get("logs").json()["data"]
    assert set(row) == FIELDS
    assert (row["id"], row["request_id"]) == (str(made.request_id), made.correlation_id)
    assert (row["cost_usd"], row["overhead_ms"], row["duration_ms"]) == ("0.000012", 0.35, 123.456)
    assert (row["project"], row["team"], row["error_code"]) == (None, None, None)


def test_an_unknown_cost_is_null_and_nothing_is_nothing(api):
    log_row(cost_nano_usd=None, correlation_id="unpriced-call")
    log_row(cost_nano_usd=0, correlation_id="free-of-cost")
    costs = {row["request_id"]: row["cost_usd"] for row in api.get("logs").json()["data"]}
    assert costs == {"unpriced-call": None, "free-of-cost": "0"}


def test_an_unknown_cost_is_estimated_beside_it_and_summed_nowhere(api, settings):
    log_row(cost_nano_usd=None, tokens_in=1000, tokens_out=100, correlation_id="unpriced-call")
    log_row(cost_nano_usd=7, tokens_in=50, tokens_out=50, correlation_id="priced-call")

    def told() -> dict[str, str | None]:
        rows = api.get("logs").json()["data"]
        return {row["request_id"]: row["cost_estimate_usd"] for row in rows}

    # 1000 × 2.50 + 100 × 10 USD per million, as the settings say unless told otherwise.
    assert told() == {"unpriced-call": "0.0035", "priced-call": None}
    sums = api.get("analytics/summary?window=30d").json()
    assert (sums["unpriced_requests"], sums["cost_estimate_usd"]) == (1, "0.0035")
    assert sums["cost_usd"] == "0.000000007"
    settings.ESTIMATE_PRICE = None
    assert told() == {"unpriced-call": None, "priced-call": None}


def test_calls_are_found_by_every_filter(api, tenant):
    ids = {name: uuid4() for name in ("key", "project", "account", "provider")}
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    rows = {
        "plain": log_row(),
        "tenant": log_row(tenant_id=tenant.id, tenant="Acme as it was called"),
        "key": log_row(key_id=ids["key"], key_prefix="gwk_zzzzzz"),
        "project": log_row(project_id=ids["project"], project="rocket"),
        "account": log_row(account_id=ids["account"], account="payer"),
        "provider": log_row(provider_id=ids["provider"], provider="other"),
        "team": log_row(team="blue"),
        "model": log_row(model="demo/echo"),
        "status": log_row(status=429),
        "kind": log_row(kind="tool"),
        "old": log_row(created_at=long_ago),
    }

    def found(query: str) -> set[str]:
        answer = api.get(f"logs?limit=200&{query}")
        assert answer.status_code == 200, answer.content
        shown = {row["id"] for row in answer.json()["data"]}
        return {name for name, row in rows.items() if str(row.request_id) in shown}

    assert found("") == set(rows)
    assert found("tenant=acme") == found(f"tenant={tenant.id}") == {"tenant"}
    assert found("tenant=Acme+as+it+was+called") == {"tenant"}
    assert found(f"key={ids['key']}") == found("key=gwk_zzzzzz") == {"key"}
    assert found(f"project={ids['project']}") == found("project=rocket") == {"project"}
    assert found(f"account={ids['account']}") == found("account=payer") == {"account"}
    assert found(f"provider={ids['provider']}") == found("provider=other") == {"provider"}
    assert found("team=blue") == {"team"}
    assert found("model=demo/echo") == {"model"}
    assert found("status=429") == {"status"}
    assert found("kind=tool") == {"kind"}
    assert found("until=2026-06-01T00:00:00Z") == {"old"}
    assert found("since=2026-06-01T00:00:00%2B02:00") == set(rows) - {"old"}
    assert found("since=2026-01-01T00:00:00Z&until=2026-01-01T00:00:01Z") == {"old"}
    assert found("until=2026-01-01T00:00:00Z") == set()
    assert found("team=blue&status=429") == set()


@pytest.mark.parametrize(
    "query", ["status=ok", "status=42", "kind=other", "since=soon", "colour=blue", "team=a%00"]
)
def test_a_filter_that_cannot_be_is_a_400(api, query):
    assert api.get(f"logs?{query}").status_code == 400


def test_the_why_card_has_the_attempts_and_the_money(api):
    call = log_row(attempts=2, correlation_id="the-callers-own-id")
    attempt(call, 2)
    attempt(call, 1, outcome="status", status=503, ttfb_us=None)
    line(call, 1)
    line(call, 2, cost_nano_usd=-2_000, tokens_in=-1)
    attempt(log_row(), 1)
    card = api.get("logs/the-callers-own-id").json()
    assert set(card) >= FIELDS
    assert [(tried["n"], tried["status"]) for tried in card["attempts"]] == [(1, 503), (2, 200)]
    assert card["attempts"][0]["duration_ms"] == 5.0
    assert [(row["line"], row["cost_usd"]) for row in card["ledger"]] == [
        (1, "0.000012"),
        (2, "-0.000002"),
    ]
    assert api.get(f"logs/{call.request_id}").json() == card
    assert api.get(f"logs/{call.request_id.hex}").json() == card


def test_of_calls_with_one_id_the_newest_answers(api):
    old = log_row(correlation_id="used-twice", created_at=datetime.now(UTC) - timedelta(days=1))
    new = log_row(correlation_id="used-twice")
    assert api.get("logs/used-twice").json()["id"] == str(new.request_id)
    assert api.get(f"logs/{old.request_id}").json()["id"] == str(old.request_id)


@pytest.mark.parametrize(
    "reference", [str(uuid4()), "unknown-call", "x", "%00%00%00%00%00%00%00%00"]
)
def test_an_unknown_call_is_a_404(api, reference):
    log_row()
    assert api.get(f"logs/{reference}").status_code == 404


def test_the_usage_of_a_key_is_this_month_and_up_to_twelve_before(api, operator, key):
    key_id = key.key.id
    with time_machine.travel(datetime(2026, 11, 15, tzinfo=UTC)):
        api = api.signed_in(operator)
        rollup("2026-11", key_id, requests=2, cost_nano_usd=1, model="a")
        rollup("2026-11", key_id, requests=3, unpriced_requests=1, model="b")
        months = [f"2026-{month:02d}" for month in range(10, 0, -1)] + [
            f"2025-{month:02d}" for month in range(12, 0, -1)
        ]
        for month in months:
            rollup(month, key_id)
        rollup("2026-12", key_id)
        rollup("2026-11", uuid4())
        body = api.get(f"keys/{key_id}/usage").json()
    history = body.pop("history")
    assert body == {
        "key_id": str(key_id),
        "current_period": "2026-11",
        "tokens_in": 20,
        "tokens_out": 40,
        "tokens_total": 60,
        "tokens_budget": None,
        "remaining": None,
        "cost_usd": "1.000000001",
        "cost_budget_usd": None,
        "held_usd": "0",
        "requests_this_month": 5,
        "unpriced_requests": 1,
        "rate_limit_rpm": None,
    }
    assert [row["period"] for row in history] == months[:12]
    assert history[0] == {
        "period": "2026-10",
        "tokens_in": 10,
        "tokens_out": 20,
        "requests": 1,
        "unpriced_requests": 0,
        "cost_usd": "1",
    }


def test_a_key_that_was_never_used_has_used_nothing(api, key):
    body = api.get(f"keys/{key.key.id}/usage").json()
    assert (body["tokens_total"], body["cost_usd"], body["requests_this_month"]) == (0, "0", 0)
    assert body["history"] == []


def test_months_without_this_one_are_still_at_most_twelve(api, operator, key):
    with time_machine.travel(datetime(2026, 11, 15, tzinfo=UTC)):
        api = api.signed_in(operator)
        for month in range(1, 13):
            rollup(f"2025-{month:02d}", key.key.id)
        rollup("2024-12", key.key.id)
        body = api.get(f"keys/{key.key.id}/usage").json()
    assert len(body["history"]) == 12
    assert body["history"][-1]["period"] == "2025-01"


def test_what_is_held_for_calls_in_flight_is_shown(api, tenant, key):
    for held in (1_500_000_000, 500_000_000):
        Hold.objects.create(
            month="2026-11",
            request_id=uuid4(),
            tenant_id=tenant.id,
            tenant="Acme",
            key_id=key.key.id,
            key_prefix="gwk_abcdef",
            created_at=datetime.now(UTC),
            tokens=1,
            nano_usd=held,
            model="gpt",
        )
    assert api.get(f"keys/{key.key.id}/usage").json()["held_usd"] == "2"


#: What few calls say, and the index that finds those few.
RARE = {
    "status=418": "log_failed",
    "model=nobody": "log_by_model",
    "provider=nobody": "log_by_provider",
    f"project={uuid4()}": "log_by_project_id",
    f"account={uuid4()}": "log_by_account_id",
    "team=nobody": "log_by_team",
}


@pytest.mark.sqlite
@pytest.mark.parametrize(("query", "index"), RARE.items(), ids=RARE.values())
def test_a_filter_that_finds_next_to_nothing_does_not_read_the_whole_log(query, index, db):
    found = RequestLog.objects.filter(logs.wanted_by(dict([query.split("=")])))
    assert index in found.order_by("-created_at", "-request_id").explain().split()


@pytest.mark.postgres
@pytest.mark.parametrize(("query", "index"), RARE.items(), ids=RARE.values())
def test_such_an_index_answers_on_postgresql_too(query, index, db):
    found = RequestLog.objects.filter(logs.wanted_by(dict([query.split("=")])))
    with connection.cursor() as cursor:
        # Of an empty table, reading all of it is the cheapest.
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
    assert index in found.order_by("-created_at", "-request_id").explain()


def test_whoever_asks_for_nobody_is_shown_the_calls_without_one(api):
    made = log_row()
    for name in ("project", "account"):
        (row,) = api.get(f"logs?{name}={NOBODY}").json()["data"]
        assert row["id"] == str(made.request_id)
