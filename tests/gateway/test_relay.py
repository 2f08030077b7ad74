"""What passes through the public door unchanged, and what never passes."""

import json
import time
from uuid import uuid4

import httpx
import pytest

from tests.gateway.door import PROMPT, Door, error_of
from tests.gateway.wire import EVENT, MIB, chunked, members, stream_head

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


# --- the request, on its way up ---------------------------------------------------------------------------------------

CHAT_BODY = rb"""{
 "messages" : [ {"role":"system","content":"\u00e9 \ud83d\udd11 \/ caf"}, {"role":"user", "name": "\u0061da",
   "content":[{"type":"text","text":"caf\u00e9"},{"type":"image_url","image_url":{"url":"https:\/\/images.example/a.png"}}]},
   {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]}],
 "temperature": 1.0, "top_p":1e-5, "presence_penalty":-0.0, "frequency_penalty" : 1E+2, "seed": 123456789012345678901234567890,
 "max_completion_tokens": 7, "n": 2, "stop": ["\n", "\u2028"], "logit_bias":{"50256":-100.000, "1":1e5},
 "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"x":{"enum":[1,1.0,"1"]}}}}}],
 "tool_choice": {"type":"function","function":{"name":"f"}}, "parallel_tool_calls": false, "user": "u\u0000",
 "response_format":{"type":"json_schema","json_schema":{"name":"s","strict":true,"schema":{}}}, "logprobs": true,
 "model": "oracle/ok", "metadata":{}, "store":null, "x_unknown": {"deep":[[[{"Z":1,"a":2,"Z ":3}]]]}, "": 0,
 "api_base": "http://127.0.0.1:9/", "user_config": {"base_url":"http://127.0.0.1:9/"}, "reasoning_effort": "high"
}"""
COMPLETION_BODY = rb'{"prompt":["\u0041", "b"],"best_of":2,"suffix" :"\t","model":"oracle\/ok","echo":true,"max_tokens":3}'
EMBEDDING_BODY = (
    rb'{"input":[[1,2],[ 3 ]],"dimensions":3,"encoding_format":"float","model":"embed/ok","x":1.50}'
)

# What passes between two sockets passes by no database; what is written of it is in test_counting.py.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT_BODY),
        ("/v1/completions", COMPLETION_BODY),
        ("/v1/embeddings", EMBEDDING_BODY),
    ],
)
def test_every_parameter_reaches_the_upstream_byte_for_byte(
    door: Door, path: str, body: bytes
) -> None:
    answer = door.post(path, body)
    assert answer.status_code == 200, answer.text
    call = door.upstream_call(answer)
    sent, received = members(body), members(call.body)
    assert received == {**sent, "model": b'"ok"'}
    assert list(received) == list(sent)
    assert call.path == path


def test_a_stream_is_asked_for_its_usage_and_otherwise_unchanged(door: Door) -> None:
    options = b'{"include_usage":false, "include_obfuscation" : false,"x":1.0}'
    body = CHAT_BODY[:-2] + b', "stream": true, "stream_options":' + options + b"}"
    call = door.upstream_call(door.post("/v1/chat/completions", body))
    received = members(call.body)
    asked = members(received.pop("stream_options"))
    assert asked == {"include_usage": b"true", "include_obfuscation": b"false", "x": b"1.0"}
    assert received == {**members(CHAT_BODY), "model": b'"ok"', "stream": b"true"}


def test_bytes_that_are_not_ascii_stay_as_they_are(door: Door) -> None:
    body = '{"model":"oracle/ok","messages":[{"role":"user","content":"日本 é 🔑"}]}'.encode()
    call = door.upstream_call(door.post("/v1/chat/completions", body))
    assert members(call.body)["messages"] == members(body)["messages"]


def test_a_large_body_passes_whole(door: Door) -> None:
    text = "x" * (8 * MIB)
    answer = door.chat("oracle/ok", messages=[{"role": "user", "content": text}])
    assert answer.status_code == 200
    assert door.upstream_call(answer).json["messages"][0]["content"] == text


#: Names by which a client could try to say where a request goes, or as whom.
OVERRIDES = [
    "api_base",
    "base_url",
    "api_key",
    "api-base",
    "host",
    "x-forwarded-host",
    "x-upstream-url",
    "x-target-url",
    "x-provider",
    "openai-organization",
    "openai-project",
    "x-portkey-custom-host",
    "x-litellm-api-base",
    "helicone-target-url",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "cf-connecting-ip",
    "via",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "x-amz-security-token",
    "authorization-x",
    "traceparent",
    "tracestate",
    "baggage",
    "origin",
    "referer",
    "x-stainless-lang",
    "x-stainless-os",
    "accept-language",
    "range",
    "if-none-match",
    "expect-ct",
    "x-foo",
    "content-language",
    "dnt",
    "priority",
]


