"""All named shapes of a tenant's doors, and what each of them refuses with."""

from typing import Final

from gateway.openapi.schemas import MAYBE_TEXT, shown
from gateway.openapi.shapes import Shapes
from gateway.shapes.errors import refusal

SHAPES: Final = Shapes()

#: A provider's own refusals may have no code.
ERROR: Final = SHAPES.add(
    "Error", refusal("There is no model of that name.", shown(MAYBE_TEXT, "model_not_found"))
)
