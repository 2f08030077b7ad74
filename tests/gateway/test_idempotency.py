"""Idempotency-Key: one call, one bill, and the same answer for whoever asks again."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.gateway.door import PROMPT, Door, error_of, eventually, refused
from tests.gateway.wire import leave, request_bytes

pytestmark = pytest.mark.data_plane

REPLAYED = "x-gatehouse-idempotent-replay"


def ask(door: Door, name: str, model: str, **body: object) -> httpx.Response:
    whole = {"model": model, "messages": PROMPT, **body}
    return door.post("/v1/chat/completions", whole, headers={"idempotency-key": name})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_repetition_gets_the_same_bytes_and_is_not_billed(door: Door, stream: bool) -> None:
    name, calls = uuid4().hex, len(door.oracle.calls)
    first = ask(door, name, "oracle/echo", stream=stream)
    again = ask(door, name, "oracle/echo", stream=stream)

    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert again.headers["content-type"] == first.headers["content-type"]
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert len(door.oracle.calls) == calls + 1

    assert len(door.entries(first)) == 1
    assert door.entries(again) == []
    row = door.row(again)
    assert (row["status"], row["dispatched"], row["cost_nano_usd"]) == (200, "no", 0)
    replays = door.server.query(
        "SELECT correlation_id FROM usage_requestlog WHERE idempotent_replay AND correlation_id IN (%s, %s)",
        [first.headers["x-request-id"], again.headers["x-request-id"]],
    )
    assert replays == [(again.headers["x-request-id"],)]


def test_of_many_at_once_one_is_sent_and_all_get_its_answer(door: Door) -> None:
    name, calls = uuid4().hex, len(door.oracle.calls)
    with ThreadPoolExecutor(12) as crowd:
        answers = list(crowd.map(lambda _: ask(door, name, "oracle/slow:0.4"), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sum(REPLAYED in answer.headers for answer in answers) == 11
    assert len(door.oracle.calls) == calls + 1
    door.assert_nothing_left()


def test_another_request_under_the_same_name_is_refused(door: Door) -> None:
    name = uuid4().hex
    assert ask(door, name, "oracle/echo").is_success
    calls = len(door.oracle.calls)
    refused(door, ask(door, name, "oracle/echo", temperature=1), 422, "idempotency_mismatch")
    body = {"model": "oracle/echo", "prompt": "x"}
    other = door.post("/v1/completions", body, headers={"idempotency-key": name})
    refused(door, other, 422, "idempotency_mismatch")
    assert len(door.oracle.calls) == calls


def test_a_name_is_a_key_s_own(door: Door) -> None:
    name, calls = uuid4().hex, len(door.oracle.calls)
    assert ask(door, name, "oracle/echo").is_success
    other = door.new_key()
    door.wait_seen()
    body = {"model": "oracle/echo", "messages": PROMPT}
    headers = {"idempotency-key": name}
    assert door.post("/v1/chat/completions", body, key=other, headers=headers).is_success
    assert len(door.oracle.calls) == calls + 2


def test_what_failed_may_be_tried_again_under_its_name(door: Door) -> None:
    name, calls = uuid4().hex, len(door.oracle.calls)
    for _ in range(2):
        assert ask(door, name, "oracle/status:503").status_code == 503
    assert len(door.oracle.calls) == calls + 2
    refused(door, ask(door, name, "no/such/model"), 404, "model_not_found")
    assert ask(door, name, "oracle/echo").is_success


def test_what_was_left_in_the_middle_is_neither_said_nor_made_again(door: Door) -> None:
    name, own, since = uuid4().hex, uuid4().hex, len(door.oracle.calls)
    caller = door.connect()
    request = request_bytes(door.key.secret, "oracle/drip:400x0.005", own, stream=True)
    head, _, body = request.partition(b"\r\n\r\n")
    caller.sendall(head + b"\r\nidempotency-key: " + name.encode() + b"\r\n\r\n" + body)
    eventually(lambda: len(door.oracle.calls) > since)
    caller.recv(100)
    leave(caller, rudely=True)
    door.row(own)

    again = door.post("/v1/chat/completions", body, headers={"idempotency-key": name})
    refused(door, again, 409, "not_replayable")
    assert again.headers["x-should-retry"] == "false"
    assert len(door.oracle.calls) == since + 1


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "caf\u00e9", "a\tb"], ids=lambda name: f"{len(name)}"
)
def test_a_name_that_is_none_is_refused(door: Door, name: str) -> None:
    body = {"model": "oracle/echo", "messages": PROMPT}
    headers = {"authorization": door.key.bearer["authorization"], "idempotency-key": name}
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    answer = door.client.post("/v1/chat/completions", json=body, headers=raw)
    assert answer.status_code == 400, answer.text
    assert error_of(answer)["code"] == "invalid_request"
