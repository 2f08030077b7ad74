"""The resolver's threads, against names that nobody answers for."""

import asyncio
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
import uvloop

from tenants import resolver
from tenants.resolver import SystemResolver

SECONDS = 0.3
THREADS = 4


class Names:
    """What is asked: names with `dead` in them hang until `revive`, those with `none` have no address."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.hanging = 0
        self._counting = threading.Lock()
        self._revived = threading.Event()

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked[host] += 1
        if "dead" in host:
            self._count(1)
            self._revived.wait(30)
            self._count(-1)
        if "none" in host:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return ["192.0.2.1"]

    def _count(self, change: int) -> None:
        with self._counting:
            self.hanging += change

    def die(self) -> None:
        self._revived.clear()

    def revive(self) -> None:
        self._revived.set()


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.revive()


@pytest.fixture
def system(names: Names) -> SystemResolver:
    return SystemResolver(names, seconds=SECONDS, threads=THREADS)


def eventually(look: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def takes(system: SystemResolver, host: str) -> float:
    """The seconds until it is refused."""
    began = time.monotonic()
    with pytest.raises(OSError):
        system.lookup_sync(host, 443)
    return time.monotonic() - began


def test_dead_names_do_not_hold_up_good_ones_under_the_servers_loop() -> None:
    names = Names()
    system = SystemResolver(names, seconds=SECONDS)

    async def run() -> float:
        dead = [asyncio.create_task(system.lookup(f"dead{i}.example", 443)) for i in range(8)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await system.lookup("good.example", 443) == ["192.0.2.1"]
        took = time.monotonic() - began
        assert all(
            isinstance(end, TimeoutError)
            for end in await asyncio.gather(*dead, return_exceptions=True)
        )
        return took

    assert uvloop.run(run()) < SECONDS
    names.revive()


def test_a_name_is_asked_for_once_by_all_who_want_it_at_the_same_time(
    system: SystemResolver, names: Names
) -> None:
    async def run() -> None:
        waiting = [asyncio.create_task(system.lookup("dead.example", 443)) for _ in range(50)]
        await asyncio.sleep(0.05)
        names.revive()
        assert await asyncio.gather(*waiting) == [["192.0.2.1"]] * 50

    asyncio.run(run())
    assert names.asked == {"dead.example": 1}


def test_one_who_gives_up_takes_the_answer_from_nobody_else(
    system: SystemResolver, names: Names
) -> None:
    async def run() -> None:
        impatient = asyncio.create_task(system.lookup("dead.example", 443))
        patient = asyncio.create_task(system.lookup("dead.example", 443))
        await asyncio.sleep(0.05)
        impatient.cancel()
        await asyncio.sleep(0)
        names.revive()
        assert await patient == ["192.0.2.1"]

    asyncio.run(run())


def test_a_name_that_hangs_is_refused_at_once_until_its_thread_is_back(
    system: SystemResolver, names: Names
) -> None:
    assert takes(system, "dead.example") >= SECONDS
    for _ in range(5):
        assert takes(system, "dead.example") < SECONDS / 2
    assert names.asked == {"dead.example": 1}
    names.revive()
    eventually(lambda: not names.hanging and not system._open)
    assert system.lookup_sync("dead.example", 443) == ["192.0.2.1"]


def test_new_names_hold_half_of_the_threads_at_most_and_then_fail_fast(
    system: SystemResolver, names: Names
) -> None:
    system.lookup_sync("good.example", 443)
    refused = [
        threading.Thread(target=takes, args=(system, f"dead{i}.example")) for i in range(THREADS)
    ]
    for thread in refused:
        thread.start()
    eventually(lambda: names.hanging == THREADS // 2)
    assert system.lookup_sync("good.example", 443) == ["192.0.2.1"]
    for thread in refused:
        thread.join()
    assert takes(system, "new.example") < SECONDS / 2
    assert names.hanging == THREADS // 2
    assert system.lookup_sync("good.example", 443) == ["192.0.2.1"]
    names.revive()
    eventually(lambda: not system._open)
    assert system.lookup_sync("new.example", 443) == ["192.0.2.1"]


def test_a_good_name_that_dies_is_a_new_one_afterwards(
    system: SystemResolver, names: Names
) -> None:
    names.revive()
    for number in range(THREADS):
        system.lookup_sync(f"dead{number}.example", 443)
    names.die()
    first = [
        threading.Thread(target=takes, args=(system, f"dead{i}.example")) for i in range(THREADS)
    ]
    for thread in first:
        thread.start()
    for thread in first:
        thread.join()
    assert names.hanging == THREADS
    names.revive()
    eventually(lambda: not system._open)
    assert not any(f"dead{number}.example" in system._answering for number in range(THREADS))


def test_what_waited_in_vain_is_not_asked_any_more(system: SystemResolver, names: Names) -> None:
    threads = [
        threading.Thread(target=takes, args=(system, f"dead{i}.example")) for i in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(SECONDS)
    names.revive()
    eventually(lambda: not system._open)
    assert names.asked.total() == THREADS // 2


def test_a_failure_is_remembered_for_a_moment(
    system: SystemResolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        takes(system, "none.example")
    assert names.asked["none.example"] == 1
    monkeypatch.setattr(resolver, "_FAILED_SECONDS", 0.0)
    takes(system, "none.example")
    assert names.asked["none.example"] == 2


def test_an_answer_is_not_remembered(system: SystemResolver, names: Names) -> None:
    for _ in range(3):
        system.lookup_sync("good.example", 443)
    assert names.asked["good.example"] == 3


def test_what_is_remembered_is_bounded(
    system: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_MAX_FAILED", 5)
    monkeypatch.setattr(resolver, "_MAX_ANSWERING", 5)
    for number in range(20):
        takes(system, f"none{number}.example")
        system.lookup_sync(f"good{number}.example", 443)
    assert (len(system._failed_at), len(system._answering)) == (5, 5)


def test_a_thread_that_cannot_be_started_leaves_nothing_behind(
    system: SystemResolver, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        takes(system, "good.example")
    assert system.lookup_sync("good.example", 443) == ["192.0.2.1"]


def test_a_child_does_not_wait_for_its_parents_threads(names: Names) -> None:
    system = resolver.SYSTEM
    given, system._ask = system._ask, names
    try:
        thread = threading.Thread(target=lambda: system.lookup_sync("dead.example", 443))
        thread.start()
        eventually(lambda: names.hanging)
        child = os.fork()
        if child == 0:
            os._exit(len(system._open) + len(system._running))
        assert os.waitpid(child, 0)[1] == 0
        names.revive()
        thread.join()
    finally:
        system._ask = given
