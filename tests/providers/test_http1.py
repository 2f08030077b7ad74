"""HTTP/1.1 heads and answers, without a socket."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.http1 import AnswerReader, BadAnswer, encode_head, host_header
from providers.types import Headers, Origin, UpstreamRequest

ANSWER = (
    b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-Name: Value\r\nx-empty:\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nx-trailer: t\r\n\r\n"
)


def request(
    headers: Headers, method: bytes = b"POST", path: bytes = b"/v1/x", body: bytes = b"{}"
) -> UpstreamRequest:
    return UpstreamRequest(Origin("https", "a.test", 443), method, path, headers, body)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (("https", "a.test", 443), b"a.test"),
        (("http", "a.test", 80), b"a.test"),
        (("http", "a.test", 443), b"a.test:443"),
        (("https", "a.test", 8443), b"a.test:8443"),
        (("https", "2001:db8::1", 443), b"[2001:db8::1]"),
        (("http", "::1", 8080), b"[::1]:8080"),
        (("http", "[::1]", 8080), b"[::1]:8080"),
    ],
)
def test_host_names_the_port_where_it_matters(
    origin: tuple[str, str, int], expected: bytes
) -> None:
    assert host_header(*origin) == expected


def test_a_request_without_a_body_says_so_only_where_a_body_is_expected() -> None:
    assert b"content-length" not in encode_head(request([], b"GET", body=b""), b"a.test")
    assert b"content-length: 0\r\n" in encode_head(request([], b"POST", body=b""), b"a.test")


def test_a_given_accept_encoding_stays() -> None:
    head = encode_head(request([(b"Accept-Encoding", b"identity;q=1")]), b"a.test")
    assert head.lower().count(b"accept-encoding") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\nx-b: c"),
        (b"x", b"a\nx-b: c"),
        (b"x", b"a\r"),
        (b"x", b"a\r\n folded"),
        (b"x", b"a\x00"),
        (b"x", b"a\x7f"),
        (b"x", b"\xc3\xa9"),
        (b"", b"a"),
        (b"x y", b"a"),
        (b"x:", b"a"),
        (b"x\r\ny", b"a"),
        (b"x: 1\r\ny", b"a"),
        (b"Host", b"evil.test"),
        (b"Content-Length", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"expect", b"100-continue"),
    ],
)
def test_a_header_that_could_mean_more_than_itself_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="header") as caught:
        encode_head(request([(name, value)]), b"a.test")
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("path", [b"v1", b"", b"/a b", b"/a\r\nx: y", b"/\xff", b"http://b.test/"])
def test_a_path_that_is_none_is_refused(path: bytes) -> None:
    with pytest.raises(ValueError, match="path"):
        encode_head(request([], path=path), b"a.test")


@pytest.mark.parametrize("method", [b"", b"post", b"GET /x HTTP/1.1\r\n\r\nPOST"])
def test_a_method_that_is_none_is_refused(method: bytes) -> None:
    with pytest.raises(ValueError, match="method"):
        encode_head(request([], method=method), b"a.test")


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=24)), max_size=4))
def test_whatever_the_headers_are_the_head_has_one_line_each_or_is_refused(
    headers: Headers,
) -> None:
    try:
        head = encode_head(request(headers), b"a.test")
    except ValueError:
        return
    lines = head.split(b"\r\n")
    assert lines[:2] == [b"POST /v1/x HTTP/1.1", b"host: a.test"]
    assert lines[2 : 2 + len(headers)] == [
        b"%b: %b" % (name.lower(), value) for name, value in headers
    ]
    assert lines[-2:] == [b"", b""]
    assert head.count(b"\n") == head.count(b"\r\n") == len(lines) - 1


def read(pieces: list[bytes]) -> tuple[int, Headers, bytes, bool, bool]:
    reader = AnswerReader()
    body = b""
    for piece in pieces:
        reader.feed(piece)
        body += reader.take_body()
    return reader.status, reader.headers, body, reader.complete, reader.reusable


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % len(data) for place in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(min_value=0), max_size=8))
def test_an_answer_reads_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    assert read(cut(ANSWER, cuts)) == (
        200,
        [(b"x-name", b"Value"), (b"x-empty", b""), (b"transfer-encoding", b"chunked")],
        b"hello world",
        True,
        True,
    )


@given(st.lists(st.integers(min_value=0), max_size=8), st.binary(min_size=1, max_size=40))
def test_what_comes_behind_an_answer_never_becomes_part_of_it(cuts: list[int], more: bytes) -> None:
    status, headers, body, complete, reusable = read(cut(ANSWER + more, cuts))
    assert (status, len(headers), body, complete) == (200, 3, b"hello world", True)
    # Line ends between messages are skipped by the parser, which cannot make anything of them.
    assert not reusable or not more.strip(b"\r\n")


@given(st.binary(max_size=200), st.integers(min_value=0, max_value=len(ANSWER)))
def test_rubbish_is_refused_or_waited_for_but_never_anything_else(data: bytes, keep: int) -> None:
    reader = AnswerReader()
    with suppress(BadAnswer):
        reader.feed(ANSWER[:keep] + data)
    assert reader.status in {0, 200}
    assert reader.take_body() in {b"hello world"[:length] for length in (0, 5, 11)} or keep > 100


def test_how_long_the_upstream_keeps_a_connection_is_read() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 204 No Content\r\nKeep-Alive: max=100, timeout=15\r\n\r\n")
    assert (reader.complete, reader.reusable, reader.keep_alive_seconds) == (True, True, 15)


def test_only_an_answer_without_length_ends_with_its_connection() -> None:
    for head, ends in (
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", False),
        (b"HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n", False),
    ):
        reader = AnswerReader()
        reader.feed(head)
        assert reader.ends_at_close is ends
