"""What workers borrow from balances, renew and give back; and what becomes of slices whose worker is not heard of any more.

Each function is one transaction, runs in a thread that may wait for the database, and raises `django.db.Error` when it is away.
`boot` is the uuid of a worker's journal. Terms and shapes: usage/budget_terms.py.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from usage import windows
from usage.budget_books import Books, Key, Line, write_rows
from usage.budget_starts import Kinds, limits_of, make
from usage.budget_terms import (
    SLICE_SECONDS,
    BudgetAsk,
    Grant,
    Granted,
    Lent,
    Part,
    Reply,
    Short,
    generous,
)
from usage.models import Balance, HoldSlice

#: Past its deadline a slice is left alone for so long: its worker may be slow, or its journal about to be read.
GRACE_SECONDS: Final = 10.0
#: Slices that one sweep looks at.
_AT_ONCE: Final = 500

_NOTHING: Final[Mapping[int, int]] = {}


def lease(
    boot: str, asks: Sequence[BudgetAsk], now: datetime, returns: Mapping[int, int] = _NOTHING
) -> list[Reply]:
    """One reply per ask, in order; an ask sees what those before it were granted. Lent until `now` + SLICE_SECONDS.

    `returns`: what the worker gives back of the slices that it asks for, as with `give_back`; it goes before all asks.
    """
    parts = {_key(part): part for ask in asks for part in ask.parts}
    kinds: Kinds = {key.level_id: part.kind for key, part in parts.items()}
    while True:
        with transaction.atomic():
            books = Books.of_keys(parts, boot)
            lines = books.by_key()
            limits = limits_of(parts, kinds)
            missing = [key for key in parts if key not in lines and limits.get(key, 0) is not None]
            if not missing:
                _take_back(books, returns)
                desk = _Desk(boot, lines, limits, now)
                replies = [desk.answer(ask) for ask in asks]
                books.write()
                return replies
        make(missing, kinds)


class _Desk:
    """Where asks are answered, one after the other, from locked balances."""

    def __init__(
        self, boot: str, lines: Mapping[Key, Line], limits: Mapping[Key, int | None], now: datetime
    ) -> None:
        self._boot = UUID(boot)
        self._lines = lines
        self._limits = limits
        self._until = now + timedelta(seconds=SLICE_SECONDS)

    def answer(self, ask: BudgetAsk) -> Reply:
        parts = [(part, self._limit(_key(part))) for part in ask.parts]
        return self._short(parts) or Granted(tuple(self._grant(*each) for each in parts))

    def _limit(self, key: Key) -> int | None:
        if key.window == windows.PREPAID:
            return self._lines[key].balance.credited
        return self._limits[key]

    def _short(self, parts: Sequence[tuple[Part, int | None]]) -> Short | None:
        """The part that stands in the way; one that is exhausted before one that is only held."""
        found = None
        for place, (part, limit) in enumerate(parts):
            if limit is None:
                continue
            line = self._lines[_key(part)]
            spent, left = line.balance.spent, limit - line.used
            if part.need == 0 or part.need <= left:
                continue
            exhausted = part.bound > limit - spent
            if exhausted or found is None:
                reset_at = windows.ends_at(part.window)
                found = Short(
                    place, "exhausted" if exhausted else "held", limit, spent, left, reset_at
                )
            if exhausted:
                break
        return found

    def _grant(self, part: Part, limit: int | None) -> Grant:
        if limit is None:
            self._close_slice(self._lines.get(_key(part)))
            return Grant(0, 0)
        line = self._lines[_key(part)]
        its_slice = line.slice or self._open_slice(line)
        line.revive()
        line.lend(generous(part.need, part.like, limit - line.used) if part.need else 0)
        line.balance.ceiling = max(limit, line.used)
        line.extend(self._until)
        return Grant(its_slice.id, its_slice.lent, max(0, limit - line.used))

    def _close_slice(self, line: Line | None) -> None:
        """Of a limit that is no more. The worker forgets it, so a limit that comes back begins with a row of its own."""
        if line is not None and line.slice is not None:
            gone = line.slice.id
            line.end_slice()
            HoldSlice.objects.filter(id=gone).delete()

    def _open_slice(self, line: Line) -> HoldSlice:
        line.slice = HoldSlice.objects.create(
            boot=self._boot, balance_id=line.balance.id, amount=0, lent=0, deadline=self._until
        )
        return line.slice


def give_back(boot: str, amounts: Mapping[int, int]) -> None:
    """Slice id → amount; more than is in the slice is as much as is in it. A slice that is not there any more is passed over."""
    with transaction.atomic():
        books = Books.of_slices(boot, amounts)
        _take_back(books, amounts)
        books.write()


def _take_back(books: Books, amounts: Mapping[int, int]) -> None:
    for line in books.lines:
        if line.slice is not None and line.slice.id in amounts:
            line.take_back(amounts[line.slice.id])


def renew(boot: str, now: datetime) -> dict[int, Lent]:
    """Every slice of the worker with something in it is lent until `now` + SLICE_SECONDS: slice id → `Lent`.

    One that was written off is the worker's again: what counted as spent is held.
    """
    with transaction.atomic():
        lost = HoldSlice.objects.filter(boot=boot, written_off_at__isnull=False)
        if ids := list(lost.values_list("id", flat=True)):
            books = Books.of_slices(boot, ids)
            for line in books.lines:
                line.revive()
            books.write()
        mine = HoldSlice.objects.select_for_update().filter(boot=boot).order_by("id")
        found = list(mine.values_list("id", "lent", "amount"))
        full = [row[0] for row in found if row[2] > 0]
        HoldSlice.objects.filter(id__in=full).update(
            deadline=now + timedelta(seconds=SLICE_SECONDS)
        )
    return {row[0]: Lent(row[1], row[2]) for row in found}


def release_all(boot: str) -> None:
    """The worker ended, and the tables have all its entries: what is left in its slices is nobody's, and nobody's debt."""
    with transaction.atomic():
        books = Books.of_slices(boot)
        ids = [line.slice.id for line in books.lines if line.slice is not None]
        for line in books.lines:
            line.end_slice()
        books.write()
        HoldSlice.objects.filter(id__in=ids).delete()


def sweep(now: datetime, present: Collection[str]) -> int:
    """Writes off what workers hold that were not heard of in time: it counts as spent. Gives the number of such slices.

    `present`: boots whose journals are at hand. Such a worker lives, or its journal is about to tell the truth: left alone.
    Slices with nothing in them go. A deadline that no clock of ours can have set (ours was put back) becomes one.
    """
    latest = now + timedelta(seconds=SLICE_SECONDS)
    HoldSlice.objects.filter(deadline__gt=latest + timedelta(seconds=GRACE_SECONDS)).update(
        deadline=latest
    )
    overdue = Q(deadline__lt=now - timedelta(seconds=GRACE_SECONDS), written_off_at=None)
    unheard = HoldSlice.objects.filter(overdue).filter(~Q(boot__in=present) | Q(amount=0))
    if not (boots := dict.fromkeys(unheard.values_list("boot", flat=True)[:_AT_ONCE])):
        return 0
    return sum(_write_off(boot, str(boot) in present, overdue, now) for boot in boots)


def _write_off(boot: UUID, is_present: bool, overdue: Q, now: datetime) -> int:
    with transaction.atomic():
        mine = HoldSlice.objects.filter(overdue, boot=boot)
        mine = mine.filter(amount=0) if is_present else mine
        ids = list(mine.order_by("id").values_list("balance_id", flat=True)[:_AT_ONCE])
        balances = list(Balance.objects.select_for_update().filter(id__in=ids).order_by("id"))
        of = {balance.id: balance for balance in balances}
        # Read again under the locks: a worker may have been heard of in between.
        slices = list(mine.select_for_update().filter(balance_id__in=of).order_by("id"))
        for its_slice in slices:
            of[its_slice.balance_id].held -= its_slice.amount
            of[its_slice.balance_id].spent += its_slice.amount
        write_rows(balances, ())
        full = [each.id for each in slices if each.amount]
        HoldSlice.objects.filter(id__in=full).update(written_off_at=now)
        HoldSlice.objects.filter(id__in=[each.id for each in slices if not each.amount]).delete()
    return len(full)


def _key(part: Part) -> Key:
    return Key(part.id, part.window, part.unit)
