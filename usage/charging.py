"""From new money lines to sums and balances: grouped first, so that a batch costs a few statements however many calls it has."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import UUID

from usage import windows
from usage.budget_books import Books
from usage.models import NOBODY
from usage.tables import Row


class Group(NamedTuple):
    """Whom and what the lines of one group have in common: the levels they are charged to, and when."""

    month: str
    day: str
    key_id: UUID
    project_id: UUID
    account_id: UUID
    tenant_id: UUID
    model_id: UUID
    provider_id: UUID

    @property
    def levels(self) -> tuple[UUID, ...]:
        return self[2:]

    def is_in(self, window: str) -> bool:
        """Whether what these lines cost counts in a window of their levels."""
        kind, _, when = window.partition(":")
        return kind not in {"month", "day"} or when == str(
            self.month if kind == "month" else self.day
        )


class Sum(NamedTuple):
    tokens: int
    nano_usd: int


def sums_of(entries: Iterable[Row]) -> dict[Group, Sum]:
    """What money lines come to, by those who are charged for it."""
    # By plain numbers first: a UUID hashes in Python, and most lines of a batch have their callers in common.
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for entry in entries:
        place = (
            entry.day,
            entry.month,
            entry.key_id.int,
            entry.project_id.int,
            entry.account_id.int,
            entry.tenant_id.int,
            entry.model_id.int,
            entry.provider_id.int,
        )
        found = sums.get(place)
        if found is None:
            found = sums[place] = [entry, 0, 0]
        found[1] += entry.tokens_in + entry.tokens_out
        found[2] += entry.cost_nano_usd or 0
    return {
        Group(*(getattr(entry, name) for name in Group._fields)): Sum(tokens, nano_usd)
        for entry, tokens, nano_usd in sums.values()
    }


def charge(sums: dict[Group, Sum], boot: str | None) -> None:
    """Moves what was used into `spent` of every balance of its levels and windows: out of the slices of `boot`, as far as those
    go. Balances that do not exist are not made: they begin with the sums.

    To be called where the transaction writes its last rows: these are what workers wait for.
    """
    levels: dict[UUID, list[Group]] = defaultdict(list)
    names = {windows.TOTAL, windows.PREPAID}
    for group in sums:
        names |= {windows.month_window(group.month), windows.day_window(group.day)}
        for level_id in group.levels:
            if level_id != NOBODY:
                levels[level_id].append(group)
    if not levels:
        return
    books = Books.of_levels(levels, names, boot)
    for line in books.lines:
        balance = line.balance
        in_tokens = balance.unit == "tokens"
        cost = sum(
            sums[group].tokens if in_tokens else sums[group].nano_usd
            for group in levels[balance.level_id]
            if group.is_in(balance.window)
        )
        if cost:
            line.charge(cost)
    books.write()
