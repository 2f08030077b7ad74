"""The official openai SDK in a process of its own, so that every major version that callers still use can be put to work.

`python -m tests.support.sdk` reads a task from standard input (`{"base_url", "api_key", "model", "embedding_model"}`), does
what a program of a caller's would do, and prints what came of it as one JSON line. It uses nothing but what all versions know.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai

#: Major versions that callers still use, beside the newest.
OLDER = ("1", "2")
MESSAGES = [{"role": "user", "content": "say something to me"}]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def calls(task: dict[str, str]) -> dict[str, Any]:
    """Facts by name, and the SDK's version."""
    client = openai.OpenAI(
        base_url=task["base_url"], api_key=task["api_key"], max_retries=0, timeout=30
    )
    model = task["model"]
    return {
        "version": openai.__version__,
        **_chats(client, model),
        **_streams(client, model),
        **_others(client, model, task["embedding_model"]),
        **_errors(client, model),
        "async": asyncio.run(_stream_async(task)),
    }


def _chats(client: Any, model: str) -> dict[str, Any]:
    answer = client.chat.completions.create(model=model, messages=MESSAGES)
    tools = client.chat.completions.create(
        model=f"{model}+tools", messages=MESSAGES, tools=[TOOL], tool_choice="required"
    )
    raw = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES)
    called = tools.choices[0].message.tool_calls[0].function
    return {
        "chat": answer.choices[0].message.content,
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
        "tool": [called.name, json.loads(called.arguments)],
        "headers": {name: raw.headers.get(name) for name in ("x-request-id", "server")},
        "request_id": getattr(answer, "_request_id", None),
    }


def _streams(client: Any, model: str) -> dict[str, Any]:
    plain = list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
    asked = list(
        client.chat.completions.create(
            model=model, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    tools = client.chat.completions.create(
        model=f"{model}+tools", messages=MESSAGES, tools=[TOOL], stream=True
    )
    deltas = [chunk.choices[0].delta.tool_calls for chunk in tools if chunk.choices]
    pieces = [delta[0].function.arguments or "" for delta in deltas if delta]
    return {
        "stream": _text(plain),
        "stream_usage": [chunk.usage for chunk in plain if chunk.usage],
        "asked_usage": [asked[-1].usage.prompt_tokens, asked[-1].usage.completion_tokens],
        "stream_tool": json.loads("".join(pieces)),
    }


def _text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _others(client: Any, model: str, embedding_model: str) -> dict[str, Any]:
    vectors = client.embeddings.create(model=embedding_model, input=["a", "b"])
    legacy = client.completions.create(model=model, prompt="say something to me")
    return {
        "embeddings": [vector.embedding for vector in vectors.data],
        "legacy": legacy.choices[0].text,
        "legacy_stream": "".join(
            chunk.choices[0].text
            for chunk in client.completions.create(model=model, prompt="x", stream=True)
        ),
        "models": sorted(found.id for found in client.models.list()),
        "retrieved": client.models.retrieve(embedding_model).id,
    }


def _errors(client: Any, model: str) -> dict[str, Any]:
    create = client.chat.completions.create
    nobody = client.with_options(api_key="gwk_nonsense")
    return {
        "errors": {
            "key": _error(lambda: nobody.models.list()),
            "model": _error(lambda: create(model="sdk-no-such-model", messages=MESSAGES)),
            "body": _error(lambda: create(model=model, messages=[])),
            "busy": _error(lambda: create(model="oracle/status:429", messages=MESSAGES)),
            "broken": _error(lambda: create(model="oracle/close", messages=MESSAGES)),
            "cut": _error(
                lambda: list(create(model="oracle/cut:2", messages=MESSAGES, stream=True))
            ),
        }
    }


def _error(call: Callable[[], object]) -> list[Any]:
    """The class of what was raised, its status, code and parameter."""
    try:
        call()
    except openai.APIError as error:
        return [
            type(error).__name__,
            getattr(error, "status_code", None),
            error.code,
            error.param,
        ]
    return ["nothing was raised"]


async def _stream_async(task: dict[str, str]) -> str:
    client = openai.AsyncOpenAI(base_url=task["base_url"], api_key=task["api_key"], max_retries=0)
    stream = await client.chat.completions.create(
        model=task["model"], messages=MESSAGES, stream=True
    )
    chunks = [chunk async for chunk in stream]
    await client.close()
    return _text(chunks)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(calls(json.load(sys.stdin))) + "\n")
