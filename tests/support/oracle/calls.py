"""What the oracle saw: one `Call` in memory, two lines in a file."""

import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KEPT_SENT = 1 << 20


@dataclass
class Call:
    """A call whose whole body arrived. `at` and `ended_at` are seconds since 1970; `headers` are as received, in order.

    `how` is None while it runs, then `done`, `client_closed` or `cut` (by the script). `sent` holds the first MiB of the
    body that was sent, without transfer framing; `bytes_sent` counts all of it, `tokens_sent` the tokens in it.
    """

    number: int
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    at: float = field(default_factory=time.time)
    bytes_sent: int = 0
    tokens_sent: int = 0
    sent: bytearray = field(default_factory=bytearray)
    usage: dict[str, Any] | None = None
    how: str | None = None
    ended_at: float | None = None
    finished: threading.Event = field(default_factory=threading.Event, repr=False)

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def attempt_id(self) -> str | None:
        return self.header("x-request-id")

    @property
    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)

    @property
    def model(self) -> str:
        """The model asked for; empty if the body names none."""
        with contextlib.suppress(ValueError):
            value = self.json
            if isinstance(value, dict) and isinstance(value.get("model"), str):
                return str(value["model"])
        return ""

    def note_sent(self, body: bytes, tokens: int = 0) -> None:
        self.bytes_sent += len(body)
        self.tokens_sent += tokens
        self.sent += body[: max(0, KEPT_SENT - len(self.sent))]


class CallLog:
    """An append-only file of JSON lines. A `call` line is on the disk when `began` returns; an `end` line is with the kernel."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def began(self, call: Call) -> None:
        try:
            body, encoding = call.body.decode(), "utf-8"
        except UnicodeDecodeError:
            body, encoding = call.body.hex(), "hex"
        self._write(
            event="call",
            number=call.number,
            id=call.attempt_id,
            method=call.method,
            path=call.path,
            headers=call.headers,
            body=body,
            encoding=encoding,
            at=call.at,
        )
        os.fdatasync(self._file)

    def ended(self, call: Call) -> None:
        self._write(
            event="end",
            number=call.number,
            id=call.attempt_id,
            how=call.how,
            bytes=call.bytes_sent,
            tokens=call.tokens_sent,
            usage=call.usage,
            at=call.ended_at,
        )

    def close(self) -> None:
        os.close(self._file)

    def _write(self, **line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


def read_log(path: Path) -> list[Call]:
    """The calls of a log file, in order; those without an `end` line have `how` None."""
    calls: dict[int, Call] = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if entry["event"] == "call":
            body = (
                bytes.fromhex(entry["body"])
                if entry["encoding"] == "hex"
                else entry["body"].encode()
            )
            headers = [(name, value) for name, value in entry["headers"]]
            calls[entry["number"]] = Call(
                entry["number"], entry["method"], entry["path"], headers, body, entry["at"]
            )
        else:
            call = calls[entry["number"]]
            call.how, call.ended_at, call.usage = entry["how"], entry["at"], entry["usage"]
            call.bytes_sent, call.tokens_sent = entry["bytes"], entry["tokens"]
            call.finished.set()
    return list(calls.values())
