"""The oracle must be right before anything is measured against it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest

from tests.support.environment import ROOT
from tests.support.oracle import Call, Oracle, Script, UnknownScript, parse, read_log

HELLO = [{"role": "user", "content": "three little words"}]


def client(oracle: Oracle) -> openai.OpenAI:
    return openai.OpenAI(base_url=oracle.api, api_key="sk-oracle-test", max_retries=0)


def post(
    oracle: Oracle, model: str, *, stream: bool = False, attempt: str = "a1"
) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "stream": stream}
    headers = {"x-request-id": attempt, "authorization": "Bearer sk-secret"}
    return httpx.post(
        f"{oracle.api}/chat/completions", json=body, headers=headers, trust_env=False, timeout=10
    )


def test_the_sdk_reads_a_plain_answer_with_exact_usage(oracle: Oracle):
    answer = client(oracle).chat.completions.create(model="drip:3x0", messages=HELLO)
    assert answer.choices[0].message.content == "gate naïve ledger "
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 3)


def test_a_stream_tells_usage_only_when_asked(oracle: Oracle):
    create = client(oracle).chat.completions.create
    silent = list(create(model="ok", messages=HELLO, stream=True))
    asked = list(
        create(model="ok", messages=HELLO, stream=True, stream_options={"include_usage": True})
    )
    assert all(chunk.usage is None for chunk in silent)
    assert [bool(chunk.usage) for chunk in asked] == [False] * (len(asked) - 1) + [True]
    assert asked[-1].choices == []


def test_tools_embeddings_completions_and_models_are_spoken(oracle: Oracle):
    sdk = client(oracle)
    tools = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]
    call = (
        sdk.chat.completions.create(model="tools", messages=HELLO, tools=tools)
        .choices[0]
        .message.tool_calls[0]
    )
    chunks = list(
        sdk.chat.completions.create(model="tools", messages=HELLO, tools=tools, stream=True)
    )
    streamed = [d for c in chunks if c.choices for d in c.choices[0].delta.tool_calls or []]
    assert json.loads(call.function.arguments) == {"city": "Zürich"}
    assert "".join(piece.function.arguments for piece in streamed) == call.function.arguments
    assert sdk.embeddings.create(model="ok", input=["a b", "c"]).usage.prompt_tokens == 3
    assert sdk.completions.create(model="drip:1x0", prompt="x").choices[0].text == "gate "
    assert [model.id for model in sdk.models.list()] == oracle.models


def test_a_cap_in_the_request_bounds_the_answer(oracle: Oracle):
    answer = client(oracle).chat.completions.create(model="drip:9x0", messages=HELLO, max_tokens=2)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (2, "length")


def test_what_was_received_and_sent_is_in_the_file(tmp_path: Path):
    log = tmp_path / "calls.jsonl"
    with Oracle(log) as oracle:
        answer = post(oracle, "ok", stream=True, attempt="attempt-7")
    (call,) = read_log(log)
    assert (call.attempt_id, call.how, call.tokens_sent) == ("attempt-7", "done", 5)
    assert call.bytes_sent == len(answer.content) == len(oracle.calls[0].sent)
    assert call.json["model"] == "ok"
    assert ("authorization", "Bearer sk-secret") in call.headers


def test_the_call_is_on_file_before_it_is_answered(tmp_path: Path):
    log = tmp_path / "calls.jsonl"
    seen: list[int] = []

    def look(call: Call) -> str:
        seen.append(len(log.read_text().splitlines()))
        return "ok"

    with Oracle(log) as oracle:
        oracle.on("look", look)
        post(oracle, "look")
    assert seen == [1]


def test_a_half_sent_body_is_no_call(oracle: Oracle):
    with socket.create_connection(("127.0.0.1", oracle.port)) as caller:
        caller.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"
        )
        caller.shutdown(socket.SHUT_WR)
        assert caller.recv(100) == b""
    assert oracle.calls == []


def test_leaving_is_noticed_and_timed(oracle: Oracle):
    body = {"model": "drip:500x0.02", "messages": HELLO, "stream": True}
    url, headers = f"{oracle.api}/chat/completions", {"x-request-id": "leaver"}
    with httpx.stream("POST", url, json=body, headers=headers, trust_env=False) as answer:
        next(answer.iter_raw())
    call = oracle.wait_closed("leaver", within=1.0)
    assert call.tokens_sent < 500


@pytest.mark.parametrize(
    "model", ["cut:2", "cut-utf8", "close", "reset", "garbage", "endless-headers"]
)
@pytest.mark.parametrize("stream", [True, False])
def test_broken_answers_are_broken(oracle: Oracle, model: str, stream: bool):
    with pytest.raises(httpx.TransportError):
        post(oracle, model, stream=stream)
    assert oracle.calls[0].finished.wait(1)


@pytest.mark.parametrize(
    ("model", "status", "part"),
    [
        ("status:429:retry-after=2", 429, b"told to answer 429"),
        ("html", 200, b"<!doctype html>"),
        ("empty", 200, b""),
        ("redirect:http://127.0.0.1:1/x+y", 302, b""),
        ("echo-auth-in-error", 400, b"Bearer sk-secret"),
        ("status:500+echo-auth-in-error", 500, b"Bearer sk-secret"),
        ("usage:nan", 200, b"NaN"),
        ("usage:negative", 200, b":-3"),
        ("bomb:1MiB", 200, b"a" * 1024),
        ("gzip-bomb:2MiB", 200, b" " * 2048),
        ("any-name~usage:string", 200, b'"prompt_tokens":"3"'),
        ("any-name~nonsense", 400, b"unknown script"),
    ],
)
def test_scripted_answers_come(oracle: Oracle, model: str, status: int, part: bytes):
    answer = post(oracle, model)
    assert answer.status_code == status
    assert part in answer.content


def test_headers_and_raw_bytes_can_be_scripted(oracle: Oracle):
    assert post(oracle, "status:429:retry-after=2,x-a=b").headers["retry-after"] == "2"
    assert (
        post(oracle, "redirect:http://127.0.0.1:1/x+y").headers["location"]
        == "http://127.0.0.1:1/x+y"
    )
    oracle.on("raw", lambda call: [b"HTTP/1.1 204 No Content\r\n", 0.01, b"\r\n"])
    assert post(oracle, "raw").status_code == 204


@pytest.mark.parametrize(
    ("model", "ends"),
    [("no-done", b"}]}\n\n"), ("error-event:2", b'"scripted"}}\n\n'), ("crlf", b"\r\n\r\n")],
)
def test_streams_end_as_scripted(oracle: Oracle, model: str, ends: bytes):
    assert post(oracle, model, stream=True).content.endswith(ends)


def test_a_name_is_read_as_a_script_only_where_it_is_one():
    assert parse("gpt-4o") == Script()
    assert parse("drip:2x0.5+usage:none") == Script(tokens=2, interval=0.5, usage="none")
    assert parse("tenant-a~slow:1") == Script(delay=1.0)
    with pytest.raises(UnknownScript):
        parse("x~slow:soon")


def test_it_runs_as_a_process(tmp_path: Path):
    command = [sys.executable, "-m", "tests.support.oracle", "--log", str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False)
        process.terminate()
    assert answer.json()["object"] == "list"
    assert process.returncode == 0
