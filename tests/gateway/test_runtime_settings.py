"""Runtime settings act on calls of a running server, at once."""

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

import httpx
import pytest

from tests.gateway.door import Door, eventually, opened
from tests.gateway.test_counting import sealed_of


@pytest.fixture(scope="module")
def house(yard, tmp_path_factory):
    """A server of one's own: its settings concern everybody."""
    with opened(yard, tmp_path_factory.mktemp("house"), {}) as door:
        yield door


@contextmanager
def set_to(door: Door, name: str, value: object, after: object):
    door.change("PATCH", "settings", {name: value})
    try:
        yield
    finally:
        door.change("PATCH", "settings", {name: after})


def _asking(door: Door):
    return door.new_key(door.new_tenant(content_logging=True), log_content=True)


def test_no_body_is_kept_while_the_house_keeps_none(house: Door) -> None:
    key = _asking(house)
    house.wait_seen()
    assert sealed_of(house, house.chat("oracle/ok", key=key)) is not None
    with set_to(house, "content_logging", False, True):
        for stream in (False, True):
            assert sealed_of(house, house.chat("oracle/ok", key=key, stream=stream)) is None
    assert sealed_of(house, house.chat("oracle/ok", key=key)) is not None


def test_a_call_that_runs_when_the_switch_goes_off_is_not_kept_either(house: Door) -> None:
    key = _asking(house)
    house.wait_seen()
    answers: list[httpx.Response] = []
    calls = len(house.oracle.calls)
    running = _in_a_thread(
        lambda: answers.append(house.chat("oracle/drip:20x0.1", key=key, stream=True))
    )
    eventually(lambda: len(house.oracle.calls) > calls)
    with set_to(house, "content_logging", False, True):
        running.join()
        assert answers[0].text.rstrip().endswith("[DONE]")
        assert sealed_of(house, answers[0]) is None


def test_a_limit_of_time_holds_for_the_next_call(house: Door) -> None:
    with set_to(house, "timeout_first_byte", 1, 120):
        # Workers read it in a thread, a moment after they noticed.
        def is_too_slow() -> bool:
            began = time.monotonic()
            answer = house.chat("oracle/slow:2.5")
            return answer.status_code == 504 and time.monotonic() - began < 2.4

        eventually(is_too_slow, within=20.0)
    eventually(lambda: house.chat("oracle/slow:1.5").status_code == 200, within=20.0)


def _in_a_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread
