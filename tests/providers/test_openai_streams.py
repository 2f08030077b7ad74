"""OpenAI's streams: relayed byte for byte, and watched."""

import itertools
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.dialects import openai
from providers.types import Usage


def chunk(text: str, more: str = "") -> bytes:
    delta = json.dumps({"content": text}, ensure_ascii=False, separators=(",", ":"))
    return f'data: {{"id":"c","choices":[{{"index":0,"delta":{delta}}}]{more}}}\n\n'.encode()


USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}\n\n'
DONE = b"data: [DONE]\n\n"
TEXT = [chunk("Grüße"), chunk(" 🦊"), chunk(' "usage" [DONE] "error"')]
WITH_NULL = [chunk("a", ',"usage":null'), chunk("b", ',"usage":null')]


def relayed(pieces: Iterable[bytes], wants_usage: bool) -> tuple[bytes, openai.StreamReader]:
    reader = openai.StreamReader(wants_usage)
    out = b"".join(reader.feed(piece) for piece in pieces)
    return out + reader.finish(), reader


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("events", [TEXT, WITH_NULL, [b": ping\n\n", *TEXT]])
def test_a_stream_is_relayed_as_it_came_but_for_the_usage_nobody_asked_for(
    events: list[bytes], wants_usage: bool
) -> None:
    stream = [*events, USAGE, DONE]
    expected = b"".join(stream if wants_usage else [*events, DONE])
    whole = b"".join(stream)
    for cut in range(len(whole)):
        out, reader = relayed([whole[:cut], whole[cut:]], wants_usage)
        assert out == expected
        assert reader.usage == Usage(5, 0, 3, 0)
        assert reader.done
        assert reader.error is None
    out, reader = relayed((whole[at : at + 1] for at in range(len(whole))), wants_usage)
    assert out == expected
    assert reader.usage == Usage(5, 0, 3, 0)


def test_other_line_ends_are_relayed_as_they_came() -> None:
    for end in (b"\r\n", b"\r"):
        stream = [event.replace(b"\n", end) for event in (*TEXT, USAGE, DONE)]
        for wants_usage in (True, False):
            out, reader = relayed([b"".join(stream)], wants_usage)
            assert out == b"".join(stream if wants_usage else [*stream[:-2], stream[-1]])
            assert reader.done
            assert reader.usage == Usage(5, 0, 3, 0)


def test_usage_beside_choices_is_read_and_relayed() -> None:
    last = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":7,"completion_tokens":2}}\n\n'
    out, reader = relayed([*TEXT, last, DONE], wants_usage=False)
    assert out == b"".join([*TEXT, last, DONE])
    assert reader.usage == Usage(7, 0, 2, 0)


def test_the_last_believable_usage_counts() -> None:
    first = USAGE.replace(b'"completion_tokens":3', b'"completion_tokens":1')
    lie = USAGE.replace(b'"completion_tokens":3', b'"completion_tokens":-3')
    assert relayed([first, USAGE, lie], wants_usage=True)[1].usage == Usage(5, 0, 3, 0)


def test_a_chunk_without_choices_or_usage_is_relayed() -> None:
    filtered = b'data: {"choices":[],"prompt_filter_results":[]}\n\n'
    empty = b'data: {"choices":[],"usage":null}\n\n'
    odd = b'data: {"choices":[ ],"usage" : null}\n\n'
    assert relayed([filtered, empty, odd, DONE], False)[0] == filtered + empty + odd + DONE


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"sk-secret is over quota","type":"x","code":429}}\n\n',
        b'data: {"error":"out of memory"}\n\n',
        b'data: {"object":"error","message":"no","type":"BadRequestError","code":400}\n\n',
        b'event: error\ndata: {"message":"no"}\n\n',
        b"event: error\r\ndata: no\r\n\r\n",
        b'data: {"choices":[],"error":{"message":"x"},"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n',
    ],
)
def test_an_error_is_noticed_and_nothing_from_it_on_is_relayed(event: bytes) -> None:
    out, reader = relayed([TEXT[0] + event + TEXT[1], DONE], wants_usage=True)
    assert out == TEXT[0]
    assert reader.error
    assert b"data:" not in reader.error
    assert not reader.done


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"content":"x"}}],"error":null}\n\n',
        b'event: message\ndata: {"choices":[{"delta":{"content":"\\"error\\""}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"error"},"x":{"error":"nested"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"x"}}],"what":"error"}\n\n',
        b'data: not json "error" "usage"\n\n',
        b"event: errors\ndata: 1\n\n",
    ],
)
def test_what_is_no_error_is_relayed(event: bytes) -> None:
    out, reader = relayed([event, DONE], wants_usage=False)
    assert out == event + DONE
    assert reader.error is None


