"""What is counted, and under which labels. Every label is of a small closed set: nothing that a caller chooses becomes one.

A call is counted where its exchange ends, once; the figures are those of its settlement, so they add up to the ledger's.
"""

from collections.abc import Sequence
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
        key = (plane, dialect, status // 100)
        child = self._answers.get(key)
        if child is None:
            child = self._answers[key] = self._requests.labels(plane, dialect, f"{key[2]}xx")
        child.inc()

    def refused_by_limit(self, level: str, reason: str) -> None:
        child = self._limited.get((level, reason))
        if child is None:
            child = self._limited[level, reason] = self._refusals.labels(level, reason)
        child.inc()

    def settled(self, dialect: str, end: Settlement, tried: Sequence[Serving]) -> None:
        """A call has ended; `tried` are the targets of its attempts, in their order."""
        self.answered(planes.DATA, dialect, end.status)
        self._used(end.usage, end.cost_nano_usd)
        self._request_seconds.observe(end.duration_us / _MICROS)
        if end.overhead_us is not None:
            self._overhead_seconds.observe(end.overhead_us / _MICROS)
        if end.ttfb_us is not None:
            self._ttfb_seconds.observe(end.ttfb_us / _MICROS)
        for attempt, serving in zip(end.attempts, tried, strict=False):
            upstream = serving.upstream
            name = self._shown(upstream.name) if upstream.tenant_id is None else TENANTS_OWN
            self._attempted(name, attempt.outcome)

    def settled_for_the_dead(self, call: Call) -> None:
        """A call that its worker left open when it was killed, as it was settled in the end. What it took, nobody knows."""
        end = call.settlement
        if end is None:
            return
        self.answered(planes.DATA, call.intent.dialect_in, end.status)
        self._used(end.usage, end.cost_nano_usd)
        for attempt in call.attempts:
            # Only names that are known to be the house's own.
            known = attempt.provider in self._providers
            self._attempted(attempt.provider if known else OTHERS, _UNKNOWN)

    def stands(self, holds: int, records: int, lag: float) -> None:
        """How things stand in this worker at this moment."""
        self._holds_open.set(holds)
        self._journal_records.set(records)
        self._snapshot_lag.set(lag)

    def _used(self, usage: Usage, cost_nano_usd: int | None) -> None:
        if usage.input:
            self._input.inc(usage.input)
        if usage.cached:
            self._cached.inc(usage.cached)
        if usage.output:
            self._output.inc(usage.output)
        if usage.reasoning:
            self._reasoning.inc(usage.reasoning)
        if cost_nano_usd:
            self._cost.inc(cost_nano_usd / _NANOS)

    def _attempted(self, provider: str, outcome: str) -> None:
        child = self._tries.get((provider, outcome))
        if child is None:
            child = self._tries[provider, outcome] = self._attempts.labels(provider, outcome)
        child.inc()

    def _shown(self, provider: str) -> str:
        if provider not in self._providers:
            if len(self._providers) >= MAX_PROVIDERS:
                return OTHERS
            self._providers.add(provider)
        return provider


@cache
def meters() -> Meters:
    """Those of this process: made when first asked for, which must be after the fork."""
    return Meters(REGISTRY)
