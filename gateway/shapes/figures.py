"""Figures of many calls, as gateway/api/bodies/figures.py writes them."""

from typing import Any, Final

from gateway.openapi.schemas import (
    COUNT,
    MAYBE_MS,
    MAYBE_TEXT,
    MOMENT,
    Schema,
    answer,
    array,
    constant,
    one_of,
    shown,
    told,
)
from gateway.shapes.fields import MAYBE_USD, USD
from usage import analytics

WINDOW: Final = {**one_of(analytics.WINDOWS), "default": analytics.DEFAULT_WINDOW}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1, "examples": [0.25]}
_TIMES: Final = answer(avg=MAYBE_MS, p50=MAYBE_MS, p95=MAYBE_MS, p99=MAYBE_MS)
#: Of figures, and of what a key has spent: the two count differently.
CALLS: Final = told(COUNT, "Every call, also those that were refused.")
SENT_CALLS: Final = told(
    COUNT, "Calls of which something was, or may have been, sent to a provider: the ledger's."
)
UNPRICED: Final = told(
    shown(COUNT, 0), "Calls that the sum of money leaves out, as they had no price."
)
SPAN: Final[dict[str, Schema]] = {
    "window": one_of(analytics.WINDOWS),
    "since": told(MOMENT, "Within; a multiple of a part's length since 1970 in UTC."),
    "until": told(MOMENT, "Not within: the end of the running part."),
}
SUMS: Final[dict[str, Schema]] = {
    "requests": CALLS,
    "errors": told(COUNT, "Answered with 400 or more, or broken off."),
    "error_rate": _SHARE,
    "tokens_in": COUNT,
    "tokens_cached": COUNT,
    "tokens_out": COUNT,
    "cost_usd": told(USD, "The sum of what had a price."),
    "unpriced_requests": UNPRICED,
    "cost_estimate_usd": told(
        MAYBE_USD, "What calls without a price would cost at the default price. Not charged."
    ),
    "estimated_share": told(_SHARE, "Of the calls, how many had tokens that nobody counted."),
}
FIGURES: Final[dict[str, Schema]] = {
    **SUMS,
    "latency_ms": told(_TIMES, "From a call's head to its end, to three digits."),
    "ttfb_ms": told(_TIMES, "From its body to the answer's first byte."),
    "overhead_ms": told(_TIMES, "What of it was ours."),
}


def _many(**item: Schema) -> dict[str, Any]:
    return {"object": constant("list"), **SPAN, "data": array(answer(**item))}


SUMMARY: Final = answer(object=constant("summary"), **SPAN, **FIGURES)
TIMESERIES: Final = answer(**_many(start=MOMENT, **FIGURES), bucket_seconds=shown(COUNT, 3600))
MODEL_FIGURES: Final = answer(**_many(model=shown(MAYBE_TEXT, "openai/gpt-5-mini"), **FIGURES))
