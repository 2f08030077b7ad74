"""npm's aimock: a provider that strangers wrote, which answers, calls tools, errs and breaks off as fixtures say.

Its fixtures are made here: a call is answered by the text of its last user message. The server runs in its own process, and
its journal is an account of its own of what reached it.
"""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support import environment, programs

PACKAGE = "@copilotkit/aimock"
START_SECONDS = 30.0
#: Nothing beyond the basic plane: aimock cuts between UTF-16 units.
TEXT = "Deterministic, as promised: naïve — 日本語, in several pieces."
#: As aimock counts: four characters are a token.
TOKENS = 15
ARGUMENTS = {"city": "Zürich", "days": 3}
STRUCTURED = {"verdict": "sealed", "score": 7}

_TOOL_CALL = {"id": "call_weather", "name": "weather", "arguments": ARGUMENTS}
_FIXTURES: list[dict[str, Any]] = [
    {"match": {"toolCallId": "call_weather"}, "response": {"content": "Rain, then."}},
    {"match": {"userMessage": "weather"}, "response": {"toolCalls": [_TOOL_CALL]}},
    {
        "match": {"userMessage": "verdict", "responseFormat": "json_schema"},
        "response": {"content": json.dumps(STRUCTURED)},
    },
    {
        "match": {"userMessage": "busy"},
        "response": {
            "error": {"message": "Too many calls", "type": "rate_limit_error"},
            "status": 429,
            "retryAfter": 7,
        },
    },
    {
        "match": {"userMessage": "broken"},
        "response": {"error": {"message": "Out of order", "type": "server_error"}, "status": 500},
    },
    {
        "match": {"userMessage": "cut"},
        "response": {"content": TEXT},
        "truncateAfterChunks": 3,
    },
    {
        "match": {"userMessage": "gone"},
        "response": {"content": TEXT},
        "chaos": {"disconnectRate": 1},
    },
    {
        "match": {"userMessage": "garbled"},
        "response": {"content": TEXT},
        "chaos": {"malformedRate": 1},
    },
    {"match": {"inputText": "vector"}, "response": {"embedding": [0.25, -0.5, 1.0]}},
    {"match": {"userMessage": "hello"}, "response": {"content": TEXT}},
]


@dataclass(frozen=True)
class AiMock:
    """A running server. OpenAI clients want `api` as their base address."""

    url: str

    @property
    def api(self) -> str:
        return f"{self.url}/v1"

    def received(self) -> set[str]:
        """The request id that came with each call in its journal, which is our id of the attempt."""
        journal = httpx.get(f"{self.url}/__aimock/journal", trust_env=False).json()
        return {entry["headers"]["x-request-id"] for entry in journal if entry["method"] == "POST"}

    def set_chaos(self, **rates: float) -> None:
        """Probabilities, for every call from now on; none is no chaos."""
        httpx.post(f"{self.url}/__aimock/chaos", json=rates, trust_env=False).raise_for_status()


@contextmanager
def running(folder: Path, *flags: str) -> Iterator[AiMock]:
    """A server with the fixtures of this module, its log in `folder`. Skips the test where aimock is not installed."""
    programs.need_node(PACKAGE)
    fixtures, log = folder / "fixtures.json", folder / "aimock.log"
    fixtures.write_text(json.dumps({"fixtures": _FIXTURES}))
    command = programs.node_command(PACKAGE, "dist/cli.js")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-p", "0", "-f", str(fixtures), "--validate-on-load", *flags],
            cwd=environment.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield AiMock(_address(process, log))
    finally:
        with process:
            process.kill()


def _address(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    raise programs.ProgramFailed(f"aimock did not listen:\n{log.read_text()[-2000:]}")
