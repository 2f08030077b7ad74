"""What the caller sees of an upstream that refuses, breaks, lies, or points elsewhere."""

import json
import socket
import time
from uuid import uuid4

import pytest

from tests.gateway.door import PROMPT, Door, Json, error_of
from tests.gateway.wire import EVENT, chunked, is_cut_off_cleanly, stream_head

# What an upstream does wrong is no matter of the database; what is written of it is in test_counting.py.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# --- an upstream's no -------------------------------------------------------------------------------------------------


@STREAMED
@pytest.mark.parametrize("status", [400, 404, 408, 409, 413, 415, 422, 429, 500, 502, 503, 529])
def test_an_upstreams_no_passes_with_its_status(door: Door, status: int, stream: bool) -> None:
    answer = door.chat(f"oracle/status:{status}:retry-after=7", stream=stream)
    assert answer.status_code == status
    assert str(status) in error_of(answer)["message"]
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-gatehouse-upstream-status"] == str(status)
    assert answer.headers["content-type"] == "application/json"
    row = door.row(answer)
    assert (row["status"], row["dispatched"], row["attempts"]) == (status, "yes", 1)


@STREAMED
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 401, 402, 403, 407])
def test_an_upstreams_no_to_us_is_502(door: Door, status: int, stream: bool) -> None:
    answer = door.chat(f"oracle/status:{status}", stream=stream)
    assert answer.status_code == 502
    assert error_of(answer)["code"] == "upstream_refused_us"
    assert answer.headers["x-gatehouse-upstream-status"] == str(status)
    assert door.row(answer)["error_code"] == "upstream_refused_us"


TRACE = 'Traceback (most recent call last):\n  File "/srv/app.py", line 3, in <module>\nKeyError: 1'


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"error": {"message": TRACE, "type": "x"}}).encode(),
        json.dumps({"detail": TRACE}).encode(),
        TRACE.encode(),
        b"<html><pre>" + TRACE.encode() + b"</pre>",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"error":' * 50_000,
    ],
)
def test_no_stack_of_an_upstream_reaches_the_caller(door: Door, body: bytes) -> None:
    model = f"trace-{uuid4().hex}"
    head = b"HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    door.oracle.on(model, lambda call: head % len(body) + body)
    answer = door.chat(f"oracle/{model}")
    assert answer.status_code == 500
    error = error_of(answer)
    for telltale in ("Traceback", "/srv", "KeyError", "<html"):
        assert telltale not in answer.text
    assert len(error["message"]) < 200


@STREAMED
def test_an_error_that_echoes_our_credential_is_cleaned(door: Door, stream: bool) -> None:
    answer = door.chat("oracle/echo-auth-in-error", stream=stream)
    assert answer.status_code == 400
    assert error_of(answer)["message"].startswith("Incorrect API key provided")
    assert door.upstream_key not in answer.text
    assert door.upstream_key[-12:] not in answer.text


# --- an upstream that does not answer as it should --------------------------------------------------------------------

#: Script to what the caller gets instead of an answer, and whether it comes before a stream has begun.
FAULTS = {
    "html": (502, "upstream_error"),
    "empty": (502, "upstream_error"),
    "garbage": (502, "upstream_error"),
    "close": (502, "upstream_error"),
    "reset": (502, "upstream_error"),
    "gzip-bomb:64MiB": (502, "upstream_error"),
    "endless-headers": (502, "upstream_error"),
    "hang": (504, "upstream_timeout"),
}


@STREAMED
@pytest.mark.parametrize("script", FAULTS)
def test_an_upstream_that_gives_no_answer_is_one_error_and_nothing_else(
    door: Door, script: str, stream: bool
) -> None:
    began = time.monotonic()
    answer = door.chat(f"oracle/{script}", stream=stream)
    took = time.monotonic() - began
    status, code = FAULTS[script]
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)
    assert "127.0.0.1" not in answer.text
    assert took < 3.0
    row = door.row(answer)
    assert (row["status"], row["error_code"], row["attempts"]) == (status, code, 1)
    assert len(door.entries(answer)) == len(door.attempts(answer)) == 1
    door.assert_nothing_left()


