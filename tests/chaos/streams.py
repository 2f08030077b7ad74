"""A stream that runs while something else happens, read on a thread of its own."""

import json
import threading
import time
from typing import Any
from uuid import UUID

import httpx

from tests.chaos.stage import OUTPUT_NANO, Key, chat, client
from tests.support.server import Server


class Stream:
    """One streaming call. `events` are its `data:` payloads so far; `ended_at` is monotonic, None while it runs."""

    def __init__(self, server: Server, key: Key, model: str) -> None:
        self.id = f"stream-{time.monotonic_ns()}"
        self.events: list[str] = []
        self.status = 0
        self.headers = httpx.Headers()
        self.fault: Exception | None = None
        self.ended_at: float | None = None
        self._server = server
        self._key = key
        self._body = chat(model, stream=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with (
                client(self._server) as one,
                one.stream(
                    "POST",
                    "/v1/chat/completions",
                    json=self._body,
                    headers=self._key.headers | {"x-request-id": self.id},
                ) as answer,
            ):
                self.status, self.headers = answer.status_code, answer.headers
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        self.events.append(line.removeprefix("data: "))
        except httpx.TransportError as fault:
            self.fault = fault
        finally:
            self.ended_at = time.monotonic()

    def wait_for(self, events: int, within: float = 10.0) -> "Stream":
        """Until that many events have come."""
        deadline = time.monotonic() + within
        while len(self.events) < events:
            assert time.monotonic() < deadline, f"{len(self.events)} events, status {self.status}"
            assert self.ended_at is None or len(self.events) >= events, (
                f"{self.status}: {self.events}"
            )
            time.sleep(0.005)
        return self

    def wait(self, within: float = 20.0) -> float:
        """Until it has ended; when that was."""
        self._thread.join(within)
        assert self.ended_at is not None, f"the stream still runs after {within} s"
        assert self.fault is None, repr(self.fault)
        return self.ended_at

    @property
    def errors(self) -> list[dict[str, Any]]:
        return [dict(json.loads(event)["error"]) for event in self.events if '"error"' in event]

    @property
    def pieces(self) -> int:
        """Events with content: one token of the oracle each."""
        return sum(
            bool(choice.get("delta", {}).get("content"))
            for event in self.events
            if event != "[DONE]"
            for choice in json.loads(event).get("choices", ())
        )

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and self.events[-1:] == ["[DONE]"] and not self.errors

    def assert_broken_off(self, code: str) -> None:
        """It ended with one error event of that code, and without the mark of a good end."""
        assert [error["code"] for error in self.errors] == [code]
        assert "[DONE]" not in self.events
        assert self.events[-1].startswith('{"error"')


def assert_charged(server: Server, stream: Stream, error_code: str, outcome: str) -> str:
    """What was relayed of a broken stream is in the books, at least; its request id in hex. Waits until it is there."""
    deadline = time.monotonic() + 5
    while not (rows := server.query(_SETTLED, [stream.id])):
        assert time.monotonic() < deadline, f"stream {stream.id} is in no table"
        time.sleep(0.05)
    ((status, code, source, ended, tokens_out, cost, request_id),) = rows
    assert (status, code, source, ended) == (200, error_code, "estimated", outcome)
    assert tokens_out >= stream.pieces > 0
    assert cost >= tokens_out * OUTPUT_NANO
    return UUID(str(request_id)).hex


_SETTLED = (
    "SELECT l.status, l.error_code, l.usage_source, a.outcome, l.tokens_out, l.cost_nano_usd, l.request_id"
    " FROM usage_requestlog l JOIN usage_attempt a ON a.request_id = l.request_id WHERE l.correlation_id = %s"
)
