"""Quarters of a day, summed up: once a quarter is over, what its calls came to is written down, so that figures over days need
not read them again, and stay what they were when the log forgets.

A quarter is closed some time after its end. Whoever brings a call into the log that belongs to one that ended earlier reopens it,
in the transaction that brings the call; so does whoever corrects a call. Then it counts from the log until it is closed anew.

Nobody is missed. To close, a token is written first, under a lock that late batches share (on SQLite, where there is one writer
at a time, there is no need of one): every late call is there by then and is summed up, or its batch comes afterwards, and takes
the token away. Sums are written only while the token stands. A batch that came in time takes no lock; it has `_CLOSED_AFTER` -
`_LATE_AFTER` for its commit, which is many times as long as a transaction may last, and for clocks that differ.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import connection, transaction
from django.db.models import F, Min, QuerySet

from tenants.chores import Chore, Sweep
from tenants.clock import SYSTEM
from usage.histograms import pack
from usage.models import NOBODY, RequestLog
from usage.quarter_models import Quarter, QuarterSum
from usage.tables import MAX_SUM
from usage.tallies import TIMES, Sums, Tallies, Tally, tallies

QUARTER: Final = timedelta(hours=6)
#: The columns of `QuarterSum` with the histograms of `TIMES`.
BINS: Final = tuple(f"{name.removesuffix('us')}bins" for name in TIMES)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: After its end.
_LATE_AFTER: Final = timedelta(minutes=10)
_CLOSED_AFTER: Final = timedelta(minutes=30)
_LATE_US: Final = _LATE_AFTER // timedelta(microseconds=1)
_QUARTER_US: Final = QUARTER // timedelta(microseconds=1)
#: PostgreSQL's advisory lock that late batches share and that whoever begins to close a quarter has for itself.
_LOCK: Final = 0x6761_7465_7175_6172
#: Seconds that a round may take: others want their turn.
_ROUND_SECONDS: Final = 240.0
_ROWS_AT_ONCE: Final = 200


def start_of(moment: datetime) -> datetime:
    """Of the quarter that a moment is in."""
    return moment - (moment - _EPOCH) % QUARTER


def closed(since: datetime | None, until: datetime | None) -> list[datetime]:
    """The starts of closed quarters that are whole between two moments, oldest first; null: there is no such bound."""
    found = Quarter.objects.filter(is_closed=True)
    if since is not None:
        found = found.filter(start__gte=since)
    if until is not None:
        found = found.filter(end__lte=until)
    return list(found.order_by("start").values_list("start", flat=True))


# --- late calls ---------------------------------------------------------------------------------------------------------


def reopen_late(received_us: Sequence[int]) -> None:
    """In the transaction that brings calls into the log, after their rows: when they came, in microseconds since 1970."""
    edge = (SYSTEM.unix_us() - _LATE_US) // _QUARTER_US * _QUARTER_US
    if min(received_us, default=edge) < edge:
        numbers = {it // _QUARTER_US for it in received_us if it < edge}
        reopen([_EPOCH + number * QUARTER for number in numbers])


def reopen(starts: Collection[datetime]) -> None:
    """In the transaction that changed rows of these quarters. Of one that the log knows no longer whole the sums stay."""
    if not starts:
        return
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [_LOCK])
    Quarter.objects.filter(start__in=starts, is_pruned=False).delete()


def keep_sums(start: datetime) -> bool:
    """In the transaction that deletes log rows of a quarter. False: it is not closed, and its rows must stay."""
    return Quarter.objects.filter(start=start, is_closed=True).update(is_pruned=True) == 1


# --- closing ------------------------------------------------------------------------------------------------------------


class Closing(Chore):
    """A chore beside those that delete: it counts quarters, not rows."""

    def count(self, now: datetime) -> int:
        return len(_open(now))

    def do(self, sweep: Sweep, now: datetime) -> None:
        """The newest first, for a bounded time: those of a large old log are closed by and by."""
        until = SYSTEM.monotonic() + _ROUND_SECONDS
        left = _open(now)
        began = SYSTEM.monotonic()
        empty = close_empty(left)
        sweep.deleted(self.name, len(empty), SYSTEM.monotonic() - began)
        for start in left:
            if start in empty:
                continue
            if SYSTEM.monotonic() > until or not sweep.goes_on():
                return
            began = SYSTEM.monotonic()
            written = close(start)
            sweep.longest = max(sweep.longest, written)
            sweep.deleted(self.name, 1, SYSTEM.monotonic() - began)


def close(start: datetime) -> float:
    """Sums a quarter up, unless calls come into it meanwhile: then it is for the next time. Seconds that the writing took."""
    token = _begun([start])
    if not Quarter.objects.filter(token=token).exists():
        return 0.0
    # Read without a lock: on SQLite everybody else may write meanwhile.
    rows = list(_rows(start, tallies(_calls(start), of_tenant=F("tenant_id"), of_model=F("model"))))
    began = SYSTEM.monotonic()
    with transaction.atomic():
        if _end([start], token):
            QuarterSum.objects.filter(start=start).delete()
            QuarterSum.objects.bulk_create(rows, batch_size=_ROWS_AT_ONCE)
    return SYSTEM.monotonic() - began


def close_empty(starts: Sequence[datetime]) -> set[datetime]:
    """Closes those of these quarters in which nothing was, all at once: a house may have been quiet for long."""
    token = _begun(starts)
    empty = {start for start in starts if not _calls(start).exists()}
    _end(empty, token)
    return empty


def _begun(starts: Sequence[datetime]) -> UUID:
    """The token of these quarters, those left out that are closed already."""
    token = uuid4()
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        Quarter.objects.filter(start__in=starts, is_closed=False).delete()
        made = [Quarter(start=start, end=start + QUARTER, token=token) for start in starts]
        Quarter.objects.bulk_create(made, ignore_conflicts=True)
    return token


def _end(starts: Collection[datetime], token: UUID) -> int:
    """How many of them nobody has reopened since: they are closed now."""
    mine = Quarter.objects.filter(start__in=starts, token=token, is_closed=False)
    return mine.update(is_closed=True)


def _calls(start: datetime) -> "QuerySet[RequestLog]":
    return RequestLog.objects.filter(created_at__gte=start, created_at__lt=start + QUARTER)


def _open(now: datetime) -> Sequence[datetime]:
    """The quarters that are over, in the log, and not closed; newest first."""
    oldest: datetime | None = RequestLog.objects.aggregate(oldest=Min("created_at"))["oldest"]
    if oldest is None:
        return []
    first, after = start_of(oldest), start_of(now - _CLOSED_AFTER)
    known = set(closed(first, after))
    every = (first + number * QUARTER for number in range((after - first) // QUARTER))
    return sorted((start for start in every if start not in known), reverse=True)


def _rows(start: datetime, found: Tallies) -> Iterator[QuarterSum]:
    """Of each tenant's models, and of what they add up to: the tenant, the house's models, the house."""
    sums: defaultdict[tuple[UUID, bool, str], Tally] = defaultdict(Tally)
    for (tenant_id, model), tally in found.items():
        for whose in (tenant_id, NOBODY):
            sums[whose, False, model].add(tally)
            sums[whose, True, ""].add(tally)
    for (tenant_id, is_whole, model), tally in sums.items():
        times: dict[str, Any] = {}
        for name, bins, histogram in zip(TIMES, BINS, tally.times, strict=True):
            times[name] = histogram.total
            times[bins] = pack(histogram.bins)
        yield QuarterSum(
            start=start,
            tenant_id=tenant_id,
            is_whole=is_whole,
            model=model,
            **{
                name: min(number, MAX_SUM)
                for name, number in zip(Sums._fields, tally.sums, strict=True)
            },
            **times,
        )


CLOSING: Final = Closing(
    "quarters",
    "quarters of a day that were over, and are summed up now",
    lambda now: (),
    is_frequent=True,
)