def test_a_slow_upstream_is_504_when_its_time_is_over(door: Door) -> None:
    began = time.monotonic()
    answer = door.chat("oracle/slow:30")
    assert 1.4 < time.monotonic() - began < 3.0
    assert (answer.status_code, error_of(answer)["code"]) == (504, "upstream_timeout")
    (attempt,) = door.attempts(answer)
    assert attempt["outcome"] == "timeout"
    assert door.upstream_call(answer).finished.wait(1.0)


@pytest.mark.parametrize("script", ["cut:2", "cut-utf8", "bomb:1GiB"])
def test_a_whole_answer_that_is_not_whole_is_an_error(door: Door, script: str) -> None:
    answer = door.chat(f"oracle/{script}")
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_error")
    assert door.row(answer)["error_code"] == "upstream_error"
    door.assert_nothing_left()


@pytest.mark.parametrize(
    "script", ["cut:2", "cut-utf8", "error-event:2", "no-done", "stall:2", "bomb:1GiB"]
)
def test_a_stream_that_dies_ends_with_one_error_event_and_no_done(door: Door, script: str) -> None:
    answer = door.chat(f"oracle/{script}", stream=True)
    assert answer.status_code == 200
    assert is_cut_off_cleanly(answer.content)
    assert answer.content.decode()
    row = door.row(answer)
    assert row["error_code"] == ("upstream_timeout" if script == "stall:2" else "upstream_error")
    assert row["usage_source"] == ("provider" if script == "no-done" else "estimated")
    (attempt,) = door.attempts(answer)
    assert attempt["outcome"] != "ok"
    door.assert_nothing_left()


def test_a_providers_address_where_nobody_listens_is_502(door: Door) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        provider = door.new_provider(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", None)
        model = door.new_model(f"nobody-{uuid4().hex}", provider, "ok")
        answer = door.chat(model)
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_error")
    (attempt,) = door.attempts(answer)
    assert attempt["outcome"] == "connect"


@STREAMED
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(door: Door, status: int, stream: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        target = f"http://127.0.0.1:{trap.getsockname()[1]}/v1/chat/completions"
        model = f"redirect-{uuid4().hex}"
        door.oracle.on(
            model,
            lambda call: (
                f"HTTP/1.1 {status} Elsewhere\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n"
            ).encode(),
        )
        answer = door.chat(f"oracle/{model}", stream=stream)
        with pytest.raises(TimeoutError):
            trap.accept()
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_refused_us")
    assert "location" not in answer.headers
    assert str(trap) not in answer.text


def test_addresses_in_a_body_are_not_visited(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/"
        names = ("api_base", "base_url", "callback_url", "webhook", "user_config", "url", "image")
        body: Json = {"model": "oracle/ok", "messages": PROMPT}
        body |= dict.fromkeys(names, url) | {"deep": [{name: url} for name in names]}
        headers = {f"x-{name.replace('_', '-')}": url for name in names}
        assert door.post("/v1/chat/completions", body, headers=headers).status_code == 200
        with pytest.raises(TimeoutError):
            trap.accept()


def test_what_an_upstream_says_when_it_breaks_off_is_passed_on_clean(door: Door) -> None:
    answer = door.chat("oracle/error-event:2", stream=True)
    last = json.loads(answer.content.split(b"\n\n")[-2].removeprefix(b"data: "))
    assert last["error"]["message"] == "the oracle was told to fail here"
    assert last["error"]["code"] == "scripted"
    model = f"telltale-{uuid4().hex}"
    secret = door.upstream_key.encode()
    told = (
        b'data: {"error":{"message":"'
        + secret
        + b" at 10.0.0.1:80 "
        + TRACE[:9].encode()
        + b'"}}\n\n'
    )
    pieces: list[bytes | float] = [stream_head(), chunked(EVENT), chunked(told)]
    door.oracle.on(model, lambda call: pieces)
    answer = door.chat(f"oracle/{model}", stream=True)
    assert is_cut_off_cleanly(answer.content) or b"upstream" in answer.content
    assert door.upstream_key not in answer.text
    assert "10.0.0.1" not in answer.text
