"""Work done at once, by threads with database connections of their own."""

import threading
from collections.abc import Callable
from typing import TypeVar

from django.db import connections

PATIENCE = 60.0
T = TypeVar("T")


def at_once(*jobs: Callable[[], T]) -> list[T]:
    """What the jobs returned, in order. They start together; the first exception among them is raised here."""
    ready = threading.Barrier(len(jobs))
    results: dict[int, T] = {}
    faults: dict[int, Exception] = {}

    def work(number: int, job: Callable[[], T]) -> None:
        try:
            ready.wait(PATIENCE)
            results[number] = job()
        except Exception as fault:  # noqa: BLE001 - raised again below, in the thread of the test
            faults[number] = fault
        finally:
            connections.close_all()

    threads = [
        threading.Thread(target=work, args=(number, job), daemon=True)
        for number, job in enumerate(jobs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), f"a job had not ended after {PATIENCE} s"
    for _, fault in sorted(faults.items()):
        raise fault
    return [results[number] for number in range(len(jobs))]
