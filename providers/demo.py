"""The demo provider: answers in OpenAI's shape inside this process, so that a first call needs no account.

A token of it is a word. `echo` says what it was told; `slow`, `fail-503` and `cut` misbehave on purpose. It stands where an
upstream's transport stands and is driven the same way, so everything before and after it is the real thing.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from providers.call import Receiver
from providers.types import FailureKind, Headers, UpstreamFailure, UpstreamRequest

MODELS: Final = ("echo", "slow", "fail-503", "cut")
_SLOW_SECONDS: Final = 2.0
_WORD_SECONDS: Final = 0.01
_DEFAULT_WORDS: Final = 256
_JSON: Final[Headers] = [(b"content-type", b"application/json")]
_EVENTS: Final[Headers] = [(b"content-type", b"text/event-stream")]


class DemoCall:
    """One call being answered, piece by piece on the event loop. The caller's handle, as the transport's `Call` is."""

    is_sent = True

    def __init__(self, request: UpstreamRequest, receiver: Receiver) -> None:
        self._receiver: Receiver | None = receiver
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._pieces = _answer(json.loads(request.body), request.letterhead.path)
        self._timer: asyncio.Handle = self._loop.call_soon(self._next)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._timer.cancel()
            self._timer = self._loop.call_soon(self._next)

    def abort(self) -> None:
        self._receiver = None
        self._timer.cancel()

    def waited(self) -> float:
        return 0.0

    def _next(self) -> None:
        receiver = self._receiver
        if receiver is None or self._paused:
            return
        wait = next(self._pieces)(receiver)
        if wait is None:
            self._receiver = None
        elif wait:
            self._timer = self._loop.call_later(wait, self._next)
        else:
            self._timer = self._loop.call_soon(self._next)


class Demo:
    """In the place of a transport."""

    def send(self, request: UpstreamRequest, receiver: Receiver) -> DemoCall:
        return DemoCall(request, receiver)


class _Piece:
    """One step of an answer: done to the receiver; gives the seconds until the next, None after the last."""

    def __init__(self, wait: float | None, **said: Any) -> None:
        self._wait = wait
        self._said = said

    def __call__(self, receiver: Receiver) -> float | None:
        said = self._said
        if "answer" in said:
            receiver.upstream_answer(said["status"], _JSON, said["answer"])
            return None
        if "status" in said:
            receiver.upstream_head(said["status"], said["headers"])
        if said.get("data"):
            receiver.upstream_bytes(said["data"])
        if said.get("cut"):
            receiver.upstream_failed(UpstreamFailure(FailureKind.CLOSED, False, "cut on purpose"))
        elif self._wait is None:
            receiver.upstream_end()
        return self._wait


def _answer(body: dict[str, Any], path: bytes) -> Iterator[_Piece]:
    model = str(body.get("model"))
    if model == "slow":
        yield _Piece(_SLOW_SECONDS)
    if model == "fail-503":
        error = {
            "error": {"message": "The demo fails on purpose.", "type": "api_error", "code": None}
        }
        yield _Piece(None, status=503, answer=json.dumps(error).encode())
        return
    prompt = _prompt(body)
    cap = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_WORDS
    words = (prompt or ["Hello."])[: int(cap)]
    legacy = path.endswith(b"/completions") and not path.endswith(b"/chat/completions")
    shape = _Shape(body, model, legacy, len(prompt), words)
    if not body.get("stream"):
        if model == "cut":
            yield _Piece(0, status=200, headers=_JSON)
            yield _Piece(None, data=shape.whole(), cut=True)
        yield _Piece(None, status=200, answer=shape.whole())
        return
    yield _Piece(0, status=200, headers=_EVENTS)
    for index, word in enumerate(words):
        if model == "cut" and index == (len(words) + 1) // 2:
            yield _Piece(None, cut=True)
            return
        yield _Piece(_WORD_SECONDS, data=shape.chunk(word if index == 0 else " " + word))
    yield _Piece(None, data=shape.tail(), cut=model == "cut")


def _prompt(body: dict[str, Any]) -> list[str]:
    """The words of the last message, or of the prompt."""
    messages = body.get("messages")
    content = (
        messages[-1].get("content")
        if isinstance(messages, list) and messages
        else body.get("prompt")
    )
    if isinstance(content, list):
        content = " ".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
    return str(content or "").split()


class _Shape:
    """OpenAI's shapes of one answer, with exact counts."""

    def __init__(
        self, body: dict[str, Any], model: str, legacy: bool, prompt_words: int, words: list[str]
    ) -> None:
        self._legacy = legacy
        self._wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self._words = words
        kind = "text_completion" if legacy else "chat.completion"
        self._base: dict[str, Any] = {
            "id": f"demo-{time.time_ns()}",
            "object": kind,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": "gatehouse-demo",
        }
        self._usage = {
            "prompt_tokens": prompt_words,
            "completion_tokens": len(words),
            "total_tokens": prompt_words + len(words),
        }

    def whole(self) -> bytes:
        text = " ".join(self._words)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
        choice |= (
            {"text": text} if self._legacy else {"message": {"role": "assistant", "content": text}}
        )
        return json.dumps({**self._base, "choices": [choice], "usage": self._usage}).encode()

    def chunk(self, text: str, finish: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        delta = {"content": text} if text else {}
        choice |= {"text": text} if self._legacy else {"delta": delta}
        return self._event([choice])

    def tail(self) -> bytes:
        last = self.chunk("", "stop")
        if self._wants_usage:
            last += self._event([], usage=self._usage)
        return last + b"data: [DONE]\n\n"

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        kind = "text_completion" if self._legacy else "chat.completion.chunk"
        chunk = {**self._base, "object": kind, "choices": choices, **more}
        return b"data: " + json.dumps(chunk).encode() + b"\n\n"
