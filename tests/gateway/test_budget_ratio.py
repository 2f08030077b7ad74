"""The one series that a key has of its own in the metrics: it goes with the key, and there are never many."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway.metrics import budgets
from gateway.metrics.scrape import KeyBudgets
from keys import tokens
from keys.services import Issued, issue_key, revoke_key, rotate_key, update_key
from tenants.actor import Actor
from tenants.models import Tenant
from tenants.services import create_tenant, update_tenant
from tests.gateway.api.calls import rollup
from usage.models import Balance

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


def prefix(issued: Issued) -> str:
    return tokens.shown_part(issued.credential)


def drawn_on(
    key_id: UUID, spent: int, *, unit: str = "nano_usd", window: str = "month:2026-03"
) -> None:
    Balance.objects.create(
        level_kind="key", level_id=key_id, unit=unit, window=window, spent=spent, ceiling=spent
    )


def test_a_key_has_the_ratio_of_the_budget_of_which_it_used_most(
    tenant: Tenant, staging: Actor
) -> None:
    money = issue_key(actor=staging, tenant_id=tenant.id, name="a", team="red", cost_budget_usd="2")
    both = issue_key(
        actor=staging, tenant_id=tenant.id, name="b", cost_budget_day_usd="1", tokens_budget=100
    )
    unused = issue_key(actor=staging, tenant_id=tenant.id, name="c", tokens_budget_total=1000)
    issue_key(actor=staging, tenant_id=tenant.id, name="no budget", rate_limit_rpm=5)
    drawn_on(money.key.id, 5 * 10**8)
    drawn_on(money.key.id, 10**12, window="month:2026-02")
    drawn_on(both.key.id, 10**8, window="day:2026-03-15")
    drawn_on(both.key.id, 120, unit="tokens")
    rollup("2026-01", unused.key.id, tokens_in=10, tokens_out=5)
    assert budgets.ratios(NOW) == [
        ("", prefix(both), 1.2),
        ("red", prefix(money), 0.25),
        ("", prefix(unused), 0.015),
    ]
    (family,) = [budgets.family(budgets.ratios(NOW))]
    assert family.name == "gatehouse_key_budget_used_ratio"
    assert {frozenset(sample.labels) for sample in family.samples} == {
        frozenset({"team", "key_prefix"})
    }


@pytest.mark.django_db(transaction=True)
def test_a_key_that_ended_is_gone_from_the_very_next_scrape(staging: Actor) -> None:
    tenant = create_tenant(actor=staging, name="Acme")
    issued = issue_key(actor=staging, tenant_id=tenant.id, name="a", cost_budget_usd="2")
    collector = KeyBudgets()

    def scraped() -> list[str]:
        return [sample.labels["key_prefix"] for it in collector.collect() for sample in it.samples]

    assert scraped() == [prefix(issued)]
    revoke_key(actor=staging, key_id=issued.key.id)
    assert scraped() == []


def test_a_key_that_ended_is_gone_and_a_rotated_one_has_its_new_name(
    tenant: Tenant, staging: Actor
) -> None:
    def budgeted(name: str) -> Issued:
        issued = issue_key(actor=staging, tenant_id=tenant.id, name=name, cost_budget_usd="2")
        drawn_on(issued.key.id, 10**9)
        return issued

    made = {name: budgeted(name) for name in ("revoked", "paused", "rotated", "freed")}
    assert {row[1] for row in budgets.ratios(NOW)} == {prefix(each) for each in made.values()}
    revoke_key(actor=staging, key_id=made["revoked"].key.id)
    update_key(actor=staging, key_id=made["paused"].key.id, is_active=False)
    update_key(actor=staging, key_id=made["freed"].key.id, cost_budget_usd=None)
    renewed = rotate_key(actor=staging, key_id=made["rotated"].key.id, grace_period_seconds=3600)
    assert budgets.ratios(NOW) == [("", prefix(renewed), 0.5)]
    update_tenant(actor=staging, tenant_id=tenant.id, status="inactive")
    assert budgets.ratios(NOW) == []


def test_there_are_never_many_and_those_that_used_most_are_among_them(
    tenant: Tenant, staging: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budgets, "MOST", 3)
    made = [
        issue_key(actor=staging, tenant_id=tenant.id, name=f"k{number}", cost_budget_usd="1")
        for number in range(6)
    ]
    for number, issued in enumerate(made[:5]):
        drawn_on(issued.key.id, number * 10**8)
    with CaptureQueriesContext(connection) as asked:
        found = budgets.ratios(NOW)
    assert [row[2] for row in found] == [0.4, 0.3, 0.2]
    assert [row[1] for row in found] == [prefix(issued) for issued in (made[4], made[3], made[2])]
    assert len(asked) <= 6
    # Of those that nobody has drawn on the newest fill up what is free.
    Balance.objects.all().delete()
    assert len(budgets.ratios(NOW + timedelta(days=1))) == 3
