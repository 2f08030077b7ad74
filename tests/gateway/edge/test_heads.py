"""The heads of answers: exactly the lines that were meant."""

import json

import pytest

from gateway.edge import heads


def lines_of(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_a_body_without_a_length_goes_in_chunks() -> None:
    head, is_chunked = heads.head(200, [(b"x-a", b"b")], closes=False)
    first, *lines = lines_of(head)
    assert first == b"HTTP/1.1 200 OK"
    assert is_chunked
    assert {b"x-a: b", b"transfer-encoding: chunked"} <= set(lines)
    head, is_chunked = heads.head(429, [(b"content-length", b"2")], closes=True)
    assert not is_chunked
    assert lines_of(head)[0] == b"HTTP/1.1 429 Too Many Requests"
    assert lines_of(head)[-1] == b"connection: close"


@pytest.mark.parametrize("value", [b"b\r\nx-c: d", b"b\nc", b"b\rc", b"b\0c"])
def test_a_value_that_would_be_more_than_one_header_is_not_written(value: bytes) -> None:
    with pytest.raises(ValueError, match="end of a line"):
        heads.head(200, [(b"x-a", value)], closes=False)


@pytest.mark.parametrize("status", [400, 408, 414, 431, 500, 501])
def test_what_is_no_request_gets_a_sentence_of_ours(status: int) -> None:
    head, _, body = heads.refusal(status).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert f"content-length: {len(body)}".encode() in head
    error = json.loads(body)["error"]
    assert error["message"].endswith(".")
    assert error["code"] == ("internal_error" if status == 500 else "invalid_request")
