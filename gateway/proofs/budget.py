"""The proof that a budget holds: many callers at once, several workers, round after round, and never a nano-USD too much.

In each round a budget is set anew (on a key, a project, a tenant, or as an account's balance), all callers begin at the same
moment, and go on calling until each has heard a final no. A call costs exactly `COST`. In every other round a call's bound is
what it costs; then the budget must let through exactly floor(limit ÷ cost) calls. In the others the bound is several times
that, so most of the time holds are in the way, and what must go through is floor((limit − bound) ÷ cost) + 1.
"""

import asyncio
import json
import random
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gateway.proofs import house
from gateway.proofs.callers import Crowd, Tally
from gateway.proofs.grounds import Grounds, ProofFailed
from gateway.proofs.house import House
from gateway.proofs.report import Plan, Report
from gateway.proofs.subjects import COST, KINDS, MODEL, furnish
from gateway.proofs.upstream import COMPLETION_TOKENS
from gateway.proofs.witness import Book, Name, Witness

T = TypeVar("T")

_LOOSE: Final = 3
_DELAY_MS: Final = 10.0
ROUND_SECONDS: Final = 90.0
SETTLE_SECONDS: Final = 30.0
_FAR_TOO_MANY: Final = 3


def run(plan: Plan, tell: Callable[[str], object]) -> Report:
    """Raises ProofFailed when it could not be carried out, which is no verdict."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-prove-") as folder:
        # A name of its own: two proofs on one server must not take each other's database.
        name = f"gatehouse_prove_{secrets.token_hex(4)}"
        grounds = Grounds(Path(folder), plan.database_url, name)
        return asyncio.run(until_told(_prove(plan, grounds, tell)))


async def until_told(proof: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends it as an interrupt does: nothing that it started goes on. Raises ProofFailed."""
    task = asyncio.ensure_future(proof)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise ProofFailed("Stopped before the end.") from None


async def _prove(plan: Plan, grounds: Grounds, tell: Callable[[str], object]) -> Report:
    began = time.monotonic()
    report = Report(plan)
    told_of_redis = {
        "REDIS_URL": plan.redis_url,
        "GATEHOUSE_REDIS_PREFIX": f"gatehouse-prove-{secrets.token_hex(6)}:",
    }
    more = {"LOG_LEVEL": "WARNING", **(told_of_redis if plan.redis_url else {})}
    password = secrets.token_urlsafe(24)
    tell(f"Starting {plan.workers} workers on an installation that will be thrown away.")
    async with (
        house.provider(grounds.folder / "provider.log", 1, 1, _DELAY_MS) as upstream,
        house.serving(grounds, plan.workers, more, password) as served,
    ):
        await furnish(served.api, upstream)
        witness = Witness(served.database_url)
        witness.start()
        try:
            await _Rounds(plan, served, upstream, witness, report, tell).run()
        finally:
            witness.leave()
    report.seconds = time.monotonic() - began
    judge(report, witness)
    return report


class Size(NamedTuple):
    """Of a round's budget: so many calls fit, and so many nano-USD are left over when they are made."""

    calls: int
    remainder: int


def sizes(plan: Plan) -> Iterator[Size]:
    """What the seed says, and nothing else: what callers do by chance, and how often, is no part of it."""
    chance = random.Random(plan.seed)  # noqa: S311 - to be repeated, not to be secret
    for _ in range(plan.rounds):
        calls = chance.randint(1, 2 * plan.concurrency)
        # Nothing, one nano-USD less than another call, or in between.
        yield Size(calls, chance.choice([0, COST - 1, chance.randrange(COST)]))


