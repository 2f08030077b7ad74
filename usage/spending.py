"""What a key has spent and what it has set aside, read from the tables. Months are calendar months in UTC."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db.models import Sum

from usage.models import Hold, Rollup

_COLUMNS: Final = ("requests", "tokens_in", "tokens_out", "cost_nano_usd", "unpriced_requests")


@dataclass(frozen=True, slots=True)
class Spent:
    """Sums of one month (`YYYY-MM`). `cost_nano_usd` is of what had a price; `unpriced_requests` says how many it leaves out."""

    month: str
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nano_usd: int = 0
    unpriced_requests: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out


@dataclass(frozen=True, slots=True)
class Held:
    """What calls in flight may still use, at most."""

    tokens: int
    nano_usd: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a key stands in the running month, and the earlier months that were asked for, newest first."""

    spent: Spent
    held: Held
    earlier: tuple[Spent, ...]


def standing_of(key_id: UUID, now: datetime, earlier: int = 0) -> Standing:
    """The running month's sums of a key and its open holds; and at most so many earlier months in which it was used."""
    month = f"{now:%Y-%m}"
    months = list(_months(key_id, "" if earlier else month, month, earlier + 1))
    spent = months.pop(0) if months and months[0].month == month else Spent(month)
    held = Hold.objects.filter(key_id=key_id).aggregate(
        tokens=Sum("tokens", default=0), nano_usd=Sum("nano_usd", default=0)
    )
    return Standing(spent, Held(**held), tuple(months[:earlier]))


def next_month(now: datetime) -> datetime:
    """When the running month's sums begin anew."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return first.replace(year=year, month=month)


def _months(key_id: UUID, first: str, last: str, most: int) -> Iterator[Spent]:
    """Newest first. A month has a row per model, and per project or account that the key belonged to."""
    rows = (
        Rollup.objects.filter(key_id=key_id, month__gte=first, month__lte=last)
        .values("month")
        .annotate(**{name: Sum(name) for name in _COLUMNS})
        .order_by("-month")[:most]
    )
    return (Spent(**row) for row in rows)
