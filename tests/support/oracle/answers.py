"""What an OpenAI-compatible server would say: bodies and events for a call and its script. Pure."""

import json
from dataclasses import replace
from typing import Any

from tests.support.oracle.calls import Call
from tests.support.oracle.script import Script, text_of

CREATED = 1_700_000_000
Event = tuple[bytes, int]
"""One piece of a stream: its bytes without the event's end, and how many tokens are in it."""


def dump(value: Any) -> bytes:
    """JSON with raw UTF-8 and, where a script says so, Python's NaN."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def count_words(value: Any) -> int:
    """This server's token count of a prompt: the words in every text, or the numbers of a token list."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(count_words(item) for item in value)
    if isinstance(value, dict):
        return sum(count_words(value.get(name)) for name in ("content", "text"))
    return int(isinstance(value, int))


def fit(script: Script, request: dict[str, Any]) -> tuple[Script, str]:
    """The script within the request's own cap, and the finish reason that follows."""
    cap = request.get("max_completion_tokens") or request.get("max_tokens")
    if isinstance(cap, int) and 0 < cap < script.tokens:
        return replace(script, tokens=cap), "length"
    return script, "stop"


def usage_of(kind: str, prompt: int, completion: int) -> Any:
    """The `usage` value of a kind of `script.USAGE_KINDS` but `none`."""
    exact = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    zeros = dict.fromkeys(exact, 0)
    kinds: dict[str, Any] = {
        "null": None,
        "zero": zeros,
        "cached": exact | {"prompt_tokens_details": {"cached_tokens": max(prompt - 1, 0)}},
        "reasoning": exact | {"completion_tokens_details": {"reasoning_tokens": completion // 2}},
        "negative": {name: -number for name, number in exact.items()},
        "nan": dict.fromkeys(exact, float("nan")),
        "huge": dict.fromkeys(exact, 10**30),
        "string": {name: str(number) for name, number in exact.items()},
        "float": {name: number + 0.5 for name, number in exact.items()},
        "bool": dict.fromkeys(exact, True),
        "list": [exact],
        "partial": {"prompt_tokens": prompt},
        "lying-total": exact | {"total_tokens": 1},
    }
    return kinds.get(kind, exact)


class Answer:
    """The ordinary answer to one call: `body` for a plain one, `events` for a stream."""

    def __init__(self, call: Call, request: dict[str, Any], script: Script) -> None:
        self.call = call
        self.request = request
        self.script, self.finish = fit(script, request)
        path = call.path.partition("?")[0]
        self.is_chat = path.endswith("/chat/completions")
        self.is_embedding = path.endswith("/embeddings")
        asked = request.get("n")
        self.choices = asked if isinstance(asked, int) else 1
        self.prompt = max(
            1, count_words(request.get("messages") or request.get("prompt") or request.get("input"))
        )
        self.tool = self._offered_tool() if script.tools else None

    @property
    def completion(self) -> int:
        return 0 if self.is_embedding else self.script.tokens * self.choices

    def usage(self, completion: int | None = None) -> Any:
        return usage_of(
            self.script.usage, self.prompt, self.completion if completion is None else completion
        )

    def _offered_tool(self) -> str | None:
        tools = self.request.get("tools")
        return str(tools[0]["function"]["name"]) if isinstance(tools, list) and tools else None

    def _envelope(self, kind: str) -> dict[str, Any]:
        prefix = "chatcmpl" if self.is_chat else "cmpl"
        return {
            "id": f"{prefix}-oracle{self.call.number}",
            "object": kind,
            "created": CREATED,
            "model": self.request.get("model"),
            "system_fingerprint": "fp_oracle",
        }

    # Plain

    def body(self) -> bytes:
        """The whole answer."""
        if self.is_embedding:
            return self._embeddings()
        kind = "chat.completion" if self.is_chat else "text_completion"
        answer = self._envelope(kind) | {"choices": [self._choice(n) for n in range(self.choices)]}
        if self.script.usage != "none":
            answer["usage"] = self.usage()
        return dump(answer)

    def _choice(self, index: int) -> dict[str, Any]:
        text = "".join(text_of(self.script.tokens))
        if not self.is_chat:
            return {"index": index, "text": text, "logprobs": None, "finish_reason": self.finish}
        if self.tool:
            message = {
                "role": "assistant",
                "content": None,
                "tool_calls": [self._tool_call('{"city":"Zürich"}')],
            }
            return {
                "index": index,
                "message": message,
                "logprobs": None,
                "finish_reason": "tool_calls",
            }
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": self.finish}

    def _tool_call(self, arguments: str) -> dict[str, Any]:
        function = {"name": self.tool, "arguments": arguments}
        return {"id": f"call_oracle{self.call.number}", "type": "function", "function": function}

    def _embeddings(self) -> bytes:
        asked = self.request.get("input")
        many = (
            asked
            if isinstance(asked, list) and asked and not isinstance(asked[0], int)
            else [asked]
        )
        if self.request.get("encoding_format") == "base64":
            vector: Any = "AACAPwAAAEAAAEBA"  # 1.0, 2.0, 3.0 as little-endian float32
        else:
            vector = [1.0, 2.0, 3.0]
        data = [{"object": "embedding", "index": n, "embedding": vector} for n in range(len(many))]
        answer: dict[str, Any] = {
            "object": "list",
            "data": data,
            "model": self.request.get("model"),
        }
        if self.script.usage != "none":
            answer["usage"] = {"prompt_tokens": self.prompt, "total_tokens": self.prompt}
            if self.script.usage not in ("exact", "unasked", "running"):
                answer["usage"] = usage_of(self.script.usage, self.prompt, 0)
        return dump(answer)

    # Stream

    @property
    def wants_usage(self) -> bool:
        options = self.request.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage") is True
        return (asked and self.script.usage != "none") or self.script.usage == "unasked"

    def events(self) -> list[Event]:
        """Every event of the stream, `[DONE]` included."""
        opening = {"role": "assistant", "content": ""}
        openers = range(self.choices if self.is_chat else 0)
        events: list[Event] = [(self._chunk(n, opening, None, 0), 0) for n in openers]
        if self.tool:
            events += self._tool_events()
        else:
            for n, piece in enumerate(text_of(self.script.tokens)):
                for index in range(self.choices):
                    so_far = n * self.choices + index + 1
                    events.append((self._chunk(index, {"content": piece}, None, so_far), 1))
        finish = "tool_calls" if self.tool else self.finish
        events += [(self._chunk(n, {}, finish, self.completion), 0) for n in range(self.choices)]
        if self.wants_usage:
            last = self._envelope(self._chunk_kind) | {"choices": [], "usage": self.usage()}
            events.append((b"data: " + dump(last), 0))
        if self.script.done:
            events.append((b"data: [DONE]", 0))
        return events

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _chunk(self, index: int, delta: dict[str, Any], finish: str | None, so_far: int) -> bytes:
        choice: dict[str, Any] = {"index": index, "finish_reason": finish, "logprobs": None}
        choice |= {"delta": delta} if self.is_chat else {"text": delta.get("content", "")}
        chunk = self._envelope(self._chunk_kind) | {"choices": [choice]}
        if self.script.usage == "running":
            chunk["usage"] = self.usage(so_far)
        elif self.wants_usage:
            chunk["usage"] = None
        return b"data: " + dump(chunk)

    def _tool_events(self) -> list[Event]:
        pieces = ['{"city"', ':"Zür', 'ich"}']
        deltas: list[dict[str, Any]] = [{"tool_calls": [{"index": 0} | self._tool_call("")]}]
        deltas += [
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces
        ]
        spread = [self.script.tokens - len(deltas) + 1] + [1] * (len(deltas) - 1)
        return [
            (self._chunk(0, delta, None, 0), tokens)
            for delta, tokens in zip(deltas, spread, strict=True)
        ]


def models(names: list[str]) -> bytes:
    """The answer of `GET /v1/models`."""
    data = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "oracle"} for name in names
    ]
    return dump({"object": "list", "data": data})


def error(status: int, message: str) -> bytes:
    """An OpenAI-shaped error."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return dump({"error": {"message": message, "type": kind, "param": None, "code": None}})


ERROR_EVENT = b'data: {"error":{"message":"the oracle was told to fail here","type":"server_error","code":"scripted"}}'
PAGE = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Not an API</h1></body></html>"
