"""What a key has spent and holds, from the tables."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tenants.limits import NO_LIMITS, BudgetLimit, LimitSet
from tests.gateway.api.calls import log_row, rollup
from usage import spending
from usage.levels import Level
from usage.models import Balance
from usage.spending import Held, Spent

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)


@pytest.mark.django_db
def test_a_months_sums_run_over_every_model(db: None) -> None:
    key = uuid4()
    rollup("2026-03", key, model="a", tokens_in=1, tokens_out=2, cost_nano_usd=5)
    rollup(
        "2026-03", key, model="b", tokens_in=10, tokens_out=20, cost_nano_usd=7, unpriced_requests=1
    )
    rollup("2026-03", uuid4(), tokens_in=1000)
    standing = spending.standing_of(key, NOW)
    assert standing.spent == Spent("2026-03", 2, 11, 22, 12, 1)
    assert (standing.spent.tokens, standing.held) == (33, Held(0, 0))


@pytest.mark.django_db
def test_earlier_months_come_newest_first_and_so_many_at_most(db: None) -> None:
    key = uuid4()
    for month in ("2025-12", "2026-01", "2026-02", "2026-03", "2026-04"):
        rollup(month, key)
    two = spending.standing_of(key, NOW, earlier=2).earlier
    assert [it.month for it in two] == ["2026-02", "2026-01"]
    assert len(spending.standing_of(key, NOW, earlier=12).earlier) == 3
    assert spending.standing_of(uuid4(), NOW, earlier=12).earlier == ()


@pytest.mark.django_db
def test_a_key_not_used_this_month_has_its_earlier_months_all_the_same(db: None) -> None:
    key = uuid4()
    rollup("2026-02", key)
    standing = spending.standing_of(key, NOW, earlier=1)
    assert (standing.spent.requests, [it.month for it in standing.earlier]) == (0, ["2026-02"])


@pytest.mark.parametrize(
    ("now", "then"),
    [((2026, 3, 15), (2026, 4, 1)), ((2026, 12, 31), (2027, 1, 1)), ((2026, 1, 31), (2026, 2, 1))],
)
def test_a_month_ends_where_the_next_begins(
    now: tuple[int, int, int], then: tuple[int, int, int]
) -> None:
    assert spending.next_month(datetime(*now, 23, 59, tzinfo=UTC)) == datetime(*then, tzinfo=UTC)


# --- budgets ----------------------------------------------------------------------------------------------------------


def _drawn_on(level: Level, unit: str, window: str, spent: int, held: int) -> None:
    Balance.objects.create(
        level_kind=level.kind,
        level_id=level.id,
        unit=unit,
        window=window,
        spent=spent,
        held=held,
        ceiling=spent + held,
    )


@pytest.mark.django_db
def test_a_budget_that_calls_have_drawn_on_is_read_from_its_balance(db: None) -> None:
    limits = LimitSet(
        budgets=(BudgetLimit("nano_usd", "month", 100), BudgetLimit("tokens", "day", 9))
    )
    level = Level("key", uuid4(), limits)
    _drawn_on(level, "nano_usd", "month:2026-03", 70, 20)
    _drawn_on(level, "tokens", "day:2026-03-15", 12, 0)
    for stale in ("month:2026-02", "day:2026-03-14", "total"):
        _drawn_on(level, "nano_usd", stale, 1_000, 0)
        _drawn_on(level, "tokens", stale, 1_000, 0)
    rollup("2026-03", level.id, cost_nano_usd=5)
    money, tokens = spending.budgets_of([level], NOW)
    assert (money.spent, money.held, money.remaining) == (70, 20, 10)
    assert money.resets_at == datetime(2026, 4, 1, tzinfo=UTC)
    # A bill may pass its limit; less than nothing is never left.
    assert (tokens.spent, tokens.remaining) == (12, 0)
    assert tokens.resets_at == datetime(2026, 3, 16, tzinfo=UTC)


@pytest.mark.django_db
def test_a_budget_that_nobody_has_drawn_on_begins_with_what_was_spent_before(db: None) -> None:
    key = uuid4()
    rollup("2026-02", key, tokens_in=100, tokens_out=0, cost_nano_usd=1)
    rollup("2026-03", key, model="a", tokens_in=10, tokens_out=5, cost_nano_usd=2)
    rollup("2026-03", key, model="b", tokens_in=1, tokens_out=0, cost_nano_usd=3)
    log_row(key_id=key, created_at=datetime(2026, 3, 15, tzinfo=UTC), cost_nano_usd=7)
    log_row(key_id=key, created_at=datetime(2026, 3, 14, 23, 59, 59, tzinfo=UTC), cost_nano_usd=11)
    log_row(created_at=NOW, cost_nano_usd=13)
    windows = ("day", "month", "total")
    units = ("nano_usd", "tokens")
    limits = LimitSet(budgets=tuple(BudgetLimit(u, w, 10**6) for w in windows for u in units))  # type: ignore[arg-type]
    found = spending.budgets_of([Level("key", key, limits), Level("key", uuid4(), limits)], NOW)
    assert [budget.spent for budget in found] == [7, 30, 5, 16, 6, 116, *[0] * 6]
    standing = spending.standing_of(key, NOW, limits=limits)
    assert standing.budgets == tuple(found[:6])
    month = standing.budget("tokens", "month")
    assert month is not None
    assert (month.spent, month.resets_at) == (16, datetime(2026, 4, 1, tzinfo=UTC))
    assert standing.budget("tokens", "total") == found[5]
    assert found[5].resets_at is None


@pytest.mark.django_db
def test_an_account_has_what_was_paid_in_and_no_more(db: None) -> None:
    account = Level("account", uuid4(), NO_LIMITS)
    (empty,) = spending.budgets_of([account], NOW)
    assert (empty.window, empty.limit, empty.remaining) == ("prepaid", 0, 0)
    _drawn_on(account, "nano_usd", "prepaid", 30, 20)
    Balance.objects.update(credited=80)
    (paid,) = spending.budgets_of([account], NOW)
    assert (paid.limit, paid.spent, paid.held, paid.remaining) == (80, 30, 20, 30)
    assert paid.resets_at is None
    assert spending.budgets_of([Level("key", uuid4(), NO_LIMITS)], NOW) == []
