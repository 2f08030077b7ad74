"""What a key has spent and holds, from the tables."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from tests.gateway.api.calls import rollup
from usage import spending
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
