"""What is read of a head: here, the trace that a caller counts its call to."""

from uuid import UUID

import pytest

from gateway.relay import endpoints
from gateway.relay.asking import asked
from keys.chain import Chain

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def trace_of(*values: str) -> UUID | None:
    found = endpoints.find("POST", "/v1/chat/completions")
    assert found is not None
    headers = [(b"traceparent", value.encode()) for value in values]
    return asked(Chain([]), *found, headers).trace_id


@pytest.mark.parametrize(
    "value",
    [
        f"00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-00",
        f" 00-{TRACE}-{SPAN}-ff ",
        f"01-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-what-a-later-version-says",
    ],
)
def test_a_valid_traceparent_names_its_trace(value: str) -> None:
    assert trace_of(value) == UUID(TRACE)


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"{{00-{TRACE}-{SPAN}-01}}",
        "é" * 55,
    ],
)
def test_any_other_is_as_good_as_none(value: str) -> None:
    assert trace_of(value) is None


def test_none_and_more_than_one_name_no_trace() -> None:
    assert trace_of() is None
    assert trace_of(f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01") is None
