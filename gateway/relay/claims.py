"""Calls with an Idempotency-Key: whose a call is, asked in a thread. Who repeats one that is running waits here for its end."""

import logging
from asyncio import Future, get_running_loop
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Final
from uuid import UUID

from django.db import DatabaseError, connection

from tenants.clock import Clock
from tenants.sealing import SealingError
from usage import idempotency
from usage.idempotency import Outcome, Verdict, Wish

logger = logging.getLogger(__name__)

#: Seconds for which a repetition waits for the first call's answer.
WAIT: Final = 60.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0
#: Repetitions that wait in one worker; more are told to come back at once.
MAX_WAITING: Final = 1_000


class Unclaimable:
    """It could not be asked: the call is not made."""


UNCLAIMABLE: Final = Unclaimable()
Told = Callable[[Outcome | Unclaimable], None]


class Claims:
    """Of one worker; lives on the loop's thread."""

    def __init__(self, executor: Executor, clock: Clock, boot: UUID) -> None:
        self._executor = executor
        self._boot = boot
        self._clock = clock
        self._waiting = 0

    def ask(self, wish: Wish, tell: Told, is_over: Callable[[], bool]) -> None:
        """Calls `tell` once, later. Who waits and `is_over` is not told any more; a claim that was won is told in any case."""
        self._ask(wish, tell, is_over, self._clock.monotonic() + WAIT, _FIRST_PAUSE)

    def give_back(self, claim: UUID) -> None:
        """Of a call that was not made, where the journal cannot say so."""
        self._executor.submit(_give_back, claim)

    def _ask(
        self, wish: Wish, tell: Told, is_over: Callable[[], bool], until: float, pause: float
    ) -> None:
        asked = get_running_loop().run_in_executor(self._executor, _claim, wish, self._boot)
        asked.add_done_callback(partial(self._asked, wish, tell, is_over, until, pause))

    def _asked(
        self,
        wish: Wish,
        tell: Told,
        is_over: Callable[[], bool],
        until: float,
        pause: float,
        asked: "Future[Outcome]",
    ) -> None:
        if asked.cancelled():
            return
        fault = asked.exception()
        if fault is not None:
            if not isinstance(fault, DatabaseError | SealingError):
                logger.error("An Idempotency-Key could not be looked up.", exc_info=fault)
            tell(UNCLAIMABLE)
            return
        outcome = asked.result()
        left = until - self._clock.monotonic()
        if outcome is not Verdict.IN_FLIGHT or left <= 0 or self._waiting >= MAX_WAITING:
            tell(outcome)
            return
        self._waiting += 1
        get_running_loop().call_later(
            min(pause, left),
            self._again,
            wish,
            tell,
            is_over,
            until,
            min(2 * pause, _LONGEST_PAUSE),
        )

    def _again(
        self, wish: Wish, tell: Told, is_over: Callable[[], bool], until: float, pause: float
    ) -> None:
        self._waiting -= 1
        if not is_over():
            self._ask(wish, tell, is_over, until, pause)


def _give_back(claim: UUID) -> None:
    try:
        idempotency.give_back(claim)
    except DatabaseError as fault:
        logger.warning("An Idempotency-Key could not be given back: %s", fault)
    finally:
        connection.close()


def _claim(wish: Wish, boot: UUID) -> Outcome:
    try:
        return idempotency.claim(wish, boot)
    finally:
        connection.close()
