"""A caller's request, read from its bytes alone."""

import pytest

from gateway.edge.reader import HEAD_CAP, BadRequest, RequestReader

LINE = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gatehouse\r\n"


def read(*lines: bytes) -> RequestReader:
    reader = RequestReader()
    reader.feed_head(LINE + b"".join(line + b"\r\n" for line in lines) + b"\r\n")
    return reader


def refused(*lines: bytes) -> int:
    with pytest.raises(BadRequest) as refusal:
        read(*lines)
    return refusal.value.status


def test_names_are_lower_case_and_values_have_no_space_around_them() -> None:
    reader = read(
        b"X-Some: \t a b \t", b"CONTENT-LENGTH: 7 ", b"X-Request-Id: mine", b"x-request-id: 2"
    )
    assert (b"x-some", b"a b") in reader.headers
    assert (reader.length, reader.is_chunked, reader.closes) == (7, False, False)


def test_a_name_that_a_proxy_may_take_for_another_is_dropped() -> None:
    reader = read(b"x_api_key: forged", b"content_length: 5")
    assert [name for name, _ in reader.headers] == [b"host"]
    assert reader.length == 0


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"x-a: b"] * 100, 431),
        ([b"x-a: " + b"b" * 16_384], 431),
        ([b"transfer-encoding: gzip, chunked"], 501),
        ([b"transfer-encoding: identity"], 501),
        ([b"content-length: 1", b"transfer-encoding: chunked"], 400),
        ([b"content-length: 1", b"content-length: 1"], 400),
        ([b"host: gatehouse"], 400),
        ([b"content-type: a/b", b"content-type: a/b"], 400),
    ],
    ids=["many", "long", "gzip", "identity", "both", "two lengths", "two hosts", "two types"],
)
def test_what_is_too_much_or_could_be_read_in_two_ways_is_refused(
    lines: list[bytes], status: int
) -> None:
    assert refused(*lines) == status


def chunked() -> RequestReader:
    return read(b"transfer-encoding: chunked")


def test_a_chunked_body_is_read_as_it_comes() -> None:
    reader = chunked()
    parts = [
        reader.feed_chunks(part) for part in (b"2\r", b"\nab", b"\r\n1;x=y\r\nc\r\n", b"0\r\n\r\n")
    ]
    assert b"".join(parts) == b"abc"
    assert (reader.is_whole, reader.has_more) == (True, False)


def test_what_comes_behind_a_chunked_body_is_noticed_and_not_read() -> None:
    reader = chunked()
    assert reader.feed_chunks(b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n") == b"a"
    assert (reader.is_whole, reader.has_more) == (True, True)


def test_a_trailer_changes_nothing_and_may_not_speak_of_framing() -> None:
    reader = chunked()
    reader.feed_chunks(b"0\r\nx-checksum: 1\r\n\r\n")
    assert reader.is_whole
    assert [name for name, _ in reader.headers] == [b"host", b"transfer-encoding"]
    with pytest.raises(BadRequest):
        chunked().feed_chunks(b"0\r\nauthorization: Bearer x\r\n\r\n")


@pytest.mark.parametrize("begin", [b"0\r\nx-a: ", b"1;x="], ids=["trailer", "extension"])
def test_framing_without_an_end_is_not_read_for_ever(begin: bytes) -> None:
    reader = chunked()
    reader.feed_chunks(begin)
    for _ in range(HEAD_CAP // 1024 - 1):
        reader.feed_chunks(b"a" * 1024)
    with pytest.raises(BadRequest):
        reader.feed_chunks(b"a" * 1024)
