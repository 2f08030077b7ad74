"""LangChain at work in a process of its own, where its packages do not meet ours.

`python -m tests.support.langchain` reads a task from standard input (`{"base_url", "api_key", "model", "embedding_model",
"json_model"}`), does what an application built on it would do, and prints what came of it as one JSON line.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import openai
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

PROMPT = "give me your verdict, quickly now"


class Verdict(BaseModel):
    """What a structured answer must look like."""

    verdict: str
    score: int


@tool
def weather(city: str) -> str:
    """How the weather is in that city."""
    return f"rain in {city}"


def calls(task: dict[str, str]) -> dict[str, Any]:
    """Facts by name."""
    chat = _chat(task, task["model"])
    return {
        **_texts(chat),
        **_tools(_chat(task, f"{task['model']}+tools"), chat),
        **_vectors(task),
        "structured": _structured(_chat(task, task["json_model"])),
        "asynchronous": asyncio.run(_together(chat)),
        "errors": {
            "busy": _error(lambda: _chat(task, "oracle/status:429").invoke(PROMPT)),
            "cut": _error(lambda: list(_chat(task, "oracle/cut:2").stream(PROMPT))),
            "model": _error(lambda: _chat(task, "lang-no-such-model").invoke(PROMPT)),
        },
    }


def _chat(task: dict[str, str], model: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=model,
        base_url=task["base_url"],
        api_key=SecretStr(task["api_key"]),
        max_retries=0,
        timeout=30,
    )


def _texts(chat: ChatOpenAI) -> dict[str, Any]:
    answer = chat.invoke([("system", "be brief"), ("human", PROMPT)])
    plain = list(chat.stream(PROMPT))
    counted = list(chat.stream(PROMPT, stream_usage=True))
    return {
        "invoke": answer.content,
        "usage": _usage(answer.usage_metadata),
        "stream": "".join(str(chunk.content) for chunk in plain),
        "chunks": sum(bool(chunk.content) for chunk in plain),
        "stream_usage": [_usage(c.usage_metadata) for c in counted if c.usage_metadata],
    }


def _usage(counted: Any) -> list[int]:
    return [counted["input_tokens"], counted["output_tokens"]]


def _tools(caller: ChatOpenAI, chat: ChatOpenAI) -> dict[str, Any]:
    """A whole turn of an agent: the model calls the tool, the tool answers, the model goes on."""
    bound = caller.bind_tools([weather])
    asked = bound.invoke(PROMPT)
    result = weather.invoke(asked.tool_calls[0])
    assert isinstance(result, ToolMessage)
    final = chat.invoke([HumanMessage(PROMPT), asked, result])
    streamed: AIMessageChunk | None = None
    for chunk in bound.stream(PROMPT):
        assert isinstance(chunk, AIMessageChunk)
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None
    return {
        "tool": [asked.tool_calls[0]["name"], asked.tool_calls[0]["args"]],
        "tool_result": result.content,
        "after_tool": final.content,
        "stream_tool": streamed.tool_calls[0]["args"],
    }


def _vectors(task: dict[str, str]) -> dict[str, Any]:
    embeddings = OpenAIEmbeddings(
        model=task["embedding_model"],
        base_url=task["base_url"],
        api_key=SecretStr(task["api_key"]),
        check_embedding_ctx_length=False,  # else texts go out as tokens of a table that is downloaded
        max_retries=0,
    )
    return {
        "documents": embeddings.embed_documents(["a", "b"]),
        "query": embeddings.embed_query("a"),
    }


def _structured(chat: ChatOpenAI) -> Any:
    return Verdict.model_validate(chat.with_structured_output(Verdict).invoke(PROMPT)).model_dump()


async def _together(chat: ChatOpenAI) -> list[str]:
    answers = await chat.abatch([PROMPT] * 3)
    streamed = [str(chunk.content) async for chunk in chat.astream(PROMPT)]
    return [*(str(answer.content) for answer in answers), "".join(streamed)]


def _error(call: Callable[[], object]) -> list[Any]:
    """The class of what was raised, its status and code."""
    try:
        call()
    except openai.APIError as error:
        return [type(error).__name__, getattr(error, "status_code", None), error.code]
    return ["nothing was raised"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(calls(json.load(sys.stdin))) + "\n")
