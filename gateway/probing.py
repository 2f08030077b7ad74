"""Asking every active provider how it is, now and then: one worker for all, with a question that costs nothing anywhere."""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from queue import Empty, SimpleQueue
from typing import Final
from uuid import UUID, uuid4

from django.conf import settings
from django.db import DatabaseError, connection

from providers import health
from providers.listing import Reply
from providers.models import Provider
from tenants import duties, patience
from tenants.clock import SYSTEM

logger = logging.getLogger(__name__)

DUTY: Final = "provider-probes"
#: Providers of one round at most, and of those how many are asked at once.
_MOST: Final = 1_000
_AT_ONCE: Final = 4
#: Seconds until somebody who waits for an answer looks whether the worker ends.
_WAIT_SECONDS: Final = 0.2
#: Looks whether it is time, in one interval; and seconds between two at least.
_LOOKS: Final = 4
_LEAST_PAUSE: Final = 0.2
#: Seconds that PostgreSQL may take for one answer. Nobody waits for this thread.
_ANSWER_SECONDS: Final = 15.0


_Question = tuple[UUID, Callable[[], Reply]]


class Prober:
    """A thread of each worker, beside the relay: it looks whether it is its turn, and asks if it is."""

    def __init__(self, seconds: float) -> None:
        self.holder = uuid4().hex
        self.rounds = 0
        self._every = timedelta(seconds=seconds)
        self._pause = max(_LEAST_PAUSE, seconds / _LOOKS)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._live, name="prober", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Without waiting for upstreams that are being asked."""
        self._ends.set()
        self._thread.join(timeout)

    def report(self) -> dict[str, object]:
        """For `/health/detail`: of this worker, since its start."""
        return {"rounds": self.rounds}

    def _live(self) -> None:
        patience.bound_thread(_ANSWER_SECONDS)
        while not self._ends.wait(self._pause * random.uniform(0.8, 1.2)):  # noqa: S311 - spreads, hides nothing
            try:
                self.look()
            finally:
                connection.close()

    def look(self) -> None:
        """Asks all, if it is time and nobody else's turn."""
        try:
            if duties.take(DUTY, self.holder, SYSTEM.now(), self._every):
                self._round()
        except DatabaseError as fault:
            # Whoever looks when this turn has run out asks anew.
            logger.warning("Providers were not asked how they are: %s", type(fault).__name__)
        except Exception:
            logger.exception("Asking providers how they are failed.")

    def _round(self) -> None:
        began = SYSTEM.now()
        active = Provider.objects.filter(is_active=True).order_by("id")[:_MOST]
        # The questions are made here: those who ask them touch no database.
        for provider_id, reply in self._answers(
            [(each.id, health.asking(each)) for each in active]
        ):
            if not duties.renew(DUTY, self.holder, SYSTEM.now()):
                return
            health.record(provider_id, reply)
        if not self._ends.is_set():
            duties.done(DUTY, self.holder, began)
            self.rounds += 1

    def _answers(self, questions: list[_Question]) -> Iterator[tuple[UUID, Reply]]:
        """As they come, until all are here or the worker ends."""
        waiting: SimpleQueue[_Question] = SimpleQueue()
        answers: SimpleQueue[tuple[UUID, Reply | None]] = SimpleQueue()
        for question in questions:
            waiting.put(question)
        for _ in range(min(_AT_ONCE, len(questions))):
            # Nobody waits for them at the end: what they ask has its own limit of time.
            threading.Thread(
                target=_ask, args=(waiting, answers, self._ends), name="probe", daemon=True
            ).start()
        left = len(questions)
        while left and not self._ends.is_set():
            try:
                provider_id, reply = answers.get(timeout=_WAIT_SECONDS)
            except Empty:
                continue
            left -= 1
            if reply is not None:
                yield provider_id, reply


def _ask(
    waiting: "SimpleQueue[_Question]",
    answers: "SimpleQueue[tuple[UUID, Reply | None]]",
    ends: threading.Event,
) -> None:
    while not ends.is_set():
        try:
            provider_id, ask = waiting.get_nowait()
        except Empty:
            return
        reply = None
        try:
            reply = ask()
        except Exception:
            logger.exception("A provider could not be asked how it is.")
        answers.put((provider_id, reply))


def started() -> Prober | None:
    """The prober of this worker, unless the house wants none."""
    if not settings.PROBE_SECONDS:
        return None
    prober = Prober(settings.PROBE_SECONDS)
    prober.start()
    return prober
