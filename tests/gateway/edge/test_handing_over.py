"""Calls and everything else on one connection: who serves what, and whether the connection stays."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from uuid import uuid4

import pytest

from tests.gateway.door import PROMPT, Door
from tests.gateway.wire import request_bytes

# Who serves what on a connection is decided without a database.
pytestmark = [
    pytest.mark.data_plane,
    pytest.mark.sqlite,
    pytest.mark.skipif(
        os.environ.get("TEST_EXPRESS") == "off", reason="there is only one protocol then"
    ),
]

CHAT = "/v1/chat/completions"
BODY = json.dumps({"model": "oracle/ok", "messages": PROMPT})


@contextmanager
def connected(door: Door) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", door.server.port, timeout=10)
    yield connection
    connection.close()


def call(
    connection: HTTPConnection, door: Door, offer: Mapping[str, str] | None = None
) -> HTTPResponse:
    sent = {**door.key.bearer, "content-type": "application/json", **(offer or {})}
    connection.request("POST", CHAT, BODY, sent)
    return answered(connection)


def look(connection: HTTPConnection) -> HTTPResponse:
    connection.request("GET", "/livez")
    return answered(connection)


def answered(connection: HTTPConnection) -> HTTPResponse:
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return answer


def test_a_connection_that_carries_no_calls_is_kept(door: Door) -> None:
    with connected(door) as connection:
        assert [look(connection).getheader("connection") for _ in range(3)] == [None] * 3


def test_a_connection_that_carries_calls_is_kept(door: Door) -> None:
    with connected(door) as connection:
        assert [call(connection, door).getheader("connection") for _ in range(3)] == [None] * 3


def test_something_else_behind_a_call_is_answered_and_ends_the_connection(door: Door) -> None:
    with connected(door) as connection:
        assert call(connection, door).getheader("connection") is None
        first = connection.sock
        assert look(connection).getheader("connection") == "close"
        assert call(connection, door).getheader("connection") is None
        assert connection.sock is not first


def test_a_call_behind_something_else_is_answered_and_ends_the_connection(door: Door) -> None:
    with connected(door) as connection:
        look(connection)
        answer = call(connection, door)
        assert answer.getheader("connection") == "close"
        assert door.row(answer.headers["x-request-id"])["status"] == 200


def test_pipelined_calls_and_other_requests_are_answered_in_their_order(door: Door) -> None:
    first, second = uuid4().hex, uuid4().hex
    with door.connect() as caller:
        caller.sendall(
            request_bytes(door.key.secret, "oracle/slow:0.1", first, stream=False)
            + request_bytes(door.key.secret, "oracle/ok", second, stream=True)
            + b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        )
        seen = b""
        while piece := caller.recv(65536):
            seen += piece
    places = [seen.index(each) for each in (first.encode(), second.encode(), b'{"status": "ok"}')]
    assert places == sorted(places)


def test_an_offer_to_speak_another_protocol_is_ignored(door: Door) -> None:
    """As Java's client makes with its first request."""
    offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAQA"}
    with connected(door) as connection:
        assert call(connection, door, offer).getheader("connection") is None
        first = connection.sock
        call(connection, door)
        assert connection.sock is first


def test_a_caller_who_waits_for_a_sign_is_given_it_once_the_body_is_wanted(door: Door) -> None:
    whole = request_bytes(door.key.secret, "oracle/ok", uuid4().hex, stream=False)
    head, _, body = whole.partition(b"\r\n\r\n")
    with door.connect() as caller:
        caller.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert caller.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(body)
        assert caller.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    with door.connect() as caller:
        caller.sendall(
            head.replace(b"Bearer gwk_", b"Bearer gwk-") + b"\r\nexpect: 100-continue\r\n\r\n"
        )
        assert caller.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_a_request_of_an_older_http_is_served_by_the_views(door: Door) -> None:
    whole = request_bytes(door.key.secret, "oracle/ok", uuid4().hex, stream=False)
    with door.connect() as caller:
        caller.sendall(whole.replace(b"HTTP/1.1", b"HTTP/1.0"))
        seen = b""
        while piece := caller.recv(65536):
            seen += piece
    assert b" 200 OK\r\n" in seen[:20]
    assert b"transfer-encoding" not in seen.lower()
