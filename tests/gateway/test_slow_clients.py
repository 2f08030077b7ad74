"""Callers who send so slowly that they mean to hold a place rather than to ask for something."""

import socket
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.gateway.door import PROMPT_TOKENS, Door, nothing_sent, opened
from tests.gateway.wire import request_bytes
from tests.support.server import Yard

# Who sends slowly waits in front of the application.
pytestmark = pytest.mark.sqlite

HEAD_SECONDS = 1.0
HALF = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gatehouse\r\n"


@pytest.fixture(scope="module")
def hasty(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A door that waits for a head for a second."""
    env = {"GATEHOUSE_TIMEOUT_HEAD": str(HEAD_SECONDS)}
    with opened(yard, tmp_path_factory.mktemp("hasty"), env) as door:
        yield door


def until_closed(caller: socket.socket) -> tuple[bytes, float]:
    """What came until the other side closed, and how long that took."""
    began = time.monotonic()
    seen = b""
    while piece := caller.recv(65536):
        seen += piece
    return seen, time.monotonic() - began


def served(caller: socket.socket, door: Door) -> None:
    """One good request on this connection."""
    caller.sendall(request_bytes(door.key.secret, "oracle/ok", uuid4().hex, stream=True))
    seen = b""
    while b"[DONE]\n\n\r\n0\r\n\r\n" not in seen:
        piece = caller.recv(65536)
        assert piece, seen
        seen += piece


def test_a_connection_without_a_request_is_closed_without_a_word(hasty: Door) -> None:
    with hasty.connect() as caller:
        seen, seconds = until_closed(caller)
    assert seen == b""
    assert HEAD_SECONDS / 2 < seconds < HEAD_SECONDS + 5


def test_half_a_head_is_408(hasty: Door) -> None:
    with nothing_sent(hasty), hasty.connect() as caller:
        caller.sendall(HALF)
        seen, seconds = until_closed(caller)
    assert seen.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"invalid_request"' in seen.replace(b'": "', b'":"')
    assert HEAD_SECONDS / 2 < seconds < HEAD_SECONDS + 5


def test_a_head_that_trickles_in_is_408(hasty: Door) -> None:
    with hasty.connect() as caller:
        caller.sendall(HALF)
        began = time.monotonic()
        caller.settimeout(0.1)
        seen = b""
        while not seen and time.monotonic() - began < HEAD_SECONDS + 5:
            caller.sendall(b"x-a: b\r\n")
            try:
                seen = caller.recv(65536)
            except TimeoutError:
                continue
    assert seen.startswith(b"HTTP/1.1 408 ")


def test_half_a_head_after_a_good_request_is_408(hasty: Door) -> None:
    with hasty.connect() as caller:
        served(caller, hasty)
        caller.sendall(HALF)
        seen, seconds = until_closed(caller)
    assert seen.startswith(b"HTTP/1.1 408 ")
    assert seconds < HEAD_SECONDS + 5


def test_half_a_head_behind_a_good_request_is_408(hasty: Door) -> None:
    good = request_bytes(hasty.key.secret, "oracle/ok", uuid4().hex, stream=False)
    with hasty.connect() as caller:
        caller.sendall(good + HALF)
        seen, seconds = until_closed(caller)
    assert [seen.count(b"HTTP/1.1 200 "), seen.count(b"HTTP/1.1 408 ")] == [1, 1]
    assert seconds < HEAD_SECONDS + 8


def test_a_connection_that_rests_between_requests_stays(hasty: Door) -> None:
    with hasty.connect() as caller:
        for _ in range(2):
            served(caller, hasty)
            time.sleep(2 * HEAD_SECONDS)
        served(caller, hasty)


def test_an_answer_may_take_longer_than_a_head(hasty: Door) -> None:
    answer = hasty.chat(f"oracle/slow:{2 * HEAD_SECONDS}")
    assert answer.status_code == 200
    assert answer.json()["usage"]["prompt_tokens"] == PROMPT_TOKENS


@pytest.mark.slow
def test_a_body_that_trickles_in_is_408_and_holds_nothing(door: Door) -> None:
    own = uuid4().hex
    head = f"content-length: 1000000\r\nx-request-id: {own}\r\nauthorization: Bearer {door.key.secret}\r\n\r\n{{"
    with nothing_sent(door), door.connect() as caller:
        caller.sendall(HALF + head.encode())
        began = time.monotonic()
        caller.settimeout(0.5)
        seen = b""
        while not seen and time.monotonic() - began < 20:
            caller.sendall(b" ")
            try:
                seen = caller.recv(65536)
            except TimeoutError:
                continue
        assert seen.startswith(b"HTTP/1.1 408 ")
        assert 9 < time.monotonic() - began < 15
    assert door.row(own)["status"] == 408
