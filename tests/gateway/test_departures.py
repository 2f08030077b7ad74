"""A caller who leaves: the upstream is closed within a second, and what it had given is counted."""

import random
import threading
import time
from functools import partial
from uuid import uuid4

import httpx
import pytest

from tests.gateway.door import Door, eventually
from tests.gateway.wire import EVENT, chunked, leave, request_bytes, stream_head
from tests.support.oracle import Call

# How soon an upstream is closed and what is counted; how it is written is in test_counting.py, on both.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]


@pytest.mark.parametrize("seed", range(6))
def test_a_caller_who_leaves_in_a_stream_pays_for_what_had_come(door: Door, seed: int) -> None:
    chance = random.Random(seed)
    own, since = uuid4().hex, len(door.oracle.calls)
    seen = b""
    caller = door.connect()
    caller.sendall(request_bytes(door.key.secret, "oracle/drip:400x0.005", own, stream=True))
    until = chance.randrange(1, 20_000)
    while len(seen) < until:
        seen += caller.recv(chance.randrange(1, 4096))
    left_at = leave(caller, rudely=seed % 2 == 0)
    call = door.oracle.calls[since]
    assert closed_within_a_second(call, left_at)
    row = door.row(own)
    assert (row["status"], row["error_code"], row["dispatched"]) == (499, "client_gone", "yes")
    assert row["usage_source"] == "estimated"
    assert row["tokens_out"] >= seen.count(b'"delta":{"content":"') - 1
    assert row["tokens_in"] > 0
    assert row["cost_nano_usd"] == 1_000 * row["tokens_in"] + 2_000 * row["tokens_out"]
    (attempt,) = door.attempts(own)
    assert attempt["outcome"] == "cancelled"
    door.assert_nothing_left()


@pytest.mark.parametrize("seed", range(4))
def test_a_caller_who_leaves_before_an_answer_pays_for_the_prompt(door: Door, seed: int) -> None:
    chance = random.Random(seed)
    own, since = uuid4().hex, len(door.oracle.calls)
    caller = door.connect()
    caller.sendall(request_bytes(door.key.secret, "oracle/slow:1.4", own, stream=seed % 2 == 0))
    eventually(lambda: len(door.oracle.calls) > since)
    time.sleep(chance.random() * 0.3)
    left_at = leave(caller, rudely=seed < 2)
    assert closed_within_a_second(door.oracle.calls[since], left_at)
    row = door.row(own)
    assert (row["status"], row["error_code"]) == (499, "client_gone")
    assert (row["usage_source"], row["tokens_out"]) == ("estimated", 0)
    assert row["tokens_in"] > 0
    door.assert_nothing_left()


def test_a_caller_who_leaves_after_the_usage_event_pays_exactly(door: Door) -> None:
    model = f"linger-{uuid4().hex}"
    usage = b'{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}'
    last = b'data: {"choices":[],"usage":' + usage + b"}\n\n"
    pieces: list[bytes | float] = [stream_head(), chunked(EVENT), chunked(last), 30.0]
    door.oracle.on(model, lambda call: pieces)
    own, since = uuid4().hex, len(door.oracle.calls)
    caller = door.connect()
    caller.sendall(request_bytes(door.key.secret, f"oracle/{model}", own, stream=True))
    eventually(lambda: len(door.oracle.calls) > since)
    seen = b""
    while EVENT not in seen:
        seen += caller.recv(4096)
    time.sleep(0.1)
    assert closed_within_a_second(door.oracle.calls[since], leave(caller, rudely=False))
    row = door.row(own)
    assert row["error_code"] == "client_gone"
    assert (row["tokens_in"], row["tokens_out"], row["usage_source"]) == (11, 3, "provider")


def draining(door: Door) -> str:
    """The prefix of models that lead to the oracle by a provider whose calls are read on."""
    name = f"drained-{uuid4().hex[:8]}"
    provider = door.new_provider(
        door.oracle.api, door.upstream_key, name=name, disconnect_policy="drain"
    )
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    door.new_model(f"{name}/*", provider, "*", prices=[price])
    return name


def came_after(door: Door, number: int) -> bool:
    return len(door.oracle.calls) > number


def slots_free(door: Door) -> int:
    return int(door.admin.detail()["reports"]["relay"]["slots_free"])


def test_under_drain_a_caller_who_leaves_pays_what_the_provider_reports(door: Door) -> None:
    prefix, chance = draining(door), random.Random(3)
    slots = slots_free(door)
    for n in range(6):
        own, since = uuid4().hex, len(door.oracle.calls)
        tokens = chance.randrange(20, 60)
        caller = door.connect()
        caller.sendall(
            request_bytes(door.key.secret, f"{prefix}/drip:{tokens}x0.01", own, stream=n % 3 > 0)
        )
        if n % 3 > 0:
            seen = caller.recv(4096)
            while len(seen) < chance.randrange(1, 2_000):
                seen += caller.recv(4096)
        else:
            eventually(partial(came_after, door, since))
        leave(caller, rudely=n % 2 == 0)
        call = door.oracle.calls[since]
        assert call.finished.wait(5.0)
        assert call.how == "done", "the upstream was not closed"
        row = door.row(own)
        assert (row["status"], row["error_code"]) == (499, "client_gone")
        assert (row["usage_source"], row["tokens_out"]) == ("provider", tokens)
        assert row["cost_nano_usd"] == 1_000 * row["tokens_in"] + 2_000 * tokens
        assert [attempt["outcome"] for attempt in door.attempts(own)] == ["ok"]
    door.assert_nothing_left()
    assert slots_free(door) == slots


def test_a_caller_who_leaves_in_the_middle_of_the_body_was_never_there(door: Door) -> None:
    own, since = uuid4().hex, len(door.oracle.calls)
    caller = door.connect()
    caller.sendall(request_bytes(door.key.secret, "oracle/ok", own, stream=False)[:-20])
    time.sleep(0.2)
    caller.close()
    door.assert_nothing_left()
    assert len(door.oracle.calls) == since
    assert not door.has_row(own)


def test_many_callers_leave_at_once_and_nobody_else_notices(door: Door) -> None:
    chance = random.Random(7)
    since = len(door.oracle.calls)
    ids = [uuid4().hex for _ in range(30)]
    callers = [door.connect() for _ in ids]
    for n, (caller, own) in enumerate(zip(callers, ids, strict=True)):
        caller.sendall(
            request_bytes(door.key.secret, "oracle/drip:300x0.01", own, stream=n % 3 > 0)
        )
    stays = threading.Thread(
        target=lambda: answers.append(door.chat("oracle/drip:30x0.02", stream=True))
    )
    answers: list[httpx.Response] = []
    stays.start()
    eventually(lambda: len(door.oracle.calls) >= since + len(ids) + 1)
    for caller in callers:
        time.sleep(chance.random() * 0.01)
        leave(caller, rudely=chance.random() < 0.5)
    rows = [door.row(own) for own in ids]
    stays.join(10)
    assert {row["error_code"] for row in rows} == {"client_gone"}
    assert all(row["tokens_in"] > 0 and row["cost_nano_usd"] > 0 for row in rows)
    assert answers[0].content.endswith(b"data: [DONE]\n\n")
    assert {call.how for call in door.oracle.calls[since:]} == {"client_closed", "done"}
    door.assert_nothing_left()


def closed_within_a_second(call: Call, left_at: float) -> bool:
    assert call.finished.wait(2.0), "the upstream is still at it"
    assert call.how == "client_closed", call.how
    assert call.ended_at is not None
    return call.ended_at - left_at < 1.0
