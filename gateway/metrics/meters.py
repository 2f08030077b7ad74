"""What is counted, and under which labels. Every label is of a small closed set: nothing that a caller chooses becomes one.

A call is counted where its exchange ends, once; the figures are those of its settlement, so they add up to the ledger's.
"""

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

from gateway.metrics import planes
from providers.routing import Serving
from providers.types import Usage
from usage.calls import Call
from usage.records import Settlement

#: Stands for the format of what has none.
NO_DIALECT: Final = "none"
#: Stands for every provider that belongs to a tenant: its name is the tenant's affair, and there may be thousands.
TENANTS_OWN: Final = "(tenant's own)"
#: Stands for the providers beyond the first so many that a worker meets.
OTHERS: Final = "(others)"
MAX_PROVIDERS: Final = 100
_UNKNOWN: Final = "unknown"
_MICROS: Final = 1_000_000
_NANOS: Final = 1_000_000_000

_REQUEST_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TTFB_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
#: The aim is to stay under 20 ms.
_OVERHEAD_SECONDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.02, 0.05, 0.1, 0.25, 1),
)


class Meters:
    """The counters of one process. Children are looked up once: `labels` costs more than counting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # A second series for each, which says when it began: the scraper knows.
        disable_created_metrics()
        self._make_counters(registry)
        self._make_histograms(registry)
        self._make_gauges(registry)
        self._answers: dict[tuple[str, str, int], Counter] = {}
        self._tries: dict[tuple[str, str], Counter] = {}
        self._limited: dict[tuple[str, str], Counter] = {}
        self._providers: set[str] = set()
        #: Calls that have ended and are not counted yet: to count many at once costs little more than to count one.
        self._ended: deque[tuple[str, Settlement, Sequence[Serving]]] = deque()
        self.count_soon: Callable[[], None] = self.count
        """Called for the first of them, on the loop's thread; must see to it that `count` is called before long."""

    def _make_counters(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "gatehouse_requests_total",
            "Requests that were answered, or whose caller left (4xx).",
            ["plane", "dialect", "status_class"],
            registry=registry,
        )
        tokens = Counter(
            "gatehouse_tokens_total",
            "Tokens as the ledger has them. cached is a part of input, reasoning one of output.",
            ["kind"],
            registry=registry,
        )
        self._input, self._cached, self._output, self._reasoning = (
            tokens.labels(kind) for kind in ("input", "cached", "output", "reasoning")
        )
        self._cost = Counter(
            "gatehouse_cost_usd_total",
            "What calls cost whose price is known, in USD.",
            registry=registry,
        )
        self._attempts = Counter(
            "gatehouse_upstream_attempts_total",
            "Tries at a provider, by how they ended.",
            ["provider", "outcome"],
            registry=registry,
        )
        self._refusals = Counter(
            "gatehouse_limit_refusals_total",
            "Calls refused by a limit.",
            ["level", "reason"],
            registry=registry,
        )

    def _make_histograms(self, registry: CollectorRegistry) -> None:
        self._request_seconds = Histogram(
            "gatehouse_request_seconds",
            "From a call's head to its settlement.",
            registry=registry,
            buckets=_REQUEST_SECONDS,
        )
        self._overhead_seconds = Histogram(
            "gatehouse_overhead_seconds",
            "The part of that which was ours.",
            registry=registry,
            buckets=_OVERHEAD_SECONDS,
        )
        self._ttfb_seconds = Histogram(
            "gatehouse_ttfb_seconds",
            "From a call's body to the first byte of its answer.",
            registry=registry,
            buckets=_TTFB_SECONDS,
        )

    def _make_gauges(self, registry: CollectorRegistry) -> None:
        self._holds_open = Gauge(
            "gatehouse_holds_open",
            "Calls that are not settled yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._journal_records = Gauge(
            "gatehouse_journal_records",
            "Records that the tables do not have yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._snapshot_lag = Gauge(
            "gatehouse_snapshot_lag_seconds",
            "How long ago the worker that lags most saw the newest configuration.",
            registry=registry,
            multiprocess_mode="livemax",
        )

    # --- what happens -------------------------------------------------------------------------------------------------

    def answered(self, plane: str, dialect: str, status: int) -> None:
        self._answers_of(plane, dialect, status).inc()

    def _answers_of(self, plane: str, dialect: str, status: int) -> Counter:
        key = (plane, dialect, status // 100)
        child = self._answers.get(key)
        if child is None:
            child = self._answers[key] = self._requests.labels(plane, dialect, f"{key[2]}xx")
        return child

    def refused_by_limit(self, level: str, reason: str) -> None:
        child = self._limited.get((level, reason))
        if child is None:
            child = self._limited[level, reason] = self._refusals.labels(level, reason)
        child.inc()

    def settled(self, dialect: str, end: Settlement, tried: Sequence[Serving]) -> None:
        """A call has ended; `tried` are the targets of its attempts, in their order."""
        is_first = not self._ended
        self._ended.append((dialect, end, tried))
        if is_first:
            self.count_soon()

    def count(self) -> None:
        """Count the calls that have ended. From any thread."""
        sums: dict[Counter, float] = defaultdict(float)
        times: dict[Histogram, list[float]] = defaultdict(list)
        while self._ended:
            try:
                dialect, end, tried = self._ended.popleft()
            except IndexError:  # another thread took the last one
                break
            sums[self._answers_of(planes.DATA, dialect, end.status)] += 1
            self._add_used(sums, end.usage, end.cost_nano_usd)
            times[self._request_seconds].append(end.duration_us / _MICROS)
            if end.overhead_us is not None:
                times[self._overhead_seconds].append(end.overhead_us / _MICROS)
            if end.ttfb_us is not None:
                times[self._ttfb_seconds].append(end.ttfb_us / _MICROS)
            for attempt, serving in zip(end.attempts, tried, strict=False):
                upstream = serving.upstream
                name = self._shown(upstream.name) if upstream.tenant_id is None else TENANTS_OWN
                sums[self._attempts_of(name, attempt.outcome)] += 1
        _add(sums)
        for histogram, seconds in times.items():
            _observe(histogram, seconds)

    def settled_for_the_dead(self, call: Call) -> None:
        """A call that its worker left open when it was killed, as it was settled in the end. What it took, nobody knows."""
        end = call.settlement
        if end is None:
            return
        sums: dict[Counter, float] = defaultdict(float)
        sums[self._answers_of(planes.DATA, call.intent.dialect_in, end.status)] += 1
        self._add_used(sums, end.usage, end.cost_nano_usd)
        for attempt in call.attempts:
            # Only names that are known to be the house's own.
            known = attempt.provider in self._providers
            sums[self._attempts_of(attempt.provider if known else OTHERS, _UNKNOWN)] += 1
        _add(sums)

    def stands(self, holds: int, records: int, lag: float) -> None:
        """How things stand in this worker at this moment."""
        self._holds_open.set(holds)
        self._journal_records.set(records)
        self._snapshot_lag.set(lag)

    def _add_used(
        self, sums: dict[Counter, float], usage: Usage, cost_nano_usd: int | None
    ) -> None:
        sums[self._input] += usage.input
        sums[self._cached] += usage.cached
        sums[self._output] += usage.output
        sums[self._reasoning] += usage.reasoning
        if cost_nano_usd:
            sums[self._cost] += cost_nano_usd / _NANOS

    def _attempts_of(self, provider: str, outcome: str) -> Counter:
        child = self._tries.get((provider, outcome))
        if child is None:
            child = self._tries[provider, outcome] = self._attempts.labels(provider, outcome)
        return child

    def _shown(self, provider: str) -> str:
        if provider not in self._providers:
            if len(self._providers) >= MAX_PROVIDERS:
                return OTHERS
            self._providers.add(provider)
        return provider


def _add(sums: Mapping[Counter, float]) -> None:
    for counter, amount in sums.items():
        if amount:
            counter.inc(amount)


def _observe(histogram: Histogram, values: Sequence[float]) -> None:
    """What `observe` does for each, at once. By the client's own parts, for it has no way to say it: its version is pinned."""
    histogram._sum.inc(sum(values))
    buckets = [bisect_left(histogram._upper_bounds, value) for value in values]
    for number in set(buckets):
        histogram._buckets[number].inc(buckets.count(number))


@cache
def meters() -> Meters:
    """Those of this process: made when first asked for, which must be after the fork."""
    return Meters(REGISTRY)
