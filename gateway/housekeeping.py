"""Forgetting what is over: every table's chore, once or for ever again.

One worker of the installation does it while all serve: daily, and each hour what is cheap. `manage.py housekeeping` does the same
for those who would rather have cron do it. Two that do it at once share the work, and neither is in the other's way.
"""

import logging
import random
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from django.db import DatabaseError, connection

from tenants import duties, forgetting, patience
from tenants.actor import Actor, system_actor
from tenants.audit import Entry, Target
from tenants.changes import change, note
from tenants.chores import Chore, Sweep
from tenants.clock import SYSTEM
from usage import forgetting as forgetting_calls
from usage.quarters import CLOSING

logger = logging.getLogger(__name__)

#: What log rows came to is summed up before they may go.
CHORES: Final[Sequence[Chore]] = (
    CLOSING,
    *forgetting_calls.CHORES,
    *forgetting.CHORES,
)
DAILY: Final = "housekeeping"
_HOURLY: Final = "housekeeping-hourly"


@dataclass(slots=True)
class Report:
    """Rows that went, by chore; of a dry run those that would."""

    rows: dict[str, int] = field(default_factory=dict)
    #: Seconds of the longest transaction.
    longest: float = 0.0
    is_whole: bool = True

    @property
    def total(self) -> int:
        return sum(number for name, number in self.rows.items() if name != CLOSING.name)


def count(chores: Collection[Chore] = CHORES, now: datetime | None = None) -> Report:
    """What a run would delete now."""
    now = now or SYSTEM.now()
    return Report({chore.name: chore.count(now) for chore in chores})


def run(sweep: Sweep, chores: Collection[Chore] = CHORES, now: datetime | None = None) -> Report:
    """Deletes what is over. To do it twice changes nothing, and what was broken off is gone on with. A row of the audit log says
    what went of all that anybody could have looked up.
    """
    now = now or SYSTEM.now()
    try:
        for chore in chores:
            sweep.do(chore, now)
    finally:
        _note([chore for chore in chores if not chore.is_frequent], sweep)
    return Report(dict(sweep.rows), sweep.longest, sweep.goes_on())


def ask(*, actor: Actor) -> None:
    """Have a worker do it at its next look, instead of waiting for the day to be over."""
    with change(actor, "housekeeping.asked", Target("house", "housekeeping")):
        duties.ask(DAILY)


def _note(told: Collection[Chore], sweep: Sweep) -> None:
    gone: dict[str, Any] = {
        chore.name: sweep.rows[chore.name] for chore in told if sweep.rows.get(chore.name)
    }
    if gone:
        note(Entry(sweep.actor, "housekeeping.done", Target("house", "housekeeping"), details=gone))


# --- in a worker --------------------------------------------------------------------------------------------------------

#: Seconds between looks whether it is time and nobody else's turn, and before the first.
_LOOK_SECONDS: Final = 60.0
_FIRST_LOOK_SECONDS: Final = 10.0
#: A turn is renewed so often, many times before it would be lost.
_RENEW_SECONDS: Final = 30.0
#: Seconds that PostgreSQL may take for one answer. Nobody waits for this thread.
_ANSWER_SECONDS: Final = 15.0
_TURNS: Final[tuple[tuple[str, timedelta, Callable[[Chore], bool]], ...]] = (
    (_HOURLY, timedelta(hours=1), lambda chore: chore.is_frequent),
    (DAILY, timedelta(days=1), lambda chore: not chore.is_frequent),
)


class Housekeeper:
    """A thread of each worker, beside the relay: it looks whether it is its turn, and does the work if it is."""

    def __init__(self, first_look: float = _FIRST_LOOK_SECONDS) -> None:
        self.holder = uuid4().hex
        self.runs = 0
        self.rows = 0
        self._first_look = first_look
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._live, name="housekeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """After the batch that it is at."""
        self._ends.set()
        self._thread.join(timeout)

    def report(self) -> dict[str, object]:
        """For `/health/detail`: of this worker, since its start."""
        return {"runs": self.runs, "rows": self.rows}

    def _live(self) -> None:
        patience.bound_thread(_ANSWER_SECONDS)
        pause = self._first_look
        while not self._ends.wait(pause * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads, hides nothing
            pause = _LOOK_SECONDS
            self.look()

    def look(self) -> None:
        """Does what is due, if it is nobody else's turn."""
        try:
            for name, every, is_mine in _TURNS:
                if not self._ends.is_set() and duties.take(name, self.holder, SYSTEM.now(), every):
                    self._do(name, [chore for chore in CHORES if is_mine(chore)])
        except DatabaseError as fault:
            # Whoever asks when this turn has run out goes on with it.
            logger.warning("Housekeeping was broken off: %s", type(fault).__name__)
        except Exception:
            logger.exception("Housekeeping failed.")
        finally:
            connection.close()

    def _do(self, name: str, chores: list[Chore]) -> None:
        turn = _Turn(name, self.holder, self._ends)
        sweep = Sweep(system_actor("housekeeping"), turn.goes_on, rest=self._ends.wait)
        report = run(sweep, chores)
        self.rows += report.total
        if report.is_whole:
            duties.done(name, self.holder, SYSTEM.now())
            self.runs += 1


class _Turn:
    """Whether it is still ours, asked after each batch and looked up now and then."""

    def __init__(self, name: str, holder: str, ends: threading.Event) -> None:
        self._name, self._holder, self._ends = name, holder, ends
        self._renewed = SYSTEM.monotonic()
        self._is_ours = True

    def goes_on(self) -> bool:
        if self._is_ours and SYSTEM.monotonic() - self._renewed > _RENEW_SECONDS:
            self._is_ours = duties.renew(self._name, self._holder, SYSTEM.now())
            self._renewed = SYSTEM.monotonic()
        return self._is_ours and not self._ends.is_set()
