"""Events out of bytes, however the bytes are cut."""

import itertools
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sse import EventSplitter, EventTooLarge, data_of, is_ended


def split(stream: bytes, *cuts: int) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    events: list[bytes] = []
    edges = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        events += splitter.feed(stream[start:end])
    return events, splitter.flush()


def reference(stream: bytes) -> list[bytes]:
    """The payloads of a stream, read the slow way: WHATWG HTML 9.2.6, line by line."""
    text = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    payloads: list[bytes] = []
    values: list[bytes] = []
    for line in text.split(b"\n")[:-1]:
        if not line:
            if values:
                payloads.append(b"\n".join(values))
            values = []
        elif line == b"data":
            values.append(b"")
        elif line.startswith(b"data:"):
            value = line[5:]
            values.append(value[1:] if value.startswith(b" ") else value)
    return payloads


def payloads(events: list[bytes]) -> list[bytes]:
    return [data_of(event) for event in events if has_data(event)]


def has_data(event: bytes) -> bool:
    lines = event.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n")
    return any(line == b"data" or line.startswith(b"data:") for line in lines)


STREAMS = [
    b'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n',
    b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\ndata: [DONE]\r\n\r\n',
    b"data: one\r\rdata: two\r\rdata: three\r\r",
    b"data: one\n\r\ndata: two\r\n\ndata: three\r\n\rdata: four\n\rdata: five\r\r\ndata: six\n\n",
    b"\xef\xbb\xbfdata: with a mark\n\ndata: and without\n\n",
    b": ping\n\n: pong\r\n\r\ndata: x\n\n",
    b"event: message\ndata: first\ndata: second\ndata\ndata:third\nid: 7\nretry: 5\n\ndata: z\n\n",
    b"\n\n\ndata: after blank lines\n\n\n\n\r\n\r\ndata: more\n\n",
    "data: grüße 🦊 漢字\n\ndata: e\u0301\n\n".encode(),
    b"data: nul \x00 and bad \xff\xfe utf-8\n\ndata: x\n\n",
    b"data: cut in the mid",
    b"data: whole\n\ndata: no blank line\n",
    b"data: whole\r\n\r\ndata: no blank line\r\n",
    b"data:  two spaces\n\ndata:no space\n\ndata\n\ndatabase: no\n\n",
    b"",
    b"\n",
    b"\r",
]


@pytest.mark.parametrize("stream", STREAMS)
def test_a_cut_at_any_two_places_changes_nothing(stream: bytes) -> None:
    whole, tail = split(stream)
    assert payloads(whole + ([tail] if is_ended(tail) else [])) == reference(stream)
    for first in range(len(stream) + 1):
        for second in {first, min(first + 1, len(stream)), min(first + 3, len(stream))}:
            events, rest = split(stream, first, second)
            assert events == whole
            assert rest == tail
            assert b"".join(events) + rest == stream


@pytest.mark.parametrize("stream", STREAMS)
def test_byte_by_byte_gives_the_same_events(stream: bytes) -> None:
    assert split(stream, *range(len(stream))) == split(stream)


PIECES = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"data: ",
        b"data:",
        b"data",
        b": ",
        b"x",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"\x00",
        b"event: e",
    ]
)


@given(st.lists(PIECES, max_size=60).map(b"".join), st.lists(st.integers(0, 200), max_size=12))
def test_any_mix_is_split_as_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    # Only the stream's own first bytes can be a byte order mark.
    stream = stream[:3] + stream[3:].replace(b"\xef\xbb\xbf", b"")
    events, rest = split(stream, *(min(cut, len(stream)) for cut in cuts))
    assert b"".join(events) + rest == stream
    assert all(is_ended(event) for event in events)
    assert payloads(events + ([rest] if is_ended(rest) else [])) == reference(stream)


def test_an_event_comes_out_as_soon_as_it_is_whole() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n") == []
    assert splitter.feed(b"\n") == [b"data: a\n\n"]
    assert splitter.feed(b"data: b\n\ndata: c") == [b"data: b\n\n"]
    assert splitter.feed(b"\n\n") == [b"data: c\n\n"]
    assert splitter.flush() == b""


def test_half_a_line_end_waits_for_its_other_half() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\r\n\r") == []
    assert splitter.feed(b"\n") == [b"data: a\r\n\r\n"]
    assert splitter.feed(b"data: b\r\r") == []
    assert splitter.feed(b"data: c\r\r") == [b"data: b\r\r"]
    assert is_ended(splitter.flush())


def test_an_event_over_the_limit_ends_the_stream() -> None:
    assert (
        EventSplitter(limit=20).feed(b"data: 12345678901\n\n" * 3) == [b"data: 12345678901\n\n"] * 3
    )
    with pytest.raises(EventTooLarge):
        EventSplitter(limit=20).feed(b"data: 1234567890123\n\n")
    endless = EventSplitter()
    for _ in range(16):
        assert endless.feed(b"x" * 65536) == []
    with pytest.raises(EventTooLarge):
        endless.feed(b"x")


def test_a_long_event_in_tiny_pieces_costs_no_more_than_its_length() -> None:
    for piece in (b"data: xx", b"data: x\r"):
        splitter = EventSplitter()
        started = time.process_time()
        for _ in range(1024 * 1024 // 8):
            splitter.feed(piece)
        assert time.process_time() - started < 2.0


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: x\n\n", b"x"),
        (b"data:x\n\n", b"x"),
        (b"data:  x\n\n", b" x"),
        (b"data\n\n", b""),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data: a\rdata: b\r\r", b"a\nb"),
        (b"event: x\r\ndata: a\r\n\r\n", b"a"),
        (b": comment\n\n", b""),
        (b"\xef\xbb\xbfdata: x\n\n", b"x"),
        (b"\n\ndata: x\n\n", b"x"),
        (b"Data: x\n\n", b""),
        (b" data: x\n\n", b""),
        (b"", b""),
    ],
)
def test_the_payload_is_read_as_the_standard_says(event: bytes, data: bytes) -> None:
    assert data_of(event) == data


def test_random_streams_at_random_cuts_lose_no_byte() -> None:
    rng = random.Random(7)
    for _ in range(500):
        stream = bytes(rng.choices(b"\r\n:data x\xf0\x9f\xa6\x8a", k=rng.randrange(200)))
        cuts = [rng.randrange(len(stream) + 1) for _ in range(rng.randrange(10))]
        events, rest = split(stream, *cuts)
        assert b"".join(events) + rest == stream
        assert (events, rest) == split(stream)
