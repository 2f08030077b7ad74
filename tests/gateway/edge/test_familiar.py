"""A head that came before is known again by its bytes, whatever the length of its body, and by nothing less."""

import pickle
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.familiar import Familiar, Read
from gateway.edge.reader import BadRequest, RequestReader
from gateway.relay import endpoints
from gateway.relay.facts import Asked

KEY = b"gwk_a-key-that-was-used"


def head(*lines: bytes) -> bytes:
    return b"\r\n".join((b"POST /v1/chat/completions HTTP/1.1", b"host: a", *lines, b"", b""))


def read(name: str = "") -> Read:
    found = endpoints.find("POST", "/v1/chat/completions")
    assert found is not None
    asked = Asked(found[0], name, b"f" * 32, None, None, False, (), (), None)
    return Read(asked, False, "")


def keep(familiar: Familiar, head: bytes, length: int, what: Read) -> None:
    name = familiar.name(head, length, what)
    if name is not None:
        familiar.keep(name, what)


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length", b"content-Length"])
def test_the_same_head_is_known_whatever_its_length(name: bytes) -> None:
    familiar, what = Familiar(), read()
    keep(familiar, head(b"authorization: Bearer " + KEY, name + b": 5"), 5, what)
    for length in (0, 5, 123_456_789):
        again = head(b"authorization: Bearer " + KEY, b"%b: %d" % (name, length))
        assert familiar.find(again) == (what, length)


@pytest.mark.parametrize(
    "other",
    [
        head(b"authorization: Bearer other", b"content-length: 5"),
        head(b"authorization: Bearer " + KEY),
        head(b"content-length: 5", b"authorization: Bearer " + KEY),
        head(b"authorization: Bearer " + KEY, b"content-length: +5"),
        head(b"authorization: Bearer " + KEY, b"content-length: 5 "),
        head(b"authorization: Bearer " + KEY, b"content-length: "),
        head(b"authorization: Bearer " + KEY, b"content-length: 1234567890"),
        head(b"authorization: Bearer " + KEY, b"content-length: 5", b"content-length: 5"),
        head(b"authorization: Bearer " + KEY, b"content-length: 5", b"transfer-encoding: chunked"),
    ],
)
def test_any_other_head_is_not(other: bytes) -> None:
    familiar = Familiar()
    keep(familiar, head(b"authorization: Bearer " + KEY, b"content-length: 5"), 5, read())
    assert familiar.find(other) is None


def test_a_length_inside_another_value_is_not_the_length() -> None:
    familiar = Familiar()
    for line in (b"x-note: content-length: 5", b"x-content-length: 5"):
        keep(familiar, head(line, b"content-length: 3"), 3, read())
        found = familiar.find(head(line.replace(b"5", b"9"), b"content-length: 3"))
        assert found is None or found[1] == 3


def test_a_key_that_was_used_is_not_kept() -> None:
    familiar = Familiar()
    keep(familiar, head(b"authorization: Bearer " + KEY, b"content-length: 5"), 5, read())
    kept = [*familiar._heads, *(repr(value).encode() for value in familiar._heads.values())]
    assert len(kept) == 2
    assert KEY not in pickle.dumps(kept)


LINES = st.lists(
    st.sampled_from(
        [
            b"content-length: 5",
            b"Content-Length: 7",
            b"content-length:5",
            b"x: content-length: 8",
            b"transfer-encoding: chunked",
            b"connection: close",
            b" content-length: 4",
            b"authorization: Bearer k",
        ]
    ),
    max_size=5,
)


@given(st.lists(LINES, min_size=1, max_size=6), st.integers(0, 999))
def test_what_is_known_is_what_the_parser_would_say(seen: list[list[bytes]], length: int) -> None:
    familiar = Familiar()
    for lines in seen:
        reader = RequestReader()
        try:
            reader.feed_head(head(*lines))
        except BadRequest:
            continue
        if not reader.is_chunked:
            name = repr(
                (sorted(h for h in reader.headers if h[0] != b"content-length"), reader.closes)
            )
            keep(familiar, head(*lines), reader.length, read(name))
    for lines in seen:
        again = head(*(line.replace(b": 5", b": %d" % length) for line in lines))
        found = familiar.find(again)
        if found is None:
            continue
        reader = RequestReader()
        reader.feed_head(again)
        others = sorted(h for h in reader.headers if h[0] != b"content-length")
        assert found[1] == reader.length
        assert found[0].asked.item == repr((others, reader.closes))


@pytest.mark.parametrize(
    "asked",
    [{"once": (b"a",)}, {"offered_id": "a-name-of-mine"}, {"trace_id": UUID(int=7)}],
    ids=["once", "named", "traced"],
)
def test_a_head_that_names_its_call_is_not_kept(asked: dict[str, Any]) -> None:
    what = read()
    what = Read(msgspec.structs.replace(what.asked, **asked), False, "")
    assert Familiar().name(head(b"content-length: 5"), 5, what) is None


def test_a_long_head_is_not_kept() -> None:
    assert Familiar().name(head(b"x: " + b"a" * 5_000, b"content-length: 5"), 5, read()) is None
