"""HTTP/1.1 heads and answers, without a socket."""

import gc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers import http1
from providers.http1 import AnswerReader
from providers.request_head import Unwritable, host_header
from providers.types import Headers, Letterhead, Origin, UpstreamRequest

ANSWER = (
    b"HTTP/1.1 100 Continue\r\nretry-after: 1\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nX-Request-ID: Value\r\nX-Dull: a\r\nretry-after:\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n6\r\n world\r\n0\r\nretry-after: 5\r\nx-t: 1\r\n\r\n"
)


def head(headers: Headers, method: bytes = b"POST", path: bytes = b"/v1/x") -> bytes:
    """A head with two gaps filled, as far as a transport has to."""
    made = Letterhead(Origin("https", "a.test", 443), method, path, headers)
    return made.encoded + b"id\r\n\r\n"


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


def test_a_host_that_is_no_name_is_refused() -> None:
    with pytest.raises(Unwritable, match="host name"):
        Letterhead(Origin("http", "a b", 80), b"POST", b"/", [])


def test_a_letterhead_does_not_show_its_credential() -> None:
    made = Letterhead(Origin("https", "a.test", 443), b"POST", b"/", [(b"api-key", b"sk-hidden")])
    assert b"sk-hidden" in made.encoded
    assert "hidden" not in f"{made!r} {made} {UpstreamRequest(made, 'id', b'hidden')!r}"


def test_a_given_accept_encoding_stays() -> None:
    written = head([(b"Accept-Encoding", b"identity;q=1")])
    assert written.count(b"accept-encoding") == 1


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
        (b"X-Request-Id", b"theirs"),
    ],
)
def test_a_header_that_could_mean_more_than_itself_is_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(Unwritable, match="header") as caught:
        head([(name, value)])
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("path", [b"v1", b"", b"/a b", b"/a\r\nx: y", b"/\xff", b"http://b.test/"])
def test_a_path_that_is_none_is_refused(path: bytes) -> None:
    with pytest.raises(Unwritable, match="path"):
        head([], path=path)


@pytest.mark.parametrize("method", [b"", b"post", b"GET /x HTTP/1.1\r\n\r\nPOST"])
def test_a_method_that_is_none_is_refused(method: bytes) -> None:
    with pytest.raises(Unwritable, match="method"):
        head([], method=method)


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=24)), max_size=4))
def test_whatever_the_headers_are_the_head_has_one_line_each_or_is_refused(
    headers: Headers,
) -> None:
    try:
        written = head(headers)
    except Unwritable:
        return
    lines = written.split(b"\r\n")
    assert lines[:2] == [b"POST /v1/x HTTP/1.1", b"host: a.test"]
    assert lines[2 : 2 + len(headers)] == [
        b"%b: %b" % (name.lower(), value) for name, value in headers
    ]
    assert lines[-2:] == [b"", b""]
    assert written.count(b"\n") == written.count(b"\r\n") == len(lines) - 1


def read(pieces: list[bytes]) -> tuple[int, Headers, bytes, bool, bool]:
    reader = AnswerReader()
    body = b""
    for piece in pieces:
        body += reader.feed(piece)
    return reader.status, reader.headers, body, reader.complete, reader.reusable


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(place % len(data) for place in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(places)]


@given(st.lists(st.integers(min_value=0), max_size=8))
def test_an_answer_reads_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    assert read(cut(ANSWER, cuts)) == (
        200,
        [(b"x-request-id", b"Value"), (b"retry-after", b""), (b"transfer-encoding", b"chunked")],
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
    body = reader.feed(ANSWER[:keep] + data)
    assert reader.status in {0, 200}
    assert body in {b"hello world"[:length] for length in (0, 5, 11)} or keep > 100


def test_names_that_nobody_asks_for_are_remembered_within_bounds() -> None:
    for number in range(3000):
        reader = AnswerReader()
        lines = b"x-%d: 1\r\nx-%b: 1\r\nRetry-AFTER: %d\r\n" % (number, b"y" * number, number)
        reader.feed(b"HTTP/1.1 200 OK\r\n%b\r\n" % lines)
        assert reader.headers == [(b"retry-after", b"%d" % number)]
    assert len(http1._dull) <= 1024
    assert max(map(len, http1._dull)) <= 64


@pytest.mark.parametrize("behind", [b"", b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx"])
def test_nothing_holds_a_reader_that_has_ended(behind: bytes) -> None:
    reader = AnswerReader()
    reader.feed(ANSWER + behind)
    reader.close()
    assert gc.get_referrers(reader) == []


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
