"""Figures of many calls: for operators over everything, and for a key's holder over that key."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gateway.api.bodies.common import milliseconds, moment, usd
from tenants.errors import Invalid
from usage import analytics
from usage.analytics import Asked, Span
from usage.estimates import estimate
from usage.histograms import Times
from usage.tallies import Figures, Sums

#: A share is told to so many places.
_PLACES = 6


def window_of(query: Mapping[str, str]) -> str:
    """The window that a query asks for, a day if none. Raises `Invalid`."""
    window = query.get("window", analytics.DEFAULT_WINDOW)
    if window not in analytics.WINDOWS:
        raise Invalid.field("window", f"must be one of {', '.join(analytics.WINDOWS)}.")
    return window


def sums_body(sums: Sums) -> dict[str, Any]:
    """`cost_usd` is the sum of what had a price; `unpriced_requests` says how many calls it leaves out, and
    `cost_estimate_usd` what those would have cost at the default price.
    """
    return {
        "requests": sums.requests,
        "errors": sums.errors,
        "error_rate": round(sums.error_rate, _PLACES),
        "tokens_in": sums.tokens_in,
        "tokens_cached": sums.tokens_cached,
        "tokens_out": sums.tokens_out,
        "cost_usd": usd(sums.cost_nano_usd),
        "unpriced_requests": sums.unpriced,
        "cost_estimate_usd": usd(estimate(sums.unpriced_in, sums.unpriced_out)),
        "estimated_share": round(sums.estimated_share, _PLACES),
    }


def figures_body(figures: Figures) -> dict[str, Any]:
    return {
        **sums_body(figures.sums),
        "latency_ms": _times_body(figures.latency),
        "ttfb_ms": _times_body(figures.ttfb),
        "overhead_ms": _times_body(figures.overhead),
    }


def usage_body(asked: Asked, window: str, now: datetime) -> dict[str, Any]:
    span = analytics.span_of(window, now)
    sums = analytics.totals(asked, span)
    total = {"tokens_total": sums.tokens_in + sums.tokens_out}
    return {"object": "usage", **_span_body(window, span), **sums_body(sums), **total}


def summary_body(asked: Asked, window: str, now: datetime) -> dict[str, Any]:
    span = analytics.span_of(window, now)
    figures = analytics.summary(asked, span)
    return {"object": "summary", **_span_body(window, span), **figures_body(figures)}


def series_body(asked: Asked, window: str, now: datetime) -> dict[str, Any]:
    """The buckets' sums are the summary's. The last bucket is running."""
    span = analytics.span_of(window, now)
    found = analytics.series(asked, span)
    return {
        "object": "list",
        **_span_body(window, span),
        "bucket_seconds": analytics.WINDOWS[window][1],
        "data": [
            {"start": moment(start), **figures_body(figures)}
            for start, figures in zip(span.buckets, found, strict=True)
        ],
    }


def models_body(asked: Asked, window: str, now: datetime) -> dict[str, Any]:
    """Models with the most calls first."""
    span = analytics.span_of(window, now)
    found = analytics.by_model(asked, span)
    return {
        "object": "list",
        **_span_body(window, span),
        "data": [{"model": name or None, **figures_body(figures)} for name, figures in found],
    }


def _span_body(window: str, span: Span) -> dict[str, Any]:
    return {"window": window, "since": moment(span.since), "until": moment(span.until)}


def _times_body(times: Times) -> dict[str, float | None]:
    return {
        "avg": milliseconds(None if times.avg is None else round(times.avg)),
        "p50": milliseconds(times.p50),
        "p95": milliseconds(times.p95),
        "p99": milliseconds(times.p99),
    }
