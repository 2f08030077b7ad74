"""An unmodified OpenAI client does not notice the gateway: the official SDKs of Python and npm, and a real llama.cpp."""

import json
import re
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.gateway.door import PROMPT, Door, Json, Key, eventually
from tests.support import programs
from tests.support import sdk as sdk_process
from tests.support.environment import ROOT
from tests.support.llama import Llama
from tests.support.oracle.script import text_of

# What clients see of answers; what is written of them is in test_counting.py, on both.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]

TEXT = "".join(text_of(5))
TOOL = {
    "type": "function",
    "function": {
        "name": "switch",
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean"}},
            "required": ["on"],
        },
    },
}


@pytest.fixture(scope="session")
def models(door: Door) -> dict[str, str]:
    """Names without a `*`, so that they can be retrieved."""
    return {
        "chat": door.new_model("sdk-chat", door.provider_id, "ok"),
        "embedding": door.new_model("sdk-embed", door.provider_id, "ok", capability="embedding"),
    }


def client_for(door: Door, key: Key | None = None, **options: object) -> openai.OpenAI:
    secret = (key or door.key).secret
    return openai.OpenAI(base_url=door.server.api, api_key=secret, max_retries=0, **options)


@pytest.fixture
def sdk(door: Door) -> Iterator[openai.OpenAI]:
    with client_for(door) as client:
        yield client


# --- every version that callers still use -----------------------------------------------------------------------------


@pytest.mark.parametrize("major", sdk_process.OLDER)
def test_older_versions_of_the_sdk_do_not_notice(
    door: Door, models: dict[str, str], major: str
) -> None:
    programs.need_python(major, "openai")
    facts = programs.facts_of_python(major, "tests.support.sdk", task_for(door, models))
    check_facts(major, facts)
    assert facts["async"] == TEXT


def test_the_newest_version_of_the_sdk_does_not_notice(door: Door, models: dict[str, str]) -> None:
    facts = sdk_process.calls(task_for(door, models))
    check_facts(openai.__version__.partition(".")[0], facts)
    assert facts["async"] == TEXT


@pytest.mark.sqlite
def test_the_sdk_of_npm_does_not_notice(door: Door, models: dict[str, str]) -> None:
    programs.need_node("openai")
    left_id = "left-by-node-1"
    script = ROOT / "tests" / "support" / "node" / "sdk.cjs"
    facts = programs.facts_of_node(script, {**task_for(door, models), "left_id": left_id})
    check_facts("7", facts)
    assert facts["helper_tool"] == {"city": "Zürich"}
    assert facts["left_after"] == 2
    row = door.row(left_id)
    assert (row["status"], row["error_code"]) == (499, "client_gone")
    door.assert_nothing_left()


def task_for(door: Door, models: dict[str, str]) -> dict[str, str]:
    key = door.new_key(allowed_models=["oracle/*", "sdk-*"])
    return {
        "base_url": door.server.api,
        "api_key": key.secret,
        "model": "oracle/ok",
        "embedding_model": models["embedding"],
    }


def check_facts(major: str, facts: Json) -> None:
    assert facts["version"].startswith(f"{major}.")
    assert facts["chat"] == facts["stream"] == TEXT
    assert facts["legacy"] == facts["legacy_stream"] == TEXT
    assert facts["usage"] == facts["asked_usage"] == [4, 5]
    assert facts["stream_usage"] == []
    assert facts["tool"] == ["weather", {"city": "Zürich"}]
    assert facts["stream_tool"] == {"city": "Zürich"}
    assert facts["embeddings"] == [[1.0, 2.0, 3.0]] * 2
    assert facts["models"] == ["oracle/*", "sdk-chat", "sdk-embed"]
    assert facts["retrieved"] == "sdk-embed"
    assert len(facts["headers"]["x-request-id"]) == len(facts["request_id"]) == 32
    assert facts["errors"] == {
        "key": ["AuthenticationError", 401, "invalid_api_key", None],
        "model": ["NotFoundError", 404, "model_not_found", "model"],
        "body": ["BadRequestError", 400, "invalid_request", "messages"],
        "busy": ["RateLimitError", 429, None, None],
        "broken": ["InternalServerError", 502, "upstream_error", None],
        "cut": ["APIError", None, "upstream_error", None],
    }