def test_an_event_cut_short_is_not_relayed() -> None:
    whole = b"".join([*TEXT, USAGE])
    edges = [sum(len(event) for event in [*TEXT, USAGE][:n]) for n in range(5)]
    for cut in range(len(whole)):
        out, reader = relayed([whole[:cut]], wants_usage=True)
        assert out == whole[: max(edge for edge in edges if edge <= cut)]
        assert not reader.done


def test_usage_in_an_event_without_its_blank_line_still_counts() -> None:
    out, reader = relayed([TEXT[0] + USAGE.rstrip(b"\n")], wants_usage=True)
    assert out == TEXT[0]
    assert reader.usage == Usage(5, 0, 3, 0)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_done_without_its_blank_line_is_completed(end: bytes) -> None:
    out, reader = relayed([TEXT[0], b"data: [DONE]" + end], wants_usage=False)
    assert out == TEXT[0] + b"data: [DONE]" + end + b"\n\n"
    assert reader.done


def test_a_stream_that_does_not_tell_is_estimated_by_its_chunks_and_bytes() -> None:
    role = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
    _, reader = relayed([role, chunk("a"), chunk("b"), chunk("c")], False)
    assert (reader.content_chunks, reader.content_bytes, reader.estimate_output()) == (3, 3, 3)
    _, reader = relayed([chunk("x" * 70)], False)
    assert reader.estimate_output() == 20
    tool = (
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\\"a\\""}}]}}]}\n\n'
    )
    spaced = b'data: {"choices": [{"delta": {"content": "abc"}}]}\n\n'
    legacy = b'data: {"choices":[{"text":"abc","index":0}]}\n\n'
    thought = b'data: {"choices":[{"delta":{"reasoning_content":"abc"}}]}\n\n'
    _, reader = relayed([tool, spaced, legacy, thought], False)
    assert reader.content_chunks == 4
    assert relayed([role, DONE], False)[1].estimate_output() == 0


EVENTS = st.sampled_from(
    [*TEXT, *WITH_NULL, b": ping\n\n", b"data: {}\n\n", b"data: \xff\n\n", b"\n\n"]
)


@given(st.lists(EVENTS, max_size=8), st.lists(st.integers(0, 900), max_size=8), st.booleans())
def test_no_byte_of_content_is_lost(events: list[bytes], cuts: list[int], wants: bool) -> None:
    whole = b"".join([*events, USAGE, DONE])
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = (whole[start:end] for start, end in itertools.pairwise(edges))
    out, reader = relayed(pieces, wants)
    assert out == (whole if wants else b"".join([*events, DONE]))
    assert reader.usage == Usage(5, 0, 3, 0)


VALUES = st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=6)
ODD = VALUES | st.lists(VALUES, max_size=2) | st.dictionaries(st.sampled_from("ab"), VALUES)
TEXTS = st.text('"\\\\\\n/a\u00e9\u6f22\U0001f98a', max_size=6)
TEXT_NAMES = ("content", "reasoning_content", "reasoning", "refusal")
PLAIN_DELTAS = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(TEXT_NAMES, TEXTS | st.none()), "role": VALUES, "what": ODD}
)
DELTAS = PLAIN_DELTAS | st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXT_NAMES, TEXTS | ODD),
        "tool_calls": st.just([{"function": {"arguments": "{}"}}]) | ODD,
    },
)


def choices(deltas: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    choice = st.fixed_dictionaries({"delta": deltas}, optional={"index": VALUES, "what": ODD})
    return st.lists(choice, min_size=1, max_size=2)


PLAIN_CHUNKS = st.fixed_dictionaries(
    {"choices": choices(PLAIN_DELTAS)},
    optional={
        "object": st.just("chat.completion.chunk") | st.none(),
        "usage": st.none(),
        "error": st.none(),
        "what": st.just({"error": "nested", "usage": "nested"}) | ODD,
    },
)
CHUNKS = PLAIN_CHUNKS | st.fixed_dictionaries(
    {"choices": choices(DELTAS) | ODD},
    optional={
        "object": st.sampled_from(["chat.completion.chunk", "error", "other"]) | ODD,
        "usage": st.just({"prompt_tokens": 5, "completion_tokens": 3}) | ODD,
        "error": ODD,
    },
)


@given(CHUNKS, st.booleans(), st.booleans(), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_a_chunk_is_the_same_however_it_is_read(
    chunk: object, is_ascii: bool, is_spaced: bool, end: bytes, wants: bool
) -> None:
    """A comment in front of it, with which only the tolerant way reads it, makes no difference."""
    space = " " if is_spaced else ""
    text = json.dumps(chunk, ensure_ascii=is_ascii, separators=(f",{space}", f":{space}"))
    event = f"data:{space}{text}".encode() + end + end
    seen = []
    for before in (b"", b": comment" + end):
        out, reader = relayed([before + event, DONE], wants)
        seen.append(
            (
                out.removeprefix(before),
                (reader.content_chunks, reader.content_bytes),
                (reader.usage, reader.error, reader.done),
            )
        )
    assert seen[0] == seen[1]
