"""What came of a proof: for people, and as data."""

import statistics
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.proofs.callers import Tally
from gateway.proofs.grounds import SQLITE

_MOST_FAULTS: Final = 50


@dataclass(frozen=True)
class Plan:
    """`database_url`: `sqlite`, or a PostgreSQL where a database may be made. `redis_url` may be empty."""

    workers: int
    concurrency: int
    rounds: int
    database_url: str = SQLITE
    redis_url: str = ""
    seed: int = 0


@dataclass
class Report:
    """What came of it. Money in nano-USD, times in seconds; `faults` are sentences, and each makes the proof fail."""

    plan: Plan
    rounds: int = 0
    admitted: int = 0
    expected: int = 0
    held: int = 0
    excess: int | None = None
    overrun: int = 0
    samples: int = 0
    most_held: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    refusals: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.faults

    def take(self, tally: Tally) -> None:
        self.admitted += tally.admitted
        self.held += tally.held
        self.latencies += tally.seconds
        self.refusals += tally.refusal_seconds


def data(report: Report) -> dict[str, Any]:
    """For `--json`."""
    plan = report.plan
    return {
        "holds": report.holds,
        "database": "sqlite" if plan.database_url == SQLITE else "postgres",
        "redis": bool(plan.redis_url),
        "workers": plan.workers,
        "concurrency": plan.concurrency,
        "rounds": report.rounds,
        "seed": plan.seed,
        "largest_excess_nano_usd": max(0, report.excess or 0),
        "overrun_nano_usd": report.overrun,
        "samples": report.samples,
        "admitted": report.admitted,
        "expected": report.expected,
        "told_to_retry": report.held,
        "admitted_ms": _milliseconds(report.latencies),
        "refused_ms": _milliseconds(report.refusals),
        "seconds": round(report.seconds, 1),
        "faults": report.faults[:_MOST_FAULTS],
    }


def lines(report: Report) -> list[str]:
    """For people."""
    plan = report.plan
    kind = "SQLite" if plan.database_url == SQLITE else "PostgreSQL"
    kind += " and Redis" if plan.redis_url else ""
    excess = f"{max(0, report.excess or 0)} nano-USD, in {report.samples:,} samples"
    fitting = f"{report.admitted:,} of {report.expected:,} that fit"
    rows = {
        "Proved on": f"{kind}, {plan.workers} workers, {plan.concurrency} callers,"
        f" {report.rounds} rounds, seed {plan.seed}",
        "Largest excess of spent + held over a limit": excess,
        "Overruns, apart": f"{report.overrun} nano-USD",
        "Held at most": f"{report.most_held:,} nano-USD",
        "Admitted": f"{fitting}; {report.held:,} times only holds were in the way",
        "Admitted calls took, p50 / p99": _pair(report.latencies),
        "Refusals took, p50 / p99": _pair(report.refusals),
    }
    end = "The budgets held" if report.holds else f"{len(report.faults)} faults"
    return [
        *(f"{name:<44} {value}" for name, value in rows.items()),
        *(f"✗ {fault}" for fault in report.faults[:_MOST_FAULTS]),
        f"{end}, in {report.seconds:.0f} s.",
    ]


def _pair(seconds: list[float]) -> str:
    found = _milliseconds(seconds)
    return f"{found['p50']} / {found['p99']} ms"


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return dict.fromkeys(("p50", "p99"), round(1000 * sum(seconds), 1))
    parts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50": round(1000 * parts[49], 1), "p99": round(1000 * parts[98], 1)}