# --- errors as the SDK knows them -------------------------------------------------------------------------------------


def ask(client: openai.OpenAI, model: str = "oracle/ok", **more: object) -> object:
    return client.chat.completions.create(model=model, messages=PROMPT, **more)


def test_each_refusal_is_the_class_that_the_sdk_has_for_it(door: Door) -> None:
    narrow = door.new_key(allowed_models=["free/*"])
    slow = door.new_key(rate_limit_rpm=1)
    with client_for(door, narrow) as client, pytest.raises(openai.PermissionDeniedError) as denied:
        ask(client)
    assert (denied.value.code, denied.value.param) == ("model_not_allowed", "model")
    with client_for(door, slow) as client:
        ask(client)
        with pytest.raises(openai.RateLimitError) as limited:
            ask(client)
    assert limited.value.code == "rate_limit_exceeded"
    assert int(limited.value.response.headers["retry-after"]) > 0
    with client_for(door) as client:
        with pytest.raises(openai.BadRequestError) as bad:
            ask(client, "embed/ok")
        assert (bad.value.code, bad.value.param) == ("invalid_request", "model")
        with pytest.raises(openai.ConflictError):
            ask(client, "oracle/status:409")
        with pytest.raises(openai.UnprocessableEntityError):
            ask(client, "oracle/status:422")
        with pytest.raises(openai.InternalServerError) as late:
            ask(client, "oracle/hang")
        assert (late.value.status_code, late.value.code) == (504, "upstream_timeout")
        assert late.value.request_id


def test_the_sdk_retries_what_it_is_told_to_retry(door: Door) -> None:
    """And nothing of it is lost or doubled: every try is a call of its own in the log."""
    with (
        client_for(door).with_options(max_retries=2) as client,
        pytest.raises(openai.RateLimitError),
    ):
        ask(client, "oracle/status:429:retry-after=0", extra_headers={"x-request-id": "retried-1"})
    rows = "SELECT COUNT(*) FROM usage_requestlog WHERE correlation_id = 'retried-1'"
    eventually(lambda: door.server.query(rows) == [(3,)])


def test_every_answer_can_be_asked_for_its_headers(sdk: openai.OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model="oracle/ok", messages=PROMPT)
    assert raw.headers["x-gatehouse-provider"] == "oracle"
    assert raw.headers["x-gatehouse-cost-usd"] == "0.000014"
    assert float(raw.headers["x-gatehouse-overhead-ms"]) > 0
    assert raw.parse().choices[0].message.content == TEXT
    with sdk.chat.completions.with_streaming_response.create(
        model="oracle/ok", messages=PROMPT, stream=True
    ) as streamed:
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert list(streamed.iter_lines())[-2:] == ["data: [DONE]", ""]


async def test_many_asynchronous_streams_at_once(door: Door) -> None:
    async with openai.AsyncOpenAI(
        base_url=door.server.api, api_key=door.key.secret, max_retries=0
    ) as client:
        streams = [
            await client.chat.completions.create(
                model="oracle/drip:10x0.01", messages=PROMPT, stream=True
            )
            for _ in range(20)
        ]
        for stream in streams:
            chunks = [chunk async for chunk in stream]
            texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
            assert "".join(texts) == "".join(text_of(10))


def test_a_stream_that_the_sdk_closes_early_is_settled(door: Door, sdk: openai.OpenAI) -> None:
    headers = {"x-request-id": "closed-early-1"}
    stream = ask(sdk, "oracle/drip:500x0.01", stream=True, extra_headers=headers)
    assert isinstance(stream, openai.Stream)
    next(stream)
    next(stream)
    stream.close()
    row = door.row("closed-early-1")
    assert (row["status"], row["error_code"]) == (499, "client_gone")
    door.assert_nothing_left()


# --- a real inference server ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny(door: Door, llama: Llama) -> str:
    """llama.cpp's model under its own name, for chat; for embeddings it is `tiny-vectors`."""
    provider = door.new_provider(llama.api, None)
    door.new_model("tiny-vectors", provider, llama.model, capability="embedding", prices=[])
    return door.new_model("tiny", provider, llama.model)


