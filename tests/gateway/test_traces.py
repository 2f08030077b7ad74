"""The calls of one conversation share the caller's trace, in the log and at the key's own door, and nobody else hears of it."""

import secrets
from typing import Any

import httpx
import pytest

from tests.gateway.door import Door, Key, eventually

pytestmark = pytest.mark.data_plane


def traced(door: Door, trace: str, model: str = "oracle/ok", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}
    span = f"00-{trace}-{secrets.token_hex(8)}-01"
    return door.post("/v1/chat/completions", body, headers={"traceparent": span})


def ids_of(rows: list[dict[str, Any]]) -> set[str]:
    return {row["request_id"] for row in rows}


def test_the_calls_of_one_conversation_are_found_by_its_trace(door: Door) -> None:
    trace, other = secrets.token_hex(16), secrets.token_hex(16)
    inside = [
        traced(door, trace),
        traced(door, trace, stream=True),
        traced(door, trace, "no/such-model"),
    ]
    outside = [traced(door, other), door.chat("oracle/ok")]
    named = {answer.headers["x-request-id"] for answer in inside}
    for answer in (*inside, *outside):
        door.row(answer)
    rows = eventually(lambda: door.admin.call("GET", f"logs?trace_id={trace}")["data"])
    assert ids_of(rows) == named
    assert {row["trace_id"] for row in rows} == {trace}
    assert {row["status"] for row in rows} == {200, 404}
    card = door.admin.call("GET", f"logs/{rows[0]['request_id']}")
    assert card["trace_id"] == trace
    plain = door.admin.call("GET", f"logs/{outside[1].headers['x-request-id']}")
    assert plain["trace_id"] is None


def test_a_key_finds_its_own_calls_of_a_trace_and_no_others(door: Door) -> None:
    trace = secrets.token_hex(16)
    own = traced(door, trace)
    stranger = door.new_key(door.new_tenant())
    theirs = as_key(door, stranger, "/v1/chat/completions", trace)
    for answer in (own, theirs):
        door.row(answer)
    for key, answer in ((door.key, own), (stranger, theirs)):
        listed = door.client.get(f"/v1/traces?trace_id={trace}", headers=key.bearer).json()["data"]
        assert ids_of(listed) == {answer.headers["x-request-id"]}
        assert listed[0]["trace_id"] == trace
    for wrong in ("x", trace.upper(), trace[1:], f"{trace}0"):
        answer = door.client.get(f"/v1/traces?trace_id={wrong}", headers=key.bearer)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "trace_id")


def as_key(door: Door, key: Key, path: str, trace: str) -> httpx.Response:
    body = {"model": "oracle/ok", "messages": [{"role": "user", "content": "hi"}]}
    traceparent = f"00-{trace}-{secrets.token_hex(8)}-01"
    return door.client.post(path, json=body, headers={**key.bearer, "traceparent": traceparent})


def test_a_trace_stays_in_the_house(door: Door) -> None:
    trace = secrets.token_hex(16)
    call = door.upstream_call(traced(door, trace))
    assert trace not in repr(call.headers) + call.body.decode()
    assert call.header("traceparent") is None
