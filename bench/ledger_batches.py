"""The measuring half of `bench/ledger.py`: made-up calls, brought into the tables of the database that the settings name."""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import django

django.setup()

from gateway.relay.ids import new_id  # noqa: E402 - models can only be read once Django is set up
from providers.types import Usage  # noqa: E402
from tenants.clock import SYSTEM, from_unix_us, month_of  # noqa: E402
from usage.calls import Call  # noqa: E402
from usage.ledger import apply  # noqa: E402
from usage.models import Balance, HoldSlice, RequestLog  # noqa: E402
from usage.records import (  # noqa: E402
    AttemptOutcome,
    AttemptStarted,
    Caller,
    Intent,
    Settlement,
    Taken,
    Why,
)
from usage.windows import window_at  # noqa: E402

_MOST = 10**15
#: Batches before anything is measured.
_WARM_UP = 5


@dataclass
class House:
    """Callers with budgets of a month, in money and tokens, on the key and on its tenant; and one worker that borrowed them."""

    callers: list[Caller]
    boot: UUID = field(default_factory=uuid4)
    now: int = field(default_factory=SYSTEM.unix_us)
    ids: list[UUID] = field(default_factory=lambda: [uuid4() for _ in range(4)])

    def furnish(self) -> None:
        window = window_at("month", self.now)
        for caller in self.callers:
            for kind, level_id in (("key", caller.key_id), ("tenant", caller.tenant_id)):
                for unit in ("nano_usd", "tokens"):
                    name = {"level_kind": kind, "level_id": level_id, "unit": unit}
                    balance = Balance.objects.create(
                        **name, window=window, held=_MOST, ceiling=2 * _MOST
                    )
                    HoldSlice.objects.create(
                        boot=self.boot,
                        balance_id=balance.id,
                        amount=_MOST,
                        lent=_MOST,
                        deadline=from_unix_us(self.now),
                    )

    def batch(self, size: int) -> list[Call]:
        return [self._call(self.callers[i % len(self.callers)]) for i in range(size)]

    def _call(self, caller: Caller) -> Call:
        """One that was tried once, at the one model, and went well."""
        self.now += 250
        at, month, request_id = self.now, month_of(self.now), new_id(self.now)
        provider, model, credential, price = self.ids
        intent = Intent(
            month=month,
            request_id=request_id,
            correlation_id=str(request_id),
            received_at=at,
            caller=caller,
            model="bench",
            dialect_in="openai",
            stream=False,
            hold_tokens=40,
            hold_nano_usd=64_000,
            prompt_estimate=20,
            model_id=model,
            why=Why("b", ("bench/bench-upstream",), _taken(at)),
        )
        attempt = AttemptStarted(
            month=month,
            request_id=request_id,
            n=1,
            started_at=at + 180,
            provider_id=provider,
            provider="bench",
            target="bench-upstream",
            dialect_out="openai",
            credential_id=credential,
            price_id=price,
        )
        end = Settlement(
            month=month,
            request_id=request_id,
            settled_at=at + 1_500,
            status=200,
            error_code=None,
            dispatched="yes",
            usage=Usage(input=9 + at % 7, output=12),
            usage_source="provider",
            cost_nano_usd=33_000,
            price_id=price,
            duration_us=1_400 + at % 90,
            ttfb_us=900,
            overhead_us=300,
            attempts=[AttemptOutcome(1, "ok", 1_100, 200, 800)],
        )
        return Call(intent, (attempt,), end, held=False)


def _taken(at: int) -> tuple[Taken, ...]:
    """What the case `budget` of `python -m bench` tells of a call."""
    left, month = at % 1_000_000, window_at("month", at)
    limits = (
        "requests",
        "tokens_per_minute",
        "concurrency",
        f"nano_usd {month}",
        f"tokens {month}",
    )
    return tuple(
        (kind, limit, 10**12, 10**9 + left, 10**9 + left - 40)
        for kind in ("key", "tenant")
        for limit in limits
    )


def _caller(number: int) -> Caller:
    return Caller(uuid4(), f"tenant-{number}", uuid4(), f"gwk_{number:08x}")


def _round(house: House, sizes: Sequence[int]) -> float:
    """Microseconds of this thread's processor time for each call."""
    spent = 0.0
    for size in sizes:
        items = house.batch(size)
        began = time.thread_time()
        apply(items, str(house.boot))
        spent += time.thread_time() - began
    return spent / sum(sizes) * 1e6


def main(arguments: Sequence[str]) -> None:
    at_once, uneven, callers, batches, rounds = map(int, arguments)
    house = House([_caller(number) for number in range(callers)])
    house.furnish()
    _round(house, [at_once] * _WARM_UP)
    # A stride that meets every size before it meets one again.
    sizes = [at_once - 37 * number % (uneven + 1) for number in range(rounds * batches)]
    found = sorted(_round(house, sizes[number::rounds]) for number in range(rounds))
    assert RequestLog.objects.count() == at_once * _WARM_UP + sum(sizes)
    sys.stdout.write(
        f"µs a call: lowest {found[0]:.1f}, median {statistics.median(found):.1f},"
        f" highest {found[-1]:.1f}, of {rounds} rounds\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
