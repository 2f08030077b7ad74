"""The calendar windows of budgets, by name: `month:2026-11`, `day:2026-11-22`, `total`, and `prepaid` for an account. Pure.

All in UTC, and of the moment when a call came: what it costs belongs to the windows in which it began. A window is nothing but
its name, so a clock that jumps back finds the window again in which it was.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

TOTAL: Final = "total"
PREPAID: Final = "prepaid"
DAY_US: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(unix_us: int) -> str:
    """The UTC day, `YYYY-MM-DD`, of a moment in microseconds since 1970."""
    return _day(unix_us // DAY_US)


@lru_cache(maxsize=64)
def _day(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).strftime("%Y-%m-%d")


def month_window(month: str) -> str:
    return f"month:{month}"


def day_window(day: str) -> str:
    return f"day:{day}"


def window_at(kind: str, unix_us: int) -> str:
    """The window of a kind (`day`, `month`, `total`, `prepaid`) in which a moment lies."""
    day = day_of(unix_us)
    return {"day": day_window(day), "month": month_window(day[:7])}.get(kind, kind)


def kind_of(window: str) -> str:
    """`day`, `month`, `total` or `prepaid`."""
    return window.partition(":")[0]


def ends_at(window: str) -> int | None:
    """When a window ends, in microseconds since 1970; None for those that do not."""
    kind, _, name = window.partition(":")
    if kind == "day":
        end = datetime.fromisoformat(name).replace(tzinfo=UTC) + timedelta(days=1)
    elif kind == "month":
        year, month = int(name[:4]), int(name[5:7])
        end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    else:
        return None
    return (end - _EPOCH) // timedelta(microseconds=1)