class _Rounds:
    """One after the other, on one installation, with one crowd."""

    def __init__(
        self,
        plan: Plan,
        served: House,
        upstream: int,
        witness: Witness,
        report: Report,
        tell: Callable[[str], object],
    ) -> None:
        self._plan = plan
        self._served = served
        self._upstream = upstream
        self._witness = witness
        self._report = report
        self._tell = tell

    async def run(self) -> None:
        crowd = Crowd(self._served.port, self._plan.concurrency)
        with closing(Book(self._served.database_url)) as book:
            try:
                await crowd.connect()
                for number, size in enumerate(sizes(self._plan)):
                    if not await self._round(number, size, crowd, book):
                        return
                    self._tell_progress(number + 1)
            finally:
                crowd.close()

    async def _round(self, number: int, size: Size, crowd: Crowd, book: Book) -> bool:
        """Whether it ended; after one that does not there is no other."""
        wanted = size.calls
        factor = _LOOSE if number % 2 else 1
        limit = (wanted - 1 + factor) * COST + size.remainder
        kind = list(KINDS)[number % len(KINDS)]
        budget = await KINDS[kind](self._served.api, f"{kind}-{number}", limit)
        self._witness.expect(budget.name, limit)
        before = await house.calls_received(self._upstream)
        requests = [
            _request(self._served.port, credential, factor) for credential in budget.credentials
        ]
        where = f"round {number + 1} ({kind}, bound = {factor} × cost)"
        tally = Tally(_FAR_TOO_MANY * wanted)
        try:
            await crowd.round(requests, tally, ROUND_SECONDS)
        except TimeoutError:
            told = f"{tally.admitted} of {wanted} calls admitted, {tally.refused.total()} callers refused"
            told += f", {tally.held} times held, {tally.waiting} waiting, limit {limit}"
            self._report.faults.append(
                f"{where} had not ended after {ROUND_SECONDS:.0f} s: {told}, {book.balances().get(budget.name)}"
            )
            return False
        received = await house.calls_received(self._upstream) - before
        self._report.rounds += 1
        self._report.expected += wanted
        self._report.take(tally)
        self._report.faults += [f"{where}: {fault}" for fault in _faults(tally, wanted, received)]
        if strange := set(tally.refused) - {budget.final_code}:
            self._report.faults.append(f"{where}: 402 with the codes {sorted(strange)}")
        if fault := await _settled(book, budget.name, tally.admitted * COST):
            self._report.faults.append(f"{where}: {fault}")
        return True

    def _tell_progress(self, done: int) -> None:
        step = max(1, self._plan.rounds // 10)
        if done % step == 0 or done == self._plan.rounds:
            self._tell(
                f"Round {done} of {self._plan.rounds}: {self._report.admitted:,} calls admitted,"
                f" {self._witness.samples:,} samples, {len(self._report.faults)} faults."
            )


def _faults(tally: Tally, wanted: int, received: int) -> Iterable[str]:
    if tally.admitted != wanted:
        yield f"{tally.admitted} calls were admitted where {wanted} fit"
    if received != tally.admitted:
        yield f"the provider had {received} calls, the callers {tally.admitted} answers"
    for what, count in tally.unexpected.items():
        yield f"{count} times {what}"


async def _settled(book: Book, name: Name, cost: int) -> str:
    """Waits until the tables say what was spent, and that nothing is held; the fault if they do not."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        balance = book.balances().get(name)
        if balance is not None and (balance.spent, balance.held) == (cost, 0):
            return ""
        if time.monotonic() > deadline:
            return f"after {SETTLE_SECONDS:.0f} s the balance is {balance}, where {cost} was spent"
        await asyncio.sleep(0.02)


def judge(report: Report, witness: Witness) -> None:
    """Adds to the faults of the rounds what the witness saw."""
    report.excess, report.overrun = witness.excess, witness.overrun
    report.samples, report.most_held = witness.samples, witness.most_held
    report.faults += witness.faults
    if report.excess is None and not witness.faults:
        report.faults.append("nobody saw a balance")
    if (report.excess or 0) > 0:
        report.faults.append(f"spent + held was {report.excess} nano-USD over a limit")
    if report.overrun:
        report.faults.append(f"a ceiling was raised by {report.overrun} nano-USD without need")


def _request(port: int, credential: str, factor: int) -> bytes:
    body = json.dumps(
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": "How much is left?"}],
            "max_tokens": factor * COMPLETION_TOKENS,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"authorization: Bearer {credential}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