def test_headers_that_say_where_or_as_whom_never_go_upstream(door: Door) -> None:
    """500 of them, in lots that the server takes."""
    names = [*OVERRIDES, *(f"x-made-up-{n}" for n in range(500 - len(OVERRIDES)))]
    assert len(set(names)) == 500
    planted = "planted-value-8c1f"
    lots = [names[start : start + 80] for start in range(0, len(names), 80)]
    for lot in lots:
        forged = {name: planted for name in lot if name not in {"host", "upgrade", "te"}}
        answer = with_headers(door, forged)
        assert answer.status_code == 200, answer.text
        call = door.upstream_call(answer)
        assert planted not in json.dumps(call.headers)
        assert {name for name, _ in call.headers} == SENT_UPSTREAM
        assert call.header("host") == f"127.0.0.1:{door.oracle.port}"
        assert call.header("authorization") == f"Bearer {door.upstream_key}"


SENT_UPSTREAM = {
    "host",
    "content-type",
    "content-length",
    "accept",
    "accept-encoding",
    "user-agent",
    "authorization",
    "x-request-id",
}


def with_headers(door: Door, more: dict[str, str]) -> httpx.Response:
    body = {"model": "oracle/ok", "messages": PROMPT}
    return door.post("/v1/chat/completions", body, headers=more)


def test_hop_by_hop_headers_cookies_and_the_callers_key_never_go_upstream(door: Door) -> None:
    forged = {
        "connection": "authorization, x-foo, content-type, x-request-id",
        "x-foo": "foo-value-77",
        "cookie": "sid=cookie-value-77; other=1",
        "x-api-key": door.key.secret,
        "api-key": door.key.secret,
        "x-goog-api-key": door.key.secret,
        "proxy-authorization": "Basic cHJveHk6dmFsdWUtNzc=",
        "accept-encoding": "gzip, br, zstd",
        "user-agent": "agent-value-77",
        "accept": "application/json",
    }
    answer = with_headers(door, forged)
    assert answer.status_code == 200
    call = door.upstream_call(answer)
    assert {name for name, _ in call.headers} == SENT_UPSTREAM
    assert call.header("accept-encoding") == "identity"
    assert call.header("accept") == "application/json"
    received = json.dumps(call.headers) + call.body.decode()
    assert door.key.secret not in received
    assert door.key.prefix not in received
    assert "value-77" not in received


def test_more_header_lines_than_any_client_sends_are_refused_before_anything_else(
    door: Door,
) -> None:
    before = len(door.oracle.calls)
    answer = with_headers(door, {f"x-h-{n}": "v" for n in range(500)})
    assert answer.status_code == 431
    assert error_of(answer)["code"] == "invalid_request"
    assert answer.headers["x-request-id"]
    assert len(door.oracle.calls) == before


# --- the answer, on its way down --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script", ["ok", "split:1", "split:7", "crlf", "drip:40x0", "ok+crlf+split:3"]
)
@pytest.mark.parametrize("choices", [1, 3])
def test_a_stream_is_relayed_byte_for_byte(door: Door, script: str, choices: int) -> None:
    answer = door.chat(
        f"oracle/{script}", stream=True, n=choices, stream_options={"include_usage": True}
    )
    call = door.upstream_call(answer)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content == bytes(call.sent)
    end = b"\r\n\r\n" if "crlf" in script else b"\n\n"
    assert answer.content.endswith(b"data: [DONE]" + end)
    assert b'"completion_tokens"' in answer.content


@pytest.mark.parametrize("script", ["ok", "split:1", "ok+usage:running", "ok+tools"])
def test_a_stream_loses_its_usage_event_alone_when_nobody_asked_for_it(
    door: Door, script: str
) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
    answer = door.chat(f"oracle/{script}", stream=True, tools=[tool])
    sent = bytes(door.upstream_call(answer).sent).split(b"\n\n")
    kept = [event for event in sent if b'"choices":[]' not in event]
    assert len(kept) == len(sent) - 1
    assert answer.content == b"\n\n".join(kept)
    assert door.row(answer)["usage_source"] == "provider"


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/chat/completions", "/v1/v1/chat/completions"]
)
def test_a_whole_answer_is_relayed_byte_for_byte_whatever_the_base_url(
    door: Door, path: str
) -> None:
    answer = door.post(path, {"model": "oracle/ok", "messages": PROMPT})
    assert answer.status_code == 200
    assert answer.content == bytes(door.upstream_call(answer).sent)


