"""The one clock: wall time for what is written down, monotonic time for what is waited for."""

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol


class Clock(Protocol):
    """What code that needs the time is handed, so that a test can hand over another one."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def unix_us(self) -> int:
        """The wall clock in microseconds since 1970-01-01T00:00Z."""

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean anything."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    #: Asked a dozen times in a call, so without a frame of ours in between.
    monotonic = staticmethod(time.monotonic)

    def unix_us(self) -> int:
        return time.time_ns() // 1000


SYSTEM: Clock = SystemClock()


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_unix_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment, exact also for moments that a float is not."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def month_of(unix_us: int) -> str:
    """The UTC calendar month, `YYYY-MM`, in which a moment (microseconds since 1970) lies."""
    return _month_of_hour(unix_us // 3_600_000_000)


@lru_cache(maxsize=64)
def _month_of_hour(hour: int) -> str:
    moment = time.gmtime(hour * 3_600)
    return f"{moment.tm_year:04d}-{moment.tm_mon:02d}"


def from_unix_us(unix_us: int) -> datetime:
    """The aware UTC datetime of a moment in microseconds since 1970, exact to the microsecond."""
    seconds, micros = divmod(unix_us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
