"""Mixed calls, so many at once, and what each caller saw: the clients' side of the story.

A client here is a bare socket that reads HTTP as strictly as a good one does: an answer is whole only if everything that was
announced has come. It costs little, because it shares two cores with what it watches.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.stage import Key, Stage, chat

#: A client that hears nothing for so long counts as hanging, which fails the run.
PATIENCE: Final = 30.0


@dataclass(frozen=True)
class Plan:
    """One sort of call. `leaves`: the caller hangs up after (at least, at most) so many seconds."""

    kind: str
    weight: int
    model: str
    path: str = "/v1/chat/completions"
    stream: bool = False
    asks_usage: bool = False
    tells_usage: bool = True
    leaves: tuple[float, float] | None = None


PLANS: Final = (
    Plan("plain", 14, "up/slow:0.4"),
    Plan("plain", 4, "up/ok"),
    Plan("stream", 12, "up/drip:30x0.04", stream=True),
    Plan("stream", 10, "up/drip:20x0.03", stream=True, asks_usage=True),
    Plan("stream", 4, "up/ok", stream=True),
    Plan("embedding", 4, "emb/slow:0.2", "/v1/embeddings"),
    Plan("fallback", 4, "second-choice"),
    Plan("fallback", 4, "second-choice", stream=True),
    Plan("usage untold", 3, "up/slow:0.2+usage:none", tells_usage=False),
    Plan("leaves stream", 6, "up/drip:80x0.03", stream=True, leaves=(0.2, 2.0)),
    Plan("leaves plain", 6, "up/slow:2.5", leaves=(0.2, 2.0)),
    Plan("upstream error", 2, "up/slow:0.2+status:500"),
    Plan("upstream error", 2, "up/status:429"),
    Plan("upstream error", 2, "up/status:401"),
    Plan("upstream error", 2, "up/drip:20x0.03+cut:10", stream=True),
    Plan("upstream error", 2, "up/drip:20x0.03+error-event:10", stream=True),
    Plan("upstream error", 2, "up/drip:10x0.03+no-done", stream=True),
    Plan("upstream error", 2, "up/close"),
    Plan("upstream error", 1, "up/garbage"),
    Plan("refused", 2, "nobody-serves-this"),
)


@dataclass
class Sent:
    """One call as its caller saw it. `status` 0: no head came. `whole`: all that was announced, and a stream's `[DONE]`."""

    id: str
    plan: Plan
    key: str = ""
    began: float = field(default_factory=time.time)
    status: int = 0
    body: bytes = b""
    whole: bool = False
    left: bool = False
    hung: bool = False

    @property
    def answered(self) -> bool:
        """A 200 that its caller has complete."""
        return self.status == 200 and self.whole


class Traffic:
    """Keeps `concurrency` calls in flight until `stop`, then lets them end. `sent` has all of them."""

    def __init__(self, port: int, keys: Mapping[str, Key], concurrency: int, seed: int) -> None:
        self.sent: list[Sent] = []
        self._port = port
        self._keys = keys
        self._concurrency = concurrency
        self._random = random.Random(seed)
        self._over = False

    def stop(self) -> None:
        self._over = True

    async def run(self) -> None:
        await asyncio.gather(*(self._one_after_another() for _ in range(self._concurrency)))

    async def _one_after_another(self) -> None:
        while not self._over:
            plan = self._random.choices(PLANS, [plan.weight for plan in PLANS])[0]
            key = self._random.choice(list(self._keys))
            sent = Sent(f"chaos-{len(self.sent):08d}", plan, key)
            self.sent.append(sent)
            leaves = self._random.uniform(*plan.leaves) if plan.leaves else None
            await self._call(sent, leaves)

    async def _call(self, sent: Sent, leaves: float | None) -> None:
        try:
            async with asyncio.timeout(PATIENCE if leaves is None else leaves):
                await self._converse(sent)
        except TimeoutError:
            sent.left = leaves is not None
            sent.hung = leaves is None
        except (OSError, EOFError, ValueError):
            # The worker was killed: what came so far is all that comes.
            await asyncio.sleep(0.01)

    async def _converse(self, sent: Sent) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        try:
            writer.write(_request(sent, self._keys[sent.key]))
            await _read_answer(reader, sent)
        finally:
            writer.transport.abort()


#: More than a run can use, and so little that it is gone after some hundred calls: then they are refused.
_PLENTY: Final = "100000"
_LITTLE: Final = "0.06"


def set_stage(stage: Stage, oracle_api: str) -> dict[str, Key]:
    """Everything that `PLANS` name; keys without a budget, with several, and under a project's, a tenant's, an account's."""
    stage.add_oracle(oracle_api)
    stage.add_model("second-choice", ["status:503", "drip:10x0.03"])
    project = stage.post(
        "projects", tenant=stage.tenant_id, name="chaos", cost_budget_total_usd=_PLENTY
    )
    rich, poor = (
        stage.account(name, amount) for name, amount in (("rich", "50"), ("poor", _LITTLE))
    )
    little = stage.post("tenants", name="little", rate_limit_rpm=None, cost_budget_usd=_LITTLE)
    several: dict[str, Any] = {
        "cost_budget_usd": _PLENTY,
        "cost_budget_day_usd": _PLENTY,
        "tokens_budget": 10**9,
    }
    return {
        "free": stage.key(),
        "several": stage.key(**several),
        "project": stage.key(project=project["id"], cost_budget_usd=_PLENTY),
        "account": stage.key(account=rich),
        "poor account": stage.key(account=poor),
        "little": stage.key(cost_budget_usd=_LITTLE),
        "little tenant": stage.key(little["id"]),
    }


def _request(sent: Sent, key: Key) -> bytes:
    plan = sent.plan
    body: dict[str, Any] = chat(plan.model)
    if plan.path.endswith("/embeddings"):
        body = {"model": plan.model, "input": ["one", "two words"]}
    if plan.stream:
        body["stream"] = True
    if plan.asks_usage:
        body["stream_options"] = {"include_usage": True}
    raw = json.dumps(body).encode()
    head = (
        f"POST {plan.path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {key.credential}\r\n"
        f"x-request-id: {sent.id}\r\ncontent-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    return head.encode() + raw


async def _read_answer(reader: asyncio.StreamReader, sent: Sent) -> None:
    """Fill in what comes. Raises EOFError when it ends too early."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    sent.status = int(head.split(" ", 2)[1])
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            sent.body += await reader.readexactly(size)
            await reader.readexactly(2)
            if sent.body.endswith(b"data: [DONE]\n\n"):
                # Clients stop reading here: what follows is of no interest to them.
                sent.whole = True
    else:
        sent.body = await reader.readexactly(int(headers["content-length"]))
        sent.whole = True