def test_events_are_passed_on_as_they_come(door: Door) -> None:
    arrivals = []
    began = time.monotonic()
    with door.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": "oracle/drip:5x0.2", "messages": PROMPT, "stream": True},
        headers=door.key.bearer,
    ) as answer:
        for _ in answer.iter_raw():
            arrivals.append(time.monotonic() - began)  # noqa: PERF401 - the times matter, not the chunks
    assert arrivals[0] < 0.5
    assert arrivals[-1] > 0.9
    assert len(arrivals) >= 5


def test_a_streams_head_does_not_wait_for_its_first_event(door: Door) -> None:
    model = f"thinks-{uuid4().hex}"
    done = chunked(EVENT) + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    pieces: list[bytes | float] = [stream_head(), 0.8, done]
    door.oracle.on(model, lambda call: pieces)
    began = time.monotonic()
    with door.client.stream(
        "POST",
        "/v1/chat/completions",
        json={"model": f"oracle/{model}", "messages": PROMPT, "stream": True},
        headers=door.key.bearer,
    ) as answer:
        assert time.monotonic() - began < 0.6
        assert answer.read().endswith(b"data: [DONE]\n\n")
    assert time.monotonic() - began > 0.8


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "image/svg+xml", ""])
def test_an_answer_is_json_whatever_the_upstream_calls_it(door: Door, kind: str) -> None:
    model = f"called-{uuid4().hex}"
    body = b'{"choices":[],"x":"<script>"}'
    head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    door.oracle.on(model, lambda call: head.encode() + body)
    answer = door.chat(f"oracle/{model}")
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/json"


def test_the_upstreams_own_headers_stay_behind(door: Door) -> None:
    answer = door.chat("oracle/ok")
    call = door.upstream_call(answer)
    assert answer.headers["x-upstream-request-id"] == f"req_oracle{call.number}"
    for name in ("set-cookie", "openai-processing-ms", "x-ratelimit-limit-requests"):
        assert name not in answer.headers
    assert "oracle" not in answer.headers["server"]
    assert answer.headers["x-gatehouse-provider"] == "oracle"
    assert answer.headers["x-gatehouse-target"] == "ok"
    assert answer.headers["x-gatehouse-attempts"] == "1"


# --- request ids and times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", ["abcdefgh", "A-b_C-1234", "x" * 64])
def test_the_callers_request_id_is_in_answer_and_log_and_stays_in_the_house(
    door: Door, own: str
) -> None:
    own = own[:56] + uuid4().hex[:8]
    answer = with_headers(door, {"x-request-id": own})
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == own
    row = door.row(own)
    assert row["request_id"] != own
    assert own not in json.dumps(door.oracle.call(f"{row['request_id']}-1").headers)


@pytest.mark.parametrize(
    "bad", ["short", "x" * 65, "has space", "quote'quote", "semi;colon", "é" * 8]
)
def test_an_unfit_request_id_is_replaced(door: Door, bad: str) -> None:
    body = json.dumps({"model": "oracle/ok", "messages": PROMPT}).encode()
    headers = {**door.key.bearer, "content-type": "application/json"}
    sent = [(n.encode(), v.encode()) for n, v in headers.items()]
    answer = door.client.post(
        "/v1/chat/completions", content=body, headers=[*sent, (b"x-request-id", bad.encode())]
    )
    given = answer.headers["x-request-id"]
    assert given != bad
    assert len(given) == 32
    assert door.row(given)["status"] == 200


def test_every_refusal_carries_its_request_id(door: Door) -> None:
    for path, key, status in (
        ("/v1/chat/completions", {}, 401),
        ("/v1/no-such-door", door.key.bearer, 404),
    ):
        answer = door.client.post(path, headers={**key, "x-request-id": "my-own-id-1"}, json={})
        assert answer.status_code == status
        assert answer.headers["x-request-id"] == answer.headers["request-id"] == "my-own-id-1"


@STREAMED
def test_first_byte_and_overhead_are_measured_apart(door: Door, stream: bool) -> None:
    answer = door.chat("oracle/slow:0.4", stream=stream)
    row = door.row(answer)
    assert 400_000 <= row["ttfb_us"] <= row["duration_us"]
    assert 0 < row["overhead_us"] < 200_000
    told = float(answer.headers["x-gatehouse-overhead-ms"])
    # What a whole answer's header tells includes writing the settlement down, in which the other figure stands.
    assert row["overhead_us"] - 1 <= told * 1000 < row["overhead_us"] + 50_000
    (attempt,) = door.attempts(answer)
    assert 400_000 <= attempt["ttfb_us"] <= attempt["duration_us"]
