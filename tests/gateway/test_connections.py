"""A caller's connection: many requests on one, bodies that are too long or too slow, and what is no HTTP."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.gateway.door import PROMPT, Door, Json, eventually, nothing_sent, refused
from tests.gateway.wire import MIB, request_bytes

# Connections and what comes on them meet no database.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]

CHAT = "/v1/chat/completions"
MAX_BODY = 12 * MIB
GOOD: Json = {"model": "oracle/ok", "messages": PROMPT}


# --- one connection, many requests ------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests_good_and_bad(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.server.port, timeout=10)
    connection.connect()
    first = connection.sock
    good = {**door.key.bearer, "content-type": "application/json"}
    for n in range(12):
        model = ("oracle/ok", "oracle/status:429", "no-such-model")[n % 3]
        body = json.dumps({"model": model, "messages": PROMPT, "stream": n % 2 == 0})
        connection.request("POST", "/v1/chat/completions", body, good)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == (200, 429, 404)[n % 3]
        assert connection.sock is first, f"closed after {model}"
    connection.close()


def test_a_pipelined_request_gets_its_own_answer(door: Door) -> None:
    first, second = uuid4().hex, uuid4().hex
    with door.connect() as caller:
        caller.sendall(
            request_bytes(door.key.secret, "oracle/slow:0.2", first, stream=False)
            + request_bytes(door.key.secret, "oracle/ok", second, stream=True)
        )
        seen = b""
        while b"[DONE]" not in seen:
            seen += caller.recv(65536)
    assert seen.index(first.encode()) < seen.index(second.encode())
    assert door.row(first)["status"] == door.row(second)["status"] == 200


# --- bodies that are too long, or nobody wants, or never come ---------------------------------------------------------


def head(key: str, *lines: str) -> bytes:
    first = [f"POST {CHAT} HTTP/1.1", "host: gatehouse", "content-type: application/json"]
    return "\r\n".join([*first, f"authorization: Bearer {key}", *lines, "", ""]).encode()


def status_of(caller: socket.socket) -> int:
    return int(caller.recv(65536).split(b" ", 2)[1])


def test_a_body_over_the_limit_is_413_by_its_announcement_alone(door: Door) -> None:
    own = uuid4().hex
    lines = (f"content-length: {MAX_BODY + 1}", f"x-request-id: {own}")
    with nothing_sent(door), door.connect() as caller:
        caller.sendall(head(door.key.secret, *lines))
        assert status_of(caller) == 413
    assert door.row(own)["error_code"] == "body_too_large"


def test_a_body_over_the_limit_is_413_though_its_length_is_not_told(door: Door) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(MAX_BODY // MIB + 1):
            yield b" " * MIB

    headers = {**door.key.bearer, "content-type": "application/json"}
    with nothing_sent(door):
        answer = door.client.post(CHAT, content=pieces(), headers=headers)
        assert refused(door, answer, 413, "body_too_large")["message"].count(str(MAX_BODY)) == 1


@pytest.mark.parametrize(
    ("changes", "size", "status"),
    [
        ({}, MAX_BODY + 1, 413),
        ({"authorization": "Bearer gwk_nonsense"}, 8 * MIB, 401),
        ({"content-type": "text/plain"}, 8 * MIB, 415),
    ],
)
def test_a_refusal_reaches_a_caller_who_is_still_sending(
    door: Door, changes: dict[str, str], size: int, status: int
) -> None:
    """Who answers and closes with bytes unread resets the connection, and the sentence is lost on the way."""
    for _ in range(5):
        with nothing_sent(door):
            answer = door.post(CHAT, b" " * size, headers=changes)
            assert answer.status_code == status


def test_a_refusal_before_the_body_does_not_cost_the_connection(door: Door) -> None:
    """Most clients send head and body apart; the next request on the connection must not be lost."""
    bad, good = head("gwk_nonsense", "content-length: 4"), json.dumps(GOOD).encode()
    with door.connect() as caller:
        for _ in range(3):
            caller.sendall(bad)
            time.sleep(0.05)
            caller.sendall(b"{}  ")
            assert status_of(caller) == 401
        caller.sendall(head(door.key.secret, f"content-length: {len(good)}") + good)
        assert status_of(caller) == 200


def test_a_body_that_does_not_come_is_waited_for_and_then_refused(door: Door) -> None:
    own = uuid4().hex
    with door.connect() as caller:
        caller.sendall(head(door.key.secret, "content-length: 100", f"x-request-id: {own}"))
        assert status_of(caller) == 408
    row = door.row(own)
    assert (row["status"], row["error_code"], row["dispatched"]) == (408, "invalid_request", "no")
    door.assert_nothing_left()


def test_a_caller_who_leaves_while_its_body_is_awaited_leaves_nothing(door: Door) -> None:
    with door.connect() as caller:
        caller.sendall(head(door.key.secret, "content-length: 100") + b"{")
        eventually(lambda: door.admin.detail()["reports"]["relay"]["calls_running"] == 1)
    door.assert_nothing_left()


# --- what is no HTTP --------------------------------------------------------------------------------------------------

BROKEN = {
    "two lengths": b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "length and chunks": b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "length no number": b"content-length: x\r\n\r\n{}",
    "length negative": b"content-length: -2\r\n\r\n{}",
    "length signed": b"content-length: +2\r\n\r\n{}",
    "chunked twice": b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "space before the colon": b"x-a : b\r\ncontent-length: 2\r\n\r\n{}",
    "NUL in a value": b"x-a: b\0c\r\ncontent-length: 2\r\n\r\n{}",
    "folded": b"x-a: b\r\n c\r\ncontent-length: 2\r\n\r\n{}",
    "64 KiB in one line": b"x-a: " + b"b" * 65536 + b"\r\n\r\n",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_could_be_read_in_two_ways_is_not_read(door: Door, broken: str) -> None:
    with nothing_sent(door), door.connect() as caller:
        caller.sendall(head(door.key.secret)[:-2] + BROKEN[broken])
        answer = b""
        while piece := caller.recv(65536):
            answer += piece
    first, _, content = answer.partition(b"\r\n\r\n")
    assert int(first.split(b" ", 2)[1]) in {400, 431, 501}
    assert answer.count(b"HTTP/1.1") == 1
    assert b"x-request-id: " in first
    assert json.loads(content)["error"]["code"] == "invalid_request"
    assert door.key.secret.encode() not in answer
