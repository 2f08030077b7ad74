"""Figures of a key's own calls, as gateway/api/bodies/figures.py writes them."""

from typing import Final

from gateway.openapi.schemas import COUNT, answer, constant, shown
from gateway.shapes import figures
from gateway.views.shapes.base import SHAPES

USAGE: Final = SHAPES.add(
    "Usage",
    answer(object=constant("usage"), **figures.SPAN, **figures.SUMS, tokens_total=shown(COUNT, 2)),
)
SUMMARY: Final = SHAPES.add("Summary", figures.SUMMARY)
TIMESERIES: Final = SHAPES.add("Timeseries", figures.TIMESERIES)
MODEL_FIGURES: Final = SHAPES.add("ModelFigures", figures.MODEL_FIGURES)