@pytest.mark.llama
def test_llama_chats_and_streams_the_same_text(door: Door, sdk: openai.OpenAI, tiny: str) -> None:
    fixed = {"max_tokens": 12, "seed": 7, "temperature": 0}
    whole = sdk.chat.completions.create(model=tiny, messages=PROMPT, **fixed)
    chunks = list(sdk.chat.completions.create(model=tiny, messages=PROMPT, stream=True, **fixed))
    asked = list(
        sdk.chat.completions.create(
            model=tiny,
            messages=PROMPT,
            stream=True,
            stream_options={"include_usage": True},
            **fixed,
        )
    )
    for streamed in (chunks, asked):
        texts = [c.choices[0].delta.content or "" for c in streamed if c.choices]
        assert "".join(texts) == whole.choices[0].message.content
    assert whole.usage.completion_tokens == 12
    assert not any(chunk.usage for chunk in chunks)
    assert asked[-1].usage.completion_tokens == 12
    assert asked[-1].usage.prompt_tokens == whole.usage.prompt_tokens


@pytest.mark.llama
@pytest.mark.parametrize("include_usage", [True, False])
def test_llamas_stream_has_the_bytes_that_it_has_without_us(
    door: Door, llama: Llama, tiny: str, include_usage: bool
) -> None:
    """What differs between two calls by itself (ids, times) is blotted out; nothing else is touched."""
    body: Json = {"messages": PROMPT, "max_tokens": 8, "seed": 7, "temperature": 0, "stream": True}
    body["cache_prompt"] = False  # the second call would find the first one's prompt
    body["stream_options"] = {"include_usage": True}
    direct = httpx.post(
        f"{llama.api}/chat/completions",
        json={**body, "model": llama.model},
        trust_env=False,
        timeout=30,
    )
    body["stream_options"] = {"include_usage": include_usage}
    relayed = door.post("/v1/chat/completions", {**body, "model": tiny})
    assert relayed.headers["content-type"] == direct.headers["content-type"]
    expected = blotted(direct.content)
    if not include_usage:
        expected = [event for event in expected if b'"choices":[],' not in event]
        assert len(expected) == len(blotted(direct.content)) - 1
    assert blotted(relayed.content) == expected
    row = door.row(relayed)
    assert (row["tokens_out"], row["usage_source"]) == (8, "provider")


def blotted(stream: bytes) -> list[bytes]:
    """Events, with the members that no two calls share emptied but every other byte in place."""
    return [_blot(event) for event in stream.split(b"\n\n")]


#: A call's own id, second and durations, as llama.cpp writes them.
_ITS_OWN = re.compile(rb'(?<=[{,])"(id|created|timings)":("[^"]*"|\d+|\{[^{}]*\})')


def _blot(event: bytes) -> bytes:
    return _ITS_OWN.sub(rb'"\1":-', event)


@pytest.mark.llama
def test_llama_calls_a_tool(sdk: openai.OpenAI, llama: Llama, tiny: str) -> None:
    answer = sdk.chat.completions.create(
        model=tiny,
        messages=PROMPT,
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        logit_bias=llama.prefer_tool_call,
        max_tokens=200,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "switch"
    assert isinstance(json.loads(call.function.arguments)["on"], bool)


@pytest.mark.llama
def test_llama_embeds_and_completes(door: Door, sdk: openai.OpenAI, tiny: str) -> None:
    vectors = sdk.embeddings.create(model="tiny-vectors", input=["hello", "world"])
    assert [len(vector.embedding) for vector in vectors.data] == [64, 64]
    legacy = sdk.completions.create(model=tiny, prompt="hello", max_tokens=3)
    assert legacy.usage.completion_tokens == 3
    assert {"tiny", "tiny-vectors"} <= {model.id for model in sdk.models.list()}


@pytest.mark.llama
def test_llamas_own_refusals_come_through(sdk: openai.OpenAI, tiny: str) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        sdk.chat.completions.create(model=tiny, messages=[{"role": "user", "content": "x " * 9000}])
    assert refusal.value.response.headers["x-gatehouse-upstream-status"] == "400"
    assert "context" in str(refusal.value)
