"""What operators read over everything: stats, analytics, money in flight."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from keys.services import issue_key
from providers.models import Model, Provider
from tests.gateway.api.calls import log_row
from usage.models import Balance, Hold, HoldSlice


def hold(**fields: Any) -> Hold:
    row = log_row(**fields)
    return Hold.objects.create(
        month=row.month,
        request_id=row.request_id,
        tenant_id=row.tenant_id,
        tenant=row.tenant,
        key_id=row.key_id,
        key_prefix=row.key_prefix,
        created_at=row.created_at,
        model="m",
        tokens=70,
        nano_usd=5_000_000,
    )


def lent(amount: int, window: str, deadline: datetime, **fields: Any) -> HoldSlice:
    balance = Balance.objects.create(
        level_kind="key", level_id=uuid4(), unit="nano_usd", window=window, held=amount, ceiling=amount
    )  # fmt: skip
    return HoldSlice.objects.create(
        boot=UUID(int=7),
        balance_id=balance.pk,
        amount=amount,
        lent=amount,
        deadline=deadline,
        **fields,
    )


def test_the_stats_are_the_sums_of_the_log(api, tenant, staging, outsider):
    issue_key(actor=staging, tenant_id=tenant.id, name="k")
    for number in range(7):
        log_row(
            tenant_id=tenant.id if number % 2 else uuid4(),
            cost_nano_usd=None if number == 3 else number * 1_234_567,
            status=429 if number == 4 else 200,
            created_at=datetime.now(UTC) - timedelta(days=number),
        )
    for query, wanted in (("", "logs?limit=200"), ("?tenant=acme", "logs?limit=200&tenant=acme")):
        rows = api.get(wanted).json()["data"]
        stats = api.get(f"stats{query}").json()
        assert stats["requests"] == len(rows)
        assert Decimal(stats["revenue_usd"]) == sum(Decimal(row["cost_usd"] or 0) for row in rows)
        for name in ("tokens_in", "tokens_out"):
            assert stats[name] == sum(row[name] for row in rows)
    assert api.get("stats?window=24h").json()["requests"] == 1
    whole = api.get("stats").json()
    for name, path in (("tenants", "tenants"), ("keys", "keys")):
        assert whole[name] == api.get(path).json()["total"]
    assert (whole["models"], whole["providers"]) == (
        Model.objects.count(),
        Provider.objects.count(),
    )
    assert api.get("stats?tenant=acme").json()["tenants"] == 1
    assert api.get("stats?tenant=nobody").json()["keys"] == 0


def test_figures_are_of_the_tenant_that_is_asked_for(api, tenant):
    log_row(tenant_id=tenant.id)
    log_row(tenant="Gone")
    for path in ("analytics/summary", "analytics/models", "analytics/timeseries"):

        def requests(query: str, path: str = path) -> int:
            body = api.get(f"{path}?{query}").json()
            return sum(it["requests"] for it in body.get("data", [body]))

        assert (requests(""), requests("tenant=acme"), requests(f"tenant={tenant.id}")) == (2, 1, 1)
        assert (requests("tenant=Gone"), requests("tenant=nobody")) == (1, 0)


@pytest.mark.parametrize(
    "path", ["stats", "analytics/summary", "analytics/timeseries", "analytics/models"]
)
@pytest.mark.parametrize("query", ["window=1d", "window=24H", "colour=blue", "tenant=a&tenant=b"])
def test_what_cannot_be_asked_is_a_400(api, path, query):
    assert api.get(f"{path}?{query}").status_code == 400


def test_every_call_in_flight_is_listed_with_what_it_holds(api, tenant):
    now = datetime.now(UTC)
    old = hold(tenant_id=tenant.id, created_at=now - timedelta(minutes=5))
    new = hold(key_prefix="gwk_zzzzzz", created_at=now)
    first = api.get("holds?limit=1").json()
    assert (first["total"], first["has_more"], first["data"][0]["id"]) == (
        2,
        True,
        str(new.request_id),
    )
    (row,) = api.get(f"holds?limit=1&cursor={first['next_cursor']}").json()["data"]
    assert (row["id"], row["object"]) == (str(old.request_id), "hold")
    assert (row["tokens"], row["held_usd"], row["model"]) == (70, "0.005", "m")
    assert 300 <= row["age_seconds"] < 400
    for query, found in (
        ("tenant=acme", old),
        (f"key={old.key_id}", old),
        ("key=gwk_zzzzzz", new),
    ):
        assert [it["id"] for it in api.get(f"holds?{query}").json()["data"]] == [
            str(found.request_id)
        ]
    assert api.get("holds?model=m").status_code == 400


def test_what_workers_hold_is_listed_with_its_end(api):
    now = datetime.now(UTC)
    lent(10**9, "month:2026-11", now + timedelta(seconds=9))
    lent(5, "total", now - timedelta(seconds=1))
    lent(7, "day:2026-11-22", now, written_off_at=now)
    lent(0, "prepaid", now)
    first = api.get("holds/slices?limit=2").json()
    rest = api.get(f"holds/slices?cursor={first['next_cursor']}").json()
    rows = [*first["data"], *rest["data"]]
    assert [(it["state"], it["window"], it["amount"]) for it in rows] == [
        ("written_off", "day:2026-11-22", "0.000000007"),
        ("overdue", "total", "0.000000005"),
        ("lent", "month:2026-11", "1"),
    ]
    assert (rest["has_more"], rows[0]["worker"]) == (False, str(UUID(int=7)))
    for query in ("cursor=x", "cursor=-1", "limit=0", "tenant=acme"):
        assert api.get(f"holds/slices?{query}").status_code == 400
