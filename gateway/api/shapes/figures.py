"""Figures of many calls, as gateway/api/bodies/figures.py writes them."""

from typing import Final

from gateway.api.shapes.base import SHAPES
from gateway.openapi.schemas import COUNT, answer, told
from gateway.shapes import figures
from gateway.shapes.fields import USD

STATS: Final = SHAPES.add(
    "Stats",
    answer(
        tenants=COUNT,
        accounts=COUNT,
        keys=COUNT,
        models=COUNT,
        providers=COUNT,
        requests=figures.CALLS,
        errors=COUNT,
        revenue_usd=told(USD, "The sum of what had a price."),
        unpriced_requests=figures.UNPRICED,
        tokens_in=COUNT,
        tokens_out=COUNT,
    ),
)
SUMMARY: Final = SHAPES.add("Summary", figures.SUMMARY)
TIMESERIES: Final = SHAPES.add("Timeseries", figures.TIMESERIES)
MODEL_FIGURES: Final = SHAPES.add("ModelFigures", figures.MODEL_FIGURES)
