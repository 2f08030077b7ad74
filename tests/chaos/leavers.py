"""Callers who hang up at a byte of the answer that chance has chosen, and what each had seen until then."""

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.chaos.stage import Key, Stage, chat

PATIENCE: Final = 30.0
#: A provider's policy is in the name of the model.
CANCEL: Final = "up"
DRAIN: Final = "drain"
CAP: Final = 200
_PIECE: Final = b'"delta":{"content":"'
_CHUNK: Final = 512


@dataclass(frozen=True)
class Plan:
    """One sort of answer. `before_usage`: who hangs up does so when all text has come, and not the usage."""

    script: str
    weight: int
    stream: bool = True
    tokens: int = 40
    tells_zero: bool = False
    before_usage: bool = False


PLANS: Final = (
    Plan("drip:40x0.005", 8),
    Plan("drip:40x0.005+usage:running", 2),
    Plan("drip:15x0.01+late-usage:0.6", 4, tokens=15, before_usage=True),
    Plan("drip:40x0.005+usage:zero", 2, tells_zero=True),
    Plan("drip:100x0.001", 4, stream=False, tokens=100),
    Plan("drip:100x0.001+usage:zero", 1, stream=False, tokens=100, tells_zero=True),
)


@dataclass
class Left:
    """One call as its caller saw it. `left_at` in seconds since 1970; `whole`: the answer ended before he left."""

    id: str
    plan: Plan
    policy: str
    body_bytes: int
    offset: int | None
    seen: bytes = b""
    left_at: float = 0.0
    whole: bool = False
    fault: str = ""

    @property
    def pieces(self) -> int:
        """Tokens that came; of a whole answer none is counted before all of it is there."""
        return self.seen.count(_PIECE) if self.plan.stream else 0

    @property
    def saw_usage(self) -> bool:
        return b'"total_tokens"' in self.seen


def set_stage(stage: Stage, oracle_api: str) -> Key:
    """Two ways to the oracle, one that hangs up with the caller and one that reads on; a key with a budget over all of it."""
    stage.add_oracle(oracle_api)
    stage.post(
        "providers",
        name="oracle-drain",
        kind="openai-compatible",
        base_url=oracle_api,
        api_key="sk-d",
        disconnect_policy="drain",
    )
    stage.add_model(f"{DRAIN}/*", ["*"], provider="oracle-drain")
    return stage.key(cost_budget_usd="100000", tokens_budget=10**10)


class Leavers:
    """`concurrency` callers at once, `total` departures in all; `left` has every call."""

    def __init__(self, port: int, key: Key, concurrency: int, seed: int) -> None:
        self.left: list[Left] = []
        self._port = port
        self._key = key
        self._concurrency = concurrency
        self._random = random.Random(seed)
        self._sizes: dict[tuple[str, str], int] = {}

    async def run(self, total: int) -> None:
        for policy in (CANCEL, DRAIN):
            for plan in PLANS:
                self._sizes[policy, plan.script] = len((await self._stay(policy, plan)).seen)
        numbers = iter(range(total))
        await asyncio.gather(*(self._leave_often(numbers) for _ in range(self._concurrency)))

    @property
    def departures(self) -> list[Left]:
        return [each for each in self.left if not each.whole]

    async def _stay(self, policy: str, plan: Plan) -> Left:
        """To the end, to know how long an answer is. Raises AssertionError."""
        stayed = await self._call(policy, plan, None)
        assert stayed.whole, f"{plan.script}: {stayed.fault} {stayed.seen[:300]!r}"
        return stayed

    async def _leave_often(self, numbers: Any) -> None:
        for _ in numbers:
            policy = self._random.choice((CANCEL, DRAIN))
            plan = self._random.choices(PLANS, [plan.weight for plan in PLANS])[0]
            offset = self._random.randint(0, self._sizes[policy, plan.script] - 1)
            await self._call(policy, plan, offset)

    async def _call(self, policy: str, plan: Plan, offset: int | None) -> Left:
        body = _body(f"{policy}/{plan.script}", plan)
        left = Left(f"leave-{len(self.left):08d}", plan, policy, len(body), offset)
        self.left.append(left)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._converse(left, _head(left.id, self._key, len(body)) + body)
        except TimeoutError:
            left.fault = f"nothing more for {PATIENCE:.0f} s"
        except OSError as fault:
            left.fault = repr(fault)
        return left

    async def _converse(self, left: Left, request: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            while not left.whole and not _is_far_enough(left):
                wanted = _CHUNK if left.offset is None else left.offset - len(left.seen)
                data = await reader.read(_CHUNK if left.plan.before_usage else min(wanted, _CHUNK))
                left.seen += data
                left.whole = _is_whole(left.seen)
                if not data:
                    left.fault = "" if left.whole else "the server closed first"
                    return
        finally:
            left.left_at = time.time()
            if self._random.random() < 0.5:
                _reset_at_close(writer)
            writer.transport.abort()


def _is_far_enough(left: Left) -> bool:
    if left.offset is None:
        return False
    if left.plan.before_usage:
        return left.pieces >= left.plan.tokens and left.seen.endswith(b"\n")
    return len(left.seen) >= left.offset


def _is_whole(seen: bytes) -> bool:
    head, found, body = seen.partition(b"\r\n\r\n")
    if not found:
        return False
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:] if line)
    length = fields.get(b"content-length")
    return body.endswith(b"0\r\n\r\n") if length is None else len(body) >= int(length)


def _reset_at_close(writer: asyncio.StreamWriter) -> None:
    """Goes without a farewell: RST instead of FIN."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def _body(model: str, plan: Plan) -> bytes:
    more: Mapping[str, Any] = {}
    if plan.stream:
        more = {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(chat(model, max_tokens=CAP, **more)).encode()


def _head(own_id: str, key: Key, length: int) -> bytes:
    return (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key.credential}\r\n"
        f"x-request-id: {own_id}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()
