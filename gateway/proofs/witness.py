"""Reads the balances of a running installation from outside, on a connection of its own, over and over."""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import psycopg

from gateway.proofs.grounds import ProofFailed

_STATEMENT: Final = 'SELECT level_id, unit, "window", spent, held, ceiling FROM usage_balance WHERE spent + held > 0'
_PAUSE_SECONDS: Final = 0.001
_PATIENCE_SECONDS: Final = 20.0

Rows = list[tuple[Any, ...]]


class Name(NamedTuple):
    """Which balance: of whom, in `tokens` or `nano_usd`, and over which window (`month`, `day`, `total`, `prepaid`)."""

    level: UUID
    unit: str
    window: str


@dataclass(frozen=True)
class Balance:
    """In its unit."""

    spent: int
    held: int
    ceiling: int


class Book:
    """One connection that only reads. It belongs to the thread that opened it."""

    def __init__(self, database_url: str) -> None:
        self._read, self.close = opened(database_url)

    def balances(self) -> dict[Name, Balance]:
        """Those that are not empty, in one statement, so of one instant. Raises ProofFailed."""
        try:
            rows = self._read(_STATEMENT)
        except (sqlite3.Error, psycopg.Error) as fault:
            raise ProofFailed(f"The balances cannot be read: {fault}") from fault
        return {
            Name(UUID(str(level)), unit, window.partition(":")[0]): Balance(*map(int, amounts))
            for level, unit, window, *amounts in rows
        }


def opened(database_url: str) -> tuple[Callable[[str], Rows], Callable[[], None]]:
    """What reads with one statement, and what closes it."""
    if not database_url.startswith("sqlite"):
        server = psycopg.connect(database_url, autocommit=True)
        return lambda statement: server.execute(statement.encode()).fetchall(), server.close
    path = urlsplit(database_url).path[1:]
    file = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS)
    return lambda statement: file.execute(statement).fetchall(), file.close


class Witness(threading.Thread):
    """Between `start` and `leave`: the largest excess of spent and held over a limit, and of a ceiling over its limit (overruns).

    It knows the limits of the balances that `expect` named; others it does not judge. `faults` says why it stopped early.
    """

    def __init__(self, database_url: str) -> None:
        super().__init__(name="witness", daemon=True)
        self._database_url = database_url
        self._limits: dict[Name, int] = {}
        self._over = threading.Event()
        self.samples = 0
        self.excess: int | None = None
        """Nano-USD; negative while the nearest was still below. None before anything was seen."""
        self.overrun = 0
        self.most_held = 0
        self.faults: list[str] = []

    def expect(self, name: Name, limit: int) -> None:
        self._limits = {**self._limits, name: limit}

    def leave(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        try:
            with closing(Book(self._database_url)) as book:
                while not self._over.is_set():
                    self._look(book)
                    time.sleep(_PAUSE_SECONDS)
        except (ProofFailed, sqlite3.Error, psycopg.Error) as fault:
            self.faults.append(str(fault))

    def _look(self, book: Book) -> None:
        limits = self._limits
        for name, balance in book.balances().items():
            if name in limits:
                excess = balance.spent + balance.held - limits[name]
                self.excess = excess if self.excess is None else max(self.excess, excess)
                self.overrun = max(self.overrun, balance.ceiling - limits[name])
                self.most_held = max(self.most_held, balance.held)
        self.samples += 1
