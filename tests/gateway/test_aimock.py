"""A provider that strangers wrote, npm's aimock: tools, errors and broken connections, as callers see them and in the books."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import openai
import pytest

from tests.gateway.door import Door, Json, Key, error_of
from tests.support import aimock
from tests.support.aimock import ARGUMENTS, TEXT, TOKENS, AiMock

pytestmark = [pytest.mark.sqlite, pytest.mark.data_plane]

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
MODEL = "mock/gpt"
PRICE = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
#: What a token of that price costs, in nano-USD.
INPUT, OUTPUT = 1_000, 2_000
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def mock(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AiMock]:
    """Slow enough that what is cut had begun."""
    folder = tmp_path_factory.mktemp("aimock")
    with aimock.running(folder, "--chunk-size", "8", "--latency", "5") as running:
        provider = door.new_provider(running.api, "sk-mock-0123456789")
        door.new_model("mock/*", provider, "*", prices=[PRICE])
        door.new_model("mock-vectors", provider, "v", capability="embedding", prices=[PRICE])
        yield running


@pytest.fixture
def sdk(door: Door, mock: AiMock) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=door.server.api, api_key=door.key.secret, max_retries=0, timeout=30
    ) as client:
        yield client


def saying(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


# --- what works -------------------------------------------------------------------------------------------------------


def test_it_answers_and_streams_the_same_text(door: Door, sdk: openai.OpenAI) -> None:
    create = sdk.chat.completions.create
    whole = create(model=MODEL, messages=saying("hello"))
    chunks = list(create(model=MODEL, messages=saying("hello"), stream=True))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert whole.choices[0].message.content == TEXT == "".join(texts)
    assert len(texts) > 5
    assert not any(chunk.usage for chunk in chunks)
    vectors = sdk.embeddings.create(model="mock-vectors", input=["vector"])
    assert vectors.data[0].embedding == [0.25, -0.5, 1.0]


def test_a_turn_with_a_tool_goes_there_and_back_streamed_or_not(sdk: openai.OpenAI) -> None:
    messages = saying("how is the weather")
    create = sdk.chat.completions.create
    asked = create(model=MODEL, messages=messages, tools=[TOOL]).choices[0]
    call = asked.message.tool_calls[0]
    assert (asked.finish_reason, call.id, call.function.name) == (
        "tool_calls",
        "call_weather",
        "weather",
    )
    assert json.loads(call.function.arguments) == ARGUMENTS
    with sdk.chat.completions.stream(model=MODEL, messages=messages, tools=[TOOL]) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert (streamed.id, streamed.function.name) == ("call_weather", "weather")
    assert json.loads(streamed.function.arguments) == ARGUMENTS
    result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
    turn = [*messages, asked.message.model_dump(exclude_none=True), result]
    answer = create(model=MODEL, messages=turn, tools=[TOOL])
    assert answer.choices[0].message.content == "Rain, then."


@STREAMED
def test_what_it_counted_is_in_the_books(door: Door, mock: AiMock, stream: bool) -> None:
    answer = door.chat(MODEL, messages=saying("hello there"), stream=stream)
    row = door.row(answer)
    assert (row["tokens_in"], row["tokens_out"], row["usage_source"]) == (3, TOKENS, "provider")
    assert row["cost_nano_usd"] == 3 * INPUT + TOKENS * OUTPUT
    assert [entry["cost_nano_usd"] for entry in door.entries(answer)] == [row["cost_nano_usd"]]
    assert f"{row['request_id']}-1" in mock.received()


# --- what fails -------------------------------------------------------------------------------------------------------


@STREAMED
def test_its_errors_are_the_sdks_errors_and_cost_nothing(
    door: Door, sdk: openai.OpenAI, stream: bool
) -> None:
    for word, kind, status, message in (
        ("busy", openai.RateLimitError, 429, "Too many calls"),
        ("broken", openai.InternalServerError, 500, "Out of order"),
        ("nobody foresaw this", openai.NotFoundError, 404, "No fixture matched"),
    ):
        with pytest.raises(kind) as refused:
            sdk.chat.completions.create(model=MODEL, messages=saying(word), stream=stream)
        headers = refused.value.response.headers
        assert message in refused.value.message
        assert headers["x-gatehouse-upstream-status"] == str(status)
        assert headers.get("retry-after") == ("7" if status == 429 else None)
        row = door.row(refused.value.request_id)
        assert (row["status"], row["dispatched"], row["attempts"]) == (status, "yes", 1)
        assert row["cost_nano_usd"] == 0


def test_a_stream_that_it_cuts_is_an_error_after_what_had_come(
    door: Door, sdk: openai.OpenAI
) -> None:
    seen: list[str] = []
    stream = sdk.chat.completions.create(model=MODEL, messages=saying("cut it"), stream=True)
    request_id = stream.response.headers["x-request-id"]
    with pytest.raises(openai.APIError) as broken:
        seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
    assert broken.value.code == "upstream_error"
    assert TEXT.startswith("".join(seen))
    assert "".join(seen)
    row = door.row(request_id)
    assert (row["error_code"], row["usage_source"]) == ("upstream_error", "estimated")
    assert 0 < row["tokens_out"] < TOKENS


@STREAMED
@pytest.mark.parametrize("word", ["gone", "garbled"])
def test_no_answer_and_no_json_are_one_error(
    door: Door, mock: AiMock, word: str, stream: bool
) -> None:
    answer = door.chat(MODEL, messages=saying(word), stream=stream)
    assert (answer.status_code, error_of(answer)["code"]) == (502, "upstream_error")
    row = door.row(answer)
    assert (row["status"], row["error_code"], row["attempts"]) == (502, "upstream_error", 1)


# --- chaos ------------------------------------------------------------------------------------------------------------


def test_in_chaos_callers_provider_and_books_tell_the_same_story(door: Door, mock: AiMock) -> None:
    """Forty calls, eight at once, a third of them cut off or refused by the dice."""
    key = door.new_key()
    mock.set_chaos(disconnectRate=0.2, rateLimitRate=0.1, dropRate=0.1)
    try:
        with ThreadPoolExecutor(8) as pool:
            told = dict(pool.map(_caller(door, key), range(40)))
    finally:
        mock.set_chaos()
    door.assert_nothing_left()
    rows = {correlation_id: door.row(correlation_id) for correlation_id in told}
    assert {correlation_id: row["status"] for correlation_id, row in rows.items()} == told
    assert {200} < set(told.values()) <= {200, 429, 500, 502}
    sent = {f"{row['request_id']}-{n + 1}" for row in rows.values() for n in range(row["attempts"])}
    assert len(sent) == len(told)
    assert sent <= mock.received()
    whole = 2 * INPUT + TOKENS * OUTPUT
    for row in rows.values():
        cost = row["cost_nano_usd"]
        assert cost == whole if row["status"] == 200 else cost < whole


def _caller(door: Door, key: Key) -> Callable[[int], tuple[str, int]]:
    """One call of `door`, whole and streamed by turns; its request id and the status that its caller saw."""

    def call(number: int) -> tuple[str, int]:
        headers = {"x-request-id": uuid4().hex}
        body = {"model": MODEL, "messages": saying("hello"), "stream": number % 2 == 0}
        answer = door.post("/v1/chat/completions", body, key=key, headers=headers)
        return headers["x-request-id"], answer.status_code

    return call
