"""The real counterpart answers the official SDK by itself, so that a failure through Gatehouse is Gatehouse's."""

import json

import openai
import pytest

from tests.support.llama import Llama

pytestmark = pytest.mark.llama

HELLO = [{"role": "user", "content": "hello"}]
#: The text is noise, but always the same: by chance it could have no letter in it.
STEADY = {"temperature": 0, "seed": 7}


@pytest.fixture
def sdk(llama: Llama) -> openai.OpenAI:
    return openai.OpenAI(base_url=llama.api, api_key="unused", max_retries=0)


def test_it_chats_with_usage(sdk: openai.OpenAI, llama: Llama):
    answer = sdk.chat.completions.create(model=llama.model, messages=HELLO, max_tokens=8, **STEADY)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens == 8


def test_it_streams_with_usage_at_the_end(sdk: openai.OpenAI, llama: Llama):
    chunks = list(
        sdk.chat.completions.create(
            model=llama.model,
            messages=HELLO,
            max_tokens=5,
            stream=True,
            stream_options={"include_usage": True},
            **STEADY,
        )
    )
    assert chunks[-1].usage.completion_tokens == 5
    assert any(chunk.choices and chunk.choices[0].delta.content for chunk in chunks)


def test_it_completes_embeds_and_lists_its_model(sdk: openai.OpenAI, llama: Llama):
    assert (
        sdk.completions.create(
            model=llama.model, prompt="hello", max_tokens=3
        ).usage.completion_tokens
        == 3
    )
    vectors = sdk.embeddings.create(model=llama.model, input=["hello", "world"])
    assert [len(vector.embedding) for vector in vectors.data] == [64, 64]
    assert llama.model in [model.id for model in sdk.models.list()]


def test_it_calls_a_tool_when_it_must(sdk: openai.OpenAI, llama: Llama):
    parameters = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    answer = sdk.chat.completions.create(
        model=llama.model,
        messages=HELLO,
        tools=[{"type": "function", "function": {"name": "switch", "parameters": parameters}}],
        tool_choice="required",
        parallel_tool_calls=False,
        logit_bias=llama.prefer_tool_call,
        max_tokens=200,
    )
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "switch"
    assert isinstance(json.loads(call.function.arguments)["on"], bool)
