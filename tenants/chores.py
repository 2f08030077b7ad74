"""How rows that are over are deleted while others write: in batches, each a short transaction, with a pause after it.

A chore says which rows may go; a sweep takes them away. How many rows a batch has follows from how long the last one took, so
that on SQLite, where there is one writer at a time, nobody waits for a sweep longer than for anybody else.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction
from django.db.models import QuerySet

from tenants.actor import Actor
from tenants.clock import SYSTEM

#: Seconds that the transaction of a batch should take.
_AIM: Final = 0.015
_FEWEST: Final = 5
_MOST: Final = 2_000
#: Pauses are so many times as long as the batch before them: a writer on SQLite finds the lock free most of the time.
_REST: Final = 2.0
_SHORTEST_REST: Final = 0.005

Found = Sequence[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Pile:
    """Rows that may go, in the order in which they go. `delete` takes what was read of `columns` of some of them, in a
    transaction, and says how many of them it deleted. `first`: rows of the first batch.
    """

    rows: "QuerySet[Any]"
    columns: tuple[str, ...] = ("pk",)
    delete: Callable[[Found], int] | None = None
    first: int = 100

    def take(self, number: int) -> int | None:
        """Deletes up to so many. None: there are none any more."""
        return self._take_unlocked(number) if connection.vendor == "sqlite" else self._take(number)

    def _take_unlocked(self, number: int) -> int | None:
        """To read needs no lock there; the row that somebody else deletes meanwhile is theirs to count."""
        found = list(self.rows.values_list(*self.columns)[:number])
        if not found:
            return None
        with transaction.atomic():
            return self._deleted(found)

    def _take(self, number: int) -> int | None:
        """Two that sweep at once take different rows, and neither waits for the other."""
        with transaction.atomic():
            locked = self.rows.select_for_update(skip_locked=True)
            found = list(locked.values_list(*self.columns)[:number])
            return self._deleted(found) if found else None

    def _deleted(self, found: Found) -> int:
        if self.delete is not None:
            return self.delete(found)
        chosen = self.rows.model._default_manager.filter(pk__in=[row[0] for row in found])
        return int(chosen.delete()[0])


@dataclass(frozen=True, slots=True)
class Chore:
    """`name` is what `--only` takes. `piles`: the rows that are over at a moment. `is_frequent`: each hour, not only daily."""

    name: str
    what: str
    piles: Callable[[datetime], Iterable[Pile]]
    is_frequent: bool = False

    def count(self, now: datetime) -> int:
        return sum(pile.rows.count() for pile in self.piles(now))

    def do(self, sweep: "Sweep", now: datetime) -> None:
        for pile in self.piles(now):
            sweep.clear(self.name, pile)


@dataclass(slots=True)
class Sweep:
    """On behalf of `actor`. `goes_on` is asked after each batch; `progress` hears of each how many rows it deleted."""

    actor: Actor
    goes_on: Callable[[], bool] = lambda: True
    progress: Callable[[int], object] = lambda number: None
    rest: Callable[[float], object] = time.sleep
    #: Rows that went, by chore, and seconds of the longest batch.
    rows: dict[str, int] = field(default_factory=dict, init=False)
    longest: float = field(default=0.0, init=False)

    def do(self, chore: Chore, now: datetime) -> None:
        """What was begun and not finished is gone on with the next time."""
        self.rows.setdefault(chore.name, 0)
        chore.do(self, now)

    def clear(self, name: str, pile: Pile) -> None:
        number = pile.first
        while self.goes_on():
            began = SYSTEM.monotonic()
            deleted = pile.take(number)
            if deleted is None:
                return
            took = SYSTEM.monotonic() - began
            self.longest = max(self.longest, took)
            number = _next(number, took)
            self.deleted(name, deleted, took)

    def deleted(self, name: str, number: int, took: float) -> None:
        """A batch is done, and it is others' turn."""
        self.rows[name] += number
        self.progress(number)
        self.rest(max(_SHORTEST_REST, _REST * took))


def _next(number: int, took: float) -> int:
    """At most twice as many as before: what was quick once may have been lucky."""
    wanted = number * _AIM / max(took, 1e-6)
    return max(_FEWEST, min(_MOST, 2 * number, int(wanted)))
